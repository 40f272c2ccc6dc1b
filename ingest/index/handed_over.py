"""What a new generation of an alias takes over from the index that it replaces."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from splade_os.engines import Engine, IndexLayout
from splade_os.errors import IndexFormatError, SpladeWarning
from splade_os.ingest.log import log
from splade_os.urls import is_cluster

_PIPELINE = "search.default_pipeline"
_NOT = (_PIPELINE, "sort.")
"""Settings that are not taken over at once: the first when the model is known to be the same
(`hand_over`), the other needs fields that the mapping may not have."""
_SHOWN = 8


def with_settings_of_old(
    engine: Engine, alias: str, layout: IndexLayout | None
) -> IndexLayout | None:
    """The layout of an index that is built for an alias: the settings that operators have put on
    the index behind it, under those that ``layout`` says."""
    old = _only_target(engine, alias)
    if old is None:
        return layout
    layout = layout or IndexLayout()
    found = {n: v for n, v in engine.layout(old).settings.items() if not n.startswith(_NOT)}
    taken = {name: value for name, value in found.items() if name not in layout.settings}
    if taken:
        shown = ", ".join(f"{name}={value}" for name, value in sorted(taken.items()))
        log(logging.INFO, "settings", f"Settings taken over from {old}: {shown}", index=alias)
    return IndexLayout({**taken, **layout.settings}, layout.mapping)


def tell_differences(engine: Engine, alias: str, index: str) -> None:
    """Warn of fields that an index maps otherwise than the one that it replaces."""
    old = _only_target(engine, alias)
    if old is None or old == index:
        return
    before, now = (dict(_fields(engine.layout(name).mapping or {})) for name in (old, index))
    other = [
        f"{name} ({kind}, now {now[name]})"
        for name, kind in before.items()
        if now.get(name, kind) != kind
    ]
    gone = [f"{name} ({kind})" for name, kind in before.items() if name not in now]
    told = [
        f"{what} {', '.join(names[:_SHOWN])}" + (", ..." if len(names) > _SHOWN else "")
        for what, names in (("mapped otherwise:", other), ("not there:", gone))
        if names
    ]
    if told:
        warnings.warn(
            f"{index} has other fields than {old}, which it replaces: {'; '.join(told)}. A new "
            f"index takes the mapping of the old one with --like {alias}.",
            SpladeWarning,
            stacklevel=3,
        )


def hand_over(engine: Engine, old: str, index: str) -> None:
    """A default search pipeline, which encodes queries, goes on to an index of the same model.
    (Without one, OpenSearch 3 would encode them by another model.)"""
    pipeline = engine.settings(old).get(_PIPELINE)
    if pipeline is None or _PIPELINE in engine.settings(index):
        return
    try:
        same = (
            engine.index_meta(old).model.content_hash == engine.index_meta(index).model.content_hash
        )
    except IndexFormatError:  # the first load of an alias: what it replaces is none of ours
        same = False
    if same:
        engine.update_settings(index, {_PIPELINE: pipeline})
        return
    warnings.warn(
        f"Searches of {old} go through the search pipeline {pipeline}. It is for another model "
        f"than that of {index}, which has none now: splade-os deploy PACKAGE --index {index}",
        SpladeWarning,
        stacklevel=3,
    )


def _only_target(engine: Engine, alias: str) -> str | None:
    """The index of a cluster that an alias stands for; ``None`` for none and for several."""
    targets = engine.alias_targets(alias) if is_cluster(engine.url) else []
    return targets[0] if len(targets) == 1 else None


def _fields(mapping: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Path and definition of every field, those within objects and the ``fields`` of others
    too."""
    for group in ("properties", "fields"):
        for name, definition in mapping.get(group, {}).items():
            path = f"{before}{name}"
            plain = {n: v for n, v in definition.items() if n not in ("properties", "fields")}
            kind = str(plain.pop("type", "object"))
            rest = ", ".join(f"{n} {v}" for n, v in sorted(plain.items()))
            yield path, f"{kind}, {rest}" if rest else kind
            yield from _fields(definition, f"{path}.")
