"""Read the pickles in which FLAME and SMPL-X are handed out, and nothing else.

A pickle is a program. This unpickler lets it name only what those files need: NumPy arrays, and three kinds of object
(chumpy arrays, SciPy's csc and csr matrices) that are replaced by inert stand-ins and turned into arrays afterwards.
Whatever else a pickle asks for is refused before it is looked up. NumPy's own set-state code still runs on foreign
bytes, so this module is only used in a process of its own with limits (`model.face.foreign_models`).
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError


class RefusedPickleError(InputError):
    """A pickle asked for something that a head model has no use for."""


class StandIn:
    """An object of a class that is not loaded; keeps the state it was pickled with."""

    state: Mapping[str, Any]

    def __new__(cls, *_: object) -> StandIn:
        """Ignore the arguments that the foreign class was pickled with."""
        made = super().__new__(cls)
        made.state = {}
        return made

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict):
            raise RefusedPickleError(f"a {type(self).__name__} with a state of type {type(state).__name__}")
        self.state = state


class ChumpyArray(StandIn):
    """`chumpy.Ch`: its numbers are in `x`."""


class CscMatrix(StandIn):
    """`scipy.sparse.csc_matrix`."""


class CsrMatrix(StandIn):
    """`scipy.sparse.csr_matrix`."""


def _new_stand_in(cls: object, base: object, state: object) -> StandIn:
    """In place of `copyreg._reconstructor`."""
    if not (isinstance(cls, type) and issubclass(cls, StandIn)) or base is not object or state is not None:
        raise RefusedPickleError(f"copyreg._reconstructor of {cls!r}")
    return cls()


def _latin1_bytes(text: object, encoding: object) -> bytes:
    """In place of `_codecs.encode`, by which Python 3 writes bytes into protocol-2 pickles."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise RefusedPickleError(f"_codecs.encode with the encoding {encoding!r}")
    return text.encode("latin1")


_ALLOWED: Mapping[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{
        (f"numpy.{core}.multiarray", name): value
        for core in ("core", "_core")
        for name, value in (
            ("_reconstruct", np.empty(0).__reduce__()[0]),
            ("scalar", np.float64(0).__reduce__()[0]),
        )
    },
    **{(module, "object"): object for module in ("__builtin__", "builtins")},
    **{(module, "set"): set for module in ("__builtin__", "builtins")},
    **{(module, "_reconstructor"): _new_stand_in for module in ("copy_reg", "copyreg")},
    ("_codecs", "encode"): _latin1_bytes,
    **{(module, "Ch"): ChumpyArray for module in ("chumpy", "chumpy.ch")},
    **{(f"scipy.sparse.{module}", "csc_matrix"): CscMatrix for module in ("csc", "_csc")},
    **{(f"scipy.sparse.{module}", "csr_matrix"): CsrMatrix for module in ("csr", "_csr")},
}


class RestrictedUnpickler(pickle.Unpickler):
    """Finds only what `_ALLOWED` lists."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """The stand-in for a global.

        Raises:
            RefusedPickleError: It is not on the list.
        """
        try:
            return _ALLOWED[module_name, global_name]
        except KeyError:
            raise RefusedPickleError(
                f"refused: the pickle asks for {module_name}.{global_name}, which no head model needs; do not trust it"
            ) from None


def restricted_load(file: IO[bytes]) -> Any:
    """The object of one pickle; text of Python 2 is read as latin-1, as its arrays' bytes need.

    Raises:
        RefusedPickleError: It asks for anything but arrays.
    """
    return RestrictedUnpickler(file, encoding="latin1").load()


def read_foreign_file(path: Path, wanted: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """The `wanted` arrays that a `.pkl`, `.npy` or `.npz` file holds, as plain numeric arrays.

    Raises:
        InputError: The file is of another type, asks for foreign code, or holds none of them.
    """
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return _read_npz(path, wanted)
    with path.open("rb") as file:
        if suffix == ".npy":
            content = _read_npy(file)
        elif suffix == ".pkl":
            content = restricted_load(file)
        else:
            raise InputError(f"{path.name}: know .pkl, .npy and .npz files, not {suffix or 'files without a suffix'!r}")
    if not isinstance(content, dict):
        raise InputError(f"{path.name} holds a {type(content).__name__}, wanted a dictionary of arrays")
    return {name: plain_array(content[name], name) for name in wanted if name in content}


def plain_array(value: object, name: str) -> NDArray[Any]:
    """An array, chumpy array or sparse matrix as a plain array.

    Raises:
        InputError: It is none of these.
    """
    if isinstance(value, ChumpyArray) and "x" in value.state:
        return plain_array(value.state["x"], name)
    if isinstance(value, CscMatrix | CsrMatrix):
        return _dense(value, name)
    if isinstance(value, np.ndarray | np.generic | list | int | float):
        array = np.asarray(value)
        if array.dtype.kind in "biuf":
            return array
    raise InputError(f"{name!r} is a {type(value).__name__} without numbers; wanted an array")


def _dense(value: CscMatrix | CsrMatrix, name: str) -> NDArray[Any]:
    from scipy import sparse

    make = sparse.csc_matrix if isinstance(value, CscMatrix) else sparse.csr_matrix
    try:
        parts = tuple(plain_array(value.state[key], name) for key in ("data", "indices", "indptr"))
        matrix = make(parts, shape=value.state["_shape"])
        matrix.check_format(full_check=True)
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{name!r} is a damaged sparse matrix ({type(error).__name__}: {error})") from error
    return np.asarray(matrix.toarray())


def _read_npy(file: IO[bytes]) -> Any:
    """An array, or the object that `np.save` pickled into the file."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        _, _, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        _, _, dtype = np.lib.format.read_array_header_2_0(file)
    if dtype.hasobject:
        content = restricted_load(file)
        return content.item() if isinstance(content, np.ndarray) and content.shape == () else content
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def _read_npz(path: Path, wanted: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    found = {}
    with zipfile.ZipFile(path) as archive:
        members = set(archive.namelist())
        for name in wanted:
            if f"{name}.npy" in members:
                content = _read_npy(io.BytesIO(archive.read(f"{name}.npy")))
                found[name] = plain_array(content, name)
    return found
