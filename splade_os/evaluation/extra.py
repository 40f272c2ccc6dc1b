"""Evaluation needs packages that the rest of splade-os does not."""

from __future__ import annotations

from importlib.util import find_spec

from splade_os.errors import MissingExtraError

_PACKAGES = ("ir_measures", "jinja2", "matplotlib", "scipy")


def require_extra() -> None:
    """Say at once what is missing, not after an hour of encoding.

    Raises:
        MissingExtraError: the extra ``eval`` is not installed.
    """
    if any(find_spec(name) is None for name in _PACKAGES):
        raise MissingExtraError("Evaluation", "eval")
