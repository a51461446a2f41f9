"""Byte tensors that deflate well (occupancy bits, a torso's mask) lie deflated in a checkpoint.

`occupancy_bits` of shape (262144,) is stored as `occupancy_bits.deflate.262144`, one of shape (256, 256, 4) as
`torso.deflate.256x256x4`: how much it will be is known, and bounded, before anything is inflated.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping

import torch

__all__ = ["pack", "unpack"]

_LEAST_BYTES = 4096
_MOST_BYTES = 64 << 20
_NAME = re.compile(r"(?P<name>.+)\.deflate\.(?P<shape>\d{1,9}(x\d{1,9}){0,7})")


def pack(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors as they are stored: large uint8 ones that deflate to half or less are deflated and renamed."""
    return dict(_packed(name, tensor) for name, tensor in tensors.items())


def unpack(stored: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What `pack` was given.

    Raises:
        ValueError: A deflated tensor is damaged, of another length than its name says, or beyond 64 MiB.
    """
    return dict(_unpacked(name, tensor) for name, tensor in stored.items())


def _packed(name: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
    if tensor.dtype != torch.uint8 or not _LEAST_BYTES <= tensor.numel() <= _MOST_BYTES:
        return name, tensor
    data = zlib.compress(tensor.numpy().tobytes(), 9)
    if len(data) * 2 > tensor.numel():
        return name, tensor
    return f"{name}.deflate.{'x'.join(map(str, tensor.shape))}", torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _unpacked(name: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
    match = _NAME.fullmatch(name)
    if match is None:
        return name, tensor
    shape = tuple(int(size) for size in match["shape"].split("x"))
    length = math.prod(shape)
    if not 0 < length <= _MOST_BYTES or tensor.dtype != torch.uint8:
        raise ValueError(f"tensor {name!r} would be {length} bytes; at most {_MOST_BYTES} of uint8 are inflated")
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(tensor.numpy().tobytes(), length)
    except zlib.error as error:
        raise ValueError(f"tensor {name!r} is damaged ({error})") from error
    if len(data) != length or not inflater.eof or inflater.unused_data:
        raise ValueError(f"tensor {name!r} does not inflate to the {length} bytes that its name says")
    return match["name"], torch.frombuffer(bytearray(data), dtype=torch.uint8).reshape(shape)
