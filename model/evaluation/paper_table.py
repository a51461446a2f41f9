"""The paper's own figures: its Table 1 and the deltas of its ablation (NeRF-LipSync, sections 6 and 7).

They were measured on VoxCeleb2 (500 clips) and LRW (its test set), which are not at hand here, with SyncNet and
Inception weights that are not at hand either. They stand beside our figures for orientation: other data, other crops,
other judges. No difference between a row of theirs and a row of ours means anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["PAPER_ABLATION", "PAPER_COLUMNS", "PAPER_TABLE", "PaperDelta", "PaperRow"]

PAPER_COLUMNS: Final = (
    "FID ↓",
    "SSIM ↑",
    "PSNR ↑",
    "LMD ↓",
    "Sync-C ↑",
    "Sync-D ↓",
    "cross FID ↓",
    "cross LMD ↓",
)
"""The first six are of reconstruction; LMD in px, PSNR in dB."""


@dataclass(frozen=True, slots=True)
class PaperRow:
    """One line of the paper's Table 1; `values` in the order of `PAPER_COLUMNS`."""

    data: str
    method: str
    values: tuple[float, float, float, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class PaperDelta:
    """What the paper says that one part is worth, in words as near to its own as a line allows."""

    left_out: str
    variant: str  # our row in `ablation.json`; "" where we have no such variant
    claim: str


PAPER_TABLE: Final = (
    PaperRow("VoxCeleb2", "Wav2Lip", (3.26, 0.53, 18.18, 3.16, 9.08, 5.93, 5.11, 4.84)),
    PaperRow("VoxCeleb2", "PC-AVS", (4.25, 0.53, 18.26, 3.16, 6.71, 7.80, 10.62, 5.00)),
    PaperRow("VoxCeleb2", "Diff2Lip", (2.46, 0.53, 18.09, 3.04, 8.78, 5.93, 4.53, 4.82)),
    PaperRow("VoxCeleb2", "NeRF-LipSync", (2.75, 0.56, 18.32, 3.01, 9.06, 5.86, 4.64, 4.81)),
    PaperRow("LRW", "Wav2Lip", (4.23, 0.68, 20.76, 2.15, 8.13, 6.09, 5.19, 3.88)),
    PaperRow("LRW", "PC-AVS", (6.80, 0.61, 20.10, 2.29, 6.68, 7.29, 8.48, 4.09)),
    PaperRow("LRW", "Diff2Lip", (2.62, 0.67, 20.62, 2.17, 7.41, 6.21, 2.54, 3.93)),
    PaperRow("LRW", "NeRF-LipSync", (2.40, 0.71, 21.03, 2.16, 8.15, 6.18, 2.59, 3.89)),
)
PAPER_ABLATION: Final = (
    PaperDelta(
        "NeRF spatial alignment (2-D convolutional decoder instead)",
        "",
        "cross-generation on VoxCeleb2: FID 4.64 to 5.3, LMD 4.81 to 5.34",
    ),
    PaperDelta(
        "temporal attention",
        "no_temporal_attention",
        "Sync-C 9.06 to 8.65, Sync-D 5.86 to 6.3, lip velocity's deviation + 30 %",
    ),
    PaperDelta(
        "diffusion (deterministic mapping instead)",
        "deterministic",
        "FID 2.75 to 3.4, LMD 3.01 to 3.16, PSNR − 1 dB, over-smoothed",
    ),
)
