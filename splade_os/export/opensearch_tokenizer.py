"""A query encoder for OpenSearch itself: the zip of an ML Commons model ``SPARSE_TOKENIZE``.

ML Commons reads ``tokenizer.json`` and ``idf.json`` and encodes a query like this
(SparseTokenizerModel.java)::

    ids    = distinct(tokenizer.encode(text, add_special_tokens=True))
    token  = tokenizer.decode([id], skip_special_tokens=True)       # dropped where empty
    weight = idf.get(token, 1.0)

That is not what `IdfQueryEncoder` does, so that the tokenizer is changed until it is:

- its *decoder* turns a token into its feature name, and a token without a weight into nothing.
  (A weight of 0 would fail the whole search, and a missing one would count 1.0.)
- it adds no special tokens, so that a text is cut after as many tokens as in `IdfQueryEncoder`;
- a special token takes part where the table gives it a weight, and nowhere else;
- lower-casing, the query prompt and the space before a text are steps of its normaliser.

What remains different: ML Commons cuts every text after 512 tokens (DJL's limit), and prompt and
space do not stand before special tokens at the beginning of a query.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from tokenizers import Regex, Tokenizer, decoders

from splade_os import __version__
from splade_os.encoding.first_words import BLANKS, space_before
from splade_os.encoding.layout import read_layout
from splade_os.encoding.query import IdfQueryEncoder
from splade_os.encoding.resolve import model_hash, resolve_model
from splade_os.errors import ModelError
from splade_os.export.opensearch_package import (
    MANIFEST,
    REGISTER,
    ZIP,
    PackageManifest,
    Probe,
    QueryEncoderPackage,
    register_body,
)
from splade_os.export.token_pattern import any_of
from splade_os.statistics import TermStatistics
from splade_os.vectors import SparseBatch, Weights
from splade_os.vocabulary import FEATURE_NAMING, REPLACEMENTS

ENGINE_MAX_TOKENS = 512
"""ML Commons cuts every text after this many tokens, whatever the package says."""

MAX_WEIGHT = 64.0
"""Largest weight of a query token (Lucene's FeatureField.newLinearQuery)."""

UNUSED_WEIGHT = 1e-6
"""Written for tokens that never reach the table, for a reader of ``idf.json`` other than ML
Commons: an entry that is missing would count 1.0 there."""

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same content gives the same zip, and the same hash


def export_opensearch_tokenizer(
    model: str,
    out: str | Path,
    *,
    name: str | None = None,
    statistics: TermStatistics | None = None,
    leading_space: bool | None = None,
    origin: str | None = None,
) -> QueryEncoderPackage:
    """Write a package that `splade-os deploy` puts into a cluster.

    Args:
        model: ``starter``, a folder, or a name on the hub; only a local folder is read.
        out: new folder: ``query-encoder.zip``, ``register.json`` (body of
            ``POST /_plugins/_ml/models/_register_meta``), ``manifest.json``.
        name: of the query encoder in the cluster; default that of the model's folder.
        statistics: of the corpus to be searched; ``None`` takes the table of the model.
        leading_space: see `IdfQueryEncoder.load`.
        origin: for people, where the statistics come from.

    Raises:
        ModelError: ``out`` exists; the model has no table and no statistics are given; a weight
            is above 64; or the tokenizer cannot be made to do what `IdfQueryEncoder` does.
    """
    target = Path(out)
    if target.exists():
        raise ModelError(f"{target} exists already.", hint="Name a new folder with --out.")
    found = resolve_model(model)
    encoder = IdfQueryEncoder.load(str(found.folder), statistics, leading_space=leading_space)
    tokenizer = _engine_tokenizer(encoder)
    table = _table(encoder)
    _check(encoder, tokenizer, table)
    files = {"tokenizer.json": tokenizer.to_str().encode(), "idf.json": orjson.dumps(table)}
    archive = _zip(files)
    layout = read_layout(found.folder)
    probe = _probe(encoder)
    manifest = PackageManifest(
        splade_os=__version__,
        name=name or _safe_name(found.folder.name if found.name != "starter" else found.name),
        model=found.name,
        content_hash=model_hash(layout.document),
        feature_naming=FEATURE_NAMING,
        idf_origin=origin or ("model" if statistics is None else "statistics"),
        idf_documents=None if statistics is None else statistics.documents,
        vocabulary_size=len(encoder.vocabulary),
        max_tokens=_max_tokens(encoder),
        sha256=hashlib.sha256(archive).hexdigest(),
        bytes=len(archive),
        probe=probe,
    )
    unfinished = target.with_name(f".{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        (unfinished / ZIP).write_bytes(archive)
        (unfinished / REGISTER).write_bytes(_pretty(register_body(manifest)))
        (unfinished / MANIFEST).write_bytes(_pretty(manifest.model_dump(mode="json")))
        unfinished.rename(target)
    except OSError as error:
        raise ModelError(f"{target} cannot be written: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return QueryEncoderPackage(target, manifest)


def engine_terms(tokenizer: Tokenizer, table: Mapping[str, float], text: str) -> dict[str, float]:
    """What ML Commons makes of a text (see above): term → weight."""
    ids = dict.fromkeys(tokenizer.encode(text).ids)
    tokens = (tokenizer.decode([i], skip_special_tokens=True) for i in ids)
    return {token: table.get(token, 1.0) for token in tokens if token}


def _engine_tokenizer(encoder: IdfQueryEncoder) -> Tokenizer:
    vocabulary, weights = encoder.vocabulary, _weights(encoder)
    content = encoder.tokenizer.to_json()
    content["post_processor"] = content["padding"] = None
    for token in content["added_tokens"]:
        token["special"] = bool(weights[token["id"]] <= 0)
    steps: list[dict[str, Any]] = []
    if encoder.leading_space:
        blanks = {"Regex": f"\\A[{BLANKS}]+"}
        steps.append({"type": "Replace", "pattern": blanks, "content": ""})
        steps.append({"type": "Prepend", "prepend": space_before(encoder.prompt)})
    elif encoder.prompt:
        steps.append({"type": "Prepend", "prepend": encoder.prompt})
    if steps:
        if content["normalizer"] is not None:
            steps.append(content["normalizer"])
        content["normalizer"] = {"type": "Sequence", "normalizers": steps}
    tokenizer = Tokenizer.from_str(orjson.dumps(content).decode())
    tokenizer.enable_truncation(_max_tokens(encoder))
    unused = [t for t, w in zip(vocabulary.tokens, weights, strict=False) if w <= 0]
    renaming = [decoders.Replace(character, escaped) for character, escaped in REPLACEMENTS]
    if unused:
        renaming.insert(0, decoders.Replace(Regex(any_of(unused)), ""))
    tokenizer.decoder = decoders.Sequence(renaming)
    return tokenizer


def _weights(encoder: IdfQueryEncoder) -> Weights:
    """Of the table; padding that somebody writes counts for nothing (`TextTokenizer`)."""
    weights = encoder.table.weights.copy()
    if encoder.tokenizer.pad_id is not None:
        weights[encoder.tokenizer.pad_id] = 0
    return weights


def _max_tokens(encoder: IdfQueryEncoder) -> int:
    truncation = encoder.tokenizer.to_json()["truncation"]
    own = truncation["max_length"] if truncation else ENGINE_MAX_TOKENS
    return int(min(own, ENGINE_MAX_TOKENS))


def _table(encoder: IdfQueryEncoder) -> dict[str, float]:
    """Feature name → weight, of every token. As doubles: Java reads them as such and rounds
    them to the very float32 that they came from."""
    vocabulary = encoder.vocabulary
    weights = _weights(encoder)[: len(vocabulary)]
    heaviest = int(weights.argmax())
    if weights[heaviest] > MAX_WEIGHT:
        raise ModelError(
            f"The token {vocabulary.tokens[heaviest]!r} weighs {weights[heaviest]:.1f}; "
            f"neural_sparse takes query weights up to {MAX_WEIGHT:.0f}.",
            hint="Divide the whole table by a constant: rankings stay as they are.",
        )
    if weights[heaviest] <= 0:
        raise ModelError("No token of the table has a weight: no query would find anything.")
    written = np.where(weights > 0, weights, UNUSED_WEIGHT).astype(float).tolist()
    return dict(zip(vocabulary.features, written, strict=True))


def _check(encoder: IdfQueryEncoder, tokenizer: Tokenizer, table: Mapping[str, float]) -> None:
    """Every token, and a few hundred texts, through both."""
    vocabulary, weights = encoder.vocabulary, _weights(encoder)
    reloaded = Tokenizer.from_str(tokenizer.to_str())
    known = set(reloaded.get_vocab().values())
    ids = [i for i in range(len(vocabulary)) if i in known]
    decoded = reloaded.decode_batch([[i] for i in ids], skip_special_tokens=True)
    for i, text in zip(ids, decoded, strict=True):
        if text != (vocabulary.features[i] if weights[i] > 0 else ""):
            raise ModelError(
                f"The token {vocabulary.tokens[i]!r} would be the feature {text!r} in the engine, "
                f"but is {vocabulary.features[i]!r} in the index: not exported."
            )
    texts = _texts(encoder)
    for text, (features, values) in zip(texts, _rows(encoder, texts), strict=True):
        expected = dict(zip(features, values, strict=True))
        if engine_terms(reloaded, table, text) != expected:
            raise ModelError(f"The engine would encode {text!r} differently: not exported.")


def _texts(encoder: IdfQueryEncoder) -> list[str]:
    random = np.random.default_rng(0)
    tokens = np.array(encoder.vocabulary.tokens, object)
    marks = ["", " ", ".", "...", "[CLS]", "[UNK]", "日本", "🙃", "É", "\u0301", "\t", "a.b"]
    texts = ["", *marks]
    for count in np.geomspace(1, 2 * _max_tokens(encoder), 200).astype(int):
        pieces = random.choice(tokens, count).tolist() + random.choice(marks, 2).tolist()
        texts.append(random.choice([" ", ""]).join(map(str, random.permutation(pieces))))
    content = encoder.tokenizer.to_json()
    if (
        encoder.prompt or encoder.leading_space
    ):  # the normaliser does not see an empty text, nor a special token
        added = [token["content"] for token in content["added_tokens"]]
        texts = [t for t in texts if t.strip() and not any(token in t for token in added)]
    if content["truncation"] is None:  # what is longer, the engine cuts
        lengths = [len(ids) for ids in encoder.tokenize(texts)]
        texts = [t for t, n in zip(texts, lengths, strict=True) if n <= ENGINE_MAX_TOKENS]
    return texts


def _rows(encoder: IdfQueryEncoder, texts: Sequence[str]) -> list[tuple[list[str], list[float]]]:
    batch: SparseBatch = encoder.encode(texts)
    features = encoder.vocabulary.features
    return [([features[i] for i in ids.tolist()], values.tolist()) for ids, values in batch]


def _probe(encoder: IdfQueryEncoder) -> Probe:
    """A text whose terms a deployment is tested with: words of many weights, and a dot."""
    vocabulary, weights = encoder.vocabulary, _weights(encoder)
    usable = [i for i in np.flatnonzero(weights[: len(vocabulary)] > 0).tolist()
              if vocabulary.tokens[i].isalpha()]  # fmt: skip
    words = [vocabulary.tokens[i] for i in usable[:: max(1, len(usable) // 12)][:12]]
    text = " ".join([*words, "... The end."])
    [(features, values)] = _rows(encoder, [text])
    return Probe(text=text, terms=dict(zip(features, values, strict=True)))


def _zip(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return buffer.getvalue()


def _pretty(content: Any) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _safe_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name.lower()) or "model"
