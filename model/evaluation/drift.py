"""Does a long stream stay what it was? Change of the mean and of the spread of a signal over minutes.

Feed the *same* speech again and again and give its length as the period: then every period ought to be alike, and what
differs is drift, not what was said. A straight line is fitted through the periods' means and through their standard
deviations (least squares), and what it rises over the whole stream is reported with its standard error. Goal of the
design: within 5 % of a standard deviation in 10 minutes.

Measured are the lips, the mouth codes, the norm of the latents, and the head's pose. The same stream tells whether hops
join smoothly (`boundary_ratios`): the lips move no other between two hops than inside one. Goal: within 1.05.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.data.features import load_clips
from model.errors import InputError
from model.evaluation.hearing import FRAME_SAMPLES
from model.evaluation.lip_metrics import lip_signals, visible_lips
from model.motion.head_motion import HeadMotion, HeadMotionState
from model.motion.idle import IdleMotion
from model.motion.space import MOUTH_CODES, MotionSpace, load_motion_space
from model.results import Figure
from model.speech.log_mel import SAMPLE_RATE
from model.speech.speech_model import PROSODY_SLICE
from model.speech_to_motion import SpeechToMotion
from model.state import Controls

MIN_PERIODS = 3
GOAL_SD = 0.05
GOAL_RATIO = 1.05
LOOP_S = 60
MINUTE_S = 60
POSE_SEEDS = 64
"""Sessions whose heads are measured: sway and nods are random, and no minute of them is like another. With eight the
standard error was as large as half the goal."""
LIP_SEEDS = 8
"""Sessions whose lips are measured where they are random, too (temperature above 0)."""
ANGLES = ("yaw", "pitch", "roll")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Change from the first to the last period along the fitted line, in the signal's own standard deviations."""

    mean_change_sd: float
    mean_error_sd: float  # standard error of it
    spread_change_sd: float
    spread_error_sd: float
    periods: int


def measure_drift(signal: ArrayLike, *, period_frames: int) -> Drift:
    """Drift of a signal (T,): an opening, a width, one motion code. A rest shorter than a period is left out.

    Raises:
        InputError: It is not (T,), or holds fewer than three periods.
    """
    values = np.asarray(signal, np.float64)
    if values.ndim != 1 or period_frames < 2 or len(values) < MIN_PERIODS * period_frames:
        raise InputError(
            f"need (frames,) of at least {MIN_PERIODS} periods of 2 frames or more, "
            f"got {values.shape} and a period of {period_frames}"
        )
    periods = len(values) // period_frames
    rows = values[: periods * period_frames].reshape(periods, period_frames)
    scale = float(rows.std())
    if scale <= 0:
        return Drift(mean_change_sd=0.0, mean_error_sd=0.0, spread_change_sd=0.0, spread_error_sd=0.0, periods=periods)
    mean, mean_error = _rise(rows.mean(1) / scale)
    spread, spread_error = _rise(rows.std(1) / scale)
    return Drift(
        mean_change_sd=mean,
        mean_error_sd=mean_error,
        spread_change_sd=spread,
        spread_error_sd=spread_error,
        periods=periods,
    )


def mean_drift(found: Sequence[Drift]) -> Drift:
    """Of one signal in several sessions, which drift up or down by chance: mean changes, and their standard errors.

    Raises:
        InputError: There are fewer than two.
    """
    if len(found) < 2:
        raise InputError(f"a mean drift needs two sessions or more, got {len(found)}")

    def error(changes: list[float]) -> float:
        return float(np.std(changes, ddof=1) / np.sqrt(len(changes)))

    means, spreads = [d.mean_change_sd for d in found], [d.spread_change_sd for d in found]
    return Drift(
        mean_change_sd=float(np.mean(means)),
        mean_error_sd=error(means),
        spread_change_sd=float(np.mean(spreads)),
        spread_error_sd=error(spreads),
        periods=found[0].periods,
    )


def drift_figures(motions: NDArray[np.float32], space: MotionSpace, *, period_frames: int) -> dict[str, Figure]:
    """Drift of the opening and the width, and of the mouth code that drifts most, from motion (S, T, 32) of S sessions.

    `spread` is the standard error of the change.

    Raises:
        InputError: As `measure_drift`.
    """
    signals = [lip_signals(motion, space) for motion in motions]
    found = {
        "opening": _of_sessions([s.opening for s in signals], period_frames),
        "width": _of_sessions([s.width for s in signals], period_frames),
    }
    codes = [_of_sessions(motions[:, :, i], period_frames) for i in range(MOUTH_CODES.stop)]
    found["worst_code"] = max(codes, key=lambda d: max(abs(d.mean_change_sd), abs(d.spread_change_sd)))
    return {name: figure for part, drift in found.items() for name, figure in _drift_of(part, drift).items()}


def _of_sessions(signals: Sequence[ArrayLike] | NDArray[np.floating], period_frames: int) -> Drift:
    """Drift of one session, or the mean of several."""
    found = [measure_drift(signal, period_frames=period_frames) for signal in signals]
    return found[0] if len(found) == 1 else mean_drift(found)


@dataclass(frozen=True)
class LongStream:
    """What S sessions make of a long sound of T frames."""

    motion: NDArray[np.float32]  # (S, T, 32)
    latent_norm: NDArray[np.float64]  # (S, T), root mean square over the latents, standard deviations
    poses_deg: NDArray[np.float32]  # (P, T, 3) yaw, pitch, roll of P sessions that hear this
    hop_frames: int
    first_phase: int  # place of frame 0 in its hop


def boundary_ratios(points: NDArray[np.float64], *, hop_frames: int, first_phase: int = 0) -> dict[str, float]:
    """How much more moving points (T, P, D) step, turn and jerk where one hop joins the next than elsewhere; ideal: 1.

    Mean sizes of the first, second and third difference in time. A step and a jerk lie between two frames, at a
    boundary or inside a hop. A turn lies on a frame, and with hops of two frames every frame touches a boundary: it is
    the hop's last frame or its first, whichever turns more, over all others. `first_phase` is the place of frame 0 in
    its hop.

    Raises:
        InputError: Hops of one frame have no inside, or there are fewer than two hops and a frame.
    """
    if hop_frames < 2 or points.ndim != 3 or len(points) < max(4, 2 * hop_frames + 1):
        raise InputError(
            f"need (frames, points, axes) of two hops or more, got {points.shape} and hops of {hop_frames}"
        )
    sizes = [np.linalg.norm(np.diff(points, n=order, axis=0), axis=-1).mean(-1) for order in (1, 2, 3)]
    step, turn, jerk = (
        [_over_others(size, (np.arange(len(size)) + first_phase + lead) % hop_frames == phase) for phase in phases]
        for size, lead, phases in zip(sizes, (1, 1, 2), ((0,), (0, hop_frames - 1), (0,)), strict=True)
    )
    return {"step": step[0], "turn": max(turn), "jerk": jerk[0]}


def stream_figures(stream: LongStream, space: MotionSpace, *, period_frames: int) -> dict[str, Figure]:
    """Drift of everything in a stream, and how its hops join.

    Raises:
        InputError: As `measure_drift`.
    """
    figures = drift_figures(stream.motion, space, period_frames=period_frames)
    figures |= _drift_of("latent_norm", _of_sessions(stream.latent_norm, period_frames))
    for index, angle in enumerate(ANGLES):
        figures |= _drift_of(angle, _of_sessions(stream.poses_deg[:, :, index], period_frames))
    if stream.hop_frames > 1:
        ratios = [
            boundary_ratios(visible_lips(m, space), hop_frames=stream.hop_frames, first_phase=stream.first_phase)
            for m in stream.motion
        ]
        for name in ratios[0]:
            ratio = float(np.mean([r[name] for r in ratios]))
            figures[f"boundary_{name}_ratio"] = Figure(value=ratio, unit="1", goal=GOAL_RATIO, better="lower")
    return figures


def long_stream(sound: NDArray[np.float32], drive: SpeechToMotion, *, seeds: Sequence[int] = (0,)) -> LongStream:
    """Serve a sound of T x 640 samples to a session for each seed, as far as its motion and its head's pose."""
    states, ahead, hop = [drive.new_state(seed) for seed in seeds], drive.lookahead_frames, drive.hop_frames
    frames = len(sound) // FRAME_SAMPLES
    hops = -(-(frames + ahead) // hop)
    padded = np.pad(sound, (0, max(0, hops * drive.hop_samples - len(sound))))[: hops * drive.hop_samples]
    motion, norms, prosody, gate = [], [], [], []
    for part in padded.reshape(hops, drive.hop_samples):
        drive.listen([part] * len(states), states)
        features = drive.features(states)
        latents = drive.sample(features, states)
        motion.append(drive.decode(latents, features, states))
        norms.append(latents[:, -hop:].square().mean(-1).sqrt().numpy())
        prosody.append(features[0, :hop, PROSODY_SLICE].numpy())
        gate.append(states[0].gate.value)
    shown = slice(ahead, ahead + frames)
    return LongStream(
        motion=np.concatenate(motion, axis=1)[:, shown],
        latent_norm=np.concatenate(norms, axis=1)[:, shown].astype(np.float64),
        poses_deg=head_poses(np.stack(prosody), gate, -ahead)[:, shown],
        hop_frames=hop,
        first_phase=ahead % hop,
    )


def head_poses(prosody: NDArray[np.float32], gate: Sequence[float], first_frame: int) -> NDArray[np.float32]:
    """Yaw, pitch, roll (S, frames, 3) in degrees of `POSE_SEEDS` sessions: idle sway, and the usual head motion.

    prosody: (hops, hop, 4) of the features; gate: how far the voice gate is open at each hop, 0..1.
    """
    poses, strength = [], Controls().head_motion
    for seed in range(POSE_SEEDS):
        idle, head, state, frame = IdleMotion(seed), HeadMotion(), HeadMotionState(seed), first_frame
        for heard, speaking in zip(prosody, gate, strict=True):
            sway = np.array([idle.head_deg(frame + i) for i in range(len(heard))])
            poses.append(sway + strength * head(heard, speaking, frame, state))
            frame += len(heard)
    return np.concatenate(poses).reshape(POSE_SEEDS, -1, 3).astype(np.float32)


def evaluate_drift(folder: Path, *, minutes: int = 10, temperatures: Sequence[float] = (0.0, 1.0)) -> dict[str, Figure]:
    """Serve the same minute of speech (of prepared clips) again and again, and measure the drift at each temperature.

    Raises:
        InputError: Fewer than three minutes.
        DataError: No clips.
    """
    space = load_motion_space()
    spoken = np.concatenate([c.sound for c in load_clips(folder)])
    sound = np.tile(np.resize(spoken, LOOP_S * SAMPLE_RATE), minutes * MINUTE_S // LOOP_S)
    figures: dict[str, Figure] = {}
    for temperature in temperatures:
        seeds = range(LIP_SEEDS if temperature > 0 else 1)
        stream = long_stream(sound, SpeechToMotion.load(temperature=temperature), seeds=seeds)
        found = stream_figures(stream, space, period_frames=LOOP_S * SAMPLE_RATE // FRAME_SAMPLES)
        figures |= {f"temperature_{temperature:g}.{name}": figure for name, figure in found.items()}
    return figures


def _drift_of(name: str, drift: Drift) -> dict[str, Figure]:
    """The change of the mean and of the spread."""
    return {
        f"{name}_{part}_drift": Figure(value=abs(change), unit="sd", goal=GOAL_SD, better="lower", spread=error)
        for part, change, error in (
            ("mean", drift.mean_change_sd, drift.mean_error_sd),
            ("spread", drift.spread_change_sd, drift.spread_error_sd),
        )
    }


def _over_others(sizes: NDArray[np.float64], chosen: NDArray[np.bool_]) -> float:
    """Mean of the chosen over that of the others; 1 where nothing moves."""
    others = float(sizes[~chosen].mean())
    return float(sizes[chosen].mean()) / others if others > 0 else 1.0


def _rise(values: NDArray[np.float64]) -> tuple[float, float]:
    """What the line through (n,) values rises from first to last, and its standard error."""
    place = np.linspace(-0.5, 0.5, len(values))
    slope = float(place @ (values - values.mean()) / (place @ place))
    left = values - values.mean() - slope * place
    variance = float(left @ left) / (len(values) - 2)
    return slope, float(np.sqrt(variance / (place @ place)))
