"""What a model sees of a long text: its beginning (or end), or overlapping windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from splade_os.errors import SettingsError
from splade_os.vectors import Ids


def cut(ids: Ids, max_length: int, affixes: tuple[int, int], side: Literal["left", "right"]) -> Ids:
    """The text as a tokenizer cuts it.

    Args:
        ids: a text with its special tokens.
        max_length: tokens that are left, special ones included.
        affixes: how many special tokens stand before and after a text.
        side: at which end it is cut.
    """
    if len(ids) <= max_length:
        return ids
    before, after = affixes
    head, body, tail = np.split(ids, [before, len(ids) - after])
    room = max(0, max_length - before - after)
    kept = body[:room] if side == "right" else body[len(body) - room :]
    return np.concatenate([head, kept, tail])


def split(
    tokens: Sequence[Ids], max_length: int, stride: int, affixes: tuple[int, int]
) -> tuple[list[Ids], list[int]]:
    """Windows of at most ``max_length`` tokens, each with the special tokens of the text.

    Args:
        tokens: texts with their special tokens, of any length.
        max_length: tokens of a window, special ones included.
        stride: tokens that neighbouring windows share.
        affixes: how many special tokens stand before and after a text.

    Returns:
        The windows, and for each the position of its text.

    Raises:
        SettingsError: the stride leaves no room to go on.
    """
    before, after = affixes
    room = max_length - before - after
    if not 0 <= stride < room:
        raise SettingsError(
            f"A stride of {stride} tokens does not fit windows of {max_length}.",
            hint=f"Choose 0 to {room - 1}.",
        )
    windows, owners = [], []
    for i, ids in enumerate(tokens):
        if len(ids) <= max_length:
            windows.append(ids)
            owners.append(i)
            continue
        head, body, tail = np.split(ids, [before, len(ids) - after])
        for start in range(0, max(1, len(body) - stride), room - stride):
            windows.append(np.concatenate([head, body[start : start + room], tail]))
            owners.append(i)
    return windows, owners
