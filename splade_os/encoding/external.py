"""Vectors of which nobody says what made them: documents bring them, and no model is named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from splade_os.encoding.document import DocumentEncoder
from splade_os.errors import InputError, ModelError
from splade_os.identity import EXTERNAL, ModelIdentity
from splade_os.vectors import Ids, SparseBatch
from splade_os.vocabulary import MAX_TERM_BYTES, Vocabulary, feature_name


class OpenVocabulary(Vocabulary):
    """Takes every token, and numbers it when it first comes. Of one process alone: the numbers
    are written nowhere."""

    def __init__(self) -> None:
        super().__init__(())
        self._ids = _Numbers(self)


class _Numbers(dict[str, int]):
    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self._vocabulary = vocabulary

    def __missing__(self, token: str) -> int:
        feature = feature_name(token)
        if len(feature.encode("utf-8", "replace")) > MAX_TERM_BYTES:
            raise InputError("The vector has a term that is longer than a Lucene term may be.")
        self[token] = number = len(self)
        self._vocabulary.features.append(feature)
        self._vocabulary.tokens.append(token)
        return number


class ExternalVectors(DocumentEncoder):
    """In place of an encoder, for documents that bring their vectors, of a model that is not
    named. It encodes nothing, and counts no terms."""

    def __init__(self) -> None:
        self.identity = ModelIdentity(
            name=EXTERNAL, content_hash="", activation="", pooling="", max_length=0,
            vocabulary_size=0,
        )  # fmt: skip
        self.left_open = frozenset()
        self.vocabulary = OpenVocabulary()
        self.device = self.precision = "none"
        self.backend = "none"
        self.how = "the vectors are there already, and no model is named that made them"
        self.window = 2048

    def close(self) -> None:
        """There is nothing to end."""

    def tokenize(self, texts: Sequence[str]) -> list[Ids]:
        raise _nothing()

    def tokenize_documents(self, texts: Sequence[str]) -> tuple[list[Ids], list[int]]:
        raise _nothing()

    def encode_batches(self, tokens: Sequence[Ids]) -> Iterator[tuple[list[int], SparseBatch]]:
        raise _nothing()


def _nothing() -> ModelError:
    return ModelError(
        "No model is named, so no text can be encoded.",
        hint="Bring vectors (--vectors), or name the model: --model NAME.",
    )
