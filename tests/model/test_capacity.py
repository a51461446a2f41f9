"""The largest size that holds 25 fps with headroom is chosen; a busy moment is asked about again."""

from __future__ import annotations

import pytest

from model import capacity
from model.capacity import Capacity, choose_size


class Sizes:
    """Stands for loading and measuring: frames per second by size, one value per measurement."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fps: dict[int, list[float]]) -> None:
        self.loaded: list[int] = []
        monkeypatch.setattr(capacity, "measure_capacity", lambda size: Capacity(size, fps[size].pop(0), 0.5, size))

    def __call__(self, size: int) -> int:
        self.loaded.append(size)
        return size


def test_the_first_size_with_headroom_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    load = Sizes(monkeypatch, {256: [60.0], 192: []})
    assert choose_size(load).size == 256
    assert load.loaded == [256]


def test_a_busy_moment_is_asked_about_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_size(Sizes(monkeypatch, {256: [20.0, 60.0]})).fps == 60.0


def test_slow_machines_get_smaller_pictures_and_hopeless_ones_the_smallest(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_size(Sizes(monkeypatch, {256: [20.0, 21.0], 192: [40.0]})).size == 192
    last = choose_size(Sizes(monkeypatch, {256: [9.0] * 2, 192: [9.0] * 2, 128: [20.0] * 2}))
    assert last.size == 128
    assert not last.holds


def test_no_sizes_is_an_error() -> None:
    with pytest.raises(ValueError, match="sizes is empty"):
        choose_size(lambda size: size, sizes=())
