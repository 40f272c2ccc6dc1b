"""``splade-os index``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from splade_os.cli.encoding import encoding_options, split_options
from splade_os.cli.help_groups import Group
from splade_os.cli.ingest_options import field_name_options
from splade_os.cli.options import (
    connection_options,
    field_type_option,
    index_option,
    json_option,
    need_index,
    open_engine,
    print_json,
    settings_of,
)
from splade_os.cli.steps import busy
from splade_os.cli.terminal import clean, confirm, echo

if TYPE_CHECKING:
    from splade_os.identity import ModelIdentity


@click.group(cls=Group)
def index() -> None:
    """Create, adopt, list, show and delete indices; undo loads and swaps."""


@index.command()
@connection_options
@index_option
@click.option("--model", help="Folder, hub name or 'starter'.  [default: starter]")
@click.option("--text", default="title,text", show_default=True, help="Fields to encode.")
@field_type_option
@field_name_options
@encoding_options
def create(
    text: str,
    field_type: str | None,
    vector_field: str | None,
    content_field: str | None,
    **flags: Any,
) -> None:
    """Create an empty index for a model."""
    from splade_os.encoding import DocumentEncoder
    from splade_os.ingest.index.target import new_meta
    from splade_os.settings import DEFAULT_MODEL

    running, options, flags = split_options(flags)
    settings = settings_of(**flags)
    name = need_index(settings)
    model = settings.model or DEFAULT_MODEL
    encoder = DocumentEncoder.load(model, **running, **options.model_dump())
    engine = open_engine(settings)
    meta = new_meta(
        engine, encoder.unmeasured, text.split(","), field_type, vector_field, content_field
    )
    engine.create_index(name, meta)
    echo(f"Created {name} for the model {encoder.identity.name}.", err=True)


@index.command()
@connection_options
@index_option
@click.option("--model", help="Folder, hub name or 'starter'.  [default: starter]")
@click.option("--text", required=True, help="Fields to encode: title,description.")
@click.option(
    "--bm25",
    help="Fields that BM25 searches, with their weights: title^3,description.  [default: --text]",
)
@field_type_option
@click.option("--vector-field", help="Name of the field of the vectors.")
@encoding_options
def adopt(
    text: str,
    bm25: str | None,
    field_type: str | None,
    vector_field: str | None,
    **flags: Any,
) -> None:
    """Let an index that you have take vectors, in place.

    Its mapping gets a field for the vectors, one for the mark of what was encoded, and a record of
    the model. Documents, other fields, analysers and shards stay as they are. Then splade-os enrich
    encodes what is there.
    """
    from splade_os.encoding import DocumentEncoder
    from splade_os.ingest.index.adopt import adopt_index
    from splade_os.settings import DEFAULT_MODEL

    running, options, flags = split_options(flags)
    settings = settings_of(**flags)
    name = need_index(settings)
    model = settings.model or DEFAULT_MODEL
    engine = open_engine(settings)
    engine.properties(name)  # a wrong name is told before a model is loaded
    encoder = DocumentEncoder.load(model, **running, **options.model_dump())
    meta = adopt_index(
        engine,
        name,
        encoder.identity,
        text.split(","),
        bm25=bm25.split(",") if bm25 else (),
        field_type=field_type,
        vector_field=vector_field,
    )
    echo(
        f"{name} takes vectors of {meta.model.name} in its field {meta.field}, of the text in "
        f"{', '.join(meta.text_fields)}. Now encode what is there: splade-os enrich --index {name}",
        err=True,
    )


@index.command("list")
@connection_options
@json_option
def list_(as_json: bool, **flags: Any) -> None:
    """List the indices that can be searched here: made or adopted by splade-os."""
    from splade_os.statistics import age_of

    engine = open_engine(settings_of(**flags))
    rows: list[dict[str, Any]] = [
        {
            "index": each.name,
            "documents": engine.count(each.name),
            "model": each.meta.model.name if each.meta else None,
            "field_type": each.meta.field_type if each.meta else None,
            "aliases": list(each.aliases),
            "statistics_age": age_of(engine.counts(each.name)),
        }
        for each in engine.overview()
    ]
    if as_json:
        print_json({"url": engine.url, "indices": rows})
        return
    if not rows:
        echo(f"There are no indices of splade-os at {engine.url} yet.", err=True)
        return
    heads = ("index", "documents", "model", "field type", "aliases", "statistics")
    table = [
        (
            row["index"],
            f"{row['documents']:,}",
            row["model"] or "(damaged record)",
            row["field_type"] or "-",
            ",".join(row["aliases"]) or "-",
            _age(row["statistics_age"]),
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(heads, *table, strict=True)]
    for line in (heads, *table):
        cells = (clean(str(cell)).ljust(width) for cell, width in zip(line, widths, strict=True))
        echo("  ".join(cells).rstrip())


def _age(seconds: int | None) -> str:
    """Of statistics, roughly, for people."""
    if seconds is None:
        return "none"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} old"
    return f"{max(0, seconds)} s old"


@index.command()
@connection_options
@index_option
@json_option
def show(as_json: bool, **flags: Any) -> None:
    """Show what an index holds and what encoded it."""
    from splade_os.engines.index_facts import index_facts

    settings = settings_of(**flags)
    name = need_index(settings)
    engine = open_engine(settings)
    facts = index_facts(engine, name)
    if as_json:
        print_json(facts)
        return
    counted, load, age = facts["documents_in_idf"], facts["load"], facts["statistics_age"]
    meta = engine.index_meta(name)
    model = meta.model
    copied = f"copied into {meta.content_field}"
    searched = f"as {', '.join(meta.bm25)}" if meta.bm25 else copied
    rows = {
        "index": name,
        "documents": f"{facts['documents']:,}",
        "size": f"{facts['bytes'] / 1e6:,.1f} MB",
        "last load": "not noted" if load is None else load["phase"],
        "IDF table": f"from {counted:,} documents, {_age(age)}" if counted else "the model's",
        "field": f"{meta.field} ({meta.field_type}, features named by {meta.feature_naming})",
        "text fields": f"{', '.join(meta.text_fields)}; for BM25 {searched}",
        "model": model.name + (f" @ {model.revision}" if model.revision else ""),
        "content hash": model.content_hash or "not noted",
        "activation": f"{model.activation}, {model.pooling} pooling",
        "maximum length": f"{model.max_length} tokens",
        "active dimensions": _active_dims(model),
        "pruning": f"min {model.min_weight}, ratio {model.max_ratio}, mass {model.alpha_mass or 1}",
        "long texts": model.long_texts,
        "lexical prior": _prior(model),
        "terms counted": "in the whole text" if model.whole_text else "in what the model sees",
        "expansion": "function words, marks, digits and letters only where they stand in the text"
        if model.mask_expansion
        else "as the model says",
        "first words": "as behind a space" if model.leading_space else "as the texts begin",
        "made by": f"splade-os {meta.splade_os}",
    }
    for label, value in rows.items():
        echo(f"{label:<18} {clean(value)}")


def _active_dims(model: ModelIdentity) -> str:
    if not model.max_active_dims:
        return "all"
    of = "the model's" if model.active_dims_of == "model" else "all that is stored"
    return f"{model.max_active_dims}, of {of}"


def _prior(model: ModelIdentity) -> str:
    if not model.lexical_weight:
        return "none"
    length = f"{model.average_length:g}" if model.average_length else "not measured yet"
    return f"{model.lexical_weight:g}; average length {length}"


@index.command()
@connection_options
@index_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(yes: bool, **flags: Any) -> None:
    """Delete an index, its documents and its statistics."""
    settings = settings_of(**flags)
    name = need_index(settings)
    engine = open_engine(settings)
    engine.index_meta(name)  # never deletes an index that is none of ours
    if not yes:
        count = engine.count(name)
        confirm(f"Delete {name} with {count:,} documents?", abort=True)
    engine.delete_index(name)
    echo(f"Deleted {name}.", err=True)


@index.command("restore-settings")
@connection_options
@index_option
def restore(**flags: Any) -> None:
    """Put back the settings that a killed ingest had changed for loading."""
    from splade_os.ingest.index.load_settings import restore_settings

    settings = settings_of(**flags)
    name = need_index(settings)
    if restore_settings(open_engine(settings), name):
        echo(f"The settings of {name} are as before the load.", err=True)
    else:
        echo(f"No ingest has left {name} set for loading.", err=True)


@index.command()
@connection_options
@click.option("--alias", required=True, help="Name of the alias.")
def rollback(alias: str, **flags: Any) -> None:
    """Point an alias to the index that it stood for before."""
    from splade_os.ingest.index.aliases import roll_back

    before, now = roll_back(open_engine(settings_of(**flags)), alias)
    echo(f"{alias} stands for {now} now, no longer for {before} (which is kept).", err=True)


@index.command()
@connection_options
@index_option
def recount(**flags: Any) -> None:
    """Count the terms of all documents anew, for IDF queries.

    For an index that other tools write to; ingests count by themselves.
    """
    from splade_os.cli.document_encoder import load_encoder
    from splade_os.identity import EncodingOptions
    from splade_os.ingest.state import statistics

    settings = settings_of(**flags)
    name = need_index(settings)
    engine = open_engine(settings)
    meta = engine.index_meta(name)
    encoder = load_encoder(engine, name, settings.model, {}, EncodingOptions())
    with busy(f"Counting the terms of {name}"):
        counted = statistics.recount(engine, name, encoder, meta)
    echo(f"Counted {counted.documents:,} documents of {name}.", err=True)


@index.command()
@connection_options
@index_option
@click.option(
    "--segments", type=click.IntRange(1, 1000), default=1, show_default=True, help="Of each shard."
)
def optimize(segments: int, **flags: Any) -> None:
    """Merge the segments of an index that is not written to any more.

    Searches cost less, and what was deleted takes up no room. It rewrites the whole index: for
    hours where that is large, and with as much free space as it takes up.
    """
    settings = settings_of(**flags)
    name = need_index(settings)
    engine = open_engine(settings)
    engine.index_meta(name)
    before = engine.stats(name).bytes
    with busy(f"Merging {name}"):
        engine.merge(name, segments)
    echo(f"{name}: {before:,} bytes before, {engine.stats(name).bytes:,} now.", err=True)
