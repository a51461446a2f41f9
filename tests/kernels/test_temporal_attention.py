"""Attention kernels: in Triton's interpreter (or compiled, where there is CUDA) they equal the reference.

The tests of the kernels are in `triton_attention.py`, which a child process runs: `tests/support/interpreter.py`.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kernels.backend import choose_backend, triton_problem
from kernels.checks import KernelInputError
from kernels.temporal_attention import (
    AttentionWeights,
    FrameCache,
    HopMask,
    attention_block,
    temporal_attention,
)
from kernels.temporal_attention.reference import rotate
from tests.support.closeness import assert_close
from tests.support.interpreter import run_module


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kernels_equal_the_reference() -> None:
    run_module("tests/kernels/triton_attention.py", "-m", "not nightly")


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_kernels_equal_the_reference_at_every_size() -> None:
    run_module("tests/kernels/triton_attention.py", "--nightly", timeout_s=1790)


def formula(
    q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:  # (B, H, T, D), allowed (B or 1, T, S), bias (H, T, S)
    """Attention written out, in float64."""
    scores = torch.einsum("bhtd,bhsd->bhts", q.double(), k.double()) / math.sqrt(q.shape[-1])
    if bias is not None:
        scores = scores + bias
    if allowed is not None:
        scores = scores.masked_fill(~allowed[:, None], -1e30)
    return scores.softmax(-1) @ v.double()


def test_hop_mask_lets_a_frame_see_its_hop_and_the_look_ahead() -> None:
    q, k, v = torch.randn(3, 2, 3, 9, 8)
    hop = HopMask(hop_frames=4, lookahead_frames=2, first_frame=6)
    # stream positions 6..14; hops end before 8, 12, 16; with two frames of look-ahead: 10, 14, 18
    ends = torch.tensor([4, 4, 8, 8, 8, 8, 9, 9, 9])
    allowed = torch.arange(9)[None] < ends[:, None]
    assert_close(temporal_attention(q, k, v, hop_mask=hop), formula(q, k, v, allowed[None]))


def test_relative_bias_is_of_the_key_less_the_query() -> None:
    q, k, v = torch.randn(3, 2, 3, 5, 8)
    table = torch.randn(3, 5)
    bias = torch.stack([torch.stack([table[:, min(max(j - i, -2), 2) + 2] for j in range(5)], -1) for i in range(5)], 1)
    assert_close(temporal_attention(q, k, v, relative_bias=table), formula(q, k, v, bias=bias))


def test_rope_turns_pairs_and_depends_on_distance_alone() -> None:
    x = torch.randn(1, 1, 4, 6)
    turned = rotate(x, torch.arange(4))
    assert_close(turned[..., 0, :], x[..., 0, :])  # position 0
    angle = 3 * 10_000.0 ** (-1 / 3)  # frame 3, second of three pairs
    assert_close(turned[0, 0, 3, 1], x[0, 0, 3, 1] * math.cos(angle) - x[0, 0, 3, 4] * math.sin(angle))
    here = rotate(x, torch.arange(4)) @ rotate(x, torch.arange(4)).transpose(-1, -2)
    there = rotate(x, torch.arange(4) + 40) @ rotate(x, torch.arange(4) + 40).transpose(-1, -2)
    assert_close(there, here)


@pytest.mark.parametrize("rope", [False, True])
def test_windows_over_a_cache_equal_attention_over_the_whole_stream(rope: bool) -> None:
    """Hops of two frames, of which a ring holds the last six: each window equals attention over all eight."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, 20, 8)
    table, hop = torch.randn(2, 9), HopMask(hop_frames=2, lookahead_frames=0)
    cache = FrameCache.empty(2, 2, 6, 8, dtype=torch.float32)
    cache.keys.fill_(float("nan"))
    cache.values.fill_(float("nan"))
    for start in range(0, 20, 2):
        part = slice(start, start + 2)
        found = temporal_attention(
            q[:, :, part], k[:, :, part], v[:, :, part], cache=cache, rope=rope, relative_bias=table, hop_mask=hop
        )
        cache.commit(k[:, :, part], v[:, :, part], 2)
        whole = slice(max(0, start - 6), start + 2)
        wanted = temporal_attention(q[:, :, whole], k[:, :, whole], v[:, :, whole], rope=rope, relative_bias=table)
        assert_close(found, wanted[:, :, -2:])


def test_sessions_of_a_cache_advance_and_reset_alone() -> None:
    k, v = torch.randn(2, 2, 1, 5, 4)
    cache = FrameCache.empty(2, 1, 3, 4, dtype=torch.float32)
    cache.commit(k, v, 2)
    cache.reset(0)
    cache.commit(k, v, 2)
    assert cache.committed.tolist() == [2, 4]
    assert cache.relative_positions().tolist() == [[-2, -1, -4], [-1, -3, -2]]
    with pytest.raises(KernelInputError, match=r"\[0, 3\], got 4"):
        cache.commit(k, v, 4)


def weights(width: int, inner: int, source: int | None = None) -> AttentionWeights:
    return AttentionWeights(
        query=torch.randn(inner, width),
        query_bias=torch.randn(inner),
        key_value=torch.randn(2 * inner, source or width),
        key_value_bias=torch.randn(2 * inner),
        out=torch.randn(width, inner),
        out_bias=torch.randn(width),
    )


def test_block_is_projections_around_attention_and_packed_weights_are_the_same() -> None:
    x, w = torch.randn(2, 5, 12), weights(12, 8)
    q, k, v = (
        (x @ m.T + b).view(2, 5, 2, 4).transpose(1, 2)
        for m, b in zip((w.query, *w.key_value.chunk(2)), (w.query_bias, *w.key_value_bias.chunk(2)), strict=True)
    )
    wanted = x + formula(q, k, v).transpose(1, 2).flatten(2).float() @ w.out.T + w.out_bias
    assert_close(attention_block(x, w, 2), wanted)
    packed = AttentionWeights.packed(
        torch.cat([w.query, w.key_value]), torch.cat([w.query_bias, w.key_value_bias]), w.out, w.out_bias
    )
    assert torch.equal(attention_block(x, packed, 2), attention_block(x, w, 2))


def test_gradients_reach_everything() -> None:
    x, context, w = torch.randn(2, 4, 8, requires_grad=True), torch.randn(2, 3, 6, requires_grad=True), weights(8, 8, 6)
    tensors = [x, context, *(t.requires_grad_() for t in w.named().values())]
    attention_block(x, w, 2, context=context, mask=torch.tensor([[True, True, False]] * 2)).square().sum().backward()
    assert all(t.grad is not None and t.grad.abs().sum() > 0 for t in tensors)


Q = torch.zeros(2, 2, 4, 8)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((Q, Q[:, :1], Q[:, :1]), {}, r"\(2, 1, 4, 8\)"),
        ((Q[0], Q, Q), {}, r"\(2, 4, 8\)"),
        ((Q.long(), Q, Q), {}, "torch.int64"),
        ((Q, Q.half(), Q.half()), {}, "torch.float16"),
        ((Q, Q.to("meta"), Q), {}, "meta"),
        ((Q, Q, Q), {"mask": torch.ones(2, 3, dtype=torch.bool)}, r"\(2, 3\)"),
        ((Q, Q, Q), {"mask": torch.ones(2, 4)}, "torch.float32"),
        ((Q, Q[:, :, :3], Q[:, :, :3]), {"rope": True}, "got 3 and 4"),
        ((Q[..., :7], Q[..., :7], Q[..., :7]), {"rope": True}, "got 7"),
        ((Q, Q, Q), {"relative_bias": torch.zeros(2, 4)}, r"\(2, 4\)"),
        ((Q, Q, Q), {"relative_bias": torch.zeros(3, 5)}, r"\(3, 5\)"),
        ((Q[:, :, :0], Q, Q), {}, r"\(2, 2, 0, 8\)"),
        ((Q, Q, Q), {"backend": "triton"}, "on cpu"),
        ((Q, Q, Q), {"backend": "cpu"}, "no C\\+\\+ form"),
        ((Q, Q, Q), {"backend": "cuda"}, "'cuda'"),
    ],
)
def test_wrong_inputs_are_named(
    arguments: tuple[Tensor, ...], options: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(KernelInputError, match=message):
        temporal_attention(*arguments, **options)  # type: ignore[arg-type]


def test_wrong_blocks_are_named() -> None:
    x = torch.zeros(1, 4, 8)
    with pytest.raises(KernelInputError, match=r"weights.out must have shape \(8, 6\), got \(9, 6\)"):
        attention_block(x, AttentionWeights(**{**weights(8, 6).named(), "out": torch.zeros(9, 6)}), 2)
    with pytest.raises(KernelInputError, match="num_heads must divide 6 channels, got 4"):
        attention_block(x, weights(8, 6), 4)
    with pytest.raises(KernelInputError, match=r"weights.query must be torch.float16, got torch.float32"):
        attention_block(x.half(), weights(8, 6), 2)
    with pytest.raises(KernelInputError, match=r"got \(7, 8\)"):
        AttentionWeights.packed(torch.zeros(7, 8), torch.zeros(7), torch.zeros(8, 2), torch.zeros(8))
    with pytest.raises(KernelInputError, match="hop_frames=0"):
        HopMask(hop_frames=0, lookahead_frames=1)
    strided = torch.zeros(2, 2, 8, 4).transpose(2, 3)
    cache = FrameCache(keys=strided, values=strided, committed=torch.zeros(2, dtype=torch.int64))
    with pytest.raises(KernelInputError, match=r"cache.keys must be contiguous, got strides"):
        temporal_attention(Q, Q, Q, cache=cache)


def test_triton_is_chosen_by_device_and_never_replaced_quietly() -> None:
    assert choose_backend("test", "auto", triton="") == "triton"
    assert choose_backend("test", "auto", cpu_library=True, triton="") == "triton"
    assert choose_backend("test", "auto", cpu_library=True, triton="the tensors are on cpu") == "cpu"
    assert choose_backend("test", "auto", triton="the tensors are on cpu") == "reference"
    assert choose_backend("test", "reference", triton="") == "reference"
    with pytest.raises(KernelInputError, match="the tensors are on cpu"):
        choose_backend("test", "triton", triton="the tensors are on cpu")
    with pytest.raises(KernelInputError, match="no Triton form"):
        choose_backend("test", "triton")
    assert triton_problem(torch.device("cpu")) == "the tensors are on cpu"


def test_old_cards_are_told_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    from kernels import backend

    backend._cuda_problem.cache_clear()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (7, 5))
    assert triton_problem(torch.device("cuda", 0)) == "it needs compute capability 8.0, got 7.5"
    backend._cuda_problem.cache_clear()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    assert triton_problem(torch.device("cuda", 0)) == ""
    backend._cuda_problem.cache_clear()
