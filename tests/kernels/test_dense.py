"""Packed products and short attention: native equals the reference at every level, and bad input is named."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.backend import Backend
from kernels.checks import KernelInputError
from kernels.dense import Activation, Dense, Norm, Team, attend
from kernels.native import cpu_info

ANY = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ACTIVATIONS: tuple[Activation, ...] = ("none", "silu", "gelu")
BACKENDS: tuple[Backend, ...] = ("reference", "cpu")


def normal(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def assert_same(got: Tensor, wanted: Tensor, size: float) -> None:
    """Within float32's rounding of sums whose terms add up to about `size`."""
    assert got.shape == wanted.shape
    assert float((got - wanted).abs().max()) <= 2e-6 * max(1.0, size)


@pytest.mark.usefixtures("native")
@ANY
@given(
    seed=st.integers(0, 2**20),
    batch=st.integers(1, 3),
    frames=st.integers(1, 19),
    channels=st.integers(1, 41),
    outputs=st.integers(1, 70),
    taps=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 3),
    halves=st.booleans(),
    norms=st.sampled_from([0, 1, 2]),
    before=st.sampled_from(ACTIVATIONS),
    after=st.sampled_from(ACTIVATIONS),
    adds=st.booleans(),
    threads=st.integers(0, 3),
)
def test_a_product_equals_the_reference(
    isa: str, seed: int, batch: int, frames: int, channels: int, outputs: int, taps: int, stride: int, halves: bool,
    norms: int, before: Activation, after: Activation, adds: bool, threads: int,
) -> None:  # fmt: skip
    weight, bias = normal(seed, outputs, taps * channels), normal(seed + 1, outputs)
    if halves:
        weight = weight.half().float()
    x = normal(seed + 2, batch, frames, channels)
    shape = (channels,) if norms == 1 else (batch, channels)
    norm = Norm(normal(seed + 3, *shape), normal(seed + 4, *shape), 1e-3) if norms else None
    team = Team(threads) if threads else None
    native = Dense(weight, bias, taps=taps, stride=stride, instruction_set=isa, team=team, backend="cpu")
    reference = Dense(weight, bias, taps=taps, stride=stride, backend="reference")
    add = normal(seed + 5, batch, (frames - 1) // stride + 1, outputs) if adds else None
    got, wanted = (layer(x, norm=norm, before=before, after=after, add=add) for layer in (native, reference))
    assert_same(got, wanted, size=4 * float(weight.abs().sum(1).max()))


@pytest.mark.usefixtures("native")
@ANY
@given(
    seed=st.integers(0, 2**20),
    batch=st.integers(1, 3),
    frames=st.integers(1, 9),
    keys=st.integers(1, 40),
    heads=st.integers(1, 4),
    size=st.integers(1, 33),
    biased=st.booleans(),
)
def test_attention_equals_the_reference(
    isa: str, seed: int, batch: int, frames: int, keys: int, heads: int, size: int, biased: bool
) -> None:
    parts = normal(seed, batch, max(frames, keys), 3 * heads * size).chunk(3, -1)  # columns of a wider tensor
    query, key, value = parts[0][:, :frames], parts[1][:, :keys], parts[2][:, :keys]
    bias = normal(seed + 1, batch, keys) if biased else None
    if bias is not None:
        bias[normal(seed + 2, batch, keys) > 0.5] = -math.inf
    native = attend(query, key, value, heads, bias=bias, instruction_set=isa, backend="cpu")
    reference = attend(query, key, value, heads, bias=bias, backend="reference")
    assert_same(native, reference, size=4.0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.usefixtures("native")
def test_where_nothing_is_heard_attention_is_zero(backend: Backend) -> None:
    x = normal(0, 2, 4, 8)
    bias = torch.zeros(2, 4)
    bias[1] = -math.inf
    out = attend(x, x, x, 2, bias=bias, backend=backend)
    assert out[0].abs().max() > 0 and torch.equal(out[1], torch.zeros(4, 8))


@pytest.mark.usefixtures("native")
def test_activations_are_exact_from_end_to_end_of_their_range(isa: str) -> None:
    x = torch.cat([torch.linspace(-12, 12, 4801), torch.tensor([-1e4, -100.0, 0.0, 100.0, 1e4])])[None, :, None]
    identity = Dense(torch.ones(1, 1), instruction_set=isa, backend="cpu")
    for kind, wanted in (("silu", torch.nn.functional.silu), ("gelu", torch.nn.functional.gelu)):
        exact = wanted(x.double()).float()
        for got in (identity(x, after=kind), identity(x, before=kind)):  # type: ignore[arg-type]
            torch.testing.assert_close(got, exact, rtol=5e-7, atol=5e-7)


@pytest.mark.usefixtures("native")
def test_halves_are_kept_where_they_are_exact(isa: str) -> None:
    """All of half precision, from its least subnormal on, comes back; anything else costs float32."""
    every = torch.arange(-(2**15), 2**15).to(torch.int16).view(torch.half).float()
    finite = every[every.isfinite()][:, None].contiguous()
    packed = Dense(finite, instruction_set=isa, backend="cpu")
    assert torch.equal(packed(torch.ones(1, 1, 1)).flatten(), finite.flatten())
    small = packed.num_bytes
    for strange in (1.0 + 2.0**-11, 2.0**-25, 65536.0, 1.5 * 2.0**-24):
        finite[7] = strange
        wide = Dense(finite, instruction_set=isa, backend="cpu")
        assert float(wide(torch.ones(1, 1, 1))[0, 0, 7]) == strange
        assert wide.num_bytes == small if isa == "portable" else wide.num_bytes > small


@pytest.mark.usefixtures("native")
def test_nothing_beyond_the_input_is_read(isa: str) -> None:
    """The inputs lie amid NaN: one that was read would spread."""
    whole = torch.full((2, 9, 13), math.nan)
    layer = Dense(normal(1, 17, 3 * 13), taps=3, stride=2, instruction_set=isa, backend="cpu")
    whole[:1, 2:7] = x = normal(2, 1, 5, 13)
    inside = whole.flatten()[2 * 13 : 7 * 13].view(1, 5, 13)
    assert torch.equal(layer(inside), layer(x)) and layer(inside).isfinite().all()
    wide = torch.full((1, 5, 40), math.nan)
    wide[:, :4, 10:22] = normal(3, 1, 4, 12)
    seen = wide[:, :4, 10:22]
    assert attend(seen, seen, seen, 3, instruction_set=isa, backend="cpu").isfinite().all()


@pytest.mark.usefixtures("native")
def test_rows_depend_on_nothing_but_themselves(isa: str) -> None:
    layer = Dense(normal(1, 48, 3 * 24), taps=3, instruction_set=isa, backend="cpu")
    x = normal(2, 5, 7, 24)
    assert torch.equal(layer(x), torch.cat([layer(row[None]) for row in x]))


@pytest.mark.usefixtures("native")
def test_nothing_is_no_input() -> None:
    with pytest.raises(KernelInputError, match=r"weight must have shape \(any, any\), got \(0, 3\)"):
        Dense(torch.zeros(0, 3))
    with pytest.raises(KernelInputError, match=r"x must have shape \(any, any, 3\), got \(0, 2, 3\)"):
        Dense(torch.zeros(2, 3))(torch.zeros(0, 2, 3))


X = torch.zeros(2, 4, 6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": X.double()}, "x must be torch.float32 on the CPU, got torch.float64"),
        ({"x": torch.zeros(2, 4, 5)}, r"x must have shape \(any, any, 6\), got \(2, 4, 5\)"),
        ({"x": torch.zeros(2, 6, 4).transpose(1, 2)}, r"x must .*contiguous, got strides \(24, 1, 4\)"),
        ({"x": torch.zeros(2, 8, 6)[:, ::2]}, r"x must be contiguous, got strides \(48, 12, 1\)"),
        ({"add": torch.zeros(2, 4, 2)}, r"add must have shape \(2, 4, 3\), got \(2, 4, 2\)"),
        ({"norm": Norm(torch.ones(5), torch.ones(5))}, r"norm.scale must have shape \(6\), got \(5,\)"),
        ({"norm": Norm(torch.ones(1, 6), torch.ones(1, 6))}, r"norm.scale must have shape \(2, 6\), got \(1, 6\)"),
        ({"norm": Norm(torch.ones(6), torch.ones(6).half())}, "norm.shift must be torch.float32"),
        ({"after": "relu"}, "got 'none' and 'relu'"),
    ],
)
@pytest.mark.usefixtures("native")
def test_bad_input_is_named(backend: Backend, arguments: dict[str, object], message: str) -> None:
    layer = Dense(torch.zeros(3, 6), backend=backend)
    with pytest.raises(KernelInputError, match=message):
        layer(**({"x": X} | arguments))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight": torch.zeros(3, 6).half()}, "weight must be torch.float32"),
        ({"weight": torch.zeros(6, 3).T}, r"weight must .*contiguous"),
        ({"bias": torch.zeros(4)}, r"bias must have shape \(3\), got \(4,\)"),
        ({"taps": 2}, "taps must be odd and divide 6 inputs, got 2"),
        ({"taps": 5}, "taps must be odd and divide 6 inputs, got 5"),
        ({"stride": 0}, "stride must be at least 1, got 0"),
        ({"instruction_set": "mmx"}, "got 'mmx'"),
    ],
)
@pytest.mark.usefixtures("native")
def test_bad_matrices_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(KernelInputError, match=message):
        Dense(**({"weight": torch.zeros(3, 6)} | arguments))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"key": torch.zeros(2, 5, 5)}, r"key must have shape \(2, any, 6\), got \(2, 5, 5\)"),
        ({"value": torch.zeros(2, 3, 6)}, r"value must have shape \(2, 4, 6\), got \(2, 3, 6\)"),
        ({"query": torch.zeros(2, 6, 4).transpose(1, 2)}, "query must have its last dimension contiguous"),
        ({"bias": torch.zeros(2, 3)}, r"bias must have shape \(2, 4\), got \(2, 3\)"),
        ({"num_heads": 4}, "num_heads must divide 6, got 4"),
    ],
)
def test_bad_attention_is_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(KernelInputError, match=message):
        attend(**({"query": X, "key": X, "value": X, "num_heads": 2} | arguments))  # type: ignore[arg-type]


@pytest.mark.usefixtures("native")
def test_a_named_level_is_the_one_that_runs() -> None:
    for name in cpu_info().instruction_sets:
        layer = Dense(torch.zeros(3, 6), instruction_set=name)
        assert layer.instruction_set == name
