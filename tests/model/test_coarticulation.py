"""Motion from phone times: stand-ins, closures, reach, and a training that can be interrupted."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.checkpoint import load_checkpoint
from model.errors import CheckpointKindError, DataError, InputError
from model.evaluation.coarticulation import coarticulation_figures
from model.motion.space import MotionSpace, MotionSpaceError, load_motion_space
from model.speech.phonemes import BILABIALS, INDEX, PHONEMES, SILENCE_INDEX, VOWELS
from model.training import coarticulation
from model.training.coarticulation import (
    CoarticulationTrainConfig,
    LabelledClip,
    load_coarticulation,
    load_labelled,
    train_coarticulation,
)
from model.training.coarticulation_net import (
    COLUMNS_PER_FRAME,
    Coarticulation,
    CoarticulationConfig,
    CoarticulationNet,
    closed_openings,
    closure_weights,
    phone_timing,
)
from model.training.phone_classes import (
    LOOK_ALIKES,
    STAND_INS,
    look_alike_matrix,
    phone_counts,
    split_diphthongs,
    stand_in_matrix,
    unseen_phones,
)
from model.training.run import Run, RunConfig

GRID_UNSEEN = ("sh", "zh", "ng", "hh", "uh", "er", "oy", "ue", "oe", "kh", "nas")
Labels = NDArray[np.int64]


def spoken(text: str) -> Labels:
    """Labels of "name:columns name:columns ..."."""
    parts = [part.split(":") for part in text.split()]
    return np.concatenate([np.full(int(columns), INDEX[name]) for name, columns in parts])


@pytest.fixture(scope="module")
def space() -> MotionSpace:
    return load_motion_space()


@pytest.fixture
def untrained(space: MotionSpace) -> Coarticulation:
    """Random weights, with lips that are open by default and close along a direction that the space calls opening."""
    torch.manual_seed(3)
    net = CoarticulationNet(CoarticulationConfig(width=16, unseen=GRID_UNSEEN))
    direction = np.linalg.pinv(np.atleast_2d(opening_row(space)))[:, 0]
    with torch.no_grad():
        net.closing_codes.copy_(torch.from_numpy(direction))
        net.closed_opening.copy_(torch.tensor([0.004, 0.04]))
        net.out.get_parameter("bias")[:16] = torch.from_numpy(direction) * 0.2
    return Coarticulation(net, space)


def opening_row(space: MotionSpace) -> NDArray[np.float32]:
    codes = np.zeros((16, 32), np.float32)
    codes[:, :16] = np.eye(16)
    return space.lip_opening(codes)


def test_grid_never_says_what_the_table_stands_for() -> None:
    said = [np.array([INDEX[name] for name in PHONEMES if name not in GRID_UNSEEN])]
    assert unseen_phones(said) == GRID_UNSEEN
    matrix = stand_in_matrix(GRID_UNSEEN)
    np.testing.assert_allclose(matrix.sum(1), 1.0, atol=1e-6)
    replaced = [INDEX[name] for name in STAND_INS]
    assert not matrix[:, replaced].any()  # nothing leans on what was never said
    assert matrix[INDEX["p"], INDEX["p"]] == 1.0


def test_where_few_clips_lack_the_stand_in_too_the_nearest_said_phone_takes_its_place() -> None:
    unsaid = {"ng", "g", "m", "b", "oe", "uw", "ao", "eh", "r", "w", "oy"}
    matrix = stand_in_matrix(unsaid)
    for name, other in (("m", "p"), ("b", "p"), ("ng", "k"), ("g", "k")):
        assert matrix[INDEX[name], INDEX[other]] == pytest.approx(1.0 if name in BILABIALS else 0.5)
    assert matrix[INDEX["uw"], [INDEX[name] for name in VOWELS]].sum() == pytest.approx(1.0)
    assert not matrix[INDEX["w"], [INDEX[name] for name in (*BILABIALS, "sil", *VOWELS)]].any()
    said = [i for i, name in enumerate(PHONEMES) if name not in unsaid]
    np.testing.assert_allclose(matrix[[INDEX[n] for n in unsaid - {"oy"}]][:, said].sum(1), 1.0, atol=1e-6)


def test_nothing_else_closes_the_lips() -> None:
    with pytest.raises(DataError, match="no clip holds"):
        stand_in_matrix(BILABIALS)


def test_stand_ins_are_not_used_for_what_was_said() -> None:
    np.testing.assert_array_equal(stand_in_matrix(()), np.eye(len(PHONEMES)))
    labels = spoken("b:6 oy:12")
    np.testing.assert_array_equal(split_diphthongs(labels, ()), labels)


def test_an_unseen_diphthong_is_its_ends_in_time() -> None:
    np.testing.assert_array_equal(split_diphthongs(spoken("b:6 oy:12 s:4"), ("oy",)), spoken("b:6 ao:6 ih:6 s:4"))


def test_look_alikes_never_include_the_unseen_or_another_lip_shape() -> None:
    chances = look_alike_matrix((*GRID_UNSEEN, "ch"))
    np.testing.assert_allclose(chances.sum(1), 1.0, atol=1e-6)
    assert not chances[:, INDEX["ch"]][[i for i in range(len(PHONEMES)) if i != INDEX["ch"]]].any()
    lips = [INDEX[name] for name in BILABIALS]
    others = [i for i in range(len(PHONEMES)) if i not in lips]
    assert not chances[np.ix_(lips, others)].any() and not chances[np.ix_(others, lips)].any()
    assert all(group <= VOWELS or not group & VOWELS or group == {"y", "iy"} for group in LOOK_ALIKES)


def test_phones_are_counted_as_runs() -> None:
    counts = phone_counts([spoken("sil:9 p:3 aa:8 p:4"), spoken("p:2 sil:1")])
    assert (counts["p"], counts["aa"], counts["sil"], counts["m"]) == (3, 1, 2, 0)


def test_timing_counts_from_and_to_the_edges() -> None:
    timing = phone_timing(spoken("sil:20 p:4 sil:20"))
    np.testing.assert_allclose(timing[20:24, 0] * 16, [0.5, 1.5, 2.5, 3.5])
    np.testing.assert_allclose(timing[20:24, 1] * 16, [3.5, 2.5, 1.5, 0.5])
    assert (timing[:20, 0] == 1).all() and (timing[24:, 1] == 1).all()
    np.testing.assert_allclose(timing[::-1, ::-1], timing)


def test_closures_are_shut_early_in_a_stop_and_throughout_an_m() -> None:
    np.testing.assert_array_equal(closure_weights(spoken("aa:8 p:16 aa:8"), BILABIALS), [0, 0, 0.5, 1, 0.5, 0, 0, 0])
    np.testing.assert_array_equal(closure_weights(spoken("aa:8 m:16 aa:8"), BILABIALS), [0, 0, 0.5, 1, 1, 0.5, 0, 0])
    assert not closure_weights(spoken("aa:8 w:16 f:8"), BILABIALS).any()


def test_the_shortest_closure_at_an_end_still_has_its_frame() -> None:
    weights = closure_weights(spoken("b:1 aa:6 p:1"), BILABIALS)
    np.testing.assert_array_equal(weights, [1, 1])


def test_speakers_closures_are_found_a_frame_away() -> None:
    opening = np.array([0.2, 0.2, 0.01, 0.2, 0.2], np.float32)
    assert closed_openings([opening], [spoken("aa:4 b:4 aa:12")], BILABIALS) == pytest.approx([0.01])


def test_lips_meet_for_bilabials_and_come_near_for_labiodentals(untrained: Coarticulation) -> None:
    labels = spoken("aa:12 b:8 aa:12 m:8 eh:12 f:12 iy:12")
    opening = untrained.space.lip_opening(untrained.motion(labels))
    shut, teeth = (closure_weights(labels, names) == 1 for names in (BILABIALS, frozenset({"f"})))
    assert opening[shut].max() < 0.006
    assert opening[teeth].max() == pytest.approx(0.04, abs=0.002)
    assert opening[closure_weights(labels, BILABIALS | {"f"}) == 0].min() > 0.1


def test_closing_never_opens(untrained: Coarticulation) -> None:
    with torch.no_grad():
        untrained.net.out.get_parameter("bias").zero_()
        untrained.net.out.weight.zero_()
    motion = untrained.motion(spoken("aa:12 b:8 f:12"))
    np.testing.assert_array_equal(motion, 0.0)


def test_a_phone_reaches_no_further_than_its_context(untrained: Coarticulation) -> None:
    plain, changed = spoken("sil:160 k:8 sil:160"), spoken("sil:160 s:8 sil:160")
    moved = np.abs(untrained.motion(plain) - untrained.motion(changed)).max(1)
    assert moved[40:42].min() > 1e-4
    assert moved[: 40 - 8].max() < 1e-6 and moved[42 + 8 :].max() < 1e-6


def test_silence_around_is_as_none(untrained: Coarticulation) -> None:
    labels = spoken("sil:40 s:12 aa:16 b:8 iy:12 sil:40")
    alone = untrained.motion(labels)
    padded = untrained.motion(np.pad(labels, (60, 80), constant_values=SILENCE_INDEX))
    np.testing.assert_allclose(padded[15 : 15 + len(alone)], alone, atol=1e-5)


def test_motion_is_mouth_and_brows_of_any_inventory_phone(untrained: Coarticulation) -> None:
    labels = np.repeat(np.arange(len(PHONEMES)), 8)
    motion = untrained.motion(labels.astype(np.uint8))
    assert motion.shape == (len(labels) // 4, 32) and motion.dtype == np.float32
    assert np.isfinite(motion).all() and not motion[:, 20:].any()


@pytest.mark.parametrize("labels", [np.zeros(7, int), np.zeros(0, int), np.zeros((4, 4), int), np.full(8, 45)])
def test_foreign_labels_are_refused(untrained: Coarticulation, labels: Labels) -> None:
    with pytest.raises(InputError, match="label"):
        untrained.motion(labels)


class Recording:
    """Gives a clip's own motion for its phonemes."""

    def __init__(self, clips: list[LabelledClip], space: MotionSpace) -> None:
        self.space = space
        self._motion = {c.phonemes.tobytes(): c.motion for c in clips}

    def motion(self, phonemes: Labels) -> NDArray[np.float32]:
        return self._motion[phonemes.tobytes()]


def made_clips(
    space: MotionSpace, count: int, seed: int, *, without: tuple[str, ...] = GRID_UNSEEN
) -> list[LabelledClip]:
    """Lips that are apart in vowels and nowhere else, smoothed over three frames."""
    rng = np.random.default_rng(seed)
    direction = np.linalg.pinv(np.atleast_2d(opening_row(space)))[:, 0]
    vowels = [INDEX[name] for name in VOWELS]
    names = [INDEX[name] for name in PHONEMES if name not in without]
    clips = []
    for _ in range(count):
        order = rng.permutation(names)
        labels = np.repeat(np.insert(order, len(order) // 2, INDEX["p"]), 8).astype(np.int64)
        open_share = np.isin(labels[::COLUMNS_PER_FRAME], vowels).astype(np.float32)
        opening = np.convolve(open_share * 0.2, np.ones(3) / 3, mode="same")
        motion = np.zeros((len(opening), 32), np.float32)
        motion[:, :16] = opening[:, None] * direction
        clips.append(LabelledClip(motion, labels))
    return clips


def test_figures_of_the_truth_are_perfect(space: MotionSpace) -> None:
    clips = made_clips(space, 2, 5)
    figures = coarticulation_figures(Recording(clips, space), clips)  # type: ignore[arg-type]
    assert figures["opening_r"] == pytest.approx(1.0) and figures["opening_spread"] == pytest.approx(1.0)
    assert figures["closure_f1"] == figures["closure_f1_truth"] > 0.5


@pytest.fixture
def small(space: MotionSpace, monkeypatch: pytest.MonkeyPatch) -> CoarticulationTrainConfig:
    """A minimal training on made clips."""
    splits = {"train": made_clips(space, 12, 1), "val": made_clips(space, 4, 2)}
    monkeypatch.setattr(coarticulation, "load_labelled", lambda folder, _cache: splits[folder.name])
    run = RunConfig(steps=6, batch=4, learning_rate=4e-3, warmup_steps=3, ema_decay=0.9, save_every=2)
    return CoarticulationTrainConfig(run=run, model=CoarticulationConfig(width=24, dropout=0.1), window_frames=32)


def test_training_learns_which_phones_open_the_lips(small: CoarticulationTrainConfig, tmp_path: Path) -> None:
    out = tmp_path / "coarticulation.safetensors"
    longer = replace(small, run=replace(small.run, steps=50, batch=6, save_every=50))
    train_coarticulation(Path("made"), out, longer, tmp_path / "run", figures=coarticulation_figures)
    final = json.loads((tmp_path / "run" / "curve.jsonl").read_text().splitlines()[-1])
    assert final["opening_r"] > 0.7 and final["closure_f1"] > 0.9
    assert final["said_sh"] == 0 and final["said_p"] >= 12
    model = load_coarticulation(out)
    assert model.unseen == GRID_UNSEEN
    opening = model.space.lip_opening(model.motion(spoken("sil:40 aa:16 b:12 oe:16 sil:40")))
    assert opening[11:13].mean() > opening[15:17].mean() + 0.05
    assert opening[18:21].mean() > opening[15:17].mean() + 0.05  # a vowel never said opens as its stand-ins do


def test_an_interrupted_training_ends_as_an_unbroken_one(
    small: CoarticulationTrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_coarticulation(Path("made"), tmp_path / "a.safetensors", small, tmp_path / "a")
    update = Run.update

    def update_until_four(run: Run, loss: Tensor) -> None:
        if run.step == 4:
            raise KeyboardInterrupt
        update(run, loss)

    monkeypatch.setattr(Run, "update", update_until_four)
    with pytest.raises(KeyboardInterrupt):
        train_coarticulation(Path("made"), tmp_path / "b.safetensors", small, tmp_path / "b")
    monkeypatch.setattr(Run, "update", update)
    assert train_coarticulation(Path("made"), tmp_path / "b.safetensors", small, tmp_path / "b") == whole


def test_weights_of_another_space_or_kind_are_refused(
    small: CoarticulationTrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, space: MotionSpace
) -> None:
    out = tmp_path / "coarticulation.safetensors"
    train_coarticulation(Path("made"), out, small, tmp_path / "run")
    with pytest.raises(CheckpointKindError):
        load_checkpoint(out, kind="motion", config_cls=CoarticulationConfig)
    other = SimpleNamespace(hash="0" * 16)
    monkeypatch.setattr("model.training.coarticulation_net.load_motion_space", lambda: other)
    with pytest.raises(MotionSpaceError, match="train coarticulation"):
        load_coarticulation(out)


def test_a_window_longer_than_a_clip_is_refused(small: CoarticulationTrainConfig, tmp_path: Path) -> None:
    config = replace(small, window_frames=500)
    with pytest.raises(DataError, match="70 frames"):
        train_coarticulation(Path("made"), tmp_path / "c.safetensors", config, tmp_path / "run")


def test_a_speaker_who_says_no_f_or_v_is_learned_all_the_same(
    small: CoarticulationTrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, space: MotionSpace
) -> None:
    clips = made_clips(space, 4, 3, without=(*GRID_UNSEEN, "f", "v"))
    monkeypatch.setattr(coarticulation, "load_labelled", lambda *_: clips)
    train_coarticulation(Path("made"), tmp_path / "coarticulation.safetensors", small, tmp_path / "run")
    model = load_coarticulation(tmp_path / "coarticulation.safetensors")
    widest = max(float(space.lip_opening(c.motion).max()) for c in clips)
    assert model.net.closed_opening.tolist() == pytest.approx([0.0, widest], abs=1e-5)
    assert np.isfinite(model.motion(spoken("aa:8 f:8 v:8"))).all()


def test_alignments_are_made_once_and_again_for_other_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aligned: list[str] = []
    motion = {name: np.zeros((5, 32), np.float32) for name in ("one", "two", "three")}
    known = ["one", "two"]

    def label(clip: SimpleNamespace, _aligner: object) -> Labels:
        aligned.append(clip.key)
        return np.full(20, len(clip.key), np.int64)

    clips = {name: SimpleNamespace(key=name, motion=motion[name]) for name in motion}
    monkeypatch.setattr(coarticulation, "load_clips", lambda _: [clips[name] for name in known])
    monkeypatch.setattr(coarticulation, "load_motion", lambda _: {name: motion[name] for name in known})
    monkeypatch.setattr(coarticulation, "ForcedAligner", lambda: None)
    monkeypatch.setattr(coarticulation, "clip_labels", label)
    first, second = (load_labelled(tmp_path / "train", tmp_path) for _ in range(2))
    assert aligned == ["one", "two"]
    assert all((a.phonemes == b.phonemes).all() for a, b in zip(first, second, strict=True))
    known.append("three")
    assert [int(c.phonemes[0]) for c in load_labelled(tmp_path / "train", tmp_path)] == [3, 3, 5]
    assert all(a != b for a, b in pairwise(aligned))
