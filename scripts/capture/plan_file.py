"""Plans as npz files: whole numbers in the labels' own resolution, so that nothing is lost and little is stored.

What varies slowly lies together, which halves what deflate makes of it: coefficients by name over the frames, sound as
differences, their low bytes before their high ones.

`default_plan.npz` beside this file is the plan behind the shipped default avatar.
"""

from __future__ import annotations

import json
import os
import wave
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from scripts.capture.errors import PlanError
from scripts.capture.plan import NOTES, ORBIT, ClipSound, FramePlan, Plan

DEFAULT_PLAN: Final = Path(__file__).with_name("default_plan.npz")
FORMAT: Final = "nerf-lipsync capture plan 2"
COEFFICIENT_UNIT, ROTVEC_UNIT, GAZE_UNIT, DEGREE_UNIT = 10_000, 100_000, 10_000, 100


def save_plan(path: Path, plan: Plan) -> None:
    """Write a plan, whole or not at all."""
    about = {
        "format": FORMAT,
        "coefficient_names": plan.coefficient_names,
        "sounds": {clip: sound.words for clip, sound in plan.sounds.items()},
        "frames": [[f.split, f.index, dict(f.notes)] for f in plan.frames],
    }
    arrays: dict[str, Any] = {
        "about": np.frombuffer(json.dumps(about, separators=(",", ":")).encode(), np.uint8),
        "coefficients": _whole([f.coefficients for f in plan.frames], COEFFICIENT_UNIT, np.uint16).T.copy(),
        "head_rotvec": _whole([f.head_rotvec for f in plan.frames], ROTVEC_UNIT, np.int32),
        "gaze": _whole([f.gaze for f in plan.frames], GAZE_UNIT, np.int32),
        "camera": _whole([(f.cam_yaw_deg, f.cam_pitch_deg) for f in plan.frames], DEGREE_UNIT, np.int32),
        **{f"audio/{clip}": _differences(sound.audio) for clip, sound in plan.sounds.items()},
    }
    partial = path.with_name(f".{path.name}.part.npz")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_LZMA) as archive:  # an npz, a tenth smaller than NumPy's own
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
    os.replace(partial, path)


def load_plan(path: Path) -> Plan:
    """Read a plan.

    Raises:
        PlanError: It is missing, damaged, or not a plan.
    """
    try:
        with np.load(path) as data:
            about = json.loads(data["about"].tobytes())
            if about.get("format") != FORMAT:
                raise PlanError(f"{path} has format {about.get('format')!r}; wanted {FORMAT!r}")
            return _from_arrays(about, {name: data[name] for name in data.files})
    except OSError as error:
        raise PlanError(f"cannot read plan {path}: {error.strerror or error}") from error
    except (KeyError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise PlanError(f"{path} is no capture plan ({error}); make one: python -m scripts.capture.motion") from error


def plan_of_capture(folder: Path) -> Plan:
    """The plan behind a rendered capture, read back from its labels and sounds.

    Raises:
        PlanError: The folder is no capture or lacks a sound.
    """
    try:
        about = json.loads((folder / "capture.json").read_bytes())
        frames = [_frame_of(entry) for entry in about["frames"] if entry["split"] != ORBIT]
        sounds = {
            s["clip"]: ClipSound(
                read_wav(folder / s["audio"]), tuple((w["word"], w["start"], w["end"]) for w in s["words"])
            )
            for s in about["sequences"]
        }
        return Plan(tuple(about["coeff_names"]), tuple(frames), sounds)
    except OSError as error:
        raise PlanError(f"cannot read the capture {folder}: {error}") from error
    except (KeyError, ValueError, wave.Error) as error:
        raise PlanError(f"{folder} is no capture: its labels are damaged ({error!r})") from error


def read_wav(path: Path) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    """Samples of a 16-bit mono file."""
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def _frame_of(entry: Mapping[str, Any]) -> FramePlan:
    return FramePlan(
        split=entry["split"],
        index=entry["index"],
        coefficients=tuple(entry["coeff"]),
        head_rotvec=tuple(entry["head_rotvec"]),
        gaze=tuple(entry["gaze"]),
        cam_yaw_deg=entry["cam_yaw_deg"],
        notes={k: tuple(entry[k]) if isinstance(entry[k], list) else entry[k] for k in NOTES if k in entry},
    )


def _from_arrays(about: Mapping[str, Any], arrays: Mapping[str, Any]) -> Plan:
    coefficients = (arrays["coefficients"].T / COEFFICIENT_UNIT).tolist()
    rotvec = (arrays["head_rotvec"] / ROTVEC_UNIT).tolist()
    gaze = (arrays["gaze"] / GAZE_UNIT).tolist()
    camera = (arrays["camera"] / DEGREE_UNIT).tolist()
    frames = [
        FramePlan(
            split=split,
            index=index,
            coefficients=tuple(coefficients[i]),
            head_rotvec=(rotvec[i][0], rotvec[i][1], rotvec[i][2]),
            gaze=(gaze[i][0], gaze[i][1]),
            cam_yaw_deg=camera[i][0],
            cam_pitch_deg=camera[i][1],
            notes={k: tuple(v) if isinstance(v, list) else v for k, v in notes.items()},
        )
        for i, (split, index, notes) in enumerate(about["frames"])
    ]
    sounds = {
        clip: ClipSound(_samples(arrays[f"audio/{clip}"]), tuple((w, start, end) for w, start, end in words))
        for clip, words in about["sounds"].items()
    }
    return Plan(tuple(about["coefficient_names"]), tuple(frames), sounds)


def _whole(rows: list[Any], unit: int, kind: type[np.generic]) -> Any:
    return np.rint(np.array(rows, np.float64) * unit).astype(kind)


def _differences(samples: NDArray[np.int16]) -> NDArray[np.uint8]:
    """(2, n): low bytes and high bytes of each sample's difference from the one before, modulo 2^16."""
    steps = np.diff(samples, prepend=np.int16(0)).astype("<i2")
    return np.ascontiguousarray(steps.view(np.uint8).reshape(-1, 2).T)


def _samples(differences: NDArray[np.uint8]) -> NDArray[np.int16]:
    steps = np.ascontiguousarray(differences.T).view("<i2")[:, 0]
    return np.cumsum(steps, dtype=np.int16)
