"""Hears what the motion diffusion trains on: filmed clips in many voices, other people's sentences, and noise.

| group | sound | motion |
|---|---|---|
| filmed | the clip as recorded, at every hop phase | tracked |
| voices | the clip through bad microphones, re-voiced, and said by others at its phone times | tracked |
| spoken | synthetic speech in many languages | of `model.training.coarticulation`, from its phone times |
| noise | music, keyboards, babble, hiss | rest |

Sounds go through the frozen speech encoder exactly as they are served.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.config import config_to_json
from model.data.corpus_parts import MANIFEST, CorpusItem, read_corpus
from model.data.features import load_clips
from model.data.preparing.folder import PreparedFolder
from model.diffusion.unet import STYLES
from model.fetching import sha256_of
from model.motion.face_points import MOUTH
from model.motion.space import MOTION_SIZE
from model.speech.log_mel import SILENCE, LogMel, LogMelState
from model.speech.speech_file import LoadedSpeech
from model.speech.speech_model import COLUMNS_PER_FRAME, FEATURE_SIZE, SpeechModel
from model.training.coarticulation import load_coarticulation
from model.training.motion_items import MotionItems, join_items
from model.training.motion_shards import WHOLE, Shard, clips_with_motion
from model.training.motion_targets import load_motion
from model.training.speech_data import augment, normalise_batch

BATCH_WINDOWS = 128
Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class HearingConfig:
    """How sound is heard (as the U-Net's config has it) and how much of the corpus's speech and noise is."""

    hop_frames: int = 2
    lookahead_frames: int = 2
    spoken_minutes: float = 60.0
    noise_minutes: float = 12.0
    seed: int = 0


@dataclass(frozen=True)
class Hearing:
    """One sound with its motion."""

    sound: Array  # (samples,)
    motion: Array  # (T, 32)
    phase: int
    style: str = "filmed"
    flow: tuple[Array, Array] | None = None  # (T, 78, 2), (T, 78)
    coloured: np.random.Generator | None = None  # other microphones and hiss, in the mel domain


def train_items(
    grid: Path,
    speech: LoadedSpeech,
    folder: Path,
    config: HearingConfig,
    *,
    corpus: Path | None = None,
    coarticulation: Path | None = None,
    shard: Shard = WHOLE,
) -> dict[str, MotionItems]:
    """A shard's items by group, heard once and kept in `folder`. Without a corpus there is `filmed` alone.

    Raises:
        DataError: The clips, the corpus or its motion are missing.
    """
    hear = Heard(speech.model, config)
    makers: dict[str, Callable[[], Iterator[Hearing]]] = {
        "filmed": lambda: _filmed(grid / "train", folder, config, shard)
    }
    if corpus is not None:
        makers["voices"] = lambda: _voices(grid / "train", folder, corpus, config, shard)
        makers["noise"] = lambda: _noise(corpus, config, shard)
    if corpus is not None and coarticulation is not None:
        makers["spoken"] = lambda: _spoken(corpus, coarticulation, config, shard)
    made_of = {"filmed": [_manifest(grid / "train")]}
    if corpus is not None:
        made_of |= {"voices": [*made_of["filmed"], corpus / MANIFEST], "noise": [corpus / MANIFEST]}
        made_of["spoken"] = [corpus / MANIFEST, *([coarticulation] if coarticulation else [])]
    return {
        name: _cached(_cache(folder, name, speech, config, made_of[name], shard), make, hear)
        for name, make in makers.items()
    }


def held_out_items(grid: Path, speech: LoadedSpeech, folder: Path, config: HearingConfig) -> MotionItems:
    """The held-out clips as recorded, hops from frame 0 on."""
    clips, motion = load_clips(grid / "val"), load_motion(grid / "val")

    def make() -> Iterator[Hearing]:
        return (Hearing(c.sound, motion[c.key], 0) for c in clips)

    cache = _cache(folder, "val", speech, config, [_manifest(grid / "val")])
    return _cached(cache, make, Heard(speech.model, config))


class Heard:
    """Runs sounds through the encoder, hop by hop, as serving does."""

    def __init__(self, speech: SpeechModel, config: HearingConfig) -> None:
        self.speech = speech
        self.config = config
        self.log_mel = LogMel(speech.config.encoder.num_mels)

    def items(self, hearings: Iterator[Hearing]) -> MotionItems:
        """Items of all hearings."""
        return join_items([self._item(h) for h in hearings])

    def _item(self, h: Hearing) -> MotionItems:
        frames = len(h.motion)
        c = self.config
        committed, edge = stream_features(
            self._mel(h, frames), self.speech, h.phase, hop_frames=c.hop_frames, lookahead_frames=c.lookahead_frames
        )
        points = len(MOUTH)
        flow, confidence = h.flow or (np.zeros((frames, points, 2)), np.zeros((frames, points)))

        def one(value: int) -> Tensor:
            return torch.tensor([value])

        return MotionItems(
            committed=committed,
            edge=edge,
            motion=torch.from_numpy(h.motion),
            flow=torch.from_numpy(flow).half(),
            flow_confidence=torch.from_numpy(confidence).half(),
            start=one(0),
            frames=one(frames),
            phase=one(h.phase),
            style=one(STYLES.index(h.style)),
        )

    def _mel(self, h: Hearing, frames: int) -> Array:
        raw = self.log_mel.push_raw(h.sound, LogMelState())
        need = frames * COLUMNS_PER_FRAME
        if len(raw) < need:
            raw = np.pad(raw, ((0, need - len(raw)), (0, 0)), mode="edge")
        raw = raw[:need]
        return np.asarray(
            normalise_batch((raw if h.coloured is None else augment(raw, h.coloured))[None])[0], np.float32
        )


@torch.inference_mode()
def stream_features(
    mel: Array, speech: SpeechModel, phase: int, *, hop_frames: int = 2, lookahead_frames: int = 2
) -> tuple[Tensor, Tensor]:
    """Committed and edge features (T, 256) float16 of a clip's normalised mel (4 T, mels).

    Committed stretches of `hop_frames` begin at frames that leave the rest `phase`.
    """
    window = speech.config.encoder.window_columns
    frames, last = len(mel) // COLUMNS_PER_FRAME, hop_frames + lookahead_frames
    before = np.full((window + COLUMNS_PER_FRAME, mel.shape[1]), SILENCE, np.float32)
    after = np.full((last * COLUMNS_PER_FRAME, mel.shape[1]), SILENCE, np.float32)
    padded = np.concatenate([before, mel, after])
    first = (phase + last - 1) % hop_frames + 1
    ends = range(first, frames + last + 1, hop_frames)  # frame count heard at each hop
    starts = [(len(before) // COLUMNS_PER_FRAME + e) * COLUMNS_PER_FRAME - window for e in ends]
    windows = torch.from_numpy(np.stack([padded[s : s + window] for s in starts]))
    out = torch.cat([speech(part, last_frames=last)[0] for part in torch.split(windows, BATCH_WINDOWS)])
    committed = torch.zeros(frames, FEATURE_SIZE, dtype=torch.float16)
    edge = torch.zeros(frames, FEATURE_SIZE, dtype=torch.float16)
    for row, end in zip(out, ends, strict=True):
        for offset in range(-last, 0):
            if 0 <= end + offset < frames:
                (committed if offset < -lookahead_frames else edge)[end + offset] = row[offset].half()
    return committed, edge


def _filmed(folder: Path, cache: Path, config: HearingConfig, shard: Shard) -> Iterator[Hearing]:
    for clip, motion in clips_with_motion(folder, cache, shard):
        for phase in range(config.hop_frames):
            yield Hearing(clip.sound, motion, phase, flow=(clip.mouth_flow, clip.mouth_flow_confidence))


def _voices(folder: Path, cache: Path, corpus: Path, config: HearingConfig, shard: Shard) -> Iterator[Hearing]:
    """Every further sound of a filmed clip in the corpus, at alternating phases, half of them coloured."""
    own = {
        clip.key: (motion, (clip.mouth_flow, clip.mouth_flow_confidence))
        for clip, motion in clips_with_motion(folder, cache, shard)
    }
    seen: set[str] = set()
    for index, item in enumerate(i for i in read_corpus(corpus) if i.info.kind == "filmed"):
        if item.info.key not in seen:
            seen.add(item.info.key)  # the first is the clip as recorded
            continue
        if shard != WHOLE and item.info.key not in own:
            continue
        motion, flow = own[item.info.key]
        rng = np.random.default_rng((config.seed, index))
        yield Hearing(
            item.sound,
            motion,
            index % config.hop_frames,
            flow=flow,
            coloured=rng if rng.random() < 0.5 else None,
        )


def _spoken(corpus: Path, coarticulation: Path, config: HearingConfig, shard: Shard) -> Iterator[Hearing]:
    """Speech in many languages, each voice and language as often as the corpus has it."""
    mouth = load_coarticulation(coarticulation)
    for index, item in shard.every(enumerate(_some(corpus, "spoken", config.spoken_minutes))):
        frames = len(item.phonemes) // COLUMNS_PER_FRAME
        labels = item.phonemes[: frames * COLUMNS_PER_FRAME].astype(np.int64)
        yield Hearing(item.sound, mouth.motion(labels), index % config.hop_frames, style="co-articulated")


def _noise(corpus: Path, config: HearingConfig, shard: Shard) -> Iterator[Hearing]:
    for index, item in shard.every(enumerate(_some(corpus, "noise", config.noise_minutes))):
        frames = len(item.phonemes) // COLUMNS_PER_FRAME
        yield Hearing(item.sound, np.zeros((frames, MOTION_SIZE), np.float32), index % config.hop_frames)


def _some(corpus: Path, kind: str, minutes: float) -> Iterator[CorpusItem]:
    """Items of a kind, evenly over the corpus, up to so many minutes."""
    total = sum(i.info.columns for i in read_corpus(corpus) if i.info.kind == kind) / 6000
    stride = max(1.0, total / max(minutes, 1e-6))
    wanted = 0.0
    for place, item in enumerate(i for i in read_corpus(corpus) if i.info.kind == kind):
        if place >= wanted:
            wanted += stride
            yield item


def _manifest(prepared: Path) -> Path:
    return PreparedFolder(prepared).manifest


def _cache(
    folder: Path,
    name: str,
    speech: LoadedSpeech,
    config: HearingConfig,
    made_of: Sequence[Path],
    shard: Shard = WHOLE,
) -> Path:
    """Where what was heard is kept: the name changes with the encoder, the config and the files it was made of."""
    words = [speech.content_hash, config_to_json(config), *(sha256_of(path) for path in made_of if path.is_file())]
    return folder / f"{name}-{hashlib.sha256(' '.join(words).encode()).hexdigest()[:16]}{shard.suffix}.safetensors"


def _cached(path: Path, make: Callable[[], Iterator[Hearing]], hear: Heard) -> MotionItems:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        hear.items(make()).save(path)
    return MotionItems.load(path)


__all__ = [
    "Heard",
    "Hearing",
    "HearingConfig",
    "held_out_items",
    "stream_features",
    "train_items",
]
