"""Options of every command that encodes documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from splade_os.identity import EncodingOptions

Command = TypeVar("Command", bound=Callable[..., Any])

_RUNNING = (
    click.option("--device", help="Torch device.  [default: the first GPU, else cpu]"),
    click.option(
        "--dtype",
        type=click.Choice(["float32", "bfloat16", "float16", "int8"]),
        default="float32",
        help="Precision; int8 needs an ONNX export.  [default: float32]",
    ),
    click.option(
        "--backend",
        type=click.Choice(["auto", "torch", "onnx"]),
        default="auto",
        help="auto: ONNX Runtime where the model has a graph and no GPU is used.",
    ),
    click.option("--batch-tokens", type=click.IntRange(1), help="Tokens per forward pass."),
)
_CHOICES = (
    click.option("--max-length", type=click.IntRange(1), help="Tokens after which a text is cut."),
    click.option("--max-active-dims", type=click.IntRange(1), help="Heaviest terms kept."),
    click.option("--min-weight", type=click.FloatRange(0), help="Keep weights from this on."),
    click.option("--max-ratio", type=click.FloatRange(0, 1), help="Keep w >= ratio * heaviest."),
    click.option("--alpha-mass", type=click.FloatRange(0, 1), help="Keep this part of the sum."),
    click.option("--long-texts", type=click.Choice(["truncate", "chunk"])),
    click.option("--stride", type=click.IntRange(0), help="Tokens that two chunks share."),
    click.option("--lexical-weight", type=click.FloatRange(0), help="Of the lexical prior."),
    click.option("--average-length", type=click.FloatRange(0), help="Of the lexical prior."),
)


def encoding_options(command: Command) -> Command:
    """What `DocumentEncoder.load` takes, as ``running`` and ``choices`` of `split_options`."""
    for option in reversed((*_RUNNING, *_CHOICES)):
        command = option(command)
    return command


def split_options(flags: dict[str, Any]) -> tuple[dict[str, Any], EncodingOptions, dict[str, Any]]:
    """How to run, what to encode, and the flags that are neither."""
    from pydantic import ValidationError

    from splade_os.identity import OPTION_NAMES, EncodingOptions

    running = {name: flags.pop(name) for name in ("device", "dtype", "backend", "batch_tokens")}
    chosen = {name: flags.pop(name) for name in OPTION_NAMES if name in flags}
    try:
        return running, EncodingOptions(**chosen), flags
    except ValidationError as error:
        wrong = error.errors()[0]
        name = str(wrong["loc"][0]).replace("_", "-")
        raise click.UsageError(f"--{name}: {wrong['msg']}.") from None
