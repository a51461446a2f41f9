"""The speech encoder as it serves on CPUs that do not multiply bfloat16: from the same weights, by `kernels.dense`.

A norm, an activation, a convolution and a residual are one call; query, key and value are one product; weights are in
half precision where that is exact (as it is for shipped ones). Results differ from `WindowedEncoder`'s in fp32 by
rounding only.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from whisper.model import ResidualAttentionBlock

from kernels.backend import Backend
from kernels.dense import Dense, Norm, attend
from model.speech.whisper_encoder import WindowedEncoder


class FoldedEncoder:
    """Holds packed copies of the encoder's weights, taken when it is made; `kernels.dense` explains the arguments."""

    def __init__(self, encoder: WindowedEncoder, *, instruction_set: str = "auto", backend: Backend = "auto") -> None:
        own = encoder.encoder
        pack = partial(Dense, instruction_set=instruction_set, backend=backend)
        self._convs = [_packed_conv(conv, pack) for conv in (own.conv1, own.conv2)]
        self._position = own.positional_embedding.float()
        attention = partial(attend, instruction_set=instruction_set, backend=backend)
        self._blocks = [_Block(block, pack, attention) for block in own.blocks]
        self._norm = own.ln_post

    def __call__(self, mel: Tensor, last_tokens: int | None = None) -> Tensor:
        """As `WindowedEncoder.forward`."""
        hidden = self._convs[0](mel.transpose(1, 2).contiguous(), after="gelu")
        tokens = (hidden.shape[1] - 1) // 2 + 1
        position = self._position[:tokens].expand(len(mel), -1, -1).contiguous()
        x = self._convs[1](hidden, after="gelu", add=position)
        kept = tokens if last_tokens is None else last_tokens
        states = [x[:, -kept:]]
        for block in self._blocks[:-1]:
            x = block(x, tokens)
            states.append(x[:, -kept:])
        last = self._blocks[-1](x, kept)
        states.append(functional.layer_norm(last, last.shape[-1:], self._norm.weight, self._norm.bias, self._norm.eps))
        return torch.stack(states, 1)


class _Block:
    """One of Whisper's residual attention blocks."""

    def __init__(self, block: ResidualAttentionBlock, pack: partial[Dense], attention: partial[Tensor]) -> None:
        attn, (first, _, last) = block.attn, block.mlp
        self._hidden, self._narrow = _packed(first, pack), _packed(last, pack)
        self._attend = partial(attention, num_heads=attn.n_head)
        weights = [attn.query.weight, attn.key.weight, attn.value.weight]
        bias = torch.cat([attn.query.bias, torch.zeros_like(attn.query.bias), attn.value.bias])
        self._parts = pack(torch.cat(weights).float(), bias.float())
        self._out = _packed(attn.out, pack)
        self._norm, self._mlp_norm = (
            Norm(norm.weight.detach(), norm.bias.detach(), norm.eps) for norm in (block.attn_ln, block.mlp_ln)
        )

    def __call__(self, x: Tensor, kept: int) -> Tensor:
        """The last `kept` tokens of (B, T, width), which look at all."""
        query, key, value = self._parts(x, norm=self._norm).chunk(3, -1)
        x = self._out(self._attend(query[:, -kept:], key, value), add=x[:, -kept:].contiguous())
        return self._narrow(self._hidden(x, norm=self._mlp_norm, after="gelu"), add=x)


def _packed(layer: nn.Linear, pack: partial[Dense]) -> Dense:
    return pack(layer.weight.detach().float(), layer.bias.detach().float())


def _packed_conv(conv: nn.Conv1d, pack: partial[Dense]) -> Dense:
    assert conv.bias is not None
    weight = conv.weight.detach().float().permute(0, 2, 1).flatten(1).contiguous()
    return pack(weight, conv.bias.detach().float(), taps=conv.kernel_size[0], stride=conv.stride[0])
