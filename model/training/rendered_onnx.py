"""A face recognition network from an ONNX file, as a torch module with a gradient.

The graph (https://onnx.ai/onnx/operators) is followed node by node with torch's own operators. Only those of exported
classification networks are known: MobileFaceNet (Chen et al. 2018), ArcFace r50 and r100 (Deng et al. 2019). The file
is parsed by the package `onnx` (optional), which runs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.errors import InputError

__all__ = ["OnnxNetwork", "load_onnx_network"]


@dataclass(frozen=True, slots=True)
class Node:
    """One operator: its type, the names that it reads and the one that it makes, and its attributes."""

    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any]


class OnnxNetwork(nn.Module):
    """Frozen weights and a list of nodes."""

    def __init__(self, nodes: tuple[Node, ...], weights: Mapping[str, Tensor], entry: str, result: str) -> None:
        super().__init__()
        self.nodes = nodes
        self.entry = entry
        self.result = result
        self._names = {name: f"weight_{index}" for index, name in enumerate(weights)}
        for name, tensor in weights.items():
            self.register_buffer(self._names[name], tensor, persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, features) of pictures (N, 3, height, width)."""
        return self.layers(pictures)[self.result].flatten(1)

    def layers(self, pictures: Tensor) -> dict[str, Tensor]:
        """What every node makes of pictures (N, 3, height, width), in their order."""
        values = {name: self.get_buffer(place) for name, place in self._names.items()}
        values[self.entry] = pictures
        made = {}
        for node in self.nodes:
            inputs = [values[name] for name in node.inputs if name]
            values[node.output] = made[node.output] = _OPERATORS[node.op](inputs, node.attributes)
        return made

    @property
    def normalises_itself(self) -> bool:
        """Whether the graph begins with a subtraction and wants 0..255, as MXNet's exports do, not -1..1."""
        first = next((i for i, node in enumerate(self.nodes) if node.op == "Conv"), 0)
        return any(node.op == "Sub" for node in self.nodes[:first])


def load_onnx_network(path: Path) -> OnnxNetwork:
    """Read an ONNX file with one picture in and one vector out.

    Raises:
        InputError: The file is missing or no such network, uses an operator that is not known here, or `onnx` is not
            installed.
    """
    try:
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
        from onnx import load_model_from_string
    except ModuleNotFoundError as error:
        raise InputError(f"reading {path.name} needs the package onnx: pip install onnx") from error
    if not path.is_file():
        raise InputError(f"no face network at {path}: give the ONNX file of MobileFaceNet or ArcFace (112 x 112)")
    try:
        return _network(load_model_from_string(path.read_bytes()).graph)
    except (ValueError, TypeError, IndexError, DecodeError) as error:
        raise InputError(f"{path} is no face network known here ({error}): give MobileFaceNet or ArcFace") from error


def _network(graph: Any) -> OnnxNetwork:
    """Of an ONNX `GraphProto`; ValueError when it is of another kind."""
    from onnx import numpy_helper
    from onnx.helper import get_attribute_value

    weights = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
    entries = [i.name for i in graph.input if i.name not in weights]
    nodes = []
    for proto in graph.node:
        attributes = {a.name: get_attribute_value(a) for a in proto.attribute}
        if proto.op_type == "Constant" and "value" in attributes:
            weights[proto.output[0]] = torch.from_numpy(numpy_helper.to_array(attributes["value"]).copy())
        else:
            nodes.append(Node(proto.op_type, tuple(proto.input), proto.output[0], attributes))
    unknown = sorted({n.op for n in nodes} - _OPERATORS.keys())
    if unknown:
        raise ValueError(f"it uses the operator {unknown[0]}")
    if len(entries) != 1 or len(graph.output) != 1:
        raise ValueError(f"it has {len(entries)} inputs and {len(graph.output)} outputs")
    return OnnxNetwork(tuple(nodes), weights, entries[0], graph.output[0].name).eval()


def _conv(inputs: list[Tensor], attributes: Mapping[str, Any]) -> Tensor:
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    padded = functional.pad(inputs[0], (left, right, top, bottom))
    bias = inputs[2] if len(inputs) > 2 else None
    stride, dilation = attributes.get("strides", (1, 1)), attributes.get("dilations", (1, 1))
    return functional.conv2d(padded, inputs[1], bias, stride, 0, dilation, attributes.get("group", 1))


def _batch_norm(inputs: list[Tensor], attributes: Mapping[str, Any]) -> Tensor:
    x, scale, shift, mean, variance = inputs
    return functional.batch_norm(x, mean, variance, scale, shift, eps=attributes.get("epsilon", 1e-5))


def _prelu(inputs: list[Tensor], _: Mapping[str, Any]) -> Tensor:
    x, slope = inputs
    return torch.where(x >= 0, x, x * slope)


def _clip(inputs: list[Tensor], attributes: Mapping[str, Any]) -> Tensor:
    low, high = (inputs[1], inputs[2]) if len(inputs) == 3 else (attributes.get("min"), attributes.get("max"))
    return torch.clamp(inputs[0], low, high)


def _gemm(inputs: list[Tensor], attributes: Mapping[str, Any]) -> Tensor:
    a = inputs[0].t() if attributes.get("transA", 0) else inputs[0]
    b = inputs[1].t() if attributes.get("transB", 0) else inputs[1]
    product: Tensor = attributes.get("alpha", 1.0) * (a @ b)
    return product + attributes.get("beta", 1.0) * inputs[2] if len(inputs) > 2 else product


def _reshape(inputs: list[Tensor], _: Mapping[str, Any]) -> Tensor:
    """A leading 1 is the batch that was built in at export."""
    sizes = [int(v) for v in inputs[1].tolist()]
    batch = len(inputs[0])
    return inputs[0].reshape(batch if sizes[0] in (0, 1) else sizes[0], *sizes[1:])


_OPERATORS: Mapping[str, Callable[[list[Tensor], Mapping[str, Any]], Tensor]] = {
    "Add": lambda inputs, _: inputs[0] + inputs[1],
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Conv": _conv,
    "Div": lambda inputs, _: inputs[0] / inputs[1],
    "Dropout": lambda inputs, _: inputs[0],
    "Flatten": lambda inputs, _: inputs[0].flatten(1),
    "Gemm": _gemm,
    "Identity": lambda inputs, _: inputs[0],
    "Mul": lambda inputs, _: inputs[0] * inputs[1],
    "PRelu": _prelu,
    "Relu": lambda inputs, _: functional.relu(inputs[0]),
    "Reshape": _reshape,
    "Sub": lambda inputs, _: inputs[0] - inputs[1],
}
