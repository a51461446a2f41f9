"""What works on this machine, and what to do about the rest. Used by `nerf-lipsync doctor`.

Each check is guarded: a broken package is a finding, not a crash. Only what serving cannot do without is a failure.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kernels.native import cpu_info
from kernels.ray_march.calibration import levels_by_speed
from stream_server.avatar_folders import SHIPPED_FOLDER, find_avatars

__all__ = ["Finding", "can_serve", "diagnose"]

State = Literal["ok", "note", "fail"]

SERVING_PACKAGES = ("torch", "aiortc", "av", "numpy", "websockets", "fastapi", "uvicorn", "openai-whisper")
OFFLINE_PACKAGES = ("mediapipe", "smplx")
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LANDMARKER_NAME = "face_landmarker.task"
INSTALL_HINT = "run: make test (installs what is missing)"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: `fail` means that serving cannot work; a `note` costs something else."""

    name: str
    state: State
    found: str
    remedy: str = ""


def diagnose(*, data_folder: Path | None, measure: bool, model_cache: Path | None = None) -> list[Finding]:
    """All checks in the order of the report.

    Args:
        data_folder: Where recorded data lies (`NERF_LIPSYNC_DATA`), if anywhere.
        model_cache: Where `prepare` keeps model files that it fetched.
        measure: Also run the default avatar for a few seconds and report size and rate.
    """
    checks: list[Callable[[], Finding | Iterable[Finding]]] = [
        _python,
        _packages,
        _torch,
        _gpu_step,
        _kernel_library,
        _triton,
        _cupy,
        _ray,
        _camera,
        _chromium,
        _ffmpeg,
        _encoders,
        lambda: _face_landmarker(data_folder, model_cache),
        _default_avatar,
    ]
    if measure:
        checks.append(_capacity)
    findings: list[Finding] = []
    for check in checks:
        result = check()
        findings.extend([result] if isinstance(result, Finding) else result)
    return findings


def can_serve(findings: Iterable[Finding]) -> bool:
    """Whether nothing stands in the way of `nerf-lipsync serve`."""
    return all(finding.state != "fail" for finding in findings)


def _python() -> Finding:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {_cores()} cores"
    if sys.platform != "linux":
        return Finding("python", "fail", found, "the server needs Linux (memfd and descriptor passing)")
    return Finding("python", "ok", found)


def _packages() -> Iterable[Finding]:
    for names, state, purpose in (
        (SERVING_PACKAGES, "fail", "serving"),
        (OFFLINE_PACKAGES, "note", "making avatars"),
    ):
        versions = {name: _version(name) for name in names}
        missing = [name for name, version in versions.items() if version is None]
        if missing:
            yield Finding(
                purpose, "fail" if state == "fail" else "note", f"missing: {', '.join(missing)}", INSTALL_HINT
            )
        else:
            yield Finding(purpose, "ok", ", ".join(f"{name} {version}" for name, version in versions.items()))


def _torch() -> Finding:
    torch = _import("torch")
    if isinstance(torch, str):
        return Finding("torch", "fail", torch, INSTALL_HINT)
    if torch.cuda.is_available():
        return Finding("torch", "ok", f"{torch.__version__}, {torch.cuda.get_device_name(0)}")
    return Finding("torch", "note", f"{torch.__version__}, no CUDA device", "none needed: the CPU path is used")


def _gpu_step() -> Finding:
    """Whether `serve --device cuda` would start here."""
    try:
        problem = importlib.import_module("model.slots.devices").gpu_problem()
    except Exception as error:  # a broken torch is a finding of its own
        problem = f"{type(error).__name__}: {error}"
    if problem:
        found, _, remedy = problem.partition(": ")
        return Finding("serve --device cuda", "note", found, remedy or "another GPU; the CPU serves without one")
    return Finding("serve --device cuda", "ok", "can be used")


def _kernel_library() -> Finding:
    info = cpu_info()
    if not info.built:
        remedy = "install a C++ compiler (g++) and run: make test; until then pictures are far too slow to serve"
        return Finding("cpu kernel", "note", info.problem or "native library not built", remedy)
    return Finding("cpu kernel", "ok", f"{levels_by_speed()[0]} is the fastest of {', '.join(info.instruction_sets)}")


def _triton() -> Finding:
    version = _version("triton")
    if version is None:
        return Finding("triton", "note", "not installed", "needed on a CUDA GPU only")
    return Finding(
        "triton", "ok", f"{version}, used on CUDA GPUs only; python -m kernels.compile_check compiles for them"
    )


def _cupy() -> Finding:
    if importlib.util.find_spec("cupy") is None:
        return Finding("cupy", "note", "not installed", "needed on a CUDA GPU only: pip install 'nerf-lipsync[gpu]'")
    cupy = _import("cupy")
    if isinstance(cupy, str):
        return Finding("cupy", "note", cupy, "pip install 'nerf-lipsync[gpu]'")
    try:
        devices = int(cupy.cuda.runtime.getDeviceCount())
    except Exception as error:  # cupy raises its own family, which cannot be imported without a GPU
        return Finding(
            "cupy", "note", f"{cupy.__version__}, no device ({type(error).__name__})", "none needed on a CPU"
        )
    return Finding("cupy", "ok", f"{cupy.__version__}, {devices} CUDA devices")


def _ray() -> Finding:
    remedy = "needed by `serve --cluster` and `prepare` on Ray only: pip install 'nerf-lipsync[cluster]'"
    version = _version("ray")
    if version is None:
        return Finding("ray", "note", "not installed", remedy)
    if importlib.util.find_spec("ray.serve") is None:
        return Finding("ray", "note", f"{version} without Serve", remedy)
    return Finding("ray", "ok", version)


def _camera() -> Finding:
    remedy = "needed by `serve --virtual-camera` only: "
    if importlib.util.find_spec("pyvirtualcam") is None:
        return Finding("virtual camera", "note", "not installed", f"{remedy}pip install 'nerf-lipsync[camera]'")
    sinks = _import("stream_server.worker.sinks.virtual_camera")
    if isinstance(sinks, str):
        return Finding("virtual camera", "note", sinks, remedy + INSTALL_HINT)
    try:
        name = sinks.check_camera(sinks.load_backend(), None, size=256, fps=25)
    except sinks.CameraError as error:
        return Finding("virtual camera", "note", str(error), f"{remedy}modprobe v4l2loopback exclusive_caps=1")
    return Finding("virtual camera", "ok", name)


def _chromium() -> Finding:
    path = next((found for name in CHROMIUM_NAMES if (found := shutil.which(name))), None)
    if path is None:
        return Finding("chromium", "note", "not found", "needed by the browser tests only: apt-get install chromium")
    return Finding("chromium", "ok", path)


def _ffmpeg() -> Finding:
    path = shutil.which("ffmpeg")
    return Finding("ffmpeg", "ok", path or "no command, none needed: PyAV brings its own libraries")


def _encoders() -> Iterable[Finding]:
    """Every video encoder is tried as `serve` does at its start."""
    trial = _import("stream_server.media.encoder_trial")
    if isinstance(trial, str):
        yield Finding("video encoders", "fail", trial, INSTALL_HINT)
        return
    try:
        choice = trial.choose_encoders()
    except trial.NoEncoderError as error:
        yield Finding("video encoders", "fail", str(error), "reinstall PyAV: its wheel brings libvpx and libx264")
        return
    for one in choice.trials:
        name = f"encoder {one.kind.name}"
        if one.problem:
            yield Finding(name, "note", one.problem, f"none needed: {choice.first.name} is used")
        else:
            used = "; used" if one.kind == choice.first else f"; serve --encoder {one.kind.name} uses it"
            yield Finding(name, "ok", one.line().partition(": ")[2] + used)


def _face_landmarker(data_folder: Path | None, model_cache: Path | None) -> Finding:
    remedy = "needed to prepare video and make avatars only: `prepare` fetches it once, or takes --face-landmarker FILE"
    places = [data_folder / "weights"] if data_folder is not None else []
    places += [model_cache] if model_cache is not None else []
    for file in (place / LANDMARKER_NAME for place in places):
        if file.is_file():
            return Finding("face landmarker", "ok", f"{file}, {file.stat().st_size / 1e6:.1f} MB")
    looked = " nor ".join(str(place) for place in places) or "the cache"
    return Finding("face landmarker", "note", f"no {LANDMARKER_NAME} in {looked}", remedy)


def _default_avatar() -> Finding:
    found = find_avatars(SHIPPED_FOLDER)
    usable = [name for name, about in found.items() if "error" not in about and about.get("consent")]
    if not usable:
        remedy = "the checkout is incomplete: git checkout model/assets"
        return Finding("avatars", "fail", f"none that may be used in {SHIPPED_FOLDER}", remedy)
    return Finding("avatars", "ok", ", ".join(usable))


def _capacity() -> Finding:
    """Size and rate that the default avatar reaches here, as `serve` would choose them."""
    try:
        from model.capacity import choose_size
        from model.pipeline import AvatarPipeline

        capacity = choose_size(lambda size: AvatarPipeline.load(None, size=size))
    except Exception as error:  # whatever keeps the pipeline from running is the finding
        return Finding("capacity", "fail", f"{type(error).__name__}: {error}", "mend the findings above first")
    found = f"{capacity.size} px at {capacity.fps:.0f} fps; 25 fps take {capacity.cpu_share:.2f} cores"
    if capacity.holds:
        return Finding("capacity", "ok", found)
    return Finding("capacity", "note", found, "pictures will stutter: close other programs or use a faster machine")


def _import(name: str) -> Any:
    """The module, or in words why it cannot be imported."""
    try:
        return importlib.import_module(name)
    except Exception as error:  # broken shared libraries raise anything
        return f"{name} cannot be imported ({type(error).__name__}: {error})"


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cores() -> int:
    return len(os.sched_getaffinity(0))
