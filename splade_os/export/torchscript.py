"""A TorchScript file, for hosts that run libtorch (ML Commons among them), with its tokenizer."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Unpack

import numpy as np
import orjson

from splade_os.encoding.backend import Backend
from splade_os.encoding.layout import StaticPart, read_layout
from splade_os.encoding.resolve import resolve_model
from splade_os.encoding.stepped import with_steps
from splade_os.encoding.tokenization import TextTokenizer
from splade_os.errors import MissingExtraError, ModelError
from splade_os.identity import CheckpointKeywords, EncodingOptions

FILE = "model.pt"
_TOLERANCE = 1e-4


def export_torchscript(model: str, out: str | Path, **options: Unpack[CheckpointKeywords]) -> float:
    """Write ``model.pt`` and ``tokenizer.json`` into a new folder.

    The module takes a dictionary of ``input_ids`` and ``attention_mask``, int64 ``(B, L)``, and
    gives one with ``output``, float32 ``(B, V)``: what opensearch-py-ml's sparse encoding models
    take and give. No lexical prior, no pruning.

    Args:
        model: ``starter``, a folder, or a name on the hub.
        out: new folder.
        options: ``activation`` and ``pooling`` of a checkpoint that does not say them.

    Returns:
        The largest difference of a weight to torch, on random texts.

    Raises:
        ModelError: ``out`` exists, or the file does not compute what torch computes.
        MissingExtraError: torch is not installed.
    """
    target = Path(out)
    if target.exists():
        raise ModelError(f"{target} exists already.", hint="Name a new folder with --out.")
    try:
        import torch
        from torch import Tensor, nn

        from splade_os.encoding.transformer import SpladeTransformer
        from splade_os.export.graph import graph_of
    except ImportError:
        raise MissingExtraError("Exporting to TorchScript", "torch") from None
    layout = read_layout(resolve_model(model).folder)
    part = layout.document.stated(EncodingOptions(**options).over(layout.options))
    if any(isinstance(step, StaticPart) for step in part.steps):
        raise ModelError(
            f"{part.folder} keeps the tokens of a text alone (SparseStaticEmbedding behind the "
            "pooling), which no TorchScript file is written for.",
            hint="Encode with splade-os: every other way runs it.",
        )
    transformer = SpladeTransformer(part, torch.device("cpu"), torch.float32)
    transformer.model.set_attn_implementation("eager")  # older libtorch has no fused one
    graph = graph_of(transformer)

    class Dictionaries(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.graph = graph

        def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
            weights = self.graph(inputs["input_ids"], inputs["attention_mask"])
            return {"output": nn.functional.normalize(weights, dim=-1) if part.steps else weights}

    tokenizer = TextTokenizer(
        part.folder, max_length=part.max_length, lowercase=part.lowercase, special_tokens=True
    )
    unfinished = target.with_name(f".{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        ids = torch.tensor([[1, 2, 3, 4], [1, 2, 0, 0]])
        example = {"input_ids": ids, "attention_mask": (ids > 0).long()}
        with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer's, about shapes that do not change here
            traced = torch.jit.trace(Dictionaries().eval(), (example,), strict=False)
            torch.jit.save(traced, str(unfinished / FILE))
        (unfinished / "tokenizer.json").write_bytes(orjson.dumps(tokenizer.to_json()))
        difference = _check(unfinished / FILE, with_steps(transformer, part), tokenizer)
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return difference


def _check(file: Path, backend: Backend, tokenizer: TextTokenizer) -> float:
    """The written file against torch."""
    import torch

    random = np.random.default_rng(0)
    words = [t for t in tokenizer.vocabulary().tokens if t.isalpha()] or ["a"]
    tokens = tokenizer([" ".join(random.choice(words, n)) for n in (1, 3, 9, 27, 81, 300)])
    expected = backend.encode(tokens, None).to_dense()
    longest = max(map(len, tokens))
    ids = torch.tensor([[*row.tolist(), *[0] * (longest - len(row))] for row in tokens])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in tokens])
    loaded = torch.jit.load(str(file))
    with torch.no_grad():
        got = loaded({"input_ids": ids, "attention_mask": mask})["output"].numpy()
    difference = float(np.abs(got - expected).max())
    if difference > _TOLERANCE:
        raise ModelError(f"The TorchScript file differs by {difference:.2g}: not exported.")
    return difference
