"""The U-Net as it serves on a CPU: one window's work, cut to what a sampling step changes.

A hop of one session is a few million multiply-adds in hundreds of small operations, so that calls cost more than
arithmetic. From the same weights, this form

- computes once per hop what no step changes: the audio context, its keys and values for all blocks, its two
  convolutions;
- computes all blocks' FiLM in one product, and gives it to the layer norm as its scale and shift;
- turns convolutions over frames into products with neighbouring frames side by side (PyTorch's own convolution lays
  so short a signal out anew in every call).

Results differ from `TemporalUNet` by rounding only (`tests/model/test_hop_unet.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.diffusion.temporal_block import Attention, FilmResBlock, TemporalBlock
from model.diffusion.unet import TemporalUNet
from model.speech.speech_model import MEL_SLICE


class Film(NamedTuple):
    """Scale and shift of a block's second norm: (C,) each for one session, (B, 1, C) for more."""

    scale: Tensor
    shift: Tensor


class Heard(NamedTuple):
    """What attention looks at: keys and values (B * heads, S, D), and what is added to scores, -inf where unheard."""

    key: Tensor
    value: Tensor
    bias: Tensor  # (B * heads, 1, S)


class HopUNet:
    """Denoises windows of B sessions, hop by hop. Holds folded copies of the U-Net's weights, taken when it is made."""

    def __init__(self, unet: TemporalUNet) -> None:
        self.unet = unet
        blocks = _blocks(unet)
        films = [block.conv.film for block in blocks]
        self._film = _joined(films)
        self._film_cuts = list(pairwise(accumulate((len(f.bias) for f in films), initial=0)))
        keys = [block.cross_attention.key_value for block in blocks]
        self._keys = _joined(keys)
        self._key_cuts = list(pairwise(accumulate((len(k.bias) for k in keys), initial=0)))
        self._from_audio = _conv_matrix([unet.frame_audio, unet.direct])
        self._blocks = [_Block(block) for block in blocks]
        self._shrink = [_conv_matrix([conv]) for conv in unet.shrink]
        self._grow = [_grow_matrix(conv) for conv in unet.grow]

    def hop(self, prefix: Tensor, mask: Tensor, audio: Tensor, heard: Tensor) -> Hop:
        """Prepare a hop: arguments as `TemporalUNet.forward` names them."""
        unet, c = self.unet, self.unet.config
        bright = heard[..., None].to(audio.dtype)
        if not c.mel_branch:
            audio = torch.cat([audio[..., : MEL_SLICE.start], torch.zeros_like(audio[..., MEL_SLICE])], -1)
        context = unet.audio(torch.cat([audio * bright, bright], -1)) + unet.position
        added = torch.addmm(self._from_audio[1], _windows(context, 5, 1), self._from_audio[0])
        added = added.view(*context.shape[:2], -1)
        keys = torch.addmm(self._keys[1], context.flatten(0, 1), self._keys[0]).view(*context.shape[:2], -1)
        quiet = torch.zeros(heard.shape).masked_fill_(~heard, -torch.inf)
        deaf = ~heard.any(-1)
        if deaf.any():
            quiet[deaf] = 0.0
        bias = quiet.repeat_interleave(c.num_heads, 0)[:, None]
        listening = [_heard(keys[..., a:b], c.num_heads, bias) for a, b in self._key_cuts]
        given = torch.cat([prefix, mask[..., None]], -1)
        return Hop(self, given, added, listening, (~deaf).to(audio.dtype) if deaf.any() else None)

    def films(self, condition: Tensor) -> list[Film]:
        """Of all blocks, from the condition (B, condition)."""
        all_films = torch.addmm(self._film[1], condition, self._film[0])
        return [block.film(all_films[:, a:b]) for block, (a, b) in zip(self._blocks, self._film_cuts, strict=True)]

    def run(self, x: Tensor, films: Sequence[Film], listening: Sequence[Heard], awake: Tensor | None) -> Tensor:
        """Frames (B, T, first) through all levels, (B, T, first) out."""
        depth = len(self._shrink)
        steps = zip(self._blocks, films, listening, strict=True)
        skips = []
        for level in range(depth + 1):
            x = _next(steps, x, awake)
            if level < depth:
                skips.append(x)
                x = _convolved(x, self._shrink[level], stride=2)
        x = _next(steps, x, awake)
        for level in reversed(range(depth)):
            x = _convolved(x, self._grow[level]).view(len(x), 2 * x.shape[1], -1)
            x = _next(steps, torch.cat([x, skips[level]], -1), awake)
        return x


class Hop:
    """One hop of B sessions, ready to be denoised any number of times."""

    def __init__(
        self, network: HopUNet, given: Tensor, added: Tensor, listening: list[Heard], awake: Tensor | None
    ) -> None:
        self._network = network
        self._given = given  # (B, T, 17)
        self._listening = listening
        self._awake = awake  # (B,): 0 where nothing at all was heard; None: all hear
        first = network.unet.config.channels[0]
        self._added, self._direct = added[..., :first], added[..., first:]

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
        unet = self._network.unet
        condition = unet.condition(noisy, noise_time, target_time, temperature, pose, style)
        x = unet.enter(torch.cat([noisy, self._given], -1)) + self._added
        x = self._network.run(x, self._network.films(condition), self._listening, self._awake)
        out: Tensor = unet.leave(x) + self._direct
        return out


class _Block:
    """A `TemporalBlock` with its convolutions as products."""

    def __init__(self, block: TemporalBlock) -> None:
        conv: FilmResBlock = block.conv
        self._norm1, self._norm2 = conv.norm1, conv.norm2
        self._conv1, self._conv2 = _conv_matrix([conv.conv1]), _conv_matrix([conv.conv2])
        self._skip = conv.skip
        self._own = _SelfAttention(block.self_attention) if block.self_attention is not None else None
        self._cross = _CrossAttention(block.cross_attention)

    def film(self, scale_shift: Tensor) -> Film:
        """The norm's scale and shift joined with FiLM's."""
        scale, shift = scale_shift.chunk(2, -1)
        scale = 1 + scale
        weight, bias = scale * self._norm2.weight, torch.addcmul(shift, scale, self._norm2.bias)
        return Film(weight[0], bias[0]) if len(weight) == 1 else Film(weight[:, None], bias[:, None])

    def __call__(self, x: Tensor, film: Film, heard: Heard, awake: Tensor | None) -> Tensor:
        h = _convolved(functional.silu(self._norm1(x), inplace=True), self._conv1)
        size, eps = self._norm2.normalized_shape, self._norm2.eps
        if film.scale.ndim == 1:
            h = functional.layer_norm(h, size, film.scale, film.shift, eps)
        else:
            h = torch.addcmul(film.shift, functional.layer_norm(h, size, eps=eps), film.scale)
        h = _convolved(functional.silu(h, inplace=True), self._conv2)
        x = h.add_(self._skip(x))
        if self._own is not None:
            x = self._own(x)
        return self._cross(x, heard, awake)


class _SelfAttention:
    def __init__(self, attention: Attention) -> None:
        self._norm, self._out, self._heads = attention.norm, attention.out, attention.num_heads
        width = attention.query.in_features
        weight, bias = _scaled_query(attention)
        self._matrix = torch.cat([weight, attention.key_value.weight.detach()]).T.contiguous()
        self._bias = torch.cat([bias, attention.key_value.bias.detach()])
        self._width = width

    def __call__(self, x: Tensor) -> Tensor:
        batch, frames, width = x.shape
        parts = torch.addmm(self._bias, self._norm(x).view(-1, width), self._matrix)
        parts = parts.view(batch, frames, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = parts.reshape(3, batch * self._heads, frames, -1).unbind(0)
        shares = torch.softmax(torch.bmm(query, key.transpose(1, 2)), -1)
        out: Tensor = x + self._out(_merged(torch.bmm(shares, value), batch))
        return out


class _CrossAttention:
    def __init__(self, attention: Attention) -> None:
        self._norm, self._out, self._heads = attention.norm, attention.out, attention.num_heads
        weight, self._bias = _scaled_query(attention)
        self._matrix = weight.T.contiguous()

    def __call__(self, x: Tensor, heard: Heard, awake: Tensor | None) -> Tensor:
        batch, frames, width = x.shape
        query = torch.addmm(self._bias, self._norm(x).view(-1, width), self._matrix)
        query = query.view(batch, frames, self._heads, -1).transpose(1, 2).reshape(batch * self._heads, frames, -1)
        shares = torch.softmax(torch.baddbmm(heard.bias, query, heard.key.transpose(1, 2)), -1)
        attended = _merged(torch.bmm(shares, heard.value), batch)
        if awake is not None:
            attended = attended * awake[:, None, None]
        out: Tensor = x + self._out(attended)
        return out


def _blocks(unet: TemporalUNet) -> list[TemporalBlock]:
    """In the order in which they run."""
    return [*unet.down, unet.middle, *reversed(list(unet.up))]


def _next(steps: zip[tuple[_Block, Film, Heard]], x: Tensor, awake: Tensor | None) -> Tensor:
    block, film, heard = next(steps)
    return block(x, film, heard, awake)


def _joined(layers: Sequence[nn.Linear]) -> tuple[Tensor, Tensor]:
    """Matrix (inputs, all outputs) and bias of linear maps with the same input."""
    weight = torch.cat([layer.weight.detach() for layer in layers]).T.contiguous()
    return weight, torch.cat([layer.bias.detach() for layer in layers])


def _scaled_query(attention: Attention) -> tuple[Tensor, Tensor]:
    """Weight and bias of the query with softmax's 1 / sqrt(D) in it."""
    scale = (attention.query.out_features // attention.num_heads) ** -0.5
    return attention.query.weight.detach() * scale, attention.query.bias.detach() * scale


def _conv_matrix(convs: Sequence[nn.Module]) -> tuple[Tensor, Tensor]:
    """Matrix (taps * inputs, all outputs) and bias of convolutions of the same frames."""
    weights = [conv.weight.detach().permute(2, 1, 0).flatten(0, 1) for conv in convs]  # type: ignore[operator]
    return torch.cat(weights, -1).contiguous(), torch.cat([conv.bias.detach() for conv in convs])  # type: ignore[operator]


def _grow_matrix(conv: nn.Module) -> tuple[Tensor, Tensor]:
    """Matrix (3 * inputs, 2 * outputs) of a transposed convolution (4 taps, stride 2, padding 1): 2 frames of 3.

    Frame 2i is of inputs i - 1 (tap 3) and i (tap 1), frame 2i + 1 of i (tap 2) and i + 1 (tap 0).
    """
    taps = conv.weight.detach().permute(2, 0, 1)  # type: ignore[operator]
    none = torch.zeros_like(taps[0])
    even, odd = torch.cat([taps[3], taps[1], none]), torch.cat([none, taps[2], taps[0]])
    return torch.cat([even, odd], 1).contiguous(), conv.bias.detach().repeat(2)  # type: ignore[operator]


def _windows(x: Tensor, taps: int, stride: int) -> Tensor:
    """(B * frames, taps * C): each frame's neighbours side by side, zero beyond the ends; every `stride`-th frame."""
    batch, frames, channels = x.shape
    ends = x.new_zeros(batch, taps // 2, channels)
    padded = torch.cat([ends, x, ends], 1)
    count = (frames - 1) // stride + 1
    strides = (padded.stride(0), stride * channels, 1)
    return padded.as_strided((batch, count, taps * channels), strides).reshape(batch * count, -1)


def _convolved(x: Tensor, conv: tuple[Tensor, Tensor], *, stride: int = 1) -> Tensor:
    """Three taps, padding 1: (B, T, C) to (B, T / stride, outputs)."""
    return torch.addmm(conv[1], _windows(x, 3, stride), conv[0]).view(len(x), -1, conv[0].shape[1])


def _merged(heads: Tensor, batch: int) -> Tensor:
    """(B * heads, T, D) to (B, T, heads * D)."""
    count, frames, size = heads.shape
    return heads.view(batch, count // batch, frames, size).transpose(1, 2).reshape(batch, frames, -1)


def _heard(keys_values: Tensor, num_heads: int, bias: Tensor) -> Heard:
    batch, tokens, _ = keys_values.shape
    parts = keys_values.view(batch, tokens, 2, num_heads, -1).permute(2, 0, 3, 1, 4)
    key, value = parts.reshape(2, batch * num_heads, tokens, -1).unbind(0)
    return Heard(key, value, bias)
