"""Documents that were encoded before, as rows of Arrow: what they are read as, and what says by
what model and of which fields their vectors are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from splade_os.encoding import DocumentEncoder
from splade_os.errors import InputError, ModelError, ModelMismatchError, SettingsError
from splade_os.identity import ModelIdentity, short_hash
from splade_os.ingest.documents.records import (
    Item,
    Record,
    RecordReader,
    Rejected,
    parse_json,
    stored_text,
)
from splade_os.vectors import Ids, Weights


class EncodingRecord(BaseModel):
    """What the rows of a table were encoded with; the metadata ``splade_os`` of its Arrow schema.

    Attributes:
        format: version of the layout.
        splade_os: version of the package that wrote it.
        text_fields: that were encoded, by the names under which they are stored.
        model: what encoded them, with everything that was chosen.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    splade_os: str
    text_fields: tuple[str, ...]
    model: ModelIdentity


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """A document with its vector.

    Attributes:
        id: document id.
        document: the stored fields, as a JSON object.
        ids, weights: the vector: views of the column.
        tokens: token ids of its text as the term statistics count them; ``None`` = no text.
        hashes: of text and document (`DocumentStamp`): its mark, but for run and position.
        record: of its table.
    """

    id: str
    document: bytes
    ids: Ids
    weights: Weights
    tokens: Ids | None
    hashes: str
    record: EncodingRecord


class EncodedReader(RecordReader):
    """Makes records of encoded rows.

    Args:
        encoding: what all rows must have been encoded with.
        tokens: of every id, for dead letters.
    """

    # no fields of the dataclass: a job's checkpoint and dead letters say only how records are made
    _encoding: ClassVar[EncodingRecord]
    _tokens: ClassVar[Sequence[str]]

    def __init__(self, encoding: EncodingRecord, tokens: Sequence[str]) -> None:
        super().__init__(encoding.text_fields)
        self.__dict__.update(_encoding=encoding, _tokens=tokens)

    def read(self, item: Item, position: int) -> Record | Rejected:
        """Raises InputError: the row was encoded otherwise than the first one of its source."""
        row = item.value
        if not isinstance(row, EncodedRow):
            # a damaged row says so when it is decoded
            return super().read(item, position)
        if row.record is not self._encoding and row.record != self._encoding:
            raise InputError(
                f"{item.where} and what follows was encoded otherwise than the first rows of the "
                "source: another model, other options, or other fields.",
                hint="Load files of one encoding at a time, each into an index of its own.",
            )
        plain = RecordReader(self.text_fields, vectors=True)
        original = Item(item.where, item.raw, decode=lambda _: self._with_vector(row))
        try:
            source = parse_json(row.document)
        except ValueError as error:
            return Rejected(position, item.where, f"document: {error}", item, row.id, plain)
        if not isinstance(source, dict):
            reason = f"document: not a JSON object but {type(source).__name__}"
            return Rejected(position, item.where, reason, item, row.id, plain)
        return Record(
            position=position,
            where=item.where,
            id=row.id,
            text=stored_text(source, self.text_fields),
            source=source,
            item=original,
            reader=plain,
            encoded=row,
        )

    def _with_vector(self, row: EncodedRow) -> dict[str, Any]:
        """As `splade-os retry` reads it again."""
        weights = [float(f"{weight:.9g}") for weight in row.weights.tolist()]
        vector = dict(zip((self._tokens[i] for i in row.ids.tolist()), weights, strict=True))
        return {**parse_json(row.document), "_id": row.id, "vector": vector}


def encoder_of(record: EncodingRecord, model: str | None = None) -> DocumentEncoder:
    """Vocabulary and identity of the model that encoded a table; it is not loaded, and needs no
    weights.

    Args:
        model: folder or name where it lies here; default as the table says.

    Raises:
        ModelError: it is not to be had here.
        ModelMismatchError: what lies there is another one.
    """
    name = model or record.model.name
    try:
        encoder = DocumentEncoder.load(
            name, backend="none", dtype=None, **record.model.options().model_dump()
        )
    except ModelError as error:
        raise ModelError(
            f"The vectors were made by the model {record.model.name} (content hash "
            f"{short_hash(record.model.content_hash)}), whose vocabulary is needed to load them. "
            f"{error.message}",
            hint="Name the folder where it lies on this machine (a copy without its weights is "
            "enough): --model FOLDER",
        ) from error
    difference = record.model.difference(encoder.identity)
    if difference:
        raise ModelMismatchError(
            f"The vectors were made by {record.model.name}, and {name} is not that model: "
            f"{difference}.",
            hint="Name its folder: --model FOLDER; or encode again.",
        )
    encoder.identity, encoder.left_open = record.model, frozenset()
    return encoder


def require_same_encoding(
    reader: RecordReader, record: EncodingRecord, encoder: DocumentEncoder
) -> EncodedReader:
    """What makes records of the rows of a table.

    Args:
        reader: as the user wants them read.
        encoder: of the index.

    Raises:
        ModelMismatchError: another model encoded the table.
        SettingsError: the reader asks for what can only be chosen when documents are encoded.
    """
    difference = record.model.difference(encoder.identity)
    if difference:
        raise ModelMismatchError(
            f"The vectors were made by {record.model.name}, and {encoder.identity.name} is not "
            f"that model: {difference}.",
            hint="Leave --model out: the files say what made them. Or encode again.",
        )
    chosen = [name for name in ("keep", "drop", "rename", "id_field") if getattr(reader, name)]
    if chosen or reader.vectors:
        names = ", ".join("--" + name.removesuffix("_field") for name in chosen or ["vectors"])
        raise SettingsError(
            f"These documents are encoded already, with their ids and fields: {names} has no use "
            "for them.",
            hint="Give it to splade-os encode.",
        )
    return EncodedReader(record, encoder.vocabulary.tokens)
