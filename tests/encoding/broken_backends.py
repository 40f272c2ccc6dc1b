"""Backends that fail in their process in the ways that real ones do. Imports little, so that a
process starts at once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from typing import Any

from splade_os.vectors import Ids, SparseBatch


class _TwoArgumentsError(Exception):
    """Is pickled, and cannot be unpickled: as some errors of torch and CUDA libraries."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)


class _Unreadable:
    def __reduce__(self) -> Any:
        return int, ("no number",)


class Broken:
    """Fails where ``how`` says."""

    device, precision, vocabulary_size, batch_tokens, ahead = "cpu", "float32", 5, 64, 1
    max_length: int | None = None
    batch_bytes: int | None = None
    buckets: tuple[int, ...] = ()

    def __init__(self, how: str) -> None:
        self.how = how

    def launch(
        self, tokens: Sequence[Ids], max_active_dims: int | None
    ) -> Callable[[], SparseBatch]:
        if self.how == "launch":
            raise _TwoArgumentsError(2, "out of memory on the device")
        return lambda: self.encode(tokens, max_active_dims)

    def encode(self, tokens: Sequence[Ids], max_active_dims: int | None) -> Any:
        if self.how == "encode":
            raise _TwoArgumentsError(2, "out of memory on the device")
        if self.how == "answer":
            return _Unreadable()
        return SparseBatch.empty(len(tokens), 5)


def start(how: str, device: str) -> Broken:
    if how == "start":
        raise ImportError("libcudart.so.12: cannot open shared object file")
    if how == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return Broken(how)


class UnreadableStart:
    """A function that the other side cannot unpickle."""

    def __call__(self, device: str) -> Broken:
        raise AssertionError

    def __reduce__(self) -> Any:
        return int, ("no number",)
