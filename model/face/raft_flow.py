"""RAFT (Teed and Deng 2020) as the estimator of `optical_flow`, through torchvision and a weights file given by path.

Optional: needs the torchvision that belongs to the installed torch. The file is a state dict of torchvision's
`raft_small` or `raft_large`, as `.safetensors` or as PyTorch's `.pth`; which of the two it is, is told by its shapes.
"""

from __future__ import annotations

import importlib
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from model.face.optical_flow import Field, FlowError, Picture

FIRST_LAYER = "feature_encoder.convnormrelu.0.weight"
BUILDERS = {32: "raft_small", 64: "raft_large"}  # by the channels of the first layer
UPDATES = 12  # refinement steps, as in the paper's evaluation
LEAST_PX = 128
STRIDE = 8


class RaftFlow:
    """See `optical_flow.FlowEstimator`; pictures need sides that are multiples of 8, from 128 pixels.

    Raises:
        FlowError: The file is missing or no RAFT state dict, or torchvision is missing or does not fit torch.
    """

    def __init__(self, weights: Path, *, device: str = "cpu") -> None:
        state = _read_state(weights)
        first = state.get(FIRST_LAYER)
        builder = BUILDERS.get(len(first)) if first is not None and first.ndim == 4 else None
        if builder is None:
            raise FlowError(f"{weights} is no state dict of torchvision's raft_small or raft_large")
        self._model: Any = getattr(_raft_module(), builder)()
        try:
            self._model.load_state_dict(state)
        except RuntimeError as error:
            raise FlowError(f"{weights} does not fit {builder}: {str(error).splitlines()[-1].strip()}") from error
        self._model.eval().to(device)
        self._device = device
        self.name = builder

    @torch.inference_mode()
    def flow(self, first: Picture, second: Picture) -> Field:
        """See `FlowEstimator`."""
        height, width = first.shape[:2]
        if min(height, width) < LEAST_PX or height % STRIDE or width % STRIDE:
            raise FlowError(f"RAFT needs sides that are multiples of {STRIDE}, from {LEAST_PX}; got {width} x {height}")
        found = self._model(self._tensor(first), self._tensor(second), num_flow_updates=UPDATES)[-1]
        return np.ascontiguousarray(found[0].permute(1, 2, 0).cpu().numpy(), np.float32)

    def _tensor(self, picture: Picture) -> Tensor:
        values = torch.from_numpy(np.ascontiguousarray(picture)).to(self._device).permute(2, 0, 1)[None]
        return values.float() / 127.5 - 1.0


def _read_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FlowError(f"RAFT weights not found: {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if not zipfile.is_zipfile(path):  # what torch.save has written since 1.6
            raise zipfile.BadZipFile
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError) as error:
        raise FlowError(
            f"{path} is no file of plain tensors ({type(error).__name__}): give a RAFT state dict"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise FlowError(f"{path} is no state dict of torchvision's raft_small or raft_large")
    return state


def _raft_module() -> Any:
    try:
        return importlib.import_module("torchvision.models.optical_flow")
    except (ImportError, RuntimeError) as error:  # a build for another torch fails with RuntimeError
        raise FlowError(
            f"RAFT needs the torchvision built for torch {torch.__version__} ({str(error).splitlines()[0]})"
        ) from error
