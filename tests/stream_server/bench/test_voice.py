"""The caller's microphone keeps the real clock and says what it was given."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import numpy as np
import pytest

from stream_server.bench import voice as module
from stream_server.bench.errors import BenchError
from stream_server.bench.voice import Microphone, made_voice, read_voice, write_voice


def test_packets_leave_when_their_last_sample_has_sounded(monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = itertools.count(0)
    clock = {"now": 0}

    async def sleep(seconds: float) -> None:
        clock["now"] += round(seconds * 1e9)

    monkeypatch.setattr(module.time, "monotonic_ns", lambda: clock["now"] + 0 * next(now_ns))
    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    samples = np.arange(2_400, dtype=np.int16)  # two packets and a half: the half is never said
    microphone = Microphone(samples)

    async def three() -> list[np.ndarray]:
        return [(await microphone.recv()).to_ndarray()[0] for _ in range(3)]

    said = np.concatenate(asyncio.run(three()))
    assert (microphone.start_ns, clock["now"]) == (0, 60_000_000)
    assert microphone.late_ns == [0, 0, 0]
    np.testing.assert_array_equal(said, np.tile(samples[:1920], 2)[:2880])
    np.testing.assert_array_equal(microphone.sent(), said)


def test_sound_files_come_back(tmp_path: Path) -> None:
    samples = made_voice(2.5)
    write_voice(tmp_path / "a.wav", samples)
    np.testing.assert_array_equal(read_voice(tmp_path / "a.wav"), samples)


def test_short_or_broken_sound_is_refused(tmp_path: Path) -> None:
    write_voice(tmp_path / "a.wav", made_voice(1.0))
    with pytest.raises(BenchError, match=r"lasts 1\.00 s"):
        read_voice(tmp_path / "a.wav")
    (tmp_path / "b.wav").write_text("no sound")
    with pytest.raises(BenchError, match="cannot read sound"):
        read_voice(tmp_path / "b.wav")
    with pytest.raises(BenchError, match="cannot read sound"):
        read_voice(tmp_path / "none.wav")
