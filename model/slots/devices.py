"""Whether this machine can run the step on a GPU, and if not, what is missing."""

from __future__ import annotations

from importlib.util import find_spec

import torch

from kernels.backend import OLDEST_CAPABILITY
from model.errors import ConfigError


def gpu_problem() -> str:
    """Why the step cannot run on a GPU here, and what to do about it; "" if it can."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} was built without CUDA: install a CUDA build of torch"
    if not torch.cuda.is_available():
        return "torch finds no CUDA device: look at nvidia-smi, the driver, and CUDA_VISIBLE_DEVICES"
    name, capability = torch.cuda.get_device_name(0), torch.cuda.get_device_capability(0)
    if capability < OLDEST_CAPABILITY:
        found = ".".join(map(str, capability))
        return f"{name} has compute capability {found}; the kernels need {OLDEST_CAPABILITY[0]}.0 or newer"
    if find_spec("triton") is None:
        return "triton is not installed: pip install triton, the version that torch names"
    return ""


def require_gpu() -> torch.device:
    """The GPU.

    Raises:
        ConfigError: There is none that can be used.
    """
    problem = gpu_problem()
    if problem:
        raise ConfigError(f"device cuda cannot be used: {problem}; nerf-lipsync doctor looks at the whole machine")
    return torch.device("cuda", 0)
