"""Other voices in the filmed speaker's time: phones answer phones, edges are hit, lengths are exact."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("pyworld", reason="pip install pyworld 'setuptools<81'", exc_type=ImportError)

from model.data.corpus_build import RECIPE, CorpusConfig, check_recipe
from model.data.grid_voices import ACCENTS, RESPELT, random_grid_utterance
from model.data.phone_matching import PhoneMismatchError, match_phones, phone_runs
from model.data.retime import MAX_EDGE_SHIFT, MAX_FIRST_STRETCH, STRETCH, retime, time_map
from model.data.utterance import Utterance
from model.data.voices import HELD_OUT, EspeakSynthesiser, FliteSynthesiser, VoiceSet
from model.errors import DataError
from model.speech.phonemes import GRID_LEXICON, INDEX, SILENCE_INDEX, VOWELS

RATE = 16_000
COLUMN = RATE // 100
SIBILANTS = [INDEX["s"], INDEX["z"]]
VOWEL_INDICES = [INDEX[v] for v in VOWELS]


def columns(text: str) -> NDArray[np.int64]:
    """(columns,) labels from `sil:10 b:5 ...`."""
    pairs = [entry.split(":") for entry in text.split()]
    return np.concatenate([np.full(int(n), INDEX[name]) for name, n in pairs])


def matched(spoken: str, wanted: str) -> list[tuple[str, str]]:
    said, asked = spoken.split(), wanted.split()
    groups = match_phones(said, asked)
    return [(" ".join(said[slice(*g.spoken)]), " ".join(asked[slice(*g.wanted)])) for g in groups]


def sung(labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Vowels as a 120 Hz buzz, sibilants as high noise, the rest as silence, with sharp edges."""
    rng = np.random.default_rng(0)
    time_s = np.arange(len(labels) * COLUMN) / RATE
    buzz = sum(np.sin(2 * np.pi * 120.0 * k * time_s) / k for k in range(1, 20))
    hiss = np.diff(rng.normal(0, 0.3, len(time_s)), n=2, prepend=[0.0, 0.0])
    kinds = np.repeat(labels, COLUMN)
    sound = np.where(np.isin(kinds, VOWEL_INDICES), buzz, 0.0) + np.where(np.isin(kinds, SIBILANTS), hiss, 0.0)
    return (0.3 * sound + rng.normal(0, 1e-4, len(sound))).astype(np.float32)


def utterance(labels: NDArray[np.int64]) -> Utterance:
    return Utterance(audio=sung(labels), phonemes=labels, voice="test", language="en", text="")


def high_share(part: NDArray[np.float32]) -> float:
    power = np.square(np.abs(np.fft.rfft(part * np.hanning(len(part)))))
    return float(power[len(power) * 3 // 8 :].sum() / (power.sum() + 1e-12))


def test_phones_that_one_lexicon_lacks_join_the_neighbour_they_are_like() -> None:
    assert matched("f ao r s uw n", "f ao s uw n") == [("f", "f"), ("ao r", "ao"), ("s", "s"), ("uw", "uw"), ("n", "n")]
    assert matched("th r iy y ax g", "th r iy ax g")[2:4] == [("iy y", "iy"), ("ax", "ax")]
    assert matched("s iy k uw p l", "s iy k y uw p l")[2:4] == [("k", "k"), ("uw", "y uw")]
    assert matched("b l uw aa d ey", "b l uw ae t ey")[3:5] == [("aa", "ae"), ("d", "t")]


def test_another_sentence_and_other_closures_are_refused() -> None:
    said = "b ih n b l uw ae t eh l t uw n aw"
    with pytest.raises(PhoneMismatchError, match="does not say"):
        match_phones(said.split(), "s eh t r eh d w ih dh z eh d f ay v s uw n".split())
    with pytest.raises(PhoneMismatchError, match="lips close"):
        match_phones(said.replace("b l", "d l").split(), said.split())
    with pytest.raises(PhoneMismatchError, match="nothing to match"):
        match_phones([], said.split())


def test_groups_hold_every_phone_once_and_the_map_never_falls() -> None:
    rng = np.random.default_rng(3)
    names = "ih n l uw t iy s eh v ax g ow".split()
    for _ in range(60):
        asked = [str(n) for n in rng.permutation(names)]
        left_out = rng.integers(2 * len(asked))
        said = [n for i, n in enumerate(asked) if i != left_out]
        groups = match_phones(said, asked)
        for side, total in (("spoken", len(said)), ("wanted", len(asked))):
            spans = [getattr(g, side) for g in groups]
            assert spans[0][0] == 0 and spans[-1][1] == total
            assert all(a[1] == b[0] and a[0] < a[1] for a, b in pairwise(spans))
        spoken, wanted = (
            np.repeat([SILENCE_INDEX, *(INDEX[n] for n in seq), SILENCE_INDEX], rng.integers(1, 30, len(seq) + 2))
            for seq in (said, asked)
        )
        wanted_xs, spoken_xs = time_map(spoken, wanted)
        assert (np.diff(wanted_xs) >= 0).all() and (np.diff(spoken_xs) >= 0).all()
        assert spoken_xs[0] >= 0 and spoken_xs[-1] <= len(spoken)


def test_edges_answer_edges_and_move_a_little_where_the_stretch_is_great() -> None:
    wanted_xs, spoken_xs = time_map(columns("sil:9 b:6 iy:8 n:5 sil:9"), columns("sil:4 b:4 iy:16 n:9 sil:2"))
    assert wanted_xs.tolist() == [4, 8, 8, 24, 24, 33] and spoken_xs.tolist() == [9, 15, 15, 23, 23, 28]
    wanted_xs, spoken_xs = time_map(columns("sil:9 b:2 iy:8 n:5 sil:9"), columns("sil:4 b:10 iy:8 n:5 sil:2"))
    assert 0 < spoken_xs[1] - 11 <= MAX_EDGE_SHIFT and spoken_xs[1] == spoken_xs[2]
    assert 10 / (spoken_xs[1] - spoken_xs[0]) < 10 / 2 and STRETCH[1] < 10 / 2


def test_retimed_sound_has_its_edges_where_they_are_wanted() -> None:
    spoken = columns("sil:20 s:12 iy:20 t:8 aa:18 s:10 uw:16 sil:20")
    wanted = columns("sil:33 s:18 iy:11 t:12 aa:30 s:6 uw:25 sil:41")
    samples = len(wanted) * COLUMN + 77
    made = retime(utterance(spoken), wanted, samples)
    assert made.audio.shape == (samples,) and made.audio.dtype == np.float32
    np.testing.assert_array_equal(made.phonemes, wanted)
    steps = made.audio[: len(wanted) * COLUMN].reshape(-1, COLUMN // 2)  # 5 ms
    rms = np.sqrt(np.mean(steps**2, axis=1))
    loud = rms > 0.1 * np.percentile(rms, 90)
    assert_edges_near(np.flatnonzero(np.diff(loud)) / 2, [33, 62, 74, 74 + 61])
    hissing = loud & (np.array([high_share(s) for s in steps]) > 0.5)
    assert_edges_near(np.flatnonzero(np.diff(hissing)) / 2, [33, 51, 104, 110])


def assert_edges_near(found: NDArray[np.float64], wanted: list[int]) -> None:
    """Within 10 ms, none too many."""
    assert len(found) == len(wanted), found
    assert np.abs(found + 0.5 - wanted).max() <= 1.0, found


def test_pauses_follow_the_clip() -> None:
    spoken = columns("sil:20 s:12 iy:20 sil:30 t:8 aa:18 s:10 uw:16 sil:20")
    wanted = columns("sil:20 s:12 iy:20 t:8 aa:18 sil:25 s:10 uw:16 sil:20")
    made = retime(utterance(spoken), wanted, len(wanted) * COLUMN)
    rms = np.sqrt(np.mean(made.audio.reshape(-1, COLUMN) ** 2, axis=1))
    assert rms[35:50].min() > 0.3 * rms.max()  # no pause where none is wanted
    assert rms[80:101].max() < 0.02 * rms.max()
    assert made.phonemes[80] == SILENCE_INDEX


def test_speech_stays_as_loud_however_long_the_silence() -> None:
    spoken = columns("sil:5 s:12 iy:20 sil:5")
    peaks = []
    for silence in (5, 200):
        wanted = columns(f"sil:5 s:12 iy:20 sil:{silence}")
        peaks.append(
            np.sqrt(np.mean(retime(utterance(spoken), wanted, len(wanted) * COLUMN).audio[20 * COLUMN :][:2400] ** 2))
        )
    assert peaks[0] == pytest.approx(peaks[1], rel=0.05)


def test_a_first_phone_labelled_too_long_starts_late() -> None:
    wanted = columns("sil:5 s:60 iy:20 sil:20")
    made = retime(utterance(columns("sil:20 s:10 iy:20 sil:20")), wanted, len(wanted) * COLUMN)
    (first, *_) = phone_runs(made.phonemes)
    assert (first.start, first.end) == (65 - round(10 * MAX_FIRST_STRETCH), 65)
    rms = np.sqrt(np.mean(made.audio.reshape(-1, COLUMN) ** 2, axis=1))
    assert rms[: first.start - 1].max() < 0.02 * rms.max() < rms[first.start + 1]


def test_more_columns_than_samples_are_refused() -> None:
    with pytest.raises(DataError, match="do not hold"):
        retime(utterance(columns("sil:20 s:20 sil:20")), columns("sil:20 s:20 sil:20"), 60 * COLUMN - 1)


@pytest.mark.parametrize("accent", ["en", "en-us", "en-gb-x-gbclan"])
def test_a_real_sentence_hisses_and_sounds_where_it_is_told(accent: str) -> None:
    wanted = columns(
        "sil:40 p:6 l:7 ey:14 s:13 r:7 eh:9 d:5 w:6 ih:7 dh:5 z:9 eh:10 d:5 s:14 ih:6 k:7 s:9 s:8 uw:20 n:14 sil:60"
    )
    said = espeak().say("place red with zed six soon", accent, words_per_minute=200)
    made = retime(said, wanted, len(wanted) * COLUMN)
    parts = made.audio.reshape(-1, COLUMN)
    shares = np.array([high_share(p) for p in parts])
    rms = np.sqrt(np.mean(parts**2, axis=1))
    middles = [(r.name, (r.start + r.end) // 2) for r in phone_runs(wanted)]
    assert min(shares[m] for name, m in middles if name == "s") > 3 * max(
        shares[m] for name, m in middles if name in VOWELS
    )
    assert rms[:38].max() < 0.05 * rms.max() and rms[-50:].max() < 0.05 * rms.max()
    assert min(rms[m] for name, m in middles if name in VOWELS) > 0.1 * rms.max()


@pytest.mark.parametrize("letter", "abcdefghijklmnopqrstuvxyz")
def test_letters_are_spoken_by_name(letter: str) -> None:
    text = f"bin blue in {RESPELT.get(letter, letter)} two now"
    said = [espeak().say(text, "en"), espeak().say(text, "en-us"), flite().say(text, "awb")]
    for one in said:
        spoken = [r.name for r in phone_runs(one.phonemes)]
        middle = [n for n in spoken[len("b ih n b l uw ih n".split()) : -4] if n not in ("r", "y")]
        assert middle == [n for n in GRID_LEXICON[letter] if n not in ("r", "y")], one.voice


@pytest.mark.parametrize(
    "text",
    [
        "bin blue at b zero now",
        "lay green by f one please",
        "place red in l two again",
        "set white with q three soon",
        "set white with r four soon",
        "place blue at x five please",
        "lay red by w six now",
        "bin green in h seven again",
        "bin blue at c eight now",
        "set white with k nine soon",
    ],
)
def test_every_training_accent_says_the_grid_words(text: str) -> None:
    words = [w for w in text.split() if w != "w"]
    wanted = [phone for word in words for phone in GRID_LEXICON[word]]
    for accent in ACCENTS:
        said = espeak().say(" ".join(words), accent, words_per_minute=200)
        match_phones([r.name for r in phone_runs(said.phonemes)], wanted)


@pytest.mark.nightly
@pytest.mark.slow
def test_training_voices_are_english_and_never_the_held_out_one() -> None:
    try:
        voices = VoiceSet()
    except DataError as error:
        pytest.skip(str(error))
    rng = np.random.default_rng(0)
    with voices:
        try:
            said = [random_grid_utterance(voices, "set white with k nine soon", rng) for _ in range(20)]
        except DataError as error:
            pytest.skip(str(error))
    assert {u.language for u in said} == {"en"}
    assert not any(HELD_OUT.festival_voice in u.voice for u in said)
    assert {u.voice.partition(":")[0] for u in said} == {"espeak", "flite", "festival"}


def test_a_corpus_may_be_given_retimed_clips_and_nothing_else(tmp_path: Path) -> None:
    check_recipe(tmp_path, CorpusConfig(retimed_per_clip=0))
    check_recipe(tmp_path, CorpusConfig(retimed_per_clip=2))
    with pytest.raises(DataError, match="retimed_per_clip"):
        check_recipe(tmp_path, CorpusConfig(retimed_per_clip=3))
    with pytest.raises(DataError, match="retimed_per_clip"):
        check_recipe(tmp_path, CorpusConfig(retimed_per_clip=0))
    recipe = json.loads((tmp_path / RECIPE).read_text())
    assert recipe["retimed_per_clip"] == 2
    del recipe["retimed_per_clip"]  # as older versions wrote it
    (tmp_path / RECIPE).write_text(json.dumps(recipe))
    with pytest.raises(DataError, match="voices_per_clip"):
        check_recipe(tmp_path, CorpusConfig(voices_per_clip=5))
    check_recipe(tmp_path, CorpusConfig())
    assert json.loads((tmp_path / RECIPE).read_text())["retimed_per_clip"] == CorpusConfig().retimed_per_clip


def espeak() -> EspeakSynthesiser:
    try:
        return EspeakSynthesiser()
    except DataError as error:
        pytest.skip(str(error))


def flite() -> FliteSynthesiser:
    try:
        return FliteSynthesiser()
    except DataError as error:
        pytest.skip(str(error))
