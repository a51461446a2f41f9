"""Making the speech corpus: synthetic and recorded voices, the filmed speaker in other people's voices, and noise.

Every part is made by itself from the corpus's seed, so that a run continues where it was cut off, on any number of
processes. The filmed clips' sound appears as recorded, through bad microphones, and re-voiced by the WORLD vocoder;
their words also in synthetic voices, in the clips' own time.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data.clip_labels import clip_labels
from model.data.corpus_parts import (
    MANIFEST,
    RETIMED,
    REVOICED,
    SCHEMA_VERSION,
    CorpusItem,
    Kind,
    make_item,
    read_part,
    write_part,
)
from model.data.features import ClipFeatures, load_clips
from model.data.forced_alignment import ForcedAligner
from model.data.noises import NOISE_KINDS, babble, random_noise
from model.data.revoice import analyse, random_change, revoice
from model.data.sound_damage import apply_damage, random_damage
from model.errors import DataError
from model.speech.log_mel import HOP_SAMPLES, SAMPLE_RATE
from model.speech.phonemes import SILENCE_INDEX

RECIPE = "recipe.json"
NOISE_ITEM_S = 20.0
OnPart = Callable[[int, int, str], None]
"""Parts done, parts in all, the part's name."""
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusConfig:
    """About nine hours of sound."""

    spoken_minutes: int = 270
    noise_minutes: int = 50
    music_minutes: int = 20
    voices_per_clip: int = 4
    retimed_per_clip: int = 2  # synthetic voices that say a clip in its own time
    part_minutes: int = 10
    filmed_part_clips: int = 50
    revoiced_damage_share: float = 0.5
    seed: int = 1


@dataclass(frozen=True, slots=True)
class PartTask:
    """One part to make."""

    kind: Kind
    index: int
    minutes: int = 0
    first_clip: int = 0
    sound: str = ""  # of noise: "music" or "noise"; of filmed clips: "retimed" or ""

    @property
    def name(self) -> str:
        """File name."""
        return f"{self.sound or self.kind}-{self.index:04d}.safetensors"


def build_corpus(grid: Path, out: Path, config: CorpusConfig, *, workers: int, on_part: OnPart) -> dict[str, object]:
    """Make (or go on making) the corpus of prepared GRID clips `grid` in `out`; returns its manifest.

    Raises:
        DataError: A synthesiser is missing, or the folder was begun with other settings.
    """
    out.mkdir(parents=True, exist_ok=True)
    clips = len(load_clips(grid))
    tasks = list(_tasks(config, clips))
    check_recipe(out, config)
    missing = [t for t in tasks if not (out / t.name).is_file()]
    done = len(tasks) - len(missing)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        running = {pool.submit(make_part, task, grid, out, config): task for task in missing}
        for future in as_completed(running):
            future.result()
            done += 1
            on_part(done, len(tasks), running[future].name)
    return _write_manifest(out, tasks, clips)


def make_part(task: PartTask, grid: Path, out: Path, config: CorpusConfig) -> None:
    """Make one part."""
    rng = np.random.default_rng((config.seed, *task.name.encode()))
    if task.kind == "filmed":
        clips = load_clips(grid)[task.first_clip :][: config.filmed_part_clips]
        items = list(_retimed(clips, rng, config) if task.sound == "retimed" else _filmed(clips, rng, config))
    elif task.kind == "spoken":
        items = list(_spoken(task.minutes * 60.0, rng))
    else:
        items = list(_music(task.minutes * 60.0, rng) if task.sound == "music" else _noise(task.minutes * 60.0, rng))
    write_part(out / task.name, items)


def check_recipe(out: Path, config: CorpusConfig) -> None:
    """Note the settings of the corpus in `out`. One that has no retimed clips may be given them.

    Raises:
        DataError: It was begun with other settings.
    """
    wanted = {"version": SCHEMA_VERSION, **asdict(config)}
    path = out / RECIPE
    if path.is_file():
        found = {"retimed_per_clip": 0, **json.loads(path.read_text())}
        grown = {**found, "retimed_per_clip": found["retimed_per_clip"] or wanted["retimed_per_clip"]}
        if grown != wanted:
            changed = sorted(k for k in wanted if grown.get(k) != wanted[k])
            raise DataError(f"{out} was begun with other settings ({', '.join(changed)}): choose another folder")
    path.write_text(json.dumps(wanted, indent=2))


def _tasks(config: CorpusConfig, clips: int) -> Iterator[PartTask]:
    for sound in ("", "retimed") if config.retimed_per_clip else ("",):
        for index, first in enumerate(range(0, clips, config.filmed_part_clips)):
            yield PartTask("filmed", index, first_clip=first, sound=sound)
    for sound, minutes in (("music", config.music_minutes), ("noise", config.noise_minutes)):
        for index in range(-(-minutes // config.part_minutes)):
            yield PartTask("noise", index, min(config.part_minutes, minutes), sound=sound)
    for index in range(-(-config.spoken_minutes // config.part_minutes)):
        yield PartTask("spoken", index, min(config.part_minutes, config.spoken_minutes))


def _labelled(clips: list[ClipFeatures]) -> Iterator[tuple[ClipFeatures, Labels]]:
    """Clips and their phones; the manifest counts those whose words were not found in their sound."""
    aligner = ForcedAligner()
    for clip in clips:
        try:
            labels = clip_labels(clip, aligner)
        except DataError:
            continue
        yield clip, labels


def _clip_item(clip: ClipFeatures, labels: Labels, audio: NDArray[np.float32], voice: str) -> CorpusItem:
    text = " ".join(w.text for w in clip.words)
    return make_item(audio, labels, kind="filmed", voice=voice, language="en", text=text, key=clip.key)


def _filmed(clips: list[ClipFeatures], rng: np.random.Generator, config: CorpusConfig) -> Iterator[CorpusItem]:
    for clip, labels in _labelled(clips):
        yield _clip_item(clip, labels, clip.sound, clip.speaker)
        yield _clip_item(clip, labels, apply_damage(clip.sound, random_damage(rng)), clip.speaker)
        analysis = analyse(clip.sound)
        for _ in range(config.voices_per_clip):
            audio = _often_damaged(revoice(analysis, random_change(rng)), rng, config)
            yield _clip_item(clip, labels, audio, clip.speaker + REVOICED)


def _retimed(clips: list[ClipFeatures], rng: np.random.Generator, config: CorpusConfig) -> Iterator[CorpusItem]:
    from model.data.grid_voices import say_in_time
    from model.data.phone_matching import PhoneMismatchError
    from model.data.voices import VoiceSet

    with VoiceSet() as voices:
        for clip, labels in _labelled(clips):
            for _ in range(config.retimed_per_clip):
                try:
                    said = say_in_time(voices, clip, labels, rng)
                except PhoneMismatchError:
                    continue  # counted in the manifest: fewer retimed seconds
                audio = _often_damaged(said.audio, rng, config)
                yield _clip_item(clip, said.phonemes, audio, said.voice + RETIMED)


def _often_damaged(audio: NDArray[np.float32], rng: np.random.Generator, config: CorpusConfig) -> NDArray[np.float32]:
    return apply_damage(audio, random_damage(rng)) if rng.random() < config.revoiced_damage_share else audio


def _spoken(seconds: float, rng: np.random.Generator) -> Iterator[CorpusItem]:
    from model.data.voices import VoiceSet, random_utterance

    made = 0
    with VoiceSet() as voices:
        while made < seconds * SAMPLE_RATE:
            said = random_utterance(voices, rng)
            made += len(said.audio)
            audio = apply_damage(said.audio, random_damage(rng))
            yield make_item(
                audio, said.phonemes, kind="spoken", voice=said.voice, language=said.language, text=said.text
            )


def _noise(seconds: float, rng: np.random.Generator) -> Iterator[CorpusItem]:
    from model.data.voices import VoiceSet, random_utterance

    count = round(seconds / NOISE_ITEM_S)
    with VoiceSet() as voices:
        said = [random_utterance(voices, rng).audio for _ in range(60)]
        for index in range(count):
            kind = ("babble", *NOISE_KINDS)[index % (len(NOISE_KINDS) + 1)]
            made = babble(said, NOISE_ITEM_S, rng) if kind == "babble" else random_noise(kind, NOISE_ITEM_S, rng)
            yield _sound(made, kind)


def _music(seconds: float, rng: np.random.Generator) -> Iterator[CorpusItem]:
    from model.data.music import render_music

    for _ in range(round(seconds / 60)):
        yield _sound(render_music(60.0, rng), "music")


def _sound(audio: NDArray[np.float32], kind: str) -> CorpusItem:
    silence = np.full(len(audio) // HOP_SAMPLES, SILENCE_INDEX)
    return make_item(audio, silence, kind="noise", voice=kind)


def _write_manifest(out: Path, tasks: list[PartTask], clips: int) -> dict[str, object]:
    seconds: Counter[str] = Counter()
    parts, heard = {}, set()
    for task in tasks:
        path = out / task.name
        for item in read_part(path):
            label = item.info.voice if item.info.kind != "spoken" else f"{item.info.language} {item.info.voice}"
            seconds[f"{item.info.kind}: {label}"] += item.info.samples
            heard.add(item.info.key)
        parts[task.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest: dict[str, object] = {
        "version": SCHEMA_VERSION,
        "parts": parts,
        "hours": round(seconds.total() / SAMPLE_RATE / 3600, 2),
        "clips_left_out": clips - len(heard - {""}),
        "seconds": {k: round(v / SAMPLE_RATE, 1) for k, v in sorted(seconds.items())},
    }
    (out / MANIFEST).write_text(json.dumps(manifest, indent=2))
    return manifest
