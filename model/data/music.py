"""Instrumental music, composed at random and played by FluidSynth: what an encoder of speech must not take for speech.

A piece is a General MIDI score of one to five parts (chords, bass, melody, arpeggio, drums) over a common chord
sequence, written with `mido`, played with the FluidR3 sound font (MIT licence). Offline only: training data.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from model.data.noise_parts import at_rms_one
from model.errors import DataError, InputError
from model.speech.log_mel import SAMPLE_RATE

__all__ = ["Note", "Piece", "compose", "render_music", "render_pieces"]

SOUND_FONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
_RENDER_RATE_HZ = 32_000
_GAP_S = 2.0  # between pieces of one rendering: the last chord's reverberation dies away
_RENDER_TIMEOUT_S = 600.0
_TICKS_PER_BEAT = 480
_DRUM_CHANNEL = 9
_LOWEST_DBFS, _HIGHEST_DBFS = -40.0, -14.0

_SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
}
_CHORD_SEQUENCES = ((0, 4, 5, 3), (0, 5, 3, 4), (0, 3, 4, 3), (5, 3, 0, 4), (0, 6, 5, 4), (1, 4, 0, 0), (0, 0, 3, 4))
_CHORD_PROGRAMS = (0, 1, 4, 5, 6, 11, 16, 19, 21, 24, 25, 26, 27, 29, 48, 49, 50, 61, 88, 89)
_BASS_PROGRAMS = (32, 33, 34, 35, 36, 38, 39, 43, 58)
_MELODY_PROGRAMS = (
    0,
    9,
    11,
    12,
    22,
    24,
    40,
    41,
    42,
    56,
    57,
    60,
    64,
    65,
    66,
    68,
    70,
    71,
    73,
    74,
    75,
    78,
    79,
    80,
    81,
    104,
)
_KICK, _SNARE, _CLOSED_HAT, _OPEN_HAT, _CRASH = 36, 38, 42, 46, 49
"""Programs and drum keys are General MIDI's, counted from 0; choir and voice programs (52-54, 85, 91) are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One note of a part; times in beats."""

    channel: int  # 9: drums
    key: int  # MIDI, 60 is middle C
    velocity: int  # 1..127
    start: float
    length: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A score."""

    beats_per_minute: float
    programs: tuple[tuple[int, int], ...]  # (channel, General MIDI program from 0)
    notes: tuple[Note, ...]
    seconds: float


def compose(seconds: float, rng: np.random.Generator) -> Piece:
    """A piece of this length: key, tempo, instruments and parts at random.

    Raises:
        InputError: `seconds` is not positive.
    """
    if not seconds > 0:
        raise InputError(f"a piece of music must last longer than 0 s, got {seconds}")
    tempo = float(rng.uniform(60.0, 170.0))
    bars = int(np.ceil(seconds * tempo / 60.0 / 4.0))
    harmony = _Harmony(
        tonic=int(rng.integers(48, 60)),
        scale=_SCALES[str(rng.choice(list(_SCALES)))],
        degrees=_CHORD_SEQUENCES[int(rng.integers(len(_CHORD_SEQUENCES)))],
    )
    parts = [part for part, share in _PARTS.items() if rng.random() < share] or ["melody"]
    notes: list[Note] = []
    programs: list[tuple[int, int]] = []
    for channel, part in enumerate(parts):
        if part == "drums":
            notes += _drums(bars, rng)
            continue
        maker, choices = {
            "chords": (_chords, _CHORD_PROGRAMS),
            "bass": (_bass, _BASS_PROGRAMS),
            "melody": (_melody, _MELODY_PROGRAMS),
            "arpeggio": (_arpeggio, _CHORD_PROGRAMS),
        }[part]
        programs.append((channel, int(rng.choice(choices))))
        notes += maker(harmony, bars, channel, rng)
    return Piece(beats_per_minute=tempo, programs=tuple(programs), notes=tuple(notes), seconds=seconds)


def render_music(seconds: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """One random piece: (round(seconds * 16000),), 16 kHz mono, RMS -40..-14 dB, peak below 1. See `render_pieces`."""
    return render_pieces([compose(seconds, rng)], rng)[0]


def render_pieces(pieces: Sequence[Piece], rng: np.random.Generator) -> list[NDArray[np.float32]]:
    """Play pieces in one run of FluidSynth (loading the sound font takes as long as some 20 s of music).

    Returns:
        For each piece (round(seconds * 16000),), 16 kHz mono, at a level drawn from `rng`.

    Raises:
        DataError: FluidSynth, its sound font or mido is missing, or FluidSynth failed.
    """
    if not pieces:
        return []
    program = shutil.which("fluidsynth")
    if program is None or not SOUND_FONT.is_file():
        missing = "fluidsynth" if program is None else str(SOUND_FONT)
        raise DataError(f"no {missing} to play music with: apt install fluidsynth fluid-soundfont-gm")
    with tempfile.TemporaryDirectory(prefix="nerf-lipsync-music-") as folder:
        score, sound = Path(folder) / "score.mid", Path(folder) / "sound.wav"
        starts_s = _write_score(pieces, score)
        _play(program, score, sound)
        heard = _read_wave(sound)
    levels_db = rng.uniform(_LOWEST_DBFS, _HIGHEST_DBFS, len(pieces))
    return [_cut(heard, s, p.seconds, db) for p, s, db in zip(pieces, starts_s, levels_db, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Harmony:
    tonic: int  # MIDI key
    scale: tuple[int, ...]
    degrees: tuple[int, ...]  # one chord a bar, over and over

    def key(self, degree: int) -> int:
        """MIDI key of a scale degree; 7 is the octave."""
        return self.tonic + 12 * (degree // 7) + self.scale[degree % 7]

    def chord(self, bar: int) -> tuple[int, int, int]:
        """Degrees of the triad of a bar."""
        root = self.degrees[bar % len(self.degrees)]
        return root, root + 2, root + 4


_PARTS = {"chords": 0.75, "bass": 0.65, "melody": 0.75, "arpeggio": 0.3, "drums": 0.55}


def _chords(harmony: _Harmony, bars: int, channel: int, rng: np.random.Generator) -> list[Note]:
    """Held for a bar, or struck in one of a few rhythms."""
    rhythm = [(0.0,), (0.0, 2.0), (0.0, 1.0, 2.0, 3.0), (0.0, 1.5, 3.0), (1.0, 3.0)][int(rng.integers(5))]
    length = float(rng.uniform(0.5, 1.0)) * (4.0 / len(rhythm))
    velocity = int(rng.integers(50, 95))
    return [
        Note(channel=channel, key=harmony.key(degree), velocity=velocity, start=4.0 * bar + beat, length=length)
        for bar in range(bars)
        for beat in rhythm
        for degree in harmony.chord(bar)
    ]


def _bass(harmony: _Harmony, bars: int, channel: int, rng: np.random.Generator) -> list[Note]:
    """Roots and fifths two octaves below."""
    step = float(rng.choice([0.5, 1.0, 2.0]))
    notes = []
    for bar in range(bars):
        root, _, fifth = harmony.chord(bar)
        for beat in np.arange(0.0, 4.0, step):
            key = harmony.key(fifth if beat > 0 and rng.random() < 0.3 else root) - 24
            velocity = int(rng.integers(70, 110))
            notes.append(Note(channel=channel, key=key, velocity=velocity, start=4.0 * bar + beat, length=0.9 * step))
    return notes


def _melody(harmony: _Harmony, bars: int, channel: int, rng: np.random.Generator) -> list[Note]:
    """A walk by small steps that leans on the chord at the bar; rests now and then."""
    notes: list[Note] = []
    degree, beat = 7 + int(rng.integers(0, 5)), 0.0
    while beat < 4.0 * bars:
        length = float(rng.choice([0.25, 0.5, 1.0, 1.5, 2.0], p=[0.1, 0.4, 0.3, 0.1, 0.1]))
        if beat % 4.0 == 0:
            degree = 7 + int(rng.choice(harmony.chord(int(beat // 4.0))))
        degree = int(np.clip(degree + rng.integers(-2, 3), 4, 16))
        if rng.random() > 0.12:
            velocity = int(rng.integers(65, 115))
            key = harmony.key(degree)
            notes.append(Note(channel=channel, key=key, velocity=velocity, start=beat, length=0.95 * length))
        beat += length
    return notes


def _arpeggio(harmony: _Harmony, bars: int, channel: int, rng: np.random.Generator) -> list[Note]:
    """The chord broken into eighths or sixteenths."""
    step = float(rng.choice([0.25, 0.5]))
    order = rng.permutation(4)
    notes = []
    for bar in range(bars):
        degrees = [*harmony.chord(bar), harmony.chord(bar)[0] + 7]
        for index, beat in enumerate(np.arange(0.0, 4.0, step)):
            key = harmony.key(degrees[order[index % 4]]) + 12
            velocity = int(rng.integers(45, 90))
            notes.append(Note(channel=channel, key=key, velocity=velocity, start=4.0 * bar + beat, length=step))
    return notes


def _drums(bars: int, rng: np.random.Generator) -> list[Note]:
    """Kick and snare on the beats, hats between, a crash where a phrase of four bars begins."""
    hat_step = float(rng.choice([0.25, 0.5, 1.0]))
    kicks = [(0.0, 2.0), (0.0, 1.5, 2.5), (0.0, 1.0, 2.0, 3.0), (0.0, 2.5)][int(rng.integers(4))]
    hits: list[tuple[float, int, int]] = []
    for bar in range(bars):
        start = 4.0 * bar
        hits += [(start + beat, _KICK, 100) for beat in kicks]
        hits += [(start + beat, _SNARE, 95) for beat in (1.0, 3.0)]
        hats = np.arange(0.0, 4.0, hat_step)
        hits += [(start + beat, _OPEN_HAT if rng.random() < 0.06 else _CLOSED_HAT, 65) for beat in hats]
        if bar % 4 == 0 and rng.random() < 0.5:
            hits.append((start, _CRASH, 85))
    return [
        Note(channel=_DRUM_CHANNEL, key=key, velocity=int(level + rng.integers(-12, 13)), start=float(beat), length=0.2)
        for beat, key, level in hits
    ]


def _write_score(pieces: Sequence[Piece], path: Path) -> list[float]:
    """All pieces in one Standard MIDI File, one after the other; where each begins, in seconds."""
    mido = _load_mido()
    track = mido.MidiTrack()
    score = mido.MidiFile(ticks_per_beat=_TICKS_PER_BEAT, tracks=[track])
    beat_s = 0.5  # 120 beats a minute, MIDI's default: every piece is written in seconds
    events: list[tuple[float, int, object]] = []
    starts_s: list[float] = []
    now_s = 0.0
    for piece in pieces:
        starts_s.append(now_s)
        events += _events(piece, now_s, mido)
        now_s += piece.seconds + _GAP_S
    previous = 0
    for time_s, _, message in sorted(events, key=lambda event: event[:2]):
        tick = round(time_s / beat_s * _TICKS_PER_BEAT)
        track.append(message.copy(time=tick - previous))  # type: ignore[attr-defined]
        previous = tick
    end = round(now_s / beat_s * _TICKS_PER_BEAT)
    track.append(mido.MetaMessage("end_of_track", time=max(0, end - previous)))
    score.save(str(path))
    return starts_s


def _events(piece: Piece, offset_s: float, mido: ModuleType) -> list[tuple[float, int, object]]:
    """(seconds, rank, message): at one time, notes end before programs change and new notes begin."""
    second_per_beat = 60.0 / piece.beats_per_minute
    events: list[tuple[float, int, object]] = [
        (offset_s, 1, mido.Message("program_change", channel=channel, program=program))
        for channel, program in piece.programs
    ]
    for note in piece.notes:
        start_s = note.start * second_per_beat
        end_s = min(start_s + note.length * second_per_beat, piece.seconds)
        if start_s >= end_s or not 0 <= note.key <= 127:
            continue
        on = mido.Message("note_on", channel=note.channel, note=note.key, velocity=note.velocity)
        off = mido.Message("note_off", channel=note.channel, note=note.key)
        events += [(offset_s + start_s, 2, on), (offset_s + end_s, 0, off)]
    return events


def _play(program: str, score: Path, sound: Path) -> None:
    command = [program, "-ni", "-q", "-r", str(_RENDER_RATE_HZ), "-g", "0.4", "-T", "wav", "-O", "s16"]
    command += ["-F", str(sound), str(SOUND_FONT), str(score)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_RENDER_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise DataError(f"fluidsynth did not finish within {_RENDER_TIMEOUT_S:g} s; render fewer pieces") from error
    if done.returncode != 0 or not sound.is_file():
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DataError(f"fluidsynth failed with status {done.returncode}: {last}; check {SOUND_FONT}")


def _read_wave(path: Path) -> NDArray[np.float64]:
    """Mono at 16 kHz."""
    with wave.open(str(path), "rb") as file:
        frames = np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, file.getnchannels())
        rate_hz = file.getframerate()
    mono = frames.astype(np.float64).mean(axis=1) / 32768.0
    return np.asarray(resample_poly(mono, SAMPLE_RATE, rate_hz))


def _cut(heard: NDArray[np.float64], start_s: float, seconds: float, level_db: float) -> NDArray[np.float32]:
    samples = round(seconds * SAMPLE_RATE)
    start = round(start_s * SAMPLE_RATE)
    part = np.zeros(samples)
    found = heard[start : start + samples]
    part[: len(found)] = found
    part = at_rms_one(part) * 10.0 ** (level_db / 20.0)
    return np.asarray(part / max(1.0, float(np.abs(part).max()) / 0.99), np.float32)


def _load_mido() -> ModuleType:
    try:
        import mido
    except ImportError as error:
        raise DataError("composing music needs mido: pip install mido") from error
    module: ModuleType = mido
    return module
