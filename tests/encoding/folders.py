"""Model folders of every layout, made on the spot from tiny models; one function each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Normalize, Router, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from sentence_transformers.sparse_encoder.modules import (
    SparseAutoEncoder,
    SparseStaticEmbedding,
    SpladePooling,
)
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

from tests import tiny_models
from tests.tiny_models import change, tokenizer, vocabulary

Maker = Callable[[Path, Path], Path]
"""Folder of the tiny models, new folder → the folder of a model."""

SBERT = "sentence_bert_config.json"
MODEL = "config_sentence_transformers.json"
_COMMON: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 66,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}


_POSITIONS = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8}
_ENDS = {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
FAMILIES: dict[str, dict[str, Any]] = {
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "roberta": {}, "xlm-roberta": {}, "camembert": {}, "mpnet": {}, "nomic_bert": {}, "ernie": {},
    "gte": {}, "electra": {"embedding_size": 16}, "albert": {"embedding_size": 16},
    "modernbert": {**_ENDS, "local_attention": 8, "global_attn_every_n_layers": 2},
    "eurobert": _ENDS, "deberta-v2": _POSITIONS,
    "deberta": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    # nobody wrote a line for these
    "roformer": {"embedding_size": 32}, "big_bird": {"attention_type": "original_full"},
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 24},
    "squeezebert": {"embedding_size": 32}, "megatron-bert": {}, "roc_bert": {}, "ibert": {},
    "xmod": {"languages": ["en"], "default_language": "en"}, "xlm-roberta-xl": {},
    "luke": {"entity_vocab_size": 20, "entity_emb_size": 16}, "data2vec-text": {}, "mra": {},
    "longformer": {"attention_window": [8, 8]}, "jina_embeddings_v3": {},
    "esm": {"mask_token_id": 4, "position_embedding_type": "absolute"},
}  # fmt: skip
"""``model_type`` → what its configuration has beside the common part."""


def bert(file: str = MODEL, **values: Any) -> Maker:
    """The symmetric model with keys of one file changed."""

    def make(tiny: Path, folder: Path) -> Path:
        shutil.copytree(tiny / "bert", folder)
        change(folder / file, **values)
        return folder

    return make


def router(file: str = MODEL, **values: Any) -> Maker:
    """The inference-free model with keys of one file changed."""

    def make(tiny: Path, folder: Path) -> Path:
        shutil.copytree(tiny / "router", folder)
        change(folder / file, **values)
        return folder

    return make


def checkpoint(family: str, folder: Path, **own: Any) -> Path:
    """A masked-LM checkpoint with the tiny tokenizer."""
    torch.manual_seed(5)
    config = AutoConfig.for_model(family, **{**_COMMON, "vocab_size": len(vocabulary()), **own})
    model = AutoModelForMaskedLM.from_config(config).eval()
    bias = getattr(model.get_output_embeddings(), "bias", None)
    if bias is not None:
        torch.nn.init.normal_(bias, -1.0, 1.0)
    model.save_pretrained(folder)
    tokenizer(folder).save_pretrained(folder)
    return folder


def family(name: str, **own: Any) -> Maker:
    """A symmetric model of a family, as sentence-transformers saves it."""

    def make(tiny: Path, folder: Path) -> Path:
        plain = checkpoint(name, folder.with_name(folder.name + "-mlm"), **own)
        SparseEncoder(str(plain), device="cpu").save_pretrained(str(folder))
        return folder

    return make


def new_gte(**config: Any) -> Maker:
    """transformers' GTE under the names of new-impl, with all of its switches and its code."""

    def make(tiny: Path, folder: Path) -> Path:
        family("gte", tie_word_embeddings=True)(tiny, folder)
        file = folder / "model.safetensors"
        tensors = load_file(file)
        save_file({_new_name(k): v for k, v in tensors.items()}, file, metadata={"format": "pt"})
        content = json.loads((folder / "config.json").read_text())
        positions = content.pop("rope_parameters")
        content.update(
            model_type="new",
            architectures=["NewForMaskedLM"],
            auto_map={"AutoModelForMaskedLM": "org/new-impl--modeling.NewForMaskedLM"},
            layer_norm_type="layer_norm",
            position_embedding_type="rope",
            rope_theta=positions["rope_theta"],
            rope_scaling=None,
            pack_qkv=True,
            unpad_inputs=False,
            use_memory_efficient_attention=False,
            logn_attention_scale=False,
            logn_attention_clip1=False,
        )
        (folder / "config.json").write_text(json.dumps({**content, **config}))
        (folder / "modeling.py").write_text("raise SystemExit('code of the folder ran')")
        return folder

    return make


def _new_name(name: str) -> str:
    return name if name.startswith("lm_head.") else f"new.{name.removeprefix('model.')}"


def adapter(tiny: Path, folder: Path) -> Path:
    """As sentence-transformers saves a model with a LoRA adapter."""
    base = tiny_models.masked_lm("bert", folder.with_name(folder.name + "-base"))
    model = SparseEncoder(str(base), device="cpu")
    torch.manual_seed(1)
    model.add_adapter(LoraConfig(r=4, lora_alpha=16, target_modules=["query", "value"]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.3)
    model.save_pretrained(str(folder))
    return folder


def adapter_beside(tiny: Path, folder: Path) -> Path:
    """An adapter in the folder of the whole model that it belongs to."""
    adapter(tiny, folder)
    base = folder.with_name(folder.name + "-base")
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(base / name, folder / name)
    return folder


def modernised_adapter(tiny: Path, folder: Path) -> Path:
    """Rank-stabilised, with weights decomposed, and a module that is saved whole."""
    base = tiny_models.masked_lm("bert", folder.with_name(folder.name + "-base"))
    config = LoraConfig(
        r=4, lora_alpha=16, target_modules=["query", "dense"], use_rslora=True, use_dora=True
    )
    torch.manual_seed(1)
    model = get_peft_model(AutoModelForMaskedLM.from_pretrained(base), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.3)
    SparseEncoder(str(base), device="cpu").save_pretrained(str(folder))
    (folder / "model.safetensors").unlink()
    (folder / "config.json").unlink()
    model.save_pretrained(folder)
    change(folder / "adapter_config.json", base_model_name_or_path=str(base))
    return folder


def two_transformers(tiny: Path, folder: Path) -> Path:
    """A Router with a transformer for each side, which cut texts at other lengths."""
    sides = [tiny_models.masked_lm("bert", folder.with_name(f"{folder.name}-{n}"), n)
             for n in (1, 2)]  # fmt: skip
    chains = [list(SparseEncoder(str(side), device="cpu").children()) for side in sides]
    modules = Router.for_query_document(query_modules=chains[0], document_modules=chains[1])
    SparseEncoder(modules=[modules], device="cpu").save_pretrained(str(folder))
    change(folder / "query_0_Transformer" / SBERT, max_seq_length=9)
    return folder


def mapped_routes(tiny: Path, folder: Path) -> Path:
    """A Router whose routes have other names."""
    shutil.copytree(tiny / "router", folder)
    file = folder / "router_config.json"
    config = json.loads(file.read_text())
    routes = config["structure"]
    config["structure"] = {"light": routes["query"], "heavy": routes["document"]}
    config["parameters"] |= {
        "default_route": "heavy",
        "route_mappings": {"('query', 'text')": "light", "(None, None)": "heavy"},
    }
    file.write_text(json.dumps(config))
    return folder


def _table(body: SparseEncoder, size: int | None = None) -> SparseStaticEmbedding:
    torch.manual_seed(3)
    return SparseStaticEmbedding(
        tokenizer=body.tokenizer, weight=torch.rand(size or len(vocabulary())) * 2
    )


def _save(folder: Path, *modules: torch.nn.Module, **options: Any) -> Path:
    SparseEncoder(modules=list(modules), device="cpu", **options).save_pretrained(str(folder))
    return folder


def lexical(tiny: Path, folder: Path) -> Path:
    """A query side that weighs the terms of a query itself, and no others."""
    return lexical_of(len(vocabulary()))(tiny, folder)


def lexical_of(size: int) -> Maker:
    """The same with a table of some size."""

    def make(tiny: Path, folder: Path) -> Path:
        body = SparseEncoder(str(tiny / "bert"), device="cpu")
        chain = list(body.children())
        return _save(
            folder,
            Router.for_query_document(
                query_modules=[*chain, _table(body, size)], document_modules=chain
            ),
        )

    return make


def pooled_otherwise(tiny: Path, folder: Path) -> Path:
    """One transformer for both sides, whose queries are summed up."""
    chain = list(SparseEncoder(str(tiny / "bert"), device="cpu").children())
    return _save(
        folder,
        Router.for_query_document(
            query_modules=[chain[0], SpladePooling("sum")], document_modules=chain
        ),
    )


def lexical_of_its_own(tiny: Path, folder: Path) -> Path:
    """The same, with a transformer for each side."""
    sides = [tiny_models.masked_lm("bert", folder.with_name(f"{folder.name}-{n}"), n)
             for n in (1, 2)]  # fmt: skip
    query, document = (SparseEncoder(str(side), device="cpu") for side in sides)
    return _save(
        folder,
        Router.for_query_document(
            query_modules=[*query.children(), _table(query)],
            document_modules=list(document.children()),
        ),
    )


def lexical_on_both(tiny: Path, folder: Path) -> Path:
    """A symmetric model without expansion."""
    body = SparseEncoder(str(tiny / "bert"), device="cpu")
    return _save(folder, *body.children(), _table(body))


def normalised(tiny: Path, folder: Path) -> Path:
    """Vectors of length 1."""
    body = SparseEncoder(str(tiny / "bert"), device="cpu")
    return _save(folder, *body.children(), Normalize())


def normalised_by(norm: int) -> Maker:
    """By a norm that sentence-transformers does not know."""

    def make(tiny: Path, folder: Path) -> Path:
        normalised(tiny, folder)
        change(folder / "2_Normalize" / "config.json", norm=norm)
        return folder

    return make


def normalised_tokens(tiny: Path, folder: Path) -> Path:
    """Logits of length 1, as models with many vectors have them."""
    body = SparseEncoder(str(tiny / "bert"), device="cpu")
    return _save(folder, *body.children(), Normalize("token_embeddings"))


def normalised_router(tiny: Path, folder: Path) -> Path:
    """Two transformers, and vectors of length 1 behind both."""
    router = next(SparseEncoder(str(two_transformers(tiny, folder.with_name("two")))).children())
    return _save(folder, router, Normalize())


def normalised_lexical(tiny: Path, folder: Path) -> Path:
    """Documents of length 1; queries of length 1, and then their own terms of it; the heaviest."""
    body = SparseEncoder(str(tiny / "bert"), device="cpu")
    chain = list(body.children())
    sides = Router.for_query_document(
        query_modules=[*chain, Normalize(), _table(body)], document_modules=[*chain, Normalize()]
    )
    return _save(folder, sides, max_active_dims=9)


def normalised_table(tiny: Path, folder: Path) -> Path:
    """Queries from a table, divided by their length."""
    body = SparseEncoder(str(tiny / "bert"), device="cpu")
    sides = Router.for_query_document(
        query_modules=[_table(body), Normalize()], document_modules=list(body.children())
    )
    return _save(folder, sides)


def with_tensor(name: str) -> Maker:
    """A tensor more than the class has."""

    def make(tiny: Path, folder: Path) -> Path:
        shutil.copytree(tiny / "bert", folder)
        file = folder / "model.safetensors"
        save_file({**load_file(file), name: torch.rand(4, 4)}, file, metadata={"format": "pt"})
        return folder

    return make


def copy(tiny: Path, name: str, folder: Path) -> Path:
    """One of the tiny models as it is."""
    return Path(shutil.copytree(tiny / name, folder))


def pickled(tiny: Path, folder: Path) -> Path:
    """Weights in pytorch_model.bin alone."""
    copy(tiny, "bert", folder)
    tensors = folder / "model.safetensors"
    torch.save(load_file(tensors), folder / "pytorch_model.bin")
    tensors.unlink()
    return folder


def sharded(tiny: Path, folder: Path) -> Path:
    """Weights in several files and an index, as transformers saves a large model."""
    copy(tiny, "bert", folder)
    model = AutoModelForMaskedLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    return folder


def stored_in(dtype: torch.dtype) -> Maker:
    """Weights of half the size."""

    def make(tiny: Path, folder: Path) -> Path:
        copy(tiny, "bert", folder)
        file = folder / "model.safetensors"
        tensors = {name: tensor.to(dtype) for name, tensor in load_file(file).items()}
        save_file(tensors, file, metadata={"format": "pt"})
        change(folder / "config.json", dtype=str(dtype).removeprefix("torch."))
        return folder

    return make


def vocabulary_alone(tiny: Path, folder: Path) -> Path:
    """A BERT of before there was a tokenizer.json."""
    copy(tiny, "bert", folder)
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(vocabulary()) + "\n")
    change(folder / "tokenizer_config.json", tokenizer_class="BertTokenizer", tokenizer_file=None)
    return folder


def checkpoint_with_table(tiny: Path, folder: Path) -> Path:
    """OpenSearch's ``doc-v1``: a masked-LM checkpoint and idf.json; we are told its head."""
    tiny_models.masked_lm("distilbert", folder)
    (folder / "idf.json").write_text(json.dumps(_idf()))
    (folder / "splade_os.json").write_text(json.dumps({"activation": "relu", "pooling": "max"}))
    return folder


def checkpoint_as_router(tiny: Path, folder: Path) -> Path:
    """The same as a Router of sentence-transformers."""
    base = tiny_models.masked_lm("distilbert", folder.with_name("base"))
    file = folder.with_name("idf.json")
    file.write_text(json.dumps(_idf()))
    body = SparseEncoder(str(base), device="cpu")
    static = SparseStaticEmbedding.from_json(str(file), body.tokenizer)
    return _save(
        folder,
        Router.for_query_document(query_modules=[static], document_modules=list(body.children())),
    )


def _idf() -> dict[str, float]:
    return {token: 0.5 + i % 17 for i, token in enumerate(vocabulary()) if i > 4}


def perceiver(tiny: Path, folder: Path) -> Path:
    """Latent vectors in the place of embeddings."""
    sizes = {"d_latents": 32, "d_model": 32, "num_latents": 8, "num_self_attends_per_block": 1}
    return family("perceiver", num_cross_attention_heads=2, num_self_attention_heads=2, **sizes)(
        tiny, folder
    )


def causal(tiny: Path, folder: Path) -> Path:
    """A decoder's body in a SPLADE layout."""
    shutil.copytree(tiny / "bert", folder)
    config = AutoConfig.for_model("qwen3", **_COMMON, vocab_size=len(vocabulary()), head_dim=16,
                                  num_key_value_heads=2)  # fmt: skip
    for name in ("config.json", "model.safetensors"):
        (folder / name).unlink()
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def causal_checkpoint(tiny: Path, folder: Path) -> Path:
    """The same without a layout, as transformers saves it."""
    causal(tiny, folder)
    (folder / "modules.json").unlink()
    return folder


def autoencoder(tiny: Path, folder: Path) -> Path:
    """CSR: a dense vector in a wider sparse space."""
    body = Transformer(str(tiny / "bert"), transformer_task="feature-extraction")
    modules = [body, Pooling(32), SparseAutoEncoder(32, hidden_dim=64, k=8)]
    SparseEncoder(modules=modules, device="cpu").save_pretrained(str(folder))
    return folder


def hidden_states(tiny: Path, folder: Path) -> Path:
    """Pooling over hidden states, as a Transformer without a task gives them."""
    shutil.copytree(tiny / "bert", folder)
    (folder / SBERT).write_text(json.dumps({"max_seq_length": 48}))
    return folder


def no_length(tiny: Path, folder: Path) -> Path:
    """RoBERTa, whose positions begin behind padding, and nothing says how long a text may be."""
    family("roberta", type_vocab_size=1)(tiny, folder)
    change(folder / "tokenizer_config.json", model_max_length=None)
    return folder
