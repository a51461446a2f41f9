"""The field against a 2-D convolutional decoder of equal cost: the paper's "without NeRF spatial alignment".

Both were trained on the same frames and see the same motion and head rotation. Figures are those of `evaluate views`:
frames of the capture that neither was trained on, by the head's yaw; a slow turn; and a camera that moves around a
still head, where the decoder, which has no camera, gets the head rotation that looks the same from the front, and its
picture is moved and scaled to where the head's centre is seen. The table's rows stand in `table_pictures`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from model.avatar import Avatar, load_avatar
from model.data.capture import Capture
from model.errors import DataError, InputError
from model.evaluation.report import Panel
from model.evaluation.report.video import write_panels
from model.evaluation.views import held_out_frames
from model.evaluation.views_capture import CaptureViews, head_turn_figures, held_out_views, orbit_figures
from model.evaluation.views_motion import STEP_DEG, SlowTurn, turn_figures, turn_once, uneven_change
from model.evaluation.views_mouth import landmark_figures, track_views
from model.face.landmarks import LandmarkError
from model.motion.space import MOTION_SIZE, load_motion_space
from model.radiance.camera import HeadPose, cam_to_canonical, head_matrix, rotation_vector
from model.radiance.decoder2d import Decoder2d, field_multiply_adds, load_decoder, multiply_adds
from model.radiance.serving import AvatarRenderer
from model.results import Figure
from model.training.capture_pairs import capture_motion

__all__ = ["DecoderEvaluation", "DecoderFindings", "DecoderRenderer", "evaluate_decoder", "write_sheets"]

SIZE_PX: Final = 256
FIELD, DECODER = "field", "decoder"
TIMED_FRAMES: Final = 40
SHEET_COLUMNS: Final = 6
SAME_CAMERA: Final = 1e-4
WORTH: Final = ("turn_head_psnr_0_5deg", "turn_head_psnr_15_20deg", "turn_mouth_psnr_15_20deg", "orbit_head_psnr_20deg")
"""Figures whose differences are kept too: decoder less field."""


class DecoderRenderer(AvatarRenderer):
    """An avatar whose head is painted by a decoder; torso and background are the avatar's own."""

    def __init__(self, avatar: Avatar, net: Decoder2d, *, size_px: int = SIZE_PX) -> None:
        """
        Raises:
            InputError: The decoder paints pictures of another size.
        """
        if net.config.size_px != size_px:
            raise InputError(f"the decoder paints {net.config.size_px} px, asked for {size_px}")
        super().__init__(avatar, size_px=size_px)
        self._net = net

    def render_head(self, motion: NDArray[np.float32], pose: HeadPose) -> NDArray[np.float32]:
        """Premultiplied RGBA (size, size, 4) of the head alone, in an array of its own."""
        return self._paint(motion, pose.rotation_vector())

    def render_head_seen_by(
        self,
        motion: NDArray[np.float32],
        rotvec: NDArray[np.float32],
        camera_matrix: NDArray[np.float32],
        lens: NDArray[np.floating] | None = None,
    ) -> NDArray[np.float32]:
        """As near as a decoder comes: the head turned so that it looks alike, put where its centre is seen.

        Raises:
            InputError: A lens was given: the decoder knows only the one of its frames.
        """
        if lens is not None:
            raise InputError("a 2-D decoder knows no other lens than that of the frames it was trained on")
        own = self._own_camera(rotvec)
        if np.abs(own - camera_matrix).max() < SAME_CAMERA:
            return self._paint(motion, rotvec)
        still = self.avatar.config.camera.matrix()[:3, :3]
        turned = rotation_vector(still @ camera_matrix[:, :3].astype(np.float64).T)
        painted = self._paint(motion, turned)
        move = _similarity(self._centre(self._own_camera(turned)), self._centre(camera_matrix))
        moved = cv2.warpAffine(painted, move, (self.size_px, self.size_px), flags=cv2.INTER_LINEAR)
        return np.asarray(moved, np.float32)

    def _own_camera(self, rotvec: NDArray[np.floating]) -> NDArray[np.float32]:
        config = self.avatar.config
        return cam_to_canonical(head_matrix(rotvec, config.neck), config.camera.matrix(), config.space)

    def _centre(self, camera: NDArray[np.float32]) -> tuple[float, float, float]:
        """Where the centre of canonical space is seen: x, y in pixels, and its depth in canonical units."""
        x, y, z = -(camera[:, :3].T @ camera[:, 3]).astype(np.float64)
        fx, fy, cx, cy = self.avatar.config.camera.intrinsics(self.size_px)
        return float(fx * x / z + cx), float(fy * y / z + cy), float(z)

    def _paint(self, motion: NDArray[np.float32], rotvec: NDArray[np.floating]) -> NDArray[np.float32]:
        with torch.inference_mode():
            made = self._net(
                torch.from_numpy(np.asarray(motion, np.float32))[None],
                torch.from_numpy(np.asarray(rotvec, np.float32))[None],
            )
        return np.ascontiguousarray(made[0].permute(1, 2, 0).numpy(), np.float32)


@dataclass(frozen=True, kw_only=True)
class DecoderEvaluation:
    """What to hold against what."""

    decoder: Path
    capture: Path
    ict: Path
    face_landmarker: Path  # MediaPipe's bundle
    avatar: Path | None = None  # whose field; None: the shipped one
    hold_out: int = 60
    turn_step_deg: float = STEP_DEG


@dataclass(frozen=True, kw_only=True)
class DecoderFindings:
    """Figures, named `field.*`, `decoder.*` and `decoder_less_field.*`; and what a sheet shows of both."""

    figures: dict[str, Figure]
    data: str
    held_out: dict[str, CaptureViews]
    turn: dict[str, SlowTurn]


def evaluate_decoder(config: DecoderEvaluation, on_part: Callable[[str], None] | None = None) -> DecoderFindings:
    """Both, by the same measures.

    Raises:
        ModelError: A file is missing or damaged, or no face is found.
    """
    say = on_part or (lambda _: None)
    avatar = load_avatar(config.avatar, motion_space=load_motion_space().hash)
    net, _ = load_decoder(config.decoder)
    field = AvatarRenderer(avatar, size_px=SIZE_PX)
    renderers = {FIELD: field, DECODER: DecoderRenderer(avatar, net)}
    capture, motion = Capture.open(config.capture), capture_motion(config.ict, config.capture)
    figures = _costs(field, renderers[DECODER], net)
    held_out, turns = {}, {}
    for name, renderer in renderers.items():
        say(name)
        turns[name] = turn_once(renderer, step_deg=config.turn_step_deg)
        views = held_out[name] = held_out_views(capture, motion, renderer, config.hold_out)
        unsteady, _ = uneven_change(renderer)
        found = {
            **head_turn_figures(views),
            **orbit_figures(capture, motion, renderer),
            **_landmarks(views, config, may_fail=name == DECODER),
            **turn_figures(turns[name]),
            "sweep_unsteady_pixels": Figure(value=round(100 * unsteady, 3), unit="%", better="lower"),
        }
        figures |= {f"{name}.{key}": figure.model_copy(update={"goal": None}) for key, figure in found.items()}
    figures |= _differences(figures)
    said = min(held_out_frames(avatar.config), config.hold_out)
    data = (
        f"rendered capture at {SIZE_PX} px: the last {config.hold_out} frames of `train` (the field was not trained on "
        f"{said} of them), an orbit, a turn of +-20 degrees"
    )
    return DecoderFindings(figures=figures, data=data, held_out=held_out, turn=turns)


def write_sheets(folder: Path, found: DecoderFindings) -> None:
    """`decoder2d.jpg`: held-out frames by yaw, above, of the field, of the decoder; `turn.mp4`: both turning.

    Raises:
        InputError: A file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    field, decoder = found.held_out[FIELD], found.held_out[DECODER]
    order = np.argsort(field.yaw_deg)
    picked = order[np.linspace(0, len(order) - 1, SHEET_COLUMNS).round().astype(int)]
    rows = [np.concatenate(list(films[picked]), 1) for films in (field.real, field.made, decoder.made)]
    picture = cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR)
    if not cv2.imwrite(str(folder / "decoder2d.jpg"), picture):
        raise InputError(f"cannot write {folder / 'decoder2d.jpg'}")
    panels = [Panel(label=name, origin="synthetic", frames=list(turn.frames)) for name, turn in found.turn.items()]
    write_panels(folder / "turn.mp4", panels)


def _costs(field: AvatarRenderer, decoder: AvatarRenderer, net: Decoder2d) -> dict[str, Figure]:
    """Multiply-adds and milliseconds of processor time a frame, one thread, both in turns; and size of the weights."""
    motion = np.zeros(MOTION_SIZE, np.float32)
    times: dict[str, list[float]] = {FIELD: [], DECODER: []}
    samples = []
    for index in range(TIMED_FRAMES):
        pose = HeadPose(yaw_deg=40 * index / TIMED_FRAMES - 20)
        for name, renderer in ((FIELD, field), (DECODER, decoder)):
            began = time.process_time()
            renderer.render_head(motion, pose)
            times[name].append(1e3 * (time.process_time() - began))
        if field.marcher.render_stats is not None:
            samples.append(field.marcher.render_stats.samples)
    sizes = field.avatar.config.field_config
    figures = {
        f"{name}.head_cpu_ms": Figure(
            value=round(float(np.median(values)), 2), unit="ms", better="lower", n=len(values)
        )
        for name, values in times.items()
    }
    counts = {DECODER: multiply_adds(net)}
    if samples:
        counts[FIELD] = field_multiply_adds(round(float(np.mean(samples))), sizes.channels, sizes.hidden)
    figures |= {
        f"{name}.multiply_adds": Figure(value=round(count / 1e6, 1), unit="million", better="lower")
        for name, count in counts.items()
    }
    parameters = sum(p.numel() for p in net.parameters())
    figures["decoder.parameters"] = Figure(value=round(parameters / 1e6, 3), unit="million", better="lower")
    return figures


def _landmarks(views: CaptureViews, config: DecoderEvaluation, *, may_fail: bool) -> dict[str, Figure]:
    """Landmarks against those of real frames; where the tracker finds no face in any painted frame, all are lost."""
    try:
        return landmark_figures(track_views(views, config.face_landmarker))
    except (DataError, LandmarkError):
        if not may_fail:  # the field's come first: then the tracker or the capture is at fault
            raise
        count = len(views.made)
        return {"landmark_frames_lost": Figure(value=float(count), unit="frames", better="lower", n=count)}


def _differences(figures: dict[str, Figure]) -> dict[str, Figure]:
    found = {}
    for name in WORTH:
        ours, theirs = figures.get(f"{DECODER}.{name}"), figures.get(f"{FIELD}.{name}")
        if ours is not None and theirs is not None:
            found[f"decoder_less_field.{name}"] = Figure(
                value=round(ours.value - theirs.value, 2), unit=ours.unit, better="higher", n=ours.n
            )
    return found


def _similarity(there: tuple[float, float, float], here: tuple[float, float, float]) -> NDArray[np.float64]:
    """(2, 3) shift and scale from one place and depth in the picture to another; pixel centres at +0.5."""
    (x0, y0, z0), (x1, y1, z1) = there, here
    scale = z0 / z1
    return np.array([[scale, 0, x1 - 0.5 - scale * (x0 - 0.5)], [0, scale, y1 - 0.5 - scale * (y0 - 0.5)]], np.float64)
