"""What `evaluate speech` counts: folding, scores, closures, the small regressor, babble and movement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.data.utterance import Utterance
from model.errors import DataError
from model.evaluation.hearing import Heard, hear
from model.evaluation.speech_drive import made_sounds, movement, recorded_sounds, typing_of
from model.evaluation.speech_motion import RegressionClip, RegressorConfig, correlation, fit_regressor, neighbours
from model.evaluation.speech_noise import babble_of, load_talkers
from model.evaluation.speech_scores import bootstrap_spread, closure_hits, count_hits, ratio, runs, score_figures
from model.evaluation.speech_sets import Recording, SpeechSet, by_language, token_labels
from model.evaluation.visemes import (
    CMU_PHONES,
    PHONE_NAMES,
    PHONE_OF,
    VISEME_NAMES,
    VISEME_OF,
    VISEMES,
    fold,
    to_cmu,
    to_viseme,
)
from model.motion.space import load_motion_space
from model.speech.phonemes import BILABIALS, INDEX, PHONEMES, SILENCE_INDEX
from model.speech.speech_model import PHONEME_SLICE, SpeechConfig, SpeechModel
from model.speech.speech_stream import SpeechStream
from model.speech.stream import SpeechFeatures
from model.speech.whisper_encoder import EncoderConfig
from tests.support.closeness import assert_close

EMPTY = np.zeros((0, 256), np.float32)


def test_every_class_folds_to_39_phones_and_12_mouth_shapes() -> None:
    assert len(set(CMU_PHONES)) == 39 and len(VISEMES) == 12
    assert {to_cmu(p) for p in PHONEMES} == {*CMU_PHONES, "sil"}
    assert {to_viseme(p) for p in PHONEMES} == {*VISEMES, "sil"}
    assert sorted(phone for phones in VISEMES.values() for phone in phones.split()) == sorted(CMU_PHONES)
    assert {p for p in PHONEMES if to_viseme(p) == "sil"} == {"sil"}
    assert {p for p in PHONEMES if to_viseme(p) == "PP"} == BILABIALS


def test_folding_adds_probabilities_up() -> None:
    posteriors = np.random.default_rng(0).dirichlet(np.ones(len(PHONEMES)), 7).astype(np.float32)
    phones = fold(posteriors, PHONE_OF)
    assert phones.shape == (7, len(PHONE_NAMES))
    assert_close(phones.sum(1), np.ones(7))
    both = posteriors[:, INDEX["ah"]] + posteriors[:, INDEX["ax"]]
    assert_close(phones[:, PHONE_NAMES.index("ah")], both)
    lips = posteriors[:, [INDEX[p] for p in "pbm"]].sum(1)
    assert_close(fold(posteriors, VISEME_OF)[:, VISEME_NAMES.index("PP")], lips)


def _heard(classes: NDArray[np.int64]) -> Heard:
    return Heard(np.eye(len(PHONEMES), dtype=np.float32)[classes], EMPTY, EMPTY)


def _recording(classes: NDArray[np.int64]) -> Recording:
    return Recording(np.zeros(320 * len(classes), np.float32), np.repeat(classes, 2))


def test_a_perfect_listener_scores_1_and_a_deaf_one_only_silence() -> None:
    classes = np.repeat(np.random.default_rng(1).integers(len(PHONEMES), size=200), 4)  # 80 ms each: even frames
    perfect = count_hits(_heard(classes), _recording(classes))
    assert all(hits == cases > 0 for hits, cases in perfect.values())
    deaf = count_hits(_heard(np.full(800, SILENCE_INDEX)), _recording(classes))
    silent = int((classes == SILENCE_INDEX).sum())
    assert deaf["phone_accuracy"] == (0, 800 - silent)
    assert deaf["phone_accuracy_with_silence"] == (silent, 800)
    assert deaf["bilabial_recall"][0] == 0 and deaf["bilabial_precision"] == (0, 0)


def test_a_shuffled_listener_scores_by_chance() -> None:
    rng = np.random.default_rng(2)
    classes = rng.integers(1, len(PHONEMES), size=6000)
    figures = score_figures("set", [count_hits(_heard(rng.permutation(classes)), _recording(classes))], goals=False)
    share = np.bincount(PHONE_OF[classes]) / len(classes)
    assert figures["set_phone_accuracy"].value == pytest.approx(float((share**2).sum()), abs=0.01)


def test_frames_are_decided_by_the_mean_of_their_tokens() -> None:
    posteriors = np.zeros((2, len(PHONEMES)), np.float32)
    posteriors[0, INDEX["s"]], posteriors[0, INDEX["t"]] = 0.9, 0.1
    posteriors[1, INDEX["s"]], posteriors[1, INDEX["t"]] = 0.4, 0.6
    counts = count_hits(Heard(posteriors, EMPTY, EMPTY), _recording(np.array([INDEX["s"], INDEX["t"]])))
    assert counts["phone_accuracy"] == (2, 2)
    assert counts["phone_accuracy_frames"] == (1, 2)  # s: 0.65


def _flags(pattern: str) -> NDArray[np.bool_]:
    return np.array([c == "x" for c in pattern])


@pytest.mark.parametrize(
    ("wanted", "found", "recall", "event_recall", "event_precision"),
    [
        ("..xxx.....", "..xxx.....", (3, 3), (1, 1), (1, 1)),
        ("..xxx.....", "......x...", (0, 3), (1, 1), (1, 1)),  # 40 ms late: still heard
        ("..xxx.....", ".......x..", (0, 3), (0, 1), (0, 1)),  # 60 ms late: missed, and a false alarm
        ("..xxx....x", "...x......", (1, 4), (1, 2), (1, 1)),
        ("..........", "x....x....", (0, 0), (0, 0), (0, 2)),
        ("xx........", "..........", (0, 2), (0, 1), (0, 0)),
    ],
)
def test_closures_by_token_and_by_event(
    wanted: str, found: str, recall: tuple[int, int], event_recall: tuple[int, int], event_precision: tuple[int, int]
) -> None:
    counts = closure_hits(_flags(found), _flags(wanted))
    assert counts["bilabial_recall"] == recall
    assert counts["bilabial_event_recall"] == event_recall
    assert counts["bilabial_event_precision"] == event_precision


def test_runs_at_the_edges() -> None:
    assert runs(_flags("xx.x.xx")) == [(0, 2), (3, 4), (5, 7)]
    assert runs(_flags("...")) == []


def test_pooled_ratio_weighs_recordings_by_their_cases_and_spread_shrinks_with_agreement() -> None:
    assert ratio(np.array([[1, 1], [0, 9]])) == pytest.approx(0.1)
    assert ratio(np.array([[0, 0]])) == 0.0
    assert bootstrap_spread(np.array([[5, 10]] * 20)) == 0.0
    assert bootstrap_spread(np.array([[0, 10], [10, 10]] * 10)) > 0.1


def test_tokens_take_the_label_of_their_second_column() -> None:
    assert token_labels(np.arange(7), 4).tolist() == [1, 3, 5, -1]


def test_held_out_utterances_are_grouped_by_language() -> None:
    def said(language: str) -> Utterance:
        labels = np.zeros(10, np.int64)
        return Utterance(audio=np.zeros(1600, np.float32), phonemes=labels, voice="v", language=language, text="")

    sets = by_language([said("en"), said("nl"), said("en")])
    assert [(s.name, len(s.recordings)) for s in sets] == [("held_out_en", 2), ("held_out_nl", 1)]
    with pytest.raises(DataError, match="'empty' holds no recordings"):
        SpeechSet("empty", (), refused=3)


@pytest.fixture(scope="module")
def speech() -> SpeechFeatures:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = SpeechModel(SpeechConfig(encoder=EncoderConfig(width=32, num_layers=1, num_heads=2)))
    return SpeechFeatures(model, hop_frames=2, lookahead_frames=2)


def test_what_is_judged_is_what_is_served(speech: SpeechFeatures) -> None:
    rng = np.random.default_rng(3)
    sounds = [(0.1 * rng.standard_normal(n)).astype(np.float32) for n in (640 * 9, 640 * 4 + 100)]
    heard = hear(sounds, speech)
    for sound, one, frames in zip(sounds, heard, (9, 4), strict=True):
        stream = SpeechStream(speech)
        served = torch.cat([stream.push(sound[: frames * 640]), stream.flush()]).numpy()
        assert one.features.shape == (frames, 256) and one.tokens.shape == (2 * frames, len(PHONEMES))
        assert_close(one.features, served, precision="bfloat16")
        assert_close(one.tokens.reshape(frames, 2, -1).mean(1), one.features[:, PHONEME_SLICE], precision="bfloat16")
        assert_close(one.tokens.sum(1), np.ones(2 * frames))
    alone = hear(sounds[:1], speech)[0]
    assert_close(alone.tokens, heard[0].tokens, precision="bfloat16")


def test_mel_rows_are_the_frames_own_columns(speech: SpeechFeatures) -> None:
    sound = np.zeros(640 * 6, np.float32)
    sound[640 * 3 + 320] = 1.0  # a click in frame 3
    mel = hear([sound], speech)[0].mel
    assert mel.shape == (6, 320)
    assert int(mel.max(1).argmax()) == 3


def _clips(rng: np.random.Generator, count: int, lag: int) -> list[RegressionClip]:
    """The target is a fixed mix of channels `lag` frames ago."""
    clips = []
    for _ in range(count):
        frames = rng.standard_normal((80, 6)).astype(np.float32)
        said = np.roll(frames[:, 0] - 2 * frames[:, 3], lag)
        clips.append(RegressionClip(frames, said[:, None]))
    return clips


def test_the_regressor_finds_a_planted_relation_in_its_span_and_none_outside() -> None:
    rng = np.random.default_rng(4)
    config = RegressorConfig(past_frames=3, hidden=32, steps=400, learning_rate=3e-3)
    inside = fit_regressor(_clips(rng, 20, lag=2), config, seed=0)
    assert correlation(inside, _clips(rng, 5, lag=2))[0] > 0.95
    outside = fit_regressor(_clips(rng, 20, lag=6), config, seed=0)
    assert abs(correlation(outside, _clips(rng, 5, lag=6))[0]) < 0.3


def test_equal_seeds_give_equal_regressors() -> None:
    clips = _clips(np.random.default_rng(5), 3, lag=0)
    config = RegressorConfig(past_frames=1, hidden=8, steps=5)
    first, again, other = (fit_regressor(clips, config, seed=s).out.weight for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_neighbours_stay_within_their_clip() -> None:
    near = neighbours([3, 2], RegressorConfig(past_frames=1, ahead_frames=1))
    assert near.tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 2], [3, 3, 4], [3, 4, 4]]


def test_babble_holds_every_talker_equally_loud() -> None:
    time_s = np.arange(16_000) / 16_000
    talkers = [(level * np.sin(2 * np.pi * f * time_s)).astype(np.float32) for level, f in ((0.5, 200), (0.01, 900))]
    babble = babble_of(talkers, 16_000, np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(babble))
    assert spectrum[200] == pytest.approx(spectrum[900], rel=0.02)
    assert float(np.sqrt(np.mean(babble**2))) == pytest.approx(0.05, rel=1e-3)


def test_too_few_talkers_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds 0 speakers"):
        load_talkers(tmp_path)


def test_a_still_mouth_does_not_move_and_a_moving_one_does() -> None:
    space = load_motion_space()
    motion = np.zeros((10, 32), np.float32)
    assert movement(motion, space).velocity == 0.0
    motion[:, 0] = np.arange(10) * 0.4  # 0.4 a frame in one of 16 codes, 25 frames a second
    moved = movement(motion, space)
    assert moved.velocity == pytest.approx(0.4 * 25 / 16, rel=1e-5)
    assert moved.lips > 0


def test_typing_is_sparse_loud_enough_and_repeatable() -> None:
    stroke = np.hanning(800).astype(np.float32)
    typed, again = (typing_of([stroke], np.random.default_rng(6)) for _ in range(2))
    assert np.array_equal(typed, again)
    assert 0.1 < np.abs(typed).max() <= 1.0
    assert 0.1 < np.mean(typed != 0) < 0.9


def test_made_sounds_have_their_levels_and_missing_recordings_are_named(tmp_path: Path) -> None:
    sounds = made_sounds()
    assert not sounds["silence"][0].any()
    assert 20 * np.log10(np.sqrt(np.mean(sounds["silence"][1] ** 2))) == pytest.approx(-60, abs=0.1)
    assert 20 * np.log10(np.sqrt(np.mean(sounds["breath"][0] ** 2))) == pytest.approx(-36, abs=0.1)
    with pytest.raises(DataError, match="no sounds in"):
        recorded_sounds(tmp_path)
