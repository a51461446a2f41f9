"""Does the mouth rest while nobody speaks? Served motion on sounds that are no speech, as a share of that on speech.

Sounds go through `model.speech_to_motion`, which is what serving runs. Two measures: mean absolute velocity of the
mouth codes, and mean absolute velocity of the lip opening. The speech level is that of GRID's held-out clips from their
first word to their last.

Recorded sounds come from a folder with `keyboard` (single key strokes) and `music` (instrumental pieces); Debian has
both: `apt-get download bucklespring-data wesnoth-1.16-music`, then `dpkg -x` each, and copy the .wav and .ogg files.
Silence and breath are made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.audio_file import SAMPLE_RATE, read_audio
from model.data.features import load_clips
from model.data.grid import SILENCES
from model.data.noise_parts import band_gain, peaks_gain, shaped_noise, tilt_gain
from model.errors import DataError
from model.motion.space import MOUTH_CODES, MotionSpace, load_motion_space
from model.results import Figure
from model.speech_to_motion import SpeechToMotion, motion_of_sound

Array = NDArray[np.float32]
SECONDS = 12.0
MUSIC_PIECES = 8
MUSIC_DBFS = -26.0
BREATH_DBFS = (-36.0, -24.0)  # at arm's length, and into the microphone
ROOM_DBFS = -60.0
KEY_PEAK = 0.25
KEYS_PER_SECOND = 6.0
GOAL_SHARE = 0.02
FPS = 25
SOUND_SUFFIXES = (".wav", ".ogg", ".flac", ".mp3")


@dataclass(frozen=True, slots=True)
class Movement:
    """How much a mouth moves, mean over frames."""

    velocity: float  # mouth codes, standard deviations a second
    lips: float  # lip opening, inter-ocular units a second


def drive_figures(grid: Path, sounds: Path | None, drive: SpeechToMotion) -> dict[str, Figure]:
    """Share of the speech level for each kind of sound; `_worst`: of the worst single sound of its kind.

    Raises:
        DataError: The folder of sounds lacks `keyboard` or `music`.
    """
    space = load_motion_space()
    level = speech_level(grid / "val", drive, space)
    figures = {
        "drive_speech_velocity": Figure(value=level.velocity, unit="sd/s", better="higher"),
        "drive_speech_lips": Figure(value=level.lips, unit="IOD/s", better="higher"),
    }
    kinds = made_sounds() | (recorded_sounds(sounds) if sounds is not None else {})
    for kind, parts in kinds.items():
        moved = [movement(served_motion(part, drive, space), space) for part in parts]
        shares = [(m.velocity / level.velocity, m.lips / level.lips) for m in moved]
        for name, values in zip(("velocity", "lips"), zip(*shares, strict=True), strict=True):
            figures[f"drive_{kind}_{name}"] = Figure(
                value=float(np.mean(values)), unit="share of speech", goal=GOAL_SHARE, better="lower"
            )
            figures[f"drive_{kind}_{name}_worst"] = Figure(
                value=float(np.max(values)), unit="share of speech", better="lower"
            )
    return figures


def served_motion(audio: Array, drive: SpeechToMotion, space: MotionSpace) -> Array:
    """Motion (T, 32) of a sound as a session makes it, before the avatar's own retargeting and idle parts."""
    return space.clamp(motion_of_sound(audio, drive)[0])


def movement(motion: Array, space: MotionSpace) -> Movement:
    """Movement of motion (T, 32) at 25 fps."""
    velocity = np.abs(np.diff(motion[:, MOUTH_CODES], axis=0)).mean() * FPS
    lips = np.abs(np.diff(space.lip_opening(motion))).mean() * FPS
    return Movement(float(velocity), float(lips))


def speech_level(folder: Path, drive: SpeechToMotion, space: MotionSpace) -> Movement:
    """Mean movement while prepared clips speak, first word to last."""
    moved = []
    for clip in load_clips(folder):
        words = [w for w in clip.words if w.text not in SILENCES]
        if words:
            motion = served_motion(clip.sound, drive, space)
            moved.append(movement(motion[int(words[0].start_frame) : int(np.ceil(words[-1].end_frame))], space))
    if not moved:
        raise DataError(f"no clip of {folder} has word times; the speech level needs GRID s1 with its alignments")
    return Movement(float(np.mean([m.velocity for m in moved])), float(np.mean([m.lips for m in moved])))


def made_sounds(seed: int = 0) -> dict[str, list[Array]]:
    """Silence (digital; a quiet room) and breath, by rule: the same each time."""
    rng = np.random.default_rng(seed)
    samples = round(SECONDS * SAMPLE_RATE)
    room = shaped_noise(samples, tilt_gain(-4.0), rng)
    return {
        "silence": [np.zeros(samples, np.float32), _at_level(room, ROOM_DBFS)],
        "breath": [_at_level(_breathing(samples, rng), dbfs) for dbfs in BREATH_DBFS],
    }


def recorded_sounds(folder: Path, seed: int = 0) -> dict[str, list[Array]]:
    """Typing, put together from single recorded strokes, and the middle of pieces of music.

    Raises:
        DataError: A subfolder is missing or holds no sound.
    """
    keys, pieces = (_sound_files(folder / name) for name in ("keyboard", "music"))
    rng = np.random.default_rng(seed)
    strokes = [read_audio(path) for path in keys]
    chosen = pieces[:: max(1, len(pieces) // MUSIC_PIECES)][:MUSIC_PIECES]
    return {
        "keyboard": [typing_of(strokes, rng) for _ in range(2)],
        "music": [_at_level(_middle(read_audio(path)), MUSIC_DBFS) for path in chosen],
    }


def typing_of(strokes: Sequence[Array], rng: np.random.Generator) -> Array:
    """Strokes at random, Poisson in time, each at a peak near KEY_PEAK."""
    samples = round(SECONDS * SAMPLE_RATE)
    out = np.zeros(samples, np.float32)
    for start in np.sort(rng.integers(samples, size=rng.poisson(KEYS_PER_SECOND * SECONDS))):
        stroke = strokes[int(rng.integers(len(strokes)))][: samples - start]
        peak = float(np.abs(stroke).max())
        if peak > 0:
            out[start : start + len(stroke)] += stroke * np.float32(KEY_PEAK * rng.uniform(0.5, 1.0) / peak)
    return out.clip(-1.0, 1.0)


def _breathing(samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Air in and out, 15 times a minute: noise with the resonances of an open throat, brighter going in."""
    time_s = np.arange(samples) / SAMPLE_RATE
    phase = (time_s / 4.0 + rng.random()) % 1.0
    flow = np.sin(2 * np.pi * phase)
    inward = shaped_noise(samples, peaks_gain([900.0, 1900.0, 3300.0], [500.0, 600.0, 900.0]), rng)
    outward = shaped_noise(samples, band_gain(250.0, 2200.0), rng)
    return np.asarray(inward * np.clip(flow, 0, None) + outward * np.clip(-flow, 0, None), np.float64)


def _middle(audio: Array) -> Array:
    samples = round(SECONDS * SAMPLE_RATE)
    start = max(0, (len(audio) - samples) // 2)
    return audio[start : start + samples]


def _at_level(audio: NDArray[np.floating], dbfs: float) -> Array:
    rms = float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))
    return np.asarray((audio * (10.0 ** (dbfs / 20.0) / max(rms, 1e-9))).clip(-1.0, 1.0), np.float32)


def _sound_files(folder: Path) -> list[Path]:
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SOUND_SUFFIXES) if folder.is_dir() else []
    if not found:
        raise DataError(
            f"no sounds in {folder}; copy Debian's bucklespring-data to `keyboard` and wesnoth-1.16-music to `music`"
        )
    return found
