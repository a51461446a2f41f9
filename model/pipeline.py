"""The one class that serving uses: hops of audio in, pictures out, for a batch of sessions."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.backend import Backend
from kernels.native import INSTRUCTION_SETS
from model.avatar import load_avatar
from model.diffusion.generator import LOW_LATENCY
from model.errors import InputError
from model.motion.head_motion import HeadMotion, HeadMotionState
from model.motion.idle import IdleMotion
from model.motion.mood import Moods
from model.motion.own_idle import OwnIdle
from model.motion.rest_pose import rest_pose_on
from model.motion.retarget import Retarget
from model.motion.space import GAZE_CODES, LID_CODES, MOTION_SIZE, load_motion_space
from model.motion_stack import ASSETS
from model.provenance.consent import ConsentPolicy
from model.provenance.marker import FrameMarker, MarkSettings
from model.radiance.camera import HeadPose
from model.radiance.compositor import Transparent
from model.radiance.serving import AvatarRenderer
from model.radiance.upscale import Upscaler
from model.speech.encoder_graph import best_device
from model.speech.log_mel import check_audio
from model.speech.speech_model import PROSODY_SLICE
from model.speech_to_motion import SpeechToMotion
from model.state import Controls, HopOutput, ShownAvatar, StreamState

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


@dataclass(frozen=True)
class SpokenMotion:
    """What speech makes a batch of faces do in one hop, before idle motion and mood."""

    face: NDArray[np.float32]  # (B, hop_frames, 32), the avatar's
    head_deg: NDArray[np.float32]  # (B, hop_frames, 3): yaw, pitch, roll at full head motion
    stage_ms: dict[str, float]  # of each session


class AvatarPipeline:
    """Speech encoder, motion diffusion and one avatar's renderer. Weights only; sessions own their states."""

    def __init__(self, drive: SpeechToMotion, renderer: AvatarRenderer, retarget: Retarget, spec: PipelineSpec) -> None:
        self._space = load_motion_space()
        self._speaker_rest = drive.rest_motion
        self.shown = self._show(renderer, retarget)
        self.drive = replace(drive, rest_motion=self.shown.rest_motion)
        self.spec = spec
        self.marker: FrameMarker | None = None
        self._consent_policy: ConsentPolicy | None = None
        self.arkit_names = self._space.arkit_names
        self._moods = Moods(self._space)
        self._head_motion = HeadMotion()

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
        smoothing: float = 1.0,
        views: int = 1,
        backend: Backend = "auto",
        instruction_set: str = "auto",
        upscale: bool = False,
        device: torch.device | None = None,
        marks: MarkSettings | None = None,
        consent_policy: ConsentPolicy | None = None,
        low_latency: bool = False,
    ) -> AvatarPipeline:
        """Load the models of a folder (None: the shipped ones) and an avatar folder (None: the default avatar).

        `whisper` is the Whisper checkpoint that `models` was trained on, if on one. The encoder runs on `device`
        (None: on a GPU if there is one). `smoothing` (0..1) and `views` (1, 3, 5) are those of `SpeechToMotion.load`.
        `backend` is the renderer's; `instruction_set` names the level of the native library for renderer and networks.
        With `upscale` heads are rendered at half the size and enlarged by a network (trained for 512 px).
        `low_latency` gives hops of one frame with one of look-ahead: 60 ms of algorithmic delay in the place of 140.
        Frames are marked as `marks` says; with None, for measurements of the bare picture, they are not.

        Raises:
            ModelError: Something is missing, damaged, or made for other weights.
        """
        drive = SpeechToMotion.load(
            models or ASSETS,
            whisper=whisper,
            num_steps=steps,
            temperature=temperature,
            smoothing=smoothing,
            num_views=views,
            device=device or best_device(),
            timing=LOW_LATENCY if low_latency else None,
            instruction_set=instruction_set if instruction_set in INSTRUCTION_SETS else "auto",
        )
        loaded = load_avatar(avatar, motion_space=load_motion_space().hash, policy=consent_policy)
        renderer = AvatarRenderer(
            loaded,
            size_px=size,
            threads=threads,
            backend=backend,
            instruction_set=instruction_set,
            upscaler=Upscaler.load() if upscale else None,
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
        pipeline = cls(drive, renderer, Retarget.load(loaded.folder), spec)
        pipeline._consent_policy = consent_policy
        if marks is not None:
            pipeline.marker = FrameMarker(marks, size=size, mouth_box=loaded.config.mouth_box)
        return pipeline

    @property
    def renderer(self) -> AvatarRenderer:
        """Of the avatar it was loaded with."""
        return self.shown.renderer

    @property
    def retarget(self) -> Retarget:
        """Of the avatar it was loaded with."""
        return self.shown.retarget

    def load_shown(self, avatar: Path | str) -> ShownAvatar:
        """Load another avatar, to be shown in sessions of this pipeline; may run in another thread than `step`.

        Raises:
            ModelError: Its folder is missing, damaged, or made for another motion space.
        """
        loaded = load_avatar(avatar, motion_space=self._space.hash, policy=self._consent_policy)
        renderer = self.renderer.like(loaded)
        retarget = Retarget.load(loaded.folder)
        return self._show(renderer, retarget)

    def _show(self, renderer: AvatarRenderer, retarget: Retarget) -> ShownAvatar:
        rest = rest_pose_on(self._speaker_rest, retarget, self._space)
        return ShownAvatar(renderer, retarget, rest, OwnIdle.load(renderer.avatar.folder))

    @property
    def mouth_box(self) -> tuple[float, float, float, float]:
        """Where the mouth is in the frontal picture: x0, y0, x1, y1 as shares of its size."""
        return self.renderer.avatar.config.mouth_box

    def new_state(self, seed: int, *, shown: ShownAvatar | None = None, first_frame: int = 0) -> StreamState:
        """State of a session that has heard nothing; equal seeds and audio give equal frames.

        `shown` is its avatar (None: the one loaded first). `first_frame` is the absolute index of the first frame it
        will make: a stream that begins anew goes on with the idle motion it had.
        """
        shown = shown or self.shown
        return StreamState(
            seed=seed,
            drive=replace(self.drive, rest_motion=shown.rest_motion).new_state(seed),
            idle=IdleMotion(seed, own=shown.own_idle),
            head=HeadMotionState(seed),
            first_frame=first_frame,
            next_frame=first_frame - self.spec.lookahead_frames,
            shown=shown,
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
        parts: list[list[HopOutput]] = [[] for _ in states]
        for row, part, _last in self.step_in_parts(audio, controls, states):
            parts[row].append(part)
        return [join(made) for made in parts]

    def step_in_parts(
        self, audio: NDArray[np.float32], controls: Sequence[Controls], states: Sequence[StreamState]
    ) -> Iterator[tuple[int, HopOutput, bool]]:
        """The same hop, frame by frame: every session's first frame is here before any second one is rendered.

        Yields (row, its next frame, whether that was its last). Stages are what the row has cost so far. A row whose
        frames all lie before its stream's beginning yields one part without frames.
        """
        check_step(audio, controls, states, self.spec.hop_samples)
        spoken = self.motion(audio, states)
        stages = [dict(spoken.stage_ms) | {"render": 0.0, "color": 0.0} for _ in states]
        last = self.spec.hop_frames - 1
        for i in range(self.spec.hop_frames):
            for row, (control, state) in enumerate(zip(controls, states, strict=True)):
                frame = state.next_frame + i
                if i == last:
                    state.next_frame += self.spec.hop_frames
                if frame >= state.first_frame:
                    head_deg = control.head_motion * spoken.head_deg[row, i]
                    yield (
                        row,
                        self._render(spoken.face[row, i], head_deg, control, state, frame, stages[row]),
                        i == last,
                    )
                elif i == last:
                    yield row, self._nothing(frame + 1, control, stages[row]), True

    def motion(self, audio: NDArray[np.float32], states: Sequence[StreamState]) -> SpokenMotion:
        """The avatars' motion in one hop of sound (B, hop_samples); changes what the states heard."""
        clock = _StageClock(len(states))
        drives = [s.drive for s in states]
        self.drive.listen(list(audio), drives)
        clock.lap("mel")
        features = self.drive.features(drives)
        clock.lap("encoder")
        moved = self.drive.move(features, drives)
        clock.lap("sampler")
        faces = [s.shown or self.shown for s in states]
        decoded = self.drive.finish(moved, features, drives, [face.rest_motion for face in faces])
        clamped = self._space.clamp(decoded)
        face = np.stack([shown.retarget(motion) for shown, motion in zip(faces, clamped, strict=True)])
        prosody = features[:, : self.spec.hop_frames, PROSODY_SLICE].numpy()
        heads = [
            self._head_motion(heard, state.drive.gate.value, state.next_frame, state.head)
            for heard, state in zip(prosody, states, strict=True)
        ]
        clock.lap("decode")
        return SpokenMotion(face, np.stack(heads), clock.stage_ms)

    def arkit(self, motion: NDArray[np.float32]) -> NDArray[np.float32]:
        """The 52 ARKit coefficients (n, 52) of motion (n, 32), 0..1, in the order of `arkit_names`."""
        return self._space.to_arkit(motion)

    def _render(
        self,
        motion: NDArray[np.float32],  # (32,)
        head_deg: NDArray[np.float32],  # (3,)
        control: Controls,
        state: StreamState,
        frame: int,
        stage_ms: dict[str, float],
    ) -> HopOutput:
        renderer = (state.shown or self.shown).renderer
        shown = motion.copy()
        sway_deg = self._animate(shown, control, state, frame)
        pose = _pose(state.turn(control, self.spec.fps) + sway_deg + head_deg)
        start = time.perf_counter()
        rgba = renderer.render_head(shown, pose)
        middle = time.perf_counter()
        made = self._nothing(frame, control, stage_ms, count=1)
        if made.alpha is not None:
            made.frames[0], made.alpha[0] = renderer.cut_out(rgba, pose)
        else:
            backdrop = None if isinstance(control.background, Transparent) else control.background
            made.frames[0] = renderer.composite(rgba, backdrop, pose)
        if self.marker is not None:
            self.marker.mark(made.frames, made.alpha)
        stage_ms["render"] += (middle - start) * 1000.0
        stage_ms["color"] += (time.perf_counter() - middle) * 1000.0
        head = np.array([[pose.yaw_deg, pose.pitch_deg, pose.roll_deg]], np.float32)
        return replace(made, motion=shown[None], stage_ms=dict(stage_ms), head_deg=head)

    def _nothing(self, first_frame: int, control: Controls, stage_ms: dict[str, float], count: int = 0) -> HopOutput:
        """Room for `count` frames."""
        size = self.spec.size
        transparent = isinstance(control.background, Transparent)
        return HopOutput(
            first_frame,
            np.empty((count, size * 3 // 2, size), np.uint8),
            np.zeros((count, MOTION_SIZE), np.float32),
            dict(stage_ms),
            np.zeros((count, 3), np.float32),
            np.empty((count, size, size), np.uint8) if transparent else None,
        )

    def _animate(
        self, motion: NDArray[np.float32], control: Controls, state: StreamState, frame: int
    ) -> NDArray[np.float32]:
        """Add blinks, gaze and mood to a frame's motion (32,); returns the idle sway of the head (3,), degrees."""
        idle = state.idle.motion(frame)
        if not control.idle:
            idle[LID_CODES.stop :] = 0.0
        if control.gaze_rad is not None:
            idle[GAZE_CODES] = control.gaze_rad
        motion += idle
        self._moods.add(motion, control.mood, control.mood_strength, state.mood, speaking=state.drive.gate.value)
        return state.idle.head_deg(frame) if control.idle else np.zeros(3, np.float32)


def join(parts: Sequence[HopOutput]) -> HopOutput:
    """A hop's parts, in order, as one output."""
    if len(parts) == 1:
        return parts[0]
    alphas = [part.alpha for part in parts if part.alpha is not None]
    return HopOutput(
        parts[0].first_frame,
        np.concatenate([part.frames for part in parts]),
        np.concatenate([part.motion for part in parts]),
        parts[-1].stage_ms,
        np.concatenate([part.head_deg for part in parts if part.head_deg is not None]),
        np.concatenate(alphas) if alphas else None,
    )


def check_step(
    audio: NDArray[np.float32], controls: Sequence[Controls], states: Sequence[object], hop_samples: int
) -> None:
    """Raise InputError unless there are a row of sound and controls for each state, before any has advanced."""
    wanted = (len(states), hop_samples)
    if audio.shape != wanted or len(controls) != len(states):
        raise InputError(f"need audio {wanted} and {len(states)} controls, got {audio.shape}, {len(controls)}")
    for row in audio:
        check_audio(row)


def _pose(turned_deg: NDArray[np.float32]) -> HeadPose:
    """The head turned by yaw, pitch and roll (3,)."""
    yaw, pitch, roll = turned_deg.tolist()
    return HeadPose(yaw_deg=yaw, pitch_deg=pitch, roll_deg=roll)


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


__all__ = ["FPS", "SAMPLE_RATE", "AvatarPipeline", "PipelineSpec", "check_step"]
