"""Rows of a long evaluation, kept one by one, so that a run that was interrupted goes on where it stopped.

Each row is one npz file in a folder named after the hash of everything that decides it (weights, clips, sizes): with
other weights or clips every row is made anew, and older ones stay where they are. The rows of a run can be packed into
its results file and laid out again elsewhere: who adds a row later need not make the others.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from model.errors import DataError

__all__ = ["RowArrays", "RowPlace", "RowStore", "lay_out_rows"]

RowArrays = dict[str, NDArray[Any]]
HASH_DIGITS: Final = 12


@dataclass(frozen=True)
class RowPlace:
    """Where rows of all recipes are kept, and what may be computed: everything, some rows by name, or nothing."""

    root: Path
    finished_only: bool = False
    only: frozenset[str] = frozenset()  # none: every row
    opened: list[RowStore] = field(default_factory=list, compare=False)

    def open(self, recipe: Mapping[str, object]) -> RowStore:
        """The rows of one recipe."""
        store = RowStore(self.root, recipe, self.finished_only, self.only)
        self.opened.append(store)
        return store

    def packed(self) -> JsonValue:
        """Every finished row of the recipes that were opened, for `lay_out_rows`; values have seven digits."""
        return [
            {"recipe": json.loads(store.text), "rows": {p.stem: _as_json(_read(p)) for p in store.files()}}
            for store in self.opened
        ]


@dataclass(frozen=True)
class RowStore:
    """A folder of finished rows.

    `recipe` holds plain values only: it is hashed as JSON and written beside the rows. With `finished_only` nothing is
    computed, with `only` nothing but the rows it names: `rows` leaves out what is not there.
    """

    root: Path
    recipe: Mapping[str, object]
    finished_only: bool = False
    only: frozenset[str] = frozenset()

    @property
    def text(self) -> str:
        """The recipe as it is hashed."""
        return json.dumps(self.recipe, sort_keys=True)

    @property
    def folder(self) -> Path:
        """Where rows of this recipe lie."""
        return self.root / hashlib.sha256(self.text.encode()).hexdigest()[:HASH_DIGITS]

    def files(self) -> list[Path]:
        """The finished rows, by name."""
        return sorted(self.folder.glob("[!.]*.npz"))

    def rows(
        self,
        names: Mapping[str, str],
        make: Callable[[str], RowArrays],
        on_row: Callable[[str], None] | None = None,
    ) -> dict[str, RowArrays]:
        """Rows in their order; `names`: each row and what it is kept under. `on_row` hears of each that is computed."""
        found = {}
        for row, kept_as in names.items():
            if not self.has(kept_as):
                if self.finished_only or (self.only and row not in self.only):
                    continue
                if on_row is not None:
                    on_row(row)
            found[row] = self.row(kept_as, functools.partial(make, row))
        return found

    def row(self, name: str, make: Callable[[], RowArrays]) -> RowArrays:
        """The row as it was kept, or made now and kept, whole or not at all.

        Raises:
            DataError: The kept file is damaged, or the folder cannot be written.
        """
        path = self.folder / f"{_file_name(name)}.npz"
        if path.is_file():
            return _read(path)
        made = make()
        try:
            self._keep(path, made)
        except OSError as error:
            raise DataError(f"cannot keep row {name!r} in {self.folder}: {error.strerror or error}") from error
        return made

    def has(self, name: str) -> bool:
        """Whether a row is done."""
        return (self.folder / f"{_file_name(name)}.npz").is_file()

    def _keep(self, path: Path, arrays: RowArrays) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        about = path.parent / "recipe.json"
        if not about.is_file():
            about.write_text(json.dumps(self.recipe, sort_keys=True, indent=1) + "\n", encoding="utf-8")
        packed: dict[str, Any] = dict(arrays)
        partial = path.with_name(f".{path.name}.part")
        with partial.open("wb") as file:
            np.savez_compressed(file, **packed)
        os.replace(partial, path)


def lay_out_rows(packed: JsonValue, root: Path) -> int:
    """Write rows of a results file's `details` where they are not yet; returns how many.

    Raises:
        DataError: They are not what `RowPlace.packed` gives, or the folder cannot be written.
    """
    given: Any = packed
    try:
        found = [(RowStore(root, one["recipe"]), one["rows"]) for one in given]
        rows = [(store, stem, _from_json(columns)) for store, kept in found for stem, columns in kept.items()]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"these results hold no rows of a table ({error!r})") from error
    missing = [(s, s.folder / f"{stem}.npz", row) for s, stem, row in rows if not (s.folder / f"{stem}.npz").is_file()]
    try:
        for store, path, row in missing:
            store._keep(path, row)
    except OSError as error:
        raise DataError(f"cannot lay out rows in {root}: {error.strerror or error}") from error
    return len(missing)


def _as_json(row: RowArrays) -> dict[str, JsonValue]:
    return {
        name: values.tolist()
        if values.dtype.kind == "i"
        else [float(f"{v:.7g}") if np.isfinite(v) else None for v in values.tolist()]
        for name, values in row.items()
    }


def _from_json(columns: Mapping[str, list[Any]]) -> RowArrays:
    return {name: _column(values) for name, values in columns.items()}


def _column(values: list[Any]) -> NDArray[Any]:
    if values and isinstance(values[0], list):
        return np.array(values, np.int64)
    return np.array([np.nan if v is None else v for v in values], np.float64)


def _read(path: Path) -> RowArrays:
    try:
        with np.load(path, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"the kept row {path} is damaged ({error}); delete it and run again") from error


def _file_name(row: str) -> str:
    """Letters, digits and `_`, told apart by a few digits of the name's hash."""
    plain = "".join(c if c.isalnum() else "_" for c in row)
    return f"{plain}-{hashlib.sha256(row.encode()).hexdigest()[:6]}"
