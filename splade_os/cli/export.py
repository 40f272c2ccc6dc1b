"""``splade-os export``."""

from __future__ import annotations

from pathlib import Path

import click

from splade_os.cli.steps import busy


@click.command()
@click.argument("model")
@click.option("--to", "form", type=click.Choice(["onnx"]), required=True)
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="New folder.")
def export(model: str, form: str, out: Path) -> None:
    """Write MODEL in another form.

    onnx: a folder with fp32 and int8 graphs that hold the pooling head. It is loaded like any
    model, runs without torch, and on a CPU faster.
    """
    from splade_os.export.onnx import export_onnx

    del form  # one so far
    with busy(f"Exporting {model}"):
        checks = export_onnx(model, out)
    for check in checks:
        click.echo(
            f"{check.precision:<8} {check.bytes / 1e6:6.1f} MB, against torch: largest difference "
            f"{check.max_difference:.2g}, mean error {check.mean_error:.2%}",
            err=True,
        )
    click.echo(str(out))
