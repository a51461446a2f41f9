"""Does the encoder hear anyone? Phonemes, mouth shapes, closures, noise, motion, and rest, on what it never trained on.

Tokens are judged as served: streamed windows, 80 ms of look-ahead, committed once. `spread` of scores is half the range
that holds 90 % of bootstrap resamples over recordings. With a checkpoint of its own (before motion is trained for it)
all but the motion drive is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from model.diffusion.unet import UNetConfig
from model.evaluation.hearing import hear
from model.evaluation.speech_drive import drive_figures
from model.evaluation.speech_motion import motion_figures
from model.evaluation.speech_noise import load_talkers, noise_figures
from model.evaluation.speech_scores import Counts, count_hits, score_figures
from model.evaluation.speech_sets import SpeechSet, grid_set, held_out_sets, label_agreement
from model.results import Figure
from model.speech.speech_file import load_speech
from model.speech.stream import SpeechFeatures
from model.speech_to_motion import SpeechToMotion

NOISY_SETS = ("val", "strangers")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechEvaluation:
    """What to measure on. Without a folder, its figures are left out."""

    grid: Path  # prepared `train` and `val`
    strangers: Path | None = None  # prepared clips of other GRID speakers
    talkers: Path | None = None  # LibriSpeech folder: voices of the babble
    sounds: Path | None = None  # recorded `keyboard` and `music`
    held_out_voices: bool = True  # needs espeak-ng and festival
    checkpoint: Path | None = None  # a speech checkpoint instead of the shipped models


def evaluate_speech(config: SpeechEvaluation) -> dict[str, Figure]:
    """All figures of one run.

    Raises:
        ModelError: Data, a synthesiser or weights are missing or damaged.
    """
    if config.checkpoint is not None:
        return _ear_figures(config, _load_features(config.checkpoint))
    drive = SpeechToMotion.load()
    return _ear_figures(config, drive.stack.speech) | drive_figures(config.grid, config.sounds, drive)


def hearing_figures(sets: list[SpeechSet], speech: SpeechFeatures, talkers: Path | None) -> dict[str, Figure]:
    """Scores of each set, and of the real voices under noise."""
    voices = load_talkers(talkers) if talkers is not None else None
    figures: dict[str, Figure] = {}
    for one in sets:
        counts = set_counts(one, speech)
        figures |= score_figures(one.name, counts)
        figures[f"{one.name}_refused"] = Figure(value=float(one.refused), unit="recordings", better="lower")
        if voices is not None and one.name in NOISY_SETS:
            figures |= noise_figures(one, counts, voices, speech)
    return figures


def set_counts(one: SpeechSet, speech: SpeechFeatures) -> list[Counts]:
    """Counts of each recording of a set."""
    heard = hear([r.audio for r in one.recordings], speech)
    return [count_hits(h, r) for h, r in zip(heard, one.recordings, strict=True)]


def _ear_figures(config: SpeechEvaluation, speech: SpeechFeatures) -> dict[str, Figure]:
    figures = hearing_figures(_sets(config), speech, config.talkers)
    agreement = label_agreement(config.grid / "val")
    figures["label_agreement"] = Figure(value=agreement, unit="share", better="higher")
    return figures | motion_figures(config.grid, config.strangers, speech)


def _sets(config: SpeechEvaluation) -> list[SpeechSet]:
    sets = [grid_set("val", config.grid / "val")]
    if config.strangers is not None:
        sets.append(grid_set("strangers", config.strangers))
    return sets + (held_out_sets() if config.held_out_voices else [])


def _load_features(checkpoint: Path) -> SpeechFeatures:
    served = UNetConfig()
    return SpeechFeatures(
        load_speech(checkpoint).model, hop_frames=served.hop_frames, lookahead_frames=served.lookahead_frames
    )
