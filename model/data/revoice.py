"""Other people's voices for a recording, by the WORLD vocoder (Morise, Yokomori and Ozawa 2016; `pyworld`).

A recording is analysed once and spoken again by any number of throats: longer or shorter (formants), higher or lower,
livelier or flatter, breathier. Times do not change, so the mouth on video and the phoneme times stay valid. Offline
only: training the speech encoder.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from model.errors import ConfigError, DataError, InputError
from model.speech.log_mel import SAMPLE_RATE

__all__ = ["VoiceAnalysis", "VoiceChange", "analyse", "random_change", "revoice", "synthesise"]

FRAME_PERIOD_MS = 5.0
MIN_SAMPLES = SAMPLE_RATE // 5
SOURCE_F0_HZ = (60.0, 400.0)
"""Where the pitch of the recording is sought."""
LOWEST_F0_HZ, HIGHEST_F0_HZ = 70.0, 350.0
LOWEST_SCALE, HIGHEST_SCALE = 0.80, 1.35
WARP_NODES_HZ = (500.0, 1500.0, 2500.0, 3500.0)
"""Where the first four formants of an adult's neutral vowel lie."""

_WIDEST_F0_HZ = (55.0, 600.0)  # no single frame leaves this, however lively the voice
_ADULT_MAN_F0_HZ = 112.0
_F0_EXPONENT = 3.2  # women: tract shorter by 1.17, pitch higher by 1.7; children: 1.33 and 2.5 (Peterson, Barney 1952)
_BREATH_LOW_HZ, _BREATH_HIGH_HZ = 1000.0, 4000.0  # breath is heard above the first formant
_TILT_PIVOT_HZ = 500.0
_RECORDED_TO_HZ = 7_400.0  # above it lies the slope of whatever brought the recording to 16 kHz
_LATE_SAMPLES = 32
"""How late WORLD speaks (minimum-phase pulses): 1 ms by log, 3 ms by linear band envelopes of 10 clips of GRID s1."""


@dataclass(frozen=True, slots=True)
class VoiceAnalysis:
    """What WORLD found in a recording, one row for each 5 ms."""

    f0_hz: NDArray[np.float64]  # (T,), 0 where unvoiced
    envelope: NDArray[np.float64]  # (T, F), power, 0..8 kHz
    aperiodicity: NDArray[np.float64]  # (T, F), 0 tone .. 1 noise
    num_samples: int
    rms: float  # of the recording


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceChange:
    """Another speaker, described against the one recorded."""

    formant_scale: float = 1.0  # > 1: formants higher, the vocal tract shorter
    formant_wobble: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)  # natural log, on top of the scale, at WARP_NODES_HZ
    mean_f0_hz: float = 112.0  # geometric mean over voiced frames
    f0_range_scale: float = 1.0  # of the melody's swing in octaves; 0 is a monotone
    breathiness: float = 0.0  # 0 as recorded .. 1 whispered, above 4 kHz; less below
    tilt_db_per_octave: float = 0.0  # above 500 Hz; negative is darker

    def __post_init__(self) -> None:
        if not 0.5 <= self.formant_scale <= 2.0:
            raise ConfigError(f"formant_scale must be 0.5..2, got {self.formant_scale}")
        if len(self.formant_wobble) != len(WARP_NODES_HZ) or max(map(abs, self.formant_wobble)) > 0.2:
            raise ConfigError(
                f"formant_wobble must be {len(WARP_NODES_HZ)} values within 0.2, got {self.formant_wobble}"
            )
        if not LOWEST_F0_HZ <= self.mean_f0_hz <= HIGHEST_F0_HZ:
            raise ConfigError(f"mean_f0_hz must be {LOWEST_F0_HZ:g}..{HIGHEST_F0_HZ:g}, got {self.mean_f0_hz}")
        if not 0 <= self.breathiness <= 1 or self.f0_range_scale < 0:
            raise ConfigError(
                f"breathiness must be 0..1 and f0_range_scale >= 0, got {self.breathiness}, {self.f0_range_scale}"
            )


def random_change(rng: np.random.Generator) -> VoiceChange:
    """A man, woman or child, for the recording of an adult man: pitch goes with the length of the vocal tract."""
    scale = float(np.exp(rng.uniform(np.log(LOWEST_SCALE), np.log(HIGHEST_SCALE))))
    f0_hz = _ADULT_MAN_F0_HZ * scale**_F0_EXPONENT * float(np.exp(rng.normal(0.0, 0.2)))
    return VoiceChange(
        formant_scale=scale,
        formant_wobble=tuple(float(w) for w in rng.normal(0.0, 0.035, len(WARP_NODES_HZ)).clip(-0.08, 0.08)),
        mean_f0_hz=float(np.clip(f0_hz, LOWEST_F0_HZ, HIGHEST_F0_HZ)),
        f0_range_scale=float(rng.uniform(0.5, 1.7)),
        breathiness=float(rng.beta(1.2, 4.0)),
        tilt_db_per_octave=float(rng.normal(0.0, 1.5)),
    )


def analyse(audio: NDArray[np.float32]) -> VoiceAnalysis:
    """Pitch, spectral envelope and aperiodicity of 16 kHz mono sound (N,), N >= 3200.

    Raises:
        DataError: pyworld is not installed.
        InputError: The sound is not one-dimensional, shorter than 0.2 s, or not finite.
    """
    if audio.ndim != 1 or len(audio) < MIN_SAMPLES:
        raise InputError(f"sound to re-voice must be mono of {MIN_SAMPLES} samples or more, got shape {audio.shape}")
    if not np.isfinite(audio).all():
        raise InputError(f"sound to re-voice holds {np.count_nonzero(~np.isfinite(audio))} values that are not finite")
    world = _load_pyworld()
    samples = np.ascontiguousarray(audio, np.float64)
    low_hz, high_hz = SOURCE_F0_HZ
    coarse, times = world.dio(
        samples,
        SAMPLE_RATE,
        f0_floor=low_hz,
        f0_ceil=high_hz,
        channels_in_octave=8.0,
        frame_period=FRAME_PERIOD_MS,
        allowed_range=0.2,
    )
    f0_hz = world.stonemask(samples, coarse, times, SAMPLE_RATE)
    envelope = world.cheaptrick(samples, f0_hz, times, SAMPLE_RATE)
    aperiodicity = world.d4c(samples, f0_hz, times, SAMPLE_RATE)
    return VoiceAnalysis(f0_hz, envelope, aperiodicity, len(audio), float(np.sqrt(np.mean(samples**2))))


def revoice(analysis: VoiceAnalysis, change: VoiceChange) -> NDArray[np.float32]:
    """The same words at the same times in another voice: (N,) samples as recorded, as loud as recorded, -1..1.

    Raises:
        DataError: pyworld is not installed.
    """
    bins = analysis.envelope.shape[1]
    frequency_hz = np.linspace(0.0, SAMPLE_RATE / 2, bins)
    source_hz = _source_frequency(frequency_hz, change)
    envelope = np.exp(_read_at(np.log(analysis.envelope), source_hz))
    octaves = np.log2(np.maximum(frequency_hz, _TILT_PIVOT_HZ) / _TILT_PIVOT_HZ)
    envelope *= 10.0 ** (change.tilt_db_per_octave * octaves / 10.0)
    aperiodicity = _read_at(analysis.aperiodicity, source_hz)
    breath = change.breathiness * np.interp(frequency_hz, (_BREATH_LOW_HZ, _BREATH_HIGH_HZ), (0.3, 1.0))
    aperiodicity += breath * (1.0 - aperiodicity)
    melody_hz = _melody(analysis.f0_hz, change)
    return synthesise(replace(analysis, f0_hz=melody_hz, envelope=envelope, aperiodicity=aperiodicity))


def synthesise(analysis: VoiceAnalysis) -> NDArray[np.float32]:
    """What was found in a recording, spoken: (N,) samples, as loud as `rms` says, -1..1.

    Raises:
        DataError: pyworld is not installed.
    """
    if analysis.rms == 0:
        return np.zeros(analysis.num_samples, np.float32)
    spoken = _load_pyworld().synthesize(
        analysis.f0_hz, analysis.envelope, analysis.aperiodicity, SAMPLE_RATE, FRAME_PERIOD_MS
    )
    return _fit(spoken, analysis)


def _source_frequency(frequency_hz: NDArray[np.float64], change: VoiceChange) -> NDArray[np.float64]:
    """Where in the recorded spectrum each frequency of the new one is read; rises throughout."""
    nodes_hz = np.array([0.0, *WARP_NODES_HZ, SAMPLE_RATE / 2])
    wobble = np.array([0.0, *change.formant_wobble, 0.0])
    moved_hz = nodes_hz * change.formant_scale * np.exp(wobble)
    moved_hz[-1] = max(moved_hz[-1], SAMPLE_RATE / 2)
    nodes_hz[-1] = moved_hz[-1] / change.formant_scale
    return np.asarray(np.interp(frequency_hz, moved_hz, nodes_hz))


def _read_at(rows: NDArray[np.float64], source_hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear interpolation of each row (T, F) at `source_hz`; above the recorded band its last value goes on."""
    position = np.minimum(source_hz, _RECORDED_TO_HZ) * (rows.shape[1] - 1) / (SAMPLE_RATE / 2)
    below = position.astype(np.int64)
    share = position - below
    return np.ascontiguousarray(rows[:, below] * (1.0 - share) + rows[:, below + 1] * share)


def _melody(f0_hz: NDArray[np.float64], change: VoiceChange) -> NDArray[np.float64]:
    """Pitch of the new voice, 0 where unvoiced."""
    voiced = f0_hz > 0
    new_hz = np.zeros_like(f0_hz)
    if voiced.any():
        swing = np.log(f0_hz[voiced])
        swing -= swing.mean()
        new_hz[voiced] = np.clip(change.mean_f0_hz * np.exp(change.f0_range_scale * swing), *_WIDEST_F0_HZ)
    return new_hz


def _fit(spoken: NDArray[np.float64], analysis: VoiceAnalysis) -> NDArray[np.float32]:
    """Length and loudness of the recording; turned down, never clipped, where peaks would pass 1."""
    fitted = np.zeros(analysis.num_samples)
    on_time = spoken[_LATE_SAMPLES : _LATE_SAMPLES + analysis.num_samples]
    fitted[: len(on_time)] = on_time
    gain = analysis.rms / max(float(np.sqrt(np.mean(fitted**2))), 1e-9)
    gain = min(gain, 0.999 / max(float(np.abs(fitted).max()), 1e-9))
    return (fitted * gain).astype(np.float32)


def _load_pyworld() -> ModuleType:
    try:
        with warnings.catch_warnings():  # its __init__ reads its version from pkg_resources, which is deprecated
            warnings.simplefilter("ignore")
            import pyworld
    except ImportError as error:
        raise DataError(f"re-voicing needs pyworld ({error}): pip install pyworld 'setuptools<81'") from error
    module: ModuleType = pyworld
    return module
