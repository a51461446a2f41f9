"""The optical-flow training term, against its closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.errors import DataError
from model.motion.face_points import MOUTH
from model.motion.space import load_motion_space
from model.training.flow_loss import EPS, FlowLoss
from tests.support.closeness import assert_close

SPACE = load_motion_space()
B, T, N = 3, 6, len(MOUTH)


def _motion(seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(B, T, 32)).astype(np.float32))


def _true_flow(motion: torch.Tensor) -> torch.Tensor:
    displacement = SPACE.mouth_displacement(motion.detach().numpy())[..., :2]
    flow = np.zeros((B, T, N, 2), np.float32)
    flow[:, 1:] = np.diff(displacement, axis=1)
    return torch.from_numpy(flow)


def test_flow_of_the_motion_itself_costs_nothing() -> None:
    motion = _motion()
    loss = FlowLoss(SPACE)(motion, _true_flow(motion), torch.ones(B, T, N))
    assert abs(float(loss)) < 1e-6


def test_an_offset_of_every_point_costs_its_charbonnier_length() -> None:
    motion = _motion()
    flow = _true_flow(motion) + torch.tensor([0.03, -0.04])
    loss = FlowLoss(SPACE)(motion, flow, torch.full((B, T, N), 0.3))
    assert_close(float(loss), np.hypot(0.05, EPS) - EPS)


def test_confidence_weighs_and_nothing_confident_is_zero() -> None:
    motion = _motion().requires_grad_()
    flow = _true_flow(motion)
    flow[:, :, :10] += 0.05
    confidence = torch.zeros(B, T, N)
    confidence[:, :, :10], confidence[:, :, 10:20] = 0.25, 0.75
    wrong = FlowLoss(SPACE)(motion, flow, confidence).item()
    assert_close(wrong, 0.25 * (np.hypot(0.05 * np.sqrt(2), EPS) - EPS))
    none = FlowLoss(SPACE)(motion, torch.full_like(flow, torch.nan), torch.zeros(B, T, N))
    none.backward()
    assert none.item() == 0 and motion.grad is not None and torch.equal(motion.grad, torch.zeros_like(motion))


def test_row_0_and_the_codes_of_brows_lids_and_gaze_do_not_matter() -> None:
    motion, confidence = _motion(), torch.rand(B, T, N, generator=torch.Generator().manual_seed(1))
    flow = _true_flow(_motion(1))
    loss = FlowLoss(SPACE)(motion, flow, confidence)
    other, flow_2 = motion.clone(), flow.clone()
    other[..., 16:] = 9.0
    flow_2[:, 0] = torch.nan
    assert torch.equal(loss, FlowLoss(SPACE)(other, flow_2, confidence))
    assert float(loss) > 0.01


def test_a_masked_frame_is_in_no_step() -> None:
    motion = _motion()
    flow, mask = _true_flow(motion), torch.ones(B, T)
    motion[:, 3] += 100.0
    mask[:, 3] = 0.0
    term = FlowLoss(SPACE)
    assert float(term(motion, flow, torch.ones(B, T, N), mask)) < 1e-5
    assert float(term(motion, flow, torch.ones(B, T, N))) > 1.0


def test_gradients_agree_with_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    term = FlowLoss(SPACE).double()
    motion = torch.randn(1, 4, 32, generator=generator, dtype=torch.float64) * 0.2
    flow = torch.randn(1, 4, N, 2, generator=generator, dtype=torch.float64) * 0.01
    confidence = torch.rand(1, 4, N, generator=generator, dtype=torch.float64)
    motion.requires_grad_()
    assert torch.autograd.gradcheck(lambda m: term(m, flow, confidence), (motion,))


def test_descent_recovers_the_motion_behind_a_flow() -> None:
    truth = _motion(3) * 0.5
    flow = _true_flow(truth)
    flow[:, :, ::9] += 0.2  # a ninth of the points are wrong by far: the robust term leaves them aside
    guess = torch.zeros(B, T, 32, requires_grad=True)
    term, optimiser = FlowLoss(SPACE), torch.optim.Adam([guess], lr=0.1)
    for _ in range(120):
        optimiser.zero_grad()
        term(guess, flow, torch.ones(B, T, N)).backward()
        optimiser.step()
    wanted = SPACE.lip_opening(truth.numpy())
    found = SPACE.lip_opening(guess.detach().numpy())
    np.testing.assert_allclose(np.diff(found, axis=1), np.diff(wanted, axis=1), atol=0.01)


def test_shapes_that_disagree_are_named() -> None:
    with pytest.raises(DataError, match=r"confidence has shape \(3, 5, 78\), wanted \(3, 6, 78\)"):
        FlowLoss(SPACE)(_motion(), torch.zeros(B, T, N, 2), torch.zeros(B, 5, N))
