"""Features survive storage; damaged samples say so; frames of a stretch are read in passes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from model.data.clip_types import Word
from model.data.features import FEATURES_PART, META_PART, ClipFeatures, from_sample, load_clips, to_sample
from model.data.frame_window import FrameWindow
from model.data.video import read_video
from model.errors import DataError
from model.face.head_pose import HeadPose, Intrinsics
from tests.support.video_files import Sound, even_times, number_of, write_video

FRAMES = 9


def clip(key: str = "one") -> ClipFeatures:
    rng = np.random.default_rng(0)
    eye = np.tile(np.eye(3), (FRAMES, 1, 1))
    pose = HeadPose(
        eye,
        rng.normal(size=(FRAMES, 3)),
        eye,
        rng.normal(size=(FRAMES, 3)),
        rng.random(FRAMES),
        Intrinsics(fx_px=500, fy_px=501, cx_px=144, cy_px=143, estimated=True),
    )
    return ClipFeatures(
        key=key,
        landmarks=rng.uniform(-50, 288, (FRAMES, 478, 3)).astype(np.float32),
        found=np.arange(FRAMES) != 4,
        scores=rng.random((FRAMES, 52)).astype(np.float32),
        pose=pose,
        motion=rng.normal(size=(FRAMES, 32)).astype(np.float32),
        arkit=rng.random((FRAMES, 52)).astype(np.float32),
        mouth_flow=rng.normal(0, 0.02, (FRAMES, 78, 2)).astype(np.float32),
        mouth_flow_confidence=rng.random((FRAMES, 78)).astype(np.float32),
        audio=rng.integers(-32768, 32767, FRAMES * 640).astype(np.int16),
        crop=rng.normal(size=(1, 2, 3)).astype(np.float32),
        meta={"speaker": "s1", "words": [{"text": "bin", "start_frame": 1.5, "end_frame": 3.0}], "notes": ["<é>"]},
    )


def test_a_clip_comes_back_within_its_stored_precision() -> None:
    stored = clip()
    found = from_sample(to_sample(stored))
    np.testing.assert_allclose(found.landmarks, stored.landmarks, atol=0.006)  # 288 px over 64,000 steps
    np.testing.assert_array_equal(found.motion, stored.motion)
    np.testing.assert_array_equal(found.audio, stored.audio)
    np.testing.assert_array_equal(found.found, stored.found)
    np.testing.assert_allclose(found.arkit, stored.arkit, atol=1e-3)
    np.testing.assert_allclose(found.mouth_flow_confidence, stored.mouth_flow_confidence, atol=0.003)
    np.testing.assert_allclose(found.pose.translation, stored.pose.translation, atol=1e-6)
    assert found.pose.intrinsics == stored.pose.intrinsics
    assert found.words == (Word(text="bin", start_frame=1.5, end_frame=3.0),)
    assert found.speaker == "s1" and found.meta["notes"] == ["<é>"]
    assert np.abs(found.sound).max() <= 1.0


def test_equal_clips_give_equal_bytes_and_nothing_is_pickled() -> None:
    parts = to_sample(clip()).parts
    assert parts == to_sample(clip()).parts
    assert all(content[:2] != b"\x80\x04" for content in parts.values())


def test_damage_and_newer_schemas_are_named() -> None:
    sample = to_sample(clip())
    for part, content in (
        (FEATURES_PART, sample.parts[FEATURES_PART][:-100]),
        (META_PART, b"{"),
        (META_PART, json.dumps({"version": 1}).encode()),
    ):
        with pytest.raises(DataError, match="one is damaged"):
            from_sample(dataclasses.replace(sample, parts={**sample.parts, part: content}))
    newer = json.dumps({**json.loads(sample.parts[META_PART]), "version": 99}).encode()
    with pytest.raises(DataError, match="schema 99"):
        from_sample(dataclasses.replace(sample, parts={**sample.parts, META_PART: newer}))


def test_a_folder_without_shards_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nerf-lipsync prepare"):
        load_clips(tmp_path)


@pytest.mark.parametrize("keep_bytes", [0, 2**28])
def test_frames_of_a_stretch(tmp_path: Path, keep_bytes: int) -> None:
    from model.data.video import ReadSettings

    path = tmp_path / "clip.mp4"
    write_video(path, even_times(50, 25), sound=Sound(duration_s=2.0))
    window = FrameWindow(read_video(path, ReadSettings(keep_bytes=keep_bytes)), 10, 30)
    assert len(window) == 20
    assert [number_of(f) for f in window] == list(range(10, 30))
    assert [number_of(window[i]) for i in (0, 5, 5, 19, 3)] == [10, 15, 15, 29, 13]
    assert [number_of(f) for f in window[2:5]] == [12, 13, 14]
    with pytest.raises(IndexError, match="frame 20 of 20"):
        window[20]
