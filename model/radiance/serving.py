"""Renders an avatar for serving: a few small NumPy products per frame, then the kernel."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kernels.backend import Backend
from kernels.color import composite_i420
from kernels.layer import warp_layer
from kernels.ray_march import FieldArrays, FrameInputs, RayMarcher
from model.avatar import Avatar, AvatarConfig
from model.errors import InputError
from model.radiance.camera import CanonicalSpace, HeadPose, cam_to_canonical, head_matrix
from model.radiance.compositor import Backdrop, Background, compose_underlay, resize_area
from model.radiance.config import MOTION_GAINS, ROTATION_SCALE_RAD
from model.radiance.matter import known_matter, spread_motions

if TYPE_CHECKING:
    from model.radiance.upscale import Upscaler  # torch, which rendering alone does not need

MAX_UNDERLAYS = 16
BLACK, WHITE = Background(top=(0, 0, 0), bottom=(0, 0, 0)), Background(top=(255, 255, 255), bottom=(255, 255, 255))
SAMPLE_PX = 48  # of the frame on which the kernel checks how exact it is
FAINT_ALPHA = 16 / 255  # below it straight color fades to the avatar's own background: it is noise, and not seen


class FieldConditioner:
    """Turns motion and head pose into the kernel's per-frame inputs. Immutable after construction."""

    def __init__(self, config: AvatarConfig, arrays: dict[str, NDArray[np.generic]]) -> None:
        self.config = config
        self._layers = {
            name: (_float32(arrays[f"{name}.weight"]), _float32(arrays[f"{name}.bias"]))
            for name in ("layer1", "layer2", "bias_in", "bias_mid", "bias_out", "warp_mix")
        }
        basis = _float32(arrays["warp_basis"])
        self._warp_shape = basis.shape[1:]
        self._warp_basis = basis.reshape(len(basis), -1)
        self._cam_to_world = config.camera.matrix()

    def frame_inputs(self, motion: NDArray[np.float32], pose: HeadPose, size_px: int) -> FrameInputs:
        """One frame: motion (motion_size,), head pose in degrees, square picture of `size_px`.

        Raises:
            InputError: Motion of another length, or not finite.
        """
        rotvec = pose.rotation_vector()
        matrix = cam_to_canonical(head_matrix(rotvec, self.config.neck), self._cam_to_world, self.config.space)
        return self.frame_inputs_for_camera(motion, rotvec.astype(np.float32), matrix, size_px)

    def frame_inputs_for_camera(
        self,
        motion: NDArray[np.float32],
        rotvec: NDArray[np.float32],  # (3,) rad; shading and neck
        camera_matrix: NDArray[np.float32],  # (3, 4) cam_to_canonical
        size_px: int,
    ) -> FrameInputs:
        """The same for a camera of one's own (measuring novel views)."""
        bias1, bias2, warp = self.conditions(motion, rotvec)
        fx, fy, cx, cy = self.config.camera.intrinsics(size_px)
        return FrameInputs(
            bias1=bias1,
            bias2=bias2,
            warp=warp,
            cam_to_canonical=camera_matrix,
            fx=fx,
            fy=fy,
            cx=cx,
            cy=cy,
            height=size_px,
            width=size_px,
        )

    def conditions(
        self, motion: NDArray[np.float32], rotvec: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Biases (hidden,) of both layers and the warp grid (Gx, Gy, Gz, 3)."""
        size = self.config.field_config.motion_size
        if motion.shape != (size,) or not np.isfinite(motion).all():
            raise InputError(f"motion must be {size} finite numbers, got shape {motion.shape}")
        condition = condition_vector(motion, rotvec)
        hidden = np.maximum(self._apply("bias_in", condition), 0)
        hidden = np.maximum(self._apply("bias_mid", hidden), 0)
        delta1, delta2 = np.split(self._apply("bias_out", hidden), 2)
        warp = (self._apply("warp_mix", condition) @ self._warp_basis).reshape(self._warp_shape)
        return self._layers["layer1"][1] + delta1, self._layers["layer2"][1] + delta2, warp

    def _apply(self, name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
        weight, bias = self._layers[name]
        return np.asarray(weight @ values + bias, np.float32)


class AvatarRenderer:
    """An avatar at one picture size. Not shared between threads: the kernel's buffers belong to it."""

    def __init__(
        self,
        avatar: Avatar,
        *,
        size_px: int = 256,
        background: Backdrop | None = None,
        threads: int = 1,
        backend: Backend = "auto",
        instruction_set: str = "auto",
        upscaler: Upscaler | None = None,
    ) -> None:
        """With an `upscaler` the head is rendered at half of `size_px` and enlarged; the rest is at full size.

        `backend` "triton" is the head's alone: torso and colour of single pictures are laid on the CPU then.
        """
        self.avatar = avatar
        self.size_px = size_px
        self.conditioner = FieldConditioner(avatar.config, avatar.arrays)
        motion = np.zeros(avatar.config.field_config.motion_size, np.float32)
        self.marcher = RayMarcher(
            field_arrays(avatar) if backend == "triton" else served_field(avatar, self.conditioner),
            threads=threads,
            backend=backend,
            instruction_set=instruction_set,
            sample=self.conditioner.frame_inputs(motion, avatar.config.rest_pose, SAMPLE_PX),
        )
        self._backend: Backend = backend
        self._flat_backend: Backend = "auto" if backend == "triton" else backend
        self._asked_set = instruction_set
        self._torso = np.asarray(avatar.arrays["torso"], np.uint8)
        self._following = FollowingTorso(avatar, size_px) if "torso_mix" in avatar.arrays else None
        self._underlays: dict[Backdrop, NDArray[np.uint8]] = {}
        self.upscaler = upscaler
        self._head_px = size_px if upscaler is None else size_px // 2
        self._rgba = np.empty((self._head_px, self._head_px, 4), np.float32)
        self.underlay(background or avatar.config.background)
        self.background = background or avatar.config.background

    def like(self, avatar: Avatar) -> AvatarRenderer:
        """A renderer of another avatar with this one's size, threads, backend and choice of instruction set."""
        marcher = self.marcher
        return AvatarRenderer(
            avatar,
            size_px=self.size_px,
            threads=marcher.threads,
            backend=self._backend,
            instruction_set=self._asked_set,
            upscaler=self.upscaler,
        )

    def render(
        self, motion: NDArray[np.float32], pose: HeadPose, background: Backdrop | None = None
    ) -> NDArray[np.uint8]:
        """I420 picture (size * 3 // 2, size) uint8 of motion (32,) and head pose."""
        return self.composite(self.render_head(motion, pose), background, pose)

    def render_head(self, motion: NDArray[np.float32], pose: HeadPose) -> NDArray[np.float32]:
        """Premultiplied RGBA (size, size, 4) of the head alone; overwritten by the next call."""
        head = self.marcher.render(self.conditioner.frame_inputs(motion, pose, self._head_px), self._rgba)
        return head if self.upscaler is None else self.upscaler(head)

    def render_head_seen_by(
        self,
        motion: NDArray[np.float32],
        rotvec: NDArray[np.float32],  # (3,) rad; shading and neck
        camera_matrix: NDArray[np.float32],  # (3, 4) cam_to_canonical
        lens: NDArray[np.floating] | None = None,  # (4,) fx, fy, cx, cy in pixels of this size; None: the avatar's
    ) -> NDArray[np.float32]:
        """The same at full size before a camera of one's own (measuring), in an array of its own."""
        inputs = self.conditioner.frame_inputs_for_camera(motion, rotvec, camera_matrix, self.size_px)
        if lens is not None:
            fx, fy, cx, cy = (float(v) for v in lens)
            inputs = replace(inputs, fx=fx, fy=fy, cx=cx, cy=cy)
        return self.marcher.render(inputs)

    def composite(
        self, rgba: NDArray[np.float32], background: Backdrop | None = None, pose: HeadPose | None = None
    ) -> NDArray[np.uint8]:
        """Head over torso and background, as I420; the torso as the pose moves it, if it does."""
        under = self.underlay(background or self.background, pose)
        return composite_i420(rgba, under, backend=self._flat_backend)

    def cut_out(
        self, rgba: NDArray[np.float32], pose: HeadPose | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Head over torso before nothing: I420 (size * 3 // 2, size) of straight color, and alpha (size, size)."""
        black = self.underlay(BLACK, pose).astype(np.float32)
        torso = 255 - (self.underlay(WHITE, pose) - black).mean(2)  # alpha is how little the backdrop matters
        behind = 1 - np.clip(rgba[..., 3:], 0, 1)
        alpha = 1 - behind * (1 - torso[..., None] / 255)
        color = rgba[..., :3] * 255 + behind * black
        shown = np.clip(alpha / FAINT_ALPHA, 0, 1)
        own = color + (1 - alpha) * self.avatar.config.background.picture(self.size_px)
        straight = shown * color / np.maximum(alpha, 1 / 255) + (1 - shown) * own
        opaque = np.ascontiguousarray(np.clip(np.rint(straight), 0, 255), np.uint8)
        cover = np.asarray(np.clip(np.rint(alpha[..., 0] * 255), 0, 255), np.uint8)
        return composite_i420(np.zeros_like(rgba), opaque, backend=self._flat_backend), cover

    def underlay(self, background: Backdrop, pose: HeadPose | None = None) -> NDArray[np.uint8]:
        """Opaque torso over background (size, size, 3), kept for the few backgrounds in use."""
        behind = self.behind(background)
        if self._following is None:
            return behind
        rotvec = (pose or self.avatar.config.rest_pose).rotation_vector()
        return self._following.over(behind, rotvec, head_matrix(rotvec, self.avatar.config.neck), self._flat_backend)

    def behind(self, background: Backdrop) -> NDArray[np.uint8]:
        follows = self._following is not None
        if background not in self._underlays:
            if len(self._underlays) >= MAX_UNDERLAYS:
                self._underlays.pop(next(iter(self._underlays)))
            torso = np.zeros_like(self._torso) if follows else self._torso
            self._underlays[background] = compose_underlay(torso, background, self.size_px)
        return self._underlays[background]

    def underlay_at(
        self, rotvec: NDArray[np.floating], head_to_world: NDArray[np.floating], background: Backdrop | None = None
    ) -> NDArray[np.uint8]:
        """The same for a head anywhere (4, 4), as filmed heads are."""
        behind = self.behind(background or self.background)
        if self._following is None:
            return behind
        return self._following.over(behind, rotvec, head_to_world, self._flat_backend)


class FollowingTorso:
    """A torso layer that moves with the head (`model.radiance.torso`), at one picture size."""

    def __init__(self, avatar: Avatar, size_px: int) -> None:
        torso = resize_area(np.asarray(avatar.arrays["torso"], np.float32), size_px)
        self._layer = np.ascontiguousarray(np.clip(np.rint(torso), 0, 255), np.uint8)
        self._mix = _float32(avatar.arrays["torso_mix"])
        self._basis = np.ascontiguousarray(_float32(avatar.arrays["torso_basis"]).transpose(2, 3, 1, 0))
        self._space = avatar.config.space

    def over(
        self,
        background: NDArray[np.uint8],
        rotvec: NDArray[np.floating],  # (3,) rad
        head_to_world: NDArray[np.floating],  # (4, 4)
        backend: Backend = "auto",
    ) -> NDArray[np.uint8]:
        """The torso at a head pose over an opaque background (size, size, 3)."""
        pose = torso_pose(rotvec, head_to_world, self._space)
        grid = np.ascontiguousarray(self._basis @ (self._mix @ pose), np.float32)
        return warp_layer(self._layer, grid, background, backend=backend)


def torso_pose(
    rotvec: NDArray[np.floating], head_to_world: NDArray[np.floating], space: CanonicalSpace
) -> NDArray[np.float32]:
    """(6,) what a torso follows: rotation vector over its scale, shift of the head's centre in canonical units."""
    centre = np.asarray(space.centre)
    shift = (head_to_world[:3, :3] @ centre + head_to_world[:3, 3] - centre) / space.scale
    return np.concatenate([np.asarray(rotvec) / ROTATION_SCALE_RAD, shift]).astype(np.float32)


def field_arrays(avatar: Avatar) -> FieldArrays:
    """The kernel's view of an avatar."""
    arrays, config = avatar.arrays, avatar.config.field_config
    bits = np.unpackbits(np.asarray(arrays["occupancy_bits"], np.uint8))
    grid = round(len(bits) ** (1 / 3))
    return FieldArrays(
        planes=np.ascontiguousarray(arrays["planes"], np.float16),
        w1=_float32(arrays["layer1.weight"]),
        w2=_float32(arrays["layer2.weight"]),
        w3=_float32(arrays["layer3.weight"]),
        b3=_float32(arrays["layer3.bias"]),
        occupancy=bits.reshape(grid, grid, grid).astype(np.bool_),
        warp_lo=np.asarray(config.warp_lo, np.float32),
        warp_hi=np.asarray(config.warp_hi, np.float32),
        density_scale=config.density_scale,
        step=config.step,
    )


def served_field(avatar: Avatar, conditioner: FieldConditioner) -> FieldArrays:
    """`field_arrays`, and where canonical space has matter (`model.radiance.matter`): frames take fewer samples.

    The CPU kernel and the reference use it, the Triton kernel does not.
    """
    motions = spread_motions(avatar.config.field_config.motion_size)
    conditions = [conditioner.conditions(motion, pose.rotation_vector().astype(np.float32)) for motion, pose in motions]
    field = field_arrays(avatar)
    return replace(field, matter=known_matter(field, conditions))


def condition_vector(motion: NDArray[np.float32], rotvec: NDArray[np.float32]) -> NDArray[np.float32]:
    """`model.radiance.field.condition_vector` for one frame."""
    gains = np.asarray(MOTION_GAINS if len(motion) == len(MOTION_GAINS) else 1.0, np.float32)
    x, y, z = scaled = np.asarray(rotvec, np.float32) / np.float32(ROTATION_SCALE_RAD)
    products = np.array([x * x, y * y, z * z, x * y, x * z, y * z], np.float32)
    return np.concatenate([motion * gains, scaled, products]).astype(np.float32)


def _float32(array: NDArray[np.generic]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, np.float32)
