"""Whisper's audio encoder on short windows: the package's own architecture, with the positional table cut to size.

Padding a window to Whisper's 30 s costs 18 to 47 times more; cutting the sinusoidal table to the window's tokens is
equal to the last bit at full length. All layers are returned: middle layers carry more articulation than the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from whisper.model import AudioEncoder, ResidualAttentionBlock

Precision = Literal["fp32", "bf16"]
_DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """Size of the encoder and of its window (tokens are 20 ms, two mel columns)."""

    num_mels: int = 80
    window_columns: int = 96
    width: int = 256
    num_heads: int = 4
    num_layers: int = 4

    @property
    def window_tokens(self) -> int:
        """Tokens in a window."""
        return self.window_columns // 2


def best_precision(device: torch.device) -> Precision:
    """bf16 where the device multiplies it in hardware, else fp32 (emulated bf16 is slower than fp32)."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    able = torch.cpu.get_capabilities()
    return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "fp32"


class WindowedEncoder(nn.Module):
    """An `openai-whisper` AudioEncoder whose layers are all read.

    It starts in fp32. `set_precision` casts the weights once: under autocast they would be cast anew in every call,
    to the same bits (up to a fifth of the time).
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = AudioEncoder(
            config.num_mels, config.window_tokens, config.width, config.num_heads, config.num_layers
        )

    @property
    def precision(self) -> Precision:
        """Of the weights, and so of the matrix products outside autocast."""
        return "bf16" if self.encoder.conv1.weight.dtype == torch.bfloat16 else "fp32"

    def set_precision(self, precision: Precision) -> None:
        """Cast weights of any type in place; normalisation and the positional table stay in fp32, as in Whisper."""
        for module in self.encoder.modules():
            if isinstance(module, nn.Linear | nn.Conv1d):
                module.to(_DTYPES[precision])
            elif isinstance(module, nn.LayerNorm):
                module.float()
        self.encoder.positional_embedding = self.encoder.positional_embedding.float()

    def forward(self, mel: Tensor, last_tokens: int | None = None) -> Tensor:
        """Layer outputs (B, layers + 1, tokens, width), fp32, of windows (B, mels, columns); the last is normalised.

        `last_tokens` asks for those tokens of each layer only, and saves the last layer the work of all others.
        """
        encoder = self.encoder
        x = functional.gelu(encoder.conv1(mel.to(encoder.conv1.weight.dtype)))
        x = functional.gelu(encoder.conv2(x)).permute(0, 2, 1)
        x = (x + encoder.positional_embedding[: x.shape[1]]).to(x.dtype)
        kept = x.shape[1] if last_tokens is None else last_tokens
        states = [x[:, -kept:]]
        for block in encoder.blocks[:-1]:
            x = block(x)
            states.append(x[:, -kept:])
        states.append(encoder.ln_post(_last_block(encoder.blocks[-1], x, kept)))
        return torch.stack(states, 1).float()


def _last_block(block: ResidualAttentionBlock, x: Tensor, kept: int) -> Tensor:
    """A block of Whisper for the last `kept` tokens, which look at all: `block(x)[:, -kept:]`."""
    if kept == x.shape[1]:
        whole: Tensor = block(x)
        return whole
    attention, normed = block.attn, block.attn_ln(x)
    query = attention.query(normed[:, -kept:])
    attended, _ = attention.qkv_attention(query, attention.key(normed), attention.value(normed))
    x = x[:, -kept:] + attention.out(attended)
    out: Tensor = x + block.mlp(block.mlp_ln(x))
    return out
