"""Held-out check while training: clips streamed hop by hop, lip opening against the truth, and the shuffle control."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.diffusion.generator import MotionGenerator
from model.diffusion.unet import TemporalUNet
from model.motion.space import load_motion_space
from model.motion.vae import MotionVae
from model.speech.speech_model import PROSODY_SLICE
from model.training.motion_items import MotionItems

SHUFFLE_BLOCK_FRAMES = 3


def streamed_correlation(
    unet: TemporalUNet, items: MotionItems, vae: MotionVae, *, num_steps: int = 1
) -> dict[str, float]:
    """Mean r of lip opening, and the same with content shuffled in time at equal energy; items of one length."""
    rows = items.start[:, None] + torch.arange(int(items.frames[0]))
    space = load_motion_space()
    truth = space.lip_opening(items.motion[rows].numpy())
    features = (items.committed[rows].float(), items.edge[rows].float())
    rest = vae.encode(torch.zeros(1, 8, 32))[0, -1]
    generator = MotionGenerator(unet, rest, num_steps=num_steps)
    figures = {}
    for name, (committed, edge) in {"opening_r": features, "opening_r_shuffled": shuffled(*features)}.items():
        latents = stream(generator, committed, edge)
        opening = space.lip_opening(vae.decode(latents).numpy())
        figures[name] = mean_r(truth, opening)
        if name == "opening_r":
            figures["spread_ratio"] = float(opening.std() / truth.std())
    return figures


def stream(generator: MotionGenerator, committed: Tensor, edge: Tensor, *, seed: int = 0) -> Tensor:
    """Latents (N, T, 16) of N clips streamed side by side; features (N, T, 256), hops from frame 0 on."""
    c = generator.config
    hop, ahead, frames = c.hop_frames, c.lookahead_frames, committed.shape[1]
    lead = -(-ahead // hop) * hop  # hops that lie before the stream
    states = [generator.new_state(seed) for _ in committed]
    for state in states:
        state.next_frame = -lead
    pad = torch.zeros(len(committed), lead + ahead + hop, committed.shape[2])
    committed, edge = (torch.cat([pad[:, :lead], part, pad], 1) for part in (committed, edge))
    parts = []
    for first in range(0, frames + lead, hop):
        heard = slice(first + hop, first + hop + ahead)
        features = torch.cat([committed[:, first : first + hop], edge[:, heard]], 1)
        parts.append(generator.step(features, states)[:, -hop:])
    return torch.cat(parts, 1)[:, lead : lead + frames]


def shuffled(committed: Tensor, edge: Tensor, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Permute everything but prosody (energy, slope, voicing, gate) in blocks of three frames within each clip."""
    rng = np.random.default_rng(seed)
    frames = committed.shape[1]
    out = [committed.clone(), edge.clone()]
    content = [i for i in range(committed.shape[2]) if not PROSODY_SLICE.start <= i < PROSODY_SLICE.stop]
    for clip in range(len(committed)):
        blocks = [np.arange(s, min(s + SHUFFLE_BLOCK_FRAMES, frames)) for s in range(0, frames, SHUFFLE_BLOCK_FRAMES)]
        order = torch.from_numpy(np.concatenate([blocks[i] for i in rng.permutation(len(blocks))]))
        for target, source in zip(out, (committed, edge), strict=True):
            target[clip][:, content] = source[clip][order][:, content]
    return out[0], out[1]


def mean_r(a: Iterable[NDArray[np.float32]], b: Iterable[NDArray[np.float32]]) -> float:
    """Pearson r per row, averaged."""
    return float(np.mean([np.corrcoef(x, y)[0, 1] for x, y in zip(a, b, strict=True)]))
