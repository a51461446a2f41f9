"""The optical-flow term of motion training: predicted frame-to-frame motion against the flow measured in the video.

With motion `m_t` (32 numbers), the space's basis `P` (picture axes only) and measured flow `u_t` of confidence `c_t`,
for the 78 mouth landmarks `i` and frames `t >= 1`:

    d_ti = (m_t - m_{t-1})[0:16] P_i                     predicted displacement, inter-ocular distances
    rho(e) = sqrt(|e|^2 + eps^2) - eps                   Charbonnier, eps = 0.002
    loss = sum_ti c_ti rho(d_ti - u_ti) / sum_ti c_ti    0 where nothing is confident

Landmark losses supervise where the lips are; this one how they move, by a witness that is independent of the tracker's
filtering. DIS flow sees the right moment but only about 86 % of a lip opening: use it beside the landmark term, with a
small weight. Motion training does not use it yet: it enters when the motion model is trained again with measured flow
(see docs/optical-flow.md, with figures).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.errors import DataError
from model.motion.face_points import MOUTH
from model.motion.space import MOTION_SIZE, MOUTH_CODES, MotionSpace

EPS = 0.002  # inter-ocular distances: errors below count squared, above by their length


class FlowLoss(nn.Module):
    """The term for one motion space; keeps the basis as a buffer, so that it moves with the model's device."""

    basis: Tensor

    def __init__(self, space: MotionSpace, *, eps: float = EPS) -> None:
        super().__init__()
        rows = torch.from_numpy(space.basis).float().unflatten(1, (len(MOUTH), 3))
        self.register_buffer("basis", rows[..., :2].flatten(1).contiguous(), persistent=False)
        self.eps = eps

    def forward(self, motion: Tensor, flow: Tensor, confidence: Tensor, mask: Tensor | None = None) -> Tensor:
        """Scalar loss, inter-ocular distances; differentiable in `motion`.

        Args:
            motion: (B, T, 32), in the motion space (not the latent).
            flow: (B, T, 78, 2); row t tells the way from frame t - 1 to t, row 0 is not used. Values of points without
                confidence are not used, NaN included.
            confidence: (B, T, 78), 0..1.
            mask: (B, T) 1 where a frame counts; a step counts if both its frames do.

        Raises:
            DataError: The shapes disagree.
        """
        _check(motion, flow, confidence, mask)
        dtype = self.basis.dtype
        weight = confidence[:, 1:].to(dtype)
        if mask is not None:
            weight = weight * (mask[:, 1:] * mask[:, :-1]).to(dtype)[..., None]
        step = motion[..., MOUTH_CODES].to(dtype).diff(dim=1)
        predicted = (step @ self.basis).unflatten(-1, (len(MOUTH), 2))
        measured = torch.where(weight[..., None] > 0, flow[:, 1:].to(dtype), predicted.detach())
        error_sq = (predicted - measured).square().sum(-1)
        rho = torch.sqrt(error_sq + self.eps**2) - self.eps
        total = weight.sum()
        return (weight * rho).sum() / torch.where(total > 0, total, torch.ones_like(total))


def _check(motion: Tensor, flow: Tensor, confidence: Tensor, mask: Tensor | None) -> None:
    frames = tuple(motion.shape[:2])
    wanted = {
        "motion": (motion, (*frames, MOTION_SIZE)),
        "flow": (flow, (*frames, len(MOUTH), 2)),
        "confidence": (confidence, (*frames, len(MOUTH))),
    }
    if mask is not None:
        wanted["mask"] = (mask, frames)
    for name, (tensor, shape) in wanted.items():
        if tuple(tensor.shape) != shape or len(frames) != 2:
            raise DataError(f"flow loss: {name} has shape {tuple(tensor.shape)}, wanted {shape}")
