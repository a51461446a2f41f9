"""A small training that runs alone or under torchrun; as a script: `toy_training.py FOLDER`.

Each step's batch is drawn whole and split over the processes. `rare` is used by the last process only, `idle` by none.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from model.training.distributed import Distributed
from model.training.run import Run, RunConfig

CONFIG = RunConfig(steps=12, batch=8, learning_rate=0.05, warmup_steps=3, save_every=5, precision="float32")


class Toy(nn.Module):
    """A layer, and two parameters that not every process uses."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.rare = nn.Parameter(torch.ones(3))
        self.idle = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor, rare: Tensor) -> Tensor:
        """(B, 4) to (B, 3); `rare` (B,) bool says which rows get the rare parameter."""
        out: Tensor = self.layer(x)
        return torch.where(rare[:, None], out * self.rare, out) if rare.any() else out


def train_toy(folder: Path, distributed: Distributed) -> Toy:
    """Train it in `folder`, logging each step's loss."""
    torch.manual_seed(1 + distributed.rank)  # the first process's weights must win
    toy = Toy()
    run = Run(folder, "toy", toy, CONFIG, distributed=distributed)
    mine = slice(distributed.rank * run.batch, (distributed.rank + 1) * run.batch)
    while not run.finished():
        x = torch.randn(CONFIG.batch, 4, generator=torch.Generator().manual_seed(run.step))[mine]
        rare = torch.arange(CONFIG.batch)[mine] >= CONFIG.batch - 3
        loss = (toy(x, rare) - x[:, :3] * 2).square().mean()
        run.update(loss)
        run.log(loss=loss.item())
    return toy


def main(folder: Path) -> None:
    """Train, and write what this process ends with and draws."""
    with Distributed.from_environment(os.environ, timeout_s=60) as distributed:
        with distributed.main_first():
            order = sorted(path.name for path in folder.glob("seen-*"))
            (folder / f"seen-{distributed.rank}").touch()
        toy = train_toy(folder / "run", distributed)
        run = Run(folder / "run", "toy", toy, CONFIG, distributed=distributed)
        drawn = torch.randint(1 << 30, (3,), generator=run.generator()).tolist()
        try:
            run.update(toy.layer.weight.sum() * (float("nan") if distributed.rank else 1.0))
            problem = ""
        except Exception as error:
            problem = str(error)
        weights = {name: value.tolist() for name, value in toy.state_dict().items()}
        said = {"weights": weights, "drawn": drawn, "problem": problem, "before": order, "resumed_at": run.step}
        (folder / f"process-{distributed.rank}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
