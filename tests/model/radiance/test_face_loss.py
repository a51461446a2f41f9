"""Perceptual and identity losses of a training: they reach the planes, fall, cost nothing when off, and resume."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from model.data.capture import CaptureFrames
from model.errors import ConfigError, InputError
from model.radiance.camera import CameraConfig
from model.radiance.config import FieldConfig
from model.training.avatar import AvatarTraining, AvatarTrainingConfig
from model.training.avatar_step import LossWeights
from model.training.face_loss import FaceJudge, FaceLossConfig, covered, face_loss, face_view, load_face_judge
from model.training.rendered_onnx import Node, OnnxNetwork
from tests.support.onnx_files import write_flatten_network

FACE = FaceLossConfig(perceptual=1.0, identity=1.0, every=2, rays=200)
EYES = np.array([[[9, 9, 13, 13], [19, 9, 23, 13]]], np.float32)
MOUTH = np.array([[12, 18, 20, 22]], np.float32)


@pytest.fixture
def judge() -> FaceJudge:
    """Two strided convolutions with random weights: layers of 56 and 28 pixels."""
    random = torch.Generator().manual_seed(5)
    weights = {"a": torch.randn(4, 3, 3, 3, generator=random), "b": torch.randn(4, 4, 3, 3, generator=random)}
    halving = {"pads": (1, 1, 1, 1), "strides": (2, 2)}
    nodes = (
        Node("Conv", ("x", "a"), "wide", halving),
        Node("Relu", ("wide",), "lit", {}),
        Node("Conv", ("lit", "b"), "narrow", halving),
        Node("Flatten", ("narrow",), "y", {}),
    )
    return FaceJudge(OnnxNetwork(nodes, weights, "x", "y"))


@pytest.fixture
def training(
    tiny_field_config: FieldConfig, tiny_frames: CaptureFrames, camera: CameraConfig, judge: FaceJudge
) -> AvatarTraining:
    config = AvatarTrainingConfig(
        steps=60,
        size_px=32,
        field=dataclasses.replace(tiny_field_config, step=0.06),
        frames_per_step=4,
        samples_per_step=4000,
        max_rays=256,
        grid_size=16,
        warmup_steps=5,
        losses=LossWeights(depth_spread=0.01),
        face=FACE,
    )
    count = len(tiny_frames)
    frames = dataclasses.replace(tiny_frames, eye_boxes=np.repeat(EYES, count, 0), mouth_box=np.repeat(MOUTH, count, 0))
    made = AvatarTraining(config, frames, camera)
    made.judge = judge
    return made


def loss_of(training: AvatarTraining, judge: FaceJudge, seed: int) -> torch.Tensor:
    return face_loss(training, judge, 0.0, training.occupancy, torch.Generator().manual_seed(seed))


def test_layers_of_each_resolution_are_compared(judge: FaceJudge) -> None:
    assert judge.names == ("lit", "narrow")
    face = torch.rand(1, 3, 112, 112)
    assert [float(term) for term in judge(face, face)] == pytest.approx([0, 0], abs=1e-6)
    assert min(float(term) for term in judge(face, 1 - face)) > 0.01


def test_eyes_and_mouth_lie_where_the_template_has_them(training: AvatarTraining) -> None:
    view = face_view(training.samplers[32], 0)
    eyes = torch.tensor([[38.8, 52.2, 1.0], [74.0, 52.0, 1.0]]) @ view.t()
    assert (eyes - torch.tensor([[11.0, 11.0], [21.0, 11.0]])).abs().max() < 1
    x0, y0, x1, y1 = covered(view, 32)
    assert 0 <= x0 < 9 and 0 <= y0 < 9 and 23 < x1 <= 32 and 22 < y1 <= 32


def test_the_gradient_reaches_the_planes(training: AvatarTraining, judge: FaceJudge) -> None:
    loss_of(training, judge, 1).backward()
    gradient = training.field.planes.grad
    assert gradient is not None and bool(torch.isfinite(gradient).all()) and float(gradient.abs().max()) > 0


def test_drawn_rays_have_the_gradient_of_all_rays(training: AvatarTraining, judge: FaceJudge) -> None:
    """Means over many small draws and over few large ones point the same way, with the same length."""

    def mean_gradient(rays: int, seeds: range) -> torch.Tensor:
        training.config = dataclasses.replace(training.config, face=dataclasses.replace(FACE, rays=rays))
        total = torch.zeros(training.torso.rgba.shape)
        for seed in seeds:
            training.torso.rgba.grad = None
            loss_of(training, judge, seed).backward()
            assert training.torso.rgba.grad is not None
            total += training.torso.rgba.grad
        return (total / len(seeds)).flatten()

    training.samplers[32].weights = torch.eye(len(training.frames))[0]
    few, many = mean_gradient(150, range(60)), mean_gradient(6000, range(60, 64))
    assert float(torch.nn.functional.cosine_similarity(few, many, dim=0)) > 0.9
    assert float(few.norm() / many.norm()) == pytest.approx(1, abs=0.15)


def test_the_loss_falls_when_nothing_else_is_trained(training: AvatarTraining, judge: FaceJudge) -> None:
    optimiser = torch.optim.Adam([*training.field.parameters(), training.torso.rgba], lr=1e-2)
    training.samplers[32].weights = torch.eye(len(training.frames))[0]
    values = []
    for seed in range(40):
        loss = loss_of(training, judge, seed)
        values.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert np.mean(values[-5:]) < 0.85 * np.mean(values[:3]), values


def test_steps_in_between_and_steps_without_a_network_are_as_before(training: AvatarTraining) -> None:
    assert [FACE.due(step) for step in range(4)] == [False, True, False, True]
    assert not FaceLossConfig().due(FaceLossConfig().every - 1)
    training.step = 1
    with_network = training.train_step()["loss"]
    training.step, training.judge = 1, None
    assert training.train_step()["loss"] < with_network


def test_resuming_with_a_network_equals_not_stopping(
    training: AvatarTraining, judge: FaceJudge, camera: CameraConfig, tmp_path: Path
) -> None:
    for _ in range(4):
        training.train_step()
    training.save(tmp_path / "state.safetensors")
    second = AvatarTraining(training.config, training.frames, camera)
    second.judge = judge
    second.load(tmp_path / "state.safetensors")
    for _ in range(3):
        assert training.train_step()["loss"] == second.train_step()["loss"]
    torch.testing.assert_close(second.field.planes, training.field.planes, rtol=0, atol=0)


def test_files_and_numbers_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no face network at"):
        load_face_judge(tmp_path / "none.onnx")
    write_flatten_network(tmp_path / "flat.onnx", (1, 3, 112, 112))
    assert load_face_judge(tmp_path / "flat.onnx").names == ()
    with pytest.raises(ConfigError, match="every and rays at least 1"):
        FaceLossConfig(every=0)
