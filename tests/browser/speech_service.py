"""A speech service on this machine: `--speech-url` for tests. Says every text as a hum."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.stream_server.server_calls import tone


@contextlib.contextmanager
def speech_service(seconds: float) -> Iterator[str]:
    """Runs one; its URL."""

    class Service(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(tone(seconds))

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as service:
        thread = threading.Thread(target=service.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{service.server_address[1]}/v1/audio/speech"
        service.shutdown()
        thread.join()
