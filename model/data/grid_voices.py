"""GRID sentences in synthetic voices, in the time of the filmed speaker's own saying of them.

For training in the catalogue's English voices, for evaluation in the one it holds out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.data.clip_labels import clip_labels
from model.data.features import ClipFeatures
from model.data.forced_alignment import ForcedAligner
from model.data.grid import SILENCES
from model.data.phone_matching import PhoneMismatchError
from model.data.retime import retime
from model.data.revoice import analyse, random_change, revoice
from model.data.utterance import Utterance
from model.data.voices import HELD_OUT, FestivalSynthesiser, VoiceSet
from model.data.voices.catalogue import (
    ESPEAK_LANGUAGES,
    ESPEAK_VARIANTS,
    FESTIVAL_TRAINING,
    FLITE_PITCH_HZ,
    UTTERANCE_SHARES,
)
from model.data.voices.festival import FESTIVAL_VOICES
from model.data.voices.flite import FLITE_VOICES
from model.errors import DataError

__all__ = ["ACCENTS", "grid_text", "held_out_retimed", "held_out_revoiced", "random_grid_utterance", "say_in_time"]

ACCENTS: Final = tuple(a for a in dict.fromkeys(ESPEAK_LANGUAGES["en"][1]) if a != "en-gb-x-gbcwmd")
"""espeak's English accents, but Birmingham's, whose vowels shape the lips otherwise (`by` with oy, `soon` with ax)."""
RESPELT: Final = {"a": "eigh", "z": "zed"}
"""Letters that a synthesiser takes for an article, or says the American way."""
ATTEMPTS: Final = 6
_FESTIVAL: Final = tuple(v for v in FESTIVAL_TRAINING if FESTIVAL_VOICES[v].language == "en")
_STRETCHES: Final = (0.6, 0.95)
_WORDS_PER_MINUTE: Final = (170, 270)
"""GRID's speakers are quick; the less a sentence is stretched, the cleaner it stays."""


def grid_text(clip: ClipFeatures) -> str:
    """What a synthesiser is to read for a clip's words, letters by name."""
    return " ".join(RESPELT.get(w.text, w.text) for w in clip.words if w.text not in SILENCES)


def random_grid_utterance(voices: VoiceSet, text: str, rng: np.random.Generator) -> Utterance:
    """The text in a random English training voice and pitch, about as fast as GRID's speakers.

    Raises:
        DataError: A voice of the catalogue is not installed, or a synthesiser fails.
    """
    family = str(rng.choice(list(UTTERANCE_SHARES), p=list(UTTERANCE_SHARES.values())))
    if family == "espeak":
        return voices.espeak.say(
            text,
            str(rng.choice(ACCENTS)) + str(rng.choice(ESPEAK_VARIANTS)),
            words_per_minute=int(rng.integers(*_WORDS_PER_MINUTE)),
            pitch=int(rng.integers(10, 90)),
            pitch_range=int(rng.integers(15, 85)),
        )
    stretch = float(rng.uniform(*_STRETCHES))
    if family == "flite":
        voice = str(rng.choice(FLITE_VOICES))
        return voices.flite.say(text, voice, stretch=stretch, pitch_hz=float(rng.uniform(*FLITE_PITCH_HZ[voice])))
    return voices.festival.say(text, str(rng.choice(_FESTIVAL)), stretch=stretch)


def say_in_time(voices: VoiceSet, clip: ClipFeatures, labels: NDArray[np.int64], rng: np.random.Generator) -> Utterance:
    """A random training voice says the clip's phones `labels` in their time; as long as the clip.

    Raises:
        PhoneMismatchError: None of several voices says the clip's phones.
        DataError: A voice of the catalogue or pyworld is not installed, or a synthesiser fails.
    """
    text, samples = grid_text(clip), len(clip.audio)
    said = random_grid_utterance(voices, text, rng)
    for _ in range(ATTEMPTS - 1):
        try:
            return retime(said, labels, samples)
        except PhoneMismatchError:
            said = random_grid_utterance(voices, text, rng)
    return retime(said, labels, samples)


def held_out_retimed(clips: Sequence[ClipFeatures], *, seed: int = 2026) -> dict[str, NDArray[np.float32]]:
    """By key, clips said in their own time by the voice that training never hears.

    Clips whose words are not found in their sound, or which the voice says otherwise, are left out.

    Raises:
        DataError: festival or its voice is not installed.
    """
    aligner = ForcedAligner()
    sounds: dict[str, NDArray[np.float32]] = {}
    with FestivalSynthesiser() as festival:
        for clip in clips:
            try:
                labels = clip_labels(clip, aligner)
            except DataError:
                continue
            stretch = float(_of_clip(seed, clip).uniform(*_STRETCHES))
            said = festival.say(grid_text(clip), HELD_OUT.festival_voice, stretch=stretch)
            try:
                sounds[clip.key] = retime(said, labels, len(clip.audio)).audio
            except PhoneMismatchError:
                continue
    return sounds


def held_out_revoiced(clips: Iterable[ClipFeatures], seed: int) -> dict[str, NDArray[np.float32]]:
    """By key, clips in somebody else's voice by WORLD, drawn from the seed and the key.

    Training's voices are drawn by part of the corpus, so that no seed gives the same ones.

    Raises:
        DataError: pyworld is not installed.
    """
    return {clip.key: revoice(analyse(clip.sound), random_change(_of_clip(seed, clip))) for clip in clips}


def _of_clip(seed: int, clip: ClipFeatures) -> np.random.Generator:
    return np.random.default_rng((seed, *clip.key.encode()))
