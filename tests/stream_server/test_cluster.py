"""What a cluster is made of, without Ray: names, settings, a node's folders and processes, and the gate."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from stream_server import cli
from stream_server.cluster import processes
from stream_server.cluster.door import Door
from stream_server.cluster.gate import Answer, Gate, no_session
from stream_server.cluster.names import Home, agent_name, node_of_agent
from stream_server.cluster.processes import Processes, ask_to_stop, living_replicas
from stream_server.cluster.settings import ClusterSettings, check_for_cluster
from stream_server.config import ServerConfig
from stream_server.engine import protocol
from stream_server.errors import ServerConfigError
from tests.stream_server.server_process import FAKE, ROOT

NODE, OTHER = "0123456789ab", "ba9876543210"
HERE, THERE = Home(NODE, "abcd1234"), Home(OTHER, "zyxw9876", 1)
SESSION = f"{THERE.prefix}{THERE.worker}-tuw3bo3zaw7AUD-N3zXLOA"


def test_a_session_names_its_home() -> None:
    assert Home.of_session(SESSION) == THERE
    assert node_of_agent(agent_name(NODE + "ffff")) == NODE
    assert node_of_agent("something-else") is None


@pytest.mark.parametrize("text", ["", "0-abc", SESSION.replace("-1-", "-x-"), "../" + SESSION, SESSION.upper(), "é"])
def test_what_no_cluster_gave_out_has_no_home(text: str) -> None:
    assert Home.of_session(text) is None


def test_settings_survive_json_and_refuse_nonsense() -> None:
    settings = ClusterSettings(min_replicas=2, max_replicas=5, replica_gpus=1.0)
    assert ClusterSettings.from_json(settings.to_json()) == settings
    for values in ({"min_replicas": 3}, {"replica_cpus": 0.0}, {"target_share": 0.0}, {"look_back_s": 0.0}):
        with pytest.raises(ServerConfigError):
            ClusterSettings(**values)
    assert [settings.target_sessions(places) for places in (1, 2, 12)] == [1.0, 1.5, 9.0]


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"max_sessions": 0}, "--max-sessions"),
        ({"metrics_port": 9464}, "--metrics-port"),
        ({"advertise_ip": "192.0.2.1"}, "NERF_LIPSYNC_ADVERTISE_IP"),
    ],
)
def test_what_a_cluster_does_not_take(values: dict[str, Any], word: str) -> None:
    check_for_cluster(ServerConfig(max_sessions=4))
    with pytest.raises(ServerConfigError, match=word):
        check_for_cluster(ServerConfig(**({"max_sessions": 4} | values)))


def test_without_ray_the_command_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else real(name, *rest))
    assert cli.main(["serve", "--cluster", "--max-sessions", "2"]) == 2
    assert "pip install 'nerf-lipsync[cluster]'" in capsys.readouterr().err


def test_serving_without_a_cluster_imports_no_ray() -> None:
    """Nor does anything of the cluster that the other processes import."""
    modules = (
        "stream_server.serve, stream_server.commands.serve, stream_server.front.__main__, stream_server.cluster.gate"
    )
    code = f"import sys, {modules}, stream_server.cluster.door; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=60).returncode == 0


class FakeView:
    """Two nodes with a worker each; answers say what was asked."""

    def __init__(self) -> None:
        self.gone: set[Home] = set()
        self.silent: set[Home] = set()
        self.asked: list[tuple[Home | None, str]] = []
        self.rooms: dict[Home, list[str]] = {HERE: [], THERE: []}

    async def place(self, request: Mapping[str, Any]) -> Answer:
        self.asked.append((None, request["type"]))
        return {"type": "ok", "id": SESSION}

    async def ask(self, home: Home, request: Mapping[str, Any]) -> Answer:
        self.asked.append((home, request["type"]))
        if home in self.gone:
            return no_session(str(request.get("id")))
        if home in self.silent:
            return {"type": "problem", "status": 503, "code": "not-ready", "detail": ""}
        return {"type": "ok"}

    async def statuses(self) -> dict[Home, Answer]:
        avatar = {"name": "a"}
        return {
            home: {"type": "ok", "avatar": avatar, "sessions": 3, "busy_ms_per_hop": ms, "rooms": self.rooms[home]}
            for home, ms in ((HERE, 5.0), (THERE, 7.0))
            if home not in self.gone
        }

    async def ingresses(self) -> list[str]:
        return ["http://a", "http://b"]

    async def speak(self, home: Home | None, request: Mapping[str, Any]) -> Any:
        self.asked.append((home, request["type"]))
        return Echo()


class Echo:
    """A line that sends back what it is sent, and ends on `bye`."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[protocol.Message] = asyncio.Queue()

    async def __aiter__(self) -> AsyncIterator[protocol.Message]:
        while True:
            body, blob = await self._waiting.get()
            yield body, blob
            if body.get("text") == "bye":
                return

    def push(self, body: Mapping[str, Any], blob: bytes) -> None:
        self._waiting.put_nowait((dict(body), blob))

    async def close(self) -> None:
        pass


def ask(view: FakeView, **request: Any) -> Answer:
    return asyncio.run(Gate(Path("unused"), view, places=4).answer({"owner": "me"} | request))


def test_new_sessions_go_where_serve_says_and_open_ones_where_they_are() -> None:
    view = FakeView()
    opened = ask(view, type="create", sdp="...", options={})
    assert (opened["id"], opened["ingresses"]) == (SESSION, ["http://a", "http://b"])
    for kind in ("do", "info", "delete", "forget", "resume", "watch"):
        assert ask(view, type=kind, id=SESSION)["type"] == "ok"
    assert view.asked[0] == (None, "create")
    assert {home for home, _ in view.asked[1:]} == {THERE}
    assert ask(view, type="do", id="0-of-a-single-server")["code"] == "no-such-session"


def test_who_comes_back_from_a_dead_node_is_told_to_call_anew_at_once() -> None:
    view = FakeView()
    view.silent = {THERE}
    assert ask(view, type="do", id=SESSION)["code"] == "not-ready"
    assert ask(view, type="resume", id=SESSION)["code"] == "no-such-session"


def test_a_room_is_on_one_worker() -> None:
    view = FakeView()
    ask(view, type="create", room="room", options={})
    view.rooms[THERE] = ["room", "me/live"]
    ask(view, type="create", room="room", options={})
    ask(view, type="publish", room="live", options={})
    ask(view, type="watch", room="live")
    assert view.asked == [(None, "create"), (THERE, "create"), (THERE, "publish"), (THERE, "watch")]
    assert ask(view, type="watch", room="other")["status"] == 404


def test_the_status_is_the_whole_clusters() -> None:
    view = FakeView()
    status = ask(view, type="status")
    assert (status["sessions"], status["limit"], status["busy_ms_per_hop"], status["idlest"]) == (6, 8, 7.0, 0)
    view.gone = {THERE}
    assert ask(view, type="status")["limit"] == 4
    view.gone = {HERE, THERE}
    assert ask(view, type="status")["code"] == "not-ready"


def test_an_assistants_stream_passes_both_ways(tmp_path: Path) -> None:
    view = FakeView()

    async def run() -> list[protocol.Message]:
        gate = asyncio.create_task(Gate(tmp_path / "gate.sock", view, places=4).run())
        while not (tmp_path / "gate.sock").exists():  # noqa: ASYNC110 - it appears at once
            await asyncio.sleep(0)
        reader, writer = await asyncio.open_unix_connection(os.fspath(tmp_path / "gate.sock"))
        writer.write(protocol.pack({"type": "speak", "id": SESSION, "owner": "me"}))
        writer.write(protocol.pack({"type": "binary"}, b"sound"))
        writer.write(protocol.pack({"type": "text", "text": "bye"}))
        heard = [await protocol.read_message(reader) for _ in range(2)]
        assert await reader.read() == b""
        writer.close()
        gate.cancel()
        await asyncio.gather(gate, return_exceptions=True)
        return heard

    assert asyncio.run(run()) == [({"type": "binary"}, b"sound"), ({"type": "text", "text": "bye"}, b"")]
    assert view.asked == [(THERE, "speak")]


@pytest.mark.nightly
def test_a_replicas_processes_serve_its_node_and_end_with_it(tmp_path: Path) -> None:
    """The folder is there while its holder lives; a killed one leaves a folder that the next look removes."""
    code = (
        "import sys, pathlib; from stream_server.cluster.processes import Processes; "
        "from stream_server.config import ServerConfig; "
        f"config = ServerConfig(pipeline={FAKE!r}, size=128, standby=False, session_prefix={HERE.prefix!r}); "
        f"ours = Processes(config, pathlib.Path({os.fspath(tmp_path / HERE.replica)!r}), ('engine', 'worker')); "
        "print(ours.wait_ready(60), flush=True); sys.stdin.read(); ours.close()"
    )
    environment = os.environ | {"PYTHONPATH": os.fspath(ROOT)}
    door = Door(tmp_path, NODE, workers=1)
    for end in (signal.SIGKILL, None):
        holder = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert holder.stdin is not None
        assert holder.stdout is not None
        with holder, holder.stdin, holder.stdout:
            assert holder.stdout.readline().strip() == "True"
            status = asyncio.run(door.statuses())
            assert list(status) == [HERE]
            assert status[HERE]["sessions"] == 0
            children = Path(f"/proc/{holder.pid}/task").glob("*/children")
            pids = [int(pid) for file in children for pid in file.read_text().split()]
            assert len(pids) == 2
            if end is None:
                holder.stdin.close()
                holder.wait(20)
                assert not (tmp_path / HERE.replica).exists()
            else:
                holder.send_signal(end)
                holder.wait(20)
        deadline_s = time.monotonic() + 20
        while any(_runs(pid) for pid in pids):
            assert time.monotonic() < deadline_s
        assert asyncio.run(door.ask(HERE, {"type": "info", "id": SESSION}))["code"] == "no-such-session"
        assert living_replicas(tmp_path) == []


def test_a_cluster_that_stops_tells_its_replicas(tmp_path: Path) -> None:
    with Processes(ServerConfig(), tmp_path / HERE.replica, ()) as ours:
        assert living_replicas(tmp_path) == [tmp_path / HERE.replica]
        assert not ours.asked_to_stop
        ask_to_stop(tmp_path)
        assert ours.asked_to_stop
    assert living_replicas(tmp_path) == []


def test_a_folder_is_not_looked_at_before_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asked for the living ones in that moment removed the folder of a replica that was just starting."""
    flock = processes.fcntl.flock
    seen = []

    def looked_at_first(file: Any, operation: int) -> None:
        if operation & processes.fcntl.LOCK_EX:
            seen.append(living_replicas(tmp_path))
        flock(file, operation)

    monkeypatch.setattr(processes.fcntl, "flock", looked_at_first)
    with Processes(ServerConfig(), tmp_path / HERE.replica, ()):
        assert living_replicas(tmp_path) == [tmp_path / HERE.replica]
        with pytest.raises(BlockingIOError):
            Processes(ServerConfig(), tmp_path / HERE.replica, ())
        assert living_replicas(tmp_path) == [tmp_path / HERE.replica]
    assert seen == [[], [tmp_path / HERE.replica]]


def test_who_hangs_up_while_the_line_is_made_leaves_none_open(tmp_path: Path) -> None:
    """The worker was asked all the same: a session without anybody, whose line nobody could end any more."""

    async def run() -> None:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(await reader.read())
            writer.close()
            await writer.wait_closed()
            ended.set()

        asked: list[bytes] = []
        ended = asyncio.Event()
        async with await asyncio.start_unix_server(silent, os.fspath(tmp_path / HERE.replica / "worker-0.sock")):
            door = Door(tmp_path, NODE, workers=1)
            line = door.listen("line", HERE, {"type": "speak"})
            first = asyncio.ensure_future(anext(line, None))
            await asyncio.sleep(0)  # it has begun to connect
            door.hang_up("line")
            async with asyncio.timeout(5):
                assert await first is None
                await ended.wait()
        assert asked == [b""]

    with Processes(ServerConfig(), tmp_path / HERE.replica, ()):
        asyncio.run(run())


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
