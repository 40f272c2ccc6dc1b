"""``splade-os retry``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from splade_os.cli.encoding import encoding_options, split_options
from splade_os.cli.help_groups import Command
from splade_os.cli.ingest_options import running_options, split_running
from splade_os.cli.options import (
    connection_options,
    index_option,
    json_option,
    open_engine,
    settings_of,
)
from splade_os.cli.terminal import echo


@click.command(cls=Command)
@click.argument("letters", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@connection_options
@index_option
@click.option("--model", help="Folder, hub name or 'starter'.  [default: the index's]")
@encoding_options
@running_options
@json_option
def retry(letters: Path, as_json: bool, **flags: Any) -> None:
    """Ingest the dead letters of an earlier ingest again.

    The documents go to the index or alias that they were meant for, under the id that they had,
    read as they were read then. A file with letters for several is refused. A letter whose record
    was damaged can be mended in the file first. What fails again stands in a new file. Documents
    that are in the index by now are overwritten.
    """
    from dataclasses import replace

    from splade_os.cli.document_encoder import load_encoder
    from splade_os.cli.ingest import finish, showing, telling
    from splade_os.errors import IndexNotFoundError
    from splade_os.ingest.load import dead_letters_file
    from splade_os.ingest.pipeline import ingest_documents
    from splade_os.ingest.sources import Selection, find_source, read_source
    from splade_os.ingest.sources.dead_letters import (
        DeadLetterReader,
        dead_letter_fields,
        letters_by_index,
    )

    running, chosen, flags = split_options(flags)
    options, how, flags = split_running(flags, Selection())
    latest = telling(how)
    options = replace(options, unusable=None)  # the first letters may be the worst
    settings = settings_of(**flags)
    target = flags.get("index") or _only_index(letters, letters_by_index(letters)) or settings.index
    if target is None:
        raise click.UsageError("The letters do not say which index; give --index NAME.")
    if options.sync:
        raise click.UsageError("--sync would delete everything else.")
    again = (how["dead_letters"] or dead_letters_file(target)).absolute()
    if again.exists() and again.samefile(letters):
        raise click.UsageError(f"--dead-letters {again}: what fails again needs another file.")
    engine = open_engine(settings)
    index = target
    behind = engine.alias_targets(target)
    if len(behind) > 1:
        raise click.UsageError(
            f"The alias {target} stands for {', '.join(behind)}; give --index, one of these."
        )
    if behind:
        (index,) = behind
        echo(f"The alias {target} stands for {index}.", err=True)
    external = False
    try:
        meta = engine.index_meta(index)
        fields, external = meta.text_fields, meta.model.external
    except IndexNotFoundError:  # nothing of that ingest could be indexed
        if settings.model is None:
            raise click.UsageError(
                f"There is no index {index}, which would say what encodes; give --model."
            ) from None
        fields = dead_letter_fields(letters)
    encoder = load_encoder(engine, index, settings.model, running, chosen, vectors=external)
    source = find_source(f"dead:{letters}")
    with showing(source, encoder, engine, index, how, latest) as update:
        report = ingest_documents(
            read_source(source, DeadLetterReader(text_fields=fields)),
            engine=engine,
            index=index,
            encoder=encoder,
            dead_letters=again,
            text_fields=fields,
            options=options,
            on_progress=update,
            target=target,
        )
        update(report)
    finish(report, as_json)


def _only_index(letters: Path, counts: dict[str, int]) -> str | None:
    """The one index (or alias) that all letters of a file name; ``None`` if they name none."""
    if len(counts) > 1:
        told = ", ".join(f"{name} ({count:,})" for name, count in counts.items())
        raise click.UsageError(
            f"{letters} holds letters for several indices: {told}. Split the file by its field "
            "'index' and retry each part; --index NAME sends all of them to one."
        )
    return next(iter(counts), None)
