"""Which files of a folder decide token ids, and which class of transformers reads them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from splade_os.encoding.downloaded import refuse_pointer
from splade_os.encoding.module_config import read_optional
from splade_os.encoding.tokenizer.classes import ALIASES
from splade_os.errors import ModelError

GENERIC = "TokenizersBackend"
"""transformers' name of a tokenizer that is its tokenizer.json, and nothing else."""
_GENERIC_NAMES = {GENERIC, "PreTrainedTokenizer", "PreTrainedTokenizerFast", "PythonBackend"}
CONFIG = "tokenizer_config.json"
SENTENCEPIECE = (
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "spiece.model",
    "spm.model",
    "tokenizer.model",
)
SOURCES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    *SENTENCEPIECE,
)
"""Files that hold a vocabulary."""
SETTINGS = (CONFIG, "special_tokens_map.json", "added_tokens.json")
"""Files that change what is made of it."""

# The class that transformers takes for a ``model_type``: where nothing is stated, and (for the
# types after it) whatever is stated. Types that are not named here run tokenizer.json as it is.
_OF_MODEL_TYPE = {
    "albert": "AlbertTokenizer",
    "bart": "RobertaTokenizer",
    "bert": "BertTokenizer",
    "bert-japanese": "BertJapaneseTokenizer",
    "big_bird": "BigBirdTokenizer",
    "camembert": "CamembertTokenizer",
    "convbert": "BertTokenizer",
    "data2vec-text": "RobertaTokenizer",
    "deberta": "DebertaTokenizer",
    "deberta-v2": "DebertaV2Tokenizer",
    "distilbert": "BertTokenizer",
    "electra": "BertTokenizer",
    "ernie": "BertTokenizer",
    "esm": "EsmTokenizer",
    "fnet": "FNetTokenizer",
    "funnel": "FunnelTokenizer",
    "gemma": "GemmaTokenizer",
    "gemma2": "GemmaTokenizer",
    "gemma3_text": "GemmaTokenizer",
    "gpt2": "GPT2Tokenizer",
    "gte": "XLMRobertaTokenizer",
    "ibert": "RobertaTokenizer",
    "jina_embeddings_v3": "XLMRobertaTokenizer",
    "layoutlm": "BertTokenizer",
    "longformer": "RobertaTokenizer",
    "luke": "LukeTokenizer",
    "megatron-bert": "BertTokenizer",
    "mobilebert": "BertTokenizer",
    "mpnet": "MPNetTokenizer",
    "mra": "RobertaTokenizer",
    "nezha": "BertTokenizer",
    "nomic_bert": "BertTokenizer",
    "phobert": "PhobertTokenizer",
    "qwen3": "Qwen2Tokenizer",
    "reformer": "ReformerTokenizer",
    "rembert": "RemBertTokenizer",
    "roberta": "RobertaTokenizer",
    "roberta-prelayernorm": "RobertaTokenizer",
    "roc_bert": "RoCBertTokenizer",
    "roformer": "RoFormerTokenizer",
    "squeezebert": "BertTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "xmod": "XLMRobertaTokenizer",
    "yoso": "AlbertTokenizer",
}
_ALWAYS_GENERIC = {
    "modernbert",
    "modernbert-decoder",
    "nystromformer",
    "xlm-roberta-xl",
}


@dataclass(frozen=True)
class TokenizerFiles:
    """The tokenizer files of a folder; what they hold is read when it is asked for."""

    folder: Path

    @cached_property
    def config(self) -> dict[str, Any]:
        """``tokenizer_config.json``; empty where there is none."""
        return self.read(CONFIG)

    @property
    def vocabulary(self) -> list[Path]:
        """The files whose vocabulary runs."""
        if self.has("vocab.json", "merges.txt") and not self.has("tokenizer.json"):
            return [self.folder / "vocab.json", self.folder / "merges.txt"]
        return self.sources[:1]

    @cached_property
    def sources(self) -> list[Path]:
        """Files with a vocabulary, the first of them the one that is read.

        Raises:
            ModelError: one of them was not downloaded.
        """
        found = [self.folder / name for name in SOURCES if (self.folder / name).is_file()]
        for file in found:
            refuse_pointer(file)
        return found

    def has(self, *names: str) -> bool:
        """Whether all of these files are there."""
        return all((self.folder / name).is_file() for name in names)

    def read(self, name: str) -> dict[str, Any]:
        """A JSON object of the folder; empty where there is no such file.

        Raises:
            ModelError: it cannot be read, or is no object.
        """
        return read_optional(self.folder / name)

    @cached_property
    def class_name(self) -> str:
        """The class that transformers takes, without ``Fast`` and by its own name.

        Raises:
            ModelError: the folder states a class that nobody knows.
        """
        model = self.read("config.json")
        stated = self.config.get("tokenizer_class") or model.get("tokenizer_class")
        if stated is not None and not isinstance(stated, str):
            raise ModelError(
                f"{self.folder / CONFIG}: tokenizer_class is {stated!r}, not a name.",
                hint="Download or save the model again.",
            )
        model_type = model.get("model_type")
        model_type = model_type if isinstance(model_type, str) else ""
        if stated is None:
            return self._unstated(model_type)
        name = canonical(stated)
        if name in _GENERIC_NAMES:
            registered = _OF_MODEL_TYPE.get(model_type)
            alone = registered is not None and not self.has("tokenizer.json")
            return registered if alone and registered is not None else GENERIC
        if model_type in _ALWAYS_GENERIC and self.has("tokenizer.json"):
            return GENERIC
        return name

    @property
    def stated_class(self) -> str:
        """`class_name` as tokenizer_config.json states it, for every version of transformers."""
        return "PreTrainedTokenizerFast" if self.class_name == GENERIC else self.class_name

    def _unstated(self, model_type: str) -> str:
        if model_type in _OF_MODEL_TYPE:
            return _OF_MODEL_TYPE[model_type]
        if self.has("tokenizer.json"):
            return GENERIC
        return "BertTokenizer" if self.has("vocab.txt") else GENERIC


def canonical(name: str) -> str:
    """A class by the name that transformers 5 gives it."""
    bare = name.removesuffix("Fast")
    return ALIASES.get(bare, bare)
