"""Opening a video or sound file with FFmpeg (PyAV), and saying in one line why a file is refused.

Only containers that hold media themselves are opened: no playlists, no URLs, no raw text, so that a file can name
no other file. Numbers of streams and picture sizes are limited before anything is decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from model.data.clip_types import ClipError, Problem

MAX_SIDE_PX = 8192
MAX_STREAMS = 32
TIMEOUT_S = 60.0  # to open, or for one packet: a file on a dead network drive
MAX_READ_FAILURES = 64

CONTAINERS = "mov,mp4,matroska,webm,avi,mpeg,mpegts,ogg,flv,asf,mxf,gif,wav,mp3,flac,aac,aiff,w64"
WANTED = "give an .mp4, .mov, .mkv, .webm, .avi or .mpg file"
WANTED_SOUND = "give an .m4a, .aac, .wav, .mp3 or .flac file"

_SIGNATURES = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"BM", "a BMP picture"),
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a rar archive"),
    (b"%PDF", "a PDF document"),
    (b"\x7fELF", "a program"),
)
_MOV_BOXES = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"}


@contextmanager
def open_media(path: Path, *, sound_only: bool = False) -> Iterator[InputContainer]:
    """Open a file for demuxing.

    Args:
        path: The file.
        sound_only: It need not hold a picture; only changes the words of refusals.

    Raises:
        ClipError: Missing, zero bytes, not a media file, or an MP4/MOV without its index.
    """
    wanted = WANTED_SOUND if sound_only else WANTED
    _check_file(path, wanted)
    try:
        container = av.open(
            str(path.resolve()),
            metadata_errors="replace",
            timeout=TIMEOUT_S,
            options={
                "format_whitelist": CONTAINERS,
                "protocol_whitelist": "file",
                "max_streams": str(MAX_STREAMS),
                "max_pixels": str(MAX_SIDE_PX * MAX_SIDE_PX),
            },
        )
    except av.FFmpegError as error:
        raise _refusal(path, "a sound file" if sound_only else "a video", wanted) from error
    with container:
        yield container


def sound_stream(container: InputContainer) -> AudioStream | None:
    """The first sound track that can be decoded, if any."""
    # PyAV gives a stream of an unknown codec no context, whatever its types say
    return next((s for s in container.streams.audio if cast("AudioCodecContext | None", s.codec_context)), None)


def picture_stream(container: InputContainer, path: Path) -> VideoStream:
    """The moving picture of a file.

    Raises:
        ClipError: There is none (a cover picture does not count), or it is too large.
    """
    moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not moving:
        if sound_stream(container):
            text = f"{path} holds sound only, no picture; give a video that shows the speaker"
        else:
            text = f"{path} is not a video: it holds neither picture nor sound; {WANTED}"
        raise ClipError(Problem.NOT_A_VIDEO, text)
    decodable = [s for s in moving if cast("VideoCodecContext | None", s.codec_context)]
    if not decodable:
        text = f"{path} stores its picture in a way unknown here; encode it as H.264"
        raise ClipError(Problem.NOT_A_VIDEO, text)
    best = container.streams.best("video")
    stream = next((s for s in decodable if s is best), decodable[0])
    width, height = stream.codec_context.width, stream.codec_context.height
    if max(width, height) > MAX_SIDE_PX:
        text = f"{path} is {width} x {height} px; at most {MAX_SIDE_PX} px a side are read: scale it down first"
        raise ClipError(Problem.NOT_A_VIDEO, text)
    return stream


def read_packets(
    container: InputContainer, streams: Stream | Sequence[Stream], failed: Callable[[], None]
) -> Iterator[Packet[Any]]:
    """The packets of one or more streams, the empty last ones (which flush the decoders) included.

    Reading goes on behind damage: `failed` is called for each error, and too many end the file.
    """
    for _ in range(MAX_READ_FAILURES):
        try:
            yield from container.demux(streams)
            return
        except av.FFmpegError:
            failed()


def last_packet_s(path: Path) -> float:
    """Where the last packet of any stream ends, on the file's own clock. Reads the whole file, decodes nothing."""
    end_s = 0.0
    with open_media(path) as container:
        for packet in read_packets(container, tuple(container.streams), lambda: None):
            if packet.pts is not None and packet.time_base is not None:
                end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    return end_s


def _check_file(path: Path, wanted: str) -> None:
    if not path.exists():
        raise ClipError(Problem.MISSING_FILE, f"no such file: {path}; check the path")
    if not path.is_file():
        raise ClipError(Problem.NOT_A_VIDEO, f"{path} is not a file; {wanted}")
    if path.stat().st_size == 0:
        raise ClipError(Problem.ZERO_BYTES, f"{path} holds 0 bytes; copy it again")
    try:
        path.open("rb").close()
    except OSError as error:
        text = f"{path} cannot be opened ({error.strerror}); check its permissions"
        raise ClipError(Problem.MISSING_FILE, text) from error


def _refusal(path: Path, asked: str, wanted: str) -> ClipError:
    """Why FFmpeg could not open a file, from its first bytes."""
    with path.open("rb") as file:
        head = file.read(4096)
    if head[4:8] in _MOV_BOXES or head[:4] == b"\x1a\x45\xdf\xa3" or (head[:4] == b"RIFF" and head[8:12] == b"AVI "):
        text = (
            f"{path} breaks off: its index is missing or damaged; the recording or copy did not finish, make it again"
        )
        return ClipError(Problem.TRUNCATED, text)
    kind = next((name for signature, name in _SIGNATURES if head.startswith(signature)), "")
    if not kind:
        kind = "text" if _is_text(head) else "of an unknown kind"
    return ClipError(Problem.NOT_A_VIDEO, f"{path} is not {asked} but {kind}; {wanted}")


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    try:
        head[:4000].decode("utf-8", errors="strict")
    except UnicodeDecodeError as error:
        return error.start > len(head[:4000]) - 4  # only a letter cut in two by the limit
    return True
