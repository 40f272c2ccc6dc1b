"""``splade-os retry``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from splade_os.cli.encoding import encoding_options, split_options
from splade_os.cli.ingest_options import running_options, split_running
from splade_os.cli.options import (
    connection_options,
    index_option,
    json_option,
    open_engine,
    settings_of,
)


@click.command()
@click.argument("letters", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@connection_options
@index_option
@click.option("--model", help="Folder, hub name or 'starter'.  [default: the index's]")
@encoding_options
@running_options
@json_option
def retry(letters: Path, as_json: bool, **flags: Any) -> None:
    """Ingest the dead letters of an earlier ingest again.

    Each document goes to the index that it was meant for, under the id that it had, read as it
    was read then. A letter whose record was damaged can be mended in the file first. What fails
    again stands in a new file. Documents that are in the index by now are overwritten.
    """
    from splade_os.cli.ingest import dead_letters_file, finish, load_encoder, run_ingest
    from splade_os.ingest.sources import Selection, find_source
    from splade_os.ingest.sources.dead_letters import DeadLetterReader, dead_letter_index
    from splade_os.ingest.state.checkpoint import Checkpoint

    running, chosen, flags = split_options(flags)
    options, how, flags = split_running(flags, Selection())
    settings = settings_of(**flags)
    index = flags.get("index") or dead_letter_index(letters) or settings.index
    if index is None:
        raise click.UsageError("The letters do not say which index; give --index NAME.")
    if options.sync:
        raise click.UsageError("--sync would delete everything else.")
    engine = open_engine(settings)
    meta = engine.index_meta(index)
    external = meta.model.external
    encoder = load_encoder(engine, index, settings.model, running, chosen, vectors=external)
    checkpoint = Checkpoint()
    checkpoint.begin(None, index, (how["dead_letters"] or dead_letters_file(index)).absolute())
    report = run_ingest(
        find_source(f"dead:{letters}"),
        DeadLetterReader(text_fields=meta.text_fields),
        Selection(),
        encoder,
        engine,
        checkpoint,
        options,
        how["metrics_port"],
    )
    finish(report, as_json)
