"""Configs survive a round trip, and nothing unknown or mistyped slips through."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from model.config import config_from_dict, config_from_json, config_to_dict, config_to_json, load_toml
from model.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    """A nested config."""

    width: int = 64
    channels: tuple[int, ...] = (64, 128)

    def __post_init__(self) -> None:
        if self.width <= 0:
            raise ConfigError(f"width must be positive, got {self.width}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    """One field of each kind."""

    name: str
    sigma: float = 0.5
    mode: Literal["ddpm", "flow"] = "flow"
    centre: tuple[float, float] = (0.0, 1.0)
    seed: int | None = None
    causal: bool = True
    folder: Path = Path("runs")
    weights: dict[str, float] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)
    levels: tuple[Inner, ...] = ()


FULL = Outer(
    name="a",
    sigma=2,
    mode="ddpm",
    seed=7,
    causal=False,
    folder=Path("x/y"),
    weights={"sync": 0.1},
    inner=Inner(channels=(1,)),
    levels=(Inner(width=1), Inner(width=2)),
)


@pytest.mark.parametrize("config", [Outer(name="plain"), FULL])
def test_round_trip(config: Outer) -> None:
    assert config_from_json(Outer, config_to_json(config)) == config


def test_equal_configs_give_equal_text() -> None:
    shuffled = dict(reversed(config_to_dict(FULL).items()))
    assert config_to_json(config_from_dict(Outer, shuffled)) == config_to_json(config_from_dict(Outer, shuffled))


def test_an_int_becomes_a_float_where_one_is_wanted() -> None:
    sigma = config_from_dict(Outer, {"name": "a", "sigma": 2}).sigma
    assert isinstance(sigma, float)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigmma": 1.0}, "unknown key 'sigmma'"),
        ({"inner": {"wdith_px": 3}}, "inner: unknown key 'wdith_px'"),
        ({"levels": [{"width": 1}, {"width": "x"}]}, r"levels\[1\].width: expected int, got 'x'"),
        ({"mode": "edm"}, "expected one of 'ddpm', 'flow', got 'edm'"),
        ({"centre": [1.0]}, "expected 2 values, got 1"),
        ({"causal": 1}, "causal: expected bool, got 1"),
        ({"seed": True}, "seed: expected int, got True"),
        ({"seed": 1.5}, "seed: expected int, got 1.5"),
        ({"sigma": "1"}, "sigma: expected float, got '1'"),
        ({"sigma": float("nan")}, "finite"),
        ({"inner": {"width": 0}}, "width must be positive, got 0"),
        ({"inner": 3}, "inner: expected a table, got 3"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_from_dict(Outer, {"name": "a", **change})


def test_a_missing_field_is_named() -> None:
    with pytest.raises(ConfigError, match="name: missing"):
        config_from_json(Outer, "{}")


def test_text_that_is_not_json() -> None:
    with pytest.raises(ConfigError, match="not JSON"):
        config_from_json(Outer, "{")


def test_infinity_is_not_written() -> None:
    with pytest.raises(ConfigError, match="sigma"):
        config_to_json(Outer(name="a", sigma=float("inf")))


def test_toml(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('name = "t"\nsigma = 3\n[inner]\nwidth = 8\nchannels = [1, 2, 3]\n')
    assert load_toml(Outer, file) == Outer(name="t", sigma=3.0, inner=Inner(width=8, channels=(1, 2, 3)))
    file.write_text("name = \n")
    with pytest.raises(ConfigError, match=r"c\.toml is not TOML"):
        load_toml(Outer, file)
    with pytest.raises(ConfigError, match=r"cannot read config .*absent\.toml"):
        load_toml(Outer, tmp_path / "absent.toml")
