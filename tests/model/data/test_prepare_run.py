"""Runs of `prepare`: what goes wrong with one clip stays with it; equal inputs give equal bytes."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from model.data.clip_types import ClipSource, Problem
from model.data.preparing import Manifest, read_manifest
from model.data.preparing.clip_task import ClipJob, ClipTask
from model.data.preparing.folder import PreparedFolder
from model.data.preparing.records import ClipRecord, ShardRecord, read_record
from model.errors import ConfigError, DataError
from tests.support.clip_analysis import ToySettings, analyse
from tests.support.clip_runs import contents, prepare_toy, toy_sources

TROUBLE = {1: "segfault", 3: "hang", 6: "raise", 8: "refuse", 9: "wrong", 11: "split"}


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """Twelve clips, most of them bad, by two workers."""
    out = tmp_path_factory.mktemp("run") / "two"
    return out, prepare_toy(out, toy_sources(12, TROUBLE), workers=2, timeout_s=1.5)


def clips(folder: Path) -> dict[str, ClipRecord]:
    files = sorted(folder.glob("shard-*.json"))
    return {clip.key: clip for file in files for clip in read_record(ShardRecord, file).clips}


def test_bad_clips_become_rejects_and_lose_no_other(troubled: tuple[Path, Manifest]) -> None:
    out, manifest = troubled
    assert manifest == read_manifest(out)
    assert (manifest.clips, manifest.used, manifest.samples) == (12, 7, 8)
    assert manifest.rejects == {Problem.CRASHED: 3, Problem.TIMED_OUT: 1, Problem.TWO_FACES: 1}
    assert sum(shard.samples for shard in manifest.shards) == 8
    records = clips(out)
    assert records["clip001"].message == "the process was killed by SIGSEGV, 2 times in a row"
    assert records["clip003"].message == "took longer than 1.5 s and was stopped"
    assert "ZeroDivisionError: no luck with <object object at 0x...> (clip_analysis.py:" in records["clip006"].message
    assert records["clip008"].problem is Problem.TWO_FACES and records["clip008"].row == {"frames": 75}
    assert "must return either samples or a problem" in records["clip009"].message
    assert records["clip011"].samples == ("clip011-0", "clip011-1")


def test_one_worker_and_another_order_of_clips_give_the_same_bytes(
    troubled: tuple[Path, Manifest], tmp_path: Path
) -> None:
    prepare_toy(tmp_path, toy_sources(12, TROUBLE)[::-1], workers=1, timeout_s=1.5)
    assert contents(tmp_path) == contents(troubled[0])
    assert set(contents(tmp_path)) == {"recipe.json", "manifest.json"} | {
        f"shard-{i:06d}.{kind}" for i in range(3) for kind in ("json", "tar")
    }


def test_nothing_of_this_machine_stands_in_the_results(troubled: tuple[Path, Manifest]) -> None:
    text = b"".join(contents(troubled[0]).values())
    for private in (str(troubled[0]), os.uname().nodename, "/data/", "/somewhere"):
        assert private.encode() not in text


def test_a_finished_folder_is_left_as_it_is(tmp_path: Path) -> None:
    calls: list[tuple[float, ...]] = []
    prepare_toy(tmp_path, toy_sources(3), on_progress=lambda *state: calls.append(state))
    assert [call[:3] for call in calls] == [(0, 3, 0), (1, 3, 0), (2, 3, 0), (3, 3, 0)]
    assert calls[0][4] is None and calls[-1][4] == 0 and calls[-1][3] > 0
    before, shard = contents(tmp_path), (tmp_path / "shard-000000.tar").stat()
    prepare_toy(tmp_path, toy_sources(3))
    assert contents(tmp_path) == before
    assert (tmp_path / "shard-000000.tar").stat().st_mtime_ns == shard.st_mtime_ns
    assert len(json.loads((tmp_path / "run.json").read_text())["runs"]) == 1


def test_a_deleted_shard_is_made_again(tmp_path: Path) -> None:
    prepare_toy(tmp_path, toy_sources(12))
    before = contents(tmp_path)
    for kind in ("json", "tar"):
        (tmp_path / f"shard-000001.{kind}").unlink()
    prepare_toy(tmp_path, toy_sources(12))
    assert contents(tmp_path) == before
    assert json.loads((tmp_path / "run.json").read_text())["runs"][1]["clips"] == 5


def test_a_shard_without_its_tar_is_refused(tmp_path: Path) -> None:
    prepare_toy(tmp_path, toy_sources(3))
    (tmp_path / "shard-000000.tar").unlink()
    with pytest.raises(DataError, match=r"shard-000000\.tar is missing: delete .*shard-000000\.json to have it made"):
        prepare_toy(tmp_path, toy_sources(3))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"settings": ToySettings(scale=3.0)}, r"begun with settings\.scale 2\.0, now 3\.0: .*--overwrite"),
        ({"fingerprint_extra": {"landmarks": "b"}}, r"begun with inputs\.landmarks 'a', now 'b'"),
        ({"shard_clips": 4}, r"begun with shard_clips 5, now 4"),
        ({"sources": toy_sources(4)}, r"begun with clips 3, now 4 \(and 1 more\)"),
        ({"sources": toy_sources(3, {1: "refuse"})}, r"begun with other clips \(their names"),
    ],
)
def test_another_recipe_is_refused(tmp_path: Path, change: dict[str, object], said: str) -> None:
    options = {"sources": toy_sources(3), "fingerprint_extra": {"landmarks": "a"}}
    prepare_toy(tmp_path, **options)
    before = contents(tmp_path)
    with pytest.raises(DataError, match=said) as caught:
        prepare_toy(tmp_path, **(options | change))
    assert "\n" not in str(caught.value)
    assert contents(tmp_path) == before


def test_a_moved_data_set_is_the_same_recipe(tmp_path: Path) -> None:
    prepare_toy(tmp_path, toy_sources(3))
    moved = [dataclasses.replace(source, video=Path("/mnt") / source.video.name) for source in toy_sources(3)]
    prepare_toy(tmp_path, moved, settings=ToySettings(model_file=Path("/elsewhere/model.task")))


def test_starting_over_keeps_foreign_files(tmp_path: Path) -> None:
    prepare_toy(tmp_path, toy_sources(12))
    (tmp_path / "README.md").write_text("mine")
    manifest = prepare_toy(tmp_path, toy_sources(3), settings=ToySettings(scale=3.0), overwrite=True)
    assert (manifest.clips, len(list(tmp_path.glob("shard-*")))) == (3, 2)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shard-000000.tar").write_text("mine")
    with pytest.raises(DataError, match="holds files that prepare did not write"):
        prepare_toy(tmp_path, toy_sources(3), overwrite=True)
    assert (tmp_path / "shard-000000.tar").read_text() == "mine"


def test_two_runs_do_not_write_one_folder(tmp_path: Path) -> None:
    with (
        PreparedFolder(tmp_path).locked(),
        pytest.raises(DataError, match=f"is being written by process {os.getpid()}: wait for it"),
    ):
        prepare_toy(tmp_path, toy_sources(3))
    assert prepare_toy(tmp_path, toy_sources(3)).clips == 3  # the lock file of a run that is gone


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ([], "no clips to prepare"),
        (["a", "a"], "clip key 'a' occurs twice: a.mp4 and a.mp4"),
        (["a/b"], "clip key 'a/b' .* may hold letters"),
        (["a", "a-1"], "clip key 'a-1' could be a part of clip 'a'"),
    ],
)
def test_bad_keys_are_refused_before_anything_is_written(tmp_path: Path, keys: list[str], said: str) -> None:
    with pytest.raises(DataError, match=said):
        prepare_toy(tmp_path / "out", [ClipSource(key=key, video=Path("a.mp4")) for key in keys])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", [{"workers": 0}, {"timeout_s": 0.0}, {"shard_clips": 0}, {"engine": "spark"}])
def test_numbers_out_of_range_are_config_errors(tmp_path: Path, option: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        prepare_toy(tmp_path, toy_sources(1), **option)


def test_an_error_of_the_disk_ends_the_run_and_refuses_no_clip(tmp_path: Path) -> None:
    job = ClipJob(analyse=analyse, settings=ToySettings())
    with pytest.raises(OSError, match="nowhere"):
        job(ClipTask(index=0, source=toy_sources(1)[0], staged=tmp_path / "nowhere" / "a.tar"))


def test_names_that_are_not_text_stay_readable(tmp_path: Path) -> None:
    source = dataclasses.replace(toy_sources(1, {0: "refuse"})[0], video=Path(os.fsdecode(b"/data/\xff.mp4")))
    prepare_toy(tmp_path, [source])
    assert clips(tmp_path)["clip000"].message.startswith("?.mp4: two faces")
