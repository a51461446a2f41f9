"""What the motion diffusion trains on: speech features exactly as serving commits them, beside motion latents.

Every clip is streamed through the frozen speech encoder, once per hop phase and per voice (its own, and other people's:
re-voiced by the vocoder and coloured in the mel domain), and for every frame two feature vectors are kept: `committed`
(heard with look-ahead) and `edge` (as seen while the frame itself was still look-ahead).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.data.corpus_parts import REVOICED, read_corpus
from model.data.features import load_clips
from model.speech.log_mel import SILENCE, LogMel, LogMelState
from model.speech.speech_model import COLUMNS_PER_FRAME, FEATURE_SIZE, SpeechModel
from model.training.motion_targets import load_motion
from model.training.speech_data import augment, normalise_batch

BATCH_WINDOWS = 128


@dataclass
class MotionCorpus:
    """Stacked clips: versions V (phases x voices), clips N, frames T."""

    names: tuple[str, ...]
    committed: Tensor  # (V, N, T, 256) float16
    edge: Tensor  # (V, N, T, 256) float16
    motion: Tensor  # (N, T, 32)

    def save(self, path: Path) -> None:
        """Write the cache (npz, no pickle)."""
        np.savez(
            path,
            names=np.array(self.names),
            committed=self.committed.numpy(),
            edge=self.edge.numpy(),
            motion=self.motion.numpy(),
        )

    @classmethod
    def load(cls, path: Path) -> MotionCorpus:
        """Read a cache."""
        with np.load(path) as data:
            tensors = {k: torch.from_numpy(data[k]) for k in ("committed", "edge", "motion")}
            return cls(tuple(str(n) for n in data["names"]), **tensors)


def build_corpus(
    folder: Path, speech: SpeechModel, *, voices: int, others: Path | None = None, seed: int = 0
) -> MotionCorpus:
    """Stream every prepared clip of `folder`; versions 0 and 1 are the clean sound at both hop phases.

    The further versions are the clips in other people's voices (of the corpus `others`), coloured and with hiss.
    """
    clips = load_clips(folder)
    motion = load_motion(folder)
    frames = min(len(m) for m in motion.values())
    log_mel = LogMel(speech.config.encoder.num_mels)
    sounds = _sounds_of_clips(others) if others is not None else {}
    committed, edge = [], []
    for version in range(2 * voices):
        rng = np.random.default_rng((seed, version))
        parts = []
        for clip in clips:
            choice = [clip.sound, *sounds.get(clip.key, [])]
            mel = _clip_mel(choice[(version // 2) % len(choice)], log_mel, frames, rng if version >= 2 else None)
            parts.append(stream_features(mel, speech, version % 2))
        committed.append(torch.stack([p[0] for p in parts]))
        edge.append(torch.stack([p[1] for p in parts]))
    targets = torch.from_numpy(np.stack([motion[c.key][:frames] for c in clips]))
    return MotionCorpus(tuple(c.key for c in clips), torch.stack(committed), torch.stack(edge), targets)


def _sounds_of_clips(corpus: Path) -> dict[str, list[NDArray[np.float32]]]:
    """What a voice corpus holds of each filmed clip besides its own sound, by key."""
    sounds: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
    for item in read_corpus(corpus):
        if item.info.kind == "filmed" and item.info.voice.endswith(REVOICED):
            sounds[item.info.key].append(item.sound)
    return sounds


@torch.inference_mode()
def stream_features(mel: NDArray[np.float32], speech: SpeechModel, phase: int) -> tuple[Tensor, Tensor]:
    """Committed and edge features (T, 256) float16 of a clip's normalised mel (4 T, mels), hops of two frames.

    `phase` 0: hops end at even frames, 1: at odd ones.
    """
    window = speech.config.encoder.window_columns
    frames = len(mel) // COLUMNS_PER_FRAME
    before = np.full((window + COLUMNS_PER_FRAME, mel.shape[1]), SILENCE, np.float32)
    after = np.full((6 * COLUMNS_PER_FRAME, mel.shape[1]), SILENCE, np.float32)
    padded = np.concatenate([before, mel, after])
    ends = range(2 - phase, frames + 5, 2)  # frame count heard at each hop
    starts = [(len(before) // COLUMNS_PER_FRAME + e) * COLUMNS_PER_FRAME - window for e in ends]
    windows = torch.from_numpy(np.stack([padded[s : s + window] for s in starts]))
    out = torch.cat([speech(part, last_frames=4)[0] for part in torch.split(windows, BATCH_WINDOWS)])
    committed = torch.zeros(frames, FEATURE_SIZE, dtype=torch.float16)
    edge = torch.zeros(frames, FEATURE_SIZE, dtype=torch.float16)
    for row, end in zip(out, ends, strict=True):
        for offset, target in ((-4, committed), (-3, committed), (-2, edge), (-1, edge)):
            if 0 <= end + offset < frames:
                target[end + offset] = row[offset].half()
    return committed, edge


def _clip_mel(
    sound: NDArray[np.float32], log_mel: LogMel, frames: int, rng: np.random.Generator | None
) -> NDArray[np.float32]:
    raw = log_mel.push_raw(sound, LogMelState())
    need = frames * COLUMNS_PER_FRAME
    if len(raw) < need:
        raw = np.pad(raw, ((0, need - len(raw)), (0, 0)), mode="edge")
    raw = raw[:need]
    return np.asarray(normalise_batch((raw if rng is None else augment(raw, rng))[None])[0], np.float32)
