"""One schema for everything measured: benchmarks, evaluation, training reports.

    {"figures": {name: {value, unit, goal, better, spread, n, interval}},
     "hardware", "versions", "command", "commit", "date", "data", "details"}

`n`, `interval` and `details` stand only in files that have them. Reading and writing check it strictly. Neither host
names nor paths of the machine are recorded.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    JsonValue,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from model.errors import ResultsError

__all__ = ["Figure", "Results", "hardware_info", "new_results", "read_results", "versions_info", "write_results"]

RECORDED_PACKAGES = ("nerf-lipsync", "torch", "triton", "aiortc", "av", "numpy", "openai-whisper", "cupy-cuda13x")
TOOL_TIMEOUT_S = 10
_LONG_FILE = 20_000  # characters; from there on a results file is for programs only: no indentation, no nulls


class Figure(BaseModel):
    """One measured number.

    `spread` is half the range that repetition gave, in the same unit (say how in the name or the docs); `n` is how many
    independent items (clips) the value is a mean of, and `interval` its 95 % interval of confidence over them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    value: float
    unit: str
    goal: float | None = None
    better: Literal["higher", "lower"]
    spread: float | None = None
    n: int | None = None
    interval: tuple[float, float] | None = None

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, JsonValue]:
        return _without_none(handler(self), "n", "interval")

    @property
    def missed(self) -> bool:
        """Whether there is a goal and the value is on the wrong side of it."""
        if self.goal is None:
            return False
        return self.value < self.goal if self.better == "higher" else self.value > self.goal


class Results(BaseModel):
    """A results file. `details` is what an evaluation kept for its report (`model.evaluation.report`), opaque here."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    figures: dict[str, Figure]
    hardware: dict[str, str]
    versions: dict[str, str]
    command: str
    commit: str
    date: str
    data: str
    details: JsonValue = None

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, JsonValue]:
        return _without_none(handler(self), "details")

    @property
    def missed(self) -> tuple[str, ...]:
        """Names of the figures that miss their goal."""
        return tuple(name for name, figure in self.figures.items() if figure.missed)


def new_results(figures: Mapping[str, Figure], *, command: str, data: str, details: JsonValue = None) -> Results:
    """Results of a measurement made now, on this machine, at this commit."""
    return Results(
        figures=dict(figures),
        hardware=hardware_info(),
        versions=versions_info(),
        command=command,
        commit=_commit(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        data=data,
        details=details,
    )


def write_results(path: Path, results: Results) -> None:
    """Write a results file, whole or not at all; a long one without indentation and without what is absent.

    Raises:
        ResultsError: It cannot be written.
    """
    text = results.model_dump_json(indent=2)
    if len(text) > _LONG_FILE:
        text = results.model_dump_json(exclude_none=True)
    partial = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text + "\n", encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise ResultsError(f"cannot write results {path}: {error.strerror}; give another file") from error


def read_results(path: Path) -> Results:
    """Read a results file.

    Raises:
        ResultsError: It is missing or does not follow the schema; the message names the first wrong field.
    """
    try:
        return Results.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ResultsError(f"cannot read results {path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "file"
        raise ResultsError(f"{path}: {place}: {first['msg']}") from error


def hardware_info() -> dict[str, str]:
    """Processor, cores this process may use, memory and GPU, in words. Never a host name."""
    info = {
        "cpu": _cpu_model(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "machine": platform.machine(),
    }
    gpu = _run("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader")
    return {**info, "gpu": gpu or "none"}


def versions_info() -> dict[str, str]:
    """Versions of Python and of the packages that decide figures."""
    versions = {"python": platform.python_version(), "kernel": platform.release().split("-")[0]}
    for name in RECORDED_PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _without_none(fields: dict[str, JsonValue], *names: str) -> dict[str, JsonValue]:
    """The fields but for the named ones that are None: files written before these existed keep their bytes."""
    return {name: value for name, value in fields.items() if value is not None or name not in names}


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _commit() -> str:
    """Short commit of the source tree, `+` when tracked files differ from it; "unknown" outside a checkout."""
    here = str(Path(__file__).resolve().parent)
    commit = _run("git", "-C", here, "rev-parse", "--short=12", "HEAD")
    if not commit:
        return "unknown"
    changed = _run("git", "-C", here, "status", "--porcelain", "--untracked-files=no")
    return commit + ("+" if changed else "")


def _run(*command: str) -> str:
    """First line of a tool's output, or "" where there is no such tool or it fails."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    lines = done.stdout.strip().splitlines()
    return lines[0].strip() if lines else ""
