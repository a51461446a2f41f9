"""Data-parallel training by several processes that `torchrun` starts: own windows each, averaged gradients.

    torchrun --nproc-per-node 4 -m stream_server train motion ...

Gradients are averaged by hand and not by DistributedDataParallel: a step calls its networks several times, some of them
without gradient (the model's own history). The averaged gradient of N processes with B / N windows each is that of one
process with the same B windows, where the loss is a mean over windows. The processes share the run folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, distributed, nn

from model.errors import ConfigError

__all__ = ["ALONE", "Distributed"]

TIMEOUT_S = 1800.0
"""As long as one process may work by itself (the first hears held-out clips), or be later than the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distributed:
    """This process among those of a training. With one process every method is free.

    Use it as a context where there are several: entering joins the group (gloo on CPUs, NCCL between GPUs), leaving
    waits for all and takes it down. After an error it stays: others may be waiting in it, and torchrun ends them all.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    timeout_s: float = TIMEOUT_S

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size or self.local_rank < 0:
            raise ConfigError(f"process {self.rank} of {self.world_size} (local {self.local_rank}) cannot be")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], *, timeout_s: float = TIMEOUT_S) -> Self:
        """What torchrun says in RANK, WORLD_SIZE and LOCAL_RANK; without them a process alone.

        Raises:
            ConfigError: One of them is missing or no number.
        """
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        given = [environ.get(name, "") for name in names]
        if not any(given):
            return cls(timeout_s=timeout_s)
        for name, value in zip(names, given, strict=True):
            if not value.isdecimal():
                raise ConfigError(f"{name} is {value!r}: start several processes with torchrun, which sets {names}")
        rank, world_size, local_rank = map(int, given)
        return cls(rank=rank, world_size=world_size, local_rank=local_rank, timeout_s=timeout_s)

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and the log."""
        return self.rank == 0

    def __enter__(self) -> Self:
        if self.world_size > 1:
            distributed.init_process_group(
                "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
                rank=self.rank,
                world_size=self.world_size,
                timeout=timedelta(seconds=self.timeout_s),
            )
        return self

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self.world_size > 1 and error is None:
            self.barrier()
            distributed.destroy_process_group()

    def share_of(self, batch: int) -> int:
        """Windows of a batch that fall to each process.

        Raises:
            ConfigError: It cannot be split evenly.
        """
        if batch % self.world_size:
            raise ConfigError(f"a batch of {batch} cannot be split over {self.world_size} processes: change run.batch")
        return batch // self.world_size

    def barrier(self) -> None:
        """Wait for all processes."""
        self._sum(torch.zeros(1))

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The first process runs the block, then the others do: for files that it makes and they read."""
        if not self.is_main:
            self.barrier()
        yield
        if self.is_main:
            self.barrier()

    def copy_from_main(self, module: nn.Module) -> None:
        """Give all processes the first one's parameters and buffers."""
        if self.world_size > 1:
            for tensor in module.state_dict().values():
                distributed.broadcast(tensor, src=0)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Put the mean gradient over the processes in place; a parameter none of them used keeps None.

        In one message: behind the gradients stands for each parameter whether this process has one.
        """
        if self.world_size == 1:
            return
        wanted = [p for p in parameters if p.requires_grad]
        device = wanted[0].device
        used = torch.tensor([p.grad is not None for p in wanted], dtype=torch.float32, device=device)
        flat = torch.cat([*((torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in wanted), used])
        self._sum(flat)
        *means, users = (flat / self.world_size).split([*(p.numel() for p in wanted), len(wanted)])
        for parameter, mean, user in zip(wanted, means, users.tolist(), strict=True):
            parameter.grad = mean.view_as(parameter) if user else None

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Each value's mean over the processes, which must all call this with the same names."""
        if self.world_size == 1:
            return dict(values)
        summed = self._sum(torch.tensor([values[name] for name in sorted(values)], dtype=torch.float64))
        return dict(zip(sorted(values), (summed / self.world_size).tolist(), strict=True))

    def _sum(self, tensor: Tensor) -> Tensor:
        """The sum over the processes, in place."""
        if self.world_size > 1:
            distributed.all_reduce(tensor)
        return tensor


ALONE = Distributed()
"""A process by itself."""
