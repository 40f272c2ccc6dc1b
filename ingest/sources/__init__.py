"""Sources: what `splade-os ingest SOURCE` can read.

| source | what |
|---|---|
| ``docs.jsonl`` (``.ndjson``) | JSON objects, one a line |
| ``docs.json`` | JSON objects of any layout, also in arrays |
| ``docs.csv``, ``docs.tsv`` | a table with a header; ``.tsv`` of id and text without one |
| ``docs.parquet``, ``docs.trec`` | Parquet; TREC's ``<DOC>`` |
| any of them ``.gz``, ``.zst``, ``.bz2``, ``.xz`` | compressed (also known by the first bytes) |
| a folder, ``'part-*.jsonl'``, ``s3://bucket/docs.jsonl`` | a BEIR collection or all its files; \
a glob; whatever fsspec opens |
| ``-``, a pipe | read once; JSON, TREC and Parquet by their content, else ``--format`` |
| ``hf:org/name[:config]/split`` | a dataset of the Hugging Face hub, streamed |
| ``irds:msmarco-passage`` | a collection of ir_datasets |
| ``index:products`` | the documents of another index of the same cluster |
| ``dead:dead.jsonl`` | dead letters, as `splade-os retry` replays them |
| ``python:stdlib`` | the docstrings of this Python's standard library |

A package adds its own with an entry point of the group ``splade_os.sources``: its name is the
prefix (``name:rest``), its object a function ``(rest, SourceOptions) -> Source``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from itertools import islice

from splade_os.errors import InputError, SpladeError
from splade_os.ingest.documents.encoded_rows import EncodingRecord
from splade_os.ingest.documents.records import Item, Record, RecordReader, Rejected
from splade_os.ingest.sources.base import Skipped, Source, SourceOptions

__all__ = [
    "RecordReader",
    "Selection",
    "Skipped",
    "Source",
    "SourceOptions",
    "encoding_of_source",
    "find_source",
    "read_source",
    "require_whole",
    "skipped_of",
]

_GROUP = "splade_os.sources"
_OWN = {
    "dead": ("splade_os.ingest.sources.dead_letters", "open_dead_letters"),
    "hf": ("splade_os.ingest.sources.hub", "open_dataset"),
    "index": ("splade_os.ingest.sources.other_index", "open_index"),
    "irds": ("splade_os.ingest.sources.irds", "open_collection"),
    "python": ("splade_os.ingest.sources.stdlib_docs", "open_stdlib"),
}


def find_source(spec: str, options: SourceOptions | None = None) -> Source:
    """Check that a source is there and can be read.

    Raises:
        InputError: saying what is missing.
        MissingExtraError: what reads it is not installed.
    """
    options = options or SourceOptions()
    prefix, colon, rest = spec.partition(":")
    if colon and not rest.startswith("//"):
        opener = _opener(prefix)
        if opener is not None:
            return opener(rest, options)
    from splade_os.ingest.sources.files import open_files

    return open_files(spec, options)


def _opener(prefix: str) -> Callable[[str, SourceOptions], Source] | None:
    if prefix in _OWN:
        module, name = _OWN[prefix]
        own: Callable[[str, SourceOptions], Source] = getattr(import_module(module), name)
        return own
    for point in entry_points(group=_GROUP, name=prefix):
        try:
            plugin: Callable[[str, SourceOptions], Source] = point.load()
        except SpladeError:
            raise
        except Exception as error:  # whatever the import of somebody else's code raises
            raise InputError(
                f"The source plugin {point.value} cannot be loaded: {error}"
            ) from error
        return plugin
    return None


def skipped_of(source: Source) -> tuple[Skipped, ...]:
    """What stands in a source and is not read: files of unknown format, links to folders, folders
    without permission."""
    return tuple(getattr(source, "skipped", ()))


def encoding_of_source(source: Source) -> EncodingRecord | None:
    """What encoded the rows of a source that `splade-os encode` wrote as Parquet; ``None`` of any
    other source.

    Raises:
        InputError: it says that it is such a one, and is damaged.
    """
    asked = getattr(source, "encoding", None)
    found: EncodingRecord | None = None if asked is None else asked()
    return found


def require_whole(source: Source, purpose: str) -> None:
    """Refuse what needs all documents of a source where some may not have been read.

    Raises:
        InputError: naming them.
    """
    missed = [skipped for skipped in skipped_of(source) if not skipped.harmless]
    if missed:
        shown = "".join(f"\n  {skipped}" for skipped in missed[:10])
        raise InputError(
            f"{purpose} needs the whole source, but of {source.name} {len(missed):,} are not "
            f"read:{shown}",
            hint="Move them away, name the files with a glob, or say their --format.",
        )


@dataclass(frozen=True)
class Selection:
    """Which items of a source are read.

    Attributes:
        offset: items to leave out at the beginning.
        limit: items to read after that, at most, by all shards together.
        shard, of: every ``of``-th item, beginning with the ``shard``-th (from 1), so that
            several processes can share the work.
    """

    offset: int = 0
    limit: int | None = None
    shard: int = 1
    of: int = 1

    @property
    def everything(self) -> bool:
        return self == Selection()

    def of_items(self, source: Source, done: int) -> Iterator[Item]:
        """The selected items but the first ``done`` of them."""
        before = self.shard - 1 + done * self.of
        stop = None if self.limit is None else max(0, self.limit - before)
        return islice(source.items(self.offset + before), 0, stop, self.of)


def read_source(
    source: Source,
    reader: RecordReader,
    selection: Selection | None = None,
    *,
    done: int = 0,
    check: Callable[[Iterator[Item]], None] | None = None,
) -> Iterator[Record | Rejected]:
    """The records of a source; position = number among those selected, from 1.

    Args:
        done: selected items that need not be read again.
        check: is given them, instead of their being left out.

    Raises:
        InputError: the source breaks off.
    """
    expect = getattr(source, "expect", None)
    if expect is not None:
        ids = (reader.id_field,) if reader.id_field is not None else ("_id", "id")
        expect(() if reader.vectors else tuple(reader.text_fields), ids)
    items = (selection or Selection()).of_items(source, done if check is None else 0)
    if check is not None:
        check(islice(items, done))
    for position, item in enumerate(items, done + 1):
        yield reader.read(item, position)
