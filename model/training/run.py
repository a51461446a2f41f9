"""What every training shares: a resumable run folder (weights, optimiser, step), a curve, a cosine schedule, EMA."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.checkpoint import load_checkpoint, save_checkpoint
from model.errors import ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Length and pace of a training."""

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


class Run:
    """Model, optimiser, averaged weights and their folder. `step` counts finished steps."""

    def __init__(self, folder: Path, kind: str, modules: nn.Module, config: RunConfig) -> None:
        self.folder = folder
        self.kind = kind
        self.config = config
        self.modules = modules
        self.optimiser = torch.optim.AdamW(
            modules.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay
        )
        self.ema = {k: v.detach().clone() for k, v in modules.state_dict().items()}
        self.step = 0
        self.elapsed_s = 0.0
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "state.safetensors").is_file():
            self._resume()
        self._clock = time.monotonic()

    def finished(self) -> bool:
        """True once every step is done."""
        return self.step >= self.config.steps

    def update(self, loss: Tensor) -> None:
        """One optimiser step on `loss`, with schedule, clipping and averaging; saves now and then.

        Raises:
            ModelError: The loss is not finite.
        """
        if not torch.isfinite(loss):
            raise ModelError(f"{self.kind}: loss is {loss.item()} at step {self.step}; lower the learning rate")
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.modules.parameters(), self.config.grad_clip)
        self.optimiser.step()
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
        """Append a line to the curve."""
        line = {"step": self.step, "elapsed_s": round(self.wall_s(), 1), **{k: round(v, 5) for k, v in values.items()}}
        with (self.folder / "curve.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def wall_s(self) -> float:
        """Seconds spent so far, earlier sessions counted in."""
        return self.elapsed_s + time.monotonic() - self._clock

    def generator(self) -> torch.Generator:
        """Random numbers of the current step: a resumed run draws what an unbroken one would."""
        return torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.step)

    def use_average(self) -> None:
        """Put the averaged weights into the modules (for evaluation and export)."""
        self.modules.load_state_dict(self.ema)

    def save(self) -> None:
        """Write everything needed to go on."""
        tensors = {f"model.{k}": v for k, v in self.modules.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.items()}
        for index, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
        metadata = {"step": str(self.step), "elapsed_s": str(self.wall_s())}
        save_checkpoint(
            self.folder / "state.safetensors",
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
        saved = load_checkpoint(self.folder / "state.safetensors", kind=f"{self.kind}-run", config_cls=RunConfig)
        self.modules.load_state_dict(_under("model.", saved.tensors))
        self.ema = _under("ema.", saved.tensors)
        state = self.optimiser.state_dict()
        entries: dict[int, dict[str, Any]] = {}
        for key, value in _under("optimiser.", saved.tensors).items():
            index, name = key.split(".", 1)
            entries.setdefault(int(index), {})[name] = value
        self.optimiser.load_state_dict({"state": entries, "param_groups": state["param_groups"]})
        self.step = int(saved.metadata["step"])
        self.elapsed_s = float(saved.metadata["elapsed_s"])


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
