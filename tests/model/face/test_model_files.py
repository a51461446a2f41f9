"""Finding foreign model files, against a web server on the loopback."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from model.face.model_files import (
    FACE_LANDMARKER,
    SELFIE_MULTICLASS,
    ModelFile,
    ModelFileError,
    default_cache,
    find_model_file,
    sha256_of,
)

CONTENT = bytes(range(256)) * 5000
SPEC = ModelFile(
    name="model.bin",
    url="",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    size_bytes=len(CONTENT),
    licence="Apache-2.0",
    option="--model",
    variable="NERF_LIPSYNC_MODEL",
)


class _Handler(BaseHTTPRequestHandler):
    """Sends CONTENT whole, changed, too long, or less of it than announced."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        body = {"/wrong": CONTENT[:-1] + b"x", "/long": CONTENT + b"x" * 9}.get(self.path, CONTENT)
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:1000] if self.path == "/cut" else body)

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []
    handler = type("Handler", (_Handler,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}", asked
        httpd.shutdown()
        thread.join()


def test_a_file_is_fetched_once_and_then_kept(server: tuple[str, list[str]], tmp_path: Path) -> None:
    url, asked = server
    spec = replace(SPEC, url=f"{url}/good")
    cache = tmp_path / "deep" / "cache"
    first = find_model_file(spec, None, cache=cache, download=True)
    assert first == cache / "model.bin" and first.read_bytes() == CONTENT
    assert find_model_file(spec, None, cache=cache, download=True) == first
    assert asked == ["/good"]
    assert [p.name for p in cache.iterdir()] == ["model.bin"]


@pytest.mark.parametrize(("path", "size"), [("wrong", len(CONTENT)), ("long", len(CONTENT) + 1), ("cut", 1000)])
def test_a_damaged_download_is_refused_and_deleted(
    server: tuple[str, list[str]], tmp_path: Path, path: str, size: int
) -> None:
    spec = replace(SPEC, url=f"{server[0]}/{path}")
    with pytest.raises(ModelFileError, match=f"refused {size} bytes") as caught:
        find_model_file(spec, None, cache=tmp_path, download=True)
    assert list(tmp_path.iterdir()) == []
    assert SPEC.sha256 in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_page_and_a_dead_server_tell_what_to_do(server: tuple[str, list[str]], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        dead = taken.getsockname()[1]
    for url in (f"{server[0]}/missing", f"http://127.0.0.1:{dead}/good"):
        with pytest.raises(ModelFileError) as caught:
            find_model_file(replace(SPEC, url=url), None, cache=tmp_path, download=True)
        for part in (url, SPEC.sha256, "--model FILE", "NERF_LIPSYNC_MODEL"):
            assert part in str(caught.value)
        assert list(tmp_path.iterdir()) == []


def test_without_downloading_nothing_is_asked(server: tuple[str, list[str]], tmp_path: Path) -> None:
    spec = replace(SPEC, url=f"{server[0]}/good")
    with pytest.raises(ModelFileError, match="downloading is off"):
        find_model_file(spec, None, cache=tmp_path, download=False)
    assert server[1] == []


def test_a_given_path_wins_whatever_its_hash(tmp_path: Path) -> None:
    other = tmp_path / "newer.bin"
    other.write_bytes(b"another version")
    assert find_model_file(SPEC, other, cache=tmp_path, download=False) == other
    assert sha256_of(other) == hashlib.sha256(b"another version").hexdigest()
    with pytest.raises(ModelFileError, match=r"no such file: .*absent\.bin"):
        find_model_file(SPEC, tmp_path / "absent.bin", cache=tmp_path, download=True)


def test_a_damaged_kept_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"half")
    with pytest.raises(ModelFileError, match=r"model\.bin has sha256 .*delete it"):
        find_model_file(SPEC, None, cache=tmp_path, download=True)


def test_a_cache_folder_that_cannot_be_made_is_one_line(server: tuple[str, list[str]], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ModelFileError, match=r"cannot download model\.bin"):
        find_model_file(replace(SPEC, url=f"{server[0]}/good"), None, cache=tmp_path / "file" / "x", download=True)


def test_the_default_cache_honours_xdg() -> None:
    home = Path("/home/anna")
    assert default_cache({}, home) == home / ".cache" / "nerf-lipsync"
    assert default_cache({"XDG_CACHE_HOME": "/var/kept"}, home) == Path("/var/kept/nerf-lipsync")
    assert default_cache({"XDG_CACHE_HOME": "relative"}, home) == home / ".cache" / "nerf-lipsync"


def test_the_pinned_landmarker_is_the_one_in_use(data_folder: Path) -> None:
    path = data_folder / "weights" / "face_landmarker.task"
    assert sha256_of(path) == FACE_LANDMARKER.sha256
    assert path.stat().st_size == FACE_LANDMARKER.size_bytes


def test_every_pinned_hash_is_a_sha256() -> None:
    for spec in (FACE_LANDMARKER, SELFIE_MULTICLASS):
        assert len(bytes.fromhex(spec.sha256)) == 32 and spec.sha256 == spec.sha256.lower()
        assert spec.url.endswith(spec.name)
