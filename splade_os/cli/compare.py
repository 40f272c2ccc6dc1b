"""``splade-os compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from splade_os.cli.options import MOST, json_option, print_json
from splade_os.cli.terminal import echo
from splade_os.evaluation.extra import require_extra

if TYPE_CHECKING:
    from splade_os.evaluation.comparison import Comparison


@click.command()
@click.argument("run_a", type=click.Path(path_type=Path))
@click.argument("run_b", type=click.Path(path_type=Path))
@click.option(
    "--qrels", type=click.Path(path_type=Path), required=True,
    help="File in TREC's form or BEIR's, or a BEIR folder."
)  # fmt: skip
@click.option("--split", default="test", show_default=True, help="Judgements of a BEIR folder.")
@click.option("--queries", type=click.Path(path_type=Path), help="File of texts, to show them.")
@click.option("--measures", default="", help="Of ir-measures, e.g. 'nDCG@10,R@1000'.")
@click.option("--by", default="ndcg@10", show_default=True, help="Measure of single queries.")
@click.option("--show", type=click.IntRange(0, MOST), default=5, show_default=True,
              help="Queries with the largest differences.")  # fmt: skip
@json_option
def compare(
    run_a: Path,
    run_b: Path,
    qrels: Path,
    split: str,
    queries: Path | None,
    measures: str,
    by: str,
    show: int,
    as_json: bool,
) -> None:
    """Compare two TREC runs: measures, significance, and the queries that differ most.

    A query that is judged and missing from a run counts as having found nothing.
    """
    require_extra()
    from splade_os.evaluation.beir import read_judged
    from splade_os.evaluation.comparison import compare as compare_runs
    from splade_os.evaluation.measures import parse_measures, score
    from splade_os.evaluation.runs import judged_queries
    from splade_os.evaluation.trec import read_qrels, read_queries, read_run

    extra = parse_measures(measures.replace(",", " ").split())
    texts = read_queries(queries) if queries else {}
    if qrels.is_dir():
        judged = read_judged(qrels, split)
        judgements, texts = judged.qrels, texts or judged.queries
    else:
        judgements = read_qrels(qrels)
        judgements = {query: judgements[query] for query in judged_queries(judgements)}
    names = (run_a.name, run_b.name) if run_a.name != run_b.name else (str(run_a), str(run_b))
    scores = []
    for file in (run_a, run_b):
        run = read_run(file)
        missing = len(judgements) - len(judgements.keys() & run.keys())
        if missing == len(judgements):
            raise click.UsageError(f"{file} has none of the judged queries: is it of these?")
        if missing:
            echo(f"{file} lacks {missing:,} of {len(judgements):,} queries.", err=True)
        run = {query: hits for query, hits in run.items() if query in judgements}
        scores.append(score(judgements, run, extra))
    shared = [m for m in scores[0].per_query if m in scores[1].per_query]
    if by not in shared:
        raise click.UsageError(f"--by {by}: not measured. One of {', '.join(shared)}.")
    found = {m: compare_runs(names[0], scores[0], names[1], scores[1], m) for m in shared}
    if as_json:
        print_json({"queries": len(judgements), "measures": [c.to_dict() for c in found.values()]})
        return
    _show(names, found, found[by], texts, show)
    echo(f"{len(judgements):,} queries.", err=True)


def _show(
    names: tuple[str, str],
    found: dict[str, Comparison],
    single: Comparison,
    texts: dict[str, str],
    most: int,
) -> None:
    from rich.console import Console

    from splade_os.cli.evaluation_tables import table_of

    console = Console()
    columns = ["measure", *names, "difference", "95 %", "p", "better", "equal", "worse"]
    table = table_of(columns)
    for measure, c in found.items():
        table.add_row(
            measure,
            f"{c.mean_a:.4f}",
            f"{c.mean_b:.4f}",
            f"{c.difference:+.4f}",
            f"{c.low:+.4f} … {c.high:+.4f}",
            f"{c.p:.4f}" + ("*" if c.p < 0.05 else " "),
            *(str(n) for n in (c.better, c.equal, c.worse)),
            style="bold" if measure == single.measure else None,
        )
    console.print(table)
    pairs = list(single.differences.items())
    gains = [pair for pair in pairs[:most] if pair[1] > 0]
    losses = [pair for pair in reversed(pairs[-most:] if most else []) if pair[1] < 0]
    for title, chosen in ((f"better with {names[1]}", gains), (f"better with {names[0]}", losses)):
        if chosen:
            rows = table_of([title, single.measure, "query"])
            rows.columns[2].justify = "left"
            for query, value in chosen:
                rows.add_row(query, f"{value:+.4f}", texts.get(query, ""))
            console.print()
            console.print(rows)
