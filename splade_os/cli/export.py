"""``splade-os export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from splade_os.cli.encoding import stating_options
from splade_os.cli.help_groups import Command
from splade_os.cli.options import connection_options, index_option, open_engine, settings_of
from splade_os.cli.steps import busy
from splade_os.cli.terminal import echo

_FORMS = ["onnx", "torchscript", "sentence-transformers", "idf", "opensearch-tokenizer"]


@click.command(cls=Command)
@click.argument("model")
@click.option("--to", "form", type=click.Choice(_FORMS), required=True)
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="New folder.")
@click.option("--name", help="(opensearch-tokenizer) Of the query encoder.  [default: the model's]")
@index_option
@connection_options
@stating_options
def export(
    model: str,
    form: str,
    out: Path,
    name: str | None,
    activation: str | None,
    pooling: str | None,
    **flags: Any,
) -> None:
    """Write MODEL in another form.

    onnx: a folder with fp32 and int8 graphs that hold the pooling head. It is loaded like any
    model, runs without torch, and on a CPU faster.

    torchscript: model.pt and tokenizer.json, for hosts that run libtorch.

    sentence-transformers: a folder that SparseEncoder loads, of a plain checkpoint or an older
    layout.

    idf: the query table of an inference-free model, as idf.json and query_token_weights.txt.

    opensearch-tokenizer: a package with which OpenSearch encodes queries itself; splade-os
    deploy puts it into a cluster. The IDF table is that of the corpus in --index, or, without
    it, the model's own.
    """
    if form != "opensearch-tokenizer":
        given = [
            f"--{flag.replace('_', '-')}" for flag, value in flags.items() if value is not None
        ]
        if name or given:
            raise click.UsageError(f"{' '.join(given) or '--name'} is not for --to {form}.")
    stated: dict[str, Any] = {"activation": activation, "pooling": pooling}
    if form in ("idf", "opensearch-tokenizer") and any(stated.values()):
        raise click.UsageError(f"--activation and --pooling are not for --to {form}.")
    if form == "onnx":
        _onnx(model, out, **stated)
    elif form == "torchscript":
        from splade_os.export.torchscript import export_torchscript

        with busy(f"Exporting {model}"):
            difference = export_torchscript(model, out, **stated)
        echo(f"Against torch: largest difference {difference:.2g}", err=True)
    elif form == "sentence-transformers":
        from splade_os.export.sentence_transformers import export_sentence_transformers

        with busy(f"Exporting {model}"):
            export_sentence_transformers(model, out, **stated)
    elif form == "idf":
        from splade_os.export.idf import export_idf

        export_idf(model, out)
    else:
        _opensearch_tokenizer(model, out, name, **flags)
    echo(str(out))


def _onnx(model: str, out: Path, **stated: Any) -> None:
    from splade_os.export.onnx import export_onnx

    with busy(f"Exporting {model}"):
        checks = export_onnx(model, out, **stated)
    for check in checks:
        echo(
            f"{check.precision:<8} {check.bytes / 1e6:6.1f} MB, against torch: largest difference "
            f"{check.max_difference:.2g}, mean error {check.mean_error:.2%}",
            err=True,
        )


def _opensearch_tokenizer(model: str, out: Path, name: str | None, **flags: Any) -> None:
    from splade_os.export.index_statistics import index_statistics
    from splade_os.export.opensearch_tokenizer import export_opensearch_tokenizer

    # an index from the environment or a settings file is one to search, not one to count in
    index, statistics, origin, spaced = flags.pop("index"), None, None, None
    if index is not None:
        engine = open_engine(settings_of(**flags))
        statistics, spaced = index_statistics(engine, index, model)
        origin = f"index {index}"
    with busy(f"Exporting {model}"):
        package = export_opensearch_tokenizer(
            model, out, name=name, statistics=statistics, leading_space=spaced, origin=origin
        )
    manifest = package.manifest
    counted = f" ({manifest.idf_documents:,} documents)" if manifest.idf_documents else ""
    echo(
        f"{manifest.name}: {manifest.bytes / 1e6:.1f} MB, {manifest.vocabulary_size:,} tokens, "
        f"IDF of the {manifest.idf_origin}{counted}. Checked against the query encoder.",
        err=True,
    )
    echo(f"Deploy it: splade-os deploy {out} --index INDEX", err=True)
