"""The U-Net as it serves on a CPU: one window's work, cut to what a sampling step changes.

A hop of one session is a few million multiply-adds in hundreds of small operations, so that calls and waiting for
weights cost more than arithmetic. From the same weights, this form

- computes once per hop what no step changes: the audio context, its keys and values for all blocks, its two
  convolutions;
- computes all blocks' FiLM in one product, and gives it to the layer norm as its scale and shift;
- does the rest by `kernels.dense`: a norm, an activation, a convolution and a residual are one call, on weights in half
  precision where that is exact (as it is for shipped ones).

Results differ from `TemporalUNet` by rounding only (`tests/model/test_hop_unet.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from kernels.backend import Backend
from kernels.dense import Dense, Norm, attend
from model.diffusion.temporal_block import Attention, TemporalBlock
from model.diffusion.unet import TemporalUNet
from model.speech.speech_model import MEL_SLICE


class Heard(NamedTuple):
    """What attention looks at: keys and values (B, S, C), and what is added to scores, (B, S), -inf where unheard."""

    key: Tensor
    value: Tensor
    bias: Tensor


class _Pack(Protocol):
    """`Dense` at a level."""

    def __call__(self, weight: Tensor, bias: Tensor | None, *, taps: int = 1, stride: int = 1) -> Dense: ...


class HopUNet:
    """Denoises windows of B sessions, hop by hop. Holds folded copies of the U-Net's weights, taken when it is made.

    `instruction_set` and `backend` are those of `kernels.dense`.
    """

    def __init__(self, unet: TemporalUNet, *, instruction_set: str = "auto", backend: Backend = "auto") -> None:
        self.unet = unet
        pack: _Pack = partial(Dense, instruction_set=instruction_set, backend=backend)
        attention = partial(attend, num_heads=unet.config.num_heads, instruction_set=instruction_set, backend=backend)
        blocks = _blocks(unet)
        self._films = _Films(blocks, pack)
        keys = [block.cross_attention.key_value for block in blocks]
        self._keys = pack(_rows([k.weight for k in keys]), _rows([k.bias for k in keys]))
        self._key_cuts = list(pairwise(accumulate((len(k.bias) for k in keys), initial=0)))
        self._audio = [_packed_linear(layer, pack) for layer in unet.audio if isinstance(layer, nn.Linear)]
        self._from_audio = [_packed_conv(conv, pack) for conv in (unet.frame_audio, unet.direct)]
        self._enter, self._leave = _packed_linear(unet.enter, pack), _packed_linear(unet.leave[-1], pack)
        self._leave_norm = _norm(unet.leave[0])
        self._blocks = [_Block(block, pack, attention) for block in blocks]
        self._shrink = [_packed_conv(conv, pack) for conv in unet.shrink]
        self._grow = [_packed_grow(conv, pack) for conv in unet.grow]

    def hop(self, prefix: Tensor, mask: Tensor, audio: Tensor, heard: Tensor) -> Hop:
        """Prepare a hop: arguments as `TemporalUNet.forward` names them."""
        unet, c = self.unet, self.unet.config
        bright = heard[..., None].to(audio.dtype)
        if not c.mel_branch:
            audio = torch.cat([audio[..., : MEL_SLICE.start], torch.zeros_like(audio[..., MEL_SLICE])], -1)
        hidden = self._audio[0](torch.cat([audio * bright, bright], -1), after="silu")
        context = self._audio[1](hidden, add=unet.position.expand(len(audio), -1, -1).contiguous())
        added, direct = (conv(context) for conv in self._from_audio)
        keys = self._keys(context)
        quiet = torch.zeros(heard.shape).masked_fill_(~heard, -torch.inf)
        listening = []
        for start, end in self._key_cuts:
            middle = (start + end) // 2
            listening.append(Heard(keys[..., start:middle], keys[..., middle:end], quiet))
        given = torch.cat([prefix, mask[..., None]], -1)
        return Hop(self, given, added, direct, listening)

    def denoise(self, noisy: Tensor, condition: Tensor, hop: Hop) -> Tensor:
        """Clean latents (B, T, 16) of noisy ones under a condition (B, condition)."""
        x = self._enter(torch.cat([noisy, hop.given], -1), add=hop.added)
        x = self._run(x, self._films(condition), hop.listening)
        return self._leave(x, norm=self._leave_norm, before="silu", add=hop.direct)

    def _run(self, x: Tensor, films: Sequence[Norm], listening: Sequence[Heard]) -> Tensor:
        """Frames (B, T, first) through all levels, (B, T, first) out."""
        depth = len(self._shrink)
        steps = zip(self._blocks, films, listening, strict=True)
        skips = []
        for level in range(depth + 1):
            x = _next(steps, x)
            if level < depth:
                skips.append(x)
                x = self._shrink[level](x)
        x = _next(steps, x)
        for level in reversed(range(depth)):
            x = self._grow[level](x).view(len(x), 2 * x.shape[1], -1)
            x = _next(steps, torch.cat([x, skips[level]], -1))
        return x


class Hop:
    """One hop of B sessions, ready to be denoised any number of times."""

    def __init__(self, network: HopUNet, given: Tensor, added: Tensor, direct: Tensor, listening: list[Heard]) -> None:
        self._network = network
        self.given = given  # (B, T, 17)
        self.added = added  # (B, T, first), to the frames that enter
        self.direct = direct  # (B, T, 16), to the latents that leave
        self.listening = listening

    def denoise(
        self,
        noisy: Tensor,
        noise_time: Tensor,
        target_time: Tensor | None = None,
        temperature: Tensor | None = None,
        pose: Tensor | None = None,
        style: Tensor | None = None,
    ) -> Tensor:
        """Clean latents (B, T, 16); arguments as `TemporalUNet.forward` names them."""
        condition = self._network.unet.condition(noisy, noise_time, target_time, temperature, pose, style)
        return self._network.denoise(noisy, condition, self)


class _Films:
    """Scale and shift of all blocks' second norms, joined with FiLM's, by one product."""

    def __init__(self, blocks: Sequence[TemporalBlock], pack: _Pack) -> None:
        films, norms = [block.conv.film for block in blocks], [block.conv.norm2 for block in blocks]
        halves = [film.weight.chunk(2) for film in films], [film.bias.chunk(2) for film in films]
        weight, bias = (_rows([part[i] for i in (0, 1) for part in parts]) for parts in halves)
        self._product = pack(weight, bias)
        self._weight, self._bias = _rows([norm.weight for norm in norms]), _rows([norm.bias for norm in norms])
        self._cuts = list(pairwise(accumulate((len(norm.weight) for norm in norms), initial=0)))
        self._epsilons = [norm.eps for norm in norms]

    def __call__(self, condition: Tensor) -> list[Norm]:
        """One for each block, of the condition (B, condition)."""
        scale, shift = self._product(condition[:, None])[:, 0].chunk(2, -1)
        scale = 1 + scale
        weight, bias = scale * self._weight, torch.addcmul(shift, scale, self._bias)
        return [
            Norm(weight[:, a:b].contiguous(), bias[:, a:b].contiguous(), epsilon)
            for (a, b), epsilon in zip(self._cuts, self._epsilons, strict=True)
        ]


class _Attend(Protocol):
    """`attend` with its heads and level."""

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, *, bias: Tensor | None = None) -> Tensor: ...


class _Block:
    """A `TemporalBlock` in calls of `kernels.dense`."""

    def __init__(self, block: TemporalBlock, pack: _Pack, attention: _Attend) -> None:
        conv = block.conv
        self._norm1 = _norm(conv.norm1)
        self._conv1, self._conv2 = _packed_conv(conv.conv1, pack), _packed_conv(conv.conv2, pack)
        self._skip = _packed_linear(conv.skip, pack) if isinstance(conv.skip, nn.Linear) else None
        self._own = None if block.self_attention is None else _SelfAttention(block.self_attention, pack, attention)
        self._cross = _CrossAttention(block.cross_attention, pack, attention)

    def __call__(self, x: Tensor, film: Norm, heard: Heard) -> Tensor:
        h = self._conv1(x, norm=self._norm1, before="silu")
        x = self._conv2(h, norm=film, before="silu", add=x if self._skip is None else self._skip(x))
        if self._own is not None:
            x = self._own(x)
        return self._cross(x, heard)


class _SelfAttention:
    def __init__(self, attention: Attention, pack: _Pack, attend: _Attend) -> None:
        maps = attention.query, attention.key_value
        self._attend, self._norm = attend, _norm(attention.norm)
        self._parts = pack(_rows([m.weight for m in maps]), _rows([m.bias for m in maps]))
        self._out = _packed_linear(attention.out, pack)

    def __call__(self, x: Tensor) -> Tensor:
        query, key, value = self._parts(x, norm=self._norm).chunk(3, -1)
        return self._out(self._attend(query, key, value), add=x)


class _CrossAttention:
    def __init__(self, attention: Attention, pack: _Pack, attend: _Attend) -> None:
        self._attend, self._norm = attend, _norm(attention.norm)
        self._query, self._out = _packed_linear(attention.query, pack), _packed_linear(attention.out, pack)

    def __call__(self, x: Tensor, heard: Heard) -> Tensor:
        query = self._query(x, norm=self._norm)
        return self._out(self._attend(query, heard.key, heard.value, bias=heard.bias), add=x)


def _blocks(unet: TemporalUNet) -> list[TemporalBlock]:
    """In the order in which they run."""
    return [*unet.down, unet.middle, *reversed(list(unet.up))]


def _next(steps: zip[tuple[_Block, Norm, Heard]], x: Tensor) -> Tensor:
    block, film, heard = next(steps)
    return block(x, film, heard)


def _rows(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.detach() for part in parts]).contiguous()


def _norm(layer: nn.Module) -> Norm:
    assert isinstance(layer, nn.LayerNorm)
    return Norm(layer.weight.detach(), layer.bias.detach(), layer.eps)


def _packed_linear(layer: nn.Module, pack: _Pack) -> Dense:
    assert isinstance(layer, nn.Linear)
    return pack(layer.weight.detach(), layer.bias.detach())


def _packed_conv(conv: nn.Module, pack: _Pack) -> Dense:
    """Of a convolution over frames with padding as wide as half its taps."""
    assert isinstance(conv, nn.Conv1d)
    weight = conv.weight.detach().permute(0, 2, 1).flatten(1).contiguous()
    assert conv.bias is not None
    return pack(weight, conv.bias.detach(), taps=conv.kernel_size[0], stride=conv.stride[0])


def _packed_grow(conv: nn.Module, pack: _Pack) -> Dense:
    """Of a transposed convolution (4 taps, stride 2, padding 1), 3 inputs to 2 frames side by side.

    Frame 2i is of inputs i - 1 (tap 3) and i (tap 1), frame 2i + 1 of i (tap 2) and i + 1 (tap 0).
    """
    assert isinstance(conv, nn.ConvTranspose1d)
    assert conv.bias is not None
    taps = conv.weight.detach().permute(2, 1, 0)
    none = torch.zeros_like(taps[0])
    even, odd = torch.cat([taps[3], taps[1], none], 1), torch.cat([none, taps[2], taps[0]], 1)
    return pack(torch.cat([even, odd]).contiguous(), conv.bias.detach().repeat(2), taps=3)
