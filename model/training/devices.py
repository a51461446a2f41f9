"""Where a training computes, and in which precision: automatic mixed precision (Micikevicius et al. 2018).

Weights, optimiser and averages are float32 everywhere; the lower precision is that of products under autocast.
"""

from __future__ import annotations

from typing import Literal

import torch

from model.errors import ConfigError

__all__ = ["DeviceName", "PrecisionName", "choose_device", "choose_dtype"]

DeviceName = Literal["auto", "cpu", "cuda"]
PrecisionName = Literal["auto", "float32", "bfloat16", "float16"]
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: DeviceName, *, local_rank: int = 0) -> torch.device:
    """The device; "auto" is CUDA where there is any. `local_rank` numbers the GPUs of this machine.

    Raises:
        ConfigError: CUDA is wanted and missing, or there are fewer GPUs than processes.
    """
    count = torch.cuda.device_count()
    if name == "cpu" or (name == "auto" and not count):
        return torch.device("cpu")
    if not count:
        raise ConfigError("device 'cuda' was asked for and this machine has none: choose 'cpu' or 'auto'")
    if local_rank >= count:
        raise ConfigError(f"process {local_rank} of this machine has no GPU of its own, there are {count}: start fewer")
    return torch.device("cuda", local_rank)


def choose_dtype(name: PrecisionName, device: torch.device) -> torch.dtype:
    """The type of products under autocast.

    "auto" is bfloat16 where the device multiplies it in hardware (on CPUs: AVX512-BF16 or AMX; emulated it is slower
    than float32), else float16 on CUDA and float32 on CPUs.

    Raises:
        ConfigError: float16 on a CPU.
    """
    if name == "auto":
        return _native_dtype(device)
    if name == "float16" and device.type == "cpu":
        raise ConfigError("precision 'float16' needs CUDA: choose 'bfloat16', 'float32' or 'auto' on a CPU")
    return _DTYPES[name]


def _native_dtype(device: torch.device) -> torch.dtype:
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    able = torch.cpu.get_capabilities()
    return torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") else torch.float32
