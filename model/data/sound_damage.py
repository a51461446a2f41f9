"""What rooms, microphones and lines do to a recording, with its times kept: same length, no delay.

In the order of a real chain: room, microphone (tilt, band), hum and direct current, gain, clipping, converter, line
(Opus). `Damage` holds the drawn numbers, so that the same damage can be done again. Offline only: training data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import av
import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve, resample_poly

from model.data.noise_parts import band_gain, shape_spectrum, tilt_gain
from model.errors import ConfigError, InputError
from model.speech.log_mel import SAMPLE_RATE

__all__ = ["Damage", "Reverb", "apply_damage", "opus_round_trip", "random_damage"]

Clipping = Literal["", "soft", "hard"]
Converter = Literal["", "8 bit", "mu-law"]

CLEAN_SHARE = 0.25
BANDS_HZ = ((300.0, 3400.0), (200.0, 6500.0), (120.0, 7000.0), (80.0, 4000.0), (400.0, 7500.0))
"""Telephone; laptop microphones; a headset; an old codec; a tiny loudspeaker's microphone."""

_OPUS_RATE_HZ = 48_000
_OPUS_FRAME = _OPUS_RATE_HZ // 50
_MU = 255.0
_HUM_RMS = (sum(1.0 / n**2 for n in (1, 2, 3, 5)) / 2.0) ** 0.5
_EARLY_GAP_S = 0.002  # between the direct sound and the first reflection


@dataclass(frozen=True, slots=True, kw_only=True)
class Reverb:
    """A room: noise that decays by 60 dB in `t60_s`, after the direct sound (Polack 1988)."""

    t60_s: float
    direct_to_reverberant_db: float
    brightness_hz: float  # where air and walls take the reverberation's treble away
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One recording chain. The defaults do nothing."""

    reverb: Reverb | None = None
    tilt_db_per_octave: float = 0.0  # around 1 kHz
    band_hz: tuple[float, float] | None = None
    hum_hz: float = 0.0  # 0: none
    hum_level: float = 0.0  # RMS, of full scale
    dc_offset: float = 0.0  # of full scale
    gain_db: float = 0.0
    clipping: Clipping = ""
    clip_drive_db: float = 0.0  # how far the peak would pass full scale
    converter: Converter = ""
    opus_kbps: int = 0  # 0: none

    def __post_init__(self) -> None:
        if self.reverb is not None and not 0 < self.reverb.t60_s <= 5:
            raise ConfigError(f"t60_s must be within 0..5, got {self.reverb.t60_s}")
        if self.band_hz is not None and not 0 <= self.band_hz[0] < self.band_hz[1]:
            raise ConfigError(f"band_hz must be (low, high) with 0 <= low < high, got {self.band_hz}")
        if self.opus_kbps and not 6 <= self.opus_kbps <= 256:
            raise ConfigError(f"opus_kbps must be 0 or 6..256, got {self.opus_kbps}")


def random_damage(rng: np.random.Generator) -> Damage:
    """A chain at random; a quarter of them leave the sound as it is."""
    if rng.random() < CLEAN_SHARE:
        return Damage()
    low_hz, high_hz = BANDS_HZ[int(rng.integers(len(BANDS_HZ)))]
    hum = rng.random() < 0.15
    clipping: Clipping = ("soft", "hard")[int(rng.integers(2))] if rng.random() < 0.12 else ""
    converter: Converter = ("8 bit", "mu-law")[int(rng.integers(2))] if rng.random() < 0.1 else ""
    return Damage(
        reverb=_random_reverb(rng) if rng.random() < 0.4 else None,
        tilt_db_per_octave=float(np.clip(rng.normal(0.0, 2.0), -5.0, 5.0)) if rng.random() < 0.5 else 0.0,
        band_hz=(low_hz * rng.uniform(0.8, 1.2), high_hz * rng.uniform(0.9, 1.1)) if rng.random() < 0.3 else None,
        hum_hz=float(rng.choice([50.0, 60.0])) if hum else 0.0,
        hum_level=float(10.0 ** (rng.uniform(-60.0, -32.0) / 20.0)) if hum else 0.0,
        dc_offset=float(np.clip(rng.normal(0.0, 0.03), -0.1, 0.1)) if rng.random() < 0.1 else 0.0,
        gain_db=float(rng.uniform(-6.0 if converter == "8 bit" else -24.0, 8.0)) if rng.random() < 0.7 else 0.0,
        clipping=clipping,
        clip_drive_db=float(rng.uniform(2.0, 14.0)) if clipping else 0.0,
        converter=converter,
        opus_kbps=int(rng.choice([16, 20, 24, 32])) if rng.random() < 0.3 else 0,
    )


def apply_damage(audio: NDArray[np.float32], damage: Damage) -> NDArray[np.float32]:
    """16 kHz mono sound (N,) after the chain: (N,), -1..1, not delayed.

    A chain that does nothing returns the very numbers; all others stop at full scale, as a converter does.

    Raises:
        InputError: The sound is not one-dimensional or not finite.
    """
    if audio.ndim != 1 or not np.isfinite(audio).all():
        raise InputError(f"sound to damage must be mono and finite, got shape {audio.shape}")
    if damage == Damage() or not len(audio):
        return audio.astype(np.float32)
    sound = audio.astype(np.float64)
    if damage.reverb is not None:
        sound = _reverberate(sound, damage.reverb)
    sound = _microphone(sound, damage)
    sound = _clip(sound * 10.0 ** (damage.gain_db / 20.0), damage)
    sound = _convert(sound.clip(-1.0, 1.0), damage.converter)
    if damage.opus_kbps:
        return opus_round_trip(sound.astype(np.float32), damage.opus_kbps)
    return sound.astype(np.float32)


def opus_round_trip(audio: NDArray[np.float32], kbps: int) -> NDArray[np.float32]:
    """Through libopus at 48 kHz mono in 20 ms packets, as WebRTC sends speech, and back to (N,) at 16 kHz, -1..1."""
    wide = resample_poly(audio.astype(np.float64), _OPUS_RATE_HZ // SAMPLE_RATE, 1)
    padding = 2 * _OPUS_FRAME - len(wide) % _OPUS_FRAME  # to whole packets, and one more to push the delay out
    blocks = (np.pad(wide, (0, padding)).clip(-1.0, 1.0) * 32767.0).astype(np.int16).reshape(-1, _OPUS_FRAME)
    packets, header = _encode_opus(blocks, kbps)
    narrow = resample_poly(_decode_opus(packets, header), 1, _OPUS_RATE_HZ // SAMPLE_RATE)[: len(audio)]
    return np.pad(narrow, (0, len(audio) - len(narrow))).clip(-1.0, 1.0).astype(np.float32)


def _encode_opus(blocks: NDArray[np.int16], kbps: int) -> tuple[list[bytes], bytes | None]:
    """Packets of 20 ms, and the OpusHead that tells the decoder how much delay to take off (RFC 7845, pre-skip)."""
    encoder = av.AudioCodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = _OPUS_RATE_HZ, "mono", "s16"
    encoder.bit_rate = kbps * 1000
    encoder.options = {"application": "voip", "frame_duration": "20"}
    packets: list[bytes] = []
    for index, block in enumerate(blocks):
        frame = av.AudioFrame.from_ndarray(block[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = _OPUS_RATE_HZ, index * _OPUS_FRAME
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    packets += [bytes(packet) for packet in encoder.encode(None)]
    return packets, encoder.extradata


def _decode_opus(packets: list[bytes], header: bytes | None) -> NDArray[np.float64]:
    decoder = av.AudioCodecContext.create("libopus", "r")
    decoder.sample_rate, decoder.layout, decoder.extradata = _OPUS_RATE_HZ, "mono", header
    parts = [f.to_ndarray().ravel() for packet in packets for f in decoder.decode(av.Packet(packet))]
    return np.concatenate(parts).astype(np.float64) / 32768.0


def _random_reverb(rng: np.random.Generator) -> Reverb:
    return Reverb(
        t60_s=float(rng.uniform(0.1, 0.7)),
        direct_to_reverberant_db=float(rng.uniform(-3.0, 15.0)),
        brightness_hz=float(np.exp(rng.uniform(np.log(1500.0), np.log(7000.0)))),
        seed=int(rng.integers(2**31)),
    )


def _reverberate(sound: NDArray[np.float64], reverb: Reverb) -> NDArray[np.float64]:
    """The direct sound where it was, the room after it; as loud as before."""
    rng = np.random.default_rng(reverb.seed)
    time_s = np.arange(int(reverb.t60_s * SAMPLE_RATE) + 1) / SAMPLE_RATE
    tail = rng.standard_normal(len(time_s)) * 10.0 ** (-3.0 * time_s / reverb.t60_s)
    tail = shape_spectrum(tail, band_gain(60.0, reverb.brightness_hz, order=1))
    tail[: int(_EARLY_GAP_S * SAMPLE_RATE)] = 0.0
    energy = float(np.sum(tail**2))
    if energy == 0:
        return sound
    response = tail * np.sqrt(10.0 ** (-reverb.direct_to_reverberant_db / 10.0) / energy)
    response[0] = 1.0
    wet = fftconvolve(sound, response)[: len(sound)]
    loudness = np.sqrt(np.mean(sound**2) / max(float(np.mean(wet**2)), 1e-20))
    return np.asarray(wet * loudness)


def _microphone(sound: NDArray[np.float64], damage: Damage) -> NDArray[np.float64]:
    """Tilt and band (both without delay), hum and direct current."""
    if damage.tilt_db_per_octave:
        sound = shape_spectrum(sound, tilt_gain(damage.tilt_db_per_octave))
    if damage.band_hz is not None:
        sound = shape_spectrum(sound, band_gain(*damage.band_hz, order=4))
    if damage.hum_level:
        time_s = np.arange(len(sound)) / SAMPLE_RATE
        harmonics = [np.sin(2 * np.pi * damage.hum_hz * n * time_s) / n for n in (1, 2, 3, 5)]
        hum = np.sum(harmonics, axis=0)
        sound = sound + hum * damage.hum_level / _HUM_RMS
    return sound + damage.dc_offset


def _clip(sound: NDArray[np.float64], damage: Damage) -> NDArray[np.float64]:
    """Driven so far that the peak would pass full scale by the drive, then held there; the gain is taken back."""
    peak = float(np.abs(sound).max())
    if not damage.clipping or peak == 0:
        return sound
    drive = 10.0 ** (damage.clip_drive_db / 20.0) / peak
    driven = np.tanh(sound * drive) if damage.clipping == "soft" else (sound * drive).clip(-1.0, 1.0)
    return np.asarray(driven / max(drive, 1.0))


def _convert(sound: NDArray[np.float64], converter: Converter) -> NDArray[np.float64]:
    """Eight bits a sample: evenly spaced, or by mu-law (ITU-T G.711, in its continuous form)."""
    if converter == "8 bit":
        return np.round(sound * 127.0) / 127.0
    if converter == "mu-law":
        code = np.round(np.sign(sound) * np.log1p(_MU * np.abs(sound)) / np.log1p(_MU) * 127.0) / 127.0
        return np.asarray(np.sign(code) * np.expm1(np.abs(code) * np.log1p(_MU)) / _MU)
    return sound
