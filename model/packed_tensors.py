"""Byte tensors that deflate well (occupancy bits, a torso's mask) lie deflated in a checkpoint, and so do half weights.

`occupancy_bits` of shape (262144,) is stored as `occupancy_bits.deflate.262144`, one of shape (256, 256, 4) as
`torso.deflate.256x256x4`: how much it will be is known, and bounded, before anything is inflated. Of weights
(`name.deflate16.SHAPE`) the low bytes, which are noise, stand before the high ones, which hold sign and exponent and
deflate to two thirds: a network's file is smaller by a seventh.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping

import torch

__all__ = ["format_of", "pack", "unpack"]

_LEAST_BYTES = 4096
_MOST_BYTES = 64 << 20
_MOST_SHARE = {torch.uint8: 0.5, torch.float16: 0.95}
"""Of its bytes that a tensor may deflate to: else it is not worth it."""
_NAME = re.compile(r"(?P<name>.+)\.deflate(?P<half>16)?\.(?P<shape>\d{1,9}(x\d{1,9}){0,7})")


def pack(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors as they are stored: large ones of uint8 or float16 that deflate well are deflated and renamed."""
    return dict(_packed(name, tensor) for name, tensor in tensors.items())


def format_of(stored: Mapping[str, torch.Tensor]) -> int:
    """The oldest format version whose programs can read these: 1 plain, 2 with deflated bytes, 3 with weights."""
    found = [match for name in stored if (match := _NAME.fullmatch(name))]
    return 3 if any(match["half"] for match in found) else 2 if found else 1


def unpack(stored: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What `pack` was given.

    Raises:
        ValueError: A deflated tensor is damaged, of another length than its name says, or beyond 64 MiB.
    """
    return dict(_unpacked(name, tensor) for name, tensor in stored.items())


def _packed(name: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
    length = tensor.nbytes
    if tensor.dtype not in _MOST_SHARE or not _LEAST_BYTES <= length <= _MOST_BYTES:
        return name, tensor
    half = tensor.dtype == torch.float16
    raw = tensor.contiguous().view(-1).view(torch.uint8)
    data = zlib.compress((raw.view(-1, 2).T.contiguous() if half else raw).numpy().tobytes(), 9)
    if len(data) > _MOST_SHARE[tensor.dtype] * length:
        return name, tensor
    shape = "x".join(map(str, tensor.shape))
    return f"{name}.deflate{'16' if half else ''}.{shape}", torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _unpacked(name: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
    match = _NAME.fullmatch(name)
    if match is None:
        return name, tensor
    shape = tuple(int(size) for size in match["shape"].split("x"))
    length = math.prod(shape) * (2 if match["half"] else 1)
    if not 0 < length <= _MOST_BYTES or tensor.dtype != torch.uint8:
        raise ValueError(f"tensor {name!r} would be {length} bytes; at most {_MOST_BYTES} of uint8 are inflated")
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(tensor.numpy().tobytes(), length)
    except zlib.error as error:
        raise ValueError(f"tensor {name!r} is damaged ({error})") from error
    if len(data) != length or not inflater.eof or inflater.unused_data:
        raise ValueError(f"tensor {name!r} does not inflate to the {length} bytes that its name says")
    raw = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    if match["half"]:
        raw = raw.view(2, -1).T.contiguous().view(torch.float16)
    return match["name"], raw.reshape(shape)
