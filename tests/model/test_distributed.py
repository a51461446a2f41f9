"""Two processes with half a batch each train as one with all of it; who they are comes from torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from model.errors import ConfigError
from model.training.distributed import ALONE, Distributed
from model.training.run import CURVE, Run, RunConfig
from tests.support import toy_training

ROOT = Path(__file__).parents[2]


def curve(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / CURVE).read_text().splitlines()]


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("two")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    command = [*launcher, "--nproc-per-node", "2", toy_training.__file__, str(folder)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return folder, [json.loads((folder / f"process-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
def test_two_processes_with_half_a_batch_are_one_with_all_of_it(
    processes: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    folder, said = processes
    alone = toy_training.train_toy(tmp_path, ALONE)
    assert said[0]["weights"] == said[1]["weights"]
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(torch.tensor(said[0]["weights"][name]), value, rtol=1e-5, atol=1e-6)
    assert said[0]["weights"]["idle"] == [1.0, 1.0]  # no gradient anywhere: not even its weight decays
    losses = [[line["loss"] for line in curve(place)] for place in (folder / "run", tmp_path)]
    assert losses[0] == pytest.approx(losses[1], abs=2e-5)
    assert len(losses[0]) == toy_training.CONFIG.steps  # one log for both


@pytest.mark.slow
def test_processes_draw_differently_resume_together_and_fail_together(
    processes: tuple[Path, list[dict[str, Any]]],
) -> None:
    _, said = processes
    assert said[0]["drawn"] != said[1]["drawn"]
    assert [p["resumed_at"] for p in said] == [toy_training.CONFIG.steps] * 2
    assert all("loss is nan at step 12" in p["problem"] for p in said)  # only the second one's was
    assert [p["before"] for p in said] == [[], ["seen-0"]]


def test_without_torchrun_a_process_is_alone() -> None:
    assert Distributed.from_environment({}) == ALONE
    with ALONE as distributed:
        assert distributed.is_main and distributed.share_of(7) == 7 and distributed.mean({"a": 2.0}) == {"a": 2.0}


def test_torchrun_says_who_a_process_is() -> None:
    environ = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}
    assert Distributed.from_environment(environ) == Distributed(rank=3, world_size=4, local_rank=1)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2"}, "LOCAL_RANK is ''"),
        ({"RANK": "zero", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, "RANK is 'zero'"),
        ({"RANK": "2", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, "process 2 of 2"),
    ],
)
def test_a_half_told_process_is_refused(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Distributed.from_environment(environ)


def test_a_batch_must_split_evenly(tmp_path: Path) -> None:
    config = RunConfig(steps=1, batch=7, learning_rate=0.1)
    with pytest.raises(ConfigError, match="batch of 7 cannot be split over 2 processes"):
        Run(tmp_path, "toy", torch.nn.Linear(1, 1), config, distributed=Distributed(rank=0, world_size=2))
