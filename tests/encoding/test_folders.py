"""Folders as people have them: encoded as sentence-transformers does, or refused by name."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SparseEncoder

from splade_os.encoding import DocumentEncoder, load_query_encoder, read_layout
from splade_os.errors import ModelError, SpladeWarning
from splade_os.export.sentence_transformers import export_sentence_transformers
from tests.encoding import folders
from tests.encoding.folders import SBERT, Maker, bert, family, new_gte, router
from tests.encoding.test_slow_tokenizers import MECAB, japanese_model
from tests.tiny_models import TEXTS

POOLING = "1_SpladePooling/config.json"
BODY = f"document_0_Transformer/{SBERT}"
_PROMPTED = {"query": "find the ", "document": "read a ", "passage": "fish of "}
_NTK = {"rope_scaling": {"type": "ntk", "factor": 3.0}, "rope_theta": 500.0}
_SMALL = {"embedding_size": 16, "intra_bottleneck_size": 32, "true_hidden_size": 32}

RUN: dict[str, Maker] = {
    # lengths
    "max_seq_length": bert(SBERT, max_seq_length=9),
    "query_length": bert(SBERT, query_length=9),
    "document_length": bert(SBERT, document_length=12),
    "both lengths": bert(SBERT, query_length=6, document_length=20, max_seq_length=10),
    "processing_kwargs": bert(SBERT, processing_kwargs={"text": {"max_length": 9}}),
    "processing_kwargs over lengths": bert(
        SBERT,
        query_length=6,
        processing_kwargs={"text": {"max_length": 9, "truncation": True, "padding": True}},
    ),
    "processing_kwargs, common": bert(
        SBERT, processing_kwargs={"text": {"max_length": 9}, "common": {"max_length": 11}}
    ),
    "tokenizer_args": bert(SBERT, tokenizer_args={"model_max_length": 9}, max_seq_length=20),
    "lengths of a router": router(BODY, document_length=12, query_length=3),
    "no length anywhere": folders.no_length,
    # texts
    "do_lower_case": bert(SBERT, do_lower_case=True),
    "prompts": bert(prompts=_PROMPTED),
    "prompts of a router": router(prompts=_PROMPTED),
    "prompt of documents alone": bert(prompts={"document": "read a ", "query": None}),
    "default prompt with both": bert(prompts=_PROMPTED, default_prompt_name="passage"),
    # keys that change nothing
    "model_args": bert(SBERT, model_args={"attn_implementation": "eager"}),
    "config_args": bert(SBERT, config_args={"trust_remote_code": True}),
    "unpad_inputs": bert(SBERT, unpad_inputs=False),
    "chunk_size": bert(POOLING, chunk_size=7),
    "max_active_dims": bert(max_active_dims=5),
    "pooling and activation": bert(
        POOLING, pooling_strategy="sum", activation_function="log1p_relu"
    ),
    "results without names": bert("config.json", return_dict=False),
    "hidden states as well": bert("config.json", output_hidden_states=True, use_cache=True),
    "attention to the left": bert("config.json", is_decoder=True),
    "positions as always": bert("config.json", position_embedding_type="absolute"),
    "size of a pooler": bert("config.json", pooler_fc_size=7),
    "rotary positions as they are": family("nomic_bert", position_embedding_type="rotary"),
    "heads of other tasks": folders.with_tensor("cls.seq_relationship.weight"),
    "a pooler": folders.with_tensor("bert.pooler.dense.bias"),
    # routers
    "mapped routes": folders.mapped_routes,
    "two transformers": folders.two_transformers,
    # behind the pooling
    "queries pooled otherwise": folders.pooled_otherwise,
    "lexical queries": folders.lexical,
    "lexical queries of a transformer of their own": folders.lexical_of_its_own,
    "lexical on both sides": folders.lexical_on_both,
    "normalised": folders.normalised,
    "normalised behind a router": folders.normalised_router,
    "normalised lexical queries, heaviest terms": folders.normalised_lexical,
    # adapters
    "adapter": folders.adapter,
    "adapter beside its base": folders.adapter_beside,
    "adapter with scaled weights": folders.modernised_adapter,
    # files
    "symmetric": lambda tiny, folder: folders.copy(tiny, "bert", folder),
    "inference-free": lambda tiny, folder: folders.copy(tiny, "router", folder),
    "layout of 5.0": lambda tiny, folder: folders.copy(tiny, "bert-50", folder),
    "inference-free of 5.0": lambda tiny, folder: folders.copy(tiny, "router-50", folder),
    "inference-free before 5.0": lambda tiny, folder: folders.copy(tiny, "router-pre", folder),
    "Asym": lambda tiny, folder: folders.copy(tiny, "router-asym", folder),
    "idf.json": lambda tiny, folder: folders.copy(tiny, "router-json", folder),
    "checkpoint with idf.json": folders.checkpoint_with_table,
    "pytorch_model.bin": folders.pickled,
    "shards": folders.sharded,
    "vocab.txt": folders.vocabulary_alone,
    "stored in bf16": folders.stored_in(torch.bfloat16),
    "stored in fp16": folders.stored_in(torch.float16),
    "MeCab": lambda tiny, folder: japanese_model(folder, **MECAB["word"]),
    "Japanese characters": lambda tiny, folder: japanese_model(folder, **MECAB["character"]),
    # families, by their `model_type`; `test_families` has their heads and precisions
    **{name: family(name, **own) for name, own in folders.FAMILIES.items()},
    "gte under its first name": new_gte(),
    "mobilebert": family("mobilebert", **_SMALL),
    "deberta that is no legacy": family("deberta-v2", legacy=False),
}
PEERS: dict[str, Maker] = {
    # the same weights in a folder that sentence-transformers reads
    "gte under its first name": family("gte", tie_word_embeddings=True),  # it would run its code
    "inference-free before 5.0": lambda tiny, folder: tiny / "router",
    "Asym": lambda tiny, folder: tiny / "router",
    "idf.json": lambda tiny, folder: tiny / "router",
    "checkpoint with idf.json": folders.checkpoint_as_router,
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPLADE_OS_CACHE", str(tmp_path / "cache"))


def sides(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Dense vectors of documents and queries."""
    documents = DocumentEncoder.load(str(folder), device="cpu").encode(TEXTS)
    mode = "idf" if read_layout(folder).inference_free else "encoder"
    queries = load_query_encoder(str(folder), mode, device="cpu")  # type: ignore[arg-type]
    return documents.to_dense(), queries.encode(TEXTS).to_dense()


def expected(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    theirs = SparseEncoder(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    documents, queries = theirs.encode_document(TEXTS), theirs.encode_query(TEXTS)
    return documents.to_dense().numpy(), queries.to_dense().numpy()


def equal(ours: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        assert other.max() > 0.1
        np.testing.assert_allclose(mine, other, atol=2e-5 * max(1.0, other.max()))


@pytest.mark.parametrize("layout", RUN)
def test_runs_as_in_sentence_transformers(tiny: Path, tmp_path: Path, layout: str) -> None:
    folder = RUN[layout](tiny, tmp_path / "model")
    ours = sides(folder)
    if layout in PEERS:
        equal(ours, expected(PEERS[layout](tiny, tmp_path / "peer")))
        return
    if layout == "no length anywhere":  # they fail on long texts: IndexError
        short = [text for text in TEXTS if len(text) < 60]
        theirs = SparseEncoder(str(folder), device="cpu").encode_document(short)
        mine = DocumentEncoder.load(str(folder), device="cpu").encode(short).to_dense()
        np.testing.assert_allclose(mine, theirs.to_dense().numpy(), atol=1e-4)
        return
    equal(ours, expected(folder))


WARN: dict[str, tuple[Maker, str]] = {
    "unknown key of a model": (bert(truncate_dim=12), "truncate_dim is not known"),
    "unknown key of a configuration": (
        bert("config.json", sandwich_norm=True),
        r"sandwich_norm is not known to transformers' BertConfig",
    ),
    "unknown processing_kwargs": (
        bert(SBERT, processing_kwargs={"max_length": 3}),
        r"processing_kwargs\.max_length is not known",
    ),
    "similarity": (bert(similarity_fn_name="cosine"), "similarity_fn_name is 'cosine'"),
    "default prompt": (
        bert(prompts={"it": "read a "}, default_prompt_name="it"),
        "the prompt it is put before no text",
    ),
    "passage": (bert(prompts={"passage": "read a "}), "the prompt passage is put before no text"),
}


@pytest.mark.parametrize("layout", WARN)
def test_what_has_no_effect_is_said(tiny: Path, tmp_path: Path, layout: str) -> None:
    make, message = WARN[layout]
    folder = make(tiny, tmp_path / "model")
    with pytest.warns(SpladeWarning, match=message):
        DocumentEncoder.load(str(folder), device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SpladeWarning)
        equal(sides(folder), expected(folder))


REFUSED: dict[str, tuple[Maker, str]] = {
    **{
        name: (family(name), f"a {name} model gives a text other vectors when it is padded")
        for name in ("fnet", "yoso", "nystromformer")
    },
    "convbert": (
        family("convbert", head_ratio=2, num_groups=1, conv_kernel_size=3, embedding_size=32),
        "a convbert model gives a text other vectors when it is padded",
    ),
    "perceiver": (folders.perceiver, "a perceiver model has no table of input embeddings"),
    "normalised table": (folders.normalised_table, r"SparseStaticEmbedding \+ Normalize"),
    "normalised tokens": (folders.normalised_tokens, "module_input_name is 'token_embeddings'"),
    "unknown key of Normalize": (folders.normalised_by(1), "norm is 1"),
    "table behind, of another model": (folders.lexical_of(9), "do not belong together"),
    "causal": (folders.causal, r"causal language model \(qwen3\)"),
    "causal, no layout": (folders.causal_checkpoint, r"causal language model \(Qwen3ForCausalLM"),
    "CSR": (folders.autoencoder, "CSR model"),
    "hidden states": (folders.hidden_states, "transformer_task is 'feature-extraction'"),
    "another task": (bert(SBERT, transformer_task="text-generation"), "transformer_task"),
    "another output": (bert(SBERT, module_output_name="scores"), "module_output_name is 'scores'"),
    "chat": (
        bert(SBERT, modality_config={"text": {}, "message": {"format": "flat"}}),
        "modality_config",
    ),
    "query expansion": (
        bert(SBERT, query_expansion={"strategy": "fixed", "length": 32}),
        "query_expansion is",
    ),
    "no special tokens": (
        bert(SBERT, processing_kwargs={"text": {"add_special_tokens": False}}),
        r"processing_kwargs\.text\.add_special_tokens is False",
    ),
    "never cut": (
        bert(SBERT, processing_kwargs={"text": {"truncation": False}}),
        r"text\.truncation is False",
    ),
    "another tokenizer": (
        bert(SBERT, tokenizer_args={"do_lower_case": False}),
        r"processor_kwargs\.do_lower_case",
    ),
    "another configuration": (
        bert(SBERT, config_args={"num_hidden_layers": 1}),
        r"config_kwargs\.num_hidden_layers is 1",
    ),
    "unknown key of a transformer": (bert(SBERT, turbo=True), "turbo is True"),
    "unknown key of a pooling": (bert(POOLING, top_k=3), "top_k is 3"),
    "unknown key of a router": (
        router("router_config.json", parameters={"soft": 1}),
        "soft is 1",
    ),
    "unknown key of a table": (
        router("query_0_SparseStaticEmbedding/config.json", scale=2.0),
        r"scale is 2\.0",
    ),
    "another model": (bert(model_type="CrossEncoder"), "this is no SparseEncoder"),
    "a long logn": (new_gte(logn_attention_scale=True), "logn_attention_scale is True"),
    "rms_norm": (new_gte(layer_norm_type="rms_norm"), "layer_norm_type is 'rms_norm'"),
    "mixed ntk": (
        new_gte(rope_scaling={"type": "ntk", "factor": 2.0, "mixed_b": 0.75}),
        r"rope_scaling\.mixed_b is 0\.75",
    ),
    "dynamic positions": (
        new_gte(rope_scaling={"type": "dynamic", "factor": 2.0}),
        "rope_scaling is",
    ),
    "code of the folder": (
        bert("config.json", model_type="neobert", auto_map={"AutoModel": "model.NeoBERT"}),
        "no model of the type 'neobert'.*never run",
    ),
    "relative positions": (
        bert("config.json", position_embedding_type="relative_key_query"),
        "position_embedding_type is 'relative_key_query', which transformers' BertConfig does not",
    ),
    "alibi": (
        bert("config.json", alibi_starting_size=512, auto_map={"AutoModelForMaskedLM": "m.Mosaic"}),
        "alibi_starting_size is 512",
    ),
    "gated": (bert("config.json", feed_forward_type="geglu"), "feed_forward_type is 'geglu'"),
    "tensor without a place": (
        folders.with_tensor("bert.encoder.layer.0.attention.self.distance_embedding.weight"),
        "BertForMaskedLM has no place for the tensor .*distance_embedding",
    ),
    "quantised": (
        bert("config.json", quantization_config={"quant_method": "bitsandbytes"}),
        "stored quantised",
    ),
    "no type": (bert("config.json", model_type=None), "no model of the type None"),
}


@pytest.mark.parametrize("layout", REFUSED)
def test_is_refused_by_name(tiny: Path, tmp_path: Path, layout: str) -> None:
    make, message = REFUSED[layout]
    folder = make(tiny, tmp_path / "model")
    with pytest.raises(ModelError, match=message) as refused:
        sides(folder)
    assert str(folder) in str(refused.value)


def test_gte_with_ntk_positions(tiny: Path, tmp_path: Path) -> None:
    """Against new-impl's own formula, put into transformers' class: every frequency of a base
    that is ``f`` times as large, divided by ``f ** (2 / d)``."""
    folder = new_gte(**_NTK)(tiny, tmp_path / "model")
    ours, _ = sides(folder)
    oracle = SparseEncoder(str(folder.with_name("model-mlm")), device="cpu")
    rotary = next(m for m in oracle.modules() if hasattr(m, "original_inv_freq"))
    factor, base, size = 3.0, 500.0, 16
    frequencies = 1.0 / ((base * factor) ** (torch.arange(0, size, 2).float() / size))
    rotary.inv_freq = frequencies / factor ** (2 / size)
    theirs = oracle.encode_document(TEXTS).to_dense().numpy()
    np.testing.assert_allclose(ours, theirs, atol=2e-5 * theirs.max())
    plain, _ = sides(new_gte()(tiny, tmp_path / "plain"))
    assert np.abs(plain - ours).max() > 1e-3


@pytest.mark.parametrize("layout", [
    "adapter", "gte under its first name", "query_length", "two transformers", "lexical queries",
    "queries pooled otherwise",
    "lexical queries of a transformer of their own", "normalised", "lexical on both sides",
    "normalised lexical queries, heaviest terms",
])  # fmt: skip
def test_exported_to_sentence_transformers(tiny: Path, tmp_path: Path, layout: str) -> None:
    """What only splade-os mends is mended for others as well."""
    folder = RUN[layout](tiny, tmp_path / "model")
    out = export_sentence_transformers(str(folder), tmp_path / "out")
    equal(sides(folder), expected(out))
    assert sorted(file.name for file in out.glob("*adapter*")) == []
