"""From a finished training to an avatar folder: tight occupancy, arrays, avatar.json, preview."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from model.avatar import FIELD_KIND, FORMAT_VERSION, AvatarConfig, Consent, load_avatar, write_avatar_config
from model.checkpoint import save_checkpoint
from model.data.capture import ORBIT, CaptureFrames
from model.provenance.consent import consent_hash
from model.radiance.camera import HeadPose, cam_to_canonical, head_matrix
from model.radiance.export import export_tensors
from model.radiance.field import FrameConditions
from model.radiance.occupancy import OccupancyGrid, WeightTracker, close_gaps
from model.radiance.renderer import Intrinsics, ray_box, ray_directions
from model.radiance.serving import AvatarRenderer
from model.training.avatar import AvatarTraining

SERVING_GRID = 128
SERVING_FRAMES = 240
SERVING_THRESHOLD = 0.02  # of a pixel's weight, seen in any frame
PIXEL_STRIDE = 2
BACKING_VOXELS = 2
CRUMB_SHARE = 0.02
PREVIEW_PX = 256
FRONTAL_RAD = 0.12
SERVED_YAWS_DEG = (-22.0, -11.0, 11.0, 22.0)

SYNTHETIC_CONSENT = Consent(
    person="person does not exist",
    statement="Rendered from an invented head; no photograph or scan of a person was used, so nobody's consent is due.",
    given_by="NeRF-LipSync project",
    date="2026-11-22",
)


def export_avatar(
    training: AvatarTraining,
    folder: Path,
    *,
    name: str,
    motion_space: str,
    licence: str,
    provenance: str,
    consent: Consent = SYNTHETIC_CONSENT,
    rest_pose: HeadPose | None = None,
    commands: tuple[str, ...] = (),
) -> OccupancyGrid:
    """Write the avatar folder; returns the serving occupancy. The training goes back to the CPU for it."""
    training.to(torch.device("cpu"))
    occupancy = serving_occupancy(training)
    tensors = export_tensors(training.field, training.torso, occupancy)
    digest = save_checkpoint(folder / "field.safetensors", tensors, kind=FIELD_KIND, config=training.config.field)
    config = AvatarConfig(
        format_version=FORMAT_VERSION,
        name=name,
        licence=licence,
        consent=consent,
        consent_hash=consent_hash(consent, digest),
        provenance=provenance,
        motion_space=motion_space,
        field_hash=digest,
        camera=training.camera,
        mouth_box=frontal_mouth_box(training.frames),
        rest_pose=rest_pose or HeadPose(),
        commands=commands,
        neck=training.neck,
        space=training.space,
        field_config=training.config.field,
    )
    (folder / "field.safetensors").chmod(0o644)
    write_avatar_config(folder, config)
    write_preview(folder)
    return occupancy


def serving_occupancy(training: AvatarTraining) -> OccupancyGrid:
    """(128^3) voxels that carried weight in training or in any of a spread of frames, all acted ones among them.

    Surfaces are thin, so a ray that slips through a pinhole would meet nothing: voxels behind matter, as the cameras
    look, are kept as well. They cost next to nothing, for most rays end before them.
    """
    frames, field = training.frames, training.field
    acted = [i for i, kind in enumerate(frames.kind) if kind == "acted"]
    spread = np.linspace(0, len(frames) - 1, min(SERVING_FRAMES, len(frames))).round().astype(int)
    tracker = WeightTracker(SERVING_GRID)
    generator = torch.Generator().manual_seed(training.config.seed)
    with torch.no_grad():
        for i in sorted({*acted, *(int(k) for k in spread)}):
            conditions = field.frame_conditions(training.motion[i : i + 1], training.rotvec[i : i + 1])
            _observe(training, conditions, i, training.cameras[i], tracker, generator)
        if training.config.turn_every:
            _observe_turns(training, spread, tracker, generator)
    found = tracker.grid(SERVING_THRESHOLD, dilation=0)
    occupied = close_gaps(found.occupied)
    if training.tight.size == SERVING_GRID:
        occupied |= training.tight.occupied
    return OccupancyGrid(back_up(without_crumbs(occupied), BACKING_VOXELS))


def without_crumbs(occupied: Tensor) -> Tensor:
    """Occupancy (G, G, G) without what hangs together with no `CRUMB_SHARE` of its largest part: specks in the air."""
    parts, count = ndimage.label(occupied.numpy(), np.ones((3, 3, 3)))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    return torch.from_numpy((sizes >= max(1.0, CRUMB_SHARE * sizes.max()))[parts])


def _observe_turns(
    training: AvatarTraining, frames: NDArray[np.int64], tracker: WeightTracker, generator: torch.Generator
) -> None:
    """Heads turned further than the video shows: every fourth frame, each at one of `SERVED_YAWS_DEG`."""
    for number, i in enumerate(frames[::4]):
        rotvec = HeadPose(yaw_deg=SERVED_YAWS_DEG[number % len(SERVED_YAWS_DEG)]).rotation_vector()
        camera = cam_to_canonical(head_matrix(rotvec, training.neck), training.frames.cam_to_world[i], training.space)
        turned = torch.from_numpy(rotvec.astype(np.float32))[None]
        conditions = training.field.frame_conditions(training.motion[i : i + 1], turned)
        _observe(training, conditions, int(i), torch.from_numpy(camera), tracker, generator)


def back_up(occupied: Tensor, voxels: int) -> Tensor:
    """Occupancy (G, G, G) with `voxels` more behind matter (towards -z), the last layer one wider in x and y."""
    backed = occupied.clone()
    for _ in range(voxels):
        backed[:, :, :-1] |= backed[:, :, 1:].clone()
    wide = backed.clone()
    wide[1:] |= backed[:-1]
    wide[:-1] |= backed[1:]
    wide[:, 1:] |= backed[:, :-1]
    wide[:, :-1] |= backed[:, 1:]
    backed[:, :, :-voxels] |= wide[:, :, voxels:]
    return backed


def _observe(
    training: AvatarTraining,
    conditions: FrameConditions,
    index: int,
    camera: Tensor,  # (3, 4)
    tracker: WeightTracker,
    generator: torch.Generator,
) -> None:
    lens = Intrinsics(*training.lenses[index].unbind())
    size, coarse = training.frames.size_px, training.occupancy
    offset = torch.randint(PIXEL_STRIDE, (2,), generator=generator)
    axis = torch.arange(0, size, PIXEL_STRIDE)
    rows, columns = (axis + offset[0]).clamp(max=size - 1), (axis + offset[1]).clamp(max=size - 1)
    directions = ray_directions(columns.repeat(len(rows)), rows.repeat_interleave(len(columns)), lens, camera[:, :3])
    origins = camera[:, 3].expand_as(directions)
    near, far = ray_box(origins, directions, coarse.box_lo, coarse.box_hi)
    step = training.field.config.step
    for rays in (far > near).nonzero()[:, 0].split(4096):
        count = math.ceil(float((far - near)[rays].max()) / step) + 1
        shift = torch.rand(len(rays), 1, generator=generator)
        t = near[rays, None] + (torch.arange(count) - 0.5 + shift) * step
        points = (origins[rays, None] + t[..., None] * directions[rays, None]).view(-1, 3)
        chosen = (coarse.contains(points) & (t < far[rays, None]).view(-1)).nonzero()[:, 0]
        with torch.autocast("cpu", torch.bfloat16):
            density, _ = training.field.density_and_color(points[chosen], [len(chosen)], conditions)
        alpha = torch.zeros(len(points)).index_put((chosen,), 1 - torch.exp(-density * step)).view(-1, count)
        through = torch.cumprod(1 - alpha, 1)
        before = torch.cat([torch.ones_like(through[:, :1]), through[:, :-1]], 1)
        cell = ((points[chosen] + 1) * (0.5 * SERVING_GRID)).long().clamp_(0, SERVING_GRID - 1)
        flat = (cell[:, 0] * SERVING_GRID + cell[:, 1]) * SERVING_GRID + cell[:, 2]
        tracker.observe(flat, (alpha * before).view(-1)[chosen])


def frontal_mouth_box(frames: CaptureFrames) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 as shares of the picture: the mouth of nearly frontal frames, at its widest and most open."""
    still = np.array([kind != ORBIT for kind in frames.kind])
    frontal = (np.linalg.norm(frames.rotvec, axis=1) < FRONTAL_RAD) & still
    boxes = frames.mouth_box[frontal if frontal.any() else slice(None)] / frames.size_px
    low, high = np.percentile(boxes[:, :2], 5, axis=0), np.percentile(boxes[:, 2:], 95, axis=0)
    return (float(low[0]), float(low[1]), float(high[0]), float(high[1]))


def write_preview(folder: Path) -> None:
    """preview.jpg: the rest pose, rendered as serving does."""
    avatar = load_avatar(folder)
    renderer = AvatarRenderer(avatar, size_px=PREVIEW_PX)
    motion = np.zeros(avatar.config.field_config.motion_size, np.float32)
    picture = renderer.render(motion, avatar.config.rest_pose)
    cv2.imwrite(str(folder / "preview.jpg"), i420_to_bgr(picture), [cv2.IMWRITE_JPEG_QUALITY, 92])


def i420_to_bgr(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H * 3 / 2, W) to (H, W, 3) for OpenCV."""
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_YUV2BGR_I420), np.uint8)
