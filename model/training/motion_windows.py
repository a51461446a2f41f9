"""Draws training windows shaped as serving shapes them, and makes their past imperfect.

Windows come from groups of items by given shares, at any hop of an item; frames before an item count as its first, as a
stream starts at rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import torch
from torch import Tensor

from model.diffusion.unet import STYLES, TemporalUNet, UNetConfig
from model.motion.mirror import mirror_matrix
from model.motion.space import load_motion_space
from model.motion.vae import AUDIO_OWNED, MotionVae
from model.motion.view_bias import POSE_UNIT_DEG, ViewBias
from model.speech.speech_model import PROSODY_SLICE
from model.training.motion_items import MotionItems, join_items

POSE_REACH_DEG: Final = (20.0, 10.0, 5.0)
"""Yaw (the paper's), pitch and roll of views are drawn evenly up to here."""
LEAD_FRAMES: Final = 8
"""What the encoder's convolutions look back on."""
Denoise = Callable[["Batch"], Tensor]
"""Latents (B, T, 16) of windows, by the model being trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentConfig:
    """Shares of windows, 0..1, unless named otherwise.

    group_shares: Of each group of items; what is missing is not drawn.
    mirrored: Filmed windows that are mirrored (and marked so).
    shift_frames: Sound against motion, at most, in shifted windows (the paper's +-50 ms is 1).
    prefix_noise: Largest standard deviation of the noise on the past.
    own_history_from: Share of the training after which the past is often what the model itself makes.
    posed: Windows seen from a turned head; only of models that are told the pose.
    """

    group_shares: dict[str, float] = field(
        default_factory=lambda: {"filmed": 0.3, "voices": 0.5, "spoken": 0.12, "noise": 0.08}
    )
    mirrored: float = 0.25
    shifted: float = 0.0
    shift_frames: int = 1
    feature_dropout: float = 0.1
    prosody_dropout: float = 0.5
    prefix_dropout: float = 0.15
    prefix_noise: float = 0.3
    own_history: float = 0.6
    own_history_from: float = 0.4
    posed: float = 0.5


@dataclass
class Batch:
    """Windows in the U-Net's own arguments, and the flow that was measured in them."""

    clean: Tensor  # (B, T, 16)
    prefix: Tensor
    prefix_mask: Tensor  # (B, T)
    audio: Tensor  # (B, T, 256)
    audio_mask: Tensor  # (B, T) bool
    style: Tensor  # (B,)
    pose: Tensor  # (B, 3)
    flow: Tensor  # (B, T, 78, 2)
    flow_confidence: Tensor  # (B, T, 78), 0 in mirrored and posed windows

    def denoised(self, unet: TemporalUNet, noisy: Tensor, noise_time: Tensor, **more: Tensor) -> Tensor:
        """The network's clean latents for these windows."""
        c = unet.config
        out: Tensor = unet(
            noisy,
            noise_time,
            self.prefix,
            self.prefix_mask,
            self.audio,
            self.audio_mask,
            pose=self.pose if c.pose_size else None,
            style=self.style if c.styles else None,
            **more,
        )
        return out

    def to(self, device: torch.device) -> Batch:
        """The same windows on a device."""
        return Batch(**{name: getattr(self, name).to(device) for name in self.__dataclass_fields__})

    def rows(self, chosen: Tensor) -> Batch:
        """Some of the windows."""
        return Batch(**{name: getattr(self, name)[chosen] for name in self.__dataclass_fields__})


@dataclass(frozen=True)
class Places:
    """Which windows: item, first frame of the hop, and what is done to it."""

    item: Tensor  # (B,)
    hop: Tensor  # (B,)
    shift: Tensor  # (B,) frames that the sound comes late
    mirrored: Tensor  # (B,) bool
    pose_deg: Tensor  # (B, 3)

    def earlier(self, frames: int) -> Places:
        """The windows some frames before."""
        return replace(self, hop=self.hop - frames)


class WindowSource:
    """Windows of all groups."""

    def __init__(
        self, groups: Mapping[str, MotionItems], vae: MotionVae, config: UNetConfig, augment: AugmentConfig
    ) -> None:
        self.config = config
        self.augment = augment
        self.vae = vae.eval()
        self.items = join_items(list(groups.values()))
        shares = torch.tensor([augment.group_shares.get(name, 0.0) for name in groups], dtype=torch.double)
        sizes = torch.tensor([len(g) for g in groups.values()])
        group = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
        total = torch.zeros(len(sizes), dtype=torch.double).index_add(0, group, self.items.frames.double())
        self._chance = self.items.frames.double() * (shares / total)[group]
        self._views = ViewBias.load() if augment.posed and config.pose_size else None
        self._mirror = torch.from_numpy(mirror_matrix(load_motion_space()))
        self._latents = self._encode(self.items.motion)
        self._mirrored = self._encode(self._flip(self.items.motion)) if augment.mirrored and config.styles else None

    def draw(self, count: int, generator: torch.Generator) -> Places:
        """Random windows."""
        c, a = self.config, self.augment
        item = torch.multinomial(self._chance, count, replacement=True, generator=generator)
        span = self.items.frames[item] + 1
        hop = (torch.rand(count, generator=generator) * span).long() - c.hop_frames + 1
        hop = hop - (hop - self.items.phase[item]) % c.hop_frames
        filmed = self.items.style[item] == STYLES.index("filmed")
        chance = torch.rand(3, count, generator=generator)
        mirrored = (chance[0] < a.mirrored) & filmed & (self._mirrored is not None)
        reach = 2 * a.shift_frames + 1
        shift = (torch.rand(count, generator=generator) * reach).long() - a.shift_frames
        turned = (chance[2] < a.posed) & filmed & ~mirrored & (self._views is not None)
        pose = (2 * torch.rand(count, 3, generator=generator) - 1) * torch.tensor(POSE_REACH_DEG) * turned[:, None]
        return Places(item, hop, shift * (chance[1] < a.shifted), mirrored, pose)

    @torch.no_grad()
    def at(self, places: Places) -> Batch:
        """The windows themselves."""
        c, items = self.config, self.items
        position = torch.arange(c.window_frames)
        frame = places.hop[:, None] + position - c.committed_frames
        count = items.frames[places.item][:, None]
        start = items.start[places.item][:, None]
        row = start + frame.clamp(min=0).minimum(count - 1)
        clean = self._latents[row]
        if self._mirrored is not None:
            clean = torch.where(places.mirrored[:, None, None], self._mirrored[row], clean)
        clean = self._seen_from(places, start, count, frame, clean)
        heard_frame = frame - places.shift[:, None]
        inside = (heard_frame >= 0) & (heard_frame < count)
        heard_row = start + heard_frame.clamp(min=0).minimum(count - 1)
        is_edge = position >= c.committed_frames + c.hop_frames
        audio = torch.where(is_edge[None, :, None], items.edge[heard_row], items.committed[heard_row]).float()
        heard = (position < c.heard_frames)[None] & inside
        mask = (position < c.committed_frames).float()[None].expand(len(row), -1)
        plain = ~places.mirrored & (places.shift == 0) & (places.pose_deg == 0).all(1)
        seen = (frame >= 0) & (frame < count) & plain[:, None]
        style = torch.where(places.mirrored, STYLES.index("mirrored"), items.style[places.item])
        return Batch(
            clean,
            clean * mask[..., None],
            mask,
            audio * heard[..., None],
            heard,
            style,
            places.pose_deg / POSE_UNIT_DEG,
            items.flow[row].float(),
            items.flow_confidence[row].float() * seen[..., None],
        )

    def _seen_from(self, places: Places, start: Tensor, count: Tensor, frame: Tensor, clean: Tensor) -> Tensor:
        """Latents of the motion as it appears from each window's pose, where it has one."""
        turned = (places.pose_deg != 0).any(1)
        if self._views is None or not turned.any():
            return clean
        lead = torch.arange(-LEAD_FRAMES, 0)
        wide = torch.cat([frame[turned][:, :1] + lead, frame[turned]], 1)
        row = start[turned] + wide.clamp(min=0).minimum(count[turned] - 1)
        apparent = self._views.apparent(self.items.motion[row], places.pose_deg[turned][:, None])
        out = clean.clone()
        out[turned] = self.vae.encode(apparent)[:, LEAD_FRAMES:]
        return out

    def past_of(self, count: int, generator: torch.Generator) -> tuple[Batch, Batch]:
        """Windows, and those earlier by the committed frames (for the model's own history)."""
        places = self.draw(count, generator)
        return self.at(places), self.at(places.earlier(self.config.committed_frames))

    def _flip(self, motion: Tensor) -> Tensor:
        flipped = motion.clone()
        flipped[:, :AUDIO_OWNED] = motion[:, :AUDIO_OWNED] @ self._mirror
        return flipped

    @torch.no_grad()
    def _encode(self, motion: Tensor) -> Tensor:
        """Latents of every row, item by item; items of one length go through together."""
        out = torch.zeros(len(motion), self.config.latent_size)
        for frames in self.items.frames.unique().tolist():
            starts = self.items.start[self.items.frames == frames]
            rows = starts[:, None] + torch.arange(frames)
            for part in rows.split(256):
                out[part] = self.vae.encode(motion[part])
        return out


def perturb(batch: Batch, augment: AugmentConfig, generator: torch.Generator) -> Batch:
    """The past made noisy or hidden, and the sound partly hidden."""
    size = len(batch.clean)

    def chance(share: float) -> Tensor:
        return (torch.rand(size, 1, generator=generator) < share).float()

    noise = torch.randn(batch.prefix.shape, generator=generator) * torch.rand(size, 1, 1, generator=generator)
    prefix = batch.prefix + augment.prefix_noise * noise * batch.prefix_mask[..., None]
    kept = 1 - chance(augment.prefix_dropout)
    audio = batch.audio * (1 - chance(augment.feature_dropout))[..., None]
    shown = 1 - chance(augment.prosody_dropout)[..., None]
    audio = torch.cat(
        [audio[..., : PROSODY_SLICE.start], audio[..., PROSODY_SLICE] * shown, audio[..., PROSODY_SLICE.stop :]], -1
    )
    return replace(batch, prefix=prefix * kept[..., None], prefix_mask=batch.prefix_mask * kept, audio=audio)


@torch.no_grad()
def own_history(make: Denoise, batch: Batch, earlier: Batch, share: float, generator: torch.Generator) -> Batch:
    """Replace the past of a share of the windows by what `make` makes of the windows before."""
    committed = int(batch.prefix_mask[0].sum())
    chosen = torch.rand(len(batch.clean), generator=generator) < share
    if not committed or not chosen.any():
        return batch
    back, now = earlier.rows(chosen), batch.rows(chosen)
    fresh = slice(committed, 2 * committed)  # of the windows before: what is past now, and has been heard since
    back.audio[:, fresh], back.audio_mask[:, fresh] = now.audio[:, :committed], now.audio_mask[:, :committed]
    prefix = batch.prefix.clone()
    past = torch.zeros_like(now.prefix)
    past[:, :committed] = make(back)[:, fresh]
    prefix[chosen] = past
    return replace(batch, prefix=prefix)


__all__ = ["AugmentConfig", "Batch", "Places", "WindowSource", "own_history", "perturb"]
