"""Lists of who drives whom, and the two protocols on small made-up videos."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.errors import DataError, InputError
from model.evaluation.drive_lists import Drive, cross_drives, read_drives, reconstruction_drives, write_drives
from model.evaluation.identity import FaceEmbedder
from model.evaluation.image_metrics import box_masks, mouth_boxes
from model.evaluation.learned_metrics import LearnedMetrics
from model.evaluation.protocols import (
    LIPS,
    MadeVideo,
    MethodScores,
    Scorers,
    cross_scores,
    protocol_table,
    reconstruction_scores,
)
from model.motion.space import load_motion_space
from tests.support.closeness import assert_close
from tests.support.onnx_files import write_flatten_network

SIZE, FRAMES = 96, 3
CLIPS = [f"clip{i:02}" for i in range(12)]
BY_SPEAKER = {clip: f"s{index % 4}" for index, clip in enumerate(CLIPS)}
NO_NETWORKS = Scorers(LearnedMetrics())


def _video(name: str = "a", *, iod_px: float = 24.0, seed: int = 0) -> MadeVideo:
    """A "perfect" one: what was made is what was filmed."""
    face = load_motion_space().template * np.array([1, -1, 1], np.float32) * iod_px
    face[:, :2] += SIZE / 2
    landmarks = np.repeat(face[None], FRAMES, 0).astype(np.float32)
    frames = np.random.default_rng(seed).integers(20, 230, (FRAMES, SIZE, SIZE, 3), dtype=np.uint8)
    return MadeVideo(
        drive=Drive(name, name), made=frames, made_landmarks=landmarks, real=frames, real_landmarks=landmarks
    )


def test_each_clip_drives_itself_or_a_drawn_part_does() -> None:
    assert reconstruction_drives(CLIPS) == [Drive(c, c) for c in CLIPS]
    drawn = reconstruction_drives(CLIPS, count=5, seed=1)
    assert drawn == reconstruction_drives(CLIPS, count=5, seed=1) != reconstruction_drives(CLIPS, count=5, seed=2)
    assert [d.video for d in drawn] == sorted({d.audio for d in drawn}) and len(drawn) == 5


@pytest.mark.parametrize("seed", range(8))
def test_nobody_drives_himself_and_each_sound_is_used_once(seed: int) -> None:
    plain = cross_drives(CLIPS, seed=seed)
    assert [d.video for d in plain] == CLIPS and {d.audio for d in plain} == set(CLIPS)
    assert all(d.audio != d.video for d in plain)
    spoken = cross_drives(CLIPS, BY_SPEAKER, seed=seed)
    assert {d.audio for d in spoken} == set(CLIPS)
    assert all(BY_SPEAKER[d.audio] != BY_SPEAKER[d.video] for d in spoken)
    uneven = {clip: "s0" if index < 6 else f"s{index}" for index, clip in enumerate(CLIPS)}
    assert all(uneven[d.audio] != uneven[d.video] for d in cross_drives(CLIPS, uneven, seed=seed))


def test_the_cross_list_is_drawn_from_its_seed() -> None:
    assert cross_drives(CLIPS, seed=1) == cross_drives(CLIPS, seed=1) != cross_drives(CLIPS, seed=2)
    part = cross_drives(CLIPS, BY_SPEAKER, count=8, seed=3)
    assert len(part) == 8 and {d.audio for d in part} == {d.video for d in part}
    assert part[0].name == f"{part[0].video} by {part[0].audio}" and Drive("a", "a").name == "a"


def test_lists_that_cannot_be_drawn_are_refused() -> None:
    for match, call in {
        "cannot draw 13 of 12": lambda: reconstruction_drives(CLIPS, count=13),
        "'a' is named twice": lambda: reconstruction_drives(["a", "b", "a"]),
        "two clips or more, got 1": lambda: cross_drives(["a"]),
        "'s0' has 7 of 12": lambda: cross_drives(CLIPS, {c: "s0" if i < 7 else c for i, c in enumerate(CLIPS)}),
        "'b' has no speaker": lambda: cross_drives(["a", "b"], {"a": "s1"}),
    }.items():
        with pytest.raises(InputError, match=match):
            call()


def test_list_files_round_trip_and_say_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    drives = cross_drives(CLIPS, seed=0)
    write_drives(path, drives)
    assert path.read_text().splitlines()[0] == f"{drives[0].audio} {drives[0].video}"
    assert read_drives(path) == drives
    path.write_text("id1/x/1.mp4   id2/y/2.mp4\n\nid1/x/1.mp4 id1/x/1.mp4\n")
    assert read_drives(path) == [Drive("id1/x/1.mp4", "id2/y/2.mp4"), Drive("id1/x/1.mp4", "id1/x/1.mp4")]
    for text, match in {
        "a b\nc\n": "line 2: need '<audio> <video>', got 'c'",
        "a b\n\na  b\n": "line 3: 'a  b' stands in line 1 already",
        "\n": "is empty",
    }.items():
        path.write_text(text)
        with pytest.raises(DataError, match=match):
            read_drives(path)
    with pytest.raises(DataError, match="cannot read the list"):
        read_drives(tmp_path / "none.txt")
    with pytest.raises(InputError, match="no white space, got 'a b'"):
        write_drives(path, [Drive("a b", "c")])


def test_truth_against_truth_is_perfect(tmp_path: Path) -> None:
    write_flatten_network(tmp_path / "net.onnx", (1, 3, 112, 112))
    scorers = Scorers(LearnedMetrics(), FaceEmbedder(tmp_path / "net.onnx"))
    mask = np.ones((FRAMES, SIZE, SIZE), bool)
    scores = reconstruction_scores((replace(_video(n), face_mask=mask) for n in "ab"), scorers)
    assert scores.clips == ("a", "b") and not scores.pooled
    best = {f"{kind}_{region}": 100.0 if kind == "psnr" else 1.0 for kind in ("psnr", "ssim") for region in _regions()}
    wanted = {**best, "lmd_mouth": 0.0, "lmd_mouth_iod": 0.0, "identity_cosine": 1.0}
    assert {name: float(values.mean()) for name, values in scores.values.items()} == pytest.approx(wanted)
    assert all(values.shape == (2,) for values in scores.values.values())


def test_damage_outside_the_mouth_leaves_the_mouth_box_alone() -> None:
    video = _video()
    box = box_masks(mouth_boxes(video.real_landmarks[:, list(LIPS)], (SIZE, SIZE)), (SIZE, SIZE))
    wide = np.pad(box, ((0, 0), (6, 6), (6, 6)))  # SSIM's window sees five pixels around
    near = np.any([np.roll(wide, (y, x), (1, 2)) for y in (-5, 0, 5) for x in (-5, 0, 5)], 0)[:, 6:-6, 6:-6]
    made = np.where(near[..., None], video.real, video.real // 2)
    scores = reconstruction_scores([replace(video, made=made)], NO_NETWORKS).values
    assert scores["psnr_mouth"][0] == 100 and scores["ssim_mouth"][0] == pytest.approx(1)
    assert scores["psnr_crop"][0] < 20 and "psnr_face" not in scores


def test_landmark_distance_takes_the_shift_out_and_counts_in_both_units() -> None:
    video = _video()
    moved = video.real_landmarks.copy()
    moved[..., 0] += 7
    scores = reconstruction_scores([replace(video, made_landmarks=moved)], NO_NETWORKS).values
    assert scores["lmd_mouth"][0] == pytest.approx(0, abs=1e-5)
    opened = video.real_landmarks.copy()
    opened[:, list(LIPS), 1] = opened[:, list(LIPS), 1].mean() + 1.5 * (
        opened[:, list(LIPS), 1] - opened[:, list(LIPS), 1].mean()
    )
    scores = reconstruction_scores([replace(video, made_landmarks=opened)], NO_NETWORKS).values
    assert scores["lmd_mouth"][0] > 0.5
    ratio = scores["lmd_mouth"][0] / scores["lmd_mouth_iod"][0]
    assert ratio == pytest.approx(24.0, rel=0.05)  # the template's inter-ocular distance in this picture


def test_cross_generation_forgives_the_size_of_the_other_face() -> None:
    made, speaking = _video(iod_px=24.0), _video(iod_px=36.0)
    video = replace(made, drive=Drive("b", "a"), driving_landmarks=speaking.real_landmarks)
    scores = cross_scores([video], NO_NETWORKS)
    assert scores.clips == ("a by b",)
    assert_close(scores.values["lmd_cross"], [0.0], precision="float32")
    assert "psnr_crop" not in scores.values
    with pytest.raises(InputError, match="a: cross-generation needs the landmarks of the face that spoke"):
        cross_scores([made], NO_NETWORKS)


def test_fid_joins_the_scores_where_there_are_features() -> None:
    class BrightnessFeatures:
        note = "brightness"
        size = 3

        def features(self, frames: np.ndarray) -> np.ndarray:
            return frames.mean((1, 2)) / 255

    learned = LearnedMetrics()
    learned.inception = BrightnessFeatures()  # type: ignore[assignment]
    video = _video()
    brighter = replace(video, made=video.real + np.uint8(20))
    scores = reconstruction_scores([replace(brighter, drive=Drive(n, n)) for n in "ab"], Scorers(learned))
    assert_close(scores.values["fid_per_video"], np.full(2, 3 * (20 / 255) ** 2))
    assert scores.pooled["fid"] == pytest.approx(3 * (20 / 255) ** 2, rel=1e-3)


def test_the_table_says_what_is_absent_and_keeps_rows_apart() -> None:
    video = _video()
    worse = replace(video, made=np.clip(video.real.astype(int) + 30, 0, 255).astype(np.uint8))
    methods = {
        "ours": reconstruction_scores([video], NO_NETWORKS),
        "static": reconstruction_scores([worse], NO_NETWORKS),
    }
    table = protocol_table("GRID", methods, NO_NETWORKS, reference="static")
    assert table.best("psnr_crop") == "ours" and table.reference == "static"
    assert {"fid", "lpips", "identity_cosine"}.isdisjoint(m.name for m in table.metrics)
    assert len(table.notes) == 3 and all("no " in note for note in table.notes)
    other = MethodScores(("b",), {}, {})
    with pytest.raises(InputError, match=r"methods 'ours' and 'other' made other videos \(2 apart: a\)"):
        protocol_table("GRID", {**methods, "other": other}, NO_NETWORKS)


def test_videos_that_do_not_fit_are_refused() -> None:
    video = _video()
    with pytest.raises(InputError, match=r"a: made, real and landmarks need one length .* got 2, 3, 3, 3"):
        replace(video, made=video.made[:2])
    with pytest.raises(InputError, match="no videos to score"):
        reconstruction_scores([], NO_NETWORKS)
    with pytest.raises(InputError, match="frames to compare"):
        reconstruction_scores([replace(video, made=video.made[:, :48])], NO_NETWORKS)


def _regions() -> tuple[str, ...]:
    return ("crop", "face", "mouth")
