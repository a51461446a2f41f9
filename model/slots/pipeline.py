"""`AvatarPipeline` for a GPU: the same sessions, hops and pictures, all of a batch in one captured step."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.ray_march.prepared import Precision
from model.diffusion.samplers import frame_noise
from model.errors import InputError
from model.motion.head_motion import HeadMotion
from model.motion.idle import IdleMotion
from model.motion.mood import Moods, MoodState
from model.motion.smoothing import SmoothingState
from model.motion.space import GAZE_CODES, LID_CODES, load_motion_space
from model.pipeline import FPS, AvatarPipeline, PipelineSpec, check_step
from model.radiance.compositor import Backdrop, Transparent
from model.slots.avatars import AvatarTable, torso_follows
from model.slots.graphs import BUCKETS, BucketedStep, Capture
from model.slots.heads import make_heads
from model.slots.step import FixedSlotStep
from model.speech.log_mel import MAX_FLOOR_LOG10, SILENCE
from model.state import Controls, HopOutput, ShownAvatar, turned

MOST_AVATARS = 8


@dataclass
class SlotState:
    """A session's place in the stream, its memory on the device (one row), and what the host remembers of it.

    The row is replaced by each step and never changed, so that a snapshot shares it.
    """

    seed: int
    row: Tensor  # (state bytes,)
    idle: IdleMotion
    shown: ShownAvatar
    mood: MoodState = field(default_factory=MoodState)
    next_frame: int = 0  # as in `StreamState`
    first_frame: int = 0
    heard_frame: int = 0  # of the speech stream, from -lookahead on
    turned_deg: NDArray[np.float32] | None = None
    hush: bool = False

    def snapshot(self) -> SlotState:
        """A copy that goes its own way; the avatar is shared."""
        return replace(self, mood=copy.deepcopy(self.mood))

    def interrupt(self) -> None:
        """What was heard last will not be said: the mouth goes to rest from where it is."""
        self.hush = True


class SlotPipeline:
    """What the engine drives on a GPU. Weights only; sessions own their states."""

    def __init__(
        self,
        pipeline: AvatarPipeline,
        *,
        device: torch.device,
        most_avatars: int = MOST_AVATARS,
        precision: Precision | None = None,
        capture: Capture | None = None,
    ) -> None:
        """Upload what a loaded pipeline holds.

        Args:
            precision: Of the Triton ray marcher's weights; None: fp16 on a GPU, the native renderer on the CPU.

        Raises:
            ConfigError: The pipeline's options are not served in slots.
        """
        self._host = pipeline
        self.device = device
        if precision is None and device.type == "cuda":
            precision = "fp16"
        self.spec: PipelineSpec = (
            replace(pipeline.spec, instruction_set=str(device)) if device.type == "cuda" else pipeline.spec
        )
        self.shown, self.mouth_box, self.arkit_names = pipeline.shown, pipeline.mouth_box, pipeline.arkit_names
        self._space = load_motion_space()
        self._moods, self._head_motion = Moods(self._space), HeadMotion()
        self.table = AvatarTable(
            pipeline.shown, device, capacity=most_avatars, most_slots=BUCKETS[-1], precision=precision
        )
        heads = make_heads(self.table)
        self.steps = {
            follows: BucketedStep(
                FixedSlotStep(pipeline.drive, self._space, self.table, heads, torso_follows=follows), capture
            )
            for follows in (False, True)
        }
        self._layout, self._inputs = self.steps[False].step.state, self.steps[False].step.inputs

    def warm_up(self) -> None:
        """Capture all graphs, which takes a while; before sessions are accepted."""
        for step in self.steps.values():
            step.warm_up()

    def load_shown(self, avatar: Path | str) -> ShownAvatar:
        """As `AvatarPipeline.load_shown`; it is on the device when this returns."""
        shown = self._host.load_shown(avatar)
        self.table.add(shown)
        return shown

    def arkit(self, motion: NDArray[np.float32]) -> NDArray[np.float32]:
        """As `AvatarPipeline.arkit`."""
        return self._host.arkit(motion)

    def new_state(self, seed: int, *, shown: ShownAvatar | None = None, first_frame: int = 0) -> SlotState:
        """As `AvatarPipeline.new_state`."""
        shown = shown or self.shown
        drive = self._host.drive
        smooth = SmoothingState.start(shown.rest_motion, self._space)
        latents = drive.stack.generator.rest_latent
        gate = drive.gate.new_state()
        row = self._layout.new_row(
            {
                "mel_maximum": MAX_FLOOR_LOG10,
                "columns": SILENCE,
                "gate_quiet": gate.quiet_frames,
                "gate_trust": gate.trust,
                "gate_breath_left": gate.breath_left,
                "smooth_made": smooth.made,
                "smooth_shown": smooth.shown,
                "smooth_opening": smooth.opening,
                "head_since_nod": 10_000,
                "latents": latents,
            }
        )
        lookahead = self.spec.lookahead_frames
        return SlotState(
            seed=seed,
            row=row.to(self.device),
            idle=IdleMotion(seed, own=shown.own_idle),
            shown=shown,
            next_frame=first_frame - lookahead,
            first_frame=first_frame,
            heard_frame=-lookahead,
        )

    def step(
        self, audio: NDArray[np.float32], controls: Sequence[Controls], states: Sequence[SlotState]
    ) -> list[HopOutput]:
        """As `AvatarPipeline.step`; times are shares of the whole step, which is one on a GPU.

        Raises:
            InputError: As there; or a background is transparent, which is not done in slots.
        """
        check_step(audio, controls, states, self.spec.hop_samples)
        if any(isinstance(control.background, Transparent) for control in controls):
            raise InputError("a transparent background is not rendered in slots: serve it with --device cpu")
        outputs: dict[int, HopOutput] = {}
        for follows, step in self.steps.items():
            chosen = [i for i, state in enumerate(states) if torso_follows(state.shown) == follows]
            for start in range(0, len(chosen), BUCKETS[-1]):
                part = chosen[start : start + BUCKETS[-1]]
                made = self._part(step, audio[part], [controls[i] for i in part], [states[i] for i in part])
                outputs |= dict(zip(part, made, strict=True))
        return [outputs[i] for i in range(len(states))]

    def _part(
        self, step: BucketedStep, audio: NDArray[np.float32], controls: list[Controls], states: list[SlotState]
    ) -> list[HopOutput]:
        """One hop of sessions that fit into one bucket."""
        start = time.perf_counter()
        hop_rows = torch.zeros(len(states), self._inputs.size_bytes, dtype=torch.uint8)
        fields = {name: view.numpy() for name, view in self._inputs.split(hop_rows).items()}
        for row, (control, state) in enumerate(zip(controls, states, strict=True)):
            self._prepare({name: values[row : row + 1] for name, values in fields.items()}, audio[row], control, state)
        prepared = time.perf_counter()
        out = step([state.row for state in states], hop_rows)
        pictures, motion, head_deg = (part.numpy() for part in out[1:])
        done = time.perf_counter()
        for row, state in zip(out.rows, states, strict=True):
            state.row = row
        share = 1000.0 / len(states)
        stage_ms = {"prepare": (prepared - start) * share, "step": (done - prepared) * share}
        return [self._output(pictures[i], motion[i], head_deg[i], state, stage_ms) for i, state in enumerate(states)]

    def _prepare(
        self, given: dict[str, NDArray[np.floating]], audio: NDArray[np.float32], control: Controls, state: SlotState
    ) -> None:
        """Fill one session's input row (each field (1, *shape)); changes what the host remembers."""
        hop = self.spec.hop_frames
        avatar = self.table.add(state.shown)
        given["avatar"][:], given["picture"][:] = avatar, self.table.picture(avatar, backdrop(control))
        given["frame"][:], given["hush"][:] = state.heard_frame, state.hush
        given["audio"][:], given["head_share"][:] = audio, control.head_motion
        if "noise" in given:
            given["noise"][:] = self._noise(state)
        for i in range(hop):
            frame = state.next_frame + i
            given["nod_deg"][0, i] = self._head_motion.nod(state.seed, frame)
            if frame < state.first_frame:  # frames before the stream began are not made
                continue
            idle = state.idle.motion(frame)
            if not control.idle:
                idle[LID_CODES.stop :] = 0.0
            if control.gaze_rad is not None:
                idle[GAZE_CODES] = control.gaze_rad
            given["idle"][0, i] = idle
            given["mood"][0, i] = self._moods.ease(control.mood, control.mood_strength, state.mood)
            state.turned_deg = turned(state.turned_deg, control, FPS)
            sway = state.idle.head_deg(frame) if control.idle else np.zeros(3, np.float32)
            given["turned_deg"][0, i] = state.turned_deg + sway
        state.hush = False

    def _noise(self, state: SlotState) -> NDArray[np.float32]:
        generator = self._host.drive.stack.generator
        c = generator.config
        noise = frame_noise(state.seed, state.heard_frame - c.committed_frames, c.window_frames, c.latent_size)
        return noise * np.float32(generator.temperature)

    def _output(
        self,
        pictures: NDArray[np.uint8],  # (hop, bytes)
        motion: NDArray[np.float32],
        head_deg: NDArray[np.float32],
        state: SlotState,
        stage_ms: dict[str, float],
    ) -> HopOutput:
        size, hop = self.spec.size, self.spec.hop_frames
        skip = min(hop, max(0, state.first_frame - state.next_frame))
        frames = pictures[skip:].reshape(-1, size * 3 // 2, size).copy()
        start = time.perf_counter()
        if self._host.marker is not None:
            self._host.marker.mark(frames, None)
        stage_ms = stage_ms | {"mark": (time.perf_counter() - start) * 1000.0}
        first = state.next_frame + skip
        state.next_frame += hop
        state.heard_frame += hop
        return HopOutput(first, frames, motion[skip:].copy(), stage_ms, head_deg[skip:].copy())


def backdrop(control: Controls) -> Backdrop | None:
    """What the controls ask to be behind the avatar; None: its own."""
    return None if isinstance(control.background, Transparent) else control.background
