"""A step that takes a while never looks like one that hangs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from splade_os.cli.terminal import echo

_EVERY = 2.0  # seconds


@contextmanager
def busy(text: str) -> Iterator[None]:
    """Say on stderr what is being done: a spinner on a terminal, elsewhere a line at once and
    another every two seconds."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        with console.status(text):
            yield
        return
    echo(f"{text} ...", err=True)
    done = threading.Event()

    def remind() -> None:
        seconds = 0.0
        while not done.wait(_EVERY):
            seconds += _EVERY
            echo(f"{text} ... {seconds:.0f} s", err=True)

    thread = threading.Thread(target=remind, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
