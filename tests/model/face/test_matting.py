"""Mattes against exact ones: a drawn person, and the rendered capture."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from model.face import segmenter as segmenter_module
from model.face.chroma_key import ChromaKey, judge_backdrop
from model.face.face_regions import Label, mouth_interior
from model.face.matting import MattingError, Method, choose_method, matte_clip
from model.face.segmenter import BACKGROUND, CLOTHES, FACE_SKIN, Segmenter, SegmenterError
from tests.support.drawn_person import SIZE_PX, draw_person, lit_backdrop, patterned_backdrop

BLUE, GREEN, GREY = (20, 140, 225), (40, 190, 70), (128, 128, 128)
PERSON = draw_person()


def _clip(backdrop: np.ndarray, frames: int = 2) -> tuple[list[np.ndarray], np.ndarray]:
    return [PERSON.over(backdrop, seed=t) for t in range(frames)], np.repeat(PERSON.landmarks[None], frames, 0)


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("colour", [BLUE, GREEN])
def test_a_plain_backdrop_is_keyed_to_the_exact_alpha(colour: tuple[float, float, float]) -> None:
    frames, landmarks = _clip(lit_backdrop(colour))
    matte = matte_clip(frames, landmarks)
    assert matte.method is Method.KEY
    alpha = matte.alpha[-1] / 255
    edge = (PERSON.alpha > 0.02) & (PERSON.alpha < 0.98)
    assert _iou(alpha > 0.5, PERSON.alpha > 0.5) > 0.99
    assert np.abs(alpha - PERSON.alpha)[edge].mean() < 0.06
    assert np.abs(alpha - PERSON.alpha)[~edge].mean() < 0.003


def test_the_backdrops_colour_is_taken_out_of_the_edge() -> None:
    frames, landmarks = _clip(lit_backdrop(BLUE))
    clean = matte_clip(frames, landmarks).foreground[-1].astype(float)
    edge = (PERSON.alpha > 0.3) & (PERSON.alpha < 0.95)
    spill = np.maximum(frames[-1][edge].astype(float) - PERSON.colour[edge], 0)[:, 2].mean()
    left = np.maximum(clean[edge] - PERSON.colour[edge], 0)[:, 2].mean()
    assert spill > 25  # what there was to take out
    assert left < 0.3 * spill


def test_slow_changes_of_light_are_followed() -> None:
    key = ChromaKey()
    for t, light in enumerate(np.linspace(1.0, 0.55, 40)):
        alpha, _ = key.matte(PERSON.over(lit_backdrop(BLUE, light), seed=t), PERSON.landmarks)
    assert np.abs(alpha - PERSON.alpha).mean() < 0.005


def test_grey_and_patterned_backdrops_are_not_keyed() -> None:
    for backdrop in (lit_backdrop(GREY), patterned_backdrop()):
        frames, landmarks = _clip(backdrop)
        assert not judge_backdrop(frames[0], landmarks[0]).uniform
        assert choose_method(frames, landmarks, Method.AUTO, segmenter=None) is Method.GRAB_CUT
        assert choose_method(frames, landmarks, Method.AUTO, segmenter=Path("x.tflite")) is Method.SEGMENTER


def test_a_face_that_fills_the_picture_leaves_no_backdrop_to_judge() -> None:
    frames, landmarks = _clip(lit_backdrop(BLUE), 1)
    big = cv2.resize(frames[0], None, fx=2.6, fy=2.6)[180:436, 205:461]
    points = landmarks[0] * 2.6 - np.array([205, 180, 0], np.float32)
    assert not judge_backdrop(big, points).uniform


def test_grabcut_finds_the_person_before_a_pattern() -> None:
    frames, landmarks = _clip(patterned_backdrop(), 3)
    matte = matte_clip(frames, landmarks)
    assert matte.method is Method.GRAB_CUT
    assert _iou(matte.alpha[0] > 127, PERSON.alpha > 0.5) > 0.93
    assert _iou(matte.alpha[2] > 127, PERSON.alpha > 0.5) > 0.93


def test_neck_and_hair_are_head_and_the_sweater_is_torso() -> None:
    frames, landmarks = _clip(lit_backdrop(BLUE))
    labels = matte_clip(frames, landmarks).labels[-1]
    assert _iou(labels == Label.HEAD, PERSON.labels == 1) > 0.97
    assert _iou(labels == Label.TORSO, PERSON.labels == 2) > 0.96
    assert not (labels == Label.MOUTH).any()


def test_the_mouth_interior_lies_inside_open_lips() -> None:
    person = draw_person(open_mouth=True)
    inside = mouth_interior(person.landmarks, (SIZE_PX, SIZE_PX))
    area = cv2.contourArea(person.landmarks[list(_inner_lips()), :2])
    np.testing.assert_allclose(inside.sum(), area, rtol=0.15)
    labels = matte_clip([person.over(lit_backdrop(BLUE))], person.landmarks[None]).labels[0]
    np.testing.assert_array_equal(labels == Label.MOUTH, inside > 0)


def _inner_lips() -> tuple[int, ...]:
    from model.motion.face_points import LIPS_INNER

    return LIPS_INNER


def test_wrong_requests_are_named() -> None:
    frames, landmarks = _clip(lit_backdrop(BLUE), 1)
    with pytest.raises(MattingError, match=r"unknown matting method 'magic'.*auto, key, segmenter, grabcut"):
        matte_clip(frames, landmarks, method="magic")
    with pytest.raises(MattingError, match="0 frames and 1 sets"):
        matte_clip([], landmarks)
    for method in ("key", "grabcut"):
        with pytest.raises(MattingError, match="outside the picture of 256 x 256"):
            matte_clip(frames, landmarks + 900, method=method)
    with pytest.raises(MattingError, match="needs the model file"):
        matte_clip(frames, landmarks, method="segmenter")
    with pytest.raises(SegmenterError, match=r"not found: nowhere\.tflite"):
        matte_clip(frames, landmarks, method="segmenter", segmenter=Path("nowhere.tflite"))


def test_a_file_that_is_no_segmenter_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.tflite"
    path.write_bytes(b"not a model")
    with pytest.raises(SegmenterError, match=r"notes\.tflite is not an image segmenter model") as caught:
        Segmenter(path)
    assert "\n" not in str(caught.value)


class _Tool:
    """Stands where MediaPipe's segmenter stands: gives back the confidences it was told."""

    def __init__(self, answers: list[np.ndarray]) -> None:
        self.answers = list(answers)
        self.times: list[int] = []

    def segment_for_video(self, image: Any, time_ms: int) -> Any:
        self.times.append(time_ms)
        masks = [SimpleNamespace(numpy_view=lambda m=m: m) for m in self.answers.pop(0)]
        return SimpleNamespace(confidence_masks=masks)

    def close(self) -> None:
        pass


def _with_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answers: list[np.ndarray]) -> tuple[Path, _Tool]:
    tool = _Tool(answers)
    media = SimpleNamespace(Image=lambda **_: None, ImageFormat=SimpleNamespace(SRGB=1))
    monkeypatch.setattr(segmenter_module, "_open", lambda path: (tool, media))
    path = tmp_path / "model.tflite"
    path.write_bytes(b"")
    return path, tool


def _six_classes() -> np.ndarray:
    """Confidences (6, S, S) of the drawn person as the multiclass model would give them, coarse as its 256 pixels."""
    soft = cv2.blur(PERSON.alpha, (5, 5))
    classes = np.zeros((6, SIZE_PX, SIZE_PX), np.float32)
    classes[BACKGROUND] = 1 - soft
    classes[CLOTHES] = soft * (PERSON.labels == 2)
    classes[FACE_SKIN] = soft * (PERSON.labels != 2)
    return classes


def test_a_multiclass_segmenter_gives_person_and_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path, tool = _with_answers(monkeypatch, tmp_path, [_six_classes()] * 2)
    frames, landmarks = _clip(patterned_backdrop())
    matte = matte_clip(frames, landmarks, segmenter=path)
    assert matte.method is Method.SEGMENTER
    assert _iou(matte.alpha[-1] > 127, PERSON.alpha > 0.5) > 0.97
    assert _iou(matte.labels[-1] == Label.HEAD, PERSON.labels == 1) > 0.95
    assert _iou(matte.labels[-1] == Label.TORSO, PERSON.labels == 2) > 0.93
    assert tool.times == [0, 40]


def test_small_changes_of_a_mask_are_smoothed_and_large_ones_followed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, second = np.full((1, 8, 8, 1), 0.6, np.float32), np.full((1, 8, 8, 1), 0.8, np.float32)
    second[0, :, 4:] = 0.0
    path, _ = _with_answers(monkeypatch, tmp_path, [first, second])
    with Segmenter(path) as tool:
        picture = np.zeros((8, 8, 3), np.uint8)
        tool.classes(picture)
        person, odds = tool.classes(picture)
    np.testing.assert_allclose(person[:, :4], 0.7, atol=1e-6)
    assert (person[:, 4:] == 0).all() and odds is None


def test_a_model_with_other_classes_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path, _ = _with_answers(monkeypatch, tmp_path, [np.zeros((21, 8, 8), np.float32)])
    with pytest.raises(SegmenterError, match="21 classes"):
        Segmenter(path).classes(np.zeros((8, 8, 3), np.uint8))


def test_mattes_of_the_rendered_capture(data_folder: Path) -> None:
    from model.face.landmarks import track_face

    root = data_folder / "capture"
    y, x = np.mgrid[0:320, 0:320] / 320
    backdrop = np.clip((1.15 - 0.45 * np.hypot(x - 0.25, y - 0.1))[..., None] * np.array(BLUE), 0, 255)
    rgba = [cv2.imread(str(root / f"sequence/{i:04d}.webp"), -1)[..., [2, 1, 0, 3]] for i in range(90, 98)]
    masks = np.stack([cv2.imread(str(root / f"mask/sequence/{i:04d}.png"), 0) for i in range(90, 98)])
    alpha = np.stack([p[..., 3] for p in rgba]) / 255
    frames = [
        np.rint(p[..., :3] * a[..., None] + (1 - a[..., None]) * backdrop).astype(np.uint8)
        for p, a in zip(rgba, alpha, strict=True)
    ]
    landmarks = track_face(frames, data_folder / "weights" / "face_landmarker.task").landmarks
    matte = matte_clip(frames, landmarks)
    assert matte.method is Method.KEY
    edge = np.stack([cv2.dilate(((a > 0.02) & (a < 0.98)).astype(np.uint8), np.ones((7, 7))) > 0 for a in alpha])
    assert _iou(matte.alpha > 127, alpha > 0.5) > 0.995
    assert _iou(matte.labels == Label.HEAD, masks == 1) > 0.97
    assert _iou(matte.labels == Label.TORSO, masks == 2) > 0.97
    assert np.abs(matte.alpha / 255 - alpha)[edge].mean() < 0.03
