"""Checkpoints come back bit for bit, and damaged, foreign or newer files are refused by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model import checkpoint as checkpoint_module
from model.checkpoint import load_checkpoint, read_checkpoint_info, save_checkpoint
from model.errors import CheckpointError, CheckpointKindError, CheckpointVersionError


@dataclass(frozen=True, slots=True, kw_only=True)
class NetConfig:
    """A config for the tests."""

    width: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherConfig:
    """One that does not fit."""

    depth: int = 4


def some_tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "w": torch.randn(5, 3, generator=generator).t(),
        "half": torch.randn(7, generator=generator).to(torch.bfloat16),
        "scalar": torch.tensor(3.5, dtype=torch.float64),
        "mask": torch.tensor([True, False]),
        "empty": torch.empty(0, 4),
    }


def assert_same_tensors(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert sorted(found) == sorted(wanted)
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_round_trip(tmp_path: Path) -> None:
    file = tmp_path / "net.safetensors"
    tensors = some_tensors()
    digest = save_checkpoint(file, tensors, kind="net", config=NetConfig(width=9), metadata={"made by": "a test"})
    loaded = load_checkpoint(file, kind="net", config_cls=NetConfig)
    assert_same_tensors(loaded.tensors, tensors)
    assert loaded.config == NetConfig(width=9)
    assert loaded.metadata == {"made by": "a test"}
    assert loaded.content_hash == digest == read_checkpoint_info(file).content_hash
    assert len(digest) == 16
    assert [p.name for p in tmp_path.iterdir()] == ["net.safetensors"]


def test_without_config(tmp_path: Path) -> None:
    file = tmp_path / "net.safetensors"
    save_checkpoint(file, some_tensors(), kind="net", config=None)
    assert load_checkpoint(file, kind="net", config_cls=type(None)).config is None


def test_the_hash_depends_on_contents_only(tmp_path: Path) -> None:
    def digest(name: str, tensors: dict[str, torch.Tensor], kind: str = "net", width: int = 4, note: str = "") -> str:
        config = NetConfig(width=width)
        return save_checkpoint(
            tmp_path / f"{name}.safetensors", tensors, kind=kind, config=config, metadata={"n": note}
        )

    base = digest("a", some_tensors())
    reordered = dict(reversed(some_tensors().items()))
    assert digest("b", reordered, note="other") == base
    changed = some_tensors()
    changed["w"][0, 0] += 1
    renamed = {("v" if name == "w" else name): tensor for name, tensor in some_tensors().items()}
    others = [digest("c", changed), digest("d", renamed), digest("e", some_tensors(), kind="vae")]
    others.append(digest("f", some_tensors(), width=5))
    assert len({base, *others}) == 5


def test_shared_memory_is_stored_twice(tmp_path: Path) -> None:
    file = tmp_path / "tied.safetensors"
    weight = torch.arange(6.0)
    save_checkpoint(file, {"a": weight, "b": weight[:3]}, kind="net", config=None)
    assert_same_tensors(
        load_checkpoint(file, kind="net", config_cls=type(None)).tensors, {"a": weight, "b": weight[:3]}
    )


def test_a_large_checkpoint_is_split_and_found(tmp_path: Path) -> None:
    file = tmp_path / "big.safetensors"
    tensors = {f"layer{i}": torch.full((100,), float(i)) for i in range(5)}
    digest = save_checkpoint(file, tensors, kind="net", config=NetConfig(), shard_limit_bytes=900)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"big-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    loaded = load_checkpoint(file, kind="net", config_cls=NetConfig)
    assert_same_tensors(loaded.tensors, tensors)
    assert loaded.content_hash == digest
    assert save_checkpoint(file, tensors, kind="net", config=NetConfig()) == digest
    assert [p.name for p in tmp_path.iterdir()] == ["big.safetensors"]


def test_a_missing_shard_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "big.safetensors"
    tensors = {f"layer{i}": torch.zeros(100) for i in range(5)}
    save_checkpoint(file, tensors, kind="net", config=None, shard_limit_bytes=900)
    (tmp_path / "big-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match="wanted"):
        load_checkpoint(file, kind="net", config_cls=type(None))


def test_truncated_and_foreign_files(tmp_path: Path) -> None:
    file = tmp_path / "net.safetensors"
    save_checkpoint(file, some_tensors(), kind="net", config=None)
    whole = file.read_bytes()
    for length in (0, 5, 40, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"net\.safetensors: is truncated or not a safetensors"):
            load_checkpoint(file, kind="net", config_cls=type(None))
    save_file({"w": torch.zeros(3)}, file)
    with pytest.raises(CheckpointError, match="not one of ours"):
        load_checkpoint(file, kind="net", config_cls=type(None))
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "absent" / "x.safetensors", kind="net", config_cls=type(None))
    with pytest.raises(CheckpointError, match=r"must end in \.safetensors"):
        save_checkpoint(tmp_path / "net.pt", some_tensors(), kind="net", config=None)


def test_altered_weights_are_noticed(tmp_path: Path) -> None:
    file = tmp_path / "net.safetensors"
    save_checkpoint(file, {"w": torch.zeros(3)}, kind="net", config=None)
    info = bytearray(file.read_bytes())
    info[-1] ^= 1
    file.write_bytes(bytes(info))
    with pytest.raises(CheckpointError, match="altered"):
        load_checkpoint(file, kind="net", config_cls=type(None))


def test_wrong_kind_and_wrong_config(tmp_path: Path) -> None:
    file = tmp_path / "net.safetensors"
    save_checkpoint(file, some_tensors(), kind="motion-vae", config=NetConfig())
    with pytest.raises(CheckpointKindError, match="holds a 'motion-vae' checkpoint, wanted 'speech'"):
        load_checkpoint(file, kind="speech", config_cls=NetConfig)
    with pytest.raises(CheckpointError, match=r"does not fit OtherConfig: .*'width'"):
        load_checkpoint(file, kind="motion-vae", config_cls=OtherConfig)


def test_a_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "net.safetensors"
    monkeypatch.setattr(checkpoint_module, "format_of", lambda _: 99)
    save_checkpoint(file, some_tensors(), kind="net", config=None)
    monkeypatch.undo()
    with pytest.raises(CheckpointVersionError, match="version 99, this program reads up to 3"):
        load_checkpoint(file, kind="net", config_cls=type(None))
    assert load_file(file)["scalar"] == 3.5


@pytest.mark.parametrize("moved", [1, 3, 5, 6])
def test_a_save_that_is_killed_between_its_moves_leaves_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    """Parts of both lay there, or all of both, and neither could be read any more."""

    class Killed(BaseException):
        pass

    calls = 0

    def replace(source: Path, target: Path) -> None:
        nonlocal calls
        calls += 1
        if calls > moved:
            raise Killed
        source.rename(target)

    def unlink(*_: object, **__: object) -> None:
        raise Killed

    file = tmp_path / "net.safetensors"
    old, new = ({f"t{i}": torch.full((100,), value) for i in range(6)} for value in (1.0, 2.0))
    save_checkpoint(file, old, kind="net", config=None, shard_limit_bytes=900)
    monkeypatch.setattr(checkpoint_module.os, "replace", replace)
    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(Killed):
        save_checkpoint(file, new, kind="net", config=None, shard_limit_bytes=400)
    found = load_checkpoint(file, kind="net", config_cls=type(None)).tensors
    assert {float(value[0]) for value in found.values()} == {2.0 if moved == 6 else 1.0}
