"""Reconstruction on a rendered capture: who moves what, framing as served, scores with known answers, the command."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
import pytest

from model.avatar import load_avatar
from model.data.capture import Capture, CaptureFrames
from model.errors import DataError, InputError
from model.evaluation import reconstruction
from model.evaluation.capture_stage import CaptureClip, CaptureStage, capture_clips
from model.evaluation.mouth_landmarks import mouth_scores
from model.evaluation.reconstruction import row_motions, through_h264, with_eyes
from model.motion.face_points import LIPS_INNER, LOWER_LIP_INNER, UPPER_LIP_INNER
from model.motion.retarget import Retarget
from model.motion.space import GAZE_CODES, LID_CODES, load_motion_space
from model.motion.vae import AUDIO_OWNED
from model.radiance.camera import HeadPose, head_matrix
from model.radiance.serving import AvatarRenderer
from model.results import read_results
from tests.support.closeness import assert_close

SIZE, FRAMES = 64, 3
FRAMES_SPOKEN = 20
POSE = HeadPose(yaw_deg=8.0, pitch_deg=-4.0, roll_deg=3.0)


@pytest.fixture(scope="module")
def stage() -> CaptureStage:
    """The shipped avatar before `FRAMES` frames of its own camera, all in `POSE`; pictures are a grey ramp of alpha."""
    renderer = AvatarRenderer(load_avatar(), size_px=SIZE)
    config = renderer.avatar.config
    alpha = np.linspace(0, 255, SIZE).astype(np.uint8)
    rgba = np.broadcast_to(alpha[:, None], (FRAMES, SIZE, SIZE, 4)).copy()  # premultiplied white
    rotvec = POSE.rotation_vector()
    return CaptureStage(
        renderer,
        CaptureFrames(
            size_px=SIZE,
            rgba=rgba,
            head=rgba[..., 3],
            motion=np.zeros((FRAMES, 32), np.float32),
            rotvec=np.repeat(rotvec[None].astype(np.float32), FRAMES, 0),
            head_to_world=np.repeat(head_matrix(rotvec, config.neck)[None], FRAMES, 0),
            cam_to_world=np.repeat(config.camera.matrix()[None], FRAMES, 0),
            mouth_box=np.zeros((FRAMES, 4), np.float32),
            eye_boxes=np.zeros((FRAMES, 2, 4), np.float32),
            kind=("",) * FRAMES,
            files=("",) * FRAMES,
        ),
    )


def test_the_avatar_stands_as_it_is_served(stage: CaptureStage) -> None:
    """The capture's matrices and the server's yaw, pitch, roll give the same picture."""
    motion = np.zeros((2, 32), np.float32)
    motion[1, 0] = 1.5
    made = stage.made(slice(1, 3), motion)
    assert made.shape == (2, SIZE, SIZE, 3) and made.dtype == np.uint8
    under = stage.renderer.underlay(stage.renderer.background) / 255
    for index in range(2):
        head = stage.renderer.render_head(motion[index], POSE)
        wanted = np.rint((head[..., :3] + (1 - head[..., 3:]) * under).clip(0, 1) * 255)
        assert np.abs(made[index] - wanted).max() <= 1
    assert np.abs(made[0].astype(int) - made[1]).max() > 8  # the mouth moved
    with pytest.raises(InputError, match="motion of 3 frames, got 2"):
        stage.made(slice(0, 3), motion)


def test_real_frames_lie_over_the_avatars_background(stage: CaptureStage) -> None:
    real, head = stage.real(slice(0, 2)), stage.head(slice(0, 2))
    behind = stage.renderer.background.picture(SIZE)
    alpha = stage.frames.rgba[0, :, :, 3:].astype(np.float64) / 255
    assert np.abs(real[1] - (255 * alpha + (1 - alpha) * behind)).max() <= 0.51  # rounding
    assert (head == (stage.frames.head[:2] > 127)).all() and 0.4 < head.mean() < 0.6


def test_sound_owns_mouth_and_brows_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    spoken, eyes = rng.normal(size=(4, 32)).astype(np.float32), rng.normal(size=(6, 32)).astype(np.float32)
    mixed = with_eyes(spoken, eyes)
    assert (mixed[:4, :AUDIO_OWNED] == spoken[:, :AUDIO_OWNED]).all()
    assert (mixed[4:, :AUDIO_OWNED] == 0).all()
    assert (mixed[:, AUDIO_OWNED:] == eyes[:, AUDIO_OWNED:]).all()


def test_each_row_is_moved_by_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """A "sound" here names the level that all codes take."""
    monkeypatch.setattr(
        reconstruction, "motion_of_sound", lambda sound, _: (np.full((FRAMES, 32), sound[0], np.float32), None)
    )
    space = load_motion_space()
    clips = [
        CaptureClip(
            name=name,
            rows=slice(0, FRAMES),
            motion=np.full((FRAMES, 32), 0.01 * index, np.float32),
            sound=np.full(8, 0.02 * index, np.float32),
            spoken=np.zeros(FRAMES, bool),
        )
        for index, name in enumerate("abc", start=1)
    ]
    halved = Retarget(0.5 * np.eye(AUDIO_OWNED, dtype=np.float32))
    rows = row_motions(clips, None, halved, space)  # type: ignore[arg-type]  # the drive is replaced above
    assert list(rows) == ["served", "served, idle eyes", "true motion", "static mouth", "other sound"]
    for index, clip in enumerate(clips, start=1):
        own, after = 0.01 * index, 0.01 * (index % 3 + 1)
        mouths = {"served": own, "served, idle eyes": own, "static mouth": 0.0, "other sound": after}
        for row, level in mouths.items():
            assert_close(rows[row][index - 1][:, :AUDIO_OWNED], np.full((FRAMES, AUDIO_OWNED), level))
        for row in ("served", "static mouth", "other sound"):
            assert (rows[row][index - 1][:, AUDIO_OWNED:] == clip.motion[:, AUDIO_OWNED:]).all()
        assert (rows["true motion"][index - 1] == clip.motion).all()
        idle = rows["served, idle eyes"][index - 1]
        assert (
            not (idle[:, GAZE_CODES] == clip.motion[:, GAZE_CODES]).any() and (idle[:, LID_CODES.stop + 2 :] == 0).all()
        )
    assert "other sound" not in row_motions(clips[:1], None, halved, space)  # type: ignore[arg-type]


def test_a_mouth_that_opens_twice_as_far_is_in_step_but_too_lively() -> None:
    real, words = _talking(1.0), np.ones(FRAMES_SPOKEN, bool)
    assert mouth_scores(real, real, words) == pytest.approx(
        {"lmd_face": 0.0, "lmd_face_iod": 0.0, "opening_r": 1.0, "opening_r_spoken": 1.0, "opening_spread": 1.0}
    )
    lively = mouth_scores(_talking(2.0), real, words)
    assert lively["opening_r"] == pytest.approx(1.0) and lively["opening_spread"] == pytest.approx(2.0, rel=1e-4)
    assert lively["lmd_face"] > 0
    still = mouth_scores(_talking(0.0), real, words)
    assert np.isnan(still["opening_r"]) and still["opening_spread"] == 0
    assert mouth_scores(_talking(-0.5), real, words)["opening_r"] == pytest.approx(-1.0)


def test_a_mouth_held_open_in_silence_does_not_count_among_the_words() -> None:
    real, words = _talking(1.0), np.arange(FRAMES_SPOKEN) >= 10
    made = np.concatenate([_talking(-1.0)[:10], real[10:]])
    scores = mouth_scores(made, real, words)
    assert scores["opening_r_spoken"] == pytest.approx(1.0) and scores["opening_r"] < 0.5
    assert np.isnan(mouth_scores(made, real, words & (np.arange(FRAMES_SPOKEN) < 19))["opening_r_spoken"])


def test_the_codec_keeps_number_order_and_nearly_the_picture() -> None:
    x = np.linspace(0, 1, 64)
    frames = np.stack([np.full((64, 64, 3), 40 * n) + (30 * x[None, :, None]) for n in range(1, 6)]).astype(np.uint8)
    coded = through_h264(frames)
    assert coded.shape == frames.shape and coded.dtype == np.uint8
    error = np.abs(coded.astype(float) - frames).mean((1, 2, 3))
    assert error.max() < 3 and (coded != frames).any()


def test_sequences_without_pictures_or_sound_are_refused(tmp_path: Path, stage: CaptureStage) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(np.full(FRAMES * 640, 1000, np.int16).tobytes())
    entry = {"clip": "a", "first_index": 0, "count": FRAMES, "fps": 25, "audio": "a.wav"}

    def clips(frames: int | None = None, **changed: object) -> tuple[CaptureClip, ...]:
        return capture_clips(Capture(tmp_path, {"sequences": [{**entry, **changed}]}), stage.frames, frames)

    (whole,), (part,) = clips(), clips(2)
    assert whole.name == "a" and whole.rows == slice(0, FRAMES) and whole.sound.shape == (FRAMES * 640,)
    assert not whole.spoken.any()
    words = [{"word": w, "start": a, "end": b} for w, a, b in (("sil", 0, 0.03), ("by", 0.03, 0.07), ("sp", 0.07, 1))]
    assert clips(words=words)[0].spoken.tolist() == [False, True, False]  # middles at 0.02, 0.06, 0.10 s
    assert part.rows == slice(0, 2) and len(part.motion) == 2 and len(part.sound) == len(whole.sound)
    for changed, match in (
        ({"fps": 30}, "at 30 fps"),
        ({"first_index": 1}, "need 3 frames .* got 2 frames"),
        ({"count": 2 * FRAMES}, "got 3 frames .* 0.12 s"),
    ):
        with pytest.raises(DataError, match=match):
            clips(**changed)
    with pytest.raises(DataError, match="has no sequences"):
        capture_clips(Capture(tmp_path, {}), stage.frames)


@pytest.mark.nightly
@pytest.mark.slow
def test_the_command_on_the_real_capture(data_folder: Path, tmp_path: Path) -> None:
    """Ten frames of each sequence: the ceiling beats the controls, and the report's parts are there."""
    from stream_server.cli import main

    out, videos = tmp_path / "r.json", tmp_path / "videos"
    arguments = {
        "--capture": data_folder / "capture",
        "--ict": data_folder / "ict_facekit" / "ict_facekit.npz",
        "--face-landmarker": data_folder / "weights" / "face_landmarker.task",
        "--frames": 10,
        "--videos": videos,
        "--json": out,
    }
    words = [str(word) for pair in arguments.items() for word in pair]
    assert main(["evaluate", "reconstruction", *words]) == 0
    figures = read_results(out).figures
    value = {name: figure.value for name, figure in figures.items()}
    for better, worse, metric, least in (
        ("true_motion", "static_mouth", "psnr_mouth", 5.0),
        ("true_motion", "served", "psnr_mouth", 5.0),
        ("served", "served_idle_eyes", "psnr_face", 0.1),
    ):
        assert value[f"reconstruction.{better}.{metric}"] > value[f"reconstruction.{worse}.{metric}"] + least
    assert value["reconstruction.true_motion.psnr_face"] > 33
    assert figures["reconstruction.served.lmd_mouth"].n == figures["cross.served.lmd_cross"].n == 3
    assert not json.loads(out.read_text())["details"]["videos"]
    named = json.loads((videos / "r.json").read_text())["details"]["videos"]
    assert len(named) == 3 and all((videos / video["file"]).is_file() for video in named)


def _talking(gain: float) -> np.ndarray:
    """(20, 478, 3) landmarks of the space's own face, its inner lips opening and closing by `gain`, px."""
    face = load_motion_space().template * np.array([1, -1, 1], np.float32) * 60 + 128
    landmarks = np.repeat(face[None], FRAMES_SPOKEN, 0).astype(np.float32)
    level = (landmarks[:, UPPER_LIP_INNER, 1] + landmarks[:, LOWER_LIP_INNER, 1]) / 2
    landmarks[:, list(LIPS_INNER), :2] = np.stack([np.full(FRAMES_SPOKEN, 128.0), level], -1)[:, None]
    gap = 6 + 2 * gain * np.sin(np.arange(FRAMES_SPOKEN))
    landmarks[:, UPPER_LIP_INNER, 1] -= gap / 2
    landmarks[:, LOWER_LIP_INNER, 1] += gap / 2
    return landmarks
