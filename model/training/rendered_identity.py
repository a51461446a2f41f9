"""Identity loss on rendered faces: 1 - cosine of the face embeddings of a made frame and of the neutral face.

ArcFace's measure (Deng et al. 2019) with any 112 x 112 network in an ONNX file, ArcFace or MobileFaceNet,
differentiable down to the motion: faces are rendered straight onto ArcFace's five-point template.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.avatar import Avatar
from model.errors import InputError
from model.motion.space import MOTION_SIZE
from model.training.rendered_frames import AvatarFrames
from model.training.rendered_views import arcface_view

__all__ = ["IdentityLoss"]


class IdentityLoss(nn.Module):
    """The loss for one avatar and one network.

    Args:
        avatar: Whose faces are rendered.
        network: (N, 3, 112, 112) RGB to (N, features), frozen.
        normalises_itself: The network wants 0..255 instead of (x - 127.5) / 127.5, as MXNet's exports do.

    Raises:
        InputError: The network takes no such faces.
    """

    neutral: Tensor  # (features,) of unit length

    def __init__(self, avatar: Avatar, network: nn.Module, *, normalises_itself: bool = False) -> None:
        super().__init__()
        self.frames = AvatarFrames(avatar, arcface_view(avatar.config))
        self.network = network.eval().requires_grad_(False)
        self.normalises_itself = normalises_itself
        with torch.no_grad():
            neutral = self.embed(torch.zeros(1, 1, MOTION_SIZE))[0, 0]
        self.register_buffer("neutral", neutral, persistent=False)

    def embed(self, motion: Tensor) -> Tensor:
        """(B, T, features) of unit length, of the faces that motion (B, T, 32) makes."""
        faces = self.frames(motion).flatten(0, 1)
        scaled = faces * 255 if self.normalises_itself else faces * 2 - 1
        try:
            found: Tensor = self.network(scaled)
        except (RuntimeError, KeyError, ValueError) as error:
            reason = str(error).splitlines()[0][:120]
            raise InputError(f"the face network takes no 112 x 112 faces ({reason}): give ArcFace's") from error
        return functional.normalize(found, dim=-1).view(*motion.shape[:2], -1)

    def forward(self, motion: Tensor) -> Tensor:
        """Scalar, 0..2: mean over the frames of motion (B, T, 32)."""
        return (1 - self.embed(motion) @ self.neutral).mean()
