"""The real SyncNet as the judge of the sync loss, for whoever has its weights (`model.evaluation.syncnet` reads them).

It sees rendered faces in its own crop, enlarged to 224 x 224 in blue, green, red and 0..255, and hears 13 cepstra. Its
cosine is read as a probability and the loss is the binary cross-entropy of "belongs", as in Wav2Lip (Prajwal et al.
2020). SyncNet's embeddings may point anywhere, those of Wav2Lip's expert only where all numbers are positive: here the
probability is (1 + cosine) / 2.
"""

from __future__ import annotations

from typing import Final, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.avatar import AvatarConfig
from model.training.rendered_critic import COLUMNS_PER_FRAME, WINDOW_FRAMES, check_pair
from model.training.rendered_views import View, syncnet_view

__all__ = ["SyncNetJudge", "SyncNetLike"]

PICTURE_PX: Final = 224
CEPSTRA: Final = 13
WINDOW_COLUMNS: Final = 20
RENDERED_PX: Final = 112  # faces are rendered at this size and enlarged
LEAST_PROBABILITY: Final = 1e-4


class SyncNetLike(Protocol):
    """What is needed of `model.evaluation.syncnet.SyncNet`."""

    def see(self, pictures: Tensor) -> Tensor:
        """(T - 4, E) of pictures (3, T, 224, 224), BGR, 0..255."""

    def hear(self, columns: Tensor) -> Tensor:
        """(W, E) of cepstra (W, 1, 13, 20)."""


class SyncNetJudge(nn.Module):
    """Binary cross-entropy of SyncNet's cosine on rendered faces. `net` is frozen."""

    sound_bands: Final = CEPSTRA

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net.eval().requires_grad_(False)

    def view(self, config: AvatarConfig) -> View:
        """SyncNet's face crop."""
        return syncnet_view(config, size_px=RENDERED_PX)

    def loss(self, pictures: Tensor, sound: Tensor) -> Tensor:
        """Scalar, of pictures (B, T, 3, H, W), RGB 0..1, and cepstra (B, 4 T, 13) (`model.evaluation.mfcc`).

        Raises:
            DataError: Pictures and sound are of different lengths, or too short.
        """
        check_pair(pictures, sound, CEPSTRA)
        return torch.stack([self._clip(p, s) for p, s in zip(pictures, sound, strict=True)]).mean()

    def _clip(self, pictures: Tensor, sound: Tensor) -> Tensor:
        net: SyncNetLike = self.net  # type: ignore[assignment]  # a module with these two methods
        large = functional.interpolate(pictures.flip(1), (PICTURE_PX, PICTURE_PX), mode="bilinear", align_corners=False)
        columns = sound.unfold(0, WINDOW_COLUMNS, COLUMNS_PER_FRAME)[:, None]
        seen, heard = net.see((large * 255).transpose(0, 1)), net.hear(columns)
        windows = len(pictures) - WINDOW_FRAMES + 1
        cosine = functional.cosine_similarity(seen[:windows], heard[:windows], dim=1)
        return -torch.log(((1 + cosine) / 2).clamp(min=LEAST_PROBABILITY)).mean()
