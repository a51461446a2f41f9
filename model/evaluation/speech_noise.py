"""How hearing holds up: the same recordings under babble of real voices, white noise, and through a telephone line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.audio_file import read_audio
from model.data.noises import active_rms, mix
from model.data.sound_damage import opus_round_trip
from model.errors import DataError
from model.evaluation.hearing import hear
from model.evaluation.speech_scores import Counts, count_hits, ratio, score_figures
from model.evaluation.speech_sets import Recording, SpeechSet
from model.results import Figure
from model.speech.stream import SpeechFeatures

Array = NDArray[np.float32]
TALKERS = 6
BABBLE_SNR_DB = (20, 10, 5, 0)
GOAL_SNR_DB = 10
GOAL_DROP = 0.20
OPUS_KBPS = 24
REPORTED = ("phone_accuracy", "viseme_accuracy", "bilabial_recall", "bilabial_precision")


def noise_figures(
    heard_set: SpeechSet, clean: Sequence[Counts], talkers: Sequence[Array], speech: SpeechFeatures
) -> dict[str, Figure]:
    """Scores of a set under each noise, and what 10 dB of babble costs. `clean`: its counts without noise."""
    figures: dict[str, Figure] = {}
    for name, damage in _damages(talkers).items():
        counts = _count(heard_set, damage, speech)
        scored = score_figures(f"{heard_set.name}_{name}", counts, goals=False)
        figures |= {f"{heard_set.name}_{name}_{s}": scored[f"{heard_set.name}_{name}_{s}"] for s in REPORTED}
        if name == f"babble_{GOAL_SNR_DB}_db":
            figures[f"{heard_set.name}_drop_by_{name}"] = Figure(
                value=_accuracy(clean) - _accuracy(counts), unit="share", goal=GOAL_DROP, better="lower"
            )
    return figures


def load_talkers(folder: Path, count: int = TALKERS) -> list[Array]:
    """One utterance of each of `count` speakers of a LibriSpeech folder (`speaker-chapter-utterance.flac`).

    Raises:
        DataError: It holds fewer speakers.
    """
    by_speaker = defaultdict(list)
    for path in sorted(folder.rglob("*-*-*.flac")):
        by_speaker[path.stem.split("-")[0]].append(path)
    if len(by_speaker) < count:
        raise DataError(f"{folder} holds {len(by_speaker)} speakers (speaker-chapter-utterance.flac); need {count}")
    return [read_audio(paths[0]) for _, paths in sorted(by_speaker.items())[:count]]


def babble_of(talkers: Sequence[Array], samples: int, rng: np.random.Generator) -> Array:
    """All talkers at once, equally loud, each from a random place on: (samples,) at RMS 0.05."""
    total = np.zeros(samples)
    for talker in talkers:
        turned = np.roll(talker, -int(rng.integers(len(talker)))).astype(np.float64)
        total += np.resize(turned, samples) / active_rms(talker)
    return np.asarray(total * (0.05 / np.sqrt(np.mean(total**2))), np.float32)


def _damages(talkers: Sequence[Array]) -> dict[str, Callable[[Array, np.random.Generator], Array]]:
    def babble(snr_db: int) -> Callable[[Array, np.random.Generator], Array]:
        return lambda audio, rng: mix(audio, babble_of(talkers, len(audio), rng), snr_db)

    def white(audio: Array, rng: np.random.Generator) -> Array:
        return mix(audio, rng.standard_normal(len(audio)).astype(np.float32), GOAL_SNR_DB)

    return {
        **{f"babble_{snr_db}_db": babble(snr_db) for snr_db in BABBLE_SNR_DB},
        f"white_{GOAL_SNR_DB}_db": white,
        f"opus_{OPUS_KBPS}_kbps": lambda audio, _: opus_round_trip(audio, OPUS_KBPS),
    }


def _count(
    heard_set: SpeechSet, damage: Callable[[Array, np.random.Generator], Array], speech: SpeechFeatures
) -> list[Counts]:
    recordings: list[Recording] = []
    for index, recording in enumerate(heard_set.recordings):
        recordings.append(replace(recording, audio=damage(recording.audio, np.random.default_rng(index))))
    heard = hear([r.audio for r in recordings], speech)
    return [count_hits(h, r) for h, r in zip(heard, recordings, strict=True)]


def _accuracy(counts: Sequence[Counts]) -> float:
    return ratio(np.array([c["phone_accuracy"] for c in counts], np.int64))
