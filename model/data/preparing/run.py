"""Prepare the clips of a data set: in parallel, resumable after a kill at any moment, on one machine or on Ray.

The analysis of a clip is the caller's. Each finished clip is staged at once, whole; when all clips of a shard are
staged the shard is packed. Running again with the same recipe continues; the files that come out are the same to the
byte however often and wherever it was interrupted, whatever the engine and the number of workers.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, get_args

from model.data.clip_types import ClipOutcome, ClipSource, Problem
from model.data.preparing.clip_task import ClipJob, ClipTask
from model.data.preparing.engines import Engine, LocalEngine
from model.data.preparing.folder import PreparedFolder
from model.data.preparing.recipe import make_recipe, open_folder, ordered_sources
from model.data.preparing.records import Manifest, Recipe, Run, Runs, ShardEntry, ShardRecord, read_record, write_record
from model.data.preparing.shards import PackTask, finished_shard
from model.data.preparing.staging import read_outcome
from model.errors import ConfigError, DataError
from model.results import hardware_info

__all__ = ["EngineName", "OnProgress", "prepare_clips"]

S = TypeVar("S")

EngineName = Literal["local", "ray"]
SHARD_CLIPS = 100
CLIP_TIMEOUT_S = 600.0
STORED_THUMBNAILS = 400  # twice what the report shows: every other one may be a reject


class OnProgress(Protocol):
    """Called when the run begins and after each clip."""

    def __call__(
        self, done: int, total: int, rejects: int, clips_per_minute: float, eta_s: float | None, /
    ) -> object: ...


def prepare_clips(
    sources: Sequence[ClipSource],
    analyse: Callable[[ClipSource, S], ClipOutcome],
    settings: S,
    out: Path,
    *,
    data_set: str,
    engine: EngineName = "local",
    workers: int = 1,
    timeout_s: float = CLIP_TIMEOUT_S,
    shard_clips: int = SHARD_CLIPS,
    fingerprint_extra: Mapping[str, str] | None = None,
    on_progress: OnProgress | None = None,
    overwrite: bool = False,
    address: str | None = None,
) -> Manifest:
    """Analyse every clip and write shards, sidecars and manifest.

    To have the clips of one shard analysed again (after time-outs on a busy machine, say), delete its tar and its
    sidecar and run again.

    Args:
        sources: The clips; their keys are unique.
        analyse: A module-level function. What it raises, a crash of its process and running over time become rejects.
        settings: A frozen dataclass, handed to `analyse`.
        out: Folder to write; with the Ray engine, on a file system that all nodes share under the same path.
        data_set: Name for manifest and report.
        engine: "local" for processes on this machine, "ray" for Ray Data.
        workers: Clips at a time.
        timeout_s: Longest time for one clip.
        shard_clips: Clips per shard.
        fingerprint_extra: Content hashes of model files and the like, by name.
        on_progress: Receives clips done, clips in all, rejects, clips per minute of this run, and seconds left (None
            before the first clip).
        overwrite: Start over where `out` holds an earlier run.
        address: A Ray cluster to join; None starts a Ray of `workers` processors on this machine.

    Raises:
        DataError: Bad sources; `out` is locked, damaged, foreign or was begun with another recipe; the machine fails
            (a full disk); Ray is not installed.
        ConfigError: A number out of range, or settings or analysis that cannot be sent to a process.
        KeyboardInterrupt: After stopping within seconds; what is done is kept.
    """
    if engine not in get_args(EngineName):
        raise ConfigError(f"engine must be local or ray, got {engine!r}")
    if shard_clips < 1:
        raise ConfigError(f"need at least one clip per shard, got {shard_clips}")
    ordered = ordered_sources(sources)
    recipe = make_recipe(
        ordered, analyse, settings, data_set=data_set, shard_clips=shard_clips, inputs=fingerprint_extra or {}
    )
    folder = PreparedFolder(out.absolute())
    job = ClipJob(analyse=analyse, settings=settings)
    with folder.locked():
        open_folder(folder, recipe, overwrite=overwrite)
        state = _State(folder, ordered, recipe, on_progress)
        try:
            state.resume()
            if not state.finished:
                with _start(engine, job, workers, timeout_s, address) as running:
                    state.run(running, engine)
            return state.write_manifest()
        except OSError as error:
            raise DataError(f"cannot write to {out}: {error.strerror or error}") from error


def _start(engine: EngineName, job: ClipJob[Any], workers: int, timeout_s: float, address: str | None) -> Engine:
    if engine == "local":
        return LocalEngine(job, workers=workers, timeout_s=timeout_s)
    from model.data.preparing.ray_engine import RayEngine

    return RayEngine(job, workers=workers, timeout_s=timeout_s, address=address)


@dataclass(slots=True)
class _Totals:
    """What is known of a finished shard."""

    entry: ShardEntry
    rejects: Counter[str]


@dataclass(slots=True)
class _State:
    """A run: which clips and shards are done."""

    folder: PreparedFolder
    sources: tuple[ClipSource, ...]
    recipe: Recipe
    on_progress: OnProgress | None
    shards: dict[int, _Totals] = field(default_factory=dict)  # finished
    missing: dict[int, set[int]] = field(default_factory=dict)  # by unfinished shard: clips not staged yet
    rejects: int = 0
    resumed: int = 0  # clips that earlier runs did
    done: int = 0
    begun_s: float = 0.0
    packing: dict[int, Callable[[], ShardRecord | None]] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether every shard is packed."""
        return not self.missing and not self.packing

    def resume(self) -> None:
        """See what earlier runs have done."""
        for shard in range(-(-len(self.sources) // self.recipe.shard_clips)):
            record = finished_shard(self.folder.path, shard)
            if record is None:
                self.missing[shard] = self._not_staged(shard)
                self.done += len(self._clips(shard)) - len(self.missing[shard])
            else:
                self._finish(shard, record)
                self.rejects += self.shards[shard].rejects.total()
                self.done += len(record.clips)
        self.resumed = self.done

    def run(self, engine: Engine, name: EngineName) -> None:
        """Do what is left, and note how fast it went."""
        self.folder.manifest.unlink(missing_ok=True)  # where a deleted shard is made again
        self.begun_s = time.monotonic()
        self._report()
        try:
            for shard in [s for s, clips in self.missing.items() if not clips]:
                self._pack(engine, shard)
            for clip in engine.stage(self._tasks()):
                self._take(engine, clip.index, clip.problem)
            while self.packing:
                self._collect_packed()
                time.sleep(0.01)
        finally:
            self._note_run(name, engine.workers)

    def write_manifest(self) -> Manifest:
        """The manifest, once every shard is there."""
        totals = [self.shards[shard] for shard in sorted(self.shards)]
        rejects: Counter[str] = sum((t.rejects for t in totals), Counter())
        manifest = Manifest(
            recipe=self.recipe,
            shards=tuple(t.entry for t in totals),
            clips=sum(t.entry.clips for t in totals),
            used=sum(t.entry.clips for t in totals) - rejects.total(),
            samples=sum(t.entry.samples for t in totals),
            bytes=sum(t.entry.bytes for t in totals),
            rejects=dict(rejects),
        )
        write_record(self.folder.manifest, manifest)
        self.folder.clear_staging()
        return manifest

    def _clips(self, shard: int) -> range:
        first = shard * self.recipe.shard_clips
        return range(first, min(first + self.recipe.shard_clips, len(self.sources)))

    def _not_staged(self, shard: int) -> set[int]:
        """Clips to do; counts the rejects among the others. A damaged outcome is done again."""
        self.folder.shard_staging(shard).mkdir(parents=True, exist_ok=True)
        wanted = set[int]()
        for index in self._clips(shard):
            path = self.folder.staged(shard, self.sources[index].key)
            if not path.is_file():
                wanted.add(index)
                continue
            try:
                self.rejects += read_outcome(path).problem is not None
            except DataError:
                path.unlink()
                wanted.add(index)
        return wanted

    def _tasks(self) -> Iterator[ClipTask]:
        for shard in sorted(self.missing):
            for index in sorted(self.missing.get(shard, ())):
                source = self.sources[index]
                yield ClipTask(index=index, source=source, staged=self.folder.staged(shard, source.key))

    def _take(self, engine: Engine, index: int, problem: Problem | None) -> None:
        shard = index // self.recipe.shard_clips
        self.missing[shard].discard(index)
        self.done += 1
        self.rejects += problem is not None
        if not self.missing[shard]:
            self._pack(engine, shard)
        self._collect_packed()
        self._report()

    def _pack(self, engine: Engine, shard: int) -> None:
        del self.missing[shard]
        clips = self._clips(shard)
        self.packing[shard] = engine.pack(
            PackTask(
                folder=self.folder.path,
                shard=shard,
                first_clip=clips.start,
                keys=tuple(self.sources[index].key for index in clips),
                thumbnail_stride=-(-len(self.sources) // STORED_THUMBNAILS),
            )
        )

    def _collect_packed(self) -> None:
        for shard, answer in list(self.packing.items()):
            record = answer()
            if record is not None:
                del self.packing[shard]
                self._finish(shard, record)

    def _finish(self, shard: int, record: ShardRecord) -> None:
        self.shards[shard] = _Totals(
            entry=ShardEntry(
                name=record.name,
                sha256=record.sha256,
                bytes=record.bytes,
                clips=len(record.clips),
                samples=record.samples,
            ),
            rejects=Counter(clip.problem.value for clip in record.clips if clip.problem is not None),
        )

    def _rate(self) -> float:
        """Clips per second of this run."""
        return (self.done - self.resumed) / max(time.monotonic() - self.begun_s, 1e-6)

    def _report(self) -> None:
        if self.on_progress is None:
            return
        rate = self._rate()
        left = (len(self.sources) - self.done) / rate if rate else None
        self.on_progress(self.done, len(self.sources), self.rejects, 60 * rate, left)

    def _note_run(self, engine: str, workers: int) -> None:
        if self.done == self.resumed:
            return  # packed only
        path = self.folder.runs
        earlier = read_record(Runs, path).runs if path.is_file() else ()
        run = Run(
            engine=engine,
            workers=workers,
            clips=self.done - self.resumed,
            seconds=round(time.monotonic() - self.begun_s, 3),
            clips_per_minute=round(60 * self._rate(), 3),
            complete=self.finished,
            hardware=hardware_info(),
        )
        write_record(path, Runs(runs=(*earlier, run)))
