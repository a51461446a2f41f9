"""Deflated byte tensors: the same again, and nothing inflates beyond what its name and the limit say."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from model.checkpoint import load_checkpoint, read_checkpoint_info, save_checkpoint
from model.errors import CheckpointError
from model.packed_tensors import pack, unpack

SPARSE = torch.zeros(64, 64, 4, dtype=torch.uint8)
WEIGHTS = torch.linspace(-0.1, 0.1, 4096).view(64, 64).half()
NOISE = torch.randint(0, 256, (64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(0, 255), st.booleans())
def test_what_is_packed_comes_back(shape: list[int], value: int, transposed: bool) -> None:
    tensor = torch.full(shape, value, dtype=torch.uint8)
    tensor.view(-1)[::97] = 255 - value
    given = tensor.transpose(0, -1) if transposed else tensor
    (back,) = unpack(pack({"bits": given})).values()
    assert torch.equal(back, given)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=2), st.floats(0.0, 1e5), st.booleans())
def test_weights_come_back_to_the_bit(shape: list[int], size: float, transposed: bool) -> None:
    tensor = (torch.randn(64, *shape, generator=torch.Generator().manual_seed(0)) * size).half()  # some are infinite
    tensor.view(-1)[::97] = torch.nan
    given = tensor.transpose(0, -1) if transposed else tensor
    (back,) = unpack(pack({"weights": given})).values()
    assert torch.equal(back.view(torch.int16), given.contiguous().view(torch.int16))


def test_a_networks_file_is_smaller(tmp_path: Path) -> None:
    weights = (torch.randn(256, 256, generator=torch.Generator().manual_seed(0)) * 0.05).half()
    digest = save_checkpoint(tmp_path / "a.safetensors", {"weights": weights}, kind="t", config=None)
    assert (tmp_path / "a.safetensors").stat().st_size < 0.9 * weights.nbytes
    loaded = load_checkpoint(tmp_path / "a.safetensors", kind="t", config_cls=type(None))
    assert torch.equal(loaded.tensors["weights"], weights) and loaded.content_hash == digest


def test_only_what_shrinks_is_packed() -> None:
    tensors = {
        "noise": NOISE,
        "sparse": SPARSE,
        "small": torch.zeros(9, dtype=torch.uint8),
        "single": torch.zeros(9999),
        "weights": WEIGHTS,
        "random": torch.randint(-(1 << 15), 1 << 15, (9999,), dtype=torch.int16).view(torch.float16),
    }
    names = {"noise", "sparse.deflate.64x64x4", "small", "single", "weights.deflate16.64x64", "random"}
    assert set(pack(tensors)) == names


def test_a_checkpoint_keeps_its_hash_and_says_that_older_programs_cannot_read_it(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    digest = save_checkpoint(path, {"bits": SPARSE}, kind="t", config=None)
    assert path.stat().st_size < SPARSE.numel() / 4
    loaded = load_checkpoint(path, kind="t", config_cls=type(None))
    assert torch.equal(loaded.tensors["bits"], SPARSE) and loaded.content_hash == digest
    plain = save_checkpoint(tmp_path / "b.safetensors", {"bits": NOISE}, kind="t", config=None)
    assert plain == read_checkpoint_info(tmp_path / "b.safetensors").content_hash
    save_checkpoint(tmp_path / "c.safetensors", {"bits": SPARSE, "w": WEIGHTS}, kind="t", config=None)
    versions = []
    for name in ("a", "b", "c"):
        with safe_open(tmp_path / f"{name}.safetensors", framework="pt") as file:
            versions.append(file.metadata()["format_version"])
    assert versions == ["2", "1", "3"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("bits.deflate.9999999999", zlib.compress(b"0" * 10), None),
        ("bits.deflate.999999999x999", zlib.compress(b"0" * 10), "at most"),
        ("bits.deflate.0", zlib.compress(b""), "at most"),
        ("bits.deflate.8", zlib.compress(b"0" * 1_000_000), "does not inflate to the 8 bytes"),
        ("bits.deflate.8", zlib.compress(b"0" * 7), "does not inflate to the 8 bytes"),
        ("bits.deflate.8", zlib.compress(b"0" * 8) + b"more", "does not inflate"),
        ("bits.deflate.8", zlib.compress(b"0" * 8)[:-1], "does not inflate"),
        ("bits.deflate.8", b"not deflated", "is damaged"),
        ("bits.deflate16.8", zlib.compress(b"0" * 8), "does not inflate to the 16 bytes"),
        ("bits.deflate16.99999999", zlib.compress(b"0" * 8), "at most"),
    ],
)
def test_what_does_not_inflate_to_its_name_is_refused(
    tmp_path: Path, name: str, data: bytes, message: str | None
) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, {"bits": SPARSE}, kind="t", config=None)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    stored = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    save_file({name: stored}, path, metadata=metadata)
    assert load_file(path).keys() == {name}
    with pytest.raises(CheckpointError, match=message or "altered"):
        load_checkpoint(path, kind="t", config_cls=type(None))
