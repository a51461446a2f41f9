"""What a fuzzer finds, keeps, tries first and counts."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from model.results import read_results
from tests.support import fuzzing
from tests.support.fuzzing import Fuzzer


def fails_at_x(data: bytes) -> None:
    if b"x" in data:
        raise ZeroDivisionError(str(len(data)))
    raise ValueError("refused")


def test_a_crash_is_kept_counted_and_tried_first(tmp_path: Path) -> None:
    fuzzer = Fuzzer(tmp_path / "corpus", 0.0, tmp_path / "fuzz.json")
    with pytest.raises(AssertionError, match=r"words: ZeroDivisionError: .* the input is in .*corpus/words/"):
        fuzzer.run("words", [b"ax", b"ay"], fails_at_x, (ValueError,))
    (kept,) = (tmp_path / "corpus" / "words").iterdir()  # one for each place, however often it fails there
    assert b"x" in kept.read_bytes()
    assert read_results(tmp_path / "fuzz.json").missed == ("words.crashes",)
    seen: list[bytes] = []
    fuzzer.run("words", [b"abc"], seen.append, ())
    assert seen[0] == kept.read_bytes()
    fuzzer.run("numbers", [b"1"], lambda _data: None, ())
    figures = read_results(tmp_path / "fuzz.json").figures
    assert figures["words.crashes"].value == 0
    assert figures["numbers.cases"].value == 20


def test_an_input_that_hangs_is_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzzing, "HANG_S", 0.05)

    def hangs(data: bytes) -> None:
        until = time.process_time() + 5.0
        while data == b"good" and time.process_time() < until:
            pass

    with pytest.raises(AssertionError, match="HangError: no answer"):
        Fuzzer(tmp_path, 1.0).run("slow", [b"good"], hangs, ())


def test_what_reaches_a_new_place_is_mutated_further(tmp_path: Path) -> None:
    deepest = 0

    def locked(data: bytes) -> str:
        nonlocal deepest
        depth = next((place for place, byte in enumerate(b"lock") if data[place : place + 1] != bytes([byte])), 4)
        deepest = max(deepest, depth)
        return str(depth)

    Fuzzer(tmp_path, 3.0).run("locked", [b"????"], locked, ())
    assert deepest >= 2  # by chance alone: once in a hundred million


def test_a_long_run_keeps_a_few_small_inputs_of_each_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzzing, "LONG_RUN_S", -1.0)
    Fuzzer(tmp_path, 0.0).run("places", [b"s", b"l" * 5000], lambda data: str(len(data)), ())
    kept = [path.read_bytes() for path in (tmp_path / "places").iterdir()]
    assert 0 < len(kept) <= 6
    assert all(len(data) <= 400 for data in kept)
    assert len({len(data) for data in kept}) == len(kept)
