"""What the voice gate costs where somebody speaks, and what it keeps still where nobody does: three gates in one run.

| gate | what |
|---|---|
| served | as a session has it |
| no_breath | without the breath before a sentence: nothing but speech opens it |
| open | never shut: what the model itself makes of any sound |

Every sound is heard and sampled once; only gate and smoothing differ. Speech is judged by lip opening against tracked
video (mean prediction, one sample and the mean of several, as `model.evaluation.lips` does), noise by
`model.evaluation.speech_drive`: movement as a share of that between first and last word of the held-out clips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from model.data.features import ClipFeatures, load_clips
from model.data.grid import SILENCES
from model.diffusion.generator import MotionGenerator
from model.errors import DataError
from model.evaluation.bootstrap import mean_estimate
from model.evaluation.hearing import FRAME_SAMPLES
from model.evaluation.lips import LipClip, heard_clip, lip_clip, sampled_figures
from model.evaluation.speech_drive import GOAL_SHARE, Movement, made_sounds, movement, recorded_sounds
from model.motion.space import MOTION_SIZE, MotionSpace, load_motion_space
from model.motion.voice_gate import ALWAYS_OPEN, GateConfig
from model.results import Figure
from model.speech_to_motion import SpeechToMotion
from model.training.motion_targets import load_motion

GATES: Final[Mapping[str, GateConfig]] = {
    "served": GateConfig(),
    "no_breath": GateConfig(breath_frames=0.0),
    "open": ALWAYS_OPEN,
}
JUDGED: Final = "served"
GOAL_R: Final = 0.75
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Spoken:
    """Clips of one set as heard, and what the model makes of each before the gate: mean, and draws at temperature 1."""

    clips: Sequence[LipClip]
    mean: Sequence[Array]  # (hops, hop, 32) of each clip
    draws: Sequence[Sequence[Array]]
    words: Sequence[tuple[int, int]]  # first frame of the first word, end of the last; (0, 0) if not known


def evaluate_gate(
    grid: Path, *, strangers: Path | None = None, sounds: Path | None = None, samples: int = 8
) -> dict[str, Figure]:
    """All figures. `sounds`: a folder of noises as `evaluate speech` takes it.

    Raises:
        DataError: A folder holds no clips, or the clips of `grid` have no word times.
    """
    drive, space = SpeechToMotion.load(), load_motion_space()
    sets = {"grid_val": _spoken(load_clips(grid / "val"), load_motion(grid / "val"), drive, samples)}
    if strangers is not None:
        others = load_clips(strangers)
        sets["strangers"] = _spoken(others, {c.key: c.motion for c in others}, drive, samples)
    noises = {kind: [_heard(s, drive) for s in parts] for kind, parts in _noises(sounds).items()}
    figures: dict[str, Figure] = {}
    for name, gate in GATES.items():
        gated = replace(drive, gate=gate)
        for group, spoken in sets.items():
            figures |= {f"{name}.{group}.{k}": f for k, f in speech_figures(spoken, gated, space, name).items()}
        level = speech_level(sets["grid_val"], gated, space)
        figures |= {f"{name}.{k}": f for k, f in noise_shares(noises, gated, space, level, name).items()}
    return figures


def raw_motion(clips: Sequence[LipClip], drive: SpeechToMotion, sampler: MotionGenerator, seed: int) -> list[Array]:
    """Motion (hops, hop, 32) of each clip before gate and smoothing, clips side by side."""
    states = [sampler.new_state(seed) for _ in clips]
    quiet = torch.zeros_like(clips[0].features[0])
    made = []
    for hop in range(max(len(c.features) for c in clips)):
        features = torch.stack([c.features[hop] if hop < len(c.features) else quiet for c in clips])
        made.append(drive.stack.decode(sampler.step(features, states))[:, -drive.hop_frames :])
    return [row[: len(c.features)] for row, c in zip(np.stack(made, 1), clips, strict=True)]


def gated_motion(clip: LipClip, raw: Array, drive: SpeechToMotion) -> Array:
    """The same motion (T, 32) through the drive's gate and smoothing."""
    state, parts = drive.new_state(0), []
    for hop, part in enumerate(raw):
        state.voice.probability = clip.voice[hop]
        parts.append(drive.finish(part[None].copy(), clip.features[hop][None], [state])[0])
    ahead = drive.lookahead_frames
    return np.concatenate(parts)[ahead : ahead + len(clip.truth)]


def speech_figures(spoken: Spoken, drive: SpeechToMotion, space: MotionSpace, gate: str) -> dict[str, Figure]:
    """Lip opening against the truth, through one gate."""
    truth = [space.lip_opening(c.truth) for c in spoken.clips]
    made = [space.lip_opening(gated_motion(c, m, drive)) for c, m in zip(spoken.clips, spoken.mean, strict=True)]
    found = mean_estimate(np.array([np.corrcoef(t, m)[0, 1] for t, m in zip(truth, made, strict=True)]))
    goal, spread = GOAL_R if gate == JUDGED else None, found.half_width if found.clips > 1 else None
    figures = {"lip_opening_r": Figure(value=found.mean, unit="r", goal=goal, better="higher", spread=spread)}
    drawn = [[gated_motion(c, m, drive) for c, m in zip(spoken.clips, draw, strict=True)] for draw in spoken.draws]
    return figures | sampled_figures(spoken.clips, drawn, space)


def speech_level(spoken: Spoken, drive: SpeechToMotion, space: MotionSpace) -> Movement:
    """Mean movement from first word to last.

    Raises:
        DataError: No clip has words.
    """
    moved = [
        movement(gated_motion(clip, made, drive)[first:last], space)
        for clip, made, (first, last) in zip(spoken.clips, spoken.mean, spoken.words, strict=True)
        if last - first > 1
    ]
    if not moved:
        raise DataError("no clip has word times; the speech level needs GRID s1 with its alignments")
    return Movement(float(np.mean([m.velocity for m in moved])), float(np.mean([m.lips for m in moved])))


def noise_shares(
    noises: Mapping[str, Sequence[tuple[LipClip, Array]]],
    drive: SpeechToMotion,
    space: MotionSpace,
    level: Movement,
    gate: str,
) -> dict[str, Figure]:
    """Movement in each kind of noise, share of that in speech: mean over its sounds."""
    goal, figures = GOAL_SHARE if gate == JUDGED else None, {}
    for kind, parts in noises.items():
        moved = [movement(space.clamp(gated_motion(clip, raw, drive)), space) for clip, raw in parts]
        shares = {
            "velocity": [m.velocity / level.velocity for m in moved],
            "lips": [m.lips / level.lips for m in moved],
        }
        for name, values in shares.items():
            figures[f"{kind}_{name}"] = Figure(
                value=float(np.mean(values)), unit="share of speech", goal=goal, better="lower"
            )
    return figures


def _spoken(clips: Sequence[ClipFeatures], motion: Mapping[str, Array], drive: SpeechToMotion, samples: int) -> Spoken:
    heard = [lip_clip(c, motion[c.key], drive) for c in clips]
    g = drive.stack.generator
    lively = MotionGenerator(g.unet, g.rest_latent, num_steps=g.num_steps, temperature=1.0)
    draws = [raw_motion(heard, drive, lively, seed) for seed in range(samples)]
    return Spoken(heard, raw_motion(heard, drive, g, 0), draws, [_words(c) for c in clips])


def _heard(sound: Array, drive: SpeechToMotion) -> tuple[LipClip, Array]:
    frames = len(sound) // FRAME_SAMPLES
    clip = heard_clip(sound[: frames * FRAME_SAMPLES], np.zeros((frames, MOTION_SIZE), np.float32), drive)
    return clip, raw_motion([clip], drive, drive.stack.generator, 0)[0]


def _noises(sounds: Path | None) -> dict[str, list[Array]]:
    return made_sounds() | (recorded_sounds(sounds) if sounds is not None else {})


def _words(clip: ClipFeatures) -> tuple[int, int]:
    words = [w for w in clip.words if w.text not in SILENCES]
    return (int(words[0].start_frame), int(np.ceil(words[-1].end_frame))) if words else (0, 0)
