"""Both marks measured: found after every attack? seen? what do they cost? and does anything else look like one?

Clips of one second are rendered once from recorded speech, in varied poses and moods, without marks; each is then
marked for another instance and day, as `render` does it: the label, then the invisible mark.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.audio_file import SAMPLE_RATE, read_audio
from model.errors import DataError, InputError
from model.evaluation.mark_alarms import MIN_SCORES, alarm_figures, random_keys, score_unmarked
from model.evaluation.mark_attacks import ATTACKS, STRESSES, Attack, luma_of
from model.motion.mood import MOODS
from model.pipeline import FPS, AvatarPipeline
from model.provenance.invisible import InvisibleMark
from model.provenance.mark_search import THRESHOLD, detect, mean_luma
from model.provenance.payload import DAY_BITS, EPOCH, INSTANCE_BITS, MarkPayload
from model.provenance.video_marks import WINDOW_FRAMES, read_windows
from model.provenance.visible import MarkStyle, VisibleMark
from model.render_video import RenderOptions, run_pipeline
from model.results import Figure
from model.state import Controls

__all__ = ["MarksEvaluation", "evaluate_marks", "wilson_interval"]

SIZE = 256
TAKE_SECONDS = 3
SOUND_SUFFIXES = (".flac", ".wav", ".ogg", ".mp3")
VIDEO_SUFFIXES = (".mp4", ".mpg", ".webm")
GOAL_DETECTED = 0.99
GOAL_PSNR_DB = 42.0
GOAL_EMBED_MS = 1.0
STRESS_PART = 4  # one clip of so many goes through what is harder than asked
DECODED_KEYS = 20
WINDOWS_PER_FILE = 3

Frames = NDArray[np.uint8]
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class MarksEvaluation:
    """What to measure with. `speech` holds sound files, `video` filmed clips without any mark."""

    speech: Path
    video: Path
    avatar: Path | None = None
    clips: int = 200
    keys: int = 100


@dataclass(frozen=True)
class _Clip:
    payload: MarkPayload
    marked: Frames  # (25, size * 3 // 2, size)
    plain_mean: NDArray[np.float64]  # (size, size): luma with the label alone, averaged over the frames
    squared_error: float  # of the luma, by the invisible mark


@dataclass
class _Row:
    """What one attack did to the clips."""

    found: list[bool]
    scores: list[float]
    wrong_bits: list[float]


def evaluate_marks(config: MarksEvaluation, tell: Tell) -> dict[str, Figure]:
    """All figures; minutes.

    Raises:
        InputError: Clips and keys are too few for a tail.
        DataError: There is not enough speech, or no video.
    """
    if config.clips * config.keys < MIN_SCORES:
        raise InputError(
            f"clips times keys must be at least {MIN_SCORES} for the tail of false alarms, "
            f"got {config.clips} x {config.keys}"
        )
    tell(f"rendering {config.clips} clips")
    clips, costs = _marked_clips(config)
    figures = _picture_figures(clips) | costs
    for attack in ATTACKS:
        tell(f"{attack.name} on {len(clips)} clips")
        figures |= _attack_figures(attack, clips, GOAL_DETECTED)
    for attack in STRESSES:
        part = clips[::STRESS_PART]
        tell(f"{attack.name} on {len(part)} clips")
        figures |= _attack_figures(attack, part, None)
    figures |= _alarms([clip.plain_mean for clip in clips], config.keys, "rendered", tell)
    filmed = [mean_luma(window) for path in _files(config.video, VIDEO_SUFFIXES) for window in _windows(path)]
    return figures | _alarms(filmed, config.keys, "filmed", tell)


def wilson_interval(hits: int, tries: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927); good near 0 and 1."""
    share = hits / tries
    centre = share + z * z / (2 * tries)
    half = z * float(np.sqrt(share * (1 - share) / tries + z * z / (4 * tries * tries)))
    scale = 1 + z * z / tries
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def _marked_clips(config: MarksEvaluation) -> tuple[list[_Clip], dict[str, Figure]]:
    pipeline = AvatarPipeline.load(config.avatar, size=SIZE)
    label = VisibleMark(MarkStyle(), size=SIZE, mouth_box=pipeline.mouth_box)
    rng = np.random.default_rng(0)
    clips: list[_Clip] = []
    render_s: list[float] = []
    embed_s: list[float] = []
    for frames, seconds in _rendered(config, pipeline):
        render_s.append(seconds)
        payload = MarkPayload(
            instance=int(rng.integers(1 << INSTANCE_BITS)), day=EPOCH + timedelta(days=int(rng.integers(1 << DAY_BITS)))
        )
        mark = InvisibleMark(payload, height=SIZE, width=SIZE)
        for frame in frames:
            label.draw(frame)
        marked = frames.copy()
        for frame in marked:
            start = time.perf_counter()
            mark.embed(luma_of(frame))
            embed_s.append(time.perf_counter() - start)
        error = float(np.mean((_luma(marked) - _luma(frames)) ** 2))
        clips.append(_Clip(payload, marked, mean_luma(map(luma_of, frames)), error))
    embed_ms, render_ms = 1000 * float(np.median(embed_s)), 1000 * float(np.median(render_s))
    costs = {
        "embed_ms_per_frame": Figure(value=embed_ms, unit="ms", goal=GOAL_EMBED_MS, better="lower", n=len(embed_s)),
        "render_ms_per_frame": Figure(value=render_ms, unit="ms", better="lower", n=len(render_s)),
        "embed_share_of_rendering": Figure(value=embed_ms / render_ms, unit="of rendering", better="lower"),
    }
    return clips, costs


def _rendered(config: MarksEvaluation, pipeline: AvatarPipeline) -> Iterator[tuple[Frames, float]]:
    """`clips` of 25 frames, and the seconds that a frame of its take took."""
    made = 0
    for take, speech in enumerate(_takes(config.speech)):
        rng = np.random.default_rng(take)
        controls = Controls(
            yaw_deg=float(rng.uniform(-20, 20)),
            pitch_deg=float(rng.uniform(-10, 10)),
            mood=MOODS[take % len(MOODS)],
            mood_strength=0.7,
        )
        total = TAKE_SECONDS * FPS
        start = time.perf_counter()
        parts = run_pipeline(pipeline, speech, total, RenderOptions(seed=take, controls=controls))
        frames = np.concatenate([part.frames for part in parts])
        seconds = (time.perf_counter() - start) / total
        for clip in frames.reshape(TAKE_SECONDS, FPS, *frames.shape[1:]):
            yield clip.copy(), seconds
            made += 1
            if made == config.clips:
                return
    raise DataError(f"{config.speech} has speech for {made} clips only, {config.clips} were asked for")


def _takes(folder: Path) -> Iterator[NDArray[np.float32]]:
    """Pieces of 3 s: the first of every file, then the second of every file, and so on."""
    files = _files(folder, SOUND_SUFFIXES)
    samples = TAKE_SECONDS * SAMPLE_RATE
    start, more = 0, True
    while more:
        more = False
        for path in files:
            sound = read_audio(path)[start : start + samples]
            if len(sound) == samples:
                more = True
                yield sound
        start += samples


def _picture_figures(clips: Sequence[_Clip]) -> dict[str, Figure]:
    psnr = 10 * np.log10(255.0**2 / np.array([clip.squared_error for clip in clips]))
    n = len(clips)
    return {
        "psnr": Figure(value=float(psnr.mean()), unit="dB", goal=GOAL_PSNR_DB, better="higher", n=n),
        "psnr_lowest": Figure(value=float(psnr.min()), unit="dB", goal=GOAL_PSNR_DB, better="higher", n=n),
    }


def _attack_figures(attack: Attack, clips: Sequence[_Clip], goal: float | None) -> dict[str, Figure]:
    row = _Row([], [], [])
    start = time.perf_counter()
    for clip in clips:
        found = detect(mean_luma(map(luma_of, attack(list(clip.marked)))))
        row.found.append(found.payload == clip.payload)
        row.scores.append(found.score)
        if found.payload == clip.payload and found.bit_error_rate is not None:
            row.wrong_bits.append(found.bit_error_rate)
    hits, n = sum(row.found), len(clips)
    figures = {
        "detected": Figure(
            value=hits / n, unit="of clips", goal=goal, better="higher", n=n, interval=wilson_interval(hits, n)
        ),
        "score_lowest": Figure(
            value=min(row.scores),
            unit="deviations",
            goal=THRESHOLD if goal is not None else None,
            better="higher",
            n=n,
        ),
        "score_median": Figure(value=float(np.median(row.scores)), unit="deviations", better="higher", n=n),
    }
    if row.wrong_bits:
        right = 1 - float(np.mean(row.wrong_bits))
        figures["bits_right"] = Figure(
            value=right, unit="of code bits, where found", better="higher", n=len(row.wrong_bits)
        )
    if not attack.steps:
        spent = 1000 * (time.perf_counter() - start) / n
        figures["detection_ms"] = Figure(value=spent, unit="ms per clip", better="lower", n=n)
    return {f"{attack.name}.{name}": figure for name, figure in figures.items()}


def _alarms(means: Sequence[NDArray[np.float64]], keys: int, name: str, tell: Tell) -> dict[str, Figure]:
    tell(f"{len(means)} {name} windows without a mark, {keys} keys")
    return alarm_figures(score_unmarked(means, random_keys(keys), decoded_keys=DECODED_KEYS), f"unmarked_{name}")


def _windows(path: Path) -> Iterator[list[NDArray[np.uint8]]]:
    return (window for window in read_windows(path, WINDOWS_PER_FILE) if len(window) == WINDOW_FRAMES)


def _luma(frames: Frames) -> NDArray[np.float32]:
    return frames[:, : frames.shape[1] * 2 // 3].astype(np.float32)


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes) if folder.is_dir() else []
    if not found:
        raise DataError(f"no files ({', '.join(suffixes)}) in {folder}")
    return found
