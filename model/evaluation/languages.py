"""Does the mouth close for p, b and m in any language, and does it follow held-out voices? Exact phone times tell.

Synthetic speech: German, French and Spanish (training knows the languages, not these utterances), Dutch (a language it
never heard) and a recorded American voice that it never heard. Nobody was filmed saying this, so only closures can be
judged (`model.evaluation.closures`), beside loudness as a control: stops are quiet.

GRID's held-out sentences said by voices that training never heard, in the filmed speaker's own time: his tracked mouth
is the truth, and everything can be measured. Either by the held-out recorded voice, phone by phone, or in somebody
else's voice by a vocoder. All of it with the voice gate as served, and held open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.data.features import ClipFeatures, load_clips
from model.data.forced_alignment import ForcedAligner
from model.data.grid_voices import held_out_retimed, held_out_revoiced
from model.data.sentences import random_sentence
from model.data.utterance import Utterance
from model.data.voices import HELD_OUT, EspeakSynthesiser, held_out_utterances
from model.data.voices.catalogue import ESPEAK_LANGUAGES, ESPEAK_VARIANTS
from model.errors import DataError
from model.evaluation.closures import COLUMNS_PER_FRAME, Hits, closure_hits, mouth_events
from model.evaluation.hearing import FRAME_SAMPLES
from model.evaluation.lip_evaluation import said_phones, true_clip
from model.evaluation.lip_rows import Method, lip_table
from model.evaluation.lips import LipClip, heard_clip, stream_motion, ungated_motion
from model.evaluation.report import ReportTable, evaluation_results
from model.motion.space import MOTION_SIZE, MotionSpace, load_motion_space
from model.results import Figure, Results
from model.speech_to_motion import SpeechToMotion
from model.training.motion_targets import load_motion

__all__ = ["LanguageFindings", "evaluate_languages", "language_utterances", "spoken_figures"]

TRAINED: Final = {"german": "de", "french": "fr", "spanish": "es"}
SEED: Final = 20_261_125
"""Training draws from other seeds."""
GOAL_F1: Final = 0.70
GOAL_R: Final = 0.75
RESAMPLES: Final = 1000
SERVED: Final = "served"
GATE_OPEN: Final = "served, gate open"
Array = NDArray[np.float32]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class LanguageFindings:
    """Figures of what was synthesised, and a table for each way of saying GRID's sentences in other voices."""

    figures: dict[str, Figure]
    tables: tuple[ReportTable, ...]

    def results(self, *, command: str, data: str) -> Results:
        """The results file."""
        return evaluation_results(
            "Languages and held-out voices", self.tables, command=command, data=data, figures=self.figures
        )


def evaluate_languages(grid: Path, *, steps: int = 2, utterances: int = 20) -> LanguageFindings:
    """Run it; `grid`: prepared `train` and `val`; `utterances` of each language.

    Raises:
        DataError: A synthesiser, pyworld or forced alignment is not installed, or there are no clips.
    """
    drive, space = SpeechToMotion.load(num_steps=steps, temperature=0.0), load_motion_space()
    espeak = EspeakSynthesiser()
    figures: dict[str, Figure] = {}
    for name, language in TRAINED.items():
        said = language_utterances(espeak, language, utterances, SEED)
        figures |= spoken_figures(name, said, drive, space)
    for said in _by_language(held_out_utterances(2 * utterances, SEED)):
        name = "dutch_held_out" if said[0].language == HELD_OUT.espeak_language else "english_held_out_voice"
        figures |= spoken_figures(name, said, drive, space, goal=GOAL_F1)
    clips, motion = load_clips(grid / "val"), load_motion(grid / "val")
    tables = []
    for name, sounds in (
        ("held_out_voice", held_out_retimed(clips)),
        ("revoiced", held_out_revoiced(clips, SEED)),
    ):
        table = said_by_others(name, sounds, [c for c in clips if c.key in sounds], motion, drive, space)
        tables.append(table)
        figures |= _named_cells(table)
    return LanguageFindings(figures, tuple(tables))


def language_utterances(espeak: EspeakSynthesiser, language: str, count: int, seed: int) -> list[Utterance]:
    """Random sentences in a training language (ISO 639-1), in its accents and voices; equal seeds give equal texts.

    Raises:
        DataError: The catalogue has no such language, or a voice is not installed.
    """
    if language not in ESPEAK_LANGUAGES:
        raise DataError(f"no training language {language!r}: choose of {', '.join(ESPEAK_LANGUAGES)}")
    rng, accents = np.random.default_rng((seed, *language.encode())), ESPEAK_LANGUAGES[language][1]
    return [
        espeak.say(
            random_sentence(language, rng),
            str(rng.choice(accents)) + str(rng.choice(ESPEAK_VARIANTS)),
            words_per_minute=int(rng.integers(120, 220)),
            pitch=int(rng.integers(10, 90)),
        )
        for _ in range(count)
    ]


def spoken_figures(
    name: str, said: Sequence[Utterance], drive: SpeechToMotion, space: MotionSpace, *, goal: float | None = None
) -> dict[str, Figure]:
    """Closures of the motion for utterances with exact phones; `goal` is for the F1 as served."""
    heard = [
        heard_clip(u.audio, np.zeros((len(u.audio) // FRAME_SAMPLES, MOTION_SIZE), np.float32), drive) for u in said
    ]
    openings = {
        "": [space.lip_opening(m) for m in stream_motion(heard, drive)],
        "_gate_open": [space.lip_opening(m) for m in ungated_motion(heard, drive)],
        "_loudness": [clip.energy for clip in heard],
    }
    figures = {}
    for suffix, signals in openings.items():
        counts = np.array([_counts(s, u) for s, u in zip(signals, said, strict=True)])
        hits = Hits(*counts.sum(0).tolist())
        figures[f"{name}.closure_f1{suffix}"] = Figure(
            value=hits.f1,
            unit="1",
            goal=None if suffix else goal,
            better="higher",
            spread=_resampled(counts, lambda h: h.f1),
            n=len(said),
        )
        if not suffix:
            figures[f"{name}.closures_made"] = Figure(value=hits.recall, unit="share", better="higher")
            figures[f"{name}.open_vowels_shut"] = Figure(value=hits.false_rate, unit="share", better="lower")
    return figures


def said_by_others(
    name: str,
    sounds: Mapping[str, Array],
    clips: Sequence[ClipFeatures],
    motion: Mapping[str, Array],
    drive: SpeechToMotion,
    space: MotionSpace,
) -> ReportTable:
    """Filmed clips whose words other voices say in the speaker's time; `sounds` and `motion` (T, 32) by key.

    Raises:
        DataError: There is no clip.
    """
    if not clips:
        raise DataError(f"set {name!r} holds no clip: none could be said in its own time")
    aligner = ForcedAligner()
    truth = [true_clip(c.key, motion[c.key], said_phones(c, aligner)) for c in clips]
    heard: list[LipClip] = [heard_clip(sounds[c.key], motion[c.key], drive) for c in clips]
    methods = {
        SERVED: Method([stream_motion(heard, drive)]),
        GATE_OPEN: Method([ungated_motion(heard, drive)]),
    }
    return ReportTable(name=name, table=lip_table(f"GRID s1 val, {name}", truth, methods, space), tested=SERVED)


def _named_cells(entry: ReportTable) -> dict[str, Figure]:
    """The figures of the issue: opening r and closure F1 as served, with their goals."""
    figures = {}
    for metric, goal in (("opening_r", GOAL_R), ("closure_f1", GOAL_F1)):
        found = entry.table.estimate(SERVED, metric)
        if found is not None and found.clips:
            figures[f"{entry.name}_{metric}"] = Figure(
                value=found.mean, unit=entry.table.metric(metric).unit, goal=goal, better="higher", n=found.clips
            )
    return figures


def _by_language(said: Sequence[Utterance]) -> list[list[Utterance]]:
    return [[u for u in said if u.language == language] for language in dict.fromkeys(u.language for u in said)]


def _counts(opening: Array, utterance: Utterance) -> tuple[int, int, int, int]:
    frames = len(utterance.audio) // FRAME_SAMPLES
    labels = utterance.phonemes[: COLUMNS_PER_FRAME * frames]
    hits = closure_hits(np.asarray(opening, np.float64), mouth_events(labels, frames))
    return hits.hits, hits.misses, hits.false_alarms, hits.rejections


def _resampled(counts: Counts, score: Callable[[Hits], float]) -> float:
    """Half the range that holds 90 % of a score's resamples over utterances (U, 4)."""
    rng = np.random.default_rng(0)
    draws = counts[rng.integers(0, len(counts), (RESAMPLES, len(counts)))].sum(1)
    scores = [score(Hits(*row)) for row in draws.tolist()]
    low, high = np.nanquantile(scores, [0.05, 0.95])
    return float(high - low) / 2
