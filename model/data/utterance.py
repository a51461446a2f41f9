"""One stretch of speech and what it says: what every voice of the training corpus gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """Speech with exact phoneme times. `voice` names the speaker, `language` by ISO 639-1, e.g. `cs`."""

    audio: NDArray[np.float32]  # (samples,), -1..1, 16 kHz
    phonemes: NDArray[np.int64]  # (columns,), index into model.speech.phonemes.PHONEMES for each 10 ms
    voice: str
    language: str
    text: str
