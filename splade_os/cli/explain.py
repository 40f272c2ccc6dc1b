"""``splade-os explain``."""

from __future__ import annotations

from typing import Any

import click

from splade_os.cli.encoding import encoding_options, split_options
from splade_os.cli.options import MOST, json_option, print_json
from splade_os.cli.search import EXPANSION_STYLE, OWN_STYLE
from splade_os.cli.steps import busy
from splade_os.cli.terminal import clean, echo

_BAR = 40


@click.command()
@click.argument("text")
@click.option("--model", default="starter", show_default=True, help="Folder or hub name.")
@click.option("-n", "--terms", type=click.IntRange(1, MOST), default=30, show_default=True)
@json_option
@encoding_options
def explain(text: str, model: str, terms: int, as_json: bool, **flags: Any) -> None:
    """Show the document vector of TEXT as bars; expansion terms in another colour."""
    from rich.console import Console
    from rich.text import Text

    from splade_os.encoding import DocumentEncoder

    running, options, _ = split_options(flags)
    with busy(f"Loading the model {model}"):
        encoder = DocumentEncoder.load(model, **running, **options.model_dump())
    echo(f"Encoding with {model}: {encoder.how}.", err=True)
    own = set(encoder.tokenize([text])[0].tolist())
    ids, weights = encoder.encode([text]).row(0)
    order = weights.argsort()[::-1]
    names = encoder.vocabulary.tokens
    if as_json:
        print_json(
            [
                {
                    "token": names[ids[i]],
                    "weight": float(weights[i]),
                    "expansion": int(ids[i]) not in own,
                }
                for i in order
            ]
        )
        return
    if not len(ids):
        echo("The vector is empty: no term of this text has a weight.", err=True)
        return
    console = Console(highlight=False)
    block = "█" if console.encoding.startswith("utf") else "#"
    for i in order[:terms]:
        style = OWN_STYLE if int(ids[i]) in own else EXPANSION_STYLE
        bar = block * max(1, round(_BAR * float(weights[i] / weights[order[0]])))
        console.print(
            Text(f"{clean(names[ids[i]]):>16} {weights[i]:6.3f} ").append(bar, style=style)
        )
    legend = Text("in the text", style=OWN_STYLE).append(", ", style="default")
    legend.append("added by the model", style=EXPANSION_STYLE)
    Console(stderr=True).print(Text(f"{len(ids)} terms, ").append_text(legend))
