"""What an assistant says in a session: PCM as it comes, text through a voice, one utterance after the other."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from typing import Any

import av
import numpy as np
from av import AudioFrame
from numpy.typing import NDArray

from stream_server.config import ServerConfig
from stream_server.errors import ConflictError, VoiceError
from stream_server.events import NoticeEvent
from stream_server.media.opus import RATE_HZ
from stream_server.media.speech_stream import Utterance
from stream_server.voices import choose_voice
from stream_server.worker.session import AvatarSession

__all__ = ["Speaker", "UpSampler"]

log = logging.getLogger(__name__)

_ROOM_POLL_S = 0.05
_SLICE = RATE_HZ // 5  # what is pushed at once
_MOST_WAITING_TEXTS = 16


class UpSampler:
    """Mono int16 at `rate_hz` to 48 kHz, in pieces of any length; the library's resampler."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._resampler = None if rate_hz == RATE_HZ else av.AudioResampler("s16", "mono", RATE_HZ)

    def push(self, samples: NDArray[np.int16]) -> NDArray[np.int16]:
        """What can be said of the output so far."""
        if self._resampler is None or not len(samples):
            return samples
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples)[None], format="s16", layout="mono")
        frame.sample_rate = self._rate_hz
        return _joined(self._resampler.resample(frame))

    def flush(self) -> NDArray[np.int16]:
        """The rest."""
        return np.zeros(0, np.int16) if self._resampler is None else _joined(self._resampler.resample(None))


class Speaker:
    """Feeds one session's speech. `on_reported` hears what the browser says it has played."""

    def __init__(self, session: AvatarSession, config: ServerConfig) -> None:
        assert session.speech is not None
        self._session = session
        self._speech = session.speech
        self._config = config
        self._texts: asyncio.Queue[tuple[Utterance, str, str | None]] = asyncio.Queue(_MOST_WAITING_TEXTS)
        self._task: asyncio.Task[None] | None = None
        self._current: asyncio.Task[None] | None = None
        self._closed = False
        self.attached = False
        """Whether a WebSocket speaks through it; one at a time."""
        self.on_reported: Callable[[str, Any], None] = lambda _utterance, _played_ms: None

    def say(self, text: str, voice: str | None, utterance_id: str | None) -> str:
        """Say a text after all else; the utterance's id.

        Raises:
            VoiceError: There is no such voice here.
            ConflictError: Sixteen texts wait already, or the session has ended.
        """
        if self._closed:
            raise ConflictError("this session has ended")
        choose_voice(self._config.voice_settings(), voice)
        if self._texts.full():
            raise ConflictError(f"{_MOST_WAITING_TEXTS} texts wait to be said already; send more when one is over")
        utterance = self.begin(utterance_id)
        utterance.coming = 1
        self._texts.put_nowait((utterance, text, voice))
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"speaker-{self._session.id}")
        return utterance.id

    def begin(self, utterance_id: str | None) -> Utterance:
        """A new utterance.

        Raises:
            ConflictError: One of this id is being said, or 64 wait already.
        """
        name = utterance_id or secrets.token_hex(4)
        if any(u.id == name for u in self._speech.utterances):
            raise ConflictError(f"utterance {name!r} is being said already; give each another id")
        if not self._speech.has_place:
            raise ConflictError("64 utterances wait already; begin more when one is over")
        return self._speech.begin(name)

    async def push(self, utterance: Utterance, samples: NDArray[np.int16]) -> bool:
        """Append sound at 48 kHz, waiting until there is room and earlier utterances' sound that is under way has come;
        False once the utterance was interrupted."""
        for start in range(0, len(samples), _SLICE):
            part = samples[start : start + _SLICE]
            while len(part) > self._speech.room_samples or not self._speech.has_turn(utterance):
                await asyncio.sleep(_ROOM_POLL_S)
                if utterance.closed:
                    return False
            if not self._speech.push(utterance, part):
                return False
        return not utterance.closed

    def finish(self, utterance: Utterance) -> None:
        """No more sound will come for it."""
        self._speech.close(utterance)

    @property
    def room_ms(self) -> int:
        """How much more sound may be sent now."""
        return self._speech.room_samples * 1000 // RATE_HZ

    def interrupt(self) -> int:
        """Stop everything that is said or waits; how many utterances were cut."""
        while not self._texts.empty():
            self._texts.get_nowait()
        if self._current is not None:
            self._current.cancel()
        return self._session.interrupt()

    def reported(self, utterance: str, played_ms: Any) -> None:
        """The browser's own account of what was heard."""
        if isinstance(played_ms, int | float) and 0 <= played_ms < 1e9:
            self.on_reported(utterance, played_ms)

    async def close(self) -> None:
        """Stop for good; idempotent."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._current is not None:  # not before: the other one would go on with the next text
            self._current.cancel()
            await asyncio.gather(self._current, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            utterance, text, voice = await self._texts.get()
            if utterance.closed:
                continue
            self._current = asyncio.create_task(self._speak(utterance, text, voice))
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([self._current])
            if (task := asyncio.current_task()) is not None and task.cancelling():
                return

    async def _speak(self, utterance: Utterance, text: str, voice: str | None) -> None:
        try:
            chosen = choose_voice(self._config.voice_settings(), voice)
            sampler: UpSampler | None = None
            async for sound in chosen.speak(text):
                sampler = sampler or UpSampler(sound.rate_hz)
                if not await self.push(utterance, sampler.push(sound.samples)):
                    return
            if sampler is not None:
                await self.push(utterance, sampler.flush())
        except VoiceError as error:
            self._session.emit(NoticeEvent(code="voice-failed", message=str(error)))
        except Exception:
            log.exception("a voice failed")
            self._session.emit(NoticeEvent(code="voice-failed", message="the voice failed; see the server's log"))
        finally:
            self.finish(utterance)


def _joined(frames: list[AudioFrame]) -> NDArray[np.int16]:
    parts = [frame.to_ndarray().reshape(-1).astype(np.int16, copy=False) for frame in frames]
    return np.concatenate(parts) if parts else np.zeros(0, np.int16)
