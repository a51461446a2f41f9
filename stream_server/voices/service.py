"""Voices that are services with OpenAI's speech interface (`POST /v1/audio/speech`); only the operator names them."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from http.client import HTTPException, HTTPResponse

import numpy as np

from stream_server.errors import VoiceError
from stream_server.voices.voice import SpokenSound

__all__ = ["ServiceVoice"]

_PIECE_BYTES = 9_600
_TIMEOUT_S = 20.0
_RATE_HZ = 24_000  # of "response_format": "pcm"


class ServiceVoice:
    """Asks for 24 kHz PCM and hands it on as it comes. `key` is sent as a bearer token and nowhere else."""

    def __init__(self, url: str, *, model: str, voice: str, key: str | None) -> None:
        self._url = url
        self._body = {"model": model, "voice": voice, "response_format": "pcm"}
        self._key = key

    async def speak(self, text: str) -> AsyncIterator[SpokenSound]:
        """The text's sound, as the service streams it."""
        answer = await asyncio.to_thread(self._ask, text)
        loop = asyncio.get_running_loop()
        reading: asyncio.Future[bytes] | None = None
        try:
            odd = b""
            while True:
                reading = loop.run_in_executor(None, self._read, answer)
                if not (piece := await asyncio.shield(reading)):
                    break
                data = odd + piece
                even = len(data) - len(data) % 2
                odd = data[even:]
                yield SpokenSound(np.frombuffer(data[:even], "<i2").astype(np.int16), _RATE_HZ)
        finally:
            if reading is None or reading.done():
                answer.close()
            else:  # closing waits for a read that is under way, and every call of this worker would wait with it
                reading.add_done_callback(lambda _: answer.close())

    def _ask(self, text: str) -> HTTPResponse:
        data = json.dumps(self._body | {"input": text}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._url, data=data, headers=headers, method="POST")
        if self._key:  # not for the place that a redirection names
            request.add_unredirected_header("Authorization", f"Bearer {self._key}")
        try:
            answer: HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
        except urllib.error.HTTPError as error:
            error.close()
            raise VoiceError(f"the speech service answered {error.code} {error.reason}") from error
        except OSError as error:
            raise VoiceError(f"the speech service cannot be reached: {error}") from error
        return answer

    def _read(self, answer: HTTPResponse) -> bytes:
        try:
            return answer.read1(_PIECE_BYTES)
        except (OSError, HTTPException) as error:
            raise VoiceError(f"the speech service broke off: {error}") from error
