"""Renders an avatar for serving: a few small NumPy products per frame, then the kernel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.backend import Backend
from kernels.color import composite_i420
from kernels.ray_march import FieldArrays, FrameInputs, RayMarcher
from model.avatar import Avatar, AvatarConfig
from model.errors import InputError
from model.radiance.camera import HeadPose, cam_to_canonical, head_matrix
from model.radiance.compositor import Background, compose_underlay
from model.radiance.config import MOTION_GAINS, ROTATION_SCALE_RAD

MAX_UNDERLAYS = 16


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
        background: Background | None = None,
        threads: int = 1,
        backend: Backend = "auto",
        instruction_set: str = "auto",
    ) -> None:
        self.avatar = avatar
        self.size_px = size_px
        self.conditioner = FieldConditioner(avatar.config, avatar.arrays)
        self.marcher = RayMarcher(
            field_arrays(avatar), threads=threads, backend=backend, instruction_set=instruction_set
        )
        self._backend: Backend = backend
        self._torso = np.asarray(avatar.arrays["torso"], np.uint8)
        self._underlays: dict[Background, NDArray[np.uint8]] = {}
        self._rgba = np.empty((size_px, size_px, 4), np.float32)
        self.underlay(background or avatar.config.background)
        self.background = background or avatar.config.background

    def render(
        self, motion: NDArray[np.float32], pose: HeadPose, background: Background | None = None
    ) -> NDArray[np.uint8]:
        """I420 picture (size * 3 // 2, size) uint8 of motion (32,) and head pose."""
        return self.composite(self.render_head(motion, pose), background)

    def render_head(self, motion: NDArray[np.float32], pose: HeadPose) -> NDArray[np.float32]:
        """Premultiplied RGBA (size, size, 4) of the head alone; overwritten by the next call."""
        return self.marcher.render(self.conditioner.frame_inputs(motion, pose, self.size_px), self._rgba)

    def composite(self, rgba: NDArray[np.float32], background: Background | None = None) -> NDArray[np.uint8]:
        """Head over torso and background, as I420."""
        return composite_i420(rgba, self.underlay(background or self.background), backend=self._backend)

    def underlay(self, background: Background) -> NDArray[np.uint8]:
        """Opaque torso over background (size, size, 3), kept for the few backgrounds in use."""
        if background not in self._underlays:
            if len(self._underlays) >= MAX_UNDERLAYS:
                self._underlays.pop(next(iter(self._underlays)))
            self._underlays[background] = compose_underlay(self._torso, background, self.size_px)
        return self._underlays[background]


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


def condition_vector(motion: NDArray[np.float32], rotvec: NDArray[np.float32]) -> NDArray[np.float32]:
    """`model.radiance.field.condition_vector` for one frame."""
    gains = np.asarray(MOTION_GAINS if len(motion) == len(MOTION_GAINS) else 1.0, np.float32)
    x, y, z = scaled = np.asarray(rotvec, np.float32) / np.float32(ROTATION_SCALE_RAD)
    products = np.array([x * x, y * y, z * z, x * y, x * z, y * z], np.float32)
    return np.concatenate([motion * gains, scaled, products]).astype(np.float32)


def _float32(array: NDArray[np.generic]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, np.float32)
