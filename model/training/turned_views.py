"""Views that nobody filmed: a frame's face with the head turned by up to 20 degrees (the paper's view consistency).

Where the turned head shows what the frame saw, its colors must agree: each ray's surface point is looked up in the
frame itself. So what turns into view takes over the person's colors, and the occupancy learns what turned heads need.
What no frame saw keeps the outline of the head that the training started from (`Anchor`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from model.radiance.camera import HeadPose as Turn
from model.radiance.camera import cam_to_canonical, head_matrix
from model.radiance.field import RadianceField
from model.radiance.occupancy import OccupancyGrid, WeightTracker
from model.radiance.serving import torso_pose
from model.training.avatar_step import batch_rays, march
from model.training.ray_sampling import RayBatch

if TYPE_CHECKING:
    from model.training.avatar import AvatarTraining

MOST_YAW_DEG, MOST_PITCH_DEG = 20.0, 6.0
RAYS = 700
OUTLINE_RAYS = 400  # of them, anywhere in the picture
SOLID = 0.8  # opacity from which a ray has a surface
HEAD_COVER = 0.95
CHIN_CM = -9.5  # head-local height: below it the neck does not turn with the head


class Anchor(NamedTuple):
    """The field at step 0, never changed, and where its head is."""

    field: RadianceField
    occupancy: OccupancyGrid


def turned_loss(training: AvatarTraining, occupancy: OccupancyGrid, generator: torch.Generator) -> Tensor:
    """Color error of one frame's turned head against the frame, and of its outline against the anchor's."""
    sampler = training.samplers[training.frames.size_px]
    frame = torch.multinomial(sampler.weights * sampler.has_torso, 1, generator=generator)
    index = int(frame)
    draw = torch.rand(2, generator=generator).tolist()
    turn = Turn(yaw_deg=MOST_YAW_DEG * (2 * draw[0] - 1), pitch_deg=MOST_PITCH_DEG * (2 * draw[1] - 1))
    rotvec = turn.rotation_vector()
    frames = training.frames
    camera = cam_to_canonical(head_matrix(rotvec, training.neck), frames.cam_to_world[index], training.space)
    inside = (sampler.head[index].view(-1) > 0).nonzero()[:, 0]
    picked = inside[torch.randint(len(inside), (RAYS - OUTLINE_RAYS,), generator=generator)]
    anywhere = torch.randint(frames.size_px**2, (OUTLINE_RAYS,), generator=generator)
    device = training.device
    batch = sampler.batch(frame, [torch.cat([picked, anywhere])]).to(device)
    cameras, lenses = torch.from_numpy(camera)[None].to(device), training.lenses[batch.frames]
    conditions = training.field.frame_conditions(
        training.motion[batch.frames], torch.from_numpy(rotvec.astype(np.float32))[None].to(device)
    )
    marched = march(training.field, conditions, batch, cameras, lenses, occupancy, training.tracker, generator)
    origins, directions = batch_rays(batch, cameras, lenses)
    solid = marched.opacity.detach() > SOLID
    points = origins + directions * (marched.depth / marched.opacity.clamp(min=1e-3))[:, None]
    wanted, seen = _looked_up(training, index, points.detach())
    chin = float(training.space.from_head(np.array([0.0, CHIN_CM, 0.0]))[1])
    chosen = solid & seen & (points[:, 1].detach() > chin)
    outline = _outline_error(training, marched.opacity, batch, cameras, rotvec, generator)
    if not bool(chosen.any()):
        return outline
    color = marched.color[chosen] / marched.opacity[chosen, None].clamp(min=1e-3)
    return (color - wanted[chosen]).abs().mean() * chosen.float().mean() + outline


def turned_poses(training: AvatarTraining) -> Tensor:
    """(2, 6) what the torso follows when the head turns as far as it is turned here: shoulders stay then."""
    turns = [Turn(yaw_deg=yaw).rotation_vector() for yaw in (-MOST_YAW_DEG, MOST_YAW_DEG)]
    poses = np.stack([torso_pose(turn, head_matrix(turn, training.neck), training.space) for turn in turns])
    return torch.from_numpy(poses).to(training.device)


def _outline_error(
    training: AvatarTraining,
    opacity: Tensor,  # (R,)
    batch: RayBatch,
    cameras: Tensor,  # (1, 3, 4)
    rotvec: NDArray[np.floating],
    generator: torch.Generator,
) -> Tensor:
    """Mean difference in opacity from the anchor, of rays above the mouth box's lower edge; 0 without one."""
    if training.anchor is None:
        return opacity.new_zeros(())
    field, occupancy = training.anchor
    with torch.no_grad():
        turned = torch.from_numpy(rotvec.astype(np.float32))[None].to(opacity.device)
        conditions = field.frame_conditions(training.motion[batch.frames], turned)
        tracker = WeightTracker(occupancy.size).to(opacity.device)
        lenses = training.lenses[batch.frames]
        wanted = march(field, conditions, batch, cameras, lenses, occupancy, tracker, generator).opacity
    chosen = batch.rows < float(training.frames.mouth_box[int(batch.frames), 3])
    error: Tensor = ((opacity - wanted).abs() * chosen).mean()
    return error


def _looked_up(training: AvatarTraining, index: int, points: Tensor) -> tuple[Tensor, Tensor]:
    """Colors (R, 3) of canonical points (R, 3) in the frame's own picture, and whether the head is there (R,)."""
    camera, lens = training.cameras[index], training.lenses[index]
    size = training.frames.size_px
    local = (points - camera[:, 3]) @ camera[:, :3]
    place = (local[:, :2] / local[:, 2:] * lens[:2] + lens[2:]) / size * 2 - 1
    sampler = training.samplers[size]
    picture = torch.cat([sampler.rgba[index].float(), sampler.head[index][..., None].float()], -1) / 255
    picture = picture.to(points.device)
    found = functional.grid_sample(picture.permute(2, 0, 1)[None], place[None, None], align_corners=False)[0, :, 0].t()
    return found[:, :3] / found[:, 3:4].clamp(min=1e-3), found[:, 4] > HEAD_COVER
