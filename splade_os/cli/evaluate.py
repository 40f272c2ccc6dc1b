"""``splade-os evaluate``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from splade_os.cli.encoding import encoding_options, split_options
from splade_os.cli.help_groups import Command
from splade_os.cli.options import (
    connection_options,
    json_option,
    print_json,
    settings_of,
    with_secrets,
)
from splade_os.cli.steps import busy
from splade_os.cli.terminal import echo
from splade_os.evaluation.extra import require_extra

if TYPE_CHECKING:
    from splade_os.encoding.query import QueryTf
    from splade_os.evaluation.collection import Collection
    from splade_os.evaluation.evaluate import Settings
    from splade_os.evaluation.memory import Change
    from splade_os.evaluation.report import Report
    from splade_os.evaluation.sweep import Sweep

_EVERY = 10.0  # seconds
_MODES = (
    "In memory: model, idf, encoder.  [default: model]  With --index: bm25, idf, encoder, engine, "
    "hybrid, and with options like encoder:top=32.  [default: all four]  "
    "The first is what the others are compared with."
)
_MEASURES = "ir-measures beside the card's, e.g. 'nDCG@10,R@1000,RR@10'."


@click.command(cls=Command)
@click.argument("collection")
@connection_options
@click.option("--index", help="Evaluate through this index, as its users search it.")
@click.option(
    "--in-memory",
    is_flag=True,
    help="(--index) Also encode and search in memory: does the engine agree?",
)
@click.option("--model", help="Folder, hub name or 'starter'.  [default: starter, or the index's]")
@click.option("--modes", help=_MODES)
@click.option(
    "--idf", multiple=True, help="(--index) Table of IDF queries, as `splade-os search` takes it."
)
@click.option(
    "--query-tf",
    type=click.Choice(["none", "log", "raw"]),
    help="(--index) What repetition counts in every way that does not say it (idf:tf=none).",
)
@click.option("--pairs", is_flag=True, help="COLLECTION is pairs of texts: are two the same?")
@click.option("--columns", default="sentence1,sentence2,label", show_default=True, help="(--pairs)")
@click.option("--split", default="test", show_default=True, help="Judgements of a BEIR folder.")
@click.option("--queries", type=click.Path(path_type=Path), help="File: JSONL, or id TAB text.")
@click.option("--qrels", type=click.Path(path_type=Path), help="File: TREC's form, or BEIR's.")
@click.option("--nanobeir-from", help="Folder or hub name.  [default: sentence-transformers']")
@click.option("--text", help="Fields to encode.  [default: title,text, or the index's]")
@click.option("--measures", default="", help=_MEASURES)
@click.option("--by", default="ndcg@10", show_default=True, help="Measure that is compared.")
@click.option("--depth", type=click.IntRange(1, 10_000), help="Documents per query.")
@click.option("--remove-query-id", is_flag=True, help="No query finds the document of its own id.")
@click.option("--sweep", help="Prune documents in steps: what would max-ratio=0,0.1,0.2 do?")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a report.")
@click.option("--runs", type=click.Path(file_okay=False, path_type=Path), help="Write TREC runs.")
@encoding_options
@json_option
def evaluate(
    collection: str,
    pairs: bool,
    columns: str,
    split: str,
    queries: Path | None,
    qrels: Path | None,
    nanobeir_from: str | None,
    text: str | None,
    measures: str,
    by: str,
    depth: int | None,
    remove_query_id: bool,
    sweep: str | None,
    html: Path | None,
    runs: Path | None,
    modes: str | None,
    idf: tuple[str, ...],
    query_tf: QueryTf | None,
    in_memory: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Measure how well queries find the documents of COLLECTION.

    In memory, as model cards do; or, with --index, through a live index, as its users see it.

    COLLECTION is a BEIR folder; nanobeir (13 collections; nanobeir:nq,msmarco is two of them);
    irds:ID of ir_datasets; or any source of ingest with --queries and --qrels. With --pairs: any
    source of ingest whose rows are two texts and a label.
    """
    require_extra()
    if pairs:
        from splade_os.cli.evaluate_pairs import evaluate_pairs

        evaluate_pairs(collection, columns, as_json, flags)
        return
    from splade_os.cli.evaluation_output import to_json, write_html, write_runs
    from splade_os.cli.evaluation_tables import show, show_many
    from splade_os.cli.search import idf_table
    from splade_os.evaluation.collection import open_collection
    from splade_os.evaluation.evaluate import Settings
    from splade_os.evaluation.measures import parse_measures
    from splade_os.evaluation.nanobeir import HUB, open_nanobeir
    from splade_os.evaluation.sweep import parse_sweep
    from splade_os.ingest.documents.records import DEFAULT_TEXT_FIELDS, RecordReader

    settings = Settings(
        parse_measures(measures.replace(",", " ").split()), remove_query_id, depth, by
    )
    if collection.split(":")[0] == "nanobeir":
        if flags["index"]:
            raise click.UsageError("nanobeir has 13 collections, an index one: leave out --index.")
        names = [name for name in collection.partition(":")[2].split(",") if name]
        with busy("Reading NanoBEIR"):
            collections = open_nanobeir(names, nanobeir_from or HUB)
        if html and len(collections) > 1:
            raise click.UsageError("--html shows one collection, not several.")

    def opened(fields: tuple[str, ...]) -> Collection:
        if text:
            fields = tuple(field.strip() for field in text.split(",") if field.strip())
        reader = RecordReader(fields)
        return open_collection(collection, split=split, queries=queries, qrels=qrels, reader=reader)

    steps = parse_sweep(sweep) if sweep else None
    if flags["index"]:
        table = idf_table(idf)
        reports = [
            _through_index(opened, modes, settings, in_memory, steps, flags, table, query_tf)
        ]
    else:
        if idf or query_tf:
            raise click.UsageError("--idf and --query-tf are of searches in an index: add --index.")
        if in_memory:
            raise click.UsageError("Without --index everything is in memory.")
        if collection.split(":")[0] != "nanobeir":
            collections = [opened(DEFAULT_TEXT_FIELDS)]
        chosen = [mode.strip() for mode in (modes or "model").split(",") if mode.strip()]
        reports = _in_memory(collections, chosen, settings, steps, flags)
    if runs is not None:
        write_runs(runs, reports)
    if html is not None:
        write_html(html, reports[0], by)
    if as_json:
        print_json(to_json(reports))
        return
    if len(reports) == 1:
        show(reports[0])
    else:
        show_many(reports)


def _through_index(
    opened: Callable[[tuple[str, ...]], Collection],
    modes: str | None,
    settings: Settings,
    in_memory: bool,
    sweep: Sweep | None,
    flags: dict[str, Any],
    idf: Any,
    query_tf: QueryTf | None,
) -> Report:
    from splade_os.encoding import DocumentEncoder
    from splade_os.evaluation.evaluate_index import evaluate_index
    from splade_os.evaluation.sweep import sweep_index
    from splade_os.evaluation.ways import DEFAULT_WAYS, parse_ways
    from splade_os.search.client import SearchClient

    running, options, flags = split_options(flags)
    if options.model_dump(exclude_none=True):
        wrong = next(iter(options.model_dump(exclude_none=True))).replace("_", "-")
        raise click.UsageError(f"--{wrong}: the index is encoded already. Leave out --index.")
    ways = parse_ways(modes or DEFAULT_WAYS, query_tf)
    with SearchClient(**with_secrets(flags), device=running["device"], idf=idf) as client:
        meta = client.meta
        collection = opened(meta.text_fields)
        with busy("Loading the query encoders"):
            for way in ways:
                if way.mode != "bm25":
                    client.encoder(way.encoder)
            encoder = None
            if in_memory:
                name = settings_of(**flags).model or meta.model.name
                chosen = meta.model.options().model_dump()
                encoder = DocumentEncoder.load(name, **running, **chosen)
        with counting(collection.name) as progress:
            report = evaluate_index(
                client, collection, ways, settings=settings, in_memory=encoder, progress=progress
            )
            if sweep is None:
                return report
            points = sweep_index(
                client,
                collection,
                ways,
                sweep,
                settings=settings,
                model=flags["model"],
                device=running["device"],
                progress=progress,
            )
            return replace(report, curve=points)


def _in_memory(
    collections: list[Collection],
    modes: list[str],
    settings: Settings,
    sweep: Sweep | None,
    flags: dict[str, Any],
) -> list[Report]:
    from splade_os.encoding import DocumentEncoder
    from splade_os.evaluation.comparison import compare_all
    from splade_os.evaluation.evaluate import evaluate_in_memory
    from splade_os.evaluation.report import CurvePoint, Report
    from splade_os.settings import DEFAULT_MODEL

    running, options, flags = split_options(flags)
    model = flags.get("model") or DEFAULT_MODEL
    with busy(f"Loading the model {model}"):
        encoder = DocumentEncoder.load(model, **running, **options.model_dump())
    setting = {
        "model": encoder.identity.name,
        "where": "in memory",
        **options.model_dump(exclude_none=True),
        "running on": f"{encoder.device}, {encoder.precision}, {encoder.backend}",
    }
    reports = []
    for collection in collections:
        notes: list[str] = []
        with counting(collection.name) as progress:
            found = evaluate_in_memory(
                collection,
                encoder,
                model,
                modes,  # type: ignore[arg-type]
                settings=settings,
                changes={"": lambda batch: batch, **_changes(sweep)},
                device=running["device"],
                progress=progress,
                note=notes.append,
            )
        evaluations = [e for (_, change), e in found.items() if not change]
        points = [
            CurvePoint(sweep.option, value, replace(found[mode, f"{value:g}"], label=mode))
            for value in sweep.values
            for mode in modes
        ] if sweep else []  # fmt: skip
        comparisons = compare_all({e.label: e.scores for e in evaluations}, settings.by)
        documents = evaluations[0].documents
        reports.append(
            Report(
                collection.name,
                len(collection.judged.queries),
                documents.rows if documents else None,
                setting,
                evaluations,
                comparisons,
                notes=notes,
                curve=points,
                texts=collection.judged.queries,
            )
        )
    return reports


def _changes(sweep: Sweep | None) -> dict[str, Change]:
    return {f"{value:g}": sweep.change(value) for value in sweep.values} if sweep else {}


@contextmanager
def counting(name: str) -> Iterator[Callable[[str, int], None]]:
    """Says on stderr how much is done: live on a terminal, elsewhere every ten seconds."""
    from time import monotonic

    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        with console.status(name) as status:
            yield lambda what, done: status.update(f"{name}: {done:,} {what}")
        return
    echo(f"{name} ...", err=True)
    last = monotonic()

    def say(what: str, done: int) -> None:
        nonlocal last
        if monotonic() - last >= _EVERY:
            last = monotonic()
            echo(f"{name}: {done:,} {what}", err=True)

    yield say
