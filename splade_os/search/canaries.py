"""Queries of which a user knows what they must find."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from splade_os.errors import InputError
from splade_os.search.client import SearchClient
from splade_os.search.options import DEFAULT_MODE, Mode


@dataclass(frozen=True)
class Canary:
    """A query, and the id of a document that must be among its first hits."""

    text: str
    id: str


def read_canaries(given: Iterable[str]) -> list[Canary]:
    """``TEXT=ID``, or ``@FILE`` with one such a line; the last ``=`` counts.

    Raises:
        InputError: a file cannot be read, or a line is no canary; says where.
    """
    found = []
    for value in given:
        if not value.startswith("@"):
            found.append(_canary(value, value))
            continue
        file = Path(value[1:])
        try:
            lines = file.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"The canaries in {file} cannot be read: {error}") from None
        found += [_canary(line, f"{file}:{n}") for n, line in enumerate(lines, 1) if line.strip()]
    return found


def _canary(value: str, where: str) -> Canary:
    text, _, identifier = value.rpartition("=")
    if not text.strip() or not identifier.strip():
        raise InputError(f"{where} is no canary.", hint="Write TEXT=ID.")
    return Canary(text.strip(), identifier.strip())


def lost_canaries(
    client: SearchClient, canaries: Sequence[Canary], k: int = 10, mode: Mode = DEFAULT_MODE
) -> list[str]:
    """What is wrong with those that do not find their document within the first ``k`` hits."""
    faults = []
    for canary in canaries:
        hits = [hit.id for hit in client.search(canary.text, k, mode, source=())]
        if canary.id in hits:
            continue
        there = client.engine.documents(client.index, [canary.id], ["_id"])
        why = "" if canary.id in there else ", which is not in the index"
        first = f"the first are {', '.join(hits[:3])}" if hits else "nothing is"
        faults.append(f"{canary.text!r} does not find {canary.id}{why}; {first}")
    return faults
