"""Our vectors against the untouched model, sentence-transformers, and other precisions."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from splade_os.encoding.document import DocumentEncoder
from splade_os.encoding.layout import ModelLayout, StaticPart
from splade_os.encoding.query import IdfQueryEncoder
from splade_os.encoding.resolve import FoundModel
from splade_os.errors import EncodingError, ModelError
from splade_os.identity import EncodingOptions
from splade_os.model_check.report import CheckRow
from splade_os.model_check.texts import LONG, TEXTS
from splade_os.model_check.tokenizers import Add

TOLERANCE = 1e-4
"""Largest difference of a weight, of the largest weight; fp32 sums in another order."""
ROUNDED_MEAN_ERROR = 0.08
"""Mean relative error above which a precision costs quality (`splade_os.encoding.choice`)."""
_PLAIN: dict[str, Any] = {
    "lexical_weight": 0.0,
    "min_weight": 0.0,
    "max_ratio": 0.0,
    "alpha_mass": 1.0,
    "long_texts": "truncate",
    "fold_idf": False,
}
"""What ``splade_os.json`` may add, which sentence-transformers does not know."""
Dense = npt.NDArray[np.float32]


def check_encoding(
    found: FoundModel, layout: ModelLayout, options: EncodingOptions, add: Add
) -> bool:
    """Load and run a model; whether it does run."""
    stated = {**_PLAIN, "activation": options.activation, "pooling": options.pooling}
    texts = [text for text in TEXTS if text]
    encoder: DocumentEncoder | None = None
    ours: Dense | None = None

    def load() -> CheckRow:
        nonlocal encoder, ours
        encoder = DocumentEncoder.load(
            str(found.folder), device="cpu", dtype="float32", backend="torch", **stated
        )
        ours = encoder.encode(texts).to_dense()
        active = (ours > 0).sum(1).mean()
        return CheckRow("runs", "ok", f"{active:.0f} terms of a text on average")

    if add("runs", load).status != "ok":
        return False
    assert encoder is not None and ours is not None
    running, vectors = encoder, ours
    add("head", lambda: _head(running, layout, options, texts, vectors))
    add("padding", lambda: _padding(running, texts, vectors))
    add("maximum length", lambda: _length(running, layout))
    add("sentence-transformers", lambda: _oracle(found, layout, running, texts, vectors, stated))
    add("bfloat16", lambda: _rounded(found, "bfloat16", texts, vectors, stated))
    add("float16", lambda: _rounded(found, "float16", texts, vectors, stated))
    return True


def _head(
    encoder: DocumentEncoder,
    layout: ModelLayout,
    options: EncodingOptions,
    texts: Sequence[str],
    ours: Dense,
) -> CheckRow:
    """SPLADE by its definition, from the logits of each text alone."""
    import torch

    from splade_os.encoding.transformer import load_masked_lm

    part = layout.document.stated(options.over(layout.options))
    model = load_masked_lm(part)
    rows = []
    with torch.no_grad():
        for ids in map(encoder.seen, encoder.tokenize(texts)):
            given = torch.from_numpy(ids.astype(np.int64))[None]
            logits = model(input_ids=given, attention_mask=torch.ones_like(given)).logits[0]
            weights = torch.log1p(torch.relu(logits))  # (L, V)
            if part.activation == "log1p_relu":
                weights = torch.log1p(weights)
            rows.append((weights.amax(0) if part.pooling == "max" else weights.sum(0)).numpy())
    expected = np.stack(rows).astype(np.float32)
    if part.steps:
        return CheckRow("head", "skipped", "vectors go on behind the pooling")
    most = encoder.identity.max_active_dims
    if most is not None:
        return CheckRow("head", "skipped", f"only the {most} heaviest terms are kept")
    return _compared("head", ours, expected, "the untouched model's logits")


def _padding(encoder: DocumentEncoder, texts: Sequence[str], ours: Dense) -> CheckRow:
    alone = np.concatenate([encoder.encode([text]).to_dense() for text in texts])
    return _compared("padding", ours, alone, "each text alone")


def _length(encoder: DocumentEncoder, layout: ModelLayout) -> CheckRow:
    length = encoder.identity.max_length
    (ids,) = encoder.tokenize([LONG * length])
    encoder.encode_tokens([ids])
    says = f"{length:,} tokens"
    limit = getattr(layout.query, "max_length", None)
    if layout.query is not layout.document:
        says += f"; of queries {'not limited' if limit is None else f'{limit:,}'}"
    return CheckRow("maximum length", "ok", f"{says}; a text of as many runs")


def _oracle(
    found: FoundModel,
    layout: ModelLayout,
    encoder: DocumentEncoder,
    texts: Sequence[str],
    ours: Dense,
    stated: dict[str, Any],
) -> CheckRow:
    name = "sentence-transformers"
    if find_spec("sentence_transformers") is None:
        return CheckRow(name, "skipped", "it is not installed: pip install sentence-transformers")
    if layout.document.activation is None:
        return CheckRow(name, "skipped", "a plain checkpoint, which it would not know to pool")
    oracle = _sentence_transformer(found)
    documents = oracle.encode_document(list(texts), convert_to_tensor=True).to_dense().numpy()
    row = _compared(name, ours, documents, "its documents")
    if row.status != "ok":
        return row
    # sentence-transformers takes a literal padding token of a query for padding
    texts = [text for text in texts if "pad" not in text.lower()]
    if isinstance(layout.query, StaticPart):
        queries = IdfQueryEncoder.load(str(found.folder)).encode(texts).to_dense()
    else:
        side = DocumentEncoder.load(
            str(found.folder), device="cpu", dtype="float32", backend="torch", side="query",
            activation=stated["activation"], pooling=stated["pooling"],
        )  # fmt: skip
        queries = side.encode(texts).to_dense()
    expected = oracle.encode_query(list(texts), convert_to_tensor=True).to_dense().numpy()
    queries_row = _compared(name, queries, expected, "its queries")
    if queries_row.status != "ok":
        return queries_row
    return CheckRow(name, "ok", f"documents and queries equal, in float32 ({row.detail})")


def _sentence_transformer(found: FoundModel) -> Any:
    import torch
    from sentence_transformers import SparseEncoder

    try:
        return SparseEncoder(
            str(found.folder),
            device="cpu",
            local_files_only=True,
            model_kwargs={"dtype": torch.float32},
        )
    except Exception as error:  # only sentence-transformers' code runs here
        raise ModelError(
            f"sentence-transformers does not load it: {type(error).__name__}: {error}",
            hint="splade-os export --to sentence-transformers writes a folder that it loads.",
        ) from error


def _rounded(
    found: FoundModel,
    precision: Literal["bfloat16", "float16"],
    texts: Sequence[str],
    ours: Dense,
    stated: dict[str, Any],
) -> CheckRow:
    encoder = DocumentEncoder.load(
        str(found.folder), device="cpu", dtype=precision, backend="torch", **stated
    )
    hint = "Encode with --dtype float32."
    try:
        error = mean_error(encoder.encode(texts).to_dense(), ours)
    except EncodingError:  # float16 ends at 65,504
        return CheckRow(precision, "refused", "weights or states are too large for it", hint)
    says = f"mean error of a weight {error:.1%}"
    if error <= ROUNDED_MEAN_ERROR:
        return CheckRow(precision, "ok", says)
    says += f", more than {ROUNDED_MEAN_ERROR:.0%}: rankings would change"
    return CheckRow(precision, "refused", says, hint)


def mean_error(got: Dense, exact: Dense) -> float:
    """Mean absolute difference over the active weights, relative to their mean."""
    active = exact > 0
    if not active.any():
        return 0.0
    return float(np.abs(got - exact)[active].mean() / exact[active].mean())


def _compared(name: str, ours: Dense, expected: Dense, what: str) -> CheckRow:
    if ours.shape != expected.shape:
        width = min(ours.shape[1], expected.shape[1])  # a table may know fewer tokens
        if ours[:, width:].any() or expected[:, width:].any():
            return CheckRow(name, "fails", f"{ours.shape[1]} dimensions, not {expected.shape[1]}")
        ours, expected = ours[:, :width], expected[:, :width]
    difference = float(np.abs(ours - expected).max())
    if difference > TOLERANCE * max(1.0, float(expected.max())):
        row = int(np.abs(ours - expected).max(1).argmax())
        return CheckRow(name, "fails", f"text {row}: differs from {what} by {difference:.2g}")
    return CheckRow(name, "ok", f"largest difference from {what} {difference:.1g}")
