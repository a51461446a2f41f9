"""A batch of sessions rendered by one launch of the Triton kernel: inputs and pictures stay on the device."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kernels.backend import choose_backend, triton_problem
from kernels.checks import KernelInputError, check_range
from kernels.ray_march.arrays import HIDDEN, MAX_SIDE_PX, FrameInputs
from kernels.ray_march.prepared import PreparedField
from kernels.ray_march.shapes import FIELD_WORDS, STAGES, tile_constants, tile_for

CAMERA_FLOATS = 16
WARP_WORDS = 4
MAX_SLOTS = 65535  # of one launch
INTERPRETED = tile_for("fp16", 90)  # the interpreter has neither warps nor registers: the largest tile


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One session's frame, on its field's device. Values are not looked at: that would wait for the device.

    Raises:
        KernelInputError: A tensor has the wrong shape, dtype, device or strides.
    """

    field: PreparedField
    biases: Tensor  # (2, 64) float32: static bias + this frame's residual
    warp: Tensor  # (Gx, Gy, Gz, 3) float32 displacement, corners aligned with the field's warp box
    camera: Tensor  # (16,) float32: cam_to_canonical (3, 4) row by row, fx, fy, cx, cy

    def __post_init__(self) -> None:
        device = self.field.device
        check_tensor("biases", self.biases, (2, HIDDEN), torch.float32, device)
        check_tensor("warp", self.warp, (None, None, None, 3), torch.float32, device)
        if min(self.warp.shape[:3]) < 2 or max(self.warp.shape[:3]) > 256:
            raise KernelInputError(f"warp needs 2 to 256 nodes per axis, got shape {tuple(self.warp.shape)}")
        check_tensor("camera", self.camera, (CAMERA_FLOATS,), torch.float32, device)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarchBatch:
    """What the kernel reads for B slots. The tensors may be filled in place between launches (CUDA graphs).

    Raises:
        KernelInputError: A tensor has the wrong shape, dtype, device or strides, or the fields do not go together.
    """

    prepared: tuple[PreparedField, ...]  # B, in the order of the slots; kept alive by this
    fields: Tensor  # (B, 8) int64: rows of the prepared fields
    cameras: Tensor  # (B, 16) float32
    biases: Tensor  # (B, 2, 64) float32
    warps: Tensor  # float32, the slots' grids wherever warp_table says
    warp_table: Tensor  # (B, 4) int64: offset in `warps` in floats, nodes along x, y, z

    def __post_init__(self) -> None:
        B, device = len(self.prepared), self.fields.device
        check_range("slots", B, 0, MAX_SLOTS)
        kinds = sorted({f"{field.precision} on {field.device}" for field in self.prepared})
        if len(kinds) > 1:
            raise KernelInputError(f"fields of one batch need one precision and device, got {', '.join(kinds)}")
        if self.prepared and self.prepared[0].device != device:
            raise KernelInputError(f"fields are on {self.prepared[0].device}, got a batch on {device}")
        check_tensor("fields", self.fields, (B, FIELD_WORDS), torch.int64, device)
        check_tensor("cameras", self.cameras, (B, CAMERA_FLOATS), torch.float32, device)
        check_tensor("biases", self.biases, (B, 2, HIDDEN), torch.float32, device)
        check_tensor("warps", self.warps, (None,) * self.warps.ndim, torch.float32, device)
        check_tensor("warp_table", self.warp_table, (B, WARP_WORDS), torch.int64, device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """What a batch renders, float32 on its device."""

    rgba: Tensor  # (B, H, W, 4) premultiplied, 0..1
    depth: Tensor  # (B, H, W) distance from the camera in canonical units, times alpha
    samples: Tensor | None  # (B, H, W) int32 field evaluations, where they were asked for


def upload_slot(field: PreparedField, frame: FrameInputs) -> Slot:
    """A slot from NumPy arrays (checked by FrameInputs)."""
    lens = [frame.fx, frame.fy, frame.cx, frame.cy]
    camera = np.concatenate([frame.cam_to_canonical.ravel(), lens]).astype(np.float32)
    biases = np.stack([frame.bias1, frame.bias2])
    to = field.device
    return Slot(
        field=field,
        biases=torch.tensor(biases, device=to),
        warp=torch.tensor(frame.warp, device=to),
        camera=torch.tensor(camera, device=to),
    )


def pack_slots(slots: Sequence[Slot], device: torch.device | str | None = None) -> MarchBatch:
    """Put slots into one batch: copies on the device, in the order given.

    Args:
        device: Needed for an empty batch only.

    Raises:
        KernelInputError: Fields of several devices or precisions.
    """
    prepared = tuple(slot.field for slot in slots)
    if not slots:
        empty = torch.zeros(0, device=device)
        words = torch.zeros(0, FIELD_WORDS, dtype=torch.int64, device=device)
        return MarchBatch(
            prepared=(),
            fields=words,
            cameras=empty.reshape(0, CAMERA_FLOATS),
            biases=empty.reshape(0, 2, HIDDEN),
            warps=empty,
            warp_table=words[:, :WARP_WORDS].contiguous(),
        )
    if len({field.device for field in prepared}) > 1:
        raise KernelInputError(f"fields of one batch need one device, got {sorted(str(f.device) for f in prepared)}")
    offsets = np.cumsum([0, *(slot.warp.numel() for slot in slots)])
    table = [[int(offset), *slot.warp.shape[:3]] for slot, offset in zip(slots, offsets, strict=False)]
    return MarchBatch(
        prepared=prepared,
        fields=torch.stack([field.row for field in prepared]),
        cameras=torch.stack([slot.camera for slot in slots]),
        biases=torch.stack([slot.biases for slot in slots]),
        warps=torch.cat([slot.warp.flatten() for slot in slots]),
        warp_table=torch.tensor(table, dtype=torch.int64, device=prepared[0].device),
    )


def render_batch(
    slots: Sequence[Slot], height: int, width: int, *, count_samples: bool = False, device: torch.device | None = None
) -> Pictures:
    """Render one frame of each slot in one launch; nothing is read back.

    Args:
        device: Where an empty batch's pictures go.

    Raises:
        KernelInputError: Slots that do not go together, a size out of range, or Triton cannot run on their device.
    """
    check_range("height", height, 1, MAX_SIDE_PX)
    check_range("width", width, 1, MAX_SIDE_PX)
    batch = pack_slots(slots, device)
    shape, to = (len(slots), height, width), batch.fields.device
    pictures = Pictures(
        rgba=torch.empty((*shape, 4), device=to),
        depth=torch.empty(shape, device=to),
        samples=torch.empty(shape, dtype=torch.int32, device=to) if count_samples else None,
    )
    render_into(batch, pictures)
    return pictures


def render_into(batch: MarchBatch, pictures: Pictures) -> None:
    """Launch the kernel on buffers that are there; every pixel is overwritten. Can be captured in a CUDA graph.

    Raises:
        KernelInputError: The pictures do not fit the batch, or Triton cannot run on its device.
    """
    B, device = len(batch.prepared), batch.fields.device
    choose_backend("ray_march", "triton", triton=triton_problem(device, "triton"))
    check_tensor("rgba", pictures.rgba, (B, None, None, 4), torch.float32, device)
    height, width = pictures.rgba.shape[1:3]
    check_range("height", height, 1, MAX_SIDE_PX)
    check_range("width", width, 1, MAX_SIDE_PX)
    check_tensor("depth", pictures.depth, (B, height, width), torch.float32, device)
    if pictures.samples is not None:
        check_tensor("samples", pictures.samples, (B, height, width), torch.int32, device)
    if B:
        _launch(batch, pictures, height, width)


def _launch(batch: MarchBatch, pictures: Pictures, height: int, width: int) -> None:
    from kernels.ray_march.triton_impl import march_kernel

    device, precision = batch.fields.device, batch.prepared[0].precision
    on_gpu = device.type == "cuda"
    tile = tile_for(precision, _architecture(device)) if on_gpu else INTERPRETED
    tiles = -(-width // tile.width) * -(-height // tile.height)
    emulate = not on_gpu and precision == "bf16"
    options = {} if tile.registers is None else {"maxnreg": tile.registers}
    with torch.cuda.device(device) if on_gpu else nullcontext():
        march_kernel[(tiles, len(batch.prepared))](
            batch.fields,
            batch.cameras,
            batch.biases,
            batch.warps,
            batch.warp_table,
            pictures.rgba,
            pictures.depth,
            pictures.samples,
            height,
            width,
            **tile_constants(tile, precision, count=pictures.samples is not None, emulate=emulate),
            num_warps=tile.warps,
            num_stages=STAGES,
            enable_fp_fusion=False,
            **options,
        )


def _architecture(device: torch.device) -> int:
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def check_tensor(
    name: str, tensor: Tensor, shape: tuple[int | None, ...], dtype: torch.dtype, device: torch.device
) -> None:
    """Check one tensor. ``None`` in ``shape`` matches any length.

    Raises:
        KernelInputError: Not a contiguous tensor of this shape and dtype on this device.
    """
    if not isinstance(tensor, Tensor):
        raise KernelInputError(f"{name} must be a tensor, got {type(tensor).__name__}")
    if tensor.dtype != dtype:
        raise KernelInputError(f"{name} must be {dtype}, got {tensor.dtype}")
    got = tuple(tensor.shape)
    if len(got) != len(shape) or any(want not in (None, n) for n, want in zip(got, shape, strict=True)):
        wanted = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
        raise KernelInputError(f"{name} must have shape {wanted}, got {got}")
    if tensor.device != device:
        raise KernelInputError(f"{name} must be on {device}, got {tensor.device}")
    if not tensor.is_contiguous():
        raise KernelInputError(f"{name} must be contiguous, got strides {tensor.stride()}")
