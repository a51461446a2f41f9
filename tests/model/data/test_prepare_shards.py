"""Shards: bytes that depend on their members only, readable by others, damage noticed."""

from __future__ import annotations

import gc
import io
import tarfile
from pathlib import Path

import pytest

from model.data.clip_types import ClipOutcome, Problem, Sample
from model.data.preparing import read_shards
from model.data.preparing.staging import read_outcome, write_outcome
from model.data.preparing.tar_files import read_tar, write_tar
from model.errors import DataError
from tests.support.clip_analysis import THUMBNAIL
from tests.support.clip_runs import prepare_toy, toy_sources


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "toy"
    prepare_toy(out, toy_sources(12, {3: "split", 4: "refuse"}))
    return out


@pytest.fixture
def copy(prepared: Path, tmp_path: Path) -> Path:
    """The folder to damage."""
    for file in prepared.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_a_tar_depends_on_its_members_only(tmp_path: Path) -> None:
    name = "k" * 150 + ".features.safetensors"  # longer than a plain tar header holds
    write_tar(tmp_path / "a.tar", [(name, b"abc"), ("b.json", b"")])
    with tarfile.open(tmp_path / "a.tar") as tar:
        for info in tar:
            assert (info.mtime, info.uid, info.gid, info.mode, info.uname, info.gname) == (0, 0, 0, 0o644, "", "")
    assert list(read_tar(tmp_path / "a.tar")) == [(name, b"abc"), ("b.json", b"")]
    assert [file.name for file in tmp_path.iterdir()] == ["a.tar"]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    def members():
        yield "a.json", b"{}"
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        write_tar(tmp_path / "a.tar", members())
    assert list(tmp_path.iterdir()) == []


def test_an_outcome_comes_back(tmp_path: Path) -> None:
    used = ClipOutcome(
        key="a",
        samples=(
            Sample(key="a-0", parts={"x.json": b"{}", "y.bin": b"\0" * 9}),
            Sample(key="a-1", parts={"y.bin": b""}),
        ),
        notes=("frame rate resampled (30 to 25)",),
        row={"frames": 3, "yaw_deg": 1.5, "box": [1, 2], "name": "ß"},
        thumbnail=THUMBNAIL,
    )
    refused = ClipOutcome(key="b", problem=Problem.NO_AUDIO, message="b.mp4: no sound: choose another")
    for outcome in (used, refused):
        write_outcome(tmp_path / "staged.tar", outcome)
        assert read_outcome(tmp_path / "staged.tar") == outcome


@pytest.mark.parametrize("cut_bytes", [100, 700, 5000])
def test_a_cut_outcome_is_damaged(tmp_path: Path, cut_bytes: int) -> None:
    path = tmp_path / "staged.tar"
    write_outcome(path, ClipOutcome(key="a", samples=(Sample(key="a", parts={"y.bin": b"\1" * 9000}),)))
    path.write_bytes(path.read_bytes()[:cut_bytes])
    with pytest.raises(DataError, match=r"staged\.tar"):
        read_outcome(path)


def test_reading_gives_every_sample_in_key_order(prepared: Path) -> None:
    samples = list(read_shards(prepared, verify=True))
    wanted = [f"clip{i:03d}" for i in range(12) if i not in (3, 4)]
    wanted[3:3] = ["clip003-0", "clip003-1"]
    assert [sample.key for sample in samples] == wanted
    assert {tuple(sorted(sample.parts)) for sample in samples} == {("features.safetensors", "meta.json")}
    assert samples[0].parts["features.safetensors"] == f"{sum(b'clip000') * 2.0}".encode() * 100


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset 1.0.2 leaves files open
def test_the_webdataset_library_reads_the_shards(prepared: Path) -> None:
    import webdataset

    urls = [str(file) for file in sorted(prepared.glob("shard-*.tar"))]
    assert len(urls) == 3
    theirs = {
        sample["__key__"]: {part: data for part, data in sample.items() if not part.startswith("__")}
        for sample in webdataset.WebDataset(urls, shardshuffle=False)
    }
    gc.collect()  # its open files are complained about here and not in a later test
    assert theirs == {sample.key: dict(sample.parts) for sample in read_shards(prepared)}


def test_a_missing_manifest_says_what_to_do(copy: Path) -> None:
    (copy / "manifest.json").unlink()
    with pytest.raises(DataError, match=r"no manifest\.json: .* run the same command again"):
        list(read_shards(copy))


def test_a_missing_or_cut_shard_is_named(copy: Path) -> None:
    shard = copy / "shard-000001.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-512])
    with pytest.raises(DataError, match=rf"shard-000001\.tar is truncated or damaged: {len(whole) - 512} bytes"):
        list(read_shards(copy))
    shard.unlink()
    with pytest.raises(DataError, match=r"shard-000001\.tar is missing"):
        list(read_shards(copy))


def test_one_flipped_bit_is_seen_by_the_hash(copy: Path) -> None:
    shard = copy / "shard-000000.tar"
    data = bytearray(shard.read_bytes())
    data[600] ^= 1  # in the first member's data
    shard.write_bytes(data)
    assert len(list(read_shards(copy))) == 12
    with pytest.raises(DataError, match=r"shard-000000\.tar is damaged: SHA-256"):
        list(read_shards(copy, verify=True))


def test_foreign_members_of_the_right_size_are_damage(copy: Path) -> None:
    shard = copy / "shard-000000.tar"
    size = shard.stat().st_size
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("no-part"))
    shard.write_bytes(buffer.getvalue()[:512].ljust(size, b"\0"))
    with pytest.raises(DataError, match="'no-part' is no member of a sample"):
        list(read_shards(copy))


def test_a_damaged_manifest_names_the_field(copy: Path) -> None:
    manifest = copy / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"used": 11', '"used": "11"'))
    with pytest.raises(DataError, match=r"manifest\.json is damaged or of another version: used"):
        list(read_shards(copy))
