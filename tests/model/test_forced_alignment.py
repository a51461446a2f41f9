"""Forced alignment: word edges against GRID's own, refusals, and the columns that come of it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.audio_file import read_audio
from model.data.forced_alignment import AlignedPhone, ForcedAligner, grid_words, phone_columns
from model.data.grid import SILENCES, read_alignment
from model.errors import DataError
from model.speech.phonemes import GRID_LEXICON, INDEX, PHONEMES

FPS = 25


@pytest.fixture(scope="module")
def aligner() -> ForcedAligner:
    pytest.importorskip("pocketsphinx", reason="pocketsphinx is not installed: pip install pocketsphinx")
    return ForcedAligner()


@pytest.fixture(scope="module")
def clips(data_folder: Path) -> list[tuple[str, NDArray[np.float32]]]:
    videos = sorted((data_folder / "grid_s1" / "val").glob("*.mp4"))[::4]
    return [(video.stem, read_audio(video)) for video in videos]


def test_word_edges_agree_with_grids_own(
    aligner: ForcedAligner, clips: list[tuple[str, NDArray[np.float32]]], data_folder: Path
) -> None:
    differences = []
    for name, audio in clips:
        words = [w for w in read_alignment(data_folder / "grid_s1" / "val" / f"{name}.align") if w.text not in SILENCES]
        phones = aligner.align(audio, grid_words(name))
        for index, word in enumerate(words):
            own = [p for p in phones if p.word == index]
            differences += [own[0].start_s - word.start_frame / FPS, own[-1].end_s - word.end_frame / FPS]
    assert np.median(np.abs(differences)) <= 0.03
    assert abs(np.median(differences)) <= 0.015  # no constant offset
    assert np.percentile(np.abs(differences), 90) <= 0.1


def test_phones_are_the_lexicons_in_order_and_do_not_overlap(
    aligner: ForcedAligner, clips: list[tuple[str, NDArray[np.float32]]]
) -> None:
    name, audio = clips[0]
    phones = aligner.align(audio, grid_words(name))
    assert [p.name for p in phones] == [phone for word in grid_words(name) for phone in GRID_LEXICON[word]]
    assert all(p.start_s < p.end_s for p in phones)
    assert all(a.end_s <= b.start_s + 1e-9 for a, b in pairwise(phones))
    assert phones[0].start_s > 0.3  # GRID's clips begin in silence


def test_the_same_clip_again_gives_the_same_times(
    aligner: ForcedAligner, clips: list[tuple[str, NDArray[np.float32]]]
) -> None:
    (name, audio), (other, sound) = clips[:2]
    first = aligner.align(audio, grid_words(name))
    aligner.align(sound, grid_words(other))
    assert aligner.align(audio, grid_words(name)) == first


def test_given_spans_set_word_edges_and_silences_are_passed_over(
    aligner: ForcedAligner, clips: list[tuple[str, NDArray[np.float32]]]
) -> None:
    name, audio = clips[0]
    words = ["sil", *grid_words(name), "sp"]
    spans = [(0.0, 0.5)] + [(0.5 + 0.3 * i, 0.8 + 0.3 * i) for i in range(6)] + [(2.3, 3.0)]
    phones = aligner.align(audio, words, spans=spans)
    for index, (start, end) in enumerate(spans[1:-1]):
        own = [p for p in phones if p.word == index]
        assert own[0].start_s == pytest.approx(start)
        assert own[-1].end_s == pytest.approx(end)


def test_stops_do_not_swallow_the_pause_before_them(
    aligner: ForcedAligner, clips: list[tuple[str, NDArray[np.float32]]]
) -> None:
    for name, audio in clips:
        first = aligner.align(audio, grid_words(name))[0]
        if first.name in {"b", "p"}:
            assert first.end_s - first.start_s <= 0.081


def test_within_spans_phone_edges_stay_where_the_sound_has_them(
    aligner: ForcedAligner, clips: list[tuple[str, NDArray[np.float32]]]
) -> None:
    name, audio = clips[0]
    free = aligner.align(audio, grid_words(name))
    own = [[p for p in free if p.word == i] for i in range(6)]
    wide = [(phones[0].start_s - 0.01, phones[-1].end_s + 0.01) for phones in own]
    fitted = aligner.align(audio, grid_words(name), spans=wide)
    for before, after in zip(free, fitted, strict=True):
        if before.word == after.word and before is not own[before.word][0]:
            assert after.start_s == pytest.approx(before.start_s)


@pytest.mark.parametrize("sound", ["silence", "noise", "short"])
def test_sound_without_the_words_is_refused_and_the_aligner_goes_on(
    sound: str, aligner: ForcedAligner, clips: list[tuple[str, NDArray[np.float32]]]
) -> None:
    name, audio = clips[0]
    wrong = {
        "silence": np.zeros(48_000, np.float32),
        "noise": np.random.default_rng(0).normal(0, 0.05, 48_000).astype(np.float32),
        "short": audio[:3_200],
    }[sound]
    with pytest.raises(DataError, match="cannot align"):
        aligner.align(wrong, grid_words(name))
    assert aligner.align(audio, grid_words(name))


def test_ordinary_english_is_aligned_by_the_dictionary(data_folder: Path) -> None:
    pytest.importorskip("pocketsphinx", reason="pocketsphinx is not installed: pip install pocketsphinx")
    audio = read_audio(data_folder / "librispeech" / "jfk.wav")
    words = "and so my fellow americans ask not what your country can do for you".split()
    words += "ask what you can do for your country".split()
    phones = ForcedAligner({}).align(audio, words)
    assert {p.word for p in phones} == set(range(len(words)))
    assert all(p.name in INDEX for p in phones)
    starts = {p.word: p.start_s for p in reversed(phones)}
    assert starts[5] == pytest.approx(3.3, abs=0.1)  # "ask", after the first long pause
    assert starts[words.index("what")] == pytest.approx(5.35, abs=0.1)


def test_unknown_words_and_uneven_spans_are_named(aligner: ForcedAligner) -> None:
    sound = np.zeros(16_000, np.float32)
    with pytest.raises(DataError, match="'qzkx'"):
        aligner.align(sound, ["qzkx"])
    with pytest.raises(DataError, match="1 spans for 2 words"):
        aligner.align(sound, ["bin", "blue"], spans=[(0.0, 1.0)])


def test_clip_names_spell_their_sentences() -> None:
    assert grid_words("bbal8p") == ["bin", "blue", "at", "l", "eight", "please"]
    with pytest.raises(DataError, match="'holiday'"):
        grid_words("holiday")


def test_columns_are_ten_milliseconds_and_what_lies_outside_is_cut() -> None:
    phones = [AlignedPhone("b", 0.02, 0.05, 0), AlignedPhone("iy", 0.05, 0.30, 0)]
    columns = phone_columns(phones, 10)
    assert [PHONEMES[i] for i in columns] == ["sil", "sil", "b", "b", "b", "iy", "iy", "iy", "iy", "iy"]
