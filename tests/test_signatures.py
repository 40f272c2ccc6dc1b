"""Keywords of public functions are typed: an editor completes them, mypy refuses a mistyped one."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Any, get_type_hints

import pytest

import splade_os
from splade_os.engines.connection.keywords import ConnectionKeywords
from splade_os.engines.connection.options import client_options
from splade_os.identity import EncodingKeywords, EncodingOptions
from splade_os.search.options import SearchKeywords, SearchOptions
from splade_os.settings import Settings


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public function, and every public method of a public class."""
    from splade_os.engines.rest.cluster import AsyncClusterEngine, ClusterEngine
    from splade_os.export import onnx, sentence_transformers, torchscript

    things: list[Any] = [getattr(splade_os, name) for name in splade_os.__all__]
    things += [ClusterEngine, AsyncClusterEngine, onnx.export_onnx, torchscript.export_torchscript]
    things += [sentence_transformers.export_sentence_transformers]
    for thing in things:
        if inspect.isclass(thing):
            for name, method in inspect.getmembers(thing, callable):
                # what pydantic or Exception brings is not ours
                ours = getattr(method, "__module__", "") or ""
                if ours.startswith("splade_os") and (
                    not name.startswith("_") or name == "__init__"
                ):
                    yield f"{thing.__name__}.{name}", method
        elif callable(thing):
            yield thing.__name__, thing


@pytest.mark.parametrize(
    ("name", "function"), [pytest.param(*each, id=each[0]) for each in public()]
)
def test_no_keyword_is_any(name: str, function: Callable[..., Any]) -> None:
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is not parameter.VAR_KEYWORD:
            continue
        if "NamedTuple" in repr(function) or parameter.name in ("kw", "data"):
            continue
        text = str(parameter.annotation)
        assert text.startswith("Unpack["), f"{name}(**{parameter.name}: {text})"
        hint = get_type_hints(function)[parameter.name]
        (keywords,) = typing.get_args(hint)
        assert typing.is_typeddict(keywords)


def test_the_keywords_are_the_options() -> None:
    options = set(EncodingOptions.model_fields)
    assert set(get_type_hints(EncodingKeywords)) == options
    assert set(get_type_hints(SearchKeywords)) == set(SearchOptions.__dataclass_fields__) - {
        "k",
        "mode",
    }
    connection = set(get_type_hints(ConnectionKeywords))
    assert connection == set(Settings.model_fields) - {"url", "index", "model"}
    known = set(inspect.signature(client_options).parameters) - {"url", "asynchronous"}
    assert known | {"compress", "statistics_index", "cloud_id"} == connection
