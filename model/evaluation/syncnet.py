"""The real SyncNet (Chung and Zisserman 2016), for the field's own figures: weights by path, none shipped.

Layer shapes are those of the published `syncnet_v2.model` (joonson/syncnet_python), so that this file loads as it is,
without unpickling anything but tensors. It sees 5 pictures of 224 x 224 in blue, green, red, 0..255 without
normalising, and hears 20 columns of `model.evaluation.mfcc` (200 ms). Scores are made by
`model.evaluation.sync_protocol`. Only scores from these weights may be called Sync-C and Sync-D.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.errors import InputError
from model.evaluation.mfcc import mfcc
from model.evaluation.weight_files import WeightFile, fill_network, read_weights

__all__ = ["PICTURE_PX", "SYNCNET", "Pictures", "SyncNet", "SyncNetPair", "load_syncnet"]

PICTURE_PX = 224
WINDOW_FRAMES = 5
WINDOW_COLUMNS = 20
COLUMNS_PER_FRAME = 4
EMBEDDING_SIZE = 1024
BATCH_WINDOWS = 20
SYNCNET = WeightFile(
    title="SyncNet",
    name="syncnet_v2.model",
    sha256_start="",
    url="http://www.robots.ox.ac.uk/~vgg/software/lipsync/data/syncnet_v2.model",
)
Pictures = NDArray[np.uint8]  # (T, 224, 224, 3), blue, green, red


class SyncNet(nn.Module):
    """Two convolutional towers into 1024 numbers. Names of the parts are those of the published file."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_flat(1, 64, 3, padding=1),
            nn.MaxPool2d(1, stride=1),
            *_flat(64, 192, 3, padding=1),
            nn.MaxPool2d(3, stride=(1, 2)),
            *_flat(192, 384, 3, padding=1),
            *_flat(384, 256, 3, padding=1),
            *_flat(256, 256, 3, padding=1),
            nn.MaxPool2d(3, stride=2),
            *_flat(256, 512, (5, 4), padding=0),
        )
        self.netfcaud = _head()
        self.netfclip = _head()
        self.netcnnlip = nn.Sequential(
            *_deep(3, 96, (5, 7, 7), stride=2, padding=0),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2)),
            *_deep(96, 256, (1, 5, 5), stride=2, padding=1),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
            *_deep(256, 256, (1, 3, 3), stride=1, padding=1),
            *_deep(256, 256, (1, 3, 3), stride=1, padding=1),
            *_deep(256, 256, (1, 3, 3), stride=1, padding=1),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2)),
            *_deep(256, 512, (1, 6, 6), stride=1, padding=0),
        )

    def see(self, pictures: Tensor) -> Tensor:
        """(T - 4, 1024) of pictures (3, T, 224, 224), 0..255: one for each window of 5.

        Only the first layer reaches over time, so that the windows of a clip share one pass.
        """
        features = self.netcnnlip(pictures[None])[0, :, :, 0, 0].T
        out: Tensor = self.netfclip(features)
        return out

    def hear(self, columns: Tensor) -> Tensor:
        """(B, 1024) of cepstra (B, 1, 13, 20)."""
        out: Tensor = self.netfcaud(self.netcnnaud(columns).flatten(1))
        return out


class SyncNetPair:
    """SyncNet as a pair of embedders for the protocol."""

    window_frames = WINDOW_FRAMES

    def __init__(self, net: SyncNet) -> None:
        self.net = net.eval()

    @torch.inference_mode()
    def see(self, frames: Pictures, windows: int) -> NDArray[np.float32]:
        """(windows, 1024) of pictures (T, 224, 224, 3) uint8 in blue, green, red.

        Raises:
            InputError: Other shape or type, or too few pictures.
        """
        if frames.shape[1:] != (PICTURE_PX, PICTURE_PX, 3) or frames.dtype != np.uint8:
            raise InputError(f"SyncNet sees (T, 224, 224, 3) uint8 in BGR, got {frames.shape} {frames.dtype}")
        if len(frames) < windows + WINDOW_FRAMES - 1:
            raise InputError(f"{windows} windows need {windows + WINDOW_FRAMES - 1} pictures, got {len(frames)}")
        parts = []
        for start in range(0, windows, BATCH_WINDOWS):
            stop = min(start + BATCH_WINDOWS, windows) + WINDOW_FRAMES - 1
            part = torch.from_numpy(np.ascontiguousarray(frames[start:stop])).float()
            parts.append(self.net.see(part.permute(3, 0, 1, 2)))
        return np.asarray(torch.cat(parts).numpy())

    @torch.inference_mode()
    def hear(self, audio: NDArray[np.int16], windows: int) -> NDArray[np.float32]:
        """(windows, 1024) of 16 kHz sound (samples,) int16.

        Raises:
            InputError: The sound is not int16, or too short.
        """
        cepstra = mfcc(audio)
        needed = (windows - 1) * COLUMNS_PER_FRAME + WINDOW_COLUMNS
        if len(cepstra) < needed:
            raise InputError(f"{windows} windows need {needed} columns of sound, got {len(cepstra)}")
        cut = np.lib.stride_tricks.sliding_window_view(cepstra, WINDOW_COLUMNS, axis=0)  # (columns, 13, 20)
        columns = torch.from_numpy(cut[::COLUMNS_PER_FRAME][:windows].astype(np.float32))[:, None]
        return np.asarray(torch.cat([self.net.hear(part) for part in columns.split(BATCH_WINDOWS)]).numpy())


def load_syncnet(path: Path) -> SyncNetPair:
    """Read `syncnet_v2.model`.

    Raises:
        InputError: The file is not there, holds more than tensors, or tensors of other names or shapes.
    """
    net = SyncNet()
    fill_network(net, read_weights(path, SYNCNET), path, SYNCNET)
    return SyncNetPair(net)


def _flat(inputs: int, outputs: int, kernel: int | tuple[int, int], *, padding: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel, padding=padding), nn.BatchNorm2d(outputs), nn.ReLU()]


def _deep(inputs: int, outputs: int, kernel: tuple[int, int, int], *, stride: int, padding: int) -> list[nn.Module]:
    """Stride and padding are of the two picture axes; over time there is neither."""
    conv = nn.Conv3d(inputs, outputs, kernel, stride=(1, stride, stride), padding=(0, padding, padding))
    return [conv, nn.BatchNorm3d(outputs), nn.ReLU()]


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, EMBEDDING_SIZE))
