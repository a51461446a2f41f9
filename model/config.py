"""Frozen-dataclass configs: strict JSON round trip and TOML files.

A config is a frozen dataclass whose fields are `bool`, `int`, `float`, `str`, `Path`, `Literal`, `None` unions,
tuples, `dict[str, T]` or further config dataclasses. Reading is strict: unknown keys, missing fields and wrong
types are errors that name the place (`motion.unet.channels[2]`). An `int` is accepted where a `float` is wanted;
nothing else is converted.
"""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from model.errors import ConfigError

__all__ = ["config_from_dict", "config_from_json", "config_to_dict", "config_to_json", "load_toml"]

T = TypeVar("T")


def config_to_json(config: object) -> str:
    """Canonical JSON of a config dataclass (sorted keys, so equal configs give equal text); None gives "null"."""
    plain = None if config is None else config_to_dict(config)
    return json.dumps(plain, sort_keys=True, allow_nan=False)


def config_from_json(cls: type[T], text: str) -> T:
    """Read what `config_to_json` wrote.

    Raises:
        ConfigError: The text is not JSON, or does not fit `cls`.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, and nesting
        raise ConfigError(f"config is not JSON: {error}") from error
    return config_from_dict(cls, value)


def load_toml(cls: type[T], path: Path) -> T:
    """Read a config from a TOML file.

    Raises:
        ConfigError: The file is missing, is not TOML, or does not fit `cls`.
    """
    try:
        with path.open("rb") as file:
            value = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"cannot read config {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    try:
        return config_from_dict(cls, value)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def config_to_dict(config: object) -> dict[str, Any]:
    """The config as plain JSON values (tuples become lists, paths become text)."""
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise ConfigError(f"a config must be a dataclass instance, got {type(config).__name__}")
    return {field.name: _to_plain(getattr(config, field.name), field.name) for field in dataclasses.fields(config)}


def config_from_dict(cls: type[T], value: object) -> T:
    """Build a config from plain JSON or TOML values; see the module's docstring for what is accepted."""
    if cls is type(None):
        if value is not None:
            raise ConfigError(f"expected no config, got {value!r}")
        return None
    result: T = _build_dataclass(cls, value, "")
    return result


def _to_plain(value: object, place: str) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return config_to_dict(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ConfigError(f"{place}: {value} cannot be written as JSON")
        return value
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [_to_plain(item, f"{place}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {str(key): _to_plain(item, f"{place}.{key}") for key, item in value.items()}
    raise ConfigError(f"{place}: {type(value).__name__} cannot be part of a config")


def _build_dataclass(cls: Any, value: object, place: str) -> Any:
    where = place or cls.__name__
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected a table, got {value!r}")
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    unknown = sorted(str(key) for key in value if key not in fields)
    if unknown:
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(fields)}")
    hints = get_type_hints(cls)
    arguments: dict[str, Any] = {}
    for name, field in fields.items():
        inner = f"{place}.{name}" if place else name
        if name in value:
            arguments[name] = _build(hints[name], value[name], inner)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{inner}: missing, and it has no default")
    return cls(**arguments)


def _build(hint: Any, value: object, place: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build_dataclass(hint, value, place)
    origin = get_origin(hint)
    if origin is Literal:
        return _build_literal(hint, value, place)
    if origin is tuple:
        return _build_tuple(hint, value, place)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{place}: expected a table, got {value!r}")
        item_hint = get_args(hint)[1]
        return {str(key): _build(item_hint, item, f"{place}.{key}") for key, item in value.items()}
    if origin in (Union, types.UnionType):
        return _build_union(hint, value, place)
    return _build_scalar(hint, value, place)


def _build_literal(hint: Any, value: object, place: str) -> Any:
    choices = get_args(hint)
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return choice
    raise ConfigError(f"{place}: expected one of {', '.join(map(repr, choices))}, got {value!r}")


def _build_tuple(hint: Any, value: object, place: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{place}: expected a list, got {value!r}")
    hints = get_args(hint)
    if len(hints) == 2 and hints[1] is Ellipsis:
        hints = (hints[0],) * len(value)
    if len(hints) != len(value):
        raise ConfigError(f"{place}: expected {len(hints)} values, got {len(value)}: {value!r}")
    return tuple(_build(h, item, f"{place}[{i}]") for i, (h, item) in enumerate(zip(hints, value, strict=True)))


def _build_union(hint: Any, value: object, place: str) -> Any:
    members = get_args(hint)
    if value is None and type(None) in members:
        return None
    reasons = []
    for member in members:
        if member is type(None):
            continue
        try:
            return _build(member, value, place)
        except ConfigError as error:
            reasons.append(error)
    raise reasons[0] if reasons else ConfigError(f"{place}: got {value!r}")


def _build_scalar(hint: Any, value: object, place: str) -> Any:
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ConfigError(f"{place}: expected a finite number, got {value!r}")
        return float(value)
    if hint is Path and isinstance(value, str | Path):
        return Path(value)
    if hint in (bool, int, str) and type(value) is hint:
        return value
    name = getattr(hint, "__name__", str(hint))
    raise ConfigError(f"{place}: expected {name}, got {value!r}")
