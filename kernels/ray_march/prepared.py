"""What the Triton ray marcher reads, on its device: avatars' fields, uploaded once, and a batch of frames."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.checks import KernelInputError
from kernels.ray_march.arrays import HIDDEN, FieldArrays

Precision = Literal["fp16", "bf16", "fp32"]
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
FIELD_WORDS = 8  # int64 a field's row; their order is in triton_parts.py
CONSTANT_FLOATS = 32
OUTPUT_COLUMNS = 16  # the last layer's 4 outputs, padded
CAMERA_FLOATS = 16
FARTHEST = 255  # distances above it are stored as it


class PreparedField:
    """One avatar's field on a device. Holds copies; those of one precision and device can share a batch.

    Args:
        precision: Type of weights and activations; planes stay fp16, sums are float32 in each.

    Raises:
        KernelInputError: Unknown precision.
    """

    def __init__(self, field: FieldArrays, device: torch.device | str, *, precision: Precision = "fp16") -> None:
        if precision not in get_args(Precision):
            raise KernelInputError(f"precision must be one of {get_args(Precision)}, got {precision!r}")
        self.precision: Precision = precision
        self.device = torch.device(device)
        self.planes = self._upload(field.planes)
        self.distance = self._upload(chebyshev_distance(field.occupancy))
        self.weights = self._upload(_pack_weights(field)).to(DTYPES[precision])
        self.constants = self._upload(_pack_constants(field))
        self.step = field.step
        parts = (self.planes, self.distance, self.weights, self.constants)
        words = [part.data_ptr() for part in parts] + [field.planes.shape[1], field.occupancy.shape[0]]
        self.row = torch.tensor(words + [0] * (FIELD_WORDS - len(words)), dtype=torch.int64).to(self.device)

    def _upload(self, array: NDArray[np.generic]) -> Tensor:
        return torch.tensor(array, device=self.device)


def chebyshev_distance(occupancy: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Voxels (G, G, G) to the nearest occupied voxel along the widest axis: 0 in it, at most 255, 255 if none is."""
    from scipy.ndimage import distance_transform_cdt

    if not occupancy.any():
        return np.full(occupancy.shape, FARTHEST, np.uint8)
    distance = distance_transform_cdt(~occupancy, metric="chessboard")
    return np.asarray(np.minimum(distance, FARTHEST), np.uint8)


def _pack_weights(field: FieldArrays) -> NDArray[np.float32]:
    last = np.zeros((HIDDEN, OUTPUT_COLUMNS), np.float32)
    last[:, :4] = field.w3.T
    return np.concatenate([field.w1.T.ravel(), field.w2.T.ravel(), last.ravel()])


def _pack_constants(field: FieldArrays) -> NDArray[np.float32]:
    packed = np.zeros(CONSTANT_FLOATS, np.float32)
    nowhere = np.zeros(3, np.float32)
    packed[0:3], packed[3:6] = field.occupied_box() or (nowhere, nowhere)
    packed[6:9], packed[9:12] = field.warp_lo, field.warp_hi - field.warp_lo
    packed[12:15] = field.step, field.termination, field.density_scale * field.step
    packed[16:20] = field.b3
    return packed
