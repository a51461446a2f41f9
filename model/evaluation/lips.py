"""Do the lips follow speech, and is it the words they follow? Held-out real video against the streamed motion model.

Every clip's sound goes through the serving path (streaming log-mel, windowed encoder, few-step sampler, decoder,
voice gate) hop by hop, and the lip opening is correlated with that of the tracked video (Pearson r per clip, mean).
Controls in the same run: log energy alone; and the same model with everything but prosody shuffled in time (blocks
of three frames within the clip): equal energy, other phonemes. All other controls and scores are rows of
`model.evaluation.lip_evaluation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.data.features import ClipFeatures
from model.diffusion.generator import MotionGenerator
from model.evaluation.lip_baselines import frame_energy
from model.evaluation.lip_metrics import shift_correlations
from model.motion.space import MotionSpace
from model.motion.voice_gate import ALWAYS_OPEN
from model.results import Figure
from model.speech_to_motion import SpeechToMotion
from model.training.motion_check import mean_r, shuffled

SHUFFLES = 5
SAMPLER_STEPS = 4
"""Least number of steps of the sampler at temperature 1."""
LONGEST_LAG_FRAMES = 4
Array = NDArray[np.float32]


@dataclass(frozen=True)
class LipClip:
    """A clip's features at every hop, its tracked motion, and its loudness."""

    features: Tensor  # (hops, hop + lookahead, 256) as each hop saw them
    voice: tuple[float, ...]  # voice activity at each hop
    truth: Array  # (T, 32)
    energy: Array  # (T,) log10 mean power of each frame


def lip_clip(clip: ClipFeatures, motion: Array, drive: SpeechToMotion) -> LipClip:
    """Stream a clip's own sound and keep the features of every hop; motion (T, 32) tracked."""
    return heard_clip(clip.sound, motion, drive)


def heard_clip(sound: Array, motion: Array, drive: SpeechToMotion) -> LipClip:
    """The same for any sound (samples,), -1..1, 16 kHz, that says what a mouth of T frames does."""
    frames = len(motion)
    hops = -(-(frames + drive.lookahead_frames) // drive.hop_frames)
    length = hops * drive.hop_samples
    audio = np.pad(sound, (0, max(0, length - len(sound))))[:length]
    state, features, voice = drive.new_state(0), [], []
    for part in audio.reshape(hops, drive.hop_samples):
        drive.listen([part], [state])
        features.append(drive.features([state])[0])
        voice.append(state.voice.probability)
    return LipClip(torch.stack(features), tuple(voice), motion, frame_energy(sound, frames))


def stream_motion(
    clips: Sequence[LipClip], drive: SpeechToMotion, *, generator: MotionGenerator | None = None, seed: int = 0
) -> list[Array]:
    """Motion (T, 32) of each clip's features through sampler, decoder and gate, as served (without idle parts).

    Clips run side by side, one session each; every session has the same seed.
    """
    states = [drive.new_state(seed) for _ in clips]
    quiet = torch.zeros_like(clips[0].features[0])  # after a clip's end; what it makes is cut off
    parts = []
    for hop in range(max(len(c.features) for c in clips)):
        running = [hop < len(c.features) for c in clips]
        features = torch.stack([c.features[hop] if on else quiet for c, on in zip(clips, running, strict=True)])
        for clip, state, on in zip(clips, states, running, strict=True):
            state.voice.probability = clip.voice[hop] if on else 0.0
        parts.append(drive.decode(drive.sample(features, states, generator=generator), features, states))
    motion, ahead = np.concatenate(parts, 1), drive.lookahead_frames
    return [row[ahead : ahead + len(c.truth)] for row, c in zip(motion, clips, strict=True)]


def ungated_motion(clips: Sequence[LipClip], drive: SpeechToMotion) -> list[Array]:
    """The served model without its voice gate: what the gate costs where somebody speaks."""
    return stream_motion(clips, replace(drive, gate=ALWAYS_OPEN))


def shuffled_motion(clips: Sequence[LipClip], drive: SpeechToMotion) -> list[list[Array]]:
    """The served model on shuffled phonemes, `SHUFFLES` times: draws x clips."""
    ahead = drive.lookahead_frames
    return [stream_motion([_shuffle(c, ahead, seed) for c in clips], drive) for seed in range(SHUFFLES)]


def sampled_motion(clips: Sequence[LipClip], drive: SpeechToMotion, samples: int) -> list[list[Array]]:
    """Samples at temperature 1, the other end of the serving option: draws x clips."""
    g = drive.stack.generator
    sampler = MotionGenerator(g.unet, g.rest_latent, num_steps=max(SAMPLER_STEPS, g.num_steps), temperature=1.0)
    return [stream_motion(clips, drive, generator=sampler, seed=seed) for seed in range(samples)]


def correlation_figures(clips: Sequence[LipClip], drive: SpeechToMotion, space: MotionSpace) -> dict[str, Figure]:
    """Mean prediction against truth, beside its controls."""
    return following_figures(clips, stream_motion(clips, drive), shuffled_motion(clips, drive), space)


def following_figures(
    clips: Sequence[LipClip], made: Sequence[Array], mixed: Sequence[Sequence[Array]], space: MotionSpace
) -> dict[str, Figure]:
    """The same for motion already made: `made` by clip, `mixed` draws x clips of the shuffled control."""
    truth = [space.lip_opening(c.truth) for c in clips]
    opening = [space.lip_opening(m) for m in made]
    r = mean_r(truth, opening)
    width = mean_r([space.lip_width(c.truth) for c in clips], [space.lip_width(m) for m in made])
    energy = mean_r(truth, [c.energy for c in clips])
    control = [mean_r(truth, [space.lip_opening(m) for m in draw]) for draw in mixed]
    lags = np.mean([shift_correlations(o, t, LONGEST_LAG_FRAMES) for o, t in zip(opening, truth, strict=True)], 0)
    spread = float(np.std(np.concatenate(opening)) / np.std(np.concatenate(truth)))
    return {
        "lip_opening_r": Figure(value=r, unit="r", goal=0.75, better="higher"),
        "lip_opening_r_energy_alone": Figure(value=energy, unit="r", better="higher"),
        "lip_opening_r_shuffled_phonemes": Figure(
            value=float(np.mean(control)), unit="r", better="lower", spread=float(np.ptp(control) / 2)
        ),
        "drop_with_shuffled_phonemes": Figure(value=r - float(np.mean(control)), unit="r", goal=0.3, better="higher"),
        "lip_width_r": Figure(value=width, unit="r", better="higher"),
        "best_lag_frames": Figure(
            value=float(abs(int(lags.argmax()) - LONGEST_LAG_FRAMES)), unit="frames", goal=0.0, better="lower"
        ),
        "spread_ratio_mean_prediction": Figure(value=spread, unit="1", better="higher"),
    }


def sampled_figures(
    clips: Sequence[LipClip], drawn: Sequence[Sequence[Array]], space: MotionSpace
) -> dict[str, Figure]:
    """One sample at temperature 1, and the mean of several, from draws x clips."""
    truth = [space.lip_opening(c.truth) for c in clips]
    openings = [[space.lip_opening(m) for m in draw] for draw in drawn]
    one = float(np.mean([mean_r(truth, draw) for draw in openings]))
    means = [np.mean([draw[i] for draw in openings], 0) for i in range(len(clips))]
    spread = np.concatenate([o for draw in openings for o in draw]).std() / np.concatenate(truth).std()
    return {
        "lip_opening_r_one_sample": Figure(value=one, unit="r", better="higher"),
        f"lip_opening_r_mean_of_{len(drawn)}": Figure(value=mean_r(truth, means), unit="r", better="higher"),
        "spread_ratio_one_sample": Figure(value=float(spread), unit="1", goal=0.9, better="higher"),
    }


def stranger_figures(clips: Sequence[LipClip], made: Sequence[Array], space: MotionSpace) -> dict[str, Figure]:
    """Other speakers, never trained on; each clip's motion is by its own calibration."""
    truth = [space.lip_opening(c.truth) for c in clips]
    r = mean_r(truth, [space.lip_opening(m) for m in made])
    energy = mean_r(truth, [c.energy for c in clips])
    return {
        "strangers_lip_opening_r": Figure(value=r, unit="r", better="higher"),
        "strangers_lip_opening_r_energy_alone": Figure(value=energy, unit="r", better="higher"),
    }


def _shuffle(clip: LipClip, ahead: int, seed: int) -> LipClip:
    """Permute everything but prosody in blocks of three frames within the clip, alike for hop and look-ahead."""
    frames, hop = len(clip.truth), clip.features.shape[1] - ahead
    committed, edge = clip.features[:, :hop].flatten(0, 1), clip.features[:, hop:].flatten(0, 1)
    inside, outside = slice(ahead, ahead + frames), slice(0, frames)
    mixed = shuffled(committed[None, inside], edge[None, outside], seed=seed)
    committed[inside], edge[outside] = mixed[0][0], mixed[1][0]
    rows = torch.cat([committed.unflatten(0, (-1, hop)), edge.unflatten(0, (-1, ahead))], 1)
    return replace(clip, features=rows)
