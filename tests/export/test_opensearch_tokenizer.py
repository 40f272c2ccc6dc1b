"""The package of an engine-side query encoder, read with `tokenizers` alone."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from sentence_transformers import SparseEncoder
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from splade_os.encoding.query import IdfQueryEncoder
from splade_os.engines.opensearch_ml.query_pipeline import read_description
from splade_os.errors import ModelError
from splade_os.export.opensearch_package import QueryEncoderPackage
from splade_os.export.opensearch_tokenizer import export_opensearch_tokenizer
from splade_os.export.token_pattern import any_of
from splade_os.statistics import TermStatistics
from splade_os.vocabulary import feature_name
from tests import tiny_models

TEXTS = [*tiny_models.TEXTS, "a.b... c.", "[CLS] cat [UNK] ☃", "\u241b dog", "Ünïted\x00 \ud7ff"]
STATIC = "query_0_SparseStaticEmbedding"


def as_ml_commons(folder: Path, texts: list[str]) -> list[dict[str, float]]:
    """SparseTokenizerModel.java, line by line."""
    with zipfile.ZipFile(folder / "query-encoder.zip") as archive:
        assert sorted(archive.namelist()) == ["idf.json", "tokenizer.json"]
        tokenizer = Tokenizer.from_str(archive.read("tokenizer.json").decode())
        idf = json.loads(archive.read("idf.json"))
    found = []
    for text in texts:
        ids = dict.fromkeys(tokenizer.encode(text, add_special_tokens=True).ids)
        tokens = [tokenizer.decode([i], skip_special_tokens=True) for i in ids]
        found.append({token: idf.get(token, 1.0) for token in tokens if token})
    return found


def oracle(model: Path, texts: list[str]) -> list[dict[str, float]]:
    """What sentence-transformers makes of queries, by feature name."""
    encoder = SparseEncoder(str(model), device="cpu")
    dense = encoder.encode_query(texts).to_dense().numpy()
    names = [feature_name(token) for token in tiny_models.vocabulary()]
    return [{names[i]: float(row[i]) for i in np.flatnonzero(row > 0)} for row in dense]


@pytest.mark.parametrize("zeros", [0, 1, 60], ids=lambda n: f"{n} without a weight")
def test_equals_sentence_transformers(tiny: Path, tmp_path: Path, zeros: int) -> None:
    """Every special token has a weight in this table, [UNK] as well."""
    model = tiny / "router"
    if zeros:
        model = tiny_models.change_table(model, tmp_path / "model", slice(20, 20 + zeros), 0.0)
    package = export_opensearch_tokenizer(str(model), tmp_path / "out")
    expected = oracle(model, TEXTS)
    assert as_ml_commons(package.folder, TEXTS) == expected
    assert as_ml_commons(package.folder, [package.manifest.probe.text]) == [
        package.manifest.probe.terms
    ]
    assert "\u241b1" in {term for terms in expected for term in terms}  # a dot was among them
    assert not any("." in term for terms in expected for term in terms)


def test_table_of_a_corpus(tiny: Path, tmp_path: Path) -> None:
    """Also of a symmetric model; special tokens take no part; every token is written."""
    width = len(tiny_models.vocabulary())
    statistics = TermStatistics(40, 400, np.arange(width) % 40)
    package = export_opensearch_tokenizer(
        str(tiny / "bert"), tmp_path / "out", name="own", statistics=statistics, origin="index i"
    )
    encoder = IdfQueryEncoder.load(str(tiny / "bert"), statistics)
    names = encoder.vocabulary.features
    expected = [
        {names[i]: w for i, w in zip(ids.tolist(), weights.tolist(), strict=True)}
        for ids, weights in encoder.encode(TEXTS)
    ]
    assert as_ml_commons(package.folder, TEXTS) == expected
    with zipfile.ZipFile(package.folder / "query-encoder.zip") as archive:
        idf = json.loads(archive.read("idf.json"))
    assert set(idf) == set(names)
    assert all(0 < weight <= 64 for weight in idf.values())
    register = json.loads((package.folder / "register.json").read_text())
    content = (package.folder / "query-encoder.zip").read_bytes()
    assert register["model_content_hash_value"] == hashlib.sha256(content).hexdigest()
    assert register["model_content_size_in_bytes"] == len(content)
    assert (register["total_chunks"], register["name"]) == (1, "own")
    facts = read_description(register["description"])
    assert facts is not None and facts["idf"] == "index_i" and facts["documents"] == "40"
    assert facts["content"] == package.manifest.content_hash


def test_same_content_same_hash(tiny: Path, tmp_path: Path) -> None:
    first, second = (
        export_opensearch_tokenizer(str(tiny / "router"), tmp_path / name) for name in "ab"
    )
    assert first.manifest == second.manifest
    assert QueryEncoderPackage.read(first.folder).chunks() == second.chunks()


def test_long_queries_are_cut_alike(tiny: Path, tmp_path: Path) -> None:
    """The model's own maximum, without room for special tokens, as sentence-transformers."""
    words = [word for word in tiny_models.vocabulary() if word.isalpha() and len(word) > 1]
    texts = [" ".join(words[:n]) for n in range(40, len(words))]
    package = export_opensearch_tokenizer(str(tiny / "router"), tmp_path / "out")
    expected = oracle(tiny / "router", texts)
    assert len(expected[-1]) < len(words) - 5  # it was cut
    assert as_ml_commons(package.folder, texts) == expected


def test_prompt_and_lowercase(tiny: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(tiny / "router-50", tmp_path / "model"))
    tiny_models.change(
        model / "config_sentence_transformers.json", prompts={"query": "search engine: "}
    )
    package = export_opensearch_tokenizer(str(model), tmp_path / "out")
    texts = ["cat", "CAT and Dog.", "x"]
    encoder = IdfQueryEncoder.load(str(model))
    names = encoder.vocabulary.features
    expected = [
        {names[i]: w for i, w in zip(ids.tolist(), weights.tolist(), strict=True)}
        for ids, weights in encoder.encode(texts)
    ]
    assert all("search" in terms for terms in expected)
    assert as_ml_commons(package.folder, texts) == expected


def test_byte_level_tokens_keep_their_names(tiny: Path, tmp_path: Path) -> None:
    """A BPE vocabulary marks blanks inside its tokens; ML Commons would decode them away."""
    model = tmp_path / "model"
    shutil.copytree(tiny / "router", model)
    vocabulary = {"a": 0, "b": 1, "Ġ": 2, "Ġa": 3, "ab": 4, ".": 5, "Ġab": 6}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("a", "b"), ("Ġ", "ab"), ("Ġ", "a")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save(str(model / STATIC / "tokenizer.json"))
    # the file alone decides: the class that stood there would add BERT's special tokens
    config = model / STATIC / "tokenizer_config.json"
    config.write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    weights = np.arange(1, 8, dtype=np.float32)
    save_file({"weight": weights}, model / STATIC / "model.safetensors")
    package = export_opensearch_tokenizer(str(model), tmp_path / "out")
    assert as_ml_commons(package.folder, ["ab a.b", " ab"]) == [
        {"ab": 5.0, "Ġa": 4.0, "\u241b1": 6.0, "b": 2.0},
        {"Ġab": 7.0},
    ]


def test_what_cannot_be_exported(tiny: Path, tmp_path: Path) -> None:
    heavy = tiny_models.change_table(tiny / "router", tmp_path / "heavy", slice(50, 51), 64.5)
    with pytest.raises(ModelError, match=r"weighs 64\.5.*up to 64"):
        export_opensearch_tokenizer(str(heavy), tmp_path / "out")
    empty = tiny_models.change_table(tiny / "router", tmp_path / "empty", slice(None), 0.0)
    with pytest.raises(ModelError, match="No token of the table has a weight"):
        export_opensearch_tokenizer(str(empty), tmp_path / "out")
    with pytest.raises(ModelError, match="no IDF table of its own"):
        export_opensearch_tokenizer(str(tiny / "bert"), tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))
    (tmp_path / "out").mkdir()
    with pytest.raises(ModelError, match="exists already"):
        export_opensearch_tokenizer(str(tiny / "router"), tmp_path / "out")


def test_damaged_package(tiny: Path, tmp_path: Path) -> None:
    folder = export_opensearch_tokenizer(str(tiny / "router"), tmp_path / "out").folder
    with pytest.raises(ModelError, match="no package"):
        QueryEncoderPackage.read(tmp_path)
    archive = folder / "query-encoder.zip"
    archive.write_bytes(archive.read_bytes()[:-1])
    with pytest.raises(ModelError, match="SHA-256 differs"):
        QueryEncoderPackage.read(folder)
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(ModelError, match="damaged"):
        QueryEncoderPackage.read(folder)


@pytest.mark.parametrize(
    "strings",
    [["a"], ["a", "ab", "abc", "b"], ["[x]", "##.", "...", "^", "a|b", "\\", "\n", "\u2028 ", "-"]],
)
def test_pattern_matches_exactly_the_strings(strings: list[str]) -> None:
    mark = normalizers.Replace(Regex(any_of(strings)), "!")
    for string in strings:
        assert mark.normalize_str(string) == "!"
        for other in (string + string, "\n" + string, string[:-1], string + "\n", "c"):
            if other not in strings:
                assert mark.normalize_str(other) == other


def test_pattern_of_a_whole_vocabulary() -> None:
    words = [f"##{i:x}." for i in range(30_000)]
    mark = normalizers.Replace(Regex(any_of(words)), "!")
    assert mark.normalize_str(words[-1]) == "!" and mark.normalize_str("##7530") == "##7530"
