"""Scores of our self-trained AV-sync critic: does this motion belong to this sound, and when?

The critic (`model.motion.sync_critic`) is judged by SyncNet's protocol without its zero padding: only real pairs of
windows are averaged, so that a shift is not favoured by what is missing at a clip's ends. Its figures carry its own
name (`critic_d`, `critic_c`): they are no Sync-D and Sync-C and cannot be compared with published ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.errors import InputError
from model.evaluation.sync_protocol import MAX_SHIFT_FRAMES, SAMPLES_PER_FRAME, sync_of_clip, sync_of_clips
from model.evaluation.tables import Metric
from model.motion.sync_critic import (
    ASSET,
    COLUMNS_PER_FRAME,
    MOTION_CODES,
    MOTION_WINDOW_FRAMES,
    SOUND_WINDOW_COLUMNS,
    LoadedCritic,
    load_sync_critic,
)
from model.speech.log_mel import HOP_SAMPLES, LogMel, LogMelState

__all__ = ["CRITIC_METRICS", "SHIFTS", "SHIFT_METRICS", "CriticPair", "load_critic", "score_motion", "shifts_found"]

SHIFTS = (-5, -2, -1, 0, 1, 2, 5)
"""Frames by which sound is made late when the critic itself is tested; < 0: early."""
GOAL_EXACT = 0.75
GOAL_WITHIN_ONE = 0.95
Values = NDArray[np.float64]

_JUDGE = "by the self-trained AV-sync critic (not SyncNet)"
CRITIC_METRICS = (
    Metric(
        name="critic_d",
        title="critic distance",
        unit="1",
        better="lower",
        definition=f"Smallest mean distance over shifts of +-15 frames, {_JUDGE}; SyncNet's protocol without padding.",
    ),
    Metric(
        name="critic_c",
        title="critic confidence",
        unit="1",
        better="higher",
        definition=f"Median minus smallest mean distance over shifts of +-15 frames, {_JUDGE}.",
    ),
    Metric(
        name="critic_d_in_place",
        title="critic distance in place",
        unit="1",
        better="lower",
        definition=f"Mean distance of motion and sound as they stand, at no shift, {_JUDGE}.",
    ),
    Metric(
        name="critic_late_frames",
        title="sound late by",
        unit="frames",
        better="lower",
        ideal=0.0,
        definition=f"Shift of the smallest mean distance; > 0: the sound is later than the motion, {_JUDGE}.",
    ),
    Metric(
        name="critic_in_step",
        title="in step",
        unit="share",
        better="higher",
        definition=f"1 where the sound is found within one frame of its place, else 0, {_JUDGE}.",
    ),
)
SHIFT_METRICS = (
    Metric(
        name="critic_shift_exact",
        title="shifts found exactly",
        unit="share",
        better="higher",
        goal=GOAL_EXACT,
        definition="Share of shifts of 0, +-1, +-2 and +-5 frames that the critic finds exactly, whole clips.",
    ),
    Metric(
        name="critic_shift_within_one",
        title="shifts found within one frame",
        unit="share",
        better="higher",
        goal=GOAL_WITHIN_ONE,
        definition="Share of shifts of 0, +-1, +-2 and +-5 frames that the critic finds within one frame.",
    ),
    Metric(
        name="critic_shift_followed",
        title="shifts followed",
        unit="share",
        better="higher",
        definition="Share of shifts of +-1, +-2 and +-5 frames by which the critic's offset moves, from where it was.",
    ),
)


@dataclass(frozen=True)
class CriticPair:
    """The critic as a pair of embedders for the protocol: motion (T, 20 or more codes) and 16 kHz sound."""

    critic: LoadedCritic
    log_mel: LogMel

    @property
    def window_frames(self) -> int:
        """Frames of a motion window."""
        return MOTION_WINDOW_FRAMES

    @torch.inference_mode()
    def see(self, frames: NDArray[np.float32], windows: int) -> NDArray[np.float32]:
        """(windows, 64) of motion (T, codes).

        Raises:
            InputError: Fewer than 20 codes or than windows + 8 frames, or not finite.
        """
        needed = windows + MOTION_WINDOW_FRAMES - 1
        if frames.ndim != 2 or frames.shape[1] < MOTION_CODES or len(frames) < needed:
            raise InputError(f"the critic needs motion ({needed} or more, {MOTION_CODES} or more), got {frames.shape}")
        if not np.isfinite(frames).all():
            raise InputError(f"motion holds NaN or infinity in {int((~np.isfinite(frames)).any(1).sum())} frames")
        motion = torch.from_numpy(np.ascontiguousarray(frames[:needed], np.float32))
        return np.asarray(self.critic.model.see(motion[None])[0].numpy())

    @torch.inference_mode()
    def hear(self, audio: NDArray[np.int16], windows: int) -> NDArray[np.float32]:
        """(windows, 64) of sound (samples,) int16, heard from its start like a session's.

        Raises:
            InputError: Too short for so many windows.
        """
        mel = self.log_mel.push(audio.astype(np.float32) / 32768.0, LogMelState())
        needed = (windows - 1) * COLUMNS_PER_FRAME + SOUND_WINDOW_COLUMNS
        if len(mel) < needed:
            raise InputError(f"{windows} windows need {needed * HOP_SAMPLES} samples of sound, got {len(audio)}")
        return np.asarray(self.critic.model.hear(torch.from_numpy(mel[:needed])[None])[0].numpy())


def load_critic(path: Path = ASSET) -> CriticPair:
    """The shipped critic, or another.

    Raises:
        CheckpointError: The file is missing, foreign or damaged.
    """
    critic = load_sync_critic(path)
    return CriticPair(critic, LogMel(critic.model.config.mel_bands))


def score_motion(
    pair: CriticPair, motion: Sequence[NDArray[np.float32]], sounds: Sequence[NDArray[np.int16]]
) -> dict[str, Values]:
    """Per-clip values (clips,) of `CRITIC_METRICS`: motion (T, 32) at 25 fps beside sound (T * 640,).

    Raises:
        InputError: Not equally many, or a clip is too short (30 frames) or not finite.
    """
    if len(motion) != len(sounds):
        raise InputError(f"need a sound for every motion, got {len(motion)} and {len(sounds)}")
    clips = ((m, len(m), s) for m, s in zip(motion, sounds, strict=True))
    found = sync_of_clips(pair, clips, padding="none")
    late = -found["offset_frames"] + 0.0
    return {
        "critic_d": found["distance"],
        "critic_c": found["confidence"],
        "critic_d_in_place": found["distance_in_place"],
        "critic_late_frames": late,
        "critic_in_step": (np.abs(late) <= 1).astype(np.float64),
    }


def shifts_found(
    pair: CriticPair, motion: Sequence[NDArray[np.float32]], sounds: Sequence[NDArray[np.int16]]
) -> dict[str, Values]:
    """Per-clip values (clips,) of `SHIFT_METRICS`: sound that belongs to its motion is moved, and found again.

    A recording that is itself most of a frame off is found elsewhere than at 0, and yet its shifts are followed.
    Motion and sound are both cut out of the clip, so that the moved sound is real sound to its ends.

    Raises:
        InputError: A clip is too short (40 frames), or as `score_motion`.
    """
    if len(motion) != len(sounds):
        raise InputError(f"need a sound for every motion, got {len(motion)} and {len(sounds)}")
    clips = list(zip(motion, sounds, strict=True))
    wrong = np.array([[_late(pair, *cut_shifted(m, s, shift)) - shift for shift in SHIFTS] for m, s in clips])
    unmoved = SHIFTS.index(0)
    return {
        "critic_shift_exact": (wrong == 0).mean(1, dtype=np.float64),
        "critic_shift_within_one": (np.abs(wrong) <= 1).mean(1, dtype=np.float64),
        "critic_shift_followed": np.delete(wrong == wrong[:, [unmoved]], unmoved, 1).mean(1, dtype=np.float64),
    }


def cut_shifted(
    motion: NDArray[np.float32], sound: NDArray[np.int16], late_frames: int
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Motion without its first and last 5 frames, and as much sound, heard so many frames late (early below 0).

    Raises:
        InputError: More than 5 frames, or the clip is not longer than 10.
    """
    margin = max(SHIFTS)
    frames = min(len(motion), len(sound) // SAMPLES_PER_FRAME)
    if abs(late_frames) > margin or frames <= 2 * margin:
        raise InputError(f"cannot move the sound of {frames} frames by {late_frames}: by at most {margin}, of over 10")
    start = margin - late_frames
    stop = frames - margin - late_frames
    return motion[margin : frames - margin], sound[start * SAMPLES_PER_FRAME : stop * SAMPLES_PER_FRAME]


def _late(pair: CriticPair, motion: NDArray[np.float32], sound: NDArray[np.int16]) -> int:
    return -sync_of_clip(pair, motion, len(motion), sound, max_shift=MAX_SHIFT_FRAMES, padding="none").offset_frames
