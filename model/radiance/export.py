"""From trained parts to the arrays of field.safetensors, which serving reads without building a module."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.radiance.field import RadianceField
from model.radiance.occupancy import OccupancyGrid
from model.radiance.torso import TorsoLayer

LAYERS = ("layer1", "layer2", "layer3", "bias_in", "bias_mid", "bias_out", "warp_mix")


def export_tensors(field: RadianceField, torso: TorsoLayer, occupancy: OccupancyGrid) -> dict[str, Tensor]:
    """Named tensors: planes and warp basis (K, Gx, Gy, Gz, 3) float16, layers float32, occupancy as packed bits."""
    tensors = {
        "planes": field.planes.detach().half(),
        "warp_basis": field.warp_basis.detach().permute(0, 4, 3, 2, 1).half().contiguous(),
        "occupancy_bits": torch.from_numpy(np.packbits(occupancy.occupied.numpy().reshape(-1))),
        "torso": torch.from_numpy(torso.picture()),
    }
    if torso.moves:
        tensors |= {"torso_mix": torso.mix.detach().float(), "torso_basis": torso.basis.detach().half()}
    for name in LAYERS:
        layer = getattr(field, name)
        tensors[f"{name}.weight"] = layer.weight.detach().float()
        tensors[f"{name}.bias"] = layer.bias.detach().float()
    return tensors


def field_from_arrays(field: RadianceField, arrays: dict[str, NDArray[np.generic]]) -> RadianceField:
    """Load exported arrays back into a module (evaluation against the kernel)."""
    with torch.no_grad():
        field.planes.copy_(torch.from_numpy(np.asarray(arrays["planes"], np.float32)))
        basis = np.asarray(arrays["warp_basis"], np.float32).transpose(0, 4, 3, 2, 1)
        field.warp_basis.copy_(torch.from_numpy(np.ascontiguousarray(basis)))
        for name in LAYERS:
            layer = getattr(field, name)
            layer.weight.copy_(torch.from_numpy(np.asarray(arrays[f"{name}.weight"], np.float32)))
            layer.bias.copy_(torch.from_numpy(np.asarray(arrays[f"{name}.bias"], np.float32)))
    return field
