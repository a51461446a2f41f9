"""Synthetic speech with exact phoneme times, from libespeak-ng's event callback (Debian: libespeak-ng1).

Offline only: training and measuring the speech encoder. Formant synthesis: many languages and voices, one timbre.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.data.utterance import Utterance
from model.data.voices.alignment import give_closures, label_columns, to_speech_rate
from model.data.voices.phone_sets import phoneme_from_espeak
from model.errors import DataError
from model.speech.log_mel import SAMPLE_RATE

__all__ = ["EspeakSynthesiser"]

_RETRIEVAL, _PHONEME_EVENTS, _IPA, _DONT_EXIT = 2, 1, 2, 0x8000
_EVENT_PHONEME = 7
_CHARS_UTF8 = 1
_END_PAUSE = 0x1000
_LONE_MARKS = frozenset("ʲː̃")
_QUIET = 0.25
"""A nameless event below this part of the utterance's root mean square is a pause; seen: -20 dB, -6 dB."""
_PARAM_RATE, _PARAM_PITCH, _PARAM_RANGE = 1, 3, 4


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class EspeakSynthesiser:
    """One libespeak-ng. The library is a process-wide singleton: any number of these, but one thread."""

    def __init__(self) -> None:
        """Raises DataError when the library is not installed."""
        try:
            self._library: Any = ctypes.CDLL("libespeak-ng.so.1")
        except OSError as error:
            raise DataError("libespeak-ng.so.1 not found; install Debian's libespeak-ng1") from error
        flags = _PHONEME_EVENTS | _IPA | _DONT_EXIT
        self._rate_hz = int(self._library.espeak_Initialize(_RETRIEVAL, 0, None, flags))
        if self._rate_hz <= 0:
            raise DataError(f"libespeak-ng did not start ({self._rate_hz}); install Debian's espeak-ng-data")
        self._parts: list[NDArray[np.int16]] = []
        self._events: list[tuple[str, int]] = []
        self._callback = _CALLBACK(self._receive)  # kept: the library holds only a pointer

    def say(
        self, text: str, voice: str, *, words_per_minute: int = 165, pitch: int = 50, pitch_range: int = 50
    ) -> Utterance:
        """Speak a text.

        Args:
            text: In the voice's language.
            voice: Language and variant, e.g. `en-us+f3`; `en-gb` is spelt `en`.
            words_per_minute: 80 to 450.
            pitch: 0 (deep) to 99 (a child).
            pitch_range: 0 (monotone) to 99.

        Raises:
            DataError: The voice is unknown, nothing was spoken, or a sound has no phoneme.
        """
        self._parts.clear()
        self._events.clear()
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise DataError(f"espeak-ng has no voice {voice!r}; `espeak-ng --voices` lists them")
        for parameter, value in ((_PARAM_RATE, words_per_minute), (_PARAM_PITCH, pitch), (_PARAM_RANGE, pitch_range)):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._library.espeak_SetSynthCallback(self._callback)
        data = text.encode()
        self._library.espeak_Synth(data, len(data) + 1, 0, 1, 0, _CHARS_UTF8 | _END_PAUSE, None, None)
        self._library.espeak_Synchronize()
        if not self._parts or not self._events:
            raise DataError(f"espeak-ng said nothing for {text!r} with voice {voice!r}")
        language = voice.partition("+")[0].partition("-")[0]
        audio = to_speech_rate(np.concatenate(self._parts), self._rate_hz)
        starts = give_closures(self._starts(language, audio), audio)
        ends_s = [start_s for _, start_s in starts[1:]] + [np.inf]
        labels = label_columns([(name, end_s) for (name, _), end_s in zip(starts, ends_s, strict=True)], len(audio))
        return Utterance(audio=audio, phonemes=labels, voice=f"espeak:{voice}", language=language, text=text)

    def _starts(self, language: str, audio: NDArray[np.float32]) -> list[tuple[str, float]]:
        """Phonemes and their starts in seconds.

        A lone palatalisation mark lengthens the phoneme before it. A nameless event is a pause when it is quiet, and
        otherwise a glide (after an i) or the onset of the phoneme that follows.
        """
        threshold = _QUIET * float(np.sqrt(np.mean(np.square(audio))))
        starts = [("sil", 0.0)]
        onset_s: float | None = None
        ends_ms = [start_ms for _, start_ms in self._events[1:]] + [len(audio) * 1000 // SAMPLE_RATE]
        for (symbol, start_ms), end_ms in zip(self._events, ends_ms, strict=True):
            if symbol in _LONE_MARKS:
                continue
            name, start_s = phoneme_from_espeak(symbol, language) or "sil", start_ms / 1000
            if not symbol and _rms(audio, start_ms, end_ms) > threshold:
                name = "y" if starts[-1][0] in ("iy", "ih") else ""
                onset_s = None if name else start_s
            if name and not name == starts[-1][0] == "sil":
                starts.append((name, start_s if onset_s is None else onset_s))
                onset_s = None
        return starts

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        if samples and count:
            self._parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type:
            event = events[index]
            if event.type == _EVENT_PHONEME:
                self._events.append((event.id.string.decode("utf-8", "replace"), event.audio_position))
            index += 1
        return 0


def _rms(audio: NDArray[np.float32], start_ms: int, end_ms: int) -> float:
    """Root mean square of a stretch; 0 for none."""
    part = audio[start_ms * SAMPLE_RATE // 1000 : end_ms * SAMPLE_RATE // 1000]
    return float(np.sqrt(np.mean(np.square(part)))) if len(part) else 0.0
