"""Named numbers of a slot in one row of bytes: a session's whole memory is one tensor, copied at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class RowLayout:
    """Float64 fields first, then float32 ones. Shapes are those of one slot; () is a single number."""

    doubles: Shapes
    floats: Shapes

    @property
    def size_bytes(self) -> int:
        """Of a row; a multiple of 8, so that rows of a table stay aligned."""
        used = self._double_bytes + 4 * _count(self.floats)
        return -(-used // 8) * 8

    @property
    def _double_bytes(self) -> int:
        return 8 * _count(self.doubles)

    def split(self, rows: Tensor) -> dict[str, Tensor]:
        """Views (B, *shape) into rows (B, size_bytes) uint8."""
        stop = self._double_bytes + 4 * _count(self.floats)
        doubles = rows[:, : self._double_bytes].view(torch.float64)
        floats = rows[:, self._double_bytes : stop].view(torch.float32)
        return _views(doubles, self.doubles) | _views(floats, self.floats)

    def join(self, fields: Mapping[str, Tensor]) -> Tensor:
        """The inverse: new rows (B, size_bytes) of fields (B, *shape)."""
        padding = self.size_bytes - self._double_bytes - 4 * _count(self.floats)
        parts = [_joined(fields, self.doubles, torch.float64), _joined(fields, self.floats, torch.float32)]
        if padding:
            parts.append(parts[0].new_zeros(len(parts[0]), padding))
        return torch.cat(parts, 1)

    def arrays(self, rows: NDArray[np.uint8]) -> dict[str, NDArray[np.floating]]:
        """As `split`, of NumPy rows."""
        return {name: view.numpy() for name, view in self.split(torch.from_numpy(rows)).items()}

    def new_row(self, values: Mapping[str, object]) -> Tensor:
        """One row (size_bytes,) on the CPU; fields without a value are 0."""
        row = torch.zeros(1, self.size_bytes, dtype=torch.uint8)
        fields = self.split(row)
        for name, value in values.items():
            fields[name][0] = torch.as_tensor(value)
        return row[0]


def _joined(fields: Mapping[str, Tensor], shapes: Shapes, dtype: torch.dtype) -> Tensor:
    """(B, bytes) of fields one after another."""
    parts = [fields[name].to(dtype).reshape(-1, math.prod(shape)) for name, shape in shapes.items()]
    return torch.cat(parts, 1).view(torch.uint8)


def _views(part: Tensor, shapes: Shapes) -> dict[str, Tensor]:
    pieces = part.split([math.prod(shape) for shape in shapes.values()], 1)
    named = zip(shapes.items(), pieces, strict=True)
    return {name: piece.unflatten(1, shape) if shape else piece[:, 0] for (name, shape), piece in named}


def _count(shapes: Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes.values())
