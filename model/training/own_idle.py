"""A person's own idle motion out of prepared clips: blinks of the whole video, gaze and sway of its quiet stretches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_opening, median_filter

from model.data.features import iterate_clips
from model.motion.own_idle import (
    BLINK_FRAMES,
    BLINKS_PER_MINUTE,
    GAZE_FRAMES,
    LARGEST_GAZE_RAD,
    LARGEST_SWAY_DEG,
    OwnIdle,
    OwnIdleConfig,
)
from model.motion.space import GAZE_CODES, LID_CODES

__all__ = ["PersonTrack", "own_idle", "own_idle_of_clips"]

FPS = 25
SAMPLES_PER_FRAME = 640
USUAL_BLINKS = 17.0  # a minute; counts as much as one minute of video
CLOSED, OPEN = 0.5, 0.15  # closure that makes a blink, and at which it begins and ends
QUIET_DB = -30.0  # below the loud frames (95th percentile)
ROOM_LEVEL = 100.0  # root mean square, 16 bit: below it nobody speaks, whatever the rest is like
QUIET_FRAMES = 12
ENOUGH_QUIET_S = 2.0  # with less, gaze and sway are not the person's
SACCADE_RAD = 0.03  # per frame
FIXATION_FRAMES = 4
SWAY_FRAMES = 75  # length of the pieces whose spectrum is taken
MOST_SINES = 6
SWAY_HZ = (0.05, 1.6)  # slower is posture, faster is tracking noise

Float = NDArray[np.float64]


@dataclass(frozen=True)
class PersonTrack:
    """A clip at 25 fps: motion (T, 32), head yaw, pitch, roll (T, 3) in degrees, 16-bit sound at 16 kHz or none."""

    motion: NDArray[np.float32]
    angles_deg: Float
    sound: NDArray[np.generic]


def own_idle_of_clips(prepared: Path) -> OwnIdle:
    """The idle motion of the person in a folder made by `prepare`.

    Raises:
        DataError: There are no clips.
    """
    return own_idle([PersonTrack(c.motion, c.pose.angles_deg, c.audio) for c in iterate_clips(prepared)])


def own_idle(tracks: Sequence[PersonTrack]) -> OwnIdle:
    """What the tracks show; where they show too little, arrays are empty or rates the usual ones."""
    curves = [curve for track in tracks for curve in blink_curves(track.motion[:, LID_CODES].mean(1))]
    frames = sum(len(track.motion) for track in tracks)
    quiet = [quiet_frames(track.sound, len(track.motion)) for track in tracks]
    quiet_s = sum(int(q.sum()) for q in quiet) / FPS
    if quiet_s < ENOUGH_QUIET_S:  # nods and looks of somebody who speaks are not idle
        quiet = [np.zeros(len(track.motion), np.bool_) for track in tracks]
    gaze, held = _gaze(tracks, quiet)
    hz, sway = _sway(tracks, quiet)
    minutes = frames / FPS / 60
    rate = (len(curves) + USUAL_BLINKS) / (minutes + 1)
    config = OwnIdleConfig(
        blinks_per_minute=float(np.clip(rate, *BLINKS_PER_MINUTE)),
        gaze_frames=int(np.clip(held, *GAZE_FRAMES)),
        seconds=frames / FPS,
        quiet_seconds=quiet_s,
        blinks=len(curves),
    )
    stacked = np.stack(curves) if curves else np.zeros((0, BLINK_FRAMES))
    return OwnIdle(config, *(np.asarray(a, np.float32) for a in (stacked, gaze, hz, sway)))


def blink_curves(closure: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Curves (BLINK_FRAMES,) of the blinks in a lid closure (T,), each scaled to close fully; longer ones are none."""
    found, shut = [], closure > CLOSED
    starts = np.flatnonzero(shut & ~np.roll(shut, 1))
    for start in starts[starts > 0]:
        first = int(start)
        while first > 0 and closure[first - 1] > OPEN:
            first -= 1
        last = int(start)
        while last < len(closure) and closure[last] > OPEN:
            last += 1
        if first == 0 or last == len(closure) or last - first > BLINK_FRAMES:
            continue  # cut off, or closed on purpose
        piece = np.clip(closure[first:last], 0, 1)
        curve = np.zeros(BLINK_FRAMES, np.float32)
        curve[: len(piece)] = piece / piece.max()
        found.append(curve)
    return found


def quiet_frames(sound: NDArray[np.generic], frames: int) -> NDArray[np.bool_]:
    """(T,) where nobody speaks for at least `QUIET_FRAMES`; all of a clip without sound."""
    samples = np.asarray(sound, np.float64)[: frames * SAMPLES_PER_FRAME]
    if not samples.any():
        return np.ones(frames, np.bool_)
    samples = np.pad(samples, (0, frames * SAMPLES_PER_FRAME - len(samples)))
    power = (samples.reshape(frames, SAMPLES_PER_FRAME) ** 2).mean(1)
    quiet = power < max(np.percentile(power, 95) * 10 ** (QUIET_DB / 10), ROOM_LEVEL**2)
    return np.asarray(binary_opening(quiet, np.ones(QUIET_FRAMES)), np.bool_)


def _stretches(mask: NDArray[np.bool_]) -> Iterable[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _gaze(tracks: Sequence[PersonTrack], quiet: Sequence[NDArray[np.bool_]]) -> tuple[Float, float]:
    """Fixations (M, 2) around their median, and how many frames the median one lasts."""
    means, lengths = [], []
    for track, mask in zip(tracks, quiet, strict=True):
        gaze = median_filter(track.motion[:, GAZE_CODES].astype(np.float64), (3, 1))
        shut = track.motion[:, LID_CODES].mean(1) > OPEN  # the iris is not seen
        still = np.concatenate([[True], np.linalg.norm(np.diff(gaze, axis=0), axis=1) < SACCADE_RAD])
        for first, last in _stretches(mask & ~shut & still):
            if last - first >= FIXATION_FRAMES:
                means.append(gaze[first:last].mean(0))
                lengths.append(last - first)
    if len(means) < 3:
        return np.zeros((0, 2)), 45.0
    around = np.asarray(means) - np.median(means, 0)
    return np.clip(around, -LARGEST_GAZE_RAD, LARGEST_GAZE_RAD), float(np.median(lengths))


def _sway(tracks: Sequence[PersonTrack], quiet: Sequence[NDArray[np.bool_]]) -> tuple[Float, Float]:
    """Frequencies (K,) and amplitudes (3, K) of the head's strongest sines, by the mean spectrum of all pieces."""
    power, pieces = np.zeros((SWAY_FRAMES // 2 + 1, 3)), 0
    window = np.hanning(SWAY_FRAMES)[:, None]
    for track, mask in zip(tracks, quiet, strict=True):
        for first, last in _stretches(mask):
            if last - first < QUIET_FRAMES:
                continue
            piece = track.angles_deg[first:last]
            trend = np.linspace(0, 1, len(piece))[:, None] * (piece[-1] - piece[0]) + piece[0]
            level = np.resize(np.concatenate([piece - trend, (piece - trend)[::-1]]), (SWAY_FRAMES, 3))
            level = level - level.mean(0)
            power += np.abs(np.fft.rfft(level * window, axis=0)) ** 2
            pieces += 1
    if not pieces:
        return np.zeros(0), np.zeros((3, 0))
    hz = np.fft.rfftfreq(SWAY_FRAMES, 1 / FPS)
    amplitude = 2 * np.sqrt(power / pieces).T / window.sum()
    usable = np.flatnonzero((hz >= SWAY_HZ[0]) & (hz <= SWAY_HZ[1]))
    strongest = np.sort(usable[np.argsort(-amplitude[:, usable].sum(0))[:MOST_SINES]])
    chosen = amplitude[:, strongest]
    limit = np.minimum(1.0, LARGEST_SWAY_DEG / np.maximum(chosen.sum(1, keepdims=True), 1e-9))
    return np.asarray(hz[strongest], np.float64), np.asarray(chosen * limit, np.float64)
