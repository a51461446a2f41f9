"""Synthetic speech with exact phoneme times, from libespeak-ng's event callback (Debian: libespeak-ng1).

Offline only: training the speech encoder. Voices, pitches, rates and languages are drawn at random; every utterance
comes back as 16 kHz audio and one phoneme index per 10 ms.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from model.errors import DataError
from model.speech.log_mel import HOP_SAMPLES, SAMPLE_RATE
from model.speech.phonemes import INDEX, SILENCE_INDEX, phoneme_from_ipa

_RETRIEVAL, _PHONEME_EVENTS, _IPA, _DONT_EXIT = 2, 1, 2, 0x8000
_EVENT_PHONEME = 7
_CHARS_UTF8 = 1
_END_PAUSE = 0x1000
_PARAM_RATE, _PARAM_PITCH, _PARAM_RANGE = 1, 3, 4

VOICES = {
    "en": ("en-us", "en-gb", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd"),
    "de": ("de",),
    "fr": ("fr",),
    "es": ("es", "es-419"),
    "it": ("it",),
    "pt": ("pt-br",),
}
VARIANTS = ("", "+m1", "+m2", "+m3", "+m4", "+m5", "+m6", "+m7", "+f1", "+f2", "+f3", "+f4", "+f5", "+croak")


@dataclass(frozen=True, slots=True)
class Utterance:
    """Speech and what it says."""

    audio: NDArray[np.float32]  # (samples,), -1..1, 16 kHz
    phonemes: NDArray[np.int64]  # (columns,), one index per 10 ms


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
    """One libespeak-ng; the library is a process-wide singleton, so make one per process."""

    def __init__(self) -> None:
        """Raises DataError when the library is not installed."""
        try:
            self._library: Any = ctypes.CDLL("libespeak-ng.so.1")
        except OSError as error:
            raise DataError("libespeak-ng.so.1 not found; install Debian's libespeak-ng1") from error
        flags = _PHONEME_EVENTS | _IPA | _DONT_EXIT
        self._rate_hz = int(self._library.espeak_Initialize(_RETRIEVAL, 0, None, flags))
        self._parts: list[NDArray[np.int16]] = []
        self._events: list[tuple[str, int]] = []
        self._callback = _CALLBACK(self._receive)  # kept: the library holds only a pointer
        self._library.espeak_SetSynthCallback(self._callback)

    def say(
        self, text: str, voice: str, *, words_per_minute: int = 165, pitch: int = 50, pitch_range: int = 50
    ) -> Utterance:
        """Speak a text.

        Raises:
            DataError: The voice is unknown, or nothing was spoken.
        """
        self._parts.clear()
        self._events.clear()
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise DataError(f"espeak-ng has no voice {voice!r}")
        for parameter, value in ((_PARAM_RATE, words_per_minute), (_PARAM_PITCH, pitch), (_PARAM_RANGE, pitch_range)):
            self._library.espeak_SetParameter(parameter, value, 0)
        data = text.encode()
        self._library.espeak_Synth(data, len(data) + 1, 0, 1, 0, _CHARS_UTF8 | _END_PAUSE, None, None)
        self._library.espeak_Synchronize()
        if not self._parts:
            raise DataError(f"espeak-ng said nothing for {text!r} with voice {voice!r}")
        return self._utterance(np.concatenate(self._parts).astype(np.float32) / 32768.0)

    def _utterance(self, audio: NDArray[np.float32]) -> Utterance:
        ratio = Fraction(SAMPLE_RATE, self._rate_hz)
        audio = resample_poly(audio, ratio.numerator, ratio.denominator).astype(np.float32)
        columns = len(audio) // HOP_SAMPLES
        labels = np.full(columns, SILENCE_INDEX, np.int64)
        for symbol, start_ms in self._events:
            name = phoneme_from_ipa(symbol)
            start = round(start_ms / 10)
            if name and start < columns:
                labels[start:] = INDEX[name]
            elif not name:
                labels[start:] = SILENCE_INDEX
        return Utterance(audio, labels)

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


def random_utterance(synthesiser: EspeakSynthesiser, rng: np.random.Generator) -> Utterance:
    """A random sentence in a random voice; the text is drawn from `model.data.sentences`."""
    from model.data.sentences import random_sentence

    language = str(rng.choice(list(VOICES), p=[0.6, 0.12, 0.08, 0.1, 0.05, 0.05]))
    voice = str(rng.choice(VOICES[language])) + str(rng.choice(VARIANTS))
    try:
        return synthesiser.say(
            random_sentence(language, rng),
            voice,
            words_per_minute=int(rng.integers(120, 230)),
            pitch=int(rng.integers(15, 90)),
            pitch_range=int(rng.integers(20, 80)),
        )
    except (DataError, KeyError):
        return random_utterance(synthesiser, rng)
