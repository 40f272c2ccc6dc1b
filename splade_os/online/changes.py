"""Changes of single documents: what is asked for, before anything is known of the index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from splade_os.ingest.documents.records import Record


@dataclass(frozen=True, slots=True)
class Upsert:
    """Write a whole document, whether there is one of its id or not."""

    record: Record

    @property
    def id(self) -> str:
        return self.record.id


@dataclass(frozen=True, slots=True)
class Update:
    """Change some fields of a document that exists; objects are merged field by field."""

    id: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Enrich:
    """Give a document that exists the vector of its text, where it has none or a stale one."""

    id: str


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a document."""

    id: str


Change = Upsert | Update | Enrich | Delete
