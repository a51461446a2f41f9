"""Mouth flow of pictures that were moved by a known field."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from model.face.optical_flow import FlowError, MouthFlow, flow_agreement, mouth_flow
from model.face.pose_free import align_to_template, head_alignment, image_to_head_axes
from model.face.raft_flow import RaftFlow
from model.motion.face_points import LOWER_LIP_INNER, MOUTH, UPPER_LIP_INNER
from model.motion.space import load_motion_space
from tests.support.closeness import assert_close

TEMPLATE = load_motion_space().template
IOD_PX, SIZE_PX = 60.0, 320
MIDDLE = np.array([160.0, 130.0], np.float32)

Map = Callable[[np.ndarray], np.ndarray]  # points (..., 2) of the moved picture to the first one's


def _texture() -> np.ndarray:
    noise = np.random.default_rng(0).uniform(0, 255, (SIZE_PX, SIZE_PX, 3)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 2.0)
    return np.clip((soft - soft.mean()) * 5 + 128, 0, 255)


def _moved(picture: np.ndarray, back: Map) -> np.ndarray:
    y, x = np.mgrid[0:SIZE_PX, 0:SIZE_PX].astype(np.float32) + 0.5
    source = back(np.stack([x, y], -1)).astype(np.float32) - 0.5
    sampled = cv2.remap(picture, source[..., 0], source[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return np.clip(np.rint(sampled), 0, 255).astype(np.uint8)


def _face(template: np.ndarray = TEMPLATE) -> np.ndarray:
    """The template in a picture, (478, 3) pixels."""
    points = template * np.array([1, -1, -1], np.float32) * IOD_PX
    points[:, :2] += MIDDLE
    return points.astype(np.float32)


def _bump(amount: tuple[float, float]) -> tuple[Map, np.ndarray]:
    """A smooth push of the mouth; the map back, and the displacement (78, 2) of the mouth landmarks in pixels."""
    face = _face()
    middle, spread = face[13, :2], 25.0

    def field(points: np.ndarray) -> np.ndarray:
        share = np.exp(-((points - middle) ** 2).sum(-1, keepdims=True) / (2 * spread**2))
        return share * np.array(amount)

    def back(points: np.ndarray) -> np.ndarray:
        source = points
        for _ in range(10):  # invert p + field(p)
            source = points - field(source)
        return source

    return back, field(face[list(MOUTH), :2])


@pytest.mark.parametrize("amount", [(0.0, 0.0), (1.7, -0.6), (-0.4, 3.3)])
def test_a_known_sub_pixel_push_is_measured(amount: tuple[float, float]) -> None:
    back, pixels = _bump(amount)
    picture = _texture()
    frames = [picture.astype(np.uint8), _moved(picture, back)]
    flow = mouth_flow(frames, np.stack([_face()] * 2))
    wanted = pixels * [1, -1] / IOD_PX
    error = np.linalg.norm(flow.displacement[1] - wanted, axis=1) * IOD_PX
    assert error.max() < 0.1 + 0.08 * np.linalg.norm(amount)  # flow is smooth: it rounds the top of the push
    assert np.median(error) < 0.1
    assert (flow.displacement[0] == 0).all() and (flow.confidence[0] == 0).all()
    assert flow.confidence[1].min() > 0.8


def test_a_head_that_moves_rigidly_in_the_plane_has_no_flow() -> None:
    picture, face, frames, tracks = _texture(), _face(), [], []
    for t in range(4):
        angle, scale, shift = np.deg2rad(2.5 * t), 1.02**t, np.array([3.3, -2.1]) * t
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        inverse = np.linalg.inv(turn)
        frames.append(_moved(picture, lambda p, i=inverse, s=shift: (p - MIDDLE - s) @ i.T + MIDDLE))
        points = face * scale
        points[:, :2] = (face[:, :2] - MIDDLE) @ turn.T + MIDDLE + shift
        tracks.append(points)
    flow = mouth_flow(frames, np.stack(tracks).astype(np.float32))
    assert np.abs(flow.displacement).max() < 0.25 / IOD_PX
    assert np.median(np.abs(flow.displacement[1:])) < 0.08 / IOD_PX


def test_a_flat_face_that_turns_has_no_flow() -> None:
    flat = TEMPLATE * np.array([1, 1, 0], np.float32)
    picture, face, frames, tracks = _texture(), _face(flat), [], []
    for t in range(4):
        yaw = np.deg2rad(5.0 * t)
        frames.append(_moved(picture, lambda p, y=yaw: (p - MIDDLE) / [np.cos(y), 1] + MIDDLE))
        points = face.copy()
        points[:, 0] = (face[:, 0] - MIDDLE[0]) * np.cos(yaw) + MIDDLE[0]
        points[:, 2] = (face[:, 0] - MIDDLE[0]) * np.sin(yaw)
        tracks.append(points)
    flow = mouth_flow(frames, np.stack(tracks).astype(np.float32), template=flat)
    assert np.abs(flow.displacement).max() < 0.25 / IOD_PX


def test_what_changes_altogether_is_not_trusted() -> None:
    picture, face = _texture(), _face()
    second = picture.copy()
    middle = int(MIDDLE[0])
    second[:, middle:] = _texture()[::-1, ::-1][:, middle:]
    flow = mouth_flow([picture.astype(np.uint8), second.astype(np.uint8)], np.stack([face] * 2))
    aside = face[list(MOUTH), 0] - MIDDLE[0]
    assert flow.confidence[1, aside < -8].mean() > 0.9
    assert flow.confidence[1, aside > 8].mean() < 0.3


def _speaking(frames: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks (T, 478, 3) whose lower lip goes up and down, and their exact flow (T, 78, 2)."""
    opening = 0.1 * np.sin(np.arange(frames) / 3.0)
    clip = np.repeat(_face()[None], frames, 0)
    lower = [LOWER_LIP_INNER, 87, 317, 17, 84, 314]
    clip[:, lower, 1] += (opening * IOD_PX)[:, None]
    aligned = align_to_template(image_to_head_axes(clip), TEMPLATE)[:, list(MOUTH), :2]
    return clip, np.concatenate([np.zeros((1, 78, 2), np.float32), np.diff(aligned, axis=0)])


def test_agreement_is_1_for_the_landmarks_own_motion_and_minus_1_for_its_opposite() -> None:
    clip, flow = _speaking()
    sure = np.ones(flow.shape[:2], np.float32)
    assert_close(flow_agreement(MouthFlow(flow, sure), clip).correlation, 1.0)
    assert_close(flow_agreement(MouthFlow(-flow, sure), clip).correlation, -1.0)


def test_agreement_leaves_out_what_is_not_confident() -> None:
    clip, flow = _speaking()
    confidence = np.ones(flow.shape[:2], np.float32)
    flow[5:9] += np.random.default_rng(0).normal(size=flow[5:9].shape).astype(np.float32)
    confidence[5:9] = 0.1
    found = flow_agreement(MouthFlow(flow, confidence), clip)
    assert_close(found.correlation, 1.0)
    assert_close(found.confident_share, 35 / 39)
    assert np.isnan(flow_agreement(MouthFlow(flow, 0 * confidence), clip).correlation)


def test_alignment_is_what_align_to_template_applies() -> None:
    clip, _ = _speaking(3)
    points = image_to_head_axes(clip)
    alignment = head_alignment(points, TEMPLATE)
    np.testing.assert_array_equal(alignment.apply(points), align_to_template(points, TEMPLATE))
    assert_close(alignment.scale, np.full(3, 1 / IOD_PX), precision="float16")
    assert_close(alignment.apply(points)[0, UPPER_LIP_INNER], TEMPLATE[UPPER_LIP_INNER])


def test_frames_and_landmarks_that_do_not_fit_are_named() -> None:
    clip, _ = _speaking(2)
    picture = _texture().astype(np.uint8)
    with pytest.raises(FlowError, match="1 frames and 2 sets"):
        mouth_flow([picture], clip)
    clip[1] = np.nan
    with pytest.raises(FlowError, match="no landmarks"):
        mouth_flow([picture, picture], clip)


@pytest.mark.nightly
def test_flow_tells_of_real_speech_what_the_landmarks_tell(data_folder: Path) -> None:
    from model.data.video import read_video
    from model.face.landmarks import fill_gaps, track_face

    frames = list(read_video(sorted((data_folder / "grid_s1" / "val").glob("*.mp4"))[1]).frames())
    landmarks = fill_gaps(track_face(frames, data_folder / "weights" / "face_landmarker.task").landmarks)
    agreement = flow_agreement(mouth_flow(frames, landmarks), landmarks)
    assert agreement.correlation > 0.85 and agreement.confident_share > 0.95


def test_files_that_are_no_raft_are_named(tmp_path: Path) -> None:
    with pytest.raises(FlowError, match=r"not found: .*none\.pth"):
        RaftFlow(tmp_path / "none.pth")
    for name, content in (("a.pth", b"text"), ("b.safetensors", b"text")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FlowError, match=f"{name} is no file of plain tensors"):
            RaftFlow(tmp_path / name)
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(FlowError, match="no state dict of torchvision's"):
        RaftFlow(tmp_path / "other.pth")


def test_raft_runs_from_a_state_dict_in_either_format(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    try:
        models = importlib.import_module("torchvision.models.optical_flow")
    except (ImportError, RuntimeError) as error:  # a build for CUDA beside a torch without it
        pytest.skip(f"torchvision cannot be used here: {error}")
    torch.manual_seed(0)
    state = models.raft_small().state_dict()
    torch.save(state, tmp_path / "raft.pth")
    save_file(state, tmp_path / "raft.safetensors")
    picture = _texture()[:128, :136].astype(np.uint8)
    flows = [RaftFlow(tmp_path / f"raft.{ext}").flow(picture, picture) for ext in ("pth", "safetensors")]
    assert flows[0].shape == (128, 136, 2) and np.isfinite(flows[0]).all()
    np.testing.assert_array_equal(*flows)
    with pytest.raises(FlowError, match="got 100 x 128"):
        RaftFlow(tmp_path / "raft.pth").flow(picture[:, :100], picture[:, :100])
