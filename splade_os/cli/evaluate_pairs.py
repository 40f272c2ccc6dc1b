"""``splade-os evaluate --pairs``: pair classification."""

from __future__ import annotations

from typing import Any

import click

from splade_os.cli.encoding import split_options
from splade_os.cli.evaluation_tables import print_table, table_of
from splade_os.cli.options import print_json, settings_of
from splade_os.cli.steps import busy
from splade_os.cli.terminal import echo


def evaluate_pairs(source: str, columns: str, as_json: bool, flags: dict[str, Any]) -> None:
    """Read, encode, classify, show."""
    from splade_os.encoding import DocumentEncoder
    from splade_os.evaluation.pairs import MEASURES, SIMILARITIES, read_pairs
    from splade_os.evaluation.pairs import evaluate_pairs as evaluate
    from splade_os.settings import DEFAULT_MODEL

    names = [name.strip() for name in columns.split(",")]
    if len(names) != 3:
        raise click.UsageError("--columns names two texts and a label: sentence1,sentence2,label.")
    running, options, flags = split_options(flags)
    model = settings_of(**flags).model or DEFAULT_MODEL
    pairs = read_pairs(source, names)
    with busy(f"Loading the model {model}"):
        encoder = DocumentEncoder.load(model, **running, **options.model_dump())
    with busy(f"Encoding {len(pairs.labels):,} pairs"):
        figures = evaluate(pairs, encoder)
    if as_json:
        print_json({"pairs": len(pairs.labels), "model": encoder.identity.name, **figures})
        return
    table = table_of(["", *SIMILARITIES])
    for measure in MEASURES:
        table.add_row(
            measure.replace("_", " "), *(f"{figures[f'{n}_{measure}']:.4f}" for n in SIMILARITIES)
        )
    print_table(table)
    echo(
        f"\n{len(pairs.labels):,} pairs, {int(pairs.labels.sum()):,} of them the same; model "
        f"{encoder.identity.name}; {figures['active_dims']:.1f} active dimensions, sparsity ratio "
        f"{figures['sparsity_ratio']:.4f}.",
        err=True,
    )
