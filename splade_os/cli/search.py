"""``splade-os search``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from splade_os.cli.help_groups import Command
from splade_os.cli.options import (
    MOST,
    connection_options,
    index_option,
    json_option,
    need_index,
    print_json,
    settings_of,
    with_secrets,
)
from splade_os.cli.terminal import clean, clean_json, echo
from splade_os.text_fields import stored_text

if TYPE_CHECKING:
    from rich.text import Text

    from splade_os.search.client import SearchClient
    from splade_os.search.results import Hit, Results

_ID, _LEAST = 24, 8  # characters of an id that are lined up; of a document that say anything
OWN_STYLE, EXPANSION_STYLE = "green", "magenta"
_MODES = ["hybrid", "idf", "encoder", "engine", "bm25", "raw"]


@click.command(cls=Command)
@click.argument("text")
@connection_options
@index_option
@click.option("--model", help="Where the index's model lies.  [default: as the index names it]")
@click.option("--mode", type=click.Choice(_MODES), default="hybrid", show_default=True)
@click.option("-k", "--size", "k", type=click.IntRange(1, 10_000), default=10, show_default=True)
@click.option("--filter", "filters", multiple=True, help="Clause of the query language, as JSON.")
@click.option("--fields", help="Fields to return, with commas.  [default: all but the vector]")
@click.option("--offset", type=click.IntRange(0, MOST), default=0, help="Hits to leave out.")
@click.option("--min-score", type=float, help="Leave out hits below it.")
@click.option("--search-timeout", type=float, help="Seconds that the engine may take.")
@click.option(
    "--allow-partial",
    is_flag=True,
    help="Where shards fail or run out of time: the hits of the others, not an error.",
)
@click.option(
    "--dfs",
    is_flag=True,
    help="(bm25, hybrid) Score by the words of all shards, not of each by itself.",
)
@click.option("--count", is_flag=True, help="Also count all hits (costs time).")
@click.option(
    "--idf",
    multiple=True,
    help="Table of IDF weights: index, model, a file, or a mix: --idf index=1 --idf model=2.",
)
@click.option(
    "--top-terms", type=click.IntRange(1, MOST), help="Only the heaviest terms of the query."
)
@click.option("--max-ratio", type=click.FloatRange(0, 1), help="Only terms of that share of them.")
@click.option(
    "--two-phase",
    help="FIRST,WINDOW: find with the heaviest terms, score the best with all. FIRST is a number, "
    "or a share of the heaviest weight.  [default of mode encoder: 10,50 with --top-terms 64]",
)
@click.option("--exact", is_flag=True, help="Score all documents with all terms.")
@click.option(
    "--query-tf",
    type=click.Choice(["none", "log", "raw"]),
    default="log",
    show_default=True,
    help="(idf, hybrid) What a token that occurs tf times in TEXT counts: 1, 1 + ln tf, or tf.",
)
@click.option(
    "--fusion",
    type=click.Choice(["sum", "rrf", "min_max"]),
    help="Of mode hybrid.  [default: sum; rrf with --fuse-in-engine]",
)
@click.option(
    "--fusion-weights", default="1,1", show_default=True, help="SPARSE,BM25 of mode hybrid."
)
@click.option(
    "--fusion-depth",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    help="(rrf, min_max) Hits of each half that are fused, the same for all pages.",
)
@click.option("--sparse", type=click.Choice(["idf", "encoder"]), default="idf", help="Of hybrid.")
@click.option("--fuse-in-engine", is_flag=True, help="By OpenSearch's neural-search plugin.")
@click.option(
    "--shape",
    type=click.Choice(["rank_feature", "term", "sparse_vector", "neural_sparse"]),
    help="Spelling of the query.  [default: the field's first]",
)
@click.option("--explain", is_flag=True, help="Show which terms matched, and their shares.")
@click.option("--sort", help="FIELD, FIELD:asc or FIELD:desc, several with commas.")
@click.option("--highlight", help="Fields, with commas, in which what matched is marked.")
@click.option("--body", help="Sections of the engine's own, as JSON or @FILE: aggs, collapse ...")
@click.option("--routing", help="Only the shards of this routing value.")
@click.option("--preference", help="Which copies of the shards: _local, or any text.")
@click.option("--curl", is_flag=True, help="Do not search: print the request for a shell.")
@json_option
def search(text: str, mode: Any, k: int, curl: bool, as_json: bool, **flags: Any) -> None:
    """Search an index for TEXT, in plain words (mode raw: a JSON object, token and weight)."""
    from splade_os.search.client import SearchClient

    idf = idf_table(flags.pop("idf"))
    options, connection = _options(flags)
    query: Any = _json(text, "TEXT of the mode raw") if mode == "raw" else text
    need_index(settings_of(**connection))
    with SearchClient(idf=idf, **with_secrets(connection)) as client:
        if curl:
            _print_curl(client, client.build(query, k, mode, **options), options)
            return
        results = client.search(query, k, mode, **options)
        fields = client.meta.text_fields
    if as_json:
        print_json(results.to_dict())
        return
    if results.reason:
        echo(clean(results.reason), err=True)
    if results.partial:
        echo(f"Only a part: {clean(results.partial)}", err=True)
    if len(results):
        _table(results, options["explain"], fields)
    elif not results.reason:
        echo("No document matches.", err=True)
    _summary(results, options["explain"])


def _print_curl(client: SearchClient, bodies: list[bytes], options: dict[str, Any]) -> None:
    from splade_os.search.options import SearchOptions
    from splade_os.search.results import curl_command

    if not bodies:
        raise click.ClickException("There is nothing that curl could send for this query here.")
    for body in bodies:
        url = f"{client.engine.url}/{client.index}/_search{SearchOptions(**options).in_url}"
        command = curl_command(url, body)
        echo(clean_json(command))


def _options(flags: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Flags → options of the search, and what is left: the connection."""
    from splade_os.engines import TwoPhase
    from splade_os.search.options import EXACT, Fusion, QueryPruning

    filters = [_json(text, "--filter") for text in flags.pop("filters")]
    fields, two = flags.pop("fields"), flags.pop("two_phase")
    top, ratio, exact = flags.pop("top_terms"), flags.pop("max_ratio"), flags.pop("exact")
    weights, in_engine = flags.pop("fusion_weights"), flags.pop("fuse_in_engine")
    pruning = EXACT if exact else None
    if top or ratio or two:
        if exact:
            raise click.UsageError("--exact excludes --top-terms, --max-ratio and --two-phase.")
        first, window = _numbers(two, "--two-phase") if two else (0.0, 0.0)
        plan = TwoPhase(first, int(window)) if two else None
        pruning = QueryPruning(top, ratio or 0.0, plan)
    options = {
        "filter": filters,
        "source": fields.split(",") if fields else None,
        "timeout": flags.pop("search_timeout"),
        "total": flags.pop("count"),
        "query_pruning": pruning,
        "fusion": Fusion(
            flags.pop("fusion") or ("rrf" if in_engine else "sum"),
            _numbers(weights, "--fusion-weights"),
            depth=flags.pop("fusion_depth"),
            sparse=flags.pop("sparse"),
            engine=in_engine,
        ),
    }
    body, sort, highlight = (flags.pop(name) for name in ("body", "sort", "highlight"))
    options |= {
        "body": _json(_content(body), "--body") if body else None,
        "sort": sort.split(",") if sort else None,
        "highlight": highlight.split(",") if highlight else None,
    }
    for name in (
        "offset", "min_score", "shape", "explain", "query_tf", "allow_partial", "dfs",
        "routing", "preference",
    ):  # fmt: skip
        options[name] = flags.pop(name)
    return options, flags


def _content(given: str) -> str:
    """What is given, or what is in the file behind an ``@``."""
    if not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise click.UsageError(f"--body {given} cannot be read: {error}") from None


def _json(text: str, what: str) -> dict[str, Any]:
    import orjson

    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise click.UsageError(f"{what} is no JSON: {error}: {text}") from None
    if not isinstance(value, dict):
        raise click.UsageError(f'{what} is a JSON object, like {{"term": ...}}; not {text}')
    return value


def _numbers(text: str, flag: str) -> tuple[float, float]:
    try:
        first, second = (float(part) for part in text.split(","))
    except ValueError:
        raise click.UsageError(f"{flag} takes two numbers with a comma, not {text!r}.") from None
    return first, second


def idf_table(given: tuple[str, ...]) -> Any:
    """What ``--idf`` says, as `SearchClient` takes it."""
    if len(given) == 1 and "=" not in given[0]:
        return given[0]
    mix = {}
    for item in given:
        source, _, share = item.rpartition("=")
        try:
            mix[source] = float(share)
        except ValueError:
            source = ""
        if not source:
            raise click.UsageError(f"In a mix, --idf takes SOURCE=SHARE, not {item!r}.")
    return mix or None


def _table(results: Results, explain: bool, fields: Sequence[str] = ()) -> None:
    """The hits: for a program one line each, tab-separated, nothing cut; on a terminal what
    ranks, scores, names and explains a hit is always whole, and the document takes what is left."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(highlight=False)
    if not sys.stdout.isatty():
        for hit in results:
            line = [str(hit.rank), repr(hit.score), clean(hit.id), headline(hit, fields)]
            echo("\t".join(line + [matched(hit).plain.strip()] * explain))
        return
    shown = [
        (str(hit.rank), f"{hit.score:.4g}", clean(hit.id), headline(hit, fields)) for hit in results
    ]
    rank, score, name = (max((len(row[i]) for row in shown), default=0) for i in range(3))
    for hit, row in zip(results, shown, strict=True):  # plain: documents are no markup
        head = Text(f"{row[0]:>{rank}}  {row[1]:>{score}}  ").append(row[2], style="bold")
        head.append(" " * (min(name, _ID) + 2 - len(row[2]) if len(row[2]) < _ID else 2))
        room = console.width - head.cell_len
        if room >= _LEAST:
            document = Text(row[3])
            document.truncate(room, overflow="ellipsis")
            head.append_text(document)
        console.print(head, soft_wrap=True)
        if explain:
            console.print(Padding(matched(hit), (0, 0, 0, rank + score + 4)))


def _summary(results: Results, explain: bool) -> None:
    """How the hits were found, on stderr."""
    total = "" if results.total is None else f" of {results.total:,}"
    echo(f"{len(results)}{total} hits by {results.mode} in {results.took_ms:.0f} ms.", err=True)
    used = results.used
    if used.cut or (explain and results.query):
        all_terms = " (--exact takes all terms)" if used.finding < used.of else ""
        echo(f"query: {used}{all_terms}.", err=True)
    for hit in results:
        for name, texts in hit.highlight.items():
            echo(f"{clean(hit.id)} {clean(name)}: {clean(' ... '.join(texts))}", err=True)
    if results.aggregations:
        import orjson

        echo(f"aggregations: {orjson.dumps(results.aggregations).decode()}", err=True)
    if explain and results.query:
        terms = "  ".join(f"{clean(token)} {weight:.2f}" for token, weight in results.query.items())
        echo(f"query, weights from {clean(results.weights_from)}: {terms}", err=True)


def headline(hit: Hit, fields: Sequence[str] = ()) -> str:
    """One line that tells what a document is: of its text fields, else of any that hold text."""
    text = stored_text(hit.source, fields) or stored_text(hit.source, ("title", "text"))
    text = text or " ".join(value for value in hit.source.values() if isinstance(value, str))
    return clean(" ".join(text.split())[:200])


def matched(hit: Hit, most: int = 8) -> Text:
    """The terms that matched, with their shares; expansion terms in another colour."""
    from rich.text import Text

    parts = Text()
    for word in hit.matched_words[:most]:
        parts.append(f"{clean(word)} ", style=OWN_STYLE)
    for term in hit.terms[:most]:
        style = EXPANSION_STYLE if term.expansion else OWN_STYLE
        parts.append(f"{clean(term.token)} {term.share:.1f}  ", style=style)
    return parts
