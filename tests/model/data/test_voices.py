"""The training corpus's voices: phones where the sound is, every phoneme class, held-out voices never drawn."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from model.data.sentences import random_sentence
from model.data.utterance import Utterance
from model.data.voices import (
    HELD_OUT,
    EspeakSynthesiser,
    FestivalSynthesiser,
    FliteSynthesiser,
    VoiceSet,
    held_out_utterances,
    random_utterance,
)
from model.data.voices.alignment import give_closures, label_columns
from model.data.voices.catalogue import ESPEAK_LANGUAGES, ESPEAK_VARIANTS, FESTIVAL_TRAINING, UTTERANCE_SHARES
from model.data.voices.festival import FESTIVAL_VOICES
from model.data.voices.flite import FLITE_VOICES
from model.data.voices.phone_sets import PHONE_SETS, phoneme_from_espeak, phoneme_from_phone_set
from model.data.word_lists import WORDS
from model.errors import DataError
from model.speech.phonemes import INDEX, PHONEMES, VOWELS

SENTENCE = "She sells sea shells, and puts the best books on top of the usual big box."
VOWEL_INDICES = [INDEX[name] for name in VOWELS]
SIBILANT_INDICES = [INDEX["s"], INDEX["sh"]]
CLOSURE_INDICES = [INDEX[name] for name in ("sil", "p", "t", "k")]


@pytest.fixture(scope="module")
def espeak() -> EspeakSynthesiser:
    try:
        return EspeakSynthesiser()
    except DataError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def flite() -> FliteSynthesiser:
    try:
        return FliteSynthesiser()
    except DataError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def festival() -> Iterator[FestivalSynthesiser]:
    try:
        synthesiser = FestivalSynthesiser()
    except DataError as error:
        pytest.skip(str(error))
    with synthesiser:
        yield synthesiser


@pytest.fixture(scope="module")
def voices(espeak: EspeakSynthesiser) -> Iterator[VoiceSet]:
    try:
        found = VoiceSet()
    except DataError as error:
        pytest.skip(str(error))
    with found:
        for name in (*FESTIVAL_TRAINING, HELD_OUT.festival_voice):
            try:
                found.festival.say(random_sentence(FESTIVAL_VOICES[name].language, np.random.default_rng(0)), name)
            except DataError as error:
                pytest.skip(str(error))
        yield found


@pytest.fixture(scope="module")
def sample(voices: VoiceSet) -> list[Utterance]:
    rng = np.random.default_rng(11)
    return [random_utterance(voices, rng) for _ in range(160)]


@pytest.fixture(scope="module")
def few(voices: VoiceSet) -> list[Utterance]:
    rng = np.random.default_rng(12)
    return [random_utterance(voices, rng) for _ in range(16)]


def best_shift_columns(utterance: Utterance) -> int:
    """By how many columns vowels and closures, as labelled, have to move to fit the sound's energy best."""
    columns = len(utterance.phonemes)
    frames = utterance.audio[: columns * 160].reshape(columns, 160).astype(np.float64)
    energy = np.log10(np.square(frames).mean(1) + 1e-8)
    wanted = np.isin(utterance.phonemes, VOWEL_INDICES) * 1.0 - np.isin(utterance.phonemes, CLOSURE_INDICES)
    shifts = range(-5, 6)
    fits = [np.corrcoef(energy[5 + k : columns - 5 + k], wanted[5 : columns - 5])[0, 1] for k in shifts]
    return shifts[int(np.argmax(fits))]


def high_share(audio: NDArray[np.float32]) -> float:
    """Part of the power above 3 kHz."""
    power = np.square(np.abs(np.fft.rfft(audio * np.hanning(len(audio)))))
    return float(power[len(power) * 3 // 8 :].sum() / (power.sum() + 1e-12))


def assert_fits_the_sound(utterance: Utterance) -> None:
    assert len(utterance.phonemes) == len(utterance.audio) // 160
    assert abs(best_shift_columns(utterance)) <= 2, utterance.voice
    columns = utterance.audio[: len(utterance.phonemes) * 160].reshape(-1, 160)
    shares = np.array([high_share(column) for column in columns])
    hiss = np.median(shares[np.isin(utterance.phonemes, SIBILANT_INDICES)])
    assert hiss > 0.3, utterance.voice
    assert hiss > 3 * np.median(shares[np.isin(utterance.phonemes, VOWEL_INDICES)]), utterance.voice
    assert utterance.phonemes[-1] == INDEX["sil"]


@pytest.mark.parametrize("voice", ["en-us", "en", "en+f3", "en-us+klatt2"])
@pytest.mark.parametrize("words_per_minute", [120, 260])
def test_espeak_phones_lie_on_the_sound(espeak: EspeakSynthesiser, voice: str, words_per_minute: int) -> None:
    assert_fits_the_sound(espeak.say(SENTENCE, voice, words_per_minute=words_per_minute))


@pytest.mark.parametrize("voice", FLITE_VOICES)
@pytest.mark.parametrize("stretch", [0.7, 1.4])
def test_flite_phones_lie_on_the_sound(flite: FliteSynthesiser, voice: str, stretch: float) -> None:
    assert_fits_the_sound(flite.say(SENTENCE, voice, stretch=stretch))


@pytest.mark.parametrize("voice", ["kal_diphone", "ked_diphone", "cmu_us_slt_arctic_hts"])
@pytest.mark.parametrize("stretch", [0.7, 1.4])
def test_festival_phones_lie_on_the_sound(festival: FestivalSynthesiser, voice: str, stretch: float) -> None:
    try:
        utterance = festival.say(SENTENCE, voice, stretch=stretch)
    except DataError as error:
        pytest.skip(str(error))
    assert_fits_the_sound(utterance)


def test_stretch_lengthens(flite: FliteSynthesiser) -> None:
    lengths = [len(flite.say(SENTENCE, "slt", stretch=s).audio) for s in (0.7, 1.0, 1.4)]
    assert lengths[0] < 0.8 * lengths[1] < lengths[1] < 0.8 * lengths[2]


def test_a_phone_takes_the_columns_whose_middle_it_covers() -> None:
    labels = label_columns([("sil", 0.024), ("p", 0.026), ("aa", 0.046), ("sil", 0.05)], 960)
    assert [PHONEMES[i] for i in labels] == ["sil", "sil", "p", "aa", "aa", "sil"]


def test_a_stop_takes_the_quiet_before_its_burst() -> None:
    noise = np.random.default_rng(0).standard_normal(16000).astype(np.float32) * 0.1
    noise[4800:6400] = 0.0  # 0.3 to 0.4 s
    starts = [("sil", 0.0), ("aa", 0.1), ("t", 0.4), ("s", 0.5), ("k", 0.6), ("aa", 0.7)]
    names, starts_s = zip(*give_closures(starts, noise), strict=True)
    assert names == tuple(name for name, _ in starts)
    assert starts_s == pytest.approx((0.0, 0.1, 0.3, 0.5, 0.6, 0.7), abs=0.006), "only t has a quiet part before it"


def test_the_closure_after_a_pause_is_a_twentieth_of_a_second() -> None:
    _, (name, start_s), _ = give_closures([("sil", 0.0), ("b", 0.3), ("aa", 0.35)], np.zeros(8000, np.float32))
    assert name == "b"
    assert start_s == pytest.approx(0.25)


def test_every_phone_of_every_set_has_a_phoneme() -> None:
    for name, table in PHONE_SETS.items():
        assert set(table.values()) <= set(PHONEMES), name
        assert phoneme_from_phone_set(next(iter(table)), name) == "sil"
    assert phoneme_from_phone_set("a:", "fi") == "aa"
    assert phoneme_from_phone_set("hh", "us") == "hh"
    with pytest.raises(DataError, match=r"'qq'.*'it'"):
        phoneme_from_phone_set("qq", "it")


def test_a_symbol_may_sound_different_in_another_language() -> None:
    assert (phoneme_from_espeak("c", "el"), phoneme_from_espeak("c", "hi"), phoneme_from_espeak("c", "hu")) == (
        "k",
        "ch",
        "t",
    )
    with pytest.raises(DataError, match=r"'☃' \(en\)"):
        phoneme_from_espeak("☃", "en")


def test_every_language_of_the_catalogue_has_words_that_map(espeak: EspeakSynthesiser) -> None:
    for language, (_, accents) in ESPEAK_LANGUAGES.items():
        words = WORDS[language].split()
        assert len(words) >= 60, language
        for start in range(0, len(words), 12):
            spoken = espeak.say(" ".join(words[start : start + 12]), accents[0], words_per_minute=280)
            assert np.mean(spoken.phonemes == INDEX["sil"]) < 0.5, (language, spoken.text)


def test_shares_are_shares() -> None:
    assert sum(UTTERANCE_SHARES.values()) == pytest.approx(1)
    assert sum(share for share, _ in ESPEAK_LANGUAGES.values()) == pytest.approx(1)
    assert not [variant for variant in ESPEAK_VARIANTS if "whisper" in variant], "a whisper has no voicing"


@pytest.mark.slow
def test_held_out_voices_are_never_drawn(few: list[Utterance]) -> None:
    assert HELD_OUT.festival_voice not in FESTIVAL_TRAINING
    assert HELD_OUT.espeak_language not in ESPEAK_LANGUAGES
    drawn = {utterance.voice for utterance in few}
    assert f"festival:{HELD_OUT.festival_voice}" not in drawn
    assert HELD_OUT.espeak_language not in {utterance.language for utterance in few}


@pytest.mark.slow
def test_held_out_utterances_have_both(voices: VoiceSet) -> None:
    spoken = held_out_utterances(4, seed=3)
    assert [utterance.language for utterance in spoken] == ["en", "nl", "en", "nl"]
    assert spoken[0].voice == "festival:ked_diphone"
    again = held_out_utterances(4, seed=3)
    assert [u.text for u in spoken] == [u.text for u in again]
    assert [u.text for u in spoken] != [u.text for u in held_out_utterances(4, seed=4)]


@pytest.mark.nightly
@pytest.mark.slow
def test_the_sample_has_every_phoneme_and_richly_those_that_grid_lacks(sample: list[Utterance]) -> None:
    counts = np.bincount(np.concatenate([u.phonemes for u in sample]), minlength=len(PHONEMES))
    assert not [name for name, count in zip(PHONEMES, counts, strict=True) if not count]
    speech = counts.sum() - counts[INDEX["sil"]]
    for name in ("er", "hh", "ng", "oy", "sh", "uh", "zh"):
        assert counts[INDEX[name]] / speech >= 0.005, name


@pytest.mark.nightly
@pytest.mark.slow
def test_synthesisers_share_the_time(sample: list[Utterance]) -> None:
    seconds = dict.fromkeys(UTTERANCE_SHARES, 0.0)
    for utterance in sample:
        seconds[utterance.voice.partition(":")[0]] += len(utterance.audio) / 16000
    shares = {family: value / sum(seconds.values()) for family, value in seconds.items()}
    assert shares == pytest.approx({"espeak": 0.55, "flite": 0.25, "festival": 0.20}, abs=0.12)
    assert len({utterance.language for utterance in sample}) >= 12


@pytest.mark.slow
def test_the_same_generator_draws_the_same(voices: VoiceSet) -> None:
    first, second = ([random_utterance(voices, rng) for _ in range(6)] for rng in map(np.random.default_rng, (7, 7)))
    for one, other in zip(first, second, strict=True):
        assert (one.text, one.voice) == (other.text, other.voice)
        assert abs(len(one.phonemes) - len(other.phonemes)) <= 5, "espeak's own spread"


@pytest.mark.slow
def test_a_voice_does_not_change_after_others_have_spoken(festival: FestivalSynthesiser, voices: VoiceSet) -> None:
    text = "hyvä sisko istuu sillalla."
    fresh = festival.say(text, "hy_fi_mv_diphone")
    festival.say("dobrý den.", "czech_krb")
    after = festival.say(text, "hy_fi_mv_diphone")
    np.testing.assert_array_equal(after.phonemes, fresh.phonemes)
    np.testing.assert_array_equal(after.audio, fresh.audio)


def test_unknown_voices_are_refused(
    espeak: EspeakSynthesiser, flite: FliteSynthesiser, festival: FestivalSynthesiser
) -> None:
    with pytest.raises(DataError, match=r"'xx-none'"):
        espeak.say("hello", "xx-none")
    with pytest.raises(DataError, match=r"'nobody'.*kal16"):
        flite.say("hello", "nobody")
    with pytest.raises(DataError, match=r"'nobody'.*kal_diphone"):
        festival.say("hello", "nobody")


@pytest.mark.slow
def test_letters_that_a_voice_cannot_read_are_refused(festival: FestivalSynthesiser, voices: VoiceSet) -> None:
    with pytest.raises(DataError, match=r"'я' is not in its alphabet"):
        festival.say("я", "kal_diphone")
    assert festival.say('say "hello" \\ now', "kal_diphone").audio.any(), "quotes do not end the Scheme string"


@pytest.mark.parametrize(
    ("make", "package"), [(FliteSynthesiser, "Debian's flite"), (FestivalSynthesiser, "Debian's festival")]
)
def test_a_missing_program_is_named(make: type, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(DataError, match=package):
        make()
