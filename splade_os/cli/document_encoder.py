"""The document encoder of a command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from splade_os.cli.steps import busy
from splade_os.cli.terminal import echo

if TYPE_CHECKING:
    from splade_os.encoding import DocumentEncoder
    from splade_os.engines import Engine
    from splade_os.identity import EncodingOptions


def load_encoder(
    engine: Engine,
    index: str,
    model: str | None,
    running: dict[str, Any],
    chosen: EncodingOptions,
    *,
    vectors: bool = False,
    anew: bool = False,
) -> DocumentEncoder:
    """The encoder that the user names, else the one that the index names.

    Args:
        vectors: documents bring their vectors: where neither names a model, none is assumed.
        anew: for a new index in the place of this one.
    """
    from splade_os.encoding import DocumentEncoder
    from splade_os.encoding.external import ExternalVectors
    from splade_os.encoding.resolve import resolve_recorded
    from splade_os.errors import IndexFormatError, IndexNotFoundError, ModelMismatchError
    from splade_os.settings import DEFAULT_MODEL

    try:
        of_index = engine.index_meta(index).model
        if of_index.external and model is None:
            if vectors:
                return ExternalVectors()
            raise ModelMismatchError(
                f"The vectors of the index {index} came from outside, and no model was named that "
                "made them: no text can be encoded for it.",
                hint="Bring vectors (--vectors), or ingest into a new index.",
            )
        if vectors and model is None:
            echo(
                f"The vectors are taken for those of {of_index.name}, the model of {index}.",
                err=True,
            )
        model = model or resolve_recorded(of_index, index, weights=not vectors).name
        chosen = chosen.over(of_index.options(anew=anew))
    except (IndexNotFoundError, IndexFormatError) as error:
        if isinstance(error, IndexFormatError) and not anew:
            raise
        if vectors and model is None:
            return ExternalVectors()
        model = model or DEFAULT_MODEL
    with busy(f"Loading the model {model}"):
        return DocumentEncoder.load(model, **running, **chosen.model_dump())
