"""The whole serving step as one function of tensors: a hop of sound in, I420 pictures out, for a fixed number of slots.

Log-mel, voice activity, speech encoder, sampler, decoder, gate, smoothing, retargeting, head motion, idle motion and
mood, pose, field conditions, ray marching, torso, compositing and color. It computes what `AvatarPipeline.step` does,
without one look at the numbers: no value decides what is computed next, so a GPU can be given the whole of it at once
(`model.slots.graphs`). What depends on a session's seed and controls alone (noise, blinks, gaze, sway, moods' easing)
is made on the host and comes in with the sound.
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from kernels.color.slots import composite_i420_slots
from kernels.layer.slots import warp_layer_slots
from model.diffusion.generator import DECODER_FRAMES
from model.diffusion.samplers import sample
from model.diffusion.unet import UNetConfig
from model.errors import ConfigError
from model.motion.head_motion import HeadMotion
from model.motion.space import MOTION_SIZE, MotionSpace
from model.motion.vae import AUDIO_OWNED
from model.radiance.config import ROTATION_SCALE_RAD
from model.slots import mouth
from model.slots.avatars import AvatarTable
from model.slots.heads import Heads
from model.slots.hearing import LOOKBACK_SAMPLES, SlotMel, SlotVoice
from model.slots.layout import RowLayout
from model.slots.posing import HeadPlace, condition_fields, place_heads
from model.speech.speech_model import PROSODY_SLICE
from model.speech.voice_activity import CHUNK_SAMPLES, CONTEXT_SAMPLES
from model.speech.whisper_encoder import best_precision
from model.speech_to_motion import SpeechToMotion


class StepOutput(NamedTuple):
    """Of B slots."""

    rows: Tensor  # (B, state bytes): what the sessions remember now
    pictures: Tensor  # (B, hop, i420_bytes) uint8
    motion: Tensor  # (B, hop, 32) as shown
    head_deg: Tensor  # (B, hop, 3) as shown


def state_layout(config: UNetConfig, window_columns: int, num_mels: int) -> RowLayout:
    """What a session remembers on the device."""
    past = max(config.committed_frames, DECODER_FRAMES)
    gate = "gate_value gate_quiet gate_trust gate_hushed gate_breath gate_breath_left"
    rest = "mel_maximum vad_count smooth_speed smooth_opening head_loudness head_known head_since_nod mood_closed"
    doubles: dict[str, tuple[int, ...]] = dict.fromkeys(f"{gate} {rest}".split(), ())
    doubles |= dict.fromkeys(("head_angles", "head_velocity", "head_wanted"), (3,))
    floats = {
        "mel_tail": (LOOKBACK_SAMPLES,),
        "columns": (window_columns, num_mels),
        "vad_waiting": (CHUNK_SAMPLES - 1,),
        "vad_context": (CONTEXT_SAMPLES,),
        "vad_cell": (2, 128),
        "vad_probability": (),
        "latents": (past, config.latent_size),
        "features": (past, config.feature_size),
        "smooth_made": (MOTION_SIZE,),
        "smooth_shown": (MOTION_SIZE,),
    }
    return RowLayout(doubles, floats)


def input_layout(config: UNetConfig, hop_samples: int, *, noisy: bool) -> RowLayout:
    """What a hop brings: `frame` counts the speech stream's own frames from -lookahead on."""
    hop = config.hop_frames
    doubles: dict[str, tuple[int, ...]] = dict.fromkeys(("avatar", "picture", "frame", "hush"), ())
    floats = {"audio": (hop_samples,), "idle": (hop, MOTION_SIZE), "mood": (hop, MOTION_SIZE)}
    floats |= {"turned_deg": (hop, 3), "nod_deg": (hop, 3), "head_share": ()}
    if noisy:
        floats["noise"] = (config.window_frames, config.latent_size)
    return RowLayout(doubles, floats)


class FixedSlotStep(nn.Module):
    """Weights of the whole step on one device; called with rows of `state` and `inputs`.

    Args:
        drive: Copied to the table's device; its options stay.
        torso_follows: Whether these slots' torsos move with their heads. One step serves one kind.

    Raises:
        ConfigError: Motion is aggregated over several views, or not smoothed, which is not done in slots.
    """

    low: Tensor  # (32,) of the motion space, as high
    high: Tensor
    opening: Tensor  # (16,) gap between the lips of each mouth code
    omega: Tensor  # (3,) of the head's springs

    def __init__(
        self,
        drive: SpeechToMotion,
        space: MotionSpace,
        table: AvatarTable,
        heads: Heads,
        *,
        torso_follows: bool = False,
    ) -> None:
        super().__init__()
        if drive.views is not None or drive.smoother is None:
            raise ConfigError("slots take one view and a smoother: several views are served with --device cpu")
        stack, generator = drive.stack, drive.stack.generator
        self.config = generator.config
        self.num_steps, self.temperature = generator.num_steps, generator.temperature
        self.gate, self.smoothing, self.head_motion = drive.gate, drive.smoother.config, HeadMotion()
        self.table, self.heads, self.torso_follows = table, heads, torso_follows
        encoder = stack.speech.model.config.encoder
        self.state = state_layout(self.config, encoder.window_columns, encoder.num_mels)
        self.inputs = input_layout(self.config, drive.hop_samples, noisy=self.temperature > 0)
        self.speech = copy.deepcopy(stack.speech.model)
        self.unet, self.vae = copy.deepcopy(generator.unet), copy.deepcopy(stack.vae)
        self.mel = SlotMel(encoder.num_mels, drive.hop_samples)
        self.voice = SlotVoice(copy.deepcopy(drive.voice), drive.hop_samples)
        for name, array in (("low", space.low), ("high", space.high), ("opening", space.opening_row)):
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(array)))
        self.register_buffer("omega", torch.from_numpy(self.head_motion.omega))
        self.eval().requires_grad_(False).to(table.device)
        if table.device.type == "cuda":
            self.speech.encoder.set_precision(best_precision(table.device))

    def forward(self, rows: Tensor, hop_rows: Tensor) -> StepOutput:
        """One hop of B slots: rows (B, state bytes) and what the hop brings (B, input bytes)."""
        with exact_convolutions(rows.device):
            return self._forward(rows, hop_rows)

    def _forward(self, rows: Tensor, hop_rows: Tensor) -> StepOutput:
        state, given = self.state.split(rows), self.inputs.split(hop_rows)
        avatar = given["avatar"].long()
        new = self.mel(state, given["audio"]) | self.voice(state, given["audio"])
        features = self.speech(
            new["columns"], last_frames=self.config.hop_frames + self.config.lookahead_frames
        ).features
        spoken, sampled = self._sample(state, given, features)
        heard = state | new
        face, head_deg, moved = self._finish(heard, given, features, spoken, avatar)
        motion, closed = mouth.animate(
            state["mood_closed"], face, given["idle"], given["mood"], moved["gate_value"], self.opening
        )
        angles = given["turned_deg"] + given["head_share"][:, None, None] * head_deg
        pictures = self._picture(motion, angles, avatar, given["picture"].long())
        joined = self.state.join(heard | sampled | moved | {"mood_closed": closed})
        return StepOutput(joined, pictures, motion, angles)

    def _sample(
        self, state: dict[str, Tensor], given: dict[str, Tensor], features: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Motion (B, hop, 32) as `MotionGenerator.step` and the decoder make it; new latents and features."""
        c = self.config
        batch, device = len(features), features.device
        rest = c.window_frames - c.committed_frames
        prefix = torch.cat(
            [state["latents"][:, -c.committed_frames :], features.new_zeros(batch, rest, c.latent_size)], 1
        )
        mask = (torch.arange(c.window_frames, device=device) < c.committed_frames).float().expand(batch, -1)
        unheard = features.new_zeros(batch, c.window_frames - c.heard_frames, c.feature_size)
        audio = torch.cat([state["features"][:, -c.committed_frames :], features, unheard], 1)
        place = torch.arange(c.window_frames, device=device)
        heard = (given["frame"][:, None] + place - c.committed_frames >= 0) & (place < c.heard_frames)
        heat = features.new_full((batch,), self.temperature)

        def denoise(noisy: Tensor, noise_time: Tensor, target_time: Tensor) -> Tensor:
            out: Tensor = self.unet(noisy, noise_time, prefix, mask, audio, heard, target_time, heat, None)
            return out

        noise = given["noise"] if "noise" in given else torch.zeros_like(prefix)
        clean = sample(c.process, denoise, noise, num_steps=self.num_steps, num_timesteps=c.num_timesteps)
        hop = clean[:, c.committed_frames : c.committed_frames + c.hop_frames]
        latents = torch.cat([state["latents"], hop], 1)
        kept = torch.cat([state["features"], features[:, : c.hop_frames]], 1)
        motion = self.vae.decode(latents)[:, -c.hop_frames :]
        return motion, {"latents": latents[:, c.hop_frames :], "features": kept[:, c.hop_frames :]}

    def _finish(
        self, state: dict[str, Tensor], given: dict[str, Tensor], features: Tensor, motion: Tensor, avatar: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The avatars' face motion (B, hop, 32), head motion (B, hop, 3) in degrees, and new state."""
        hop = self.config.hop_frames
        share, gate = mouth.open_gate(state, features, given["hush"], hop, self.gate)
        rest = self.table.tensors["rest"].index_select(0, avatar)[:, None]
        motion = rest + share.float()[..., None] * (motion - rest)
        motion, smoothed = mouth.smooth(state, motion, self.opening, self.smoothing)
        motion = torch.minimum(torch.maximum(motion, self.low), self.high)
        matrix = self.table.tensors["retarget"].index_select(0, avatar)
        owned = motion[..., :AUDIO_OWNED] @ matrix.transpose(1, 2)
        face = torch.cat([owned, motion[..., AUDIO_OWNED:]], -1)
        prosody = features[:, :hop, PROSODY_SLICE]
        head_deg, head = mouth.move_head(
            state, prosody, gate["gate_value"], given["nod_deg"], self.omega, self.head_motion.config
        )
        return face, head_deg, gate | smoothed | head

    def _picture(self, motion: Tensor, angles_deg: Tensor, avatar: Tensor, picture: Tensor) -> Tensor:
        """I420 (B, hop, bytes) of motion (B, hop, 32) and head angles (B, hop, 3)."""
        hop, tensors = self.config.hop_frames, self.table.tensors
        shows, stands_before = (index[:, None].repeat(1, hop).flatten() for index in (avatar, picture))
        place = place_heads(angles_deg.flatten(0, 1), shows, tensors)
        field = condition_fields(motion.flatten(0, 1), place.rotvec, shows, tensors)
        rgba = self.heads(shows, place.cameras, field.biases, field.warps)
        if not self.torso_follows:
            out = composite_i420_slots(rgba, self.table.pictures, which=stands_before)
        else:
            out = composite_i420_slots(rgba, self._torsos(place, shows, stands_before))
        hops: Tensor = out.unflatten(0, (-1, hop))
        return hops

    def _torsos(self, place: HeadPlace, avatar: Tensor, picture: Tensor) -> Tensor:
        """Torsos as the heads move them, over what is behind (F, S, S, 3)."""
        tensors = {
            name: self.table.tensors[name].index_select(0, avatar) for name in ("torso", "torso_mix", "torso_basis")
        }
        centre = self.table.tensors["centre"].index_select(0, avatar)
        scale = self.table.tensors["scale"].index_select(0, avatar)[:, None]
        shift = ((place.rotation @ centre[..., None])[..., 0] + place.shift - centre) / scale
        pose = torch.cat([place.rotvec / ROTATION_SCALE_RAD, shift], 1).float()
        mix = torch.bmm(tensors["torso_mix"], pose[..., None])[..., 0]
        grid = (tensors["torso_basis"] * mix[:, :, None, None, None]).sum(1).permute(0, 2, 3, 1)
        return warp_layer_slots(tensors["torso"], grid, self.table.pictures.index_select(0, picture))


def exact_convolutions(device: torch.device) -> AbstractContextManager[None]:
    """Float32 convolutions without TF32, which cuDNN takes if not told; products of matrices never do by themselves."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
