"""The pooling head as one Triton kernel: product, bias, ReLU and maximum per text.

Logits never reach memory: each program multiplies a block of tokens by a block of the
vocabulary and keeps the maximum per text. Tokens are packed: texts of any length follow one
another and may begin anywhere in a block. After ReLU no value is negative, and such floats are
ordered as their bits are, so that an integer ``atomic_max`` merges the blocks of one text, in any
order and always to the same result.

Idea: Sparton (arXiv 2603.25011), which pads; the reference is `pooling.pool`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_GROUP = 8  # blocks of tokens that share a block of the vocabulary while it is in the cache


def max_logits(
    hidden: Tensor, texts: Tensor, count: int, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """``relu(max over a text's tokens of h · E_j + b_j)``.

    Args:
        hidden: states of all tokens ``(T, H)``, contiguous, H a multiple of 16.
        texts: text of each token, int32 ``(T,)``, ascending.
        count: number of texts ``B``.
        weight: decoder ``(V, H)`` of the same dtype, contiguous; bias: ``(V,)`` or ``None``.

    Returns:
        float32 ``(B, V)``, >= 0.
    """
    tokens, width = hidden.shape
    size = weight.shape[0]
    out = torch.zeros(count, size, dtype=torch.float32, device=hidden.device)
    wide = hidden.dtype == torch.float32
    rows, columns = (64, 64) if wide else (128, 128)
    grid = (triton.cdiv(tokens, rows) * triton.cdiv(size, columns),)
    _kernel[grid](
        hidden.contiguous(),
        weight.contiguous(),
        weight if bias is None else bias,
        texts,
        out.view(torch.int32),
        tokens,
        size,
        width,
        bias is not None,
        rows,
        columns,
        32 if wide else 64,
        _GROUP,
        num_warps=4 if wide else 8,
        num_stages=3,
    )
    # a maximum on a GPU passes over NaN; one spoilt weight is enough for the text to be refused
    finite = torch.isfinite(hidden).all(1).float()  # (T,)
    whole = torch.ones(count, device=hidden.device)
    whole.scatter_reduce_(0, texts.long(), finite, "amin")
    out[:, 0].masked_fill_(whole == 0, float("nan"))
    return out


@triton.jit  # type: ignore[untyped-decorator]
def _kernel(  # type: ignore[no-untyped-def]
    hidden_ptr,
    weight_ptr,
    bias_ptr,
    texts_ptr,
    out_ptr,
    tokens,
    size,
    width: tl.constexpr,
    has_bias: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
    step: tl.constexpr,
    group: tl.constexpr,
):
    program = tl.program_id(0)
    row_blocks, column_blocks = tl.cdiv(tokens, rows), tl.cdiv(size, columns)
    in_group = group * column_blocks
    first_block = (program // in_group) * group
    height = tl.minimum(row_blocks - first_block, group)
    row_block = first_block + (program % in_group) % height
    column_block = (program % in_group) // height

    row = row_block * rows + tl.arange(0, rows)
    column = column_block * columns + tl.arange(0, columns)
    inner = tl.arange(0, step)
    # token numbers times width may pass 2^31
    hidden_row = hidden_ptr + row[:, None].to(tl.int64) * width
    weight_row = weight_ptr + column[None, :].to(tl.int64) * width
    logits = tl.zeros((rows, columns), tl.float32)
    for start in range(0, width, step):
        at = start + inner
        left = tl.load(
            hidden_row + at[None, :],
            mask=(row[:, None] < tokens) & (at[None, :] < width),
            other=0.0,
        )
        right = tl.load(
            weight_row + at[:, None],
            mask=(column[None, :] < size) & (at[:, None] < width),
            other=0.0,
        )
        logits = tl.dot(left, right, logits, input_precision="ieee")
    if has_bias:
        shift = tl.load(bias_ptr + column, mask=column < size, other=0.0)
        logits += shift.to(tl.float32)[None, :]
    logits = tl.maximum(logits, 0.0)

    text = tl.load(texts_ptr + row, mask=row < tokens, other=-1)
    first = tl.load(texts_ptr + row_block * rows)
    last = tl.load(texts_ptr + tl.minimum(row_block * rows + rows, tokens) - 1)
    for one in range(first, last + 1):
        peak = tl.max(tl.where(text[:, None] == one, logits, 0.0), axis=0)
        tl.atomic_max(
            out_ptr + one * size.to(tl.int64) + column,
            peak.to(tl.int32, bitcast=True),
            mask=column < size,
        )
