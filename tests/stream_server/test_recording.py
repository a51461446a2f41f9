"""Recordings: playable, private, marked, bounded, and never in the way of the call."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import stat
import threading
from pathlib import Path
from typing import BinaryIO

import aioice.ice
import av
import httpx
import numpy as np
import pytest

from stream_server.config import ServerConfig
from stream_server.errors import ServerConfigError
from stream_server.events import NoticeEvent, ReadyEvent
from stream_server.serve import EXIT_CONFIG, run_server
from stream_server.worker.egress import Picture, Sound
from stream_server.worker.sinks.recording import Recorder, RecordingFolder
from tests.stream_server.real_peer import RealPeer, offer_loopback
from tests.stream_server.server_process import ServerProcess

SIZE = 128


class Source:
    """A second of picture and sound for a recorder, again and again."""

    def __init__(self, folder: RecordingFolder) -> None:
        self.stopped: list[str] = []
        self.told = threading.Event()
        self.recorder = Recorder(folder, size=SIZE, fps=25, on_stopped=self._on_stopped, session="0-x")
        self._rng = np.random.default_rng(0)

    def _on_stopped(self, code: str, message: str) -> None:
        self.stopped.append(code)
        self.told.set()

    def play(self, first: int, count: int) -> None:
        for index in range(first, first + count):
            noise = self._rng.integers(0, 255, (SIZE * 3 // 2, SIZE), np.uint8)  # as large as pictures get
            self.recorder.on_picture(Picture(index, noise, None, index * 40_000_000))
            for block in (0, 1):
                self.recorder.on_sound(Sound((2 * index + block) * 960, np.zeros(960, np.int16)))

    def finish(self) -> None:
        thread = self.recorder.close()
        if thread is not None:
            thread.join(20)
            assert not thread.is_alive()


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_a_recording_is_private_and_plays_with_its_mark(tmp_path: Path) -> None:
    source = Source(RecordingFolder(tmp_path, 0))
    source.play(10, 25)  # a session's first picture need not be its number 0
    source.finish()
    source.finish()
    (file,) = files(tmp_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with av.open(str(file)) as container:
        assert "synthetic" in container.metadata["comment"]
        assert sum(1 for _ in container.decode(video=0)) == 25
    with av.open(str(file)) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) >= 45_000
    assert source.stopped == []


def test_without_a_picture_there_is_no_file(tmp_path: Path) -> None:
    source = Source(RecordingFolder(tmp_path, 0))
    source.recorder.on_sound(Sound(0, np.zeros(960, np.int16)))
    source.finish()
    assert files(tmp_path) == []


def test_a_full_quota_ends_it_and_what_is_there_plays(tmp_path: Path) -> None:
    (tmp_path / "old.mp4").write_bytes(b"\0" * 500_000)
    source = Source(RecordingFolder(tmp_path, 700_000))
    source.play(0, 50)
    assert source.told.wait(20)
    source.finish()
    assert source.stopped == ["recording-full"]
    recorded = next(file for file in files(tmp_path) if file.name != "old.mp4")
    assert 0 < recorded.stat().st_size <= 200_000
    with av.open(str(recorded)) as container:
        assert sum(1 for _ in container.decode(video=0)) > 2


def test_space_that_was_made_counts_after_a_while(tmp_path: Path) -> None:
    (tmp_path / "old.mp4").write_bytes(b"\0" * 900)
    now_s = 0.0
    folder = RecordingFolder(tmp_path, 1000, now_s=lambda: now_s)
    assert (folder.take(100), folder.take(1)) == (True, False)
    (tmp_path / "old.mp4").unlink()
    assert not folder.take(1)
    now_s = 6.0
    assert folder.take(1000)


def test_a_disk_that_fails_is_told_once(tmp_path: Path) -> None:
    class FullDisk(RecordingFolder):
        def new_file(self) -> BinaryIO:
            return open("/dev/full", "wb", buffering=0)  # what is written there meets ENOSPC

    source = Source(FullDisk(tmp_path, 0))
    source.play(0, 25)
    assert source.told.wait(20)
    source.play(25, 25)
    source.finish()
    assert source.stopped == ["recording-failed"]


def test_a_folder_that_cannot_be_made_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert run_server(ServerConfig(port=0, record=str(tmp_path / "file" / "here"))) == EXIT_CONFIG
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert os.strerror(errno.ENOTDIR) in message
    with pytest.raises(ServerConfigError, match="record_quota_mb"):
        ServerConfig(record_quota_mb=-1)


def test_a_call_is_recorded_and_outlives_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second call's file may not grow beyond some kilobytes: as on a full disk, the system refuses to write."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", aioice.ice.get_host_addresses)
    offer_loopback()

    async def call(server: ServerProcess) -> RealPeer:
        async with RealPeer(server.url) as peer, httpx.AsyncClient(trust_env=False) as client:
            await peer.call()
            await peer.until(lambda: len(peer.codes) >= 60)
            info = await client.get(f"{server.url}/v1/sessions/{peer.session}", timeout=10)
            peer.events.append(NoticeEvent(code=f"recorded={info.json()['recorded']}", message=""))
            await client.delete(f"{server.url}/v1/sessions/{peer.session}", timeout=10)
            return peer

    folder = tmp_path / "calls"
    with ServerProcess("--size", "128", "--record", str(folder)) as server:
        good = asyncio.run(call(server))
        resource.prlimit(server.children()["worker"], resource.RLIMIT_FSIZE, (4_000, 4_000))
        failed = asyncio.run(call(server))
    first, second = files(folder)
    ready = good.events[0]
    assert isinstance(ready, ReadyEvent)
    assert ready.recorded
    assert notices(good) == ["recorded=True"]
    assert notices(failed) == ["recording-failed", "recorded=False"]
    assert str(good.session)[2:] not in first.name
    with av.open(str(first)) as container:
        assert sum(1 for _ in container.decode(video=0)) >= 50
    assert second.stat().st_size <= 4_000
    assert len(failed.codes) >= 60


def notices(peer: RealPeer) -> list[str]:
    return [event.code for event in peer.events if isinstance(event, NoticeEvent)]


def test_a_file_that_is_moved_away_while_the_folder_is_looked_at_is_passed_over(tmp_path: Path) -> None:
    """It ended the recording; a link to where a file was moved, and is no more, ended all of them."""
    (tmp_path / "kept.mp4").write_bytes(bytes(600))
    (tmp_path / "moved.mp4").symlink_to(tmp_path / "away")
    folder = RecordingFolder(tmp_path, 1000)
    assert folder.take(400)
    assert not folder.take(1)
