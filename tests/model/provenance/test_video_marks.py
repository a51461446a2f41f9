"""`mark detect` on files and addresses, with the public key and with a key of one's own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest

from model.errors import InputError
from model.provenance import video_marks
from model.provenance.marker import FrameMarker, MarkSettings, read_key
from stream_server.cli import main

SIZE = 192
MOUTH = (0.35, 0.5, 0.65, 0.74)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "mark.key"
    path.write_bytes(b"a key of sixteen bytes and more\n")
    return path


@pytest.fixture
def video(tmp_path: Path, key_file: Path) -> Path:
    """Half a second of H.264, marked with the key for instance 4711."""
    marker = FrameMarker(MarkSettings(instance=4711, key_file=key_file), size=SIZE, mouth_box=MOUTH)
    y, x = np.mgrid[: SIZE * 3 // 2, :SIZE]
    grain = np.random.default_rng(0).normal(0, 2, y.shape)
    path = tmp_path / "marked.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "20"})
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuv420p"
        for i in range(12):
            moving = i * ((x > 60) & (x < 130) & (y > 50) & (y < 150))  # as a head before its background
            frame = (120 + 40 * np.sin((x + moving) / 19) * np.cos(y / 23) + grain).astype(np.uint8)
            marker.mark(frame[None])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="yuv420p")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_key_decides_who_finds_it(video: Path, key_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mark", "detect", str(video), "--key", str(key_file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["instance"], found["mirrored"]) == (4711, False)
    assert found["score"] > found["threshold"]
    assert main(["mark", "detect", str(video)]) == 1
    assert "does not prove it was filmed" in capsys.readouterr().out


def test_an_address_is_fetched(video: Path, key_file: Path, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mark", "detect", f"{address}/{video.name}", "--key", str(key_file)]) == 0
    assert "made by instance 4711" in capsys.readouterr().out
    assert main(["mark", "detect", f"{address}/none.mp4"]) == 2
    assert "404" in capsys.readouterr().err


def test_an_address_with_too_much_is_left(video: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_marks, "URL_MAX_BYTES", video.stat().st_size - 1)
    with pytest.raises(InputError, match="larger than the limit"):
        video_marks.detect_in_video(f"{address}/{video.name}", key=b"any key at all, long")


def test_a_short_key_and_what_is_no_video_are_refused(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"fifteen bytes!!")
    with pytest.raises(InputError, match="at least 16 bytes, got 15"):
        read_key(tmp_path / "short")
    with pytest.raises(InputError, match="cannot read video"):
        video_marks.detect_in_video(str(tmp_path / "short"), key=b"any key at all, long")


def test_an_address_with_a_space_is_refused_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    """http.client's own errors are neither OSError nor ValueError."""
    assert main(["mark", "detect", "http://127.0.0.1:1/a video.mp4"]) == 2
    assert "cannot fetch http://127.0.0.1:1/a video.mp4" in capsys.readouterr().err


def _plain_video(path: Path, size: int, frames: int) -> bytes:
    with av.open(str(path.absolute()), "w", format="h264" if path.suffix == ".h264" else "mp4") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = size, size, "yuv420p"
        for _ in range(frames):
            grey = np.full((size * 3 // 2, size), 128, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="yuv420p")))
        container.mux(stream.encode(None))
    return path.read_bytes()


def test_a_video_whose_size_changes_on_the_way_is_looked_through(tmp_path: Path) -> None:
    """As recordings of calls do: a window of unlike frames could not be averaged."""
    both = _plain_video(tmp_path / "a.h264", 128, 10) + _plain_video(tmp_path / "b.h264", 192, 30)
    (tmp_path / "both.h264").write_bytes(both)
    windows = list(video_marks.read_windows(tmp_path / "both.h264"))
    assert [{frame.shape for frame in window} for window in windows] == [{(192, 192)}]
    (tmp_path / "both.h264").write_bytes(both + _plain_video(tmp_path / "c.h264", 128, 10))
    assert video_marks.detect_in_video(str(tmp_path / "both.h264"), key=b"any key at all, long").payload is None


def test_a_playlist_is_no_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What an address sends may name files of this machine, or other addresses."""
    _plain_video(tmp_path / "secret.mp4", 128, 30)
    for name, text in {
        "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.2,\nsecret.mp4\n#EXT-X-ENDLIST\n",
        "list.ffconcat": "ffconcat version 1.0\nfile secret.mp4\n",
    }.items():
        (tmp_path / name).write_text(text)
        assert main(["mark", "detect", str(tmp_path / name)]) == 2
        assert "cannot read video" in capsys.readouterr().err


def test_a_name_with_a_colon_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg took what stands before it for a protocol."""
    monkeypatch.chdir(tmp_path)
    _plain_video(Path("plain.mp4"), 128, 2)
    Path("plain.mp4").rename("10:30.mp4")
    assert len(next(video_marks.read_windows(Path("10:30.mp4")))) == 2
