"""A virtual camera shows one session, drops what it is too slow for, and says what is missing."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aioice.ice
import numpy as np
import pytest
from numpy.typing import NDArray

from stream_server.config import ServerConfig
from stream_server.errors import ServerConfigError
from stream_server.events import Event, NoticeEvent
from stream_server.worker.egress import Listener, Picture
from stream_server.worker.sinks.virtual_camera import CameraError, VirtualCamera, check_camera, load_backend
from tests.stream_server.real_peer import RealPeer, offer_loopback
from tests.stream_server.server_process import ROOT, ServerProcess

SIZE = 16
WAIT_S = 20.0


class FakeCamera:
    """One open camera of `FakeModule`."""

    def __init__(self, module: FakeModule, given: dict[str, Any]) -> None:
        self.given = given
        self.device = given["device"] or "/dev/video7"
        self.sent: list[int] = []
        self.closed = False
        self._module = module

    def send(self, frame: NDArray[np.uint8]) -> None:
        assert frame.flags.c_contiguous and frame.dtype == np.uint8
        assert frame.size == self.given["width"] * self.given["height"] * 3 // 2
        with self._module.changed:
            self._module.sending += 1
            self._module.changed.notify_all()
        assert self._module.ready.wait(WAIT_S)
        if self._module.send_problem:
            raise RuntimeError(self._module.send_problem)
        with self._module.changed:
            self.sent.append(int(frame[0, 0]))
            self._module.changed.notify_all()

    def close(self) -> None:
        self.closed = True


class FakeModule:
    """As `pyvirtualcam`, as far as it is used."""

    PixelFormat = SimpleNamespace(I420="I420")

    def __init__(self) -> None:
        self.cameras: list[FakeCamera] = []
        self.open_problem = self.send_problem = ""
        self.sending = 0
        self.ready = threading.Event()
        self.ready.set()
        self.changed = threading.Condition()

    def Camera(self, **given: Any) -> FakeCamera:  # noqa: N802 - the library's name
        if self.open_problem:
            raise RuntimeError(self.open_problem)
        self.cameras.append(FakeCamera(self, given))
        return self.cameras[-1]

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, WAIT_S)


class FakeEgress:
    """Hands pictures to its listeners, as `Egress` does."""

    def __init__(self) -> None:
        self.listeners: list[Listener] = []

    def attach(self, listener: Listener) -> None:
        self.listeners.append(listener)

    def detach(self, listener: Listener) -> None:
        self.listeners.remove(listener)


class Session:
    """As `Place`, as far as the camera needs it."""

    def __init__(self) -> None:
        self.egress: Any = FakeEgress()
        self.told: list[Event] = []
        self.filmed = 0

    def emit(self, event: Event) -> None:
        self.told.append(event)

    def begin_filming(self) -> None:
        self.filmed += 1

    def show(self, value: int) -> None:
        """A picture of this brightness leaves."""
        for listener in list(self.egress.listeners):
            listener.on_picture(Picture(0, np.full((SIZE * 3 // 2, SIZE), value, np.uint8), None, 0))

    def codes(self) -> list[str]:
        return [event.code for event in self.told if isinstance(event, NoticeEvent)]


@pytest.fixture
def module() -> FakeModule:
    return FakeModule()


def on_a_loop(module: FakeModule, talk: Callable[[VirtualCamera], Any], device: str | None = None) -> VirtualCamera:
    """Run `talk(camera)` on an event loop, close the camera, wait for its end."""
    made: list[VirtualCamera] = []

    async def run() -> None:
        camera = VirtualCamera(module, device, fps=25)
        made.append(camera)
        try:
            await talk(camera)
        finally:
            module.ready.set()
            thread = camera.close()
            if thread is not None:
                await asyncio.to_thread(thread.join, WAIT_S)
                assert not thread.is_alive()

    asyncio.run(run())
    return made[0]


async def has_sent(module: FakeModule, *values: int) -> None:
    await asyncio.to_thread(module.wait_for, lambda: bool(module.cameras) and module.cameras[-1].sent == [*values])


def test_one_session_has_it_then_the_next_and_nobody_leaves_a_face(module: FakeModule) -> None:
    async def talk(camera: VirtualCamera) -> None:
        first, second, third = Session(), Session(), Session()
        for session in (first, second, third):
            camera.join(session)
        assert [session.filmed for session in (first, second, third)] == [1, 0, 0]
        second.show(1)
        first.show(100)
        await has_sent(module, 100)
        camera.leave(second)
        camera.leave(first)
        camera.leave(first)
        assert third.filmed == 1
        first.show(2)
        third.show(200)
        await has_sent(module, 100, 200)
        camera.leave(third)
        await has_sent(module, 100, 200, 16)  # black

    on_a_loop(module, talk, "/dev/video3")
    (camera,) = module.cameras
    assert camera.closed
    assert camera.given == {"width": SIZE, "height": SIZE, "fps": 25, "fmt": "I420", "device": "/dev/video3"}


def test_a_slow_device_loses_pictures_and_holds_up_nobody(module: FakeModule) -> None:
    async def talk(camera: VirtualCamera) -> None:
        session = Session()
        camera.join(session)
        module.ready.clear()
        session.show(1)
        await asyncio.to_thread(module.wait_for, lambda: module.sending == 1)
        for value in range(2, 52):
            session.show(value)  # returns at once, 50 times
        module.ready.set()
        await has_sent(module, 1, 50, 51)

    assert on_a_loop(module, talk).skipped == 48


def test_a_camera_that_fails_is_told_once_and_tried_again_with_the_next_session(module: FakeModule) -> None:
    async def talk(camera: VirtualCamera) -> None:
        first, second = Session(), Session()
        module.open_problem = "no v4l2 loopback device found"
        camera.join(first)
        camera.join(second)
        for _ in range(3):
            first.show(1)
            async with asyncio.timeout(WAIT_S):
                while not first.codes():  # noqa: ASYNC110 - a thread's doing
                    await asyncio.sleep(0.01)
        assert first.codes() == ["camera-failed"]
        module.open_problem = ""
        camera.leave(first)
        second.show(7)
        await has_sent(module, 7)
        assert second.codes() == []
        module.send_problem = "device was unplugged"
        second.show(8)
        async with asyncio.timeout(WAIT_S):
            while not second.codes():  # noqa: ASYNC110 - a thread's doing
                await asyncio.sleep(0.01)
        second.show(9)
        assert module.cameras[-1].closed

    on_a_loop(module, talk)
    assert len(module.cameras) == 1


def test_what_is_missing_is_said(module: FakeModule, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_camera(module, None, size=SIZE, fps=25) == "/dev/video7"
    assert module.cameras[0].closed
    module.open_problem = "No v4l2 loopback device found\nat /dev/video[0-9]+"
    with pytest.raises(CameraError, match=r"virtual camera /dev/video3 cannot be used: No .* at .*modprobe v4l2loop"):
        check_camera(module, "/dev/video3", size=SIZE, fps=25)
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(CameraError, match=r"pip install 'nerf-lipsync\[camera\]'"):
        load_backend()


def test_options_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ServerConfigError, match="--workers 1, got 2"):
        ServerConfig(virtual_camera=True, workers=2)
    with pytest.raises(ServerConfigError, match="--camera-device needs --virtual-camera"):
        ServerConfig(camera_device="/dev/video3")
    with pytest.raises(ServerConfigError, match="encoder must be one of auto, libvpx"):
        ServerConfig(encoder="h265")


def refusal(*arguments: str) -> str:
    """What `serve` says on one line before it exits with 2."""
    command = [sys.executable, "-m", "stream_server", "serve", "--port", "0", "--no-standby", *arguments]
    command += ["--pipeline", "tests.stream_server.fake_pipeline:FakePipeline"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    said = [line for line in done.stderr.splitlines() if " WARNING serve " not in line]  # of processes slow to end
    assert (done.returncode, len(said)) == (2, 1), done.stderr
    return said[0]


@pytest.mark.skipif(importlib.util.find_spec("pyvirtualcam") is not None, reason="pyvirtualcam is installed")
def test_serving_without_the_module_is_one_line_and_exit_code_2() -> None:
    assert "pip install 'nerf-lipsync[camera]'" in refusal("--virtual-camera")


def test_an_encoder_that_does_not_work_is_one_line_and_exit_code_2() -> None:
    assert "encoder libopenh264 does not work here: not in this FFmpeg" in refusal("--encoder", "libopenh264")


MODULE = """
from types import SimpleNamespace

PixelFormat = SimpleNamespace(I420="I420")


class Camera:
    def __init__(self, *, width, height, fps, fmt, device):
        if device == "/dev/nothing":
            raise RuntimeError("'v4l2loopback' backend: /dev/nothing is no video output device")
        self.device = device or "/dev/video7"
        self._size = width

    def send(self, frame):
        luma = frame[: self._size]
        with open("{log}", "a") as file:
            file.write(f"{{int(luma[len(luma) // 2 - 10, len(luma) // 2])}}\\n")

    def close(self):
        pass
"""


def test_a_server_shows_the_first_call_and_then_the_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", aioice.ice.get_host_addresses)
    offer_loopback()
    for name in ("dark-70", "bright-210"):
        (tmp_path / "avatars" / name).mkdir(parents=True)
        (tmp_path / "avatars" / name / "avatar.json").write_text(json.dumps({"name": name, "licence": "CC0"}))
    log = tmp_path / "sent"
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "pyvirtualcam.py").write_text(MODULE.format(log=log))

    def last(value: int) -> bool:
        return log.exists() and abs(int(log.read_text().split()[-1]) - value) < 3

    async def run(server: ServerProcess) -> None:
        async with RealPeer(server.url) as first, RealPeer(server.url) as second:
            await first.call(avatar="dark-70")
            await second.call(avatar="bright-210")
            for peer in (first, second):
                await peer.until(lambda peer=peer: len(peer.codes) >= 20)  # type: ignore[misc]
            await first.until(lambda: last(70))
            assert notices(first) == ["camera-on"]
            assert notices(second) == []
            await first.hang_up()
            await second.until(lambda: last(210) and notices(second) == ["camera-on"])
            await second.hang_up()
            async with asyncio.timeout(WAIT_S):
                while not last(16):  # noqa: ASYNC110 - another process's doing
                    await asyncio.sleep(0.05)

    arguments = ("--timecode", "--size", "128", "--max-sessions", "2", "--avatars", str(tmp_path / "avatars"))
    with ServerProcess(*arguments, "--virtual-camera", python_path=tmp_path / "modules") as server:
        asyncio.run(run(server))
    values = {int(line) for line in log.read_text().split()}
    assert values <= {*range(67, 74), *range(207, 214), 16}


def notices(peer: RealPeer) -> list[str]:
    return [event.code for event in peer.events if isinstance(event, NoticeEvent)]
