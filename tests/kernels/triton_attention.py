"""The Triton attention kernels against the reference. Run by `test_temporal_attention.py` in a child process.

In the interpreter without CUDA, compiled with it: `DEVICE` says which. Inputs are views into buffers of NaN, so that
any value read from around or behind a tensor shows.
"""

from __future__ import annotations

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.checks import KernelInputError
from kernels.temporal_attention import (
    AttentionWeights,
    FrameCache,
    HopMask,
    attention_block,
    temporal_attention,
)
from tests.support.closeness import assert_close
from tests.support.interpreter import in_child

assert in_child(), "run tests/kernels/test_temporal_attention.py instead: it starts this in a child process"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
HOP = HopMask(hop_frames=2, lookahead_frames=2, first_frame=3)
EXAMPLES = 10 if "--nightly" in sys.argv or DEVICE == "cuda" else 1
nightly = pytest.mark.nightly
SOME = [torch.float32, *(pytest.param(dtype, marks=nightly) for dtype in (torch.float16, torch.bfloat16))]


def sizes(frames: list[int], *, now: list[int]) -> list[object]:
    """Every size in every precision; by day 7 frames in each, and the sizes `now` in float32."""
    day = [(n, dtype) for n in frames for dtype in DTYPES if n == 7 or (n in now and dtype == torch.float32)]
    return [pytest.param(n, d, marks=() if (n, d) in day else nightly) for n in frames for d in DTYPES]


@pytest.fixture(autouse=True)
def _no_gradients() -> None:
    torch.manual_seed(0)
    torch.set_grad_enabled(False)


def poisoned(*shape: int, dtype: torch.dtype = torch.float32, scale: float = 1.0) -> Tensor:
    """A random tensor whose last two axes lie inside a buffer of NaN: not contiguous, and guarded on all sides."""
    whole = torch.full((*shape[:-2], shape[-2] + 4, shape[-1] + 6), float("nan"), dtype=dtype, device=DEVICE)
    inside = whole[..., 2:-2, 3:-3]
    inside.copy_(torch.randn(shape) * scale)
    return inside


def guarded(tensor: Tensor) -> Tensor:
    """A contiguous copy with NaN before and behind it."""
    whole = torch.full((tensor.numel() + 64,), float("nan"), dtype=tensor.dtype, device=DEVICE)
    inside = whole[32:-32].view(tensor.shape)
    inside.copy_(tensor)
    return inside


def assert_same(found: Tensor, wanted: Tensor) -> None:
    precision = str(wanted.dtype).removeprefix("torch.")
    assert found.dtype == wanted.dtype
    assert_close(found.float().cpu().numpy(), wanted.float().cpu().numpy(), precision=precision)


def check(q: Tensor, k: Tensor, v: Tensor, **options: object) -> Tensor:
    """The kernel equals the reference in float32, within the precision of the inputs."""
    single = {n: o.float() if isinstance(o, Tensor) and o.is_floating_point() else o for n, o in options.items()}
    if isinstance(cache := options.get("cache"), FrameCache):
        single["cache"] = FrameCache(keys=cache.keys.float(), values=cache.values.float(), committed=cache.committed)
    found = temporal_attention(q, k, v, backend="triton", **options)  # type: ignore[arg-type]
    wanted = temporal_attention(q.float(), k.float(), v.float(), backend="reference", **single)  # type: ignore[arg-type]
    assert_same(found, wanted.to(q.dtype))
    return found


@pytest.mark.parametrize(("frames", "dtype"), sizes([1, 7, 63, 64], now=[1, 63]))
def test_self_attention(frames: int, dtype: torch.dtype) -> None:
    q, k, v = (poisoned(2, 2, frames, 8, dtype=dtype) for _ in range(3))
    mask = torch.rand(2, frames, device=DEVICE) < 0.7
    mask[1] = False
    check(q, k, v, mask=mask)
    check(q, k, v, rope=True, relative_bias=poisoned(2, 9, dtype=dtype), hop_mask=HOP)


@pytest.mark.parametrize(("frames", "tokens", "channels"), [(16, 7, 40), (7, 63, 12), (1, 1, 128)])
def test_cross_attention(frames: int, tokens: int, channels: int) -> None:
    q = poisoned(1, 2, frames, channels)
    k, v = poisoned(1, 2, tokens, channels), poisoned(1, 2, tokens, channels)
    check(q, k, v, mask=torch.arange(tokens, device=DEVICE)[None] < max(1, tokens - 2))


def test_views_of_one_projection() -> None:
    """(B, T, 3 H D) seen as (B, H, T, D), as modules make them; and channels that are not neighbours."""
    packed = torch.randn(2, 7, 3 * 4 * 8, device=DEVICE)
    check(*(part.view(2, 7, 4, 8).transpose(1, 2) for part in packed.chunk(3, -1)))
    check(*(torch.randn(3, 1, 2, 8, 7, device=DEVICE).transpose(3, 4)))


@pytest.mark.parametrize("dtype", SOME)
def test_streaming_over_a_ring(dtype: torch.dtype) -> None:
    """Sessions that never began, began, and went round the ring, whose unwritten slots hold NaN."""
    cache = FrameCache.empty(3, 2, 7, 8, dtype=dtype, device=DEVICE)
    cache = FrameCache(keys=guarded(cache.keys), values=guarded(cache.values), committed=cache.committed)
    cache.keys.fill_(float("nan"))
    cache.values.fill_(float("nan"))
    frames = torch.randn(3, 2, 12, 8, device=DEVICE).to(dtype)
    cache.commit(frames[:, :, :6], frames[:, :, 6:], 6)
    cache.commit(frames[:, :, :5], frames[:, :, 5:10], 5)
    cache.reset(0)
    cache.reset(1)
    cache.keys[:2].fill_(float("nan"))
    cache.values[:2].fill_(float("nan"))
    cache.keys[1, :, :2], cache.values[1, :, :2], cache.committed[1] = frames[1, :, :2], frames[1, :, 2:4], 2
    q, k, v = (poisoned(3, 2, 5, 8, dtype=dtype) for _ in range(3))
    hop = HopMask(hop_frames=4, lookahead_frames=1)
    check_stream(q, k, v, cache, {"rope": True, "hop_mask": hop, "relative_bias": poisoned(2, 7, dtype=dtype)})


def check_stream(q: Tensor, k: Tensor, v: Tensor, cache: FrameCache, options: dict[str, object]) -> None:
    before = cache.keys.clone()
    clean = FrameCache(keys=cache.keys.nan_to_num(), values=cache.values.nan_to_num(), committed=cache.committed)
    found = temporal_attention(q, k, v, cache=cache, backend="triton", **options)  # type: ignore[arg-type]
    assert torch.equal(found, check(q, k, v, cache=clean, **options))
    torch.testing.assert_close(cache.keys, before, equal_nan=True, atol=0, rtol=0)


def block_weights(width: int, inner: int, source: int, dtype: torch.dtype, *, norm: bool = True) -> AttentionWeights:
    def drawn(*shape: int) -> Tensor:
        return guarded((torch.randn(shape) / shape[-1] ** 0.5).to(dtype))

    return AttentionWeights(
        query=drawn(inner, width),
        query_bias=drawn(inner),
        key_value=drawn(2 * inner, source),
        key_value_bias=drawn(2 * inner),
        out=drawn(width, inner),
        out_bias=drawn(width),
        norm_weight=1 + drawn(width) if norm else None,
        norm_bias=drawn(width) if norm else None,
    )


def check_block(x: Tensor, w: AttentionWeights, heads: int, **options: object) -> None:
    single = {n: o.float() if isinstance(o, Tensor) and o.is_floating_point() else o for n, o in options.items()}
    wide = AttentionWeights(**{name: tensor.float() for name, tensor in w.named().items()})
    found = attention_block(x, w, heads, backend="triton", **options)  # type: ignore[arg-type]
    wanted = attention_block(x.float(), wide, heads, backend="reference", **single)  # type: ignore[arg-type]
    error = (found.float() - wanted).abs().max().item()
    assert found.dtype == x.dtype and found.shape == x.shape
    assert error <= {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 8e-2}[x.dtype], error


@pytest.mark.parametrize(("frames", "dtype"), sizes([1, 7, 63], now=[1]))
def test_fused_self_attention(frames: int, dtype: torch.dtype) -> None:
    """Up to 16 frames the output projection is in the kernel; beyond, it is torch's."""
    x, w = poisoned(2, frames, 20, dtype=dtype), block_weights(20, 24, 20, dtype)
    mask = torch.rand(2, frames, device=DEVICE) < 0.7
    check_block(x, w, 2, mask=mask)
    check_block(x, w, 2, rope=True, relative_bias=poisoned(2, 5, dtype=dtype), hop_mask=HOP)


@pytest.mark.parametrize("dtype", SOME)
def test_fused_cross_attention(dtype: torch.dtype) -> None:
    x, w = poisoned(3, 7, 20, dtype=dtype), block_weights(20, 24, 36, dtype, norm=False)
    mask = torch.rand(3, 9, device=DEVICE) < 0.6
    mask[2] = False
    check_block(x, w, 1, context=poisoned(3, 9, 36, dtype=dtype), mask=mask)


@nightly
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("frames", "width"), [(16, 128), (8, 160), (4, 192)])
def test_levels_of_the_shipped_net(frames: int, width: int, dtype: torch.dtype) -> None:
    x = poisoned(2, frames, width, dtype=dtype)
    check_block(x, block_weights(width, width, width, dtype), 4)
    mask = torch.arange(16, device=DEVICE)[None].expand(2, -1) < 12
    check_block(x, block_weights(width, width, 160, dtype), 4, context=poisoned(2, 16, 160, dtype=dtype), mask=mask)


@nightly
def test_the_net_with_its_attention_in_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    from functools import partial

    from model.diffusion import temporal_block
    from model.diffusion.unet import TemporalUNet, UNetConfig

    unet = TemporalUNet(UNetConfig(channels=(16, 24, 32), condition_size=16, context_size=16, num_heads=2))
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    unet = unet.eval().to(DEVICE)
    heard = torch.arange(16, device=DEVICE).expand(2, -1) < torch.tensor([[12], [0]], device=DEVICE)
    inputs = [torch.randn(2, *shape, device=DEVICE) for shape in ((16, 16), (), (16, 16), (16,), (16, 256))]
    found = []
    for backend in ("triton", "reference"):
        monkeypatch.setattr(temporal_block, "attention_block", partial(attention_block, backend=backend))
        found.append(unet(*inputs, heard))
    assert_same(*found)


def test_what_a_mask_hides_is_not_read_and_a_session_never_reaches_another() -> None:
    """NaN in a masked token changes nothing; NaN in one session stays there, bit by bit."""
    x, w = torch.randn(3, 5, 16, device=DEVICE), block_weights(16, 16, 16, torch.float32)
    mask = torch.tensor([[True, True, True, False, True]] * 3, device=DEVICE)
    base = attention_block(x, w, 2, mask=mask, backend="triton")
    x[1] = float("nan")
    x[0, 3] = float("nan")
    found = attention_block(x, w, 2, mask=mask, backend="triton")
    assert torch.equal(found[2], base[2]) and torch.equal(found[0, mask[0]], base[0, mask[0]])
    assert found[1].isnan().all()
    alone = attention_block(x[2:], w, 2, mask=mask[2:], backend="triton")
    assert torch.equal(alone[0], base[2])


def test_no_sessions() -> None:
    none = torch.zeros(0, 2, 5, 8, device=DEVICE)
    assert temporal_attention(none, none, none, backend="triton").shape == (0, 2, 5, 8)
    x = torch.zeros(0, 5, 16, device=DEVICE)
    assert attention_block(x, block_weights(16, 16, 16, torch.float32), 2, backend="triton").shape == (0, 5, 16)


def test_what_the_kernels_do_not_take_is_refused() -> None:
    long = torch.zeros(1, 1, 100, 8, device=DEVICE)
    with pytest.raises(KernelInputError, match="up to 64 frames or tokens, got 100"):
        temporal_attention(long, long, long, backend="triton")
    assert temporal_attention(long, long, long).shape == long.shape  # "auto" leaves them to torch
    wide = torch.zeros(1, 1, 4, 130, device=DEVICE)
    with pytest.raises(KernelInputError, match="128 channels a head, got 130"):
        temporal_attention(wide, wide, wide, backend="triton")
    with pytest.raises(KernelInputError, match="float64"):
        temporal_attention(wide[..., :8].double(), *(wide[..., :8].double(),) * 2, backend="triton")
    q = torch.zeros(1, 1, 4, 8, device=DEVICE, requires_grad=True)
    with torch.enable_grad(), pytest.raises(KernelInputError, match="no gradient"):
        temporal_attention(q, q, q, backend="triton")
    w = block_weights(16, 16, 16, torch.float32)
    turned = AttentionWeights(**{**w.named(), "query": w.query.T.contiguous().T})
    with pytest.raises(KernelInputError, match=r"weights.query is not contiguous, got strides \(1, 16\)"):
        attention_block(torch.zeros(1, 4, 16, device=DEVICE), turned, 2, backend="triton")


@settings(max_examples=4 * EXAMPLES, deadline=None, derandomize=True)
@given(
    sessions=st.integers(1, 3),
    heads=st.integers(1, 3),
    frames=st.integers(1, 18),
    half=st.integers(1, 9),
    rope=st.booleans(),
    hop=st.none() | st.builds(HopMask, hop_frames=st.integers(1, 5), lookahead_frames=st.integers(0, 4)),
    reach=st.none() | st.integers(1, 6),
    masked=st.booleans(),
    dtype=st.sampled_from(DTYPES),
)
def test_any_small_attention(
    sessions: int, heads: int, frames: int, half: int, rope: bool, hop: HopMask | None, reach: int | None,
    masked: bool, dtype: torch.dtype,
) -> None:  # fmt: skip
    q, k, v = (poisoned(sessions, heads, frames, 2 * half, dtype=dtype) for _ in range(3))
    bias = None if reach is None else poisoned(heads, 2 * reach + 1, dtype=dtype)
    mask = torch.rand(sessions, frames, device=DEVICE) < 0.8 if masked else None
    check(q, k, v, mask=mask, rope=rope, hop_mask=hop, relative_bias=bias)


@settings(max_examples=2 * EXAMPLES, deadline=None, derandomize=True)
@given(
    frames=st.integers(1, 18),
    width=st.integers(1, 40),
    channels=st.integers(1, 9),
    heads=st.integers(1, 3),
    cross=st.none() | st.tuples(st.integers(1, 18), st.integers(1, 40)),
    norm=st.booleans(),
)
def test_any_small_block(
    frames: int, width: int, channels: int, heads: int, cross: tuple[int, int] | None, norm: bool
) -> None:
    tokens, source = cross or (frames, width)
    w = block_weights(width, heads * channels, source, torch.float32, norm=norm and width > 1)
    context = None if cross is None else poisoned(2, tokens, source)
    check_block(poisoned(2, frames, width), w, heads, context=context)
