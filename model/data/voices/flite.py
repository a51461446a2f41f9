"""Recorded American and Scottish voices with phone times, from CMU Flite's command line (Debian: flite).

`kal16` joins diphones of a recorded man; `awb`, `rms` (men) and `slt` (woman) are statistical (clustergen) voices.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from model.data.utterance import Utterance
from model.data.voices.alignment import label_columns, read_speech
from model.data.voices.phone_sets import phoneme_from_phone_set
from model.errors import DataError

__all__ = ["FLITE_VOICES", "FliteSynthesiser"]

FLITE_VOICES: Final = ("kal16", "awb", "rms", "slt")
"""The 16 kHz voices."""
_TIMEOUT_S = 30.0


class FliteSynthesiser:
    """Runs `flite` once for each utterance; it has no state and may be used from many processes."""

    def __init__(self) -> None:
        """Raises DataError when flite is not installed."""
        program = shutil.which("flite")
        if program is None:
            raise DataError("flite not found; install Debian's flite")
        self._program = program

    def say(self, text: str, voice: str, *, stretch: float = 1.0, pitch_hz: float | None = None) -> Utterance:
        """Speak an English text.

        Args:
            text: One or more sentences.
            voice: One of `FLITE_VOICES`.
            stretch: Duration factor; 2 is half the speed.
            pitch_hz: Mean of the fundamental; the voice's own when None. `rms` always keeps its own (104 Hz).

        Raises:
            DataError: The voice is unknown, nothing was spoken, or flite fails or hangs.
        """
        if voice not in FLITE_VOICES:
            raise DataError(f"flite voice {voice!r} is not known; use one of {', '.join(FLITE_VOICES)}")
        settings = ["--setf", f"duration_stretch={stretch:.4f}"]
        if pitch_hz is not None:
            settings += ["--setf", f"int_f0_target_mean={pitch_hz:.2f}"]
        with TemporaryDirectory(prefix="flite-") as folder:
            path = Path(folder) / "speech.wav"
            command = [self._program, "-voice", voice, *settings, "-psdur", "-t", text, "-o", str(path)]
            segments = _parse_phones(self._run(command, text))
            audio = read_speech(path)
        return Utterance(
            audio=audio, phonemes=label_columns(segments, len(audio)), voice=f"flite:{voice}", language="en", text=text
        )

    def _run(self, command: list[str], text: str) -> str:
        try:
            done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=True, text=True)
        except subprocess.TimeoutExpired as error:
            raise DataError(f"flite took over {_TIMEOUT_S:g} s for {text!r}; shorten the text") from error
        except subprocess.CalledProcessError as error:
            raise DataError(f"flite failed for {text!r}: {error.stderr.strip()[:200]!r}") from error
        return done.stdout


def _parse_phones(printed: str) -> list[tuple[str, float]]:
    """Phonemes and their ends in seconds from `-psdur` output: `pau:0.220 sh:0.364 ...`."""
    pairs = [entry.rsplit(":", 1) for entry in printed.split()]
    if not pairs:
        raise DataError("flite said nothing; give it a text with words")
    return [(phoneme_from_phone_set(phone, "us"), float(end_s)) for phone, end_s in pairs]
