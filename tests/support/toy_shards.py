"""A small motion training on made-up prepared clips, whole or by shards; a script for torchrun.

One process with the whole corpus takes, in each step, the windows that two processes draw from their shards.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch

from model.data.features import ClipFeatures, to_sample
from model.data.preparing.records import Manifest, Recipe, ShardEntry, write_record
from model.data.preparing.tar_files import write_tar
from model.diffusion.unet import TemporalUNet, UNetConfig
from model.face.head_pose import HeadPose, Intrinsics
from model.motion.vae import MotionVae, VaeConfig
from model.speech.speech_file import LoadedSpeech
from model.speech.speech_model import SpeechConfig, SpeechModel
from model.speech.whisper_encoder import EncoderConfig
from model.training.distributed import ALONE, Distributed
from model.training.motion_data import HearingConfig, train_items
from model.training.motion_items import MotionItems
from model.training.motion_shards import WHOLE, Shard
from model.training.motion_windows import AugmentConfig, Batch, WindowSource
from model.training.run import Run, RunConfig

PROCESSES = 2
CLIPS, SPEAKERS, PER_TAR = 7, 3, 3
RUN = RunConfig(steps=4, batch=8, learning_rate=1e-3, warmup_steps=1, save_every=2, precision="float32")
MODEL = UNetConfig(process="flow", channels=(16, 16), condition_size=16, context_size=16, num_heads=2)
AUGMENT = AugmentConfig(group_shares={"filmed": 1.0}, mirrored=0.0, posed=0.0)


def made_clip(number: int) -> ClipFeatures:
    """A clip of 10 frames or a few more."""
    frames, rng = 10 + number, np.random.default_rng(number)
    eye = np.tile(np.eye(3), (frames, 1, 1))
    camera = Intrinsics(fx_px=500, fy_px=500, cx_px=144, cy_px=144, estimated=True)
    place = np.tile([0.0, 0.0, 50.0], (frames, 1))
    return ClipFeatures(
        key=f"clip{number:03d}",
        landmarks=rng.uniform(50, 250, (frames, 478, 3)).astype(np.float32),
        found=np.ones(frames, np.bool_),
        scores=np.zeros((frames, 52), np.float32),
        pose=HeadPose(eye, place, eye, place, np.zeros(frames), camera),
        motion=np.zeros((frames, 32), np.float32),
        arkit=np.zeros((frames, 52), np.float32),
        mouth_flow=rng.normal(0, 0.02, (frames, 78, 2)).astype(np.float32),
        mouth_flow_confidence=np.ones((frames, 78), np.float32),
        audio=rng.integers(-9000, 9000, frames * 640).astype(np.int16),
        crop=np.zeros((1, 2, 3), np.float32),
        meta={"speaker": f"s{number * SPEAKERS // CLIPS}"},
    )


def write_prepared(folder: Path) -> None:
    """A prepared folder of several tars."""
    folder.mkdir(parents=True)
    entries = []
    for number, first in enumerate(range(0, CLIPS, PER_TAR)):
        clips = range(first, min(first + PER_TAR, CLIPS))
        path = folder / f"shard-{number:06d}.tar"
        samples = [to_sample(made_clip(clip)) for clip in clips]
        write_tar(path, [(f"{s.key}.{part}", s.parts[part]) for s in samples for part in sorted(s.parts)])
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        entries.append(ShardEntry(name=path.name, sha256=digest, bytes=len(data), clips=len(clips), samples=len(clips)))
    recipe = Recipe(
        data_set="toy",
        analysis="none:none",
        settings={},
        inputs={},
        versions={},
        shard_clips=PER_TAR,
        clips=CLIPS,
        sources_sha256="",
    )
    counts = {"clips": CLIPS, "used": CLIPS, "samples": CLIPS, "bytes": sum(entry.bytes for entry in entries)}
    write_record(folder / "manifest.json", Manifest(recipe=recipe, shards=tuple(entries), rejects={}, **counts))


def heard(folder: Path, shard: Shard) -> MotionItems:
    """A shard's items, by a small speech encoder."""
    torch.manual_seed(0)
    encoder = EncoderConfig(width=32, num_heads=2, num_layers=1)
    speech = SpeechModel(SpeechConfig(encoder=encoder, patch_channels=4)).eval()
    loaded = LoadedSpeech(speech, "0" * 16)
    return train_items(folder / "grid", loaded, folder / "heard", HearingConfig(), shard=shard)["filmed"]


def source_of(items: MotionItems) -> WindowSource:
    torch.manual_seed(0)
    vae = MotionVae(VaeConfig()).eval().requires_grad_(False)
    return WindowSource({"filmed": items}, vae, MODEL, AUGMENT)


class Windows:
    """The windows of each step. Alone: those of all processes, read from the whole corpus."""

    def __init__(self, folder: Path, distributed: Distributed) -> None:
        alone = distributed == ALONE
        self.shards = [Shard(rank, PROCESSES) for rank in range(PROCESSES)] if alone else [Shard.of(distributed)]
        self.drawn_from = [source_of(heard(folder, shard)) for shard in self.shards]
        self.whole = source_of(heard(folder, WHOLE)) if alone else None

    def of(self, step: int) -> Batch:
        """The windows of a step."""
        batches, before = [], 0
        for shard, source in zip(self.shards, self.drawn_from, strict=True):
            generator = torch.Generator().manual_seed(1000 * step + shard.rank)
            places = source.draw(RUN.batch // PROCESSES, generator)
            places.item.add_(before if self.whole else 0)
            batches.append((self.whole or source).at(places))
            before += len(source.items)
        names = Batch.__dataclass_fields__
        return Batch(**{name: torch.cat([getattr(batch, name) for batch in batches]) for name in names})


def train(folder: Path, run_folder: Path, distributed: Distributed, *, stop_at: int = RUN.steps) -> TemporalUNet:
    """Train on the folder's clips until a step."""
    windows = Windows(folder, distributed)
    torch.manual_seed(1)
    unet = TemporalUNet(MODEL)
    run = Run(run_folder, "toy-shards", unet, RUN, distributed=distributed)
    while run.step < stop_at:
        batch = windows.of(run.step)
        time = torch.full((len(batch.clean),), 0.5)
        loss = (batch.denoised(unet, 0.5 * batch.clean, time) - batch.clean).square().mean()
        run.update(loss)
    return unet


def main(folder: Path) -> None:
    """Train in two goes, and write what this process ends with and how much it held."""
    with Distributed.from_environment(os.environ, timeout_s=90) as distributed:
        run = folder / "run"
        train(folder, run, distributed, stop_at=RUN.steps // 2)
        unet = train(folder, run, distributed)
        frames = int(heard(folder, Shard.of(distributed)).frames.sum())
        weights = {name: value.tolist() for name, value in unet.state_dict().items()}
        (folder / f"process-{distributed.rank}.json").write_text(json.dumps({"weights": weights, "frames": frames}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
