"""The one class that serving uses: hops of audio in, pictures out, for a batch of sessions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kernels.backend import Backend
from model.avatar import load_avatar
from model.errors import InputError
from model.motion.idle import IdleMotion
from model.motion.retarget import Retarget
from model.motion.space import LID_CODES, load_motion_space
from model.motion_stack import ASSETS
from model.radiance.camera import HeadPose
from model.radiance.serving import AvatarRenderer
from model.speech.encoder_graph import best_device
from model.speech.log_mel import check_audio
from model.speech_to_motion import SpeechToMotion
from model.state import Controls, HopOutput, StreamState

FPS = 25
SAMPLE_RATE = 16_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSpec:
    """What a session has to know of the pipeline."""

    avatar: str
    size: int
    hop_frames: int
    lookahead_frames: int
    hop_samples: int
    instruction_set: str
    num_steps: int
    fps: int = FPS
    sample_rate: int = SAMPLE_RATE


class AvatarPipeline:
    """Speech encoder, motion diffusion and one avatar's renderer. Weights only; sessions own their states."""

    def __init__(self, drive: SpeechToMotion, renderer: AvatarRenderer, retarget: Retarget, spec: PipelineSpec) -> None:
        self.drive = drive
        self.renderer = renderer
        self.retarget = retarget
        self.spec = spec
        self._space = load_motion_space()

    @classmethod
    def load(
        cls,
        avatar: Path | str | None = None,
        *,
        models: Path | None = None,
        whisper: Path | None = None,
        size: int = 256,
        steps: int = 2,
        threads: int = 1,
        temperature: float = 0.0,
        backend: Backend = "auto",
        instruction_set: str = "auto",
    ) -> AvatarPipeline:
        """Load the models of a folder (None: the shipped ones) and an avatar folder (None: the default avatar).

        `whisper` is the Whisper checkpoint that `models` was trained on, if on one. The encoder runs on a GPU if there
        is one.

        Raises:
            ModelError: Something is missing, damaged, or made for other weights.
        """
        drive = SpeechToMotion.load(
            models or ASSETS, whisper=whisper, num_steps=steps, temperature=temperature, device=best_device()
        )
        loaded = load_avatar(avatar, motion_space=load_motion_space().hash)
        renderer = AvatarRenderer(
            loaded, size_px=size, threads=threads, backend=backend, instruction_set=instruction_set
        )
        spec = PipelineSpec(
            avatar=loaded.config.name,
            size=size,
            hop_frames=drive.hop_frames,
            lookahead_frames=drive.lookahead_frames,
            hop_samples=drive.hop_samples,
            instruction_set=renderer.marcher.instruction_set,
            num_steps=steps,
        )
        return cls(drive, renderer, Retarget.load(loaded.folder), spec)

    @property
    def mouth_box(self) -> tuple[float, float, float, float]:
        """Where the mouth is in the frontal picture: x0, y0, x1, y1 as shares of its size."""
        return self.renderer.avatar.config.mouth_box

    def new_state(self, seed: int) -> StreamState:
        """State of a session that has heard nothing; equal seeds and audio give equal frames."""
        return StreamState(
            seed=seed,
            drive=self.drive.new_state(seed),
            idle=IdleMotion(seed),
            next_frame=-self.spec.lookahead_frames,
        )

    def step(
        self, audio: NDArray[np.float32], controls: Sequence[Controls], states: Sequence[StreamState]
    ) -> list[HopOutput]:
        """One hop of every session.

        Args:
            audio: (B, hop_samples), -1..1, 16 kHz.
            controls: One per session.
            states: One per session; advanced in place.

        Raises:
            InputError: The shapes disagree, or a row is not audio (NaN, not scaled to -1..1); no session has advanced.
        """
        self._check(audio, controls, states)
        motions, stage_ms = self.motion(audio, states)
        outputs = []
        for row, (control, state) in enumerate(zip(controls, states, strict=True)):
            outputs.append(self._render(motions[row], control, state, dict(stage_ms)))
            state.next_frame += self.spec.hop_frames
        return outputs

    def motion(
        self, audio: NDArray[np.float32], states: Sequence[StreamState]
    ) -> tuple[NDArray[np.float32], dict[str, float]]:
        """The avatar's motion (B, hop_frames, 32) without idle parts, and the time that each stage took."""
        clock = _StageClock(len(states))
        drives = [s.drive for s in states]
        self.drive.listen(list(audio), drives)
        clock.lap("mel")
        features = self.drive.features(drives)
        clock.lap("encoder")
        latents = self.drive.sample(features, drives)
        clock.lap("sampler")
        decoded = self.drive.decode(latents, features, drives)
        motions = self.retarget(self._space.clamp(decoded))
        clock.lap("decode")
        return motions, clock.stage_ms

    def _render(
        self, motion: NDArray[np.float32], control: Controls, state: StreamState, stage_ms: dict[str, float]
    ) -> HopOutput:
        skip = max(0, -state.next_frame)  # frames before the stream began are not made
        size = self.spec.size
        count = max(0, self.spec.hop_frames - skip)
        frames = np.empty((count, size * 3 // 2, size), np.uint8)
        stage_ms |= {"render": 0.0, "color": 0.0}
        shown = motion[skip:].copy()
        for i in range(count):
            pose = self._idle(shown[i], control, state, state.next_frame + skip + i)
            start = time.perf_counter()
            rgba = self.renderer.render_head(shown[i], pose)
            middle = time.perf_counter()
            frames[i] = self.renderer.composite(rgba)
            stage_ms["render"] += (middle - start) * 1000.0
            stage_ms["color"] += (time.perf_counter() - middle) * 1000.0
        return HopOutput(state.next_frame + skip, frames, shown, stage_ms)

    def _idle(self, motion: NDArray[np.float32], control: Controls, state: StreamState, frame: int) -> HeadPose:
        """Add blinks, gaze and sway to a frame's motion; returns its head pose."""
        idle = state.idle.motion(frame)
        if not control.idle:
            idle[LID_CODES.stop :] = 0.0
        motion += idle
        sway = state.idle.head_deg(frame) if control.idle else np.zeros(3, np.float32)
        return HeadPose(
            yaw_deg=control.yaw_deg + float(sway[0]),
            pitch_deg=control.pitch_deg + float(sway[1]),
            roll_deg=control.roll_deg + float(sway[2]),
        )

    def _check(self, audio: NDArray[np.float32], controls: Sequence[Controls], states: Sequence[StreamState]) -> None:
        wanted = (len(states), self.spec.hop_samples)
        if audio.shape != wanted or len(controls) != len(states):
            raise InputError(f"need audio {wanted} and {len(states)} controls, got {audio.shape}, {len(controls)}")
        for row in audio:
            check_audio(row)  # here, before any session of the batch has heard its part


class _StageClock:
    """Splits the time of shared work over the sessions of a batch."""

    def __init__(self, sessions: int) -> None:
        self.sessions = max(1, sessions)
        self.stage_ms: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.stage_ms[stage] = (now - self._last) * 1000.0 / self.sessions
        self._last = now


__all__ = ["FPS", "SAMPLE_RATE", "AvatarPipeline", "PipelineSpec"]
