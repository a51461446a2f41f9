"""Log lines as text and as JSON, and what must never be in them."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aioice.ice
import httpx
import pytest

from stream_server.log_setup import SessionLog, set_up_logging
from tests.stream_server.real_peer import RealPeer, offer_loopback
from tests.stream_server.server_calls import Assistant, tone
from tests.stream_server.server_process import ROOT, ServerProcess

TOKEN = "tok-en-never-logged"
TEXT = "marmalade sandwiches"


@pytest.fixture
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.mark.usefixtures("_root_logger")
def test_text_lines_carry_role_and_session(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("worker")
    SessionLog(logging.getLogger("here"), "0-abc").info("opened source=%s", "speech")
    logging.getLogger("here").info("plain")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("INFO worker here session=0-abc opened source=speech")
    assert lines[1].endswith("INFO worker here plain")


@pytest.mark.usefixtures("_root_logger")
def test_json_lines_carry_role_session_and_trace(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("worker", "INFO", "json")
    log = SessionLog(logging.getLogger("here"), "0-abc")
    log.info("opened source=%s", "speech")
    try:
        raise ValueError("boom\nover two lines")
    except ValueError:
        logging.getLogger("there").exception("failed")
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    timestamp = first.pop("timestamp")
    assert first == {
        "event": "opened source=speech",
        "level": "info",
        "logger": "here",
        "role": "worker",
        "session": "0-abc",
    }
    assert timestamp.endswith("Z")
    assert "ValueError: boom" in second["exception"]
    assert "session" not in second


def test_an_unknown_format_is_refused() -> None:
    command = [sys.executable, "-m", "stream_server", "serve", "--port", "0", "--log-format", "xml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "log_format must be one of" in done.stderr


def test_neither_speech_nor_sdp_nor_tokens_are_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call and an assistant with a token, a ticket and a text, at the most talkative level."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", aioice.ice.get_host_addresses)
    offer_loopback()
    monkeypatch.setenv("NERF_LIPSYNC_TOKEN", TOKEN)
    right = {"Authorization": f"Bearer {TOKEN}"}

    async def run(server: ServerProcess) -> list[str]:
        async with httpx.AsyncClient(trust_env=False, base_url=server.url, headers=right, timeout=15) as client:
            ticket = (await client.post("/v1/tickets")).json()["ticket"]
            async with RealPeer(server.url) as peer:
                await peer.connection.setLocalDescription(await peer.connection.createOffer())
                sdp = peer.connection.localDescription.sdp
                opened = await client.post("/v1/sessions", json={"sdp": sdp})
                assert opened.status_code == 201
                path = "/v1/sessions/" + opened.json()["id"]
                broken = sdp.replace("m=audio", "m=audible")
                assert (await client.post("/v1/sessions", json={"sdp": broken})).status_code == 422
                await client.post(path + "/speech", json={"text": TEXT})
                assert (await client.delete(path)).status_code == 204
            speaker = await Assistant.open(server, right)
            await speaker.until(lambda: bool(speaker.of("ready")))
            await speaker.send(type="say", text=TEXT)
            await speaker.socket.send(tone(0.1))
            await speaker.send(type="nonsense", text=TEXT)
            await speaker.until(lambda: bool(speaker.of("notice")))
            await speaker.socket.close()
            fingerprint = next(line for line in sdp.splitlines() if "fingerprint" in line).split()[1]
            return [TOKEN, ticket, opened.json()["resume_token"], TEXT, "a=candidate", fingerprint, "m=audible"]

    log_file = tmp_path / "log"
    with (
        log_file.open("w") as stderr,
        ServerProcess("--log-level", "debug", "--log-format", "json", stderr=stderr) as server,
    ):
        secrets = asyncio.run(run(server))
    text = log_file.read_text()
    records = [json.loads(line) for line in text.splitlines()]
    assert {record["role"] for record in records} >= {"worker"}
    closed = [record for record in records if record["event"].startswith("closed")]
    assert len(closed) >= 2
    assert all(record["session"] for record in closed)
    assert [secret for secret in secrets if secret in text] == []
