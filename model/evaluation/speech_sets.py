"""Speech with known phonemes that the encoder was not trained on: one `SpeechSet` for each question.

GRID's held-out clips (a known voice, other sentences), other GRID speakers (their file names spell the sentence; times
by forced alignment), and synthetic voices kept out of training (times exact): a recorded American man, and Dutch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data.clip_labels import clip_labels
from model.data.features import load_clips
from model.data.forced_alignment import ForcedAligner, phone_columns
from model.data.utterance import Utterance
from model.errors import DataError
from model.evaluation.closures import clip_phonemes
from model.speech.phonemes import SILENCE_INDEX

HELD_OUT_UTTERANCES = 40
HELD_OUT_SEED = 2026


@dataclass(frozen=True, slots=True)
class Recording:
    """Sound and its phonemes."""

    audio: NDArray[np.float32]  # (samples,), -1..1, 16 kHz
    phonemes: NDArray[np.int64]  # (columns,) index into PHONEMES for each 10 ms


@dataclass(frozen=True, slots=True)
class SpeechSet:
    """Recordings that answer one question; `refused` could not be aligned."""

    name: str
    recordings: tuple[Recording, ...]
    refused: int = 0

    def __post_init__(self) -> None:
        if not self.recordings:
            raise DataError(f"set {self.name!r} holds no recordings ({self.refused} could not be aligned)")


def grid_set(name: str, folder: Path) -> SpeechSet:
    """Prepared GRID clips: by their own word times where they have them, else by the sentence their name spells.

    Raises:
        DataError: There are no clips, or none can be aligned.
    """
    aligner = ForcedAligner()
    recordings, refused = [], 0
    for clip in load_clips(folder):
        try:
            recordings.append(Recording(clip.sound, clip_phonemes(clip, aligner)))
        except DataError:
            refused += 1
    return SpeechSet(name, tuple(recordings), refused)


def held_out_sets() -> list[SpeechSet]:
    """Synthetic voices that training never draws, one set for each language.

    Raises:
        DataError: A synthesiser is not installed.
    """
    from model.data.voices.drawing import held_out_utterances

    return by_language(held_out_utterances(HELD_OUT_UTTERANCES, HELD_OUT_SEED))


def by_language(utterances: Iterable[Utterance]) -> list[SpeechSet]:
    """One set, `held_out_<language>`, for each language, in order of appearance."""
    languages: dict[str, list[Recording]] = {}
    for utterance in utterances:
        languages.setdefault(utterance.language, []).append(Recording(utterance.audio, utterance.phonemes))
    return [SpeechSet(f"held_out_{language}", tuple(found)) for language, found in languages.items()]


def token_labels(phonemes: NDArray[np.int64], tokens: int) -> NDArray[np.int64]:
    """(tokens,) label of each 20 ms token: that of its second column, as in training; -1 beyond the labels."""
    seconds = phonemes[1 : 2 * tokens : 2]
    return np.pad(seconds, (0, tokens - len(seconds)), constant_values=-1)


def label_agreement(folder: Path) -> float:
    """How far labels of real speech can be trusted: share of spoken 10 ms columns of GRID clips whose phoneme is the
    same by the clip's own word times and by alignment of the words alone, which is all that strangers have.

    Raises:
        DataError: No clip has word times and can be aligned.
    """
    aligner = ForcedAligner()
    same = spoken = 0
    for clip in load_clips(folder):
        if not clip.words:
            continue
        timed = clip_labels(clip, aligner)
        alone = phone_columns(aligner.align(clip.sound, [w.text for w in clip.words]), len(timed))
        said = timed != SILENCE_INDEX
        same, spoken = same + int((alone == timed)[said].sum()), spoken + int(said.sum())
    if not spoken:
        raise DataError(f"no clip of {folder} has word times")
    return same / spoken
