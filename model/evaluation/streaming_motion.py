"""Does a session's motion depend on anything but its seed and its sound? It must not.

The same session is run alone, hop by hop; beside seven others in a batch; with sound that arrives in larger pieces or
in odd packets; and paused: it hears nothing for a while, its state is copied, and it goes on in another batch at
another place. Largest absolute difference of motion (codes, standard deviations) against the session alone. It is not
zero, because products of matrices are summed in another order for another batch, and the session hears itself.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.data.features import load_clips
from model.errors import InputError
from model.results import Figure
from model.speech_to_motion import DriveState, SpeechToMotion

__all__ = ["GOAL", "Session", "evaluate_streaming", "play", "play_paused", "push", "streaming_differences"]

GOAL: Final = 1e-5
ODD_PACKETS: Final = (641, 5000)
HOPS_A_PACKET: Final = (2, 4)
PAUSE_HOPS: Final = 7
BATCH: Final = 8
TEMPERATURES: Final = (0.0, 1.0)
Array = NDArray[np.float32]


@dataclass
class Session:
    """One listener: sound that has come and is no whole hop yet, its state, and its motion so far."""

    state: DriveState
    pending: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    motion: list[Array] = field(default_factory=list)

    @classmethod
    def start(cls, drive: SpeechToMotion, seed: int) -> Session:
        """A session that has heard nothing."""
        return cls(drive.new_state(seed))

    def has_hop(self, drive: SpeechToMotion) -> bool:
        """Whether a whole hop of sound waits."""
        return len(self.pending) >= drive.hop_samples

    def take_hop(self, drive: SpeechToMotion) -> Array:
        """The hop that waits longest (hop_samples,)."""
        hop, self.pending = np.split(self.pending, [drive.hop_samples])
        return hop

    @property
    def made(self) -> Array:
        """Motion so far (frames, 32)."""
        return np.concatenate(self.motion)


def push(drive: SpeechToMotion, sessions: Sequence[Session], packets: Sequence[Array]) -> None:
    """Hand each session a packet of sound, any length, and step all that have a whole hop together, until none has."""
    for session, packet in zip(sessions, packets, strict=True):
        session.pending = np.concatenate([session.pending, packet])
    while ready := [s for s in sessions if s.has_hop(drive)]:
        hops = [s.take_hop(drive) for s in ready]
        for session, motion in zip(ready, drive.hop(hops, [s.state for s in ready]), strict=True):
            session.motion.append(motion.copy())


def play(drive: SpeechToMotion, sounds: Sequence[Array], seeds: Sequence[int], *, packet_samples: int) -> list[Array]:
    """Motion of sessions side by side, each by its own seed, whose sounds come in packets of one length."""
    sessions = [Session.start(drive, seed) for seed in seeds]
    for start in range(0, max(len(s) for s in sounds), packet_samples):
        push(drive, sessions, [s[start : start + packet_samples] for s in sounds])
    return [s.made for s in sessions]


def play_paused(drive: SpeechToMotion, sounds: Sequence[Array], seeds: Sequence[int]) -> Array:
    """Motion of the first sound's session, which pauses in its middle while the others play on.

    Its state is copied when it pauses; it goes on, last in the batch, from the copy, and the original is thrown away.
    """
    hop = drive.hop_samples
    sessions = [Session.start(drive, seed) for seed in seeds]
    rows = [_hops(sound, hop) for sound in sounds]
    middle = len(rows[0]) // 2
    for index in range(middle):
        push(drive, sessions, [row[index] for row in rows])
    others, paused = sessions[1:], copy.deepcopy(sessions[0])
    for index in range(middle, middle + PAUSE_HOPS):
        push(drive, others, [row[index % len(row)] for row in rows[1:]])
    for index in range(middle, len(rows[0])):
        push(drive, [*others, paused], [*(row[index % len(row)] for row in rows[1:]), rows[0][index]])
    return paused.made


def streaming_differences(drive: SpeechToMotion, sounds: Sequence[Array], *, seed: int = 0) -> dict[str, float]:
    """Largest difference from the first sound's session alone, by what was changed.

    Sounds (samples,), -1..1, 16 kHz; all are cut to the whole hops of the shortest.

    Raises:
        InputError: Fewer than two sounds, or one shorter than four hops.
    """
    hop = drive.hop_samples
    length = min((len(s) for s in sounds), default=0) // hop * hop
    if len(sounds) < 2 or length < 4 * hop:
        raise InputError(f"need two sounds or more of {4 * hop} samples at least, got {len(sounds)} of {length}")
    whole = [s[:length].astype(np.float32) for s in sounds]
    seeds = [seed + 101 * index for index in range(len(whole))]
    alone = play(drive, whole[:1], seeds[:1], packet_samples=hop)[0]

    def apart(motion: Array) -> float:
        return float(np.abs(motion - alone).max())

    packets = {f"packets_of_{n}_hops": n * hop for n in HOPS_A_PACKET}
    packets |= {f"packets_of_{n}_samples": n for n in ODD_PACKETS}
    found = {name: apart(play(drive, whole[:1], seeds[:1], packet_samples=n)[0]) for name, n in packets.items()}
    order = [*range(1, len(whole)), 0]
    together = play(drive, [whole[i] for i in order], [seeds[i] for i in order], packet_samples=hop)
    found[f"batch_of_{len(whole)}"] = apart(together[-1])
    found["paused_and_resumed"] = apart(play_paused(drive, whole, seeds))
    return found


def evaluate_streaming(folder: Path) -> dict[str, Figure]:
    """The shipped models on the sound of eight prepared clips, at both ends of the temperature.

    Raises:
        DataError: There are no clips.
        InputError: There is only one.
    """
    sounds = [clip.sound for clip in load_clips(folder)[:BATCH]]
    found = {t: streaming_differences(SpeechToMotion.load(temperature=t), sounds) for t in TEMPERATURES}
    return streaming_figures(found)


def streaming_figures(found: Mapping[float, Mapping[str, float]]) -> dict[str, Figure]:
    """A figure for each difference, by temperature."""
    return {
        f"temperature_{temperature:g}.{name}": Figure(value=value, unit="sd", goal=GOAL, better="lower")
        for temperature, differences in found.items()
        for name, value in differences.items()
    }


def _hops(sound: Array, hop_samples: int) -> list[Array]:
    return list(sound.reshape(-1, hop_samples))
