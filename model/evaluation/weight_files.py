"""Weights of other makers' networks, given by path: state dicts or safetensors, read without unpickling code."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from model.errors import InputError
from model.fetching import sha256_of

__all__ = ["WeightFile", "fill_network", "read_weights"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFile:
    """A network's published weights: what they are called and how the right file is recognised."""

    title: str  # for messages and notes
    name: str  # file name as published
    sha256_start: str  # leading hexadecimal digits, as PyTorch puts them into file names; "" where none is published
    url: str

    def describe(self, path: Path) -> str:
        """One line for a report: whether `path` is the published file, and its hash."""
        found = sha256_of(path)
        if self.sha256_start and not found.startswith(self.sha256_start):
            return f"{self.title}: NOT the published {self.name}: sha256 {found[:12]}"
        return f"{self.title}: {self.name}, sha256 {found[:12]}"

    @property
    def absent(self) -> str:
        """One line for a report in which the figure is left out."""
        return f"no weights of {self.title} were given ({self.name}, {self.url}): its figures are absent"


def read_weights(path: Path, wanted: WeightFile) -> dict[str, Tensor]:
    """The tensors of a state dict (`.pth`, read with `weights_only`) or of a safetensors file, as float32.

    Raises:
        InputError: The file is missing, damaged, or holds something else than named tensors.
    """
    if not path.is_file():
        raise InputError(f"no {wanted.title} weights at {path}: get {wanted.name} from {wanted.url}")
    try:
        if path.suffix == ".safetensors":
            state: object = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise InputError(f"{path} is no {wanted.title} state dict ({reason}): get {wanted.name}") from error
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"{path} holds no {wanted.title} state dict: get {wanted.name} from {wanted.url}")
    return {str(name): tensor.float() for name, tensor in state.items()}


def fill_network(network: nn.Module, weights: Mapping[str, Tensor], path: Path, wanted: WeightFile) -> None:
    """Copy `weights` into `network` and freeze it; weights that it has no place for are left (classifier heads).

    Raises:
        InputError: A weight is missing or has another shape; the message names the first.
    """
    places = {name: t for name, t in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    for name, place in places.items():
        if name not in weights:
            raise InputError(f"{path} is no {wanted.title}: it lacks {name}; get {wanted.name} from {wanted.url}")
        if weights[name].shape != place.shape:
            raise InputError(
                f"{path} is no {wanted.title}: {name} is {tuple(weights[name].shape)}, not {tuple(place.shape)}"
            )
    network.load_state_dict({name: weights[name] for name in places}, strict=False)
    network.requires_grad_(False).eval()
