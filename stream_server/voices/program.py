"""Voices that are programs: the text goes in by standard input, a WAV stream comes out."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence

import numpy as np

from stream_server.errors import VoiceError
from stream_server.voices.voice import SpokenSound

__all__ = ["ProgramVoice"]

_PIECE_BYTES = 8_192
_TIMEOUT_S = 30.0
_MOST_HEADER = 4_096


class ProgramVoice:
    """A program that writes a mono 16-bit WAV, or with `rate_hz` raw samples, to its standard output as it speaks."""

    def __init__(self, command: Sequence[str], *, rate_hz: int | None = None) -> None:
        self._command = list(command)
        self._rate_hz = rate_hz

    async def speak(self, text: str) -> AsyncIterator[SpokenSound]:
        """The text's sound, as the program makes it."""
        process = await self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(text.encode() + b"\n")
            process.stdin.close()
            rate_hz = self._rate_hz
            if rate_hz is None:
                async with asyncio.timeout(_TIMEOUT_S):
                    rate_hz = await _read_header(process.stdout)
            odd = b""
            while piece := await _read_piece(process.stdout):
                data = odd + piece
                even = len(data) - len(data) % 2
                odd = data[even:]
                yield SpokenSound(np.frombuffer(data[:even], "<i2").astype(np.int16), rate_hz)
            async with asyncio.timeout(_TIMEOUT_S):
                code = await process.wait()
            if code != 0:
                raise VoiceError(f"{self._command[0]} ended with exit code {code}")
        except TimeoutError:
            raise VoiceError(f"{self._command[0]} gave no sound for {_TIMEOUT_S:.0f} s") from None
        except (BrokenPipeError, ConnectionError, asyncio.IncompleteReadError) as error:
            raise VoiceError(f"{self._command[0]} ended without a sound") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def _start(self) -> asyncio.subprocess.Process:
        pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        try:
            return await asyncio.create_subprocess_exec(*self._command, stdin=pipe, stdout=pipe, stderr=null)
        except OSError as error:
            raise VoiceError(f"cannot start {self._command[0]}: {error}") from error


async def _read_header(stream: asyncio.StreamReader) -> int:
    """Read a WAV header up to its samples; the rate in Hz. Lengths are not looked at: a stream's are made up."""
    riff = await stream.readexactly(12)
    if riff[:4] != b"RIFF" or riff[8:] != b"WAVE":
        raise VoiceError("the program's output is no WAV")
    rate_hz = 0
    while True:
        name, length = struct.unpack("<4sI", await stream.readexactly(8))
        if name == b"data":
            break
        if length > _MOST_HEADER:
            raise VoiceError(f"the program's WAV has a chunk {name!r} of {length} bytes before its sound")
        chunk = await stream.readexactly(length + length % 2)
        if name == b"fmt ":
            _kind, channels, rate_hz, _bytes, _align, bits = struct.unpack("<HHIIHH", chunk[:16])
            if channels != 1 or bits != 16:
                raise VoiceError(f"a voice must be mono with 16 bits, got {channels} channels with {bits}")
    if not 8_000 <= rate_hz <= 192_000:
        raise VoiceError(f"the program's WAV says {rate_hz} Hz")
    return rate_hz


async def _read_piece(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(_TIMEOUT_S):
        return await reader.read(_PIECE_BYTES)
