"""Phonemes of a filmed clip for every 10 ms: its words' own times, and forced alignment inside them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.data.features import ClipFeatures
from model.data.forced_alignment import ForcedAligner, phone_columns
from model.speech.log_mel import HOP_SAMPLES

FPS = 25


def clip_labels(clip: ClipFeatures, aligner: ForcedAligner) -> NDArray[np.int64]:
    """(columns,) phoneme indices.

    Raises:
        DataError: The words do not fit the sound.
    """
    spans = [(w.start_frame / FPS, w.end_frame / FPS) for w in clip.words]
    phones = aligner.align(clip.sound, [w.text for w in clip.words], spans=spans)
    return phone_columns(phones, len(clip.audio) // HOP_SAMPLES)
