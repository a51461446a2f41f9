"""Avatars' fields as the Triton ray marcher reads them: uploaded once, addressed by a row of a table."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.checks import KernelInputError
from kernels.ray_march.arrays import HIDDEN, FieldArrays
from kernels.ray_march.shapes import FIELD_WORDS

Precision = Literal["fp16", "bf16", "fp32"]
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
CONSTANT_FLOATS = 32  # their order is in triton_parts.py
OUTPUT_COLUMNS = 16  # the last layer's 4 outputs, padded
FARTHEST = 255  # distances above it are stored as it


class PreparedField:
    """One avatar's field on a device. Holds copies: the arrays may be dropped.

    Sessions with different avatars share a launch if their fields have one device and one precision. `row` holds
    addresses of this object's tensors: keep the object until the launches that read it are done.

    Args:
        precision: Type of weights and activations. Planes are fp16 and sums float32 in each.

    Raises:
        KernelInputError: Unknown precision.
    """

    def __init__(self, field: FieldArrays, device: torch.device | str, *, precision: Precision = "fp16") -> None:
        if precision not in get_args(Precision):
            raise KernelInputError(f"precision must be one of {get_args(Precision)}, got {precision!r}")
        self.precision: Precision = precision
        self.planes = _upload(field.planes, device)  # (3, R, R, 16) float16
        self.distance = _upload(chebyshev_distance(field.occupancy), device)  # (G, G, G) uint8
        self.weights = _upload(pack_weights(field), device).to(DTYPES[precision])
        self.constants = _upload(pack_constants(field), device)  # (32,) float32
        self.device = self.planes.device
        tensors = (self.planes, self.distance, self.weights, self.constants)
        words = [tensor.data_ptr() for tensor in tensors] + [field.planes.shape[1], field.occupancy.shape[0]]
        self.row = _upload(np.array(words + [0] * (FIELD_WORDS - len(words)), np.int64), device)  # (8,) int64


def chebyshev_distance(occupancy: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Voxels (G, G, G) to the nearest occupied one, along the widest axis; at most 255, and 255 if there is none."""
    from scipy.ndimage import distance_transform_cdt

    if not occupancy.any():
        return np.full(occupancy.shape, FARTHEST, np.uint8)
    distance = distance_transform_cdt(~occupancy, metric="chessboard")
    return np.asarray(np.minimum(distance, FARTHEST), np.uint8)


def pack_weights(field: FieldArrays) -> NDArray[np.float32]:
    """w1 (48, 64), w2 (64, 64) and w3 (64, 16, the columns from 4 on are 0), row = input, one after another."""
    last = np.zeros((HIDDEN, OUTPUT_COLUMNS), np.float32)
    last[:, :4] = field.w3.T
    return np.concatenate([field.w1.T.ravel(), field.w2.T.ravel(), last.ravel()])


def pack_constants(field: FieldArrays) -> NDArray[np.float32]:
    """Boxes, step, termination, density and last bias, in the order of triton_parts.py. An empty box has lo = hi."""
    packed = np.zeros(CONSTANT_FLOATS, np.float32)
    nowhere = np.zeros(3, np.float32)
    packed[0:3], packed[3:6] = field.occupied_box() or (nowhere, nowhere)
    packed[6:9], packed[9:12] = field.warp_lo, field.warp_hi - field.warp_lo
    packed[12:15] = field.step, field.termination, field.density_scale * field.step
    packed[16:20] = field.b3
    return packed


def _upload(array: NDArray[np.generic], device: torch.device | str) -> Tensor:
    return torch.tensor(array, device=device)
