"""Writes a small ONNX network without the onnx package: the few protocol-buffer fields that it takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

FLOAT = 1
OPSET = 13
IR_VERSION = 8


def write_flatten_network(path: Path, shape: Sequence[int]) -> None:
    """A network of one Flatten node: its output is its input of `shape`, in a row."""
    count = 1
    for size in shape:
        count *= size
    node = _text(1, "x") + _text(2, "y") + _text(4, "Flatten")
    graph = _part(1, node) + _text(2, "g") + _part(11, _value("x", shape)) + _part(12, _value("y", (1, count)))
    path.write_bytes(_number(1, IR_VERSION) + _part(7, graph) + _part(8, _text(1, "") + _number(2, OPSET)))


def _value(name: str, shape: Sequence[int]) -> bytes:
    dimensions = b"".join(_part(1, _number(1, size)) for size in shape)
    return _text(1, name) + _part(2, _part(1, _number(1, FLOAT) + _part(2, dimensions)))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _text(field: int, value: str) -> bytes:
    return _part(field, value.encode())


def _part(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
