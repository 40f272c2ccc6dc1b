"""What a name stands for, as ``GET /NAME`` tells it: can an ingest write there?"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from splade_os.engines.base import IndexMeta
from splade_os.errors import IndexFormatError, SpladeWarning

_BLOCKS = ("read_only", "write", "read_only_allow_delete")


def check_target(index: str, meta: IndexMeta, answer: Mapping[str, Any]) -> None:
    """Whether a name takes documents, and gives them back as they were written.

    Args:
        index: the name.
        meta: the record of the index.
        answer: of ``GET /NAME``: aliases, mappings and settings of each index behind it.

    Raises:
        IndexFormatError: it does not.
    """
    if len(answer) != 1:
        raise IndexFormatError(
            f"{index} stands for {len(answer)} indices: {', '.join(sorted(answer))}.",
            hint=f"Name one of them: --index {max(answer, default='NAME')}.",
        )
    ((name, body),) = answer.items()
    aliases, settings = body.get("aliases", {}), body.get("settings", {}).get("index", {})
    if name != index and index not in aliases:
        raise IndexFormatError(
            f"{index} is a data stream: it takes new documents alone, and a load has to be able to "
            "write one again.",
            hint="Ingest into an index, with a name that no template makes a data stream of.",
        )
    alias = aliases.get(index, {})
    if str(alias.get("is_write_index", True)).lower() == "false":
        raise IndexFormatError(
            f"The alias {index} takes no documents: its index {name} is not its write index.",
            hint=f"Name the index: --index {name}. Or set is_write_index.",
        )
    if "filter" in alias:
        warnings.warn(
            f"The alias {index} has a filter: documents of this ingest that it leaves out are "
            f"written and counted, and no search of {index} finds them.",
            SpladeWarning,
            stacklevel=4,
        )
    for block in _BLOCKS:
        if str(settings.get("blocks", {}).get(block)).lower() == "true":
            raise IndexFormatError(
                f"{index} takes no documents: index.blocks.{block} is set.",
                hint=f"Often the disk is full. Take the block away: PUT {name}/_settings "
                f'{{"index.blocks.{block}": null}}',
            )
    mapping = body.get("mappings", {})
    if mapping.get("_routing", {}).get("required"):
        raise IndexFormatError(
            f"{index} requires a routing value with every document, which an ingest does not give.",
            hint="Ingest into an index without _routing.required (it may come of a template).",
        )
    _check_source(index, meta, mapping.get("_source", {}))


def _check_source(index: str, meta: IndexMeta, source: Mapping[str, Any]) -> None:
    """Whether what is stored can be read back: by the fields an ingest verifies, knows unchanged
    documents and counts terms."""
    hint = "Ingest into an index whose _source is whole (it may come of a template)."
    if str(source.get("enabled", True)).lower() == "false":
        raise IndexFormatError(
            f"{index} does not store documents (_source is disabled): nothing could be read back.",
            hint=hint,
        )
    own = (meta.field, meta.hash_field, *meta.text_fields)
    lacking = [name for name in own if not _kept(name, source)]
    if lacking:
        raise IndexFormatError(
            f"{index} does not store the fields {', '.join(lacking)} (_source leaves them out): "
            "they could not be read back.",
            hint=hint,
        )


def _kept(name: str, source: Mapping[str, Any]) -> bool:
    includes, excludes = source.get("includes"), source.get("excludes", ())
    return (not includes or _any(name, includes)) and not _any(name, excludes)


def _any(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
