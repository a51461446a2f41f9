"""Voices that are programs which write a WAV file: the whole text is spoken before the first of it is heard."""

from __future__ import annotations

import asyncio
import tempfile
import wave
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np

from stream_server.errors import VoiceError
from stream_server.voices.voice import SpokenSound

__all__ = ["FliteVoice"]

_TIMEOUT_S = 30.0


class FliteVoice:
    """`flite TEXTFILE WAVFILE`: it cannot write to a pipe. It is given a sentence at a time, so the first is soon."""

    async def speak(self, text: str) -> AsyncIterator[SpokenSound]:
        """The text's sound, a sentence at a time."""
        for sentence in _sentences(text):
            yield await self._say(sentence)

    async def _say(self, sentence: str) -> SpokenSound:
        null = asyncio.subprocess.DEVNULL
        with tempfile.TemporaryDirectory(prefix="nerf-lipsync-voice-") as folder:
            said, sound = Path(folder) / "text", Path(folder) / "sound.wav"
            said.write_text(sentence)
            try:
                process = await asyncio.create_subprocess_exec(
                    "flite", said, sound, stdin=null, stdout=null, stderr=null
                )
            except OSError as error:
                raise VoiceError(f"cannot start flite: {error}") from error
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    code = await process.wait()
            except TimeoutError:
                raise VoiceError(f"flite took longer than {_TIMEOUT_S:.0f} s") from None
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            if code != 0 or not sound.is_file():
                raise VoiceError(f"flite ended with exit code {code}")
            return _read(sound)


def _sentences(text: str) -> list[str]:
    """Cut after `.`, `!`, `?`, `;` and `:` that a space follows."""
    found, start = [], 0
    for i, letter in enumerate(text):
        if letter in ".!?;:" and text[i + 1 : i + 2].isspace():
            found.append(text[start : i + 1].strip())
            start = i + 1
    found.append(text[start:].strip())
    return [sentence for sentence in found if sentence]


def _read(path: Path) -> SpokenSound:
    with wave.open(str(path)) as file:
        if file.getnchannels() != 1 or file.getsampwidth() != 2:
            raise VoiceError(f"flite gave {file.getnchannels()} channels with {file.getsampwidth()} bytes a sample")
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.int16)
        return SpokenSound(samples, file.getframerate())
