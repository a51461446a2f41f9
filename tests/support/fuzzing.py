"""Fuzzing by mutation: inputs that end at a place where none ended before are mutated further.

Time is the process's own CPU time, so that a busy machine only makes a run longer. What fails is written to the corpus
and tried first from then on; a long run also keeps small inputs that reached new places.
"""

from __future__ import annotations

import hashlib
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from model.results import Figure, new_results, read_results, write_results
from tests.support.mutation import mutated

__all__ = ["Fuzzer", "HangError", "Tally"]

LONG_RUN_S = 60.0
"""From here on a run has a seed of its own, keeps what it finds, and its figures count."""
HANG_S = 20.0
_LEAST_CASES = 20
_POOL = 512
_KEPT, _KEPT_BYTES = 6, 400


class HangError(Exception):
    """One input took more than `HANG_S` of CPU time."""


@dataclass(slots=True)
class Tally:
    """Of one target: cases tried, CPU seconds, the slowest case, peak memory gained, places where inputs ended."""

    cases: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0
    grown_bytes: int = 0
    places: int = 0
    crashes: dict[tuple[object, ...], str] = field(default_factory=dict)


@dataclass(frozen=True)
class Fuzzer:
    """Tries targets for `seconds` each. Figures go to the file `results`, beside those of other targets."""

    corpus: Path
    seconds: float = 1.0
    results: Path | None = None

    def run(
        self,
        name: str,
        seeds: list[bytes],
        target: Callable[[bytes], object],
        allowed: tuple[type[Exception], ...],
    ) -> Tally:
        """Feed the corpus, then mutations of `seeds`. What `target` returns, if a string, tells inputs apart.

        Raises:
            AssertionError: Exceptions that are not `allowed`, or an input that hangs; their inputs are in the corpus.
        """
        tally = Tally()
        rng = random.Random(f"{name}{time.time_ns() if self.seconds > LONG_RUN_S else 0}")
        kept = [path.read_bytes() for path in sorted((self.corpus / name).glob("*"))]
        pool, places = list(kept), set()
        before_s, peak = time.process_time(), _peak_bytes()
        while kept or tally.seconds < self.seconds or tally.cases < _LEAST_CASES:
            data = kept.pop() if kept else mutated(_choice(seeds, pool, rng), rng)
            began_s = time.process_time()
            place = self._try(name, data, target, allowed, tally)
            now_s = time.process_time()
            tally.cases += 1
            tally.slowest_s = max(tally.slowest_s, now_s - began_s)
            tally.seconds = now_s - before_s
            if place not in places:
                places.add(place)
                pool = [*pool[-_POOL:], data]
        tally.grown_bytes, tally.places = _peak_bytes() - peak, len(places)
        self._note(name, tally, pool)
        told = "\n".join(tally.crashes.values())
        assert not tally.crashes, told
        return tally

    def _try(
        self,
        name: str,
        data: bytes,
        target: Callable[[bytes], object],
        allowed: tuple[type[Exception], ...],
        tally: Tally,
    ) -> tuple[object, ...]:
        """Where the input ended: what was returned, or the last lines of the traceback."""
        try:
            with _no_longer_than(HANG_S):
                answer = target(data)
        except Exception as error:
            place = (type(error).__name__, *_lines(error)[:3], *_lines(error)[-3:])
            if not isinstance(error, allowed) and place not in tally.crashes:
                path = self.corpus / name / hashlib.sha256(data).hexdigest()[:16]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                tally.crashes[place] = f"{name}: {type(error).__name__}: {error} at {place[-1]}; the input is in {path}"
            return place
        return ("fine", answer if isinstance(answer, str) else "")

    def _keep_small(self, folder: Path, pool: list[bytes]) -> None:
        room = _KEPT - len(list(folder.glob("*")))
        for data in sorted((one for one in pool if len(one) <= _KEPT_BYTES), key=len, reverse=True)[: max(0, room)]:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)

    def _note(self, name: str, tally: Tally, pool: list[bytes]) -> None:
        if self.seconds > LONG_RUN_S:
            self._keep_small(self.corpus / name, pool)
        if self.results is None:
            return
        known = read_results(self.results).figures if self.results.is_file() else {}
        figures = {
            f"{name}.cases": Figure(value=float(tally.cases), unit="cases", better="higher"),
            f"{name}.cpu": Figure(value=round(tally.seconds, 1), unit="s", better="higher"),
            f"{name}.crashes": Figure(value=float(len(tally.crashes)), unit="crashes", goal=0.0, better="lower"),
            f"{name}.slowest": Figure(value=float(f"{tally.slowest_s * 1e3:.4g}"), unit="ms", better="lower"),
            f"{name}.memory": Figure(value=round(tally.grown_bytes / 1e6, 1), unit="MB", better="lower"),
            f"{name}.places": Figure(value=float(tally.places), unit="places", better="higher"),
        }
        data = "mutations of valid inputs and of those that ended at a new place"
        write_results(self.results, new_results(known | figures, command="make fuzz", data=data))


def _choice(seeds: list[bytes], pool: list[bytes], rng: random.Random) -> list[bytes]:
    """Two to mutate or splice."""
    if not pool or rng.random() < 0.5:
        return seeds
    return [rng.choice(pool), rng.choice(seeds)]


def _lines(error: BaseException) -> list[tuple[str, int]]:
    """Where it was raised, and before that what it was raised from."""
    cause = error.__cause__ or error.__context__
    found = [] if cause is None else _lines(cause)[-3:]
    trace = error.__traceback__
    while trace is not None:
        found.append((Path(trace.tb_frame.f_code.co_filename).name, trace.tb_lineno))
        trace = trace.tb_next
    return found


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def _no_longer_than(seconds: float) -> Iterator[None]:
    """Raise `HangError` in the main thread after so much CPU time."""

    def ring(_signal: int, _frame: object) -> None:
        raise HangError(f"no answer after {seconds:g} s of CPU time")

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)
