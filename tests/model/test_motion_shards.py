"""Each process of a training holds its part of the corpus; the parts are the whole, and so are their gradients."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from model.data.features import count_clips, iterate_clips
from model.errors import DataError
from model.training import motion_shards
from model.training.distributed import ALONE
from model.training.motion_items import MotionItems, join_items
from model.training.motion_shards import WHOLE, Shard, clips_with_motion
from model.training.motion_targets import load_motion
from tests.support import toy_shards

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    toy_shards.write_prepared(folder / "grid" / "train")
    return folder


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_parts_are_the_whole_in_order_and_nearly_equal(count: int) -> None:
    parts = [Shard(rank, count) for rank in range(count)]
    blocks = [part.block(7) for part in parts]
    assert [place for block in blocks for place in block] == list(range(7))
    assert max(map(len, blocks)) - min(map(len, blocks)) <= 1
    assert sorted(thing for part in parts for thing in part.every(range(7))) == list(range(7))


def test_more_processes_than_clips_are_refused() -> None:
    with pytest.raises(DataError, match="2 clips cannot be shared by 3 processes"):
        Shard(0, 3).block(2)


def test_only_tars_that_hold_a_part_are_opened(prepared: Path, tmp_path: Path) -> None:
    folder = prepared / "grid" / "train"
    assert count_clips(folder) == toy_shards.CLIPS
    for wanted in (range(0, 3), range(2, 5), range(6, 7), range(0, 7), range(3, 3)):
        assert [clip.key for clip in iterate_clips(folder, wanted)] == [f"clip{n:03d}" for n in wanted]
    for name in ("manifest.json", "shard-000001.tar"):
        (tmp_path / name).symlink_to(folder / name)
    assert [clip.key for clip in iterate_clips(tmp_path, range(3, 6))] == ["clip003", "clip004", "clip005"]


def test_motion_is_that_of_all_of_a_speakers_clips(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepared / "grid" / "train"
    wanted = load_motion(folder)
    parts = [Shard(rank, 3) for rank in range(3)]
    for _ in range(2):
        found = {clip.key: motion for part in parts for clip, motion in clips_with_motion(folder, tmp_path, part)}
        assert found.keys() == wanted.keys()
        for key, motion in wanted.items():
            np.testing.assert_array_equal(found[key], motion)
        monkeypatch.setattr(motion_shards, "calibrate_speakers_of", None)  # they are kept


def test_what_processes_hear_is_what_one_hears(prepared: Path) -> None:
    whole = toy_shards.heard(prepared, WHOLE)
    parts = [toy_shards.heard(prepared, Shard(rank, 3)) for rank in range(3)]
    assert max(len(part.motion) for part in parts) < len(whole.motion) / 2
    joined = join_items(parts)
    for field in fields(MotionItems):
        torch.testing.assert_close(getattr(joined, field.name), getattr(whole, field.name), rtol=0, atol=2e-3)


@pytest.mark.slow
def test_two_processes_with_half_the_corpus_train_as_one_with_all_of_it(prepared: Path, tmp_path: Path) -> None:
    """And go on where they stopped. One has the same windows, read from the whole."""
    (tmp_path / "grid").symlink_to(prepared / "grid")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    command = [*launcher, "--nproc-per-node", "2", toy_shards.__file__, str(tmp_path)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    said = [json.loads((tmp_path / f"process-{rank}.json").read_text()) for rank in range(2)]
    alone = toy_shards.train(tmp_path, tmp_path / "alone", ALONE)
    assert said[0]["weights"] == said[1]["weights"]
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(torch.tensor(said[0]["weights"][name]), value, rtol=1e-4, atol=1e-5)
    frames = int(toy_shards.heard(tmp_path, WHOLE).frames.sum())
    assert sum(one["frames"] for one in said) == frames
    assert max(one["frames"] for one in said) < 0.7 * frames
