"""Documents that filters let through, kept in memory for the next search."""

from __future__ import annotations

from splade_os.engines.sqlite.postings import Documents

_MOST_BYTES = 32 << 20

Key = tuple[str, ...]


class FilterCache:
    """By state of an index and filter; what was not used for longest goes first.

    Its single operations on a dict need no lock, which a fork would inherit.
    """

    def __init__(self) -> None:
        self._kept: dict[Key, Documents] = {}

    def get(self, key: Key) -> Documents | None:
        found = self._kept.pop(key, None)
        if found is not None:
            self._kept[key] = found  # as the last
        return found

    def put(self, key: Key, documents: Documents) -> None:
        self._kept[key] = documents
        while sum(each.nbytes for each in list(self._kept.values())) > _MOST_BYTES:
            self._kept.pop(next(iter(list(self._kept))), None)
