"""Index settings for a big load: no refresh, no replicas; put back in all cases."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

from splade_os.engines import Engine
from splade_os.errors import IngestError, SpladeError
from splade_os.settings import private_file, state_dir

Call = Callable[[Callable[[], Any]], Any]
_LOADING = {"refresh_interval": "-1", "number_of_replicas": "0", "auto_expand_replicas": "false"}


def memory_file(engine: Engine, index: str) -> Path:
    """Where the settings from before a load are remembered while it lasts."""
    name = blake2b(f"{engine.url}\0{index}".encode(), digest_size=6).hexdigest()
    return state_dir() / "load-settings" / f"{index[:60]}-{name}.json"


@contextmanager
def loading(engine: Engine, index: str, call: Call = lambda work: work()) -> Iterator[None]:
    """Within it the index is set for loading. An index that somebody else has set so already is
    left alone, for them to put back.

    Args:
        call: sends a request, again if need be.

    Raises:
        IngestError: the settings could not be put back; says how.
    """
    file = memory_file(engine, index)
    settings = call(lambda: engine.settings(index))
    if not settings and not engine.url.startswith("http"):
        yield  # an engine without settings
        return
    mine = file.is_file()  # of a run that was killed
    if not mine and settings.get("refresh_interval") != _LOADING["refresh_interval"]:
        before = {name: settings.get(name) for name in _LOADING}
        _remember(file, {"url": engine.url, "index": index, "was": before})
        mine = True
        call(lambda: engine.update_settings(index, _LOADING))
    try:
        yield
    except BaseException as ended:
        if mine:
            _restore_once(engine, index, ended)
        raise
    if mine:
        restore_settings(engine, index, call)


def _remember(file: Path, what: dict[str, Any]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".new")
        private_file(unfinished)
        unfinished.write_bytes(orjson.dumps(what))
        os.replace(unfinished, file)  # noqa: PTH105
    except OSError as error:
        raise IngestError(
            f"The index's settings cannot be remembered in {file}: {error.strerror}.",
            hint="Free some space, name another folder with SPLADE_OS_STATE, or leave the settings "
            "alone: --load-settings off.",
        ) from error


def _restore_once(engine: Engine, index: str, ended: BaseException) -> None:
    """After a load that broke off: without retry_policy, and what ended it stays the error."""
    try:
        restore_settings(engine, index)
    except IngestError as error:
        if isinstance(ended, SpladeError):
            ended.hint = "\n".join(filter(None, (ended.hint, str(error))))
        else:
            ended.add_note(str(error))


def restore_settings(engine: Engine, index: str, call: Call = lambda work: work()) -> bool:
    """Put back what a load changed.

    Returns:
        Whether there was anything to put back.

    Raises:
        IngestError: the cluster refuses, or does not answer; nothing is forgotten.
    """
    file = memory_file(engine, index)
    try:
        before: dict[str, Any] = orjson.loads(file.read_bytes())["was"]
    except FileNotFoundError:
        return False
    try:
        call(lambda: engine.update_settings(index, before))
    except Exception as error:
        raise IngestError(
            f"The settings of {index} from before the load could not be put back: {error}",
            hint=f"When the cluster is well: splade-os index restore-settings --index {index}",
        ) from error
    file.unlink(missing_ok=True)  # a shard that ended beside this one was first
    return True
