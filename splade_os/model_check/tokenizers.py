"""Our tokenizers against those that transformers builds of the same folder."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from splade_os.encoding.layout import ModelLayout, SpladePart, StaticPart
from splade_os.encoding.tokenization import TextTokenizer
from splade_os.errors import ModelError
from splade_os.model_check.report import CheckRow, Status
from splade_os.model_check.texts import LONG, TEXTS


class Add(Protocol):
    """Runs an attempt, and notes what comes of it; ``wrong``: status of an error of ours."""

    def __call__(
        self, name: str, attempt: Callable[[], CheckRow], wrong: Status = "fails"
    ) -> CheckRow: ...


def check_tokenizers(layout: ModelLayout, add: Add) -> None:
    """The document side's, and the query side's where it is another one."""
    add("tokenizer", lambda: _compare("tokenizer", layout.document))
    if layout.query is not layout.document:
        add("query tokenizer", lambda: _compare("query tokenizer", layout.query))


def _compare(name: str, part: SpladePart | StaticPart) -> CheckRow:
    special = isinstance(part, SpladePart)
    tokenizer = TextTokenizer(
        part.folder, max_length=part.max_length, lowercase=part.lowercase, special_tokens=special
    )
    if find_spec("transformers") is None:
        return CheckRow(name, "skipped", "transformers is not installed: nothing to compare with")
    oracle = _transformers_tokenizer(part.folder)
    texts = [*TEXTS, LONG * ((part.max_length or 512) // 8)]
    for text, ids in zip(texts, tokenizer(texts), strict=True):
        expected = oracle(
            text.lower() if part.lowercase else text,
            add_special_tokens=special,
            truncation=part.max_length is not None,
            max_length=part.max_length,
        )["input_ids"]
        if not special:  # padding counts for nothing, a literal one neither
            expected = [i for i in expected if i != tokenizer.pad_id]
        if list(expected) != ids.tolist():
            return CheckRow(
                name,
                "fails",
                f"transformers cuts {text[:60]!r} otherwise: {expected[:12]} against "
                f"{ids.tolist()[:12]}",
                "Save the model again with transformers, so that its tokenizer files agree.",
            )
    return CheckRow(name, "ok", f"as transformers cuts {len(texts)} texts")


def _transformers_tokenizer(folder: Path) -> Callable[..., dict[str, list[int]]]:
    from transformers import AutoTokenizer
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        tokenizer: Callable[..., dict[str, list[int]]] = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # only transformers' code runs here
        raise ModelError(
            f"transformers builds no tokenizer of {folder}: {type(error).__name__}: {error}",
            hint="Download or save the model again.",
        ) from error
    finally:
        logging.set_verbosity(verbosity)
    return tokenizer
