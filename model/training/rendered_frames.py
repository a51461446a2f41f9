"""Small pictures of an avatar whose gradient reaches the motion: the field and the camera stand still, the codes move.

The radiance field's own module (`model.radiance.field`; NeRF, Mildenhall et al. 2020) at fixed points: the kernel's
samples along the rays of a view, as far as any of a set of probe motions, or a neighbour's, puts weight on them. In
each frame a pass without gradient finds the few that carry weight now; these are evaluated again with gradient, as in
`model.training.avatar_step`. On CUDA the differentiable kernel takes every sample in one pass instead. Motion is
clamped and retargeted as in serving; the weights are frozen.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from kernels.backend import Backend
from kernels.ray_march.differentiable import Precision, march_rays
from kernels.ray_march.tensors import Rays
from model.avatar import Avatar
from model.errors import InputError
from model.motion.retarget import Retarget
from model.motion.space import MOTION_SIZE, MOUTH_CODES, MotionSpace, load_motion_space
from model.motion.vae import AUDIO_OWNED
from model.radiance.camera import cam_to_canonical, head_matrix
from model.radiance.compositor import compose_underlay
from model.radiance.export import field_from_arrays
from model.radiance.field import FrameConditions, RadianceField
from model.radiance.occupancy import OccupancyGrid
from model.radiance.renderer import TERMINATION, Intrinsics, ray_box, ray_directions
from model.training.fused_march import kernel_field, kernel_frames, training_volume
from model.training.rendered_views import View

__all__ = ["AvatarFrames", "probe_motions"]

MIN_PROBE_WEIGHT = 0.01  # compositing weight that takes a sample and its neighbours into the shell
MIN_WEIGHT = 1e-4  # below it, a sample of a frame gets no gradient
LEAST_TRANSMITTANCE = 1e-3  # at which the kernel ends a ray
CHUNK_FRAMES = 4  # without gradient at once: more leaves the processor's cache and is slower
PROBE_SEED = 11
RANDOM_PROBES = 12
PROBED_CODES = 4  # the first of the mouth codes, at both ends of their range
PROBE_DEVIATION = 1.2


def probe_motions(space: MotionSpace) -> Tensor:
    """(P, 32) motions that between them show what mouths do: rest, both ends of the leading codes, random mixes."""
    codes = range(PROBED_CODES)
    probes = [np.zeros(MOTION_SIZE, np.float32)]
    for limit in (space.low, space.high):
        probes += [np.where(np.arange(MOTION_SIZE) == code, limit, 0).astype(np.float32) for code in codes]
    rng = np.random.default_rng(PROBE_SEED)
    mixed = np.zeros((RANDOM_PROBES, MOTION_SIZE), np.float32)
    mixed[:, MOUTH_CODES] = rng.normal(0, PROBE_DEVIATION, mixed[:, MOUTH_CODES].shape)
    return torch.from_numpy(space.clamp(np.concatenate([np.stack(probes), mixed])))


class AvatarFrames(nn.Module):
    """Pictures of an avatar at rest pose, differentiable in the motion.

    Args:
        avatar: Its field is copied to float32 and frozen.
        view: What is shown.
        retarget: From the speaker's motion to the avatar's; the avatar folder's own if not given.

    Raises:
        ModelError: The avatar's files are damaged.
    """

    low: Tensor
    high: Tensor
    retarget: Tensor  # (20, 20)
    rotvec: Tensor  # (3,)
    points: Tensor  # (N, 3) deformed positions, sorted by ray and depth
    slots: Tensor  # (N,) place of each in (rays * depth)
    underlay: Tensor  # (rays, 3), 0..1
    lines: Tensor  # (rays, 8) each pixel's ray: origin, direction, entry, exit
    occupied: Tensor  # (G, G, G) bool

    def __init__(self, avatar: Avatar, view: View, retarget: Retarget | None = None) -> None:
        super().__init__()
        space = load_motion_space()
        self.view = view
        self.field = _frozen_field(avatar)
        matrix = (retarget or Retarget.load(avatar.folder)).matrix
        rotvec = torch.from_numpy(avatar.config.rest_pose.rotation_vector()).float()
        constants = {
            "low": torch.from_numpy(space.low),
            "high": torch.from_numpy(space.high),
            "retarget": torch.from_numpy(matrix),
            "rotvec": rotvec,
            "underlay": _underlay(avatar, view),
        }
        for name, value in constants.items():
            self.register_buffer(name, value, persistent=False)
        points, seen = self._shell(avatar, probe_motions(space))
        self._kept: OccupancyGrid | None = None
        self.depth = int(seen.sum(1).max())
        ranks = seen.cumsum(1) - 1 + self.depth * torch.arange(len(seen))[:, None]
        self.register_buffer("points", points[seen], persistent=False)
        self.register_buffer("slots", ranks[seen], persistent=False)

    @property
    def samples_per_ray(self) -> float:
        """Mean number of the shell's samples along a ray."""
        return len(self.points) / len(self.underlay)

    def forward(self, motion: Tensor) -> Tensor:
        """(B, T, 3, height, width), 0..1, of motion (B, T, 32) in the motion space; in float32, also under autocast.

        Raises:
            InputError: The shape is another.
        """
        if motion.dim() != 3 or motion.shape[-1] != MOTION_SIZE:
            raise InputError(f"rendered frames need motion (B, T, {MOTION_SIZE}), got {tuple(motion.shape)}")
        with torch.autocast(motion.device.type, enabled=False):
            pictures = self._render(motion.flatten(0, 1).to(self.low.dtype))
        shape = (*motion.shape[:2], self.view.height_px, self.view.width_px, 3)
        return pictures.view(shape).permute(0, 1, 4, 2, 3)

    def _render(self, motion: Tensor) -> Tensor:
        """(F * rays, 3) of motion (F, 32)."""
        frames = self._conditions(motion)
        if motion.device.type == "cuda":
            return self._render_fused(frames)
        count, rays = len(motion), len(self.underlay)
        frame, point = self._carrying(frames).nonzero(as_tuple=True)  # sorted by frame, ray and depth
        counts = torch.bincount(frame, minlength=count).tolist()
        density, color = self.field.density_and_color(self.points[point], counts, frames)
        slots = frame * (rays * self.depth) + self.slots[point]
        alpha = density.new_zeros(count * rays * self.depth).index_copy(0, slots, self._opacity(density))
        weights = _compositing_weights(alpha.view(-1, self.depth))
        light = weights.view(-1)[slots, None] * color
        head = light.new_zeros(count * rays, 3).index_add(0, slots // self.depth, light)
        return head + (1 - weights.sum(1, keepdim=True)) * self.underlay.repeat(count, 1)

    def _render_fused(
        self, frames: FrameConditions, *, precision: Precision = "bfloat16", backend: Backend = "auto"
    ) -> Tensor:
        """The same of conditions of F frames, by the differentiable kernel."""
        count, rays = len(frames.bias1), len(self.lines)
        lines = self.lines.repeat(count, 1)
        ways = Rays(lines[:, :3], lines[:, 3:6], lines[:, 6], lines[:, 7], (rays,) * count)
        volume = training_volume(self.field, self._grid(), LEAST_TRANSMITTANCE)
        field, conditions = kernel_field(self.field), kernel_frames(frames)
        sums = march_rays(field, conditions, ways, volume, precision=precision, backend=backend)
        opacity = 1 - sums.transmittance[:, None]
        scale = _brightening(opacity)
        return scale * sums.color + (1 - scale * opacity) * self.underlay.repeat(count, 1)

    def _grid(self) -> OccupancyGrid:
        """Of the device that the buffers are on now."""
        if self._kept is None or self._kept.occupied.device != self.occupied.device:
            self._kept = OccupancyGrid(self.occupied)
        return self._kept

    def _conditions(self, motion: Tensor) -> FrameConditions:
        """Of (F, 32): clamped and retargeted, as `model.pipeline` does."""
        limited = torch.minimum(torch.maximum(motion, self.low), self.high)
        owned = limited[:, :AUDIO_OWNED] @ self.retarget.t()
        shown = torch.cat([owned, limited[:, AUDIO_OWNED:]], 1)
        return self.field.frame_conditions(shown, self.rotvec.expand(len(shown), 3))

    def _opacity(self, density: Tensor) -> Tensor:
        """Of samples a step apart."""
        return 1 - torch.exp(-density * self.field.config.step)

    @torch.no_grad()
    def _carrying(self, frames: FrameConditions) -> Tensor:
        """(F, N) which of the shell's points carry weight in each of F frames."""
        chunks = zip(*(part.split(CHUNK_FRAMES) for part in frames), strict=True)
        return torch.cat([self._carrying_few(FrameConditions(*chunk)) for chunk in chunks])

    def _carrying_few(self, frames: FrameConditions) -> Tensor:
        count, rays = len(frames.bias1), len(self.underlay)
        points = self.points.expand(count, -1, -1).reshape(-1, 3)
        with torch.autocast(points.device.type, torch.bfloat16):
            density, _ = self.field.density_and_color(points, [len(self.points)] * count, frames)
        alpha = density.new_zeros(count, rays * self.depth)
        alpha[:, self.slots] = self._opacity(density).view(count, -1)
        weights = _compositing_weights(alpha.view(count, rays, self.depth)).view(count, -1)
        return weights[:, self.slots] > MIN_WEIGHT

    @torch.no_grad()
    def _shell(self, avatar: Avatar, probes: Tensor) -> tuple[Tensor, Tensor]:
        """Sample points (rays, S, 3) of the view, and whether (rays, S) any probe gives them weight."""
        config, step = avatar.config, self.field.config.step
        occupancy = _occupancy(avatar)
        pose = head_matrix(config.rest_pose.rotation_vector(), config.neck)
        camera = torch.from_numpy(cam_to_canonical(pose, config.camera.matrix(), config.space))
        x, y = self.view.centres()
        size = config.camera.size_px
        lens = Intrinsics(*config.camera.intrinsics(size))
        directions = ray_directions(x * size - 0.5, y * size - 0.5, lens, camera[:, :3])
        origin = camera[:, 3].expand_as(directions)
        near, far = ray_box(origin, directions, occupancy.box_lo, occupancy.box_hi)
        lines = torch.cat([origin, directions, near[:, None], far[:, None]], 1)
        self.register_buffer("lines", lines, persistent=False)
        self.register_buffer("occupied", occupancy.occupied, persistent=False)
        samples = max(1, math.ceil(float((far - near).clamp(min=0).max()) / step))
        t = near[:, None] + (torch.arange(samples) + 0.5) * step
        points = origin[:, None] + t[..., None] * directions[:, None]
        inside = (t < far[:, None]) & occupancy.contains(points.view(-1, 3)).view(t.shape)
        heaviest = torch.zeros(t.shape)
        for probe in probes:
            frame = self._conditions(probe[None])
            with torch.autocast("cpu", torch.bfloat16):
                density, _ = self.field.density_and_color(points[inside], [int(inside.sum())], frame)
            alpha = torch.zeros(t.shape)
            alpha[inside] = self._opacity(density)
            heaviest = torch.maximum(heaviest, _compositing_weights(alpha))
        volume = (heaviest > MIN_PROBE_WEIGHT).view(1, 1, self.view.height_px, self.view.width_px, samples)
        grown = functional.max_pool3d(volume.float(), 3, 1, 1).view(t.shape) > 0
        return points, grown & inside


def _compositing_weights(alpha: Tensor) -> Tensor:
    """Weights (..., S) of samples with opacities (..., S), front to back; a ray that is all but opaque sums to 1.

    The kernel divides by the opacity from 1 - `TERMINATION` on; here that sets in gradually, so that a pixel does not
    jump.
    """
    through = torch.cumprod(1 - alpha, -1)
    weights = alpha * torch.cat([torch.ones_like(through[..., :1]), through[..., :-1]], -1)
    return weights * _brightening(weights.sum(-1, keepdim=True))


def _brightening(opacity: Tensor) -> Tensor:
    """Factor by which the weights of a ray of that opacity grow."""
    share = ((opacity - (1 - 2 * TERMINATION)) / TERMINATION).clamp(0, 1)
    return 1 + share * (1 / opacity.clamp(min=TERMINATION) - 1)


def _frozen_field(avatar: Avatar) -> RadianceField:
    with torch.random.fork_rng(devices=[]):  # the random weights that are overwritten at once
        field = field_from_arrays(RadianceField(avatar.config.field_config), avatar.arrays)
    return field.requires_grad_(False).eval()


def _occupancy(avatar: Avatar) -> OccupancyGrid:
    bits = np.unpackbits(np.asarray(avatar.arrays["occupancy_bits"], np.uint8))
    size = round(len(bits) ** (1 / 3))
    return OccupancyGrid(torch.from_numpy(bits.reshape(size, size, size)))


def _underlay(avatar: Avatar, view: View) -> Tensor:
    """(rays, 3), 0..1: torso over background, bilinear, at the pixels of the view."""
    size = avatar.config.camera.size_px
    picture = compose_underlay(np.asarray(avatar.arrays["torso"], np.uint8), avatar.config.background, size)
    x, y = view.centres()
    grid = torch.stack([x, y], -1)[None, None] * 2 - 1
    planes = torch.from_numpy(picture).float().permute(2, 0, 1)[None] / 255
    return functional.grid_sample(planes, grid, padding_mode="border", align_corners=False)[0, :, 0].t()
