"""The folder that `splade-os export --to opensearch-tokenizer` writes and `deploy` reads."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from splade_os.engines.opensearch_ml.query_pipeline import describe
from splade_os.errors import ModelError

ZIP = "query-encoder.zip"
REGISTER = "register.json"
MANIFEST = "manifest.json"
CHUNK_BYTES = 10_000_000
"""Largest part of a model that ML Commons takes in one request."""


class Probe(BaseModel):
    """A text, and the terms that the query encoder makes of it (feature name → weight)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    terms: dict[str, float]


class PackageManifest(BaseModel):
    """What a package is.

    Attributes:
        format: version of this record.
        splade_os: version of the package that wrote it.
        name: of the query encoder in a cluster.
        model: name of the model whose tokenizer it has.
        content_hash: of the model's document side; that of an index it may search.
        feature_naming: rule from token to feature name.
        idf_origin: where the weights come from: ``model``, or ``index NAME``.
        idf_documents: number of documents that they were counted in, if any.
        vocabulary_size: number of tokens.
        max_tokens: a query is cut after so many.
        sha256, bytes: of the zip.
        probe: for the test after a deployment.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    splade_os: str
    name: str
    model: str
    content_hash: str
    feature_naming: str
    idf_origin: str
    idf_documents: int | None = None
    vocabulary_size: int
    max_tokens: int
    sha256: str
    bytes: int
    probe: Probe


@dataclass(frozen=True)
class QueryEncoderPackage:
    """A package on disk."""

    folder: Path
    manifest: PackageManifest

    @classmethod
    def read(cls, folder: str | Path) -> QueryEncoderPackage:
        """Open a package.

        Raises:
            ModelError: it is none, or a file is missing, damaged or of another export.
        """
        root = Path(folder)
        file = root / MANIFEST
        try:
            manifest = PackageManifest.model_validate_json(file.read_bytes())
            archive = (root / ZIP).read_bytes()
        except OSError as error:
            raise ModelError(
                f"{root} is no package of a query encoder: {error}",
                hint="Make one: splade-os export MODEL --to opensearch-tokenizer --out FOLDER.",
            ) from None
        except ValidationError as error:
            wrong = error.errors()[0]
            raise ModelError(
                f"{file} is damaged or of a newer version: {wrong['loc']}: {wrong['msg']}.",
                hint="Export it again.",
            ) from None
        if hashlib.sha256(archive).hexdigest() != manifest.sha256:
            raise ModelError(
                f"{root / ZIP} is not the file that {file} describes: its SHA-256 differs.",
                hint="Export it again.",
            )
        return cls(root, manifest)

    def chunks(self) -> list[bytes]:
        """The zip in the parts that ML Commons takes."""
        archive = (self.folder / ZIP).read_bytes()
        return [archive[i : i + CHUNK_BYTES] for i in range(0, len(archive), CHUNK_BYTES)]


def register_body(manifest: PackageManifest) -> dict[str, Any]:
    """The body of ``POST /_plugins/_ml/models/_register_meta``."""
    return {
        "name": manifest.name,
        "description": description(manifest),
        "function_name": "SPARSE_TOKENIZE",
        "model_format": "TORCH_SCRIPT",  # required, although there is no such model in it
        "model_content_hash_value": manifest.sha256,
        "model_content_size_in_bytes": manifest.bytes,
        "total_chunks": -(-manifest.bytes // CHUNK_BYTES),
    }


def description(manifest: PackageManifest) -> str:
    """What a cluster remembers about it."""
    return describe(
        {
            "model": Path(manifest.model).name,  # of a folder, not where it lies
            "content": manifest.content_hash,
            "features": manifest.feature_naming,
            "idf": manifest.idf_origin,
            "documents": str(manifest.idf_documents or 0),
        }
    )
