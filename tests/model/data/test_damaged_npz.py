"""An npz that breaks off is refused in words: `zipfile`'s own errors are neither OSError nor ValueError."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from model.data.capture import load_motion
from model.errors import DataError
from model.face.head_files import read_arrays
from model.face.ict_head import IctHead

READERS: tuple[Callable[[Path], object], ...] = (load_motion, lambda path: read_arrays(path, ("m",)), IctHead.load)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_an_npz_that_breaks_off(tmp_path: Path, read: Callable[[Path], object], kept: float) -> None:
    path = tmp_path / "whole.npz"
    np.savez(path, m=np.zeros((50, 32), np.float32), neutral=np.zeros((9, 3), np.float32))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(DataError, match=r"whole\.npz"):
        read(path)


def test_ict_arrays_that_are_not_all_there(tmp_path: Path) -> None:
    np.savez(tmp_path / "some.npz", neutral=np.zeros((9, 3), np.float32))
    with pytest.raises(DataError, match=r"some\.npz.*expr"):
        IctHead.load(tmp_path / "some.npz")
