"""Do the lips follow speech, and is it the words they follow? Held-out real video against the streamed motion model.

Every clip's sound goes through the serving path (streaming log-mel, windowed encoder, few-step sampler, decoder,
voice gate) hop by hop, and the lip opening is correlated with that of the tracked video (Pearson r per clip, mean).
Controls in the same run: log energy alone; and the same model with everything but prosody shuffled in time (blocks
of three frames within the clip): equal energy, other phonemes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.data.features import ClipFeatures, load_clips
from model.diffusion.generator import MotionGenerator
from model.motion.space import MotionSpace, load_motion_space
from model.motion.voice_gate import GateConfig, GateState, audible_share, open_gate
from model.motion_stack import MotionStack, load_motion_stack
from model.results import Figure
from model.training.motion_check import mean_r, shuffled
from model.training.motion_targets import load_motion

SHUFFLES = 5
Array = NDArray[np.float32]


@dataclass(frozen=True)
class LipClip:
    """A clip's features at every hop, its tracked motion, and its loudness."""

    committed: Tensor  # (T, 256)
    edge: Tensor  # (T, 256)
    truth: Array  # (T, 32)
    energy: Array  # (T,) log10 mean power of each frame
    audible: Array  # (T,) what the voice gate is told of each frame's sound, 0..1


def evaluate_lips(grid: Path, *, steps: int = 2, strangers: Path | None = None, samples: int = 8) -> dict[str, Figure]:
    """All figures of one run. `grid`: prepared `train` and `val` folders; `strangers`: prepared other speakers."""
    space = load_motion_space()
    stack = load_motion_stack(num_steps=steps, temperature=0.0)
    motion = load_motion(grid / "val")
    clips = [lip_clip(c, motion[c.key], stack) for c in load_clips(grid / "val")]
    figures = correlation_figures(clips, stack, space)
    figures |= sampled_figures(clips, stack, space, samples)
    if strangers is not None:
        figures |= stranger_figures(strangers, stack, space)
    return figures


def lip_clip(clip: ClipFeatures, motion: Array, stack: MotionStack) -> LipClip:
    """Stream a clip's sound and keep the features of every frame."""
    speech = stack.speech
    state = speech.new_state()
    frames = len(motion)
    hop = speech.hop_samples
    audio = np.pad(clip.sound, (0, max(0, (frames + 6) * 640 - len(clip.audio))))
    committed, edge = torch.zeros(frames, 256), torch.zeros(frames, 256)
    audible = np.zeros(frames, np.float32)
    for index in range((frames + 4) // 2 + 1):
        part = audio[index * hop : (index + 1) * hop]
        speech.advance(np.pad(part, (0, hop - len(part))), state)
        row = speech.features([state])[0]
        heard = audible_share(state.peak_log10(4), state.spread_log10(), GateConfig())
        for offset, (target, frame) in enumerate(
            [(committed, 2 * index - 2), (committed, 2 * index - 1), (edge, 2 * index), (edge, 2 * index + 1)]
        ):
            if 0 <= frame < frames:
                target[frame] = row[offset]
                audible[frame] = heard[offset]
    power = [np.mean(audio[t * 640 : (t + 1) * 640] ** 2) for t in range(frames)]
    return LipClip(committed, edge, motion, np.log10(np.array(power) + 1e-6).astype(np.float32), audible)


def stream_motion(clip: LipClip, stack: MotionStack, generator: MotionGenerator, *, seed: int = 0) -> Array:
    """Motion (T, 32) of a clip's features through sampler, decoder and gate, as served (without idle parts)."""
    state, gate, config = generator.new_state(seed), GateState(), GateConfig()
    frames = len(clip.committed)
    pad = torch.zeros(4, 256)
    committed, edge = (torch.cat([pad[:2], part, pad]) for part in (clip.committed, clip.edge))
    audible = np.pad(clip.audible, (2, 4))
    parts = []
    for hop in range(0, frames + 2, 2):
        features = torch.cat([committed[hop : hop + 2], edge[hop + 2 : hop + 4]])
        decoded = stack.decode(generator.step(features[None], [state]))[0, -2:]
        heard = audible[hop : hop + 4]
        parts.append(decoded * open_gate(features.numpy(), heard, gate, 2, config)[:, None])
    return np.concatenate(parts)[2 : 2 + frames]


def correlation_figures(clips: list[LipClip], stack: MotionStack, space: MotionSpace) -> dict[str, Figure]:
    """Mean prediction against truth, beside its controls."""
    truth = [space.lip_opening(c.truth) for c in clips]
    made = [stream_motion(c, stack, stack.generator) for c in clips]
    r = mean_r(truth, [space.lip_opening(m) for m in made])
    width = mean_r([space.lip_width(c.truth) for c in clips], [space.lip_width(m) for m in made])
    energy = mean_r(truth, [c.energy for c in clips])
    control = []
    for seed in range(SHUFFLES):
        mixed = [_shuffle(c, seed) for c in clips]
        control.append(mean_r(truth, [space.lip_opening(stream_motion(c, stack, stack.generator)) for c in mixed]))
    lags = [_lag([space.lip_opening(m) for m in made], truth, lag) for lag in range(-4, 5)]
    spread = float(np.std(np.concatenate([space.lip_opening(m) for m in made])) / np.std(np.concatenate(truth)))
    return {
        "lip_opening_r": Figure(value=r, unit="r", goal=0.75, better="higher"),
        "lip_opening_r_energy_alone": Figure(value=energy, unit="r", better="higher"),
        "lip_opening_r_shuffled_phonemes": Figure(
            value=float(np.mean(control)), unit="r", better="lower", spread=float(np.ptp(control) / 2)
        ),
        "drop_with_shuffled_phonemes": Figure(value=r - float(np.mean(control)), unit="r", goal=0.3, better="higher"),
        "lip_width_r": Figure(value=width, unit="r", better="higher"),
        "best_lag_frames": Figure(value=float(abs(np.argmax(lags) - 4)), unit="frames", goal=0.0, better="lower"),
        "spread_ratio_mean_prediction": Figure(value=spread, unit="1", better="higher"),
    }


def sampled_figures(clips: list[LipClip], stack: MotionStack, space: MotionSpace, samples: int) -> dict[str, Figure]:
    """One sample at temperature 1, and the mean of several: the other end of the serving option."""
    g = stack.generator
    sampler = MotionGenerator(g.unet, g.rest_latent, num_steps=max(4, g.num_steps), temperature=1.0)
    truth = [space.lip_opening(c.truth) for c in clips]
    drawn = np.array(
        [[space.lip_opening(stream_motion(c, stack, sampler, seed=s)) for c in clips] for s in range(samples)]
    )
    one = float(np.mean([mean_r(truth, list(d)) for d in drawn]))
    spread = float(drawn.std() / np.concatenate(truth).std())
    return {
        "lip_opening_r_one_sample": Figure(value=one, unit="r", better="higher"),
        f"lip_opening_r_mean_of_{samples}": Figure(value=mean_r(truth, list(drawn.mean(0))), unit="r", better="higher"),
        "spread_ratio_one_sample": Figure(value=spread, unit="1", goal=0.9, better="higher"),
    }


def stranger_figures(folder: Path, stack: MotionStack, space: MotionSpace) -> dict[str, Figure]:
    """Other speakers, never trained on; each clip's motion is by its own calibration."""
    scores, energies = [], []
    for clip in load_clips(folder):
        lips = lip_clip(clip, clip.motion, stack)
        truth = space.lip_opening(clip.motion)
        scores.append(mean_r([truth], [space.lip_opening(stream_motion(lips, stack, stack.generator))]))
        energies.append(mean_r([truth], [lips.energy]))
    return {
        "strangers_lip_opening_r": Figure(value=float(np.mean(scores)), unit="r", better="higher"),
        "strangers_lip_opening_r_energy_alone": Figure(value=float(np.mean(energies)), unit="r", better="higher"),
    }


def _shuffle(clip: LipClip, seed: int) -> LipClip:
    committed, edge = shuffled(clip.committed[None], clip.edge[None], seed=seed)
    return replace(clip, committed=committed[0], edge=edge[0])


def _lag(made: list[Array], truth: list[Array], lag: int) -> float:
    """Mean r when the made motion is read `lag` frames later."""
    pairs = [
        (m[max(0, lag) : len(m) + min(0, lag)], t[max(0, -lag) : len(t) + min(0, -lag)])
        for m, t in zip(made, truth, strict=True)
    ]
    return mean_r([t for _, t in pairs], [m for m, _ in pairs])
