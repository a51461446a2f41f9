"""The whole analysis of a clip, on GRID video as it is and as people would spoil it: features, or one clear line."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from model.data.clip_analysis import AnalysisSettings, analyse_clip
from model.data.clip_head import read_head
from model.data.clip_types import ClipOutcome, ClipSource, Note, Problem
from model.data.features import FEATURES_PART, ClipFeatures, from_sample, load_clips
from model.data.grid import list_grid
from model.data.preparing.records import ShardRecord, read_record
from model.errors import DataError
from model.evaluation.faces import rotation_errors_deg, still_jitter_deg
from model.evaluation.faces_video import raw_lip_opening
from model.face.head_shape import load_head_shape
from model.motion.space import load_motion_space
from stream_server.cli import EXIT_BAD_INPUT, main
from tests.support.video_files import Picture, Sound, even_times, write_video

pytestmark = pytest.mark.slow

Frames = list[NDArray[np.uint8]]
FACE_PX = 288


@pytest.fixture(scope="module")
def settings(data_folder: Path) -> AnalysisSettings:
    return AnalysisSettings(face_landmarker=data_folder / "weights" / "face_landmarker.task")


@pytest.fixture(scope="module")
def no_sync(data_folder: Path) -> AnalysisSettings:
    """For clips whose sound is clicks."""
    task = data_folder / "weights" / "face_landmarker.task"
    return AnalysisSettings(face_landmarker=task, check_sync=False, with_flow=False)


@pytest.fixture(scope="module")
def source(data_folder: Path) -> ClipSource:
    return next(c for c in list_grid(data_folder / "grid_s1" / "val") if c.key == "bbal8p")


@pytest.fixture(scope="module")
def outcome(source: ClipSource, settings: AnalysisSettings) -> ClipOutcome:
    return analyse_clip(source, settings)


@pytest.fixture(scope="module")
def frames(source: ClipSource) -> Frames:
    with av.open(str(source.video)) as container:
        return [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]


def clip_of(outcome: ClipOutcome) -> ClipFeatures:
    assert outcome.problem is None, outcome.message
    return from_sample(outcome.samples[0])


def film(
    path: Path, show: Callable[[int], NDArray[np.uint8]], *, fps: float = 25, picture: Picture | None = None, **rest
) -> ClipSource:
    """A clip whose picture at frame k is `show(k)`."""
    first = show(0)
    stored = picture or Picture(width=first.shape[1], height=first.shape[0])
    seconds = rest.pop("seconds", 2.0)
    sound = rest.pop("sound", Sound(duration_s=seconds))
    write_video(
        path,
        rest.pop("times", even_times(round(seconds * fps), fps)),
        picture=stored,
        sound=sound,
        draw=lambda number, _: VideoFrame.from_ndarray(np.ascontiguousarray(show(number)), format="rgb24"),
    )
    return ClipSource(key=path.stem, video=path)


def test_a_good_clip_gives_all_features(outcome: ClipOutcome) -> None:
    clip = clip_of(outcome)
    assert clip.landmarks.shape == (75, 478, 3) and clip.found.all()
    assert clip.motion.shape == (75, 32) and clip.arkit.shape == (75, 52)
    assert clip.mouth_flow.shape == (75, 78, 2) and clip.mouth_flow_confidence[1:].mean() > 0.8
    assert len(clip.audio) == 75 * 640
    assert [w.text for w in clip.words if w.text not in {"sil", "sp"}] == "bin blue at l eight please".split()
    assert abs(outcome.row["sync_offset_frames"]) <= 1
    assert outcome.thumbnail.startswith(b"\xff\xd8")


def test_motion_keeps_the_lip_opening_and_the_head_does_not_tremble(outcome: ClipOutcome) -> None:
    clip = clip_of(outcome)
    opening = load_motion_space().lip_opening(clip.motion)
    assert np.corrcoef(opening, raw_lip_opening(clip.landmarks))[0, 1] >= 0.98
    assert still_jitter_deg(clip.pose.rotation) < 0.15


def test_what_is_stored_is_what_was_measured(outcome: ClipOutcome) -> None:
    clip = clip_of(outcome)
    again = load_motion_space()
    points = clip.points(load_head_shape())
    assert points.shape == (75, 478, 3)
    assert np.abs(again.lip_opening(clip.motion)).max() < 0.5
    assert json.loads(outcome.samples[0].parts["meta.json"])["head_shape"] == load_head_shape().hash


@pytest.mark.nightly
def test_the_same_clip_gives_the_same_bytes(
    source: ClipSource, settings: AnalysisSettings, outcome: ClipOutcome
) -> None:
    again = analyse_clip(source, settings)
    assert again.samples[0].parts[FEATURES_PART] == outcome.samples[0].parts[FEATURES_PART]
    assert again == outcome


@pytest.mark.parametrize(
    ("late_frames", "problem"), [(3, None), pytest.param(9, Problem.OUT_OF_SYNC, marks=pytest.mark.nightly)]
)
def test_late_sound_is_moved_back_or_refused(
    source: ClipSource,
    settings: AnalysisSettings,
    tmp_path: Path,
    frames: Frames,
    late_frames: int,
    problem: Problem | None,
) -> None:
    path = tmp_path / f"late{late_frames}.mkv"
    with av.open(str(source.video)) as read, av.open(str(path), "w") as written:
        video = written.add_stream("libx264", rate=25, options={"qp": "18"})
        video.width, video.height, video.pix_fmt = FACE_PX, FACE_PX, "yuv420p"
        sound = written.add_stream("pcm_s16le", rate=16000, layout="mono")
        for image in frames:
            written.mux(video.encode(VideoFrame.from_ndarray(image, format="rgb24")))
        written.mux(video.encode(None))
        resampler = av.AudioResampler("s16", "mono", 16000)
        silence = np.zeros((1, late_frames * 640), np.int16)
        parts = [silence] + [f.to_ndarray() for a in read.decode(audio=0) for f in resampler.resample(a)]
        samples = np.ascontiguousarray(np.concatenate(parts, 1)[:, : 75 * 640])
        block = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        block.sample_rate, block.pts, block.time_base = 16000, 0, Fraction(1, 16000)
        written.mux(sound.encode(block))
        written.mux(sound.encode(None))
    found = analyse_clip(ClipSource(key="late", video=path), settings)
    assert found.problem == problem, found.message
    if problem is None:
        assert any(note.startswith(Note.SHIFTED) for note in found.notes)
        assert abs(found.row["sync_offset_frames"] - late_frames) <= 1
    else:
        assert "+3" in found.message and "ms off the lips" in found.message


@pytest.mark.nightly
def test_no_face(no_sync: AnalysisSettings, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (50, 240, 320, 3), np.uint8)
    found = analyse_clip(film(tmp_path / "noise.mp4", lambda k: noise[k]), no_sync)
    assert found.problem == Problem.NO_FACE and "no face in 50 frames" in found.message


@pytest.mark.nightly
def test_two_faces(no_sync: AnalysisSettings, tmp_path: Path, frames: Frames) -> None:
    found = analyse_clip(
        film(tmp_path / "two.mp4", lambda k: np.concatenate([frames[k], frames[(k + 30) % 75][:, ::-1]], 1)), no_sync
    )
    assert found.problem == Problem.TWO_FACES and "film one person alone" in found.message


def test_a_face_in_the_background_does_no_harm(no_sync: AnalysisSettings, tmp_path: Path, frames: Frames) -> None:
    def show(k: int) -> NDArray[np.uint8]:
        wide = np.full((FACE_PX, 384, 3), 90, np.uint8)
        wide[:, :FACE_PX] = frames[k]
        wide[20:92, 300:372] = frames[0][::4, ::4]
        return wide

    clip_of(analyse_clip(film(tmp_path / "poster.mp4", show), no_sync))


def test_too_small_a_face(no_sync: AnalysisSettings, tmp_path: Path, frames: Frames) -> None:
    def show(k: int) -> NDArray[np.uint8]:
        wide = np.full((240, 320, 3), 90, np.uint8)
        wide[60:156, 100:196] = frames[k][::3, ::3]
        return wide

    found = analyse_clip(film(tmp_path / "far.mp4", show), no_sync)
    assert found.problem in {Problem.FACE_TOO_SMALL, Problem.NO_FACE}
    assert "pixels between the eyes" in found.message or "no face" in found.message


def test_profile(data_folder: Path, tmp_path: Path, no_sync: AnalysisSettings) -> None:
    """The capture turns to 25 degrees at most, so the limit is set below that."""
    import dataclasses

    import cv2

    entries = json.loads((data_folder / "capture" / "capture.json").read_text())["frames"]
    turned = [f for f in entries if f["split"] == "train" and f["yaw_pitch_roll_deg"][0] > 20][:10]
    pictures = []
    for entry in turned:
        rgba = cv2.imread(str(data_folder / "capture" / entry["file"]), cv2.IMREAD_UNCHANGED)
        alpha = rgba[..., 3:] / 255.0
        pictures.append((rgba[..., 2::-1] * alpha + 128 * (1 - alpha)).astype(np.uint8))
    clip = film(tmp_path / "side.mp4", lambda k: pictures[min(k // 5, 9)])
    found = analyse_clip(clip, dataclasses.replace(no_sync, max_yaw_deg=15.0))
    assert found.problem == Problem.PROFILE and "face the camera" in found.message


def test_a_face_that_goes_away_splits_the_clip(no_sync: AnalysisSettings, tmp_path: Path, frames: Frames) -> None:
    empty = np.full_like(frames[0], 100)
    found = analyse_clip(
        film(tmp_path / "away.mp4", lambda k: empty if 32 <= k < 45 else frames[k], seconds=3.0), no_sync
    )
    assert found.problem is None, found.message
    assert [s.key for s in found.samples] == ["away_00", "away_01"]
    lengths = [len(from_sample(s).landmarks) for s in found.samples]
    assert lengths[0] == pytest.approx(32, abs=2) and lengths[1] == pytest.approx(30, abs=2)
    assert any(note.startswith(Note.SPLIT) for note in found.notes)
    gone = analyse_clip(film(tmp_path / "gone.mp4", lambda k: frames[k] if k % 20 < 10 else empty), no_sync)
    assert gone.problem == Problem.FACE_LOST and "keep it in the picture" in gone.message


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("name", "note"),
    [("turned", Note.ROTATED), ("uneven", Note.VARIABLE_FRAME_RATE), ("long_sound", Note.AUDIO_LONGER)],
)
def test_odd_videos_are_used_with_a_note(
    no_sync: AnalysisSettings, tmp_path: Path, frames: Frames, name: str, note: Note
) -> None:
    path = tmp_path / f"{name}.mp4"
    if name == "turned":  # a phone held upright: stored lying, with a display matrix
        picture = Picture(width=FACE_PX, height=FACE_PX, turn_deg=90)
        clip = film(path, lambda k: np.rot90(frames[k], -1), picture=picture)
    elif name == "uneven":
        times = np.cumsum(np.where(np.arange(48) % 3 == 0, 0.06, 0.03)).tolist()
        clip = film(path, lambda k: frames[k], times=times, sound=Sound(duration_s=1.9))
    else:
        clip = film(path, lambda k: frames[k], sound=Sound(duration_s=4.0))
    found = analyse_clip(clip, no_sync)
    assert abs(clip_of(found).pose.angles_deg[:, 2]).max() < 15
    assert any(n.startswith(note) for n in found.notes), found.notes


def spoil(folder: Path, good: Path, frames: Frames) -> tuple[dict[str, Problem], dict[str, Note]]:
    """A clip of every kind that people bring: what becomes of each by its name."""
    folder.mkdir()
    (folder / "good.mp4").write_bytes(good.read_bytes())
    (folder / "truncated.mp4").write_bytes(good.read_bytes()[:20_000])
    (folder / "zero.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("not a video at all, " * 50)
    noise = np.random.default_rng(0).integers(0, 255, (50, 240, 320, 3), np.uint8)
    film(folder / "nobody.mp4", lambda k: noise[k])
    film(folder / "two.mp4", lambda k: np.concatenate([frames[k], frames[(k + 30) % 75][:, ::-1]], 1))
    film(folder / "slow.mp4", lambda k: frames[5 * k], fps=5, seconds=3.0)
    film(folder / "silent.mp4", lambda k: frames[k], sound=None)
    film(folder / "long_sound.mp4", lambda k: frames[k], sound=Sound(duration_s=4.0))
    turned = Picture(width=FACE_PX, height=FACE_PX, turn_deg=90)
    film(folder / "phone.mp4", lambda k: np.rot90(frames[k], -1), picture=turned)
    times = np.cumsum(np.where(np.arange(48) % 3 == 0, 0.06, 0.03)).tolist()
    film(folder / "uneven.mp4", lambda k: frames[k], times=times, sound=Sound(duration_s=1.9))
    options = (("x265-params", "log-level=none"), ("preset", "ultrafast"))
    hdr = Picture(
        width=FACE_PX, height=FACE_PX, codec="libx265", pix_fmt="yuv420p10le", options=options,
        matrix=9, primaries=9, transfer=16,
    )  # fmt: skip
    film(folder / "hdr.mp4", lambda k: (frames[k] * 0.55).astype(np.uint8), picture=hdr)
    return (
        {
            "truncated": Problem.TRUNCATED,
            "zero": Problem.ZERO_BYTES,
            "text": Problem.NOT_A_VIDEO,
            "nobody": Problem.NO_FACE,
            "two": Problem.TWO_FACES,
            "slow": Problem.LOW_FRAME_RATE,
            "silent": Problem.NO_AUDIO,
        },
        {
            "long_sound": Note.AUDIO_LONGER,
            "phone": Note.ROTATED,
            "uneven": Note.VARIABLE_FRAME_RATE,
            "hdr": Note.HIGH_DYNAMIC_RANGE,
        },
    )


def test_prepare_says_one_line_for_each_bad_clip(
    data_folder: Path, source: ClipSource, frames: Frames, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "clips", tmp_path / "out"
    refused, noted = spoil(folder, source.video, frames)
    task = ["--face-landmarker", str(data_folder / "weights" / "face_landmarker.task"), "--no-sync"]
    assert main(["prepare", "video", str(folder), "--out", str(out), *task]) == 0
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("left out:")]
    assert {line.split(": ")[1]: line.split(": ")[2] for line in said} == refused
    assert len(said) == len(refused) and not [line for line in said if str(tmp_path) in line]
    assert [c.key for c in load_clips(out)] == sorted(["good", *noted])
    rows = {clip.key: clip for clip in read_record(ShardRecord, out / "shard-000000.json").clips}
    for key, note in noted.items():
        assert any(n.startswith(note) for n in rows[key].notes), (key, rows[key].notes)
    report = (out / "report.html").read_text()
    for key in refused:
        assert key in report and html.escape(rows[key].message) in report


def test_a_folder_of_bad_clips_is_an_error(
    data_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    task = str(data_folder / "weights" / "face_landmarker.task")
    arguments = ["prepare", "video", str(tmp_path), "--out", str(tmp_path / "none"), "--face-landmarker", task]
    assert main(arguments) == EXIT_BAD_INPUT
    assert "holds 0 bytes" in capfd.readouterr().err.splitlines()[-1]


def test_pictures_are_crops_with_their_mattes(source: ClipSource, no_sync: AnalysisSettings) -> None:
    import dataclasses
    import io

    parts = analyse_clip(source, dataclasses.replace(no_sync, with_pictures=True)).samples[0].parts

    def read(part: str, pixels: str) -> NDArray[np.uint8]:
        with av.open(io.BytesIO(parts[part])) as container:
            return np.stack([f.to_ndarray(format=pixels) for f in container.decode(video=0)])

    crop, alpha, labels = read("crop.mp4", "rgb24"), read("alpha.mkv", "gray"), read("labels.mkv", "gray")
    assert crop.shape == (75, 256, 256, 3) and alpha.shape == labels.shape == (75, 256, 256)
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    assert ((alpha > 127) == (labels > 0)).mean() > 0.99
    assert 0.25 < (labels == 1).mean() < 0.6
    backdrop = crop[labels == 0].mean(0)
    assert backdrop[2] > backdrop[0] + 50  # GRID's blue


@pytest.mark.nightly
def test_a_head_model_is_fitted_on_request(
    source: ClipSource, no_sync: AnalysisSettings, data_folder: Path, tmp_path: Path, outcome: ClipOutcome
) -> None:
    import dataclasses

    ict = str(data_folder / "ict_facekit" / "ict_facekit.npz")
    assert main(["head-model", "--ict", ict, "--out", str(tmp_path)]) == 0
    sample = analyse_clip(source, dataclasses.replace(no_sync, head_model=tmp_path)).samples[0]
    fit, clip = read_head(sample), clip_of(outcome)
    assert fit.expression.shape[0] == fit.jaw_pose.shape[0] == 75
    assert fit.reprojection_px.mean() < 0.04 * np.ptp(clip.landmarks[0, :, 0])
    opening = load_motion_space().lip_opening(clip.motion)
    assert np.corrcoef(fit.jaw_pose[:, 0], opening)[0, 1] > 0.6
    assert rotation_errors_deg(fit.rotation, clip.pose.rotation).mean() < 8
    with pytest.raises(DataError, match="--head-model"):
        read_head(outcome.samples[0])


@pytest.mark.parametrize("layout", [pytest.param("voxceleb2", marks=pytest.mark.nightly), "lrw"])
def test_the_fields_own_layouts_are_prepared(
    data_folder: Path, source: ClipSource, frames: Frames, tmp_path: Path, layout: str
) -> None:
    root, out = tmp_path / "set", tmp_path / "out"
    if layout == "voxceleb2":
        place = root / "test" / "mp4" / "id00001" / "AbC-_dEf012"
        place.mkdir(parents=True)
        (place / "00001.mp4").write_bytes(source.video.read_bytes())
        (tmp_path / "list.txt").write_text("id00001/AbC-_dEf012/00001\n")
        more = ["--split", "test", "--list", str(tmp_path / "list.txt"), "--sample", "1"]
    else:
        place = root / "ABOUT" / "test"
        place.mkdir(parents=True)
        film(place / "ABOUT_00001.mp4", lambda k: frames[k + 20], seconds=29 / 25)
        (place / "ABOUT_00001.txt").write_text("Duration: 0.40 seconds\n")
        more = ["--no-sync"]
    task = str(data_folder / "weights" / "face_landmarker.task")
    assert main(["prepare", layout, str(root), "--out", str(out), "--face-landmarker", task, "--offline", *more]) == 0
    (clip,) = load_clips(out)
    assert clip.meta["split"] == "test"
    if layout == "voxceleb2":
        assert clip.speaker == "id00001" and len(clip.motion) == 75
    else:
        assert len(clip.motion) == 29 and [w.text.lower() for w in clip.words] == ["about"]


def test_a_clip_that_cannot_be_cut_out_says_so(
    source: ClipSource, no_sync: AnalysisSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    from model.data import clip_analysis
    from model.face.matting import MattingError

    def refuse(*_: object) -> dict[str, bytes]:
        raise MattingError("the landmarks lie outside the picture")

    monkeypatch.setattr(clip_analysis, "clip_pictures", refuse)
    found = analyse_clip(source, dataclasses.replace(no_sync, with_pictures=True))
    assert found.problem == Problem.NO_MATTE and found.message.startswith("bbal8p.mp4: the landmarks")
