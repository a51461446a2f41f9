"""What every training shares: a resumable run folder (weights, optimiser, step), a curve, a cosine schedule, EMA.

Also where it computes (`model.training.devices`) and beside which other processes (`model.training.distributed`).
"""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from model.checkpoint import load_checkpoint, save_checkpoint
from model.errors import ConfigError, DataError, ModelError
from model.training.devices import DeviceName, PrecisionName, choose_device, choose_dtype
from model.training.distributed import ALONE, Distributed

STATE = "state.safetensors"
CURVE = "curve.jsonl"
RANK_STRIDE = 0x9E3779B1
"""Between the seeds of two processes: a prime near 2^32 over the golden ratio; a generator reads 32 bits of a seed."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Length and pace of a training. `batch` is that of all processes together.

    "adam" is Adam as published (Kingma & Ba 2015), which knows no weight decay apart from the gradient.
    """

    steps: int
    batch: int
    learning_rate: float
    warmup_steps: int = 100
    final_share: float = 0.02
    weight_decay: float = 0.01
    grad_clip: float = 1.0
    ema_decay: float = 0.999
    save_every: int = 250
    seed: int = 0
    optimiser: Literal["adamw", "adam"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.99)
    device: DeviceName = "cpu"
    precision: PrecisionName = "auto"

    def __post_init__(self) -> None:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"betas must be in 0..1, got {self.betas}")
        if self.optimiser == "adam" and self.weight_decay:
            raise ConfigError(f"optimiser 'adam' takes weight_decay 0, got {self.weight_decay}: or choose 'adamw'")


class Run:
    """Model, optimiser, averaged weights and their folder. `step` counts finished steps.

    `modules` is moved to `device`. Of several processes the first one's weights count, and it alone writes.
    """

    def __init__(
        self, folder: Path, kind: str, modules: nn.Module, config: RunConfig, *, distributed: Distributed = ALONE
    ) -> None:
        self.folder = folder
        self.kind = kind
        self.config = config
        self.distributed = distributed
        self.batch = distributed.share_of(config.batch)  # windows of this process
        self.device = choose_device(config.device, local_rank=distributed.local_rank)
        self.dtype = choose_dtype(config.precision, self.device)
        self.modules = modules.to(self.device)
        self.optimiser = _make_optimiser(modules, config)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.step = 0
        self.elapsed_s = 0.0
        folder.mkdir(parents=True, exist_ok=True)
        self.distributed.copy_from_main(modules)
        self.ema = {k: v.detach().clone() for k, v in modules.state_dict().items()}
        if (folder / STATE).is_file():
            self._resume()
        self._clock = time.monotonic()

    def finished(self) -> bool:
        """True once every step is done."""
        return self.step >= self.config.steps

    def autocast(self) -> torch.autocast:
        """Context for forward passes and losses: `precision` where the operation allows it."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def update(self, loss: Tensor) -> None:
        """One optimiser step on `loss`, with schedule, clipping and averaging; saves now and then.

        Raises:
            ModelError: The loss is not finite, in this or another process.
        """
        value = self.distributed.mean({"loss": loss.item()})["loss"]
        if not math.isfinite(value):
            raise ModelError(f"{self.kind}: loss is {value} at step {self.step}; lower the learning rate")
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate()
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.distributed.average_gradients(self.modules.parameters())
        self.scaler.unscale_(self.optimiser)
        nn.utils.clip_grad_norm_(self.modules.parameters(), self.config.grad_clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self._average()
        self.step += 1
        if self.step % self.config.save_every == 0 or self.finished():
            self.save()

    def learning_rate(self) -> float:
        """Linear warm-up, then cosine down to `final_share`."""
        c = self.config
        warm = min(1.0, (self.step + 1) / max(1, c.warmup_steps))
        progress = min(1.0, self.step / max(1, c.steps))
        return c.learning_rate * warm * (c.final_share + (1 - c.final_share) * 0.5 * (1 + math.cos(math.pi * progress)))

    def log(self, **values: float) -> None:
        """Append a line to the curve: means over the processes, which all call this with the same names."""
        rounded = {k: round(v, 5) for k, v in self.distributed.mean(values).items()}
        if not self.distributed.is_main:
            return
        line = {"step": self.step, "elapsed_s": round(self.wall_s(), 1), **rounded}
        with (self.folder / CURVE).open("a") as file:
            file.write(json.dumps(line) + "\n")
        _LOG.info("%s: step %d of %d, %s", self.kind, self.step, self.config.steps, _words(rounded))

    def wall_s(self) -> float:
        """Seconds spent so far, earlier sessions counted in."""
        return self.elapsed_s + time.monotonic() - self._clock

    def generator(self) -> torch.Generator:
        """Random numbers of the current step and of this process, on the CPU.

        A resumed run draws what an unbroken one would.
        """
        seed = self.config.seed * 1_000_003 + self.step + self.distributed.rank * RANK_STRIDE
        return torch.Generator().manual_seed(seed)

    def use_average(self) -> None:
        """Put the averaged weights into the modules (for evaluation and export)."""
        self.modules.load_state_dict(self.ema)

    def save(self) -> None:
        """Write everything needed to go on: the first process does, the others wait for it."""
        if self.distributed.is_main:
            self._write()
        self.distributed.barrier()

    def _write(self) -> None:
        tensors = {f"model.{k}": v for k, v in self.modules.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.items()}
        for index, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
        metadata = {"step": str(self.step), "elapsed_s": str(self.wall_s())}
        if self.scaler.is_enabled():
            metadata["scaler"] = json.dumps(self.scaler.state_dict())
        save_checkpoint(
            self.folder / STATE,
            tensors,
            kind=f"{self.kind}-run",
            config=self.config,
            metadata=metadata,
            shard_limit_bytes=1 << 40,
        )

    def _average(self) -> None:
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for key, value in self.modules.state_dict().items():
                if value.is_floating_point():
                    self.ema[key].lerp_(value, 1 - decay)
                else:
                    self.ema[key].copy_(value)

    def _resume(self) -> None:
        saved = load_checkpoint(self.folder / STATE, kind=f"{self.kind}-run", config_cls=RunConfig)
        weights, average = _under("model.", saved.tensors), _under("ema.", saved.tensors)
        _check_fits(self.folder, weights, self.modules.state_dict())
        self.modules.load_state_dict(weights)
        self.ema = {k: v.to(self.device) for k, v in average.items()}
        state = self.optimiser.state_dict()
        entries: dict[int, dict[str, Any]] = {}
        for key, value in _under("optimiser.", saved.tensors).items():
            index, name = key.split(".", 1)
            entries.setdefault(int(index), {})[name] = value
        self.optimiser.load_state_dict({"state": entries, "param_groups": state["param_groups"]})
        if self.scaler.is_enabled() and "scaler" in saved.metadata:
            self.scaler.load_state_dict(json.loads(saved.metadata["scaler"]))
        self.step = int(saved.metadata["step"])
        self.elapsed_s = float(saved.metadata["elapsed_s"])


def _make_optimiser(modules: nn.Module, config: RunConfig) -> torch.optim.Optimizer:
    if config.optimiser == "adam":
        return torch.optim.Adam(modules.parameters(), lr=config.learning_rate, betas=config.betas)
    return torch.optim.AdamW(
        modules.parameters(), lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay
    )


def _check_fits(folder: Path, saved: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Whether a saved state is that of this model."""
    shapes = [{k: tuple(v.shape) for k, v in state.items()} for state in (saved, wanted)]
    differing = sorted(k for k in shapes[0].keys() | shapes[1].keys() if shapes[0].get(k) != shapes[1].get(k))
    if differing:
        raise DataError(f"{folder} holds a run of another model ({differing[0]} differs): choose another run folder")


def _words(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
