"""Options of every command that encodes documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from splade_os.cli.help_groups import add_options
from splade_os.cli.options import MOST

if TYPE_CHECKING:
    from splade_os.identity import EncodingOptions

Command = TypeVar("Command", bound=Callable[..., Any])

_RUNNING = (
    click.option(
        "--device",
        help="Torch device, several (cuda:0,cuda:1), or all.  [default: first GPU, else cpu]",
    ),
    click.option(
        "--dtype",
        type=click.Choice(["auto", "float32", "bfloat16", "float16", "int8"]),
        default="auto",
        help="Precision.  [default: auto, the fastest that keeps the quality on this machine]",
    ),
    click.option(
        "--backend",
        type=click.Choice(["auto", "torch", "onnx"]),
        default="auto",
        help="auto: ONNX Runtime where the model has a graph and no GPU is used.",
    ),
    click.option("--batch-tokens", type=click.IntRange(1, MOST), help="Tokens per forward pass."),
)
_RUNNING_NAMES = ("device", "dtype", "backend", "batch_tokens")
_STATING = (
    click.option(
        "--activation",
        type=click.Choice(["relu", "log1p_relu"]),
        help="Of a checkpoint that does not say it.",
    ),
    click.option(
        "--pooling",
        type=click.Choice(["max", "sum"]),
        help="Of a checkpoint that does not say it.",
    ),
)
_CHOICES = (
    click.option(
        "--max-length", type=click.IntRange(1, MOST), help="Tokens after which a text is cut."
    ),
    click.option(
        "--max-active-dims",
        type=click.IntRange(1, MOST),
        help="Most terms stored for a document, its own words included.",
    ),
    click.option("--min-weight", type=click.FloatRange(0), help="Keep weights from this on."),
    click.option("--max-ratio", type=click.FloatRange(0, 1), help="Keep w >= ratio * heaviest."),
    click.option("--alpha-mass", type=click.FloatRange(0, 1), help="Keep this part of the sum."),
    click.option("--long-texts", type=click.Choice(["truncate", "chunk"])),
    click.option("--stride", type=click.IntRange(0, MOST), help="Tokens that two chunks share."),
    click.option("--lexical-weight", type=click.FloatRange(0), help="Of the lexical prior."),
    click.option(
        "--average-length",
        type=click.FloatRange(0),
        help="Of the lexical prior, tokens.  [default: measured on the first 1,000 documents]",
    ),
    click.option(
        "--whole-text/--cut-text",
        default=None,
        help="What the lexical prior and the document frequencies see of a text that is longer "
        "than the model takes.  [default: the whole text]",
    ),
    click.option(
        "--mask-expansion/--no-mask-expansion",
        default=None,
        help="Function words, punctuation, digits alone and single letters get a weight only "
        "where they stand in the text.",
    ),
    click.option(
        "--fold-idf",
        is_flag=True,
        default=None,
        help="Multiply by the model's IDF: a query is then its bare tokens.",
    ),
    click.option(
        "--normalize",
        type=click.Choice(["none", "nfkc"]),
        help="Unicode form of texts and queries: nfkc reads ligatures and full-width letters.",
    ),
    click.option(
        "--leading-space/--no-leading-space",
        default=None,
        help="Count texts as if a space stood before them.  [default: where it matters to the "
        "tokenizer, and the model has no IDF table]",
    ),
)


def encoding_options(command: Command) -> Command:
    """What `DocumentEncoder.load` takes, as ``running`` and ``choices`` of `split_options`."""
    return add_options(command, "Encoding", *_RUNNING, *_STATING, *_CHOICES)


def stating_options(command: Command) -> Command:
    """What a plain checkpoint does not say about itself."""
    return add_options(command, "Encoding", *_STATING)


def split_options(flags: dict[str, Any]) -> tuple[dict[str, Any], EncodingOptions, dict[str, Any]]:
    """How to run, what to encode, and the flags that are neither."""
    from pydantic import ValidationError

    from splade_os.identity import OPTION_NAMES, EncodingOptions

    running = {name: flags.pop(name) for name in _RUNNING_NAMES}
    chosen = {name: flags.pop(name) for name in OPTION_NAMES if name in flags}
    try:
        return running, EncodingOptions(**chosen), flags
    except ValidationError as error:
        wrong = error.errors()[0]
        name = str(wrong["loc"][0]).replace("_", "-")
        raise click.UsageError(f"--{name}: {wrong['msg']}.") from None
