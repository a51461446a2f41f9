"""The native library, libnlsmarch.so: where it is, what it can do on this machine."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kernels.checks import KernelInputError

ABI_VERSION = 6
INSTRUCTION_SETS = (
    "portable",
    "avx2",
    "avx2i16",
    "avx512",
    "avx512i16",
    "avx512bf16",
)  # NlsIsa in csrc/abi.h; which is fastest is measured (ray_march/calibration.py)
EXACT = frozenset({"portable", "avx2", "avx512"})  # MLP in float32
HOW_TO_BUILD = "cmake -S . -B build/native && cmake --build build/native"
_STATUS = {
    1: "bad argument",
    2: "out of memory",
    3: "cannot start threads",
    4: "instruction set not supported here",
}


class KernelLibraryError(RuntimeError):
    """The native library is missing, of another version, or a call into it failed."""


@dataclass(frozen=True, slots=True)
class CpuInfo:
    """What the native library can do on this machine."""

    built: bool
    library: Path  # where it is, or would be
    instruction_sets: tuple[str, ...]  # that run here, in that order; empty when not built
    best: str  # the last of them; "reference" when not built
    problem: str = ""  # why it cannot be used, empty when it can


@cache
def cpu_info() -> CpuInfo:
    """Describe the native library and the instruction sets that run here. Never raises."""
    path = library_path()
    try:
        sets = load_library().nls_instruction_sets()
    except KernelLibraryError as error:
        return CpuInfo(built=False, library=path, instruction_sets=(), best="reference", problem=str(error))
    names = tuple(name for bit, name in enumerate(INSTRUCTION_SETS) if sets >> bit & 1)
    return CpuInfo(built=True, library=path, instruction_sets=names, best=names[-1])


def library_path() -> Path:
    """Where the library lies, or would: in the first of the package's folders that has it."""
    import kernels.ray_march  # an editable install has two folders: the source's and the built library's

    folders = [Path(folder) for folder in kernels.ray_march.__path__]
    found = [path for folder in folders if (path := folder / "libnlsmarch.so").exists()]
    return found[0] if found else folders[0] / "libnlsmarch.so"


def instruction_set_index(name: str) -> int:
    """Number of an instruction set in the C ABI; "auto" is the best that runs here.

    Raises:
        KernelInputError: It does not run here.
    """
    info = cpu_info()
    chosen = info.best if name == "auto" else name
    if chosen not in info.instruction_sets:
        raise KernelInputError(f"instruction_set must be auto or one of {info.instruction_sets}, got {name!r}")
    return INSTRUCTION_SETS.index(chosen)


@cache
def load_library() -> ctypes.CDLL:
    """Load the library once.

    Raises:
        KernelLibraryError: It is not there, does not load, or has another ABI.
    """
    path = library_path()
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        message = f"native library {path.name} not usable ({error}); build it: {HOW_TO_BUILD}"
        raise KernelLibraryError(message) from error
    found = library.nls_abi_version()
    if found != ABI_VERSION:
        raise KernelLibraryError(f"{path.name} has ABI {found}, need {ABI_VERSION}; rebuild it: {HOW_TO_BUILD}")
    library.nls_instruction_sets.restype = ctypes.c_uint32
    library.nls_peak.argtypes, library.nls_peak.restype = (ctypes.c_int32, ctypes.c_int64), ctypes.c_int64
    return library


def spin_multiply_adds(instruction_set: str, rounds: int) -> int:
    """Do nothing but a level's kind of multiply-adds, on registers; how many there were. Time it for the core's peak.

    Raises:
        KernelInputError: The level does not run here.
    """
    done: int = load_library().nls_peak(instruction_set_index(instruction_set), rounds)
    return done


def check_status(status: int, call: str) -> None:
    """Turn a status of the C ABI into an error.

    Raises:
        KernelLibraryError: The status is not 0.
    """
    if status:
        raise KernelLibraryError(f"{call} failed: {_STATUS.get(status, status)}")
