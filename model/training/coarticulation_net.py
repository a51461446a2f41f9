"""The filmed speaker's mouth for any phonemes: a small convolutional network over phone times, and closures that close.

Input, for each 10 ms: which phoneme (or what stands for it, `model.training.phone_classes`), and how long ago it began
and how soon it ends. A frame sees the phones within 320 ms on either side. The network gives the mean, which blurs:
lips that meet at one moment or the next are, on average, ajar. So the opening at p, b and m is pulled to what the
speaker's own closures show, and at f and v to his opening with the lower lip at the teeth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from model.checkpoint import load_checkpoint
from model.errors import InputError
from model.motion.space import MOTION_SIZE, NUM_MOUTH_CODES, MotionSpace, check_space_hash, load_motion_space
from model.motion.vae import AUDIO_OWNED
from model.speech.phonemes import BILABIALS, INDEX, PHONEMES, SILENCE_INDEX
from model.training.phone_classes import phone_runs, split_diphthongs, stand_in_matrix

KIND: Final = "coarticulation"
COLUMNS_PER_FRAME: Final = 4
CONTEXT_FRAMES: Final = 8
TIMING_COLUMNS: Final = 16
"""Times to a phone's edges count up to 160 ms."""
LABIODENTALS: Final = frozenset({"f", "v"})
CLOSING: Final = (BILABIALS, LABIODENTALS)
HELD: Final = frozenset({"m", "f", "v"})
"""Lips stay where they are through these; stops are released in their second half."""
NEIGHBOUR_SHARE: Final = 0.5
_CONTEXT_COLUMNS: Final = CONTEXT_FRAMES * COLUMNS_PER_FRAME
_DILATIONS: Final = (1, 2, 3)
Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class CoarticulationConfig:
    """Sizes, and what the training clips never said."""

    width: int = 96
    dropout: float = 0.2
    unseen: tuple[str, ...] = ()


class CoarticulationNet(nn.Module):
    """Phones at 100 Hz to the mouth and brow codes at 25 Hz. Buffers: what the speaker's lips do when they close."""

    closed_opening: Tensor  # (2,) inter-ocular units: bilabials, labiodentals
    closing_codes: Tensor  # (16,) change of the mouth codes per unit of opening

    def __init__(self, config: CoarticulationConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.columns = nn.Conv1d(len(PHONEMES) + 2, width, 9, padding=4)
        self.frames = nn.Conv1d(width, width, 3 * COLUMNS_PER_FRAME, stride=COLUMNS_PER_FRAME, padding=4)
        self.blocks = nn.ModuleList(nn.Conv1d(width, width, 3, padding=d, dilation=d) for d in _DILATIONS)
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Conv1d(width, AUDIO_OWNED, 1)
        self.register_buffer("closed_opening", torch.zeros(2))
        self.register_buffer("closing_codes", torch.zeros(NUM_MOUTH_CODES))

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (B, 4 (T + 16), 47), eight frames of context at both ends, to codes (B, T, 20)."""
        hidden = functional.gelu(self.columns(inputs.transpose(1, 2)))
        hidden = functional.gelu(self.frames(self.dropout(hidden)))
        for block in self.blocks:
            hidden = hidden + functional.gelu(block(self.dropout(hidden)))
        codes: Tensor = self.out(hidden)[..., CONTEXT_FRAMES:-CONTEXT_FRAMES].transpose(1, 2)
        return codes


class Coarticulation:
    """Motion for phonemes. Made by `load_coarticulation`, or from a network at hand."""

    def __init__(self, net: CoarticulationNet, space: MotionSpace) -> None:
        self.net = net.eval()
        self.space = space
        self.unseen = net.config.unseen
        self._shares = stand_in_matrix(self.unseen)

    @torch.inference_mode()
    def motion(self, phonemes: NDArray[np.integer]) -> Array:
        """Phoneme indices (4 T,), one for each 10 ms, to motion (T, 32): mouth and brows, the rest zero.

        Before and after the sequence counts as silence.

        Raises:
            InputError: The labels do not fill whole frames, or one is not in the inventory.
        """
        check_labels(phonemes)
        labels = split_diphthongs(pad_silence(phonemes), self.unseen)
        inputs = np.concatenate([self._shares[labels], phone_timing(labels)], 1)
        codes = self.net(torch.from_numpy(inputs)[None])[0].numpy()
        motion = np.zeros((len(codes), MOTION_SIZE), np.float32)
        motion[:, :AUDIO_OWNED] = codes
        return self._close(motion, phonemes)

    def _close(self, motion: Array, phonemes: NDArray[np.integer]) -> Array:
        closing = self.net.closing_codes.numpy()
        for names, target in zip(CLOSING, self.net.closed_opening.tolist(), strict=True):
            excess = np.maximum(self.space.lip_opening(motion) - target, 0.0) * closure_weights(phonemes, names)
            motion[:, :NUM_MOUTH_CODES] -= excess[:, None] * closing
        return motion


def load_coarticulation(path: Path) -> Coarticulation:
    """Read what `train_coarticulation` wrote.

    Raises:
        CheckpointError: The file is missing, damaged, or something else.
        MotionSpaceError: It was trained for another motion space.
    """
    saved = load_checkpoint(path, kind=KIND, config_cls=CoarticulationConfig)
    space = load_motion_space()
    check_space_hash(saved.metadata["motion_space"], space, str(path), "nerf-lipsync train coarticulation")
    net = CoarticulationNet(saved.config)
    net.load_state_dict(saved.tensors)
    return Coarticulation(net, space)


def check_labels(phonemes: NDArray[np.integer]) -> None:
    """Raise InputError unless the labels are (4 T,), T > 0, and all in the inventory."""
    if phonemes.ndim != 1 or not len(phonemes) or len(phonemes) % COLUMNS_PER_FRAME:
        raise InputError(f"need {COLUMNS_PER_FRAME} phoneme labels for each frame, got shape {phonemes.shape}")
    low, high = int(phonemes.min()), int(phonemes.max())
    if low < 0 or high >= len(PHONEMES):
        raise InputError(f"phoneme labels run from {low} to {high}; the inventory has 0 to {len(PHONEMES) - 1}")


def pad_silence(phonemes: NDArray[np.integer]) -> NDArray[np.int64]:
    """Labels (4 T,) with eight frames of silence before and after, (4 (T + 16),)."""
    return np.pad(phonemes.astype(np.int64), _CONTEXT_COLUMNS, constant_values=SILENCE_INDEX)


def phone_timing(labels: NDArray[np.integer]) -> Array:
    """(columns, 2): time since the phone of each column began and until it ends, 0..1 for 0..160 ms and longer.

    The first and the last run count as endless.
    """
    timing = np.ones((len(labels), 2), np.float32)
    runs = phone_runs(labels)
    for start, end in runs:
        steps = (np.arange(end - start) + 0.5) / TIMING_COLUMNS
        if start > 0:
            timing[start:end, 0] = np.minimum(steps, 1.0)
        if end < len(labels):
            timing[start:end, 1] = np.minimum(steps[::-1], 1.0)
    return timing


def closure_frames(phonemes: NDArray[np.integer], names: frozenset[str]) -> list[slice]:
    """Frames in which lips are shut for each phone of `names`, at least one a phone, that of its first quarter.

    It lasts to the middle of a stop (GRID's lips are closest then, or a little before), and three quarters of what is
    held.
    """
    wanted = {INDEX[name] for name in names}
    held = {INDEX[name] for name in HELD}
    found = []
    for start, end in phone_runs(phonemes):
        if (phone := int(phonemes[start])) in wanted:
            last = (start + 3 * end) // 4 if phone in held else (start + end) // 2
            first_frame = (3 * start + end) // 4 // COLUMNS_PER_FRAME
            found.append(slice(first_frame, max(first_frame, (last - 1) // COLUMNS_PER_FRAME) + 1))
    return found


def closure_weights(phonemes: NDArray[np.integer], names: frozenset[str]) -> Array:
    """(T,) 1 where the lips are shut for a phone of `names`, a half one frame before and after, else 0."""
    weights = np.zeros(len(phonemes) // COLUMNS_PER_FRAME, np.float32)
    for frames in closure_frames(phonemes, names):
        near = slice(max(0, frames.start - 1), frames.stop + 1)
        weights[near] = np.maximum(weights[near], NEIGHBOUR_SHARE)
        weights[frames] = 1.0
    return weights


def closed_openings(
    openings: Sequence[Array],  # (T,) of each clip, inter-ocular units
    labels: Sequence[NDArray[np.integer]],  # (4 T,)
    names: frozenset[str],
) -> list[float]:
    """The least opening within a frame of each phone of `names`."""
    return [
        float(opening[max(0, frames.start - 1) : frames.stop + 1].min())
        for opening, phonemes in zip(openings, labels, strict=True)
        for frames in closure_frames(phonemes, names)
    ]
