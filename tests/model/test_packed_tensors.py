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
NOISE = torch.randint(0, 256, (64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(0, 255), st.booleans())
def test_what_is_packed_comes_back(shape: list[int], value: int, transposed: bool) -> None:
    tensor = torch.full(shape, value, dtype=torch.uint8)
    tensor.view(-1)[::97] = 255 - value
    given = tensor.transpose(0, -1) if transposed else tensor
    (back,) = unpack(pack({"bits": given})).values()
    assert torch.equal(back, given)


def test_only_byte_tensors_that_shrink_are_packed() -> None:
    tensors = {
        "noise": NOISE,
        "sparse": SPARSE,
        "small": torch.zeros(9, dtype=torch.uint8),
        "weights": torch.zeros(9999),
    }
    assert set(pack(tensors)) == {"noise", "sparse.deflate.64x64x4", "small", "weights"}


def test_a_checkpoint_keeps_its_hash_and_says_that_older_programs_cannot_read_it(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    digest = save_checkpoint(path, {"bits": SPARSE}, kind="t", config=None)
    assert path.stat().st_size < SPARSE.numel() / 4
    loaded = load_checkpoint(path, kind="t", config_cls=type(None))
    assert torch.equal(loaded.tensors["bits"], SPARSE) and loaded.content_hash == digest
    plain = save_checkpoint(tmp_path / "b.safetensors", {"bits": NOISE}, kind="t", config=None)
    assert plain == read_checkpoint_info(tmp_path / "b.safetensors").content_hash
    versions = []
    for name in ("a", "b"):
        with safe_open(tmp_path / f"{name}.safetensors", framework="pt") as file:
            versions.append(file.metadata()["format_version"])
    assert versions == ["2", "1"]


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
