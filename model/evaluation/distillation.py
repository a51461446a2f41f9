"""Does the few-step student make what its teacher makes? Both stream the same sound of held-out clips.

Sound is heard once, as served; sampler and decoder run hop by hop, without the voice gate, which would be the same for
both. Every clip is drawn several times at temperature 1, each draw with noise of its own; a student's draw has the
noise of the teacher's draw of that number.

| figure | of | ideal |
|---|---|---|
| frechet_ratio | Frechet distance student-teacher over that of teacher and teacher, other draws | 1 |
| spread_ratio | standard deviation of the lip opening in time | 1 |
| diversity_ratio | standard deviation of the lip opening over a clip's draws | 1 |
| jerk_ratio | mean absolute third difference of the lip points | 1 |
| closures_points | share of p b m at which the lips close, difference in points | 0 |
| paired_rmse | latents of one hop, same noise and same past, root mean square, standard deviations | 0 |
| streamed_rmse | latents of the whole stream, same noise, everyone with the past that he made himself | 0 |
| speedup | CPU time of the teacher's hop (sampling, decoding) over the student's, one session, taken in turns | > 1 |

The Frechet distance is of windows of eight frames (`window_frechet`), between half of the draws of either side. It
depends on the number of samples (see `model.evaluation.frechet`), so that the floor has equally many, of the same
clips; with ever more of them any student that is not the teacher's equal would be found out: the ratio is of these
counts.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.diffusion.generator import MotionGenerator
from model.errors import InputError
from model.evaluation.closures import Hits, closure_hits
from model.evaluation.frechet import frechet_of_features
from model.evaluation.landmark_metrics import jerk
from model.evaluation.lip_metrics import concordance, visible_lips
from model.evaluation.lip_rows import TrueClip
from model.evaluation.lips import LipClip
from model.motion.space import MOUTH_CODES, MotionSpace
from model.motion.vae import MotionVae

__all__ = [
    "Draws",
    "clip_ratios",
    "closures_made",
    "draw_clips",
    "frechet_ratio",
    "hop_times",
    "mouth_codes",
    "paired_rmse",
    "root_mean_square",
    "stream_sessions",
]

WINDOW_FRAMES: Final = 8
WINDOW_STRIDE: Final = 4
SPLITS: Final = 12
SEEDS_OF_A_DRAW: Final = 10_000
SESSIONS: Final = 128
"""Sessions sampled side by side: what fits a core's cache."""
Array = NDArray[np.float32]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Draws:
    """A sampler's motion of N clips of T frames, drawn D times."""

    latents: Array  # (D, N, T, 16)
    motion: Array  # (D, N, T, 32)
    opening: Values  # (D, N, T)


def draw_clips(
    clips: Sequence[LipClip], sampler: MotionGenerator, vae: MotionVae, space: MotionSpace, *, draws: int
) -> Draws:
    """Stream every clip `draws` times; all are cut to the shortest."""
    sessions = [(clip, SEEDS_OF_A_DRAW * draw + index) for draw in range(draws) for index, clip in enumerate(clips)]
    latents, motion = [], []
    for first in range(0, len(sessions), SESSIONS):
        part = sessions[first : first + SESSIONS]
        found = stream_sessions([c for c, _ in part], sampler, vae, [seed for _, seed in part])
        latents.append(found[0])
        motion.append(found[1])
    made = np.concatenate(motion)
    shape = (draws, len(clips), made.shape[1], -1)
    made = made.reshape(shape)
    return Draws(np.concatenate(latents).reshape(shape), made, space.lip_opening(made).astype(np.float64))


@torch.inference_mode()
def stream_sessions(
    clips: Sequence[LipClip], sampler: MotionGenerator, vae: MotionVae, seeds: Sequence[int]
) -> tuple[Array, Array]:
    """Latents (S, T, 16) and motion (S, T, 32) of one session for each clip and seed; T is the shortest clip's."""
    c = sampler.config
    frames = min(len(clip.truth) for clip in clips)
    states = [sampler.new_state(seed) for seed in seeds]
    parts = [sampler.rest_latent.expand(len(clips), WINDOW_FRAMES, -1)]
    for hop in range(-(-(frames + c.lookahead_frames) // c.hop_frames)):
        features = torch.stack([clip.features[hop] for clip in clips])
        parts.append(sampler.step(features, states)[:, -c.hop_frames :])
    latents = torch.cat(parts, 1)
    first = WINDOW_FRAMES + c.lookahead_frames  # what comes before is rest, and frames that are not shown
    shown = slice(first, first + frames)
    return latents[:, shown].numpy(), vae.decode(latents)[:, shown].numpy()


def window_frechet(a: Array, b: Array) -> float:
    """Frechet distance between windows of eight frames, every fourth, of sequences (..., T, C)."""
    return frechet_of_features(_windows(a), _windows(b))


def frechet_ratio(student: Array, teacher: Array, *, seed: int = 0) -> tuple[float, float]:
    """Distance student-teacher over teacher-teacher, and half the range of single splits' ratios; (D, N, T, C) each.

    The draws are split in random halves, `SPLITS` times. The student's first half meets the teacher's second, whose
    noise is other; so does the teacher's first half, which gives the floor.

    Raises:
        InputError: The shapes differ, or there are fewer than two draws.
    """
    if student.shape != teacher.shape or len(teacher) < 2:
        raise InputError(f"need equally many draws, two or more, got {student.shape} and {teacher.shape}")
    rng = np.random.default_rng(seed)
    apart, floor = [], []
    for _ in range(SPLITS):
        order = rng.permutation(len(teacher))
        first, second = order[: len(order) // 2], order[len(order) // 2 : 2 * (len(order) // 2)]
        apart.append(window_frechet(student[first], teacher[second]))
        floor.append(window_frechet(teacher[first], teacher[second]))
    ratios = np.array(apart) / np.array(floor)
    return float(np.mean(apart) / np.mean(floor)), float(np.ptp(ratios) / 2)


def clip_ratios(student: Draws, teacher: Draws, space: MotionSpace) -> dict[str, Values]:
    """What is one number for each clip (N,), and the agreement of openings made from the same noise (Lin 1989)."""
    return {
        "spread_ratio": _spread(student) / _spread(teacher),
        "diversity_ratio": _diversity(student) / _diversity(teacher),
        "jerk_ratio": _jerk(student, space) / _jerk(teacher, space),
        "streamed_opening_ccc": _agreement(student, teacher),
    }


def closures_made(draws: Draws, truth: Sequence[TrueClip]) -> float:
    """Share of p b m at which the lips close, over all clips and draws; NaN without any."""
    hits = Hits()
    for draw in draws.opening:
        for opening, clip in zip(draw, truth, strict=True):
            if clip.events is not None:
                hits += closure_hits(opening, clip.events)
    return hits.recall


def paired_rmse(
    clips: Sequence[LipClip], teacher: MotionGenerator, others: Mapping[str, MotionGenerator], *, every_hops: int = 4
) -> dict[str, float]:
    """How far other samplers' latents of a hop are from the teacher's, given his past and his noise: root mean square.

    The teacher streams each clip once; every `every_hops` hops the others start from copies of his sessions' states.
    """
    hop_frames = teacher.config.hop_frames
    states = [teacher.new_state(index) for index in range(len(clips))]
    errors: dict[str, list[Array]] = {name: [] for name in others}
    for hop in range(min(len(clip.features) for clip in clips)):
        features = torch.stack([clip.features[hop] for clip in clips])
        before = [copy.copy(state) for state in states]  # a step puts new tensors in place of the old ones
        wanted = teacher.step(features, states)[:, -hop_frames:]
        if hop % every_hops:
            continue
        for name, other in others.items():
            made = other.step(features, [copy.copy(state) for state in before])[:, -hop_frames:]
            errors[name].append((made - wanted).numpy())
    return {name: root_mean_square(np.stack(found)) for name, found in errors.items()}


def hop_times(samplers: Mapping[str, MotionGenerator], features: Tensor, vae: MotionVae) -> dict[str, Values]:
    """Milliseconds of CPU (hops,) for sampling and decoding one hop of one session, all samplers in turns.

    Of this thread: run torch with one, so that others on the machine hardly count. features: (hops, hop + lookahead,
    256); the first two hops warm up and are left out.
    """
    states = {name: [sampler.new_state(0)] for name, sampler in samplers.items()}
    found: dict[str, list[float]] = {name: [] for name in samplers}
    for row in features:
        for name, sampler in samplers.items():
            start = time.thread_time()
            latents = sampler.step(row[None], states[name])
            with torch.inference_mode():
                vae.decode(latents)
            found[name].append((time.thread_time() - start) * 1000.0)
    return {name: np.array(values[2:]) for name, values in found.items()}


def _windows(sequences: Array) -> Values:
    """(windows, 8 C) of (..., T, C)."""
    frames, channels = sequences.shape[-2:]
    rows = sequences.reshape(-1, frames, channels).astype(np.float64)
    starts = range(0, frames - WINDOW_FRAMES + 1, WINDOW_STRIDE)
    return np.concatenate([rows[:, s : s + WINDOW_FRAMES].reshape(len(rows), -1) for s in starts])


def mouth_codes(draws: Draws) -> Array:
    """Decoded mouth codes (D, N, T, 16)."""
    return draws.motion[..., MOUTH_CODES]


def _spread(draws: Draws) -> Values:
    """Standard deviation in time (N,), mean over draws."""
    return np.asarray(draws.opening.std(2).mean(0))


def _diversity(draws: Draws) -> Values:
    """Standard deviation over draws (N,), root mean square over frames."""
    return np.asarray(np.sqrt(draws.opening.var(0, ddof=1).mean(-1)))


def _jerk(draws: Draws, space: MotionSpace) -> Values:
    """Jerk of the lip points (N,), mean over draws."""
    return np.asarray(np.mean([[jerk(visible_lips(m, space)) for m in draw] for draw in draws.motion], 0))


def _agreement(student: Draws, teacher: Draws) -> Values:
    """Concordance of openings made from the same noise (N,), mean over draws."""
    pairs = zip(student.opening, teacher.opening, strict=True)
    return np.asarray(np.mean([[concordance(a, b) for a, b in zip(x, y, strict=True)] for x, y in pairs], 0))


def root_mean_square(values: Array) -> float:
    """Of all elements."""
    return float(np.sqrt(np.square(values, dtype=np.float64).mean()))
