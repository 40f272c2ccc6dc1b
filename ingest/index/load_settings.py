"""How an index is while it is loaded: no refresh, no replicas, written through an alias of its own;
put back in all cases."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from splade_os.engines import Engine, LoadState
from splade_os.errors import IndexNotFoundError, IngestError, SpladeError, SpladeWarning
from splade_os.ingest.index.load_state import change, now

Call = Callable[[Callable[[], Any]], Any]
_LOADING = {"refresh_interval": "-1", "number_of_replicas": "0", "auto_expand_replicas": "false"}


@contextmanager
def loading(
    engine: Engine,
    index: str,
    job: str,
    call: Call = lambda work: work(),
    *,
    settings: bool = True,
) -> Iterator[str | None]:
    """Within it the index says that it is loaded, and is set for loading. Yields the alias that
    guards it (`Engine.guard`), which the last load takes away.

    The settings of before stand in the index. Of several loads the last one puts them back. An
    index that somebody else has set so already is left alone, for them to put back.

    Args:
        job: which load; one that was killed and is begun again, on whatever machine, is the same.
        call: sends a request, again if need be.
        settings: ``False`` = only say it.

    Raises:
        IngestError: the settings could not be put back; says how.
    """
    before: dict[str, Any] | None = None
    found = call(lambda: engine.settings(index)) if settings else {}
    if found and found.get("refresh_interval") != _LOADING["refresh_interval"]:
        before = {name: found.get(name) for name in _LOADING}
    guard = call(lambda: engine.guard(index))
    own = None if guard == index else guard
    began = now()

    def begin(state: LoadState) -> LoadState:
        told: dict[str, Any] = {"loading": {**state.loading, job: began}}
        told |= {"settings": state.settings or before, "guard": own or state.guard}
        return state.model_copy(update=told)

    call(lambda: change(engine, index, begin))
    if before is not None:
        call(lambda: engine.update_settings(index, _LOADING))
    try:
        yield guard
    except BaseException as ended:
        _end_once(engine, index, job, ended)
        raise
    _end(engine, index, job, call)


def _end_once(engine: Engine, index: str, job: str, ended: BaseException) -> None:
    """After a load that broke off: without retries, and what ended it stays the error."""
    try:
        _end(engine, index, job, lambda work: work())
    except IndexNotFoundError:  # nothing to put back
        pass
    except SpladeError as error:
        if isinstance(ended, SpladeError):
            ended.hint = "\n".join(filter(None, (ended.hint, str(error))))
        else:
            ended.add_note(str(error))


def _end(engine: Engine, index: str, job: str, call: Call) -> None:
    def end(state: LoadState) -> LoadState:
        others = {name: begun for name, begun in state.loading.items() if name != job}
        return state.model_copy(update={"loading": others})

    state = call(lambda: change(engine, index, end))
    if not state.loading:
        _put_back(engine, index, state, call)
    elif state.settings is not None:
        begun = ", ".join(sorted(set(state.loading.values())))
        warnings.warn(
            f"{index} stays set for loading (no refresh, no replicas): another load, begun "
            f"{begun}, has not ended. It will put the settings back; if it was killed: splade-os "
            f"index restore-settings --index {index}",
            SpladeWarning,
            stacklevel=4,
        )


def _put_back(engine: Engine, index: str, state: LoadState, call: Call) -> None:
    """The settings as they were, and the alias away that loads wrote through."""
    guard, before = state.guard, state.settings
    if guard is not None:
        call(lambda: engine.remove_alias(guard, index))
    if before is not None:
        try:
            call(lambda: engine.update_settings(index, before))
        except SpladeError as error:
            raise IngestError(
                f"The settings of {index} from before the load could not be put back: {error}",
                hint=f"When the cluster is well: splade-os index restore-settings --index {index}",
            ) from error
    if guard is not None or before is not None:
        nothing: dict[str, Any] = {"settings": None, "guard": None}
        call(lambda: change(engine, index, lambda s: s.model_copy(update=nothing)))


def restore_settings(engine: Engine, index: str) -> bool:
    """Put back what loads have changed that were killed, on whatever machine.

    Returns:
        Whether there was anything to put back.

    Raises:
        IngestError: the cluster refuses, or does not answer; nothing is forgotten. Or the index
            is set for loading, and says nothing of how it was before.
    """
    state = engine.load_state(index) or LoadState()
    _put_back(engine, index, state, lambda work: work())
    unrefreshed = _LOADING["refresh_interval"]
    if state.settings is None and engine.settings(index).get("refresh_interval") == unrefreshed:
        raise IngestError(
            f"{index} has the refresh_interval -1, and does not say how it was before.",
            hint=f'Set it yourself: PUT {index}/_settings {{"index": {{"refresh_interval": '
            'null, "number_of_replicas": 1}}',
        )
    with suppress(IndexNotFoundError):
        change(engine, index, lambda s: s.model_copy(update={"loading": {}}))
    return state.settings is not None
