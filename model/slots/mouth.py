"""Voice gate, smoothing, head motion and moods of all slots, as functions of tensors.

Each repeats a rule that sessions on the CPU follow one by one (`model.motion.voice_gate`, `smoothing`, `head_motion`,
`mood`), with a choice of values where those have a branch. What they keep in Python's floats is float64 here too, so
that both decide alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from model.motion.head_motion import ENERGY, FPS, VOICING, HeadMotionConfig
from model.motion.mood import CLOSED_OPENING, CLOSURE_SHARE, FREE_OPENING, RECOVERY_FRAMES
from model.motion.smoothing import SPEED_SHARE, SmoothingConfig
from model.motion.space import BROW_CODES, LID_CODES, MOUTH_CODES
from model.motion.voice_gate import GateConfig
from model.speech.phonemes import SILENCE_INDEX
from model.speech.speech_model import PROSODY_SLICE

Fields = Mapping[str, Tensor]


def open_gate(
    state: Fields, features: Tensor, hush: Tensor, hop: int, c: GateConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Gate values (B, hop) and new `gate_*` fields; `hush` (B,) is 1 where speech was interrupted."""
    speech = 1.0 - features[..., SILENCE_INDEX]
    phonemes, certain = _ramp(speech, c.start, c.full).double(), _ramp(speech, c.certain_start, c.certain_full).double()
    faint = _ramp(speech, c.breath_start, c.breath_full).double()
    level = features[..., PROSODY_SLICE.start].double()
    confirmed = _ramp(state["vad_probability"], c.voice_start, c.voice_full).double()
    value, quiet, trust, hushed = (state[f"gate_{name}"] for name in ("value", "quiet", "trust", "hushed"))
    hushed = torch.where(hush > 0, float(c.hush_frames), hushed)
    quiet = torch.where(hush > 0, quiet.clamp(min=c.hold_frames), quiet)
    breath, left = state["gate_breath"], torch.where(hush > 0, 0.0, state["gate_breath_left"])
    values = []
    for i in range(hop):
        sure = certain[:, i]
        unconfirmed = torch.where(trust >= 1.0, sure * c.trusted, 0.0)
        wanted = torch.maximum(phonemes[:, i : i + 3].amax(1) * confirmed, unconfirmed)
        trust, quiet = _trust(trust, quiet, sure, confirmed, c)
        hushing = hushed > 0
        quiet_enough = 1.0 - _ramp(level[:, i : i + 3].amax(1), c.breath_quiet, c.breath_loud)
        breath, left = _breathe(breath, left, faint[:, i : i + 3].amax(1), quiet_enough, sure, confirmed, hushing, c)
        rising = ~hushing & (wanted >= value)
        falling = ~hushing & ~rising & (wanted <= 0.5)
        waited = quiet + falling
        quiet = torch.where(hushing | falling, waited, 0.0)
        closed = torch.where(
            falling & (waited > c.hold_frames), torch.maximum(wanted, value - 1.0 / c.close_frames), value
        )
        opened = torch.where(rising, torch.minimum(wanted, value + 0.5), closed)
        value = torch.where(hushing, (value - 1.0 / c.hush_frames).clamp(min=0.0), opened)
        hushed = (hushed - 1.0).clamp(min=0.0)
        values.append(torch.maximum(value, breath))
    new = {"gate_value": value, "gate_quiet": quiet, "gate_trust": trust, "gate_hushed": hushed}
    return torch.stack(values, 1), new | {"gate_breath": breath, "gate_breath_left": left}


def _trust(trust: Tensor, quiet: Tensor, heard: Tensor, confirmed: Tensor, c: GateConfig) -> tuple[Tensor, Tensor]:
    renewed = (confirmed >= 1.0) & (heard > 0.5)
    used = ~renewed & (heard > confirmed) & (trust >= 1.0)
    left = trust - (heard - confirmed)
    quiet = torch.where(used & (left < 1.0), quiet.clamp(min=c.hold_frames), quiet)
    return torch.where(renewed, c.trust_frames, torch.where(used, left, trust)), quiet


def _breathe(
    breath: Tensor,
    left: Tensor,
    heard: Tensor,
    quiet: Tensor,
    sure: Tensor,
    confirmed: Tensor,
    hushing: Tensor,
    c: GateConfig,
) -> tuple[Tensor, Tensor]:
    voiced = (confirmed >= 1.0) & (sure > 0.5)
    spent = (left - 1.0 - c.breath_surprise * (sure - confirmed).clamp(min=0.0)).clamp(min=0.0)
    spent = torch.where(voiced, c.breath_frames, torch.where(heard > 0, spent, left))
    wanted = torch.where(spent > 0, heard * quiet, 0.0)
    fall = torch.where(spent > 0, c.breath_fall, 1.0 / c.close_frames)
    moved = torch.where(
        wanted >= breath, torch.minimum(wanted, breath + c.breath_rise), torch.maximum(wanted, breath - fall)
    )
    hushed = (breath - 1.0 / c.hush_frames).clamp(min=0.0)
    return torch.where(hushing, hushed, moved), torch.where(hushing, left, spent)


def _ramp(value: Tensor, start: float, full: float) -> Tensor:
    return ((value - start) / (full - start)).clamp(0.0, 1.0)


def smooth(state: Fields, motion: Tensor, opening_row: Tensor, c: SmoothingConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """Smoothed motion (B, hop, 32) and new `smooth_*` fields; `opening_row` (16,) gives the gap between the lips."""
    if c.strength == 0.0:
        return motion, {name: value for name, value in state.items() if name.startswith("smooth_")}
    made, shown, speed, opening = (state[f"smooth_{name}"] for name in ("made", "shown", "speed", "opening"))
    openings = (motion[..., MOUTH_CODES] @ opening_row).double()
    out = []
    for i in range(motion.shape[1]):
        frame = motion[:, i]
        step = frame[:, MOUTH_CODES] - made[:, MOUTH_CODES]
        fresh = FPS * step.square().mean(1).double().sqrt()
        speed = speed + SPEED_SHARE * (fresh - speed)
        cutoff_hz = c.cutoff_hz + c.cutoff_per_speed * torch.maximum(fresh, speed)
        kept = 1.0 / (1.0 + 2.0 * math.pi * cutoff_hz / FPS) + (c.hop_share if i == 0 else 0.0)
        shut = 2.0 - openings[:, i] / c.shut_opening
        falling = (opening - openings[:, i]) / c.falling_opening - 1.0
        closing = torch.maximum(shut, falling).clamp(0.0, 1.0)
        kept = (kept * c.strength * (1.0 - closing)).float()[:, None]
        made, opening = frame, openings[:, i]
        shown = frame + kept * (shown - frame)
        out.append(shown)
    new = {"smooth_made": made, "smooth_shown": shown, "smooth_speed": speed, "smooth_opening": opening}
    return torch.stack(out, 1), new


def move_head(
    state: Fields, prosody: Tensor, speaking: Tensor, drawn: Tensor, omega: Tensor, c: HeadMotionConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Yaw, pitch, roll (B, hop, 3) in degrees and new `head_*` fields.

    Args:
        prosody: (B, hop, 4).
        speaking: (B,) the gate, 0..1.
        drawn: (B, hop, 3): yaw, pitch and roll of the nod that each frame would ask for, degrees at full stress.
        omega: (3,) float64, angular frequencies of the springs (`HeadMotion.omega`).
    """
    angles, velocity, wanted, loudness, known, since = (
        state[f"head_{name}"] for name in ("angles", "velocity", "wanted", "loudness", "known", "since_nod")
    )
    energy, voicing = prosody[..., ENERGY].double(), prosody[..., VOICING].double()
    out = []
    for i in range(prosody.shape[1]):
        loudness = torch.where(known > 0, loudness, energy[:, i])
        known = torch.ones_like(known)
        rise = (energy[:, i] - loudness) / c.full_rise
        loudness = loudness + speaking * (energy[:, i] - loudness) / (c.loudness_s * FPS)
        stress = rise.clamp(0.0, 1.0) * voicing[:, i] * speaking
        wanted, since = _ask(stress, speaking, drawn[:, i].double(), wanted, since, c)
        offset = angles - wanted
        drive = velocity + omega * offset
        decay = torch.exp(-omega / FPS)
        angles = wanted + (offset + drive / FPS) * decay
        velocity = (velocity - omega * drive / FPS) * decay
        out.append(angles.float())
    new = {"angles": angles, "velocity": velocity, "wanted": wanted, "loudness": loudness}
    new |= {"known": known, "since_nod": since}
    return torch.stack(out, 1), {f"head_{name}": value for name, value in new.items()}


def _ask(
    stress: Tensor, speaking: Tensor, drawn: Tensor, wanted: Tensor, since: Tensor, c: HeadMotionConfig
) -> tuple[Tensor, Tensor]:
    calmer = 1.0 - 0.1 * (1.0 - speaking)
    falling = torch.full_like(calmer, math.exp(-1.0 / (c.nod_decay_s * FPS)))
    wanted = wanted * torch.stack([calmer, falling, calmer], 1)
    since = since + 1.0
    nods = (stress >= c.stress) & (since >= c.rest_s * FPS)
    return torch.where(nods[:, None], stress[:, None] * drawn, wanted), torch.where(nods, 0.0, since)


def animate(
    closed: Tensor, motion: Tensor, idle: Tensor, mood: Tensor, speaking: Tensor, opening_row: Tensor
) -> tuple[Tensor, Tensor]:
    """Motion (B, hop, 32) with idle motion and mood (both (B, hop, 32)), and new `mood_closed` (B,).

    A mood of zeros changes nothing, the memory of closed lips included.
    """
    out = []
    for i in range(motion.shape[1]):
        frame, offset = motion[:, i] + idle[:, i], mood[:, i]
        opening = (frame[:, MOUTH_CODES] @ opening_row).double()
        now = ((FREE_OPENING - opening) / (FREE_OPENING - CLOSED_OPENING)).clamp(0.0, 1.0) * speaking
        shown = (offset != 0).any(1)
        closed = torch.where(shown, torch.maximum(now, closed - 1.0 / RECOVERY_FRAMES), closed)
        share = (1.0 - (1.0 - CLOSURE_SHARE) * closed).float()[:, None]
        lids = frame[:, LID_CODES]
        parts = [
            frame[:, MOUTH_CODES] + share * offset[:, MOUTH_CODES],
            frame[:, BROW_CODES] + offset[:, BROW_CODES],
            lids + offset[:, LID_CODES] * (1.0 - lids.clamp(0.0, 1.0)),
            frame[:, LID_CODES.stop :],
        ]
        out.append(torch.cat(parts, 1))
    return torch.stack(out, 1), closed
