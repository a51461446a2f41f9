"""Audio hops to motion, as served: ears, voice activity, sampler, decoder, gate and smoothing. Everything that measures
the mouth goes through here, so that it measures what is served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.diffusion.generator import MotionGenerator, MotionState, StreamTiming
from model.diffusion.multi_view import MultiViewMotion
from model.motion.rest_pose import rest_pose
from model.motion.smoothing import Smoother, SmoothingConfig, SmoothingState
from model.motion.space import MOTION_SIZE, MotionSpace, load_motion_space
from model.motion.view_bias import ViewBias
from model.motion.voice_gate import ALWAYS_OPEN, GateConfig, GateState, open_gate
from model.motion_stack import ASSETS, MotionStack, check_views, load_motion_stack
from model.speech.log_mel import SAMPLE_RATE
from model.speech.stream import SpeechState
from model.speech.voice_activity import VoiceActivity, VoiceActivityState, load_voice_activity

REST_SECONDS = 2.0
"""How long silence is heard until the mouth has settled."""
Array = NDArray[np.float32]


@dataclass
class DriveState:
    """What a session's ears and mouth remember between hops."""

    speech: SpeechState
    motion: MotionState
    voice: VoiceActivityState = field(default_factory=VoiceActivityState)
    gate: GateState = field(default_factory=GateState)
    smooth: SmoothingState = field(default_factory=SmoothingState)


@dataclass(frozen=True)
class SpeechToMotion:
    """Weights only; sessions own their states. A hop is `hop_frames` of sound in, and as many frames of motion out.

    The motion of a hop is that of the frames `lookahead_frames` before the sound's end. Where nobody speaks it is
    `rest_motion` (32,): `load` takes what the model itself does in silence, a bare construction the neutral face.
    """

    stack: MotionStack
    voice: VoiceActivity
    gate: GateConfig = field(default_factory=GateConfig)
    rest_motion: Array = field(default_factory=lambda: np.zeros(MOTION_SIZE, np.float32))
    smoother: Smoother | None = None
    views: MultiViewMotion | None = None

    @classmethod
    def load(
        cls,
        folder: Path = ASSETS,
        *,
        whisper: Path | None = None,
        num_steps: int = 2,
        temperature: float = 0.0,
        smoothing: float = 1.0,
        num_views: int = 1,
        device: torch.device | None = None,
        timing: StreamTiming | None = None,
        instruction_set: str = "auto",
    ) -> SpeechToMotion:
        """Load the models of one folder, and voice activity; the arguments are those of `load_motion_stack`.

        `smoothing` is 0 (off) to 1, so much that the hops of the mean motion join as evenly as frames do inside them.
        `num_views` 3 or 5 aggregates motion over so many head poses. `timing` cuts the stream in another way than the
        network was trained with (`LOW_LATENCY`).

        Raises:
            ModelError: A file is missing or damaged, or made for other weights.
            ConfigError: `smoothing` is not 0..1, or the motion model knows no such views.
        """
        space = load_motion_space()
        smoother = Smoother(space, SmoothingConfig(strength=smoothing))
        stack = load_motion_stack(
            folder,
            whisper=whisper,
            num_steps=num_steps,
            temperature=temperature,
            device=device,
            timing=timing,
            instruction_set=instruction_set,
        )
        drive = cls(stack, load_voice_activity(), smoother=smoother, views=_views(stack, space, num_views))
        return replace(drive, rest_motion=silent_motion(drive, space))

    @property
    def hop_frames(self) -> int:
        """Frames a hop."""
        return self.stack.speech.hop_frames

    @property
    def lookahead_frames(self) -> int:
        """Frames of sound beyond a hop that its motion waits for."""
        return self.stack.speech.lookahead_frames

    @property
    def hop_samples(self) -> int:
        """Samples a hop, at 16 kHz."""
        return self.stack.speech.hop_samples

    def new_state(self, seed: int) -> DriveState:
        """State of a session that has heard nothing."""
        state = DriveState(self.stack.speech.new_state(), self.stack.generator.new_state(seed))
        state.gate = self.gate.new_state()
        if self.smoother is not None:
            state.smooth = SmoothingState.start(self.rest_motion, self.smoother.space)
        return state

    def listen(self, audio: Sequence[Array], states: Sequence[DriveState]) -> None:
        """Take one hop of each session's sound (hop_samples,); changes the states."""
        for part, state in zip(audio, states, strict=True):
            self.stack.speech.advance(part, state.speech)
        self.voice.advance(audio, [s.voice for s in states])

    def features(self, states: Sequence[DriveState]) -> Tensor:
        """Speech features (B, hop + lookahead, 256) of what was last heard."""
        return self.stack.speech.features([s.speech for s in states])

    def sample(
        self, features: Tensor, states: Sequence[DriveState], *, generator: MotionGenerator | None = None
    ) -> Tensor:
        """Latents of the hop with their past, by the stack's sampler or another; changes the states."""
        return (generator or self.stack.generator).step(features, [s.motion for s in states])

    def decode(self, latents: Tensor, features: Tensor, states: Sequence[DriveState]) -> Array:
        """Motion (B, hop_frames, 32) of `sample`'s latents, at rest where nobody speaks; changes the states."""
        return self.finish(self.stack.decode(latents)[:, -self.hop_frames :], features, states)

    def move(self, features: Tensor, states: Sequence[DriveState]) -> Array:
        """The model's motion (B, hop_frames, 32) of the hop, from one view or several; changes the states."""
        if self.views is None:
            return self.stack.decode(self.sample(features, states))[:, -self.hop_frames :]
        return np.array(self.views.step(features, [s.motion for s in states]).numpy())

    def finish(
        self, motion: Array, features: Tensor, states: Sequence[DriveState], rests: Sequence[Array] | None = None
    ) -> Array:
        """The same motion, blended to rest where nobody speaks, and smoothed; changes it and the states.

        `rests` holds a rest pose (32,) for each session; None takes `rest_motion` for all.
        """
        for row, state in enumerate(states):
            rest = self.rest_motion if rests is None else rests[row]
            share = open_gate(features[row].numpy(), state.voice.probability, state.gate, self.hop_frames, self.gate)
            motion[row] = rest + share[:, None] * (motion[row] - rest)
            if self.smoother is not None:
                motion[row] = self.smoother(motion[row], state.smooth)
        return motion

    def hop(self, audio: Sequence[Array], states: Sequence[DriveState]) -> Array:
        """All of it: one hop of each session's sound to its motion (B, hop_frames, 32)."""
        self.listen(audio, states)
        features = self.features(states)
        return self.finish(self.move(features, states), features, states)


def _views(stack: MotionStack, space: MotionSpace, num_views: int) -> MultiViewMotion | None:
    if num_views == 1:
        return None
    bias = ViewBias.load()
    check_views(stack, bias)
    return MultiViewMotion(stack.generator, stack.vae, bias, space, num_views=num_views)


def silent_motion(drive: SpeechToMotion, space: MotionSpace) -> Array:
    """Rest pose (32,) to which a model settles that hears nothing: gate open, temperature 0."""
    listening = replace(drive, gate=ALWAYS_OPEN, smoother=None)
    g = drive.stack.generator
    cut = StreamTiming(hop_frames=g.config.hop_frames, lookahead_frames=g.config.lookahead_frames)
    calm = MotionGenerator(
        g.unet, g.rest_latent, num_steps=g.num_steps, temperature=0.0, timing=cut, instruction_set=g.instruction_set
    )
    state, silence = listening.new_state(0), np.zeros(drive.hop_samples, np.float32)
    latents = features = listening.features([state])
    for _ in range(-(-round(REST_SECONDS * SAMPLE_RATE) // drive.hop_samples)):
        listening.listen([silence], [state])
        features = listening.features([state])
        latents = listening.sample(features, [state], generator=calm)
    return rest_pose(listening.decode(latents, features, [state])[0, -1], space)


def motion_of_sound(audio: Array, drive: SpeechToMotion, *, seed: int = 0) -> tuple[Array, Array]:
    """Motion (T, 32) and gate (T,) of a whole sound of T x 640 samples, hop by hop as a session hears it."""
    state = drive.new_state(seed)
    frames = -(-len(audio) // (drive.hop_samples // drive.hop_frames))
    hops = -(-(frames + drive.lookahead_frames) // drive.hop_frames)
    padded = np.pad(audio, (0, hops * drive.hop_samples - len(audio)))
    motion, gate = [], []
    for part in padded.reshape(hops, drive.hop_samples):
        motion.append(drive.hop([part], [state])[0])
        gate += [state.gate.value] * drive.hop_frames
    ahead = drive.lookahead_frames
    return np.concatenate(motion)[ahead : ahead + frames], np.array(gate, np.float32)[ahead : ahead + frames]
