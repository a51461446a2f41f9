"""A speech service that is slow, or sends its caller elsewhere: calls go on, and the key stays where it belongs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from stream_server.errors import VoiceError
from stream_server.voices.service import ServiceVoice

PATIENCE_S = 10.0


@contextmanager
def service(answer: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/audio/speech"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def voice(url: str) -> ServiceVoice:
    return ServiceVoice(url, model="m", voice="v", key="secret")


def test_an_interrupt_does_not_wait_for_a_service_that_says_nothing() -> None:
    """Closing the answer waited for the read that was under way: with it stood every call of this worker."""
    go_on = threading.Event()
    in_time: list[bool] = []

    class Stalls(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"\0\0" * 10)
            self.wfile.flush()
            in_time.append(go_on.wait(PATIENCE_S))

        def log_message(self, *_: object) -> None:
            pass

    async def run(url: str) -> None:
        heard = asyncio.Event()

        async def listen() -> None:
            async for _ in voice(url).speak("hello"):
                heard.set()

        task = asyncio.create_task(listen())
        await heard.wait()
        await asyncio.sleep(0)  # the next read is under way
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        go_on.set()

    with service(Stalls) as url:
        asyncio.run(run(url))
    assert in_time == [True]


def test_the_key_is_not_sent_on_to_where_a_service_points() -> None:
    seen: list[tuple[str, str | None]] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(("elsewhere", self.headers["Authorization"]))
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    async def run(url: str) -> None:
        async for _ in voice(url).speak("hello"):
            pass

    with service(Elsewhere) as other:

        class Points(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                seen.append(("service", self.headers["Authorization"]))
                self.send_response(302)
                self.send_header("Location", other)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        with service(Points) as url, pytest.raises(VoiceError, match="404"):
            asyncio.run(run(url))
    assert seen == [("service", "Bearer secret"), ("elsewhere", None)]
