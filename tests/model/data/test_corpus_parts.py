"""The speech corpus on disk: whole, exact, and clear about what is not one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from model.data.corpus_parts import MANIFEST, CorpusItem, make_item, read_corpus, read_part, write_part
from model.errors import DataError


def _items() -> list[CorpusItem]:
    rng = np.random.default_rng(0)
    return [
        make_item(
            rng.uniform(-1.2, 1.2, 160 * n + 7).astype(np.float32),
            rng.integers(0, 45, n),
            kind="spoken",
            voice=f"v{n}",
            language="cs",
            text="dobrý den",
        )
        for n in (3, 1, 10)
    ]


def test_a_part_comes_back_as_it_was(tmp_path: Path) -> None:
    items = _items()
    write_part(tmp_path / "spoken-0000.safetensors", items)
    for before, after in zip(items, read_part(tmp_path / "spoken-0000.safetensors"), strict=True):
        assert before.info == after.info
        np.testing.assert_array_equal(before.audio, after.audio)
        np.testing.assert_array_equal(before.phonemes, after.phonemes)
        assert np.abs(after.sound).max() <= 1.0
    assert [p.name for p in tmp_path.iterdir()] == ["spoken-0000.safetensors"]


def test_what_is_louder_than_full_scale_is_clipped() -> None:
    item = make_item(np.float32([2.0, -2.0, 0.5]), np.zeros(0, int), kind="noise", voice="x")
    assert item.audio.tolist() == [32767, -32768, 16384]


def test_unfinished_damaged_and_foreign_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nerf-lipsync prepare voices"):
        list(read_corpus(tmp_path))
    path = tmp_path / "spoken-0000.safetensors"
    (tmp_path / MANIFEST).write_text(json.dumps({"parts": {path.name: ""}}))
    with pytest.raises(DataError, match=path.name):
        list(read_corpus(tmp_path))
    write_part(path, _items())
    assert len(list(read_corpus(tmp_path))) == 3
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match=path.name):
        read_part(path)
    save_file({"audio": np.zeros(3, np.int16)}, path)
    with pytest.raises(DataError, match="not a part of a speech corpus"):
        read_part(path)
