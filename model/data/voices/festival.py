"""Recorded voices of several languages with phone times, from long-lived Festival processes (Debian: festival).

Start-up and loading a voice take most of the time, so each voice keeps its process. Voices do not share one: some leave
rules behind that break, or change, those of another language (Finnish after Czech asks for a Czech phone feature).
"""

from __future__ import annotations

import os
import selectors
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from model.data.utterance import Utterance
from model.data.voices.alignment import label_columns, read_speech
from model.data.voices.phone_sets import phoneme_from_phone_set
from model.errors import DataError
from model.speech.log_mel import SAMPLE_RATE

__all__ = ["FESTIVAL_VOICES", "FestivalRequest", "FestivalSynthesiser", "FestivalVoice"]

_TIMEOUT_S = 60.0
_DONE, _FAILED = b"utterance-done", b"utterance-failed"
_PRELUDE = """
(defvar hts_engine_params nil)
(define (write_phones utt path)
  (let ((file (fopen path "w")))
    (mapcar (lambda (s) (format file "%s %f\\n" (item.name s) (item.feat s 'end))) (utt.relation.items utt 'Segment))
    (fclose file)))
(voice_{voice})
(define voice_engine_params hts_engine_params)
"""
_SPEAK = """
(Parameter.set 'Duration_Stretch {stretch:.4f})
(set! hts_engine_params (append voice_engine_params (list (list "-r" {speed:.4f}))))
(set! spoken (utt.synth (Utterance Text "{text}")))
(utt.wave.resample spoken {rate_hz})
(utt.save.wave spoken "{sound}" 'riff)
(write_phones spoken "{phones}")
"""
"""HTS voices take their speed from the engine's `-r`, the others from Duration_Stretch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FestivalVoice:
    """What has to be known of a voice: its language, phones, character set and the Debian package that has it."""

    language: str  # ISO 639-1
    phone_set: str  # key of phone_sets.PHONE_SETS
    encoding: str
    package: str
    delay_s: float = 0.0  # how much later the sound comes than the voice's own times say at stretch 1; measured


FESTIVAL_VOICES: Final = {
    "kal_diphone": FestivalVoice(
        language="en", phone_set="us", encoding="ascii", package="festvox-kallpc16k", delay_s=0.008
    ),
    "ked_diphone": FestivalVoice(language="en", phone_set="us", encoding="ascii", package="festvox-kdlpc16k"),
    "cmu_us_slt_arctic_hts": FestivalVoice(
        language="en", phone_set="us", encoding="ascii", package="festvox-us-slt-hts", delay_s=0.01
    ),
    "lp_diphone": FestivalVoice(language="it", phone_set="it", encoding="latin-1", package="festvox-italp16k"),
    "pc_diphone": FestivalVoice(language="it", phone_set="it", encoding="latin-1", package="festvox-itapc16k"),
    "suo_fi_lj_diphone": FestivalVoice(
        language="fi", phone_set="fi", encoding="latin-1", package="festvox-suopuhe-lj", delay_s=0.006
    ),
    "hy_fi_mv_diphone": FestivalVoice(
        language="fi", phone_set="fi", encoding="latin-1", package="festvox-suopuhe-mv", delay_s=0.006
    ),
    "upc_ca_ona_hts": FestivalVoice(
        language="ca", phone_set="ca", encoding="latin-1", package="festvox-ca-ona-hts", delay_s=0.01
    ),
    "czech_dita": FestivalVoice(language="cs", phone_set="cs", encoding="iso8859-2", package="festvox-czech-dita"),
    "czech_krb": FestivalVoice(language="cs", phone_set="cs", encoding="iso8859-2", package="festvox-czech-krb"),
    "czech_machac": FestivalVoice(language="cs", phone_set="cs", encoding="iso8859-2", package="festvox-czech-machac"),
    "czech_ph": FestivalVoice(language="cs", phone_set="cs", encoding="iso8859-2", package="festvox-czech-ph"),
    "msu_ru_nsh_clunits": FestivalVoice(language="ru", phone_set="ru", encoding="utf-8", package="festvox-ru"),
}


class FestivalRequest(NamedTuple):
    """One utterance to speak: text, a key of `FESTIVAL_VOICES`, duration factor."""

    text: str
    voice: str
    stretch: float = 1.0


class FestivalSynthesiser:
    """One Festival process for each voice used; close it, or use it as a context. Not to be shared between threads."""

    def __init__(self) -> None:
        """Raises DataError when Festival is not installed."""
        program = shutil.which("festival")
        if program is None:
            raise DataError("festival not found; install Debian's festival")
        self._program = program
        self._processes: dict[str, _VoiceProcess] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the processes; a later call of `say` starts new ones."""
        for process in self._processes.values():
            process.close()
        self._processes.clear()

    def say(self, text: str, voice: str, *, stretch: float = 1.0) -> Utterance:
        """Speak a text in the voice's language. The Russian voice (joined recordings) ignores `stretch`.

        Args:
            text: One or more sentences; quotation marks are not spoken.
            voice: A key of `FESTIVAL_VOICES`.
            stretch: Duration factor; 2 is half the speed.

        Raises:
            DataError: The voice is unknown or not installed, it cannot read the text, or Festival ends or hangs.
        """
        about = FESTIVAL_VOICES.get(voice)
        if about is None:
            raise DataError(f"festival voice {voice!r} is not known; use one of {', '.join(FESTIVAL_VOICES)}")
        if voice not in self._processes:
            self._processes[voice] = _VoiceProcess(self._program, voice)
        try:
            segments, audio = self._processes[voice].speak(text, stretch)
        except DataError:
            self._processes.pop(voice).close()
            raise
        labels = label_columns(segments, len(audio))
        return Utterance(audio=audio, phonemes=labels, voice=f"festival:{voice}", language=about.language, text=text)

    def say_many(self, requests: Sequence[FestivalRequest]) -> list[Utterance]:
        """Speak texts, in order; raises what `say` raises."""
        return [self.say(text, voice, stretch=stretch) for text, voice, stretch in requests]


class _VoiceProcess:
    """A Festival process that has loaded one voice and reads Scheme from its standard input."""

    def __init__(self, program: str, name: str) -> None:
        self._name, self._voice = name, FESTIVAL_VOICES[name]
        self._folder = TemporaryDirectory(prefix="festival-")
        self._process = subprocess.Popen(
            [program, "--pipe"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise DataError(f"no pipes to {program}")
        self._commands, self._replies = self._process.stdin, self._process.stdout
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._replies, selectors.EVENT_READ)
        self._ask(_PRELUDE.format(voice=name), f"loading voice {name!r} (Debian: {self._voice.package})")

    def close(self) -> None:
        """End the process and remove its files."""
        self._selector.close()
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    def speak(self, text: str, stretch: float) -> tuple[list[tuple[str, float]], NDArray[np.float32]]:
        """Phonemes with their ends in seconds, and the sound (samples,) at 16 kHz."""
        sound, phones = Path(self._folder.name, "speech.wav"), Path(self._folder.name, "phones.txt")
        sound.unlink(missing_ok=True)
        plain = text.replace("\\", " ").replace('"', " ")
        command = _SPEAK.format(
            text=plain, stretch=stretch, speed=1 / stretch, rate_hz=SAMPLE_RATE, sound=sound, phones=phones
        )
        self._ask(command, f"saying {text!r} with voice {self._name!r}")
        return _read_phones(phones, self._voice, stretch), read_speech(sound)

    def _ask(self, command: str, what: str) -> None:
        """Run Scheme and wait until it has; DataError when it fails, hangs or ends."""
        wrapped = f"(unwind-protect (begin {command} {_print(_DONE)}) {_print(_FAILED)})\n(fflush nil)\n"
        try:
            self._commands.write(wrapped.encode(self._voice.encoding))
            self._commands.flush()
        except UnicodeEncodeError as error:
            raise DataError(f"festival, {what}: {error.object[error.start]!r} is not in its alphabet") from error
        except BrokenPipeError as error:
            raise DataError(f"festival has ended before {what}; see that its packages are complete") from error
        reply, limit_s = b"", time.monotonic() + _TIMEOUT_S
        while _DONE not in reply and _FAILED not in reply:
            if not self._selector.select(max(0.0, limit_s - time.monotonic())):
                raise DataError(f"festival took over {_TIMEOUT_S:g} s, {what}; shorten the text")
            part = os.read(self._replies.fileno(), 65536)
            if not part:
                raise DataError(f"festival ended, {what}; see that its packages are complete")
            reply += part
        if _FAILED in reply:
            raise DataError(f"festival failed, {what}: {reply.decode('latin-1').splitlines()[0]!r}")


def _print(word: bytes) -> str:
    return f'(format t "{word.decode()}\\n")'


def _read_phones(path: Path, voice: FestivalVoice, stretch: float) -> list[tuple[str, float]]:
    """Phonemes and their ends in seconds, from lines of a phone and its end."""
    lines = [line.split() for line in path.read_text(encoding="latin-1").splitlines()]
    if not lines:
        raise DataError(f"{path}: festival said nothing; give it a text with words")
    delay_s = voice.delay_s * stretch
    return [(phoneme_from_phone_set(phone, voice.phone_set), float(end_s) + delay_s) for phone, end_s in lines]
