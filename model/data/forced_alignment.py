"""Phoneme times of real speech whose words are known: forced alignment by pocketsphinx (extra `voices`).

Its English acoustic model and the CMU dictionary come in the wheel. GRID's words are aligned by the British
pronunciations of `model.speech.phonemes.GRID_LEXICON`. Against GRID's own word times (s1, 547 clips) edges differ by a
median of 20 ms (90 %: within 60 ms), with a median difference of 0 ms: no offset is taken off.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.data.grid import SILENCES, spelled_sentence
from model.errors import DataError
from model.speech.log_mel import SAMPLE_RATE
from model.speech.phonemes import GRID_LEXICON, INDEX, SILENCE_INDEX

COLUMNS_PER_SECOND: Final = 100
MIN_PHONE_FRAMES: Final = 3
"""Shortest phone that the acoustic model's three states allow, at 10 ms."""
MAX_RUSHED_SHARE: Final = 0.4
"""More phones than this at the shortest length, and the words were not said (0.35 at most in 547 GRID clips)."""
MAX_STOP_AFTER_PAUSE_S: Final = 0.08
"""The acoustic model stretches a stop's silent closure over the pause before it (up to 0.66 s); within sentences stops
last 70 ms (median), and GRID gives its first ones 40 to 90 ms."""
MIN_FITTED_S: Final = 0.02
STOPS: Final = frozenset("p b t d k g ch jh".split())
REDUCED_WORDS: Final = frozenset("a an and of the to from was but that".split())
"""Function words whose AH is a schwa; the dictionary carries no stress marks."""

_PREFIX = "lexicon_"  # keeps our pronunciations apart from the dictionary's
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AlignedPhone:
    """One phone of `model.speech.phonemes.PHONEMES`, when it sounds, and the place of its word among those spoken."""

    name: str
    start_s: float
    end_s: float
    word: int


class ForcedAligner:
    """Finds when each phone of a known sentence is said. Keeps one decoder; not for several threads at once."""

    def __init__(self, lexicon: Mapping[str, tuple[str, ...]] = GRID_LEXICON) -> None:
        """`lexicon` gives pronunciations that go before the CMU dictionary's; {} for ordinary English.

        Raises:
            DataError: pocketsphinx is not installed.
        """
        self._lexicon = dict(lexicon)
        self._decoder = self._new_decoder()

    def align(
        self,
        audio: NDArray[np.float32],  # (samples,), -1..1, 16 kHz
        words: Sequence[str],
        *,
        spans: Sequence[tuple[float, float]] | None = None,  # s, of each word, when they are known
    ) -> list[AlignedPhone]:
        """Phones of the sentence in order; what lies between them is silence. Words that name silence are passed over.

        With `spans`, word edges are the given ones; phone edges within are the acoustic model's where they fit in.

        Raises:
            DataError: A word is not known, there are not as many spans as words, or the sound does not hold the words.
        """
        if spans is not None and len(spans) != len(words):
            raise DataError(f"got {len(spans)} spans for {len(words)} words; give one (start, end) for each")
        spoken = [index for index, word in enumerate(words) if word not in SILENCES]
        words = [words[index] for index in spoken]
        text = " ".join(self._spelling(word) for word in words)
        pcm = (np.clip(audio, -1.0, 1.0) * 32767.0).astype(np.int16).tobytes()
        try:
            found = self._decode(text, pcm)
        except RuntimeError as error:
            _LOGGER.debug("alignment of %r failed: %s", text, error)
            self._decoder = self._new_decoder()  # a decoder that failed within an utterance does not recover
            raise DataError(
                f"cannot align {' '.join(words)!r} with {len(audio) / SAMPLE_RATE:.2f} s of sound; check the words"
            ) from error
        phones = self._phones(found, words)
        return phones if spans is None else _fit_spans(phones, [spans[index] for index in spoken])

    def _decode(self, text: str, pcm: bytes) -> list[tuple[str, list[tuple[str, int, int]]]]:
        """Word names and their (phone, start, length) in 10 ms frames: word-level pass, then the phones within."""
        self._decoder.set_align_text(text)
        self._pass(pcm)
        self._decoder.set_alignment()
        self._pass(pcm)
        return [(w.name, [(p.name, p.start, p.duration) for p in w]) for w in self._decoder.get_alignment()]

    def _pass(self, pcm: bytes) -> None:
        self._decoder.start_utt()
        self._decoder.process_raw(pcm, full_utt=True)
        self._decoder.end_utt()

    def _phones(self, found: list[tuple[str, list[tuple[str, int, int]]]], words: Sequence[str]) -> list[AlignedPhone]:
        spoken = [phones for name, phones in found if not name.startswith("<") and not name.startswith("[")]
        if len(spoken) != len(words):
            raise DataError(f"found {len(spoken)} of the {len(words)} words of {' '.join(words)!r}; check the words")
        lengths = [length for phones in spoken for _, _, length in phones]
        rushed = sum(length <= MIN_PHONE_FRAMES for length in lengths) / max(1, len(lengths))
        if rushed > MAX_RUSHED_SHARE:
            raise DataError(
                f"{rushed:.0%} of the phones of {' '.join(words)!r} have no length; the sound does not hold the words"
            )
        out = []
        for index, (word, phones) in enumerate(zip(words, spoken, strict=True)):
            names = self._lexicon.get(word) or tuple(_from_arpabet(name, word) for name, _, _ in phones)
            for name, (_, start, length) in zip(names, phones, strict=True):
                span = start / COLUMNS_PER_SECOND, (start + length) / COLUMNS_PER_SECOND
                out.append(AlignedPhone(name, *span, index))
        return _shorten_stops(out)

    def _spelling(self, word: str) -> str:
        """The decoder's name of a word."""
        if word in self._lexicon:
            return _PREFIX + word
        if not word or self._decoder.lookup_word(word) is None:
            raise DataError(f"no pronunciation of {word!r}; write it in lower case, or add it to the lexicon")
        return word

    def _new_decoder(self) -> Any:
        try:
            from pocketsphinx import Decoder
        except ImportError as error:
            raise DataError("pocketsphinx is not installed; run: pip install pocketsphinx") from error
        # best path over the word lattice leaves silences of one frame, which the second pass cannot align
        decoder = Decoder(lm=None, samprate=SAMPLE_RATE, bestpath=False, loglevel="FATAL")
        for word, phones in self._lexicon.items():
            decoder.add_word(_PREFIX + word, " ".join(_to_arpabet(p) for p in phones), True)
        return decoder


def grid_words(clip_name: str) -> list[str]:
    """The six words that a GRID clip's name spells ("bbal8p": bin blue at l eight please).

    Raises:
        DataError: The name spells no sentence.
    """
    words = spelled_sentence(clip_name).split()
    if not words:
        raise DataError(f"{clip_name!r} does not spell a GRID sentence; its six letters are such as bbal8p")
    return words


def phone_columns(phones: Sequence[AlignedPhone], columns: int) -> NDArray[np.int64]:
    """(columns,) phoneme index for each 10 ms; silence where no phone is."""
    labels = np.full(columns, SILENCE_INDEX, np.int64)
    for phone in phones:
        start, end = (max(0, round(edge * COLUMNS_PER_SECOND)) for edge in (phone.start_s, phone.end_s))
        labels[start:end] = INDEX[phone.name]
    return labels


def _shorten_stops(phones: list[AlignedPhone]) -> list[AlignedPhone]:
    out: list[AlignedPhone] = []
    for phone in phones:
        after_pause = not out or out[-1].end_s < phone.start_s
        if after_pause and phone.name in STOPS:
            phone = replace(phone, start_s=max(phone.start_s, phone.end_s - MAX_STOP_AFTER_PAUSE_S))
        out.append(phone)
    return out


def _fit_spans(phones: list[AlignedPhone], spans: Sequence[tuple[float, float]]) -> list[AlignedPhone]:
    out = []
    for word, group in groupby(phones, key=lambda p: p.word):
        parts, (start, end) = list(group), spans[word]
        least = min(MIN_FITTED_S, (end - start) / len(parts))
        edges = [start]
        for index, after in enumerate(parts[1:], 1):
            lowest, highest = start + index * least, end - (len(parts) - index) * least
            edges.append(min(max(after.start_s, lowest), highest))
        edges.append(end)
        out += [replace(p, start_s=a, end_s=b) for p, a, b in zip(parts, edges, edges[1:], strict=False)]
    return out


def _from_arpabet(name: str, word: str) -> str:
    if name == "AH" and word in REDUCED_WORDS:
        return "ax"
    return name.lower()


def _to_arpabet(name: str) -> str:
    return "AH" if name == "ax" else name.upper()
