"""Random utterances: for training from the catalogue's voices, for evaluation from those it holds out."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import numpy as np

from model.data.sentences import random_sentence
from model.data.utterance import Utterance
from model.data.voices.catalogue import (
    ESPEAK_CHILD_VARIANTS,
    ESPEAK_DEEP_VARIANTS,
    ESPEAK_LANGUAGES,
    ESPEAK_VARIANTS,
    FESTIVAL_TRAINING,
    FLITE_PITCH_HZ,
    HELD_OUT,
    UTTERANCE_SHARES,
)
from model.data.voices.espeak import EspeakSynthesiser
from model.data.voices.festival import FESTIVAL_VOICES, FestivalSynthesiser
from model.data.voices.flite import FLITE_VOICES, FliteSynthesiser

__all__ = ["VoiceSet", "held_out_utterances", "random_utterance"]

_CHILD_SHARE, _DEEP_SHARE = 0.2, 0.2
_RANDOM_STRETCH = (0.65, 1.45)


class VoiceSet:
    """The three synthesisers; close it, or use it as a context.

    For many hours of speech, run processes with a set and a generator (`SeedSequence.spawn`) each.
    """

    def __init__(self) -> None:
        """Raises DataError, naming the Debian package, when one is not installed."""
        self.espeak = EspeakSynthesiser()
        self.flite = FliteSynthesiser()
        self.festival = FestivalSynthesiser()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End Festival's process."""
        self.festival.close()


def random_utterance(voices: VoiceSet, rng: np.random.Generator) -> Utterance:
    """A random sentence in a random training voice, rate and pitch.

    Text, voice, rate and pitch follow from the generator alone. espeak keeps a state of its own between calls: the same
    request gives other samples, and a length that differs by some 20 ms.

    Raises:
        DataError: A voice of the catalogue is not installed, or a synthesiser fails.
    """
    families = list(UTTERANCE_SHARES)
    family = str(rng.choice(families, p=[UTTERANCE_SHARES[f] for f in families]))
    if family == "espeak":
        languages = list(ESPEAK_LANGUAGES)
        language = str(rng.choice(languages, p=[ESPEAK_LANGUAGES[name][0] for name in languages]))
        return _random_espeak(voices.espeak, language, str(rng.choice(ESPEAK_LANGUAGES[language][1])), rng)
    if family == "flite":
        return _random_flite(voices.flite, rng)
    name = str(rng.choice(FESTIVAL_TRAINING))
    return _random_festival(voices.festival, name, rng)


def held_out_utterances(count: int, seed: int) -> list[Utterance]:
    """Utterances of the voice and the language that training never hears, in turn; the text follows from the seed.

    Raises:
        DataError: festival, its voice ked or libespeak-ng is not installed.
    """
    rng = np.random.default_rng(seed)
    espeak = EspeakSynthesiser()
    language = HELD_OUT.espeak_language
    with FestivalSynthesiser() as festival:
        return [
            _random_espeak(espeak, language, language, rng)
            if i % 2
            else _random_festival(festival, HELD_OUT.festival_voice, rng)
            for i in range(count)
        ]


def _random_espeak(espeak: EspeakSynthesiser, language: str, accent: str, rng: np.random.Generator) -> Utterance:
    text = random_sentence(language, rng)
    who = rng.random()
    if who < _CHILD_SHARE:
        variants, pitches, ranges = ESPEAK_CHILD_VARIANTS, (80, 100), (55, 100)
    elif who < _CHILD_SHARE + _DEEP_SHARE:
        variants, pitches, ranges = ESPEAK_DEEP_VARIANTS, (0, 21), (10, 60)
    else:
        variants, pitches, ranges = ESPEAK_VARIANTS, (20, 85), (15, 85)
    return espeak.say(
        text,
        accent + str(rng.choice(variants)),
        words_per_minute=int(rng.integers(105, 280)),
        pitch=int(rng.integers(*pitches)),
        pitch_range=int(rng.integers(*ranges)),
    )


def _random_flite(flite: FliteSynthesiser, rng: np.random.Generator) -> Utterance:
    voice = str(rng.choice(FLITE_VOICES))
    text = random_sentence("en", rng)
    return flite.say(text, voice, stretch=_stretch(rng), pitch_hz=float(rng.uniform(*FLITE_PITCH_HZ[voice])))


def _random_festival(festival: FestivalSynthesiser, voice: str, rng: np.random.Generator) -> Utterance:
    text = random_sentence(FESTIVAL_VOICES[voice].language, rng)
    return festival.say(text, voice, stretch=_stretch(rng))


def _stretch(rng: np.random.Generator) -> float:
    """A duration factor, as often slow as fast."""
    slow, fast = np.log(_RANDOM_STRETCH)
    return float(np.exp(rng.uniform(slow, fast)))
