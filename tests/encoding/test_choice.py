"""Which backend and precision run a model."""

from __future__ import annotations

import shutil
from pathlib import Path

import orjson
import pytest

from splade_os.encoding.choice import INT8_MEAN_ERROR, choose
from splade_os.encoding.onnx_backend import MANIFEST
from splade_os.errors import ModelError, SettingsError
from splade_os.export.onnx import export_onnx

BF16, OLD = frozenset({"avx2", "avx512_bf16"}), frozenset({"avx2"})


@pytest.fixture(scope="module")
def exported(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("choice") / "exported"
    export_onnx(str(tiny / "distilbert"), out)
    return out


def measured(exported: Path, error: float) -> Path:
    file = exported / "onnx" / MANIFEST
    content = orjson.loads(file.read_bytes())
    for check in content["checks"]:
        if check["precision"] == "int8":
            check["mean_error"] = error
    file.write_bytes(orjson.dumps(content))
    return exported


def test_exact_by_default(tiny: Path, exported: Path) -> None:
    assert choose(tiny / "bert", "cpu", flags=BF16).precision == "float32"
    assert choose(exported, "cpu", flags=BF16).backend == "onnx"


def test_auto_takes_bf16_only_where_it_is_native(tiny: Path) -> None:
    assert choose(tiny / "bert", "cpu", "auto", flags=BF16).precision == "bfloat16"
    assert choose(tiny / "bert", "cpu", "auto", flags=OLD).precision == "float32"


def test_auto_takes_int8_only_where_the_quality_holds(exported: Path) -> None:
    good = choose(measured(exported, INT8_MEAN_ERROR / 2), "cpu", "auto", flags=OLD)
    assert (good.backend, good.precision) == ("onnx", "int8")
    bad = choose(measured(exported, INT8_MEAN_ERROR * 2), "cpu", "auto", flags=OLD)
    assert (bad.backend, bad.precision) == ("onnx", "float32")


def test_an_export_serves_torch_as_well(exported: Path) -> None:
    choice = choose(measured(exported, 1.0), "cpu", "auto", flags=BF16)
    assert (choice.backend, choice.precision) == ("torch", "bfloat16")
    assert choose(exported, "cpu", "auto", "onnx", flags=BF16).backend == "onnx"


def test_graph_of_other_weights(tiny: Path, exported: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "model"))
    shutil.copy(tiny / "bert" / "model.safetensors", folder)
    with pytest.raises(ModelError, match="made from other weights"):
        choose(folder, "cpu")
    assert choose(folder, "cpu", backend="torch").backend == "torch"


def test_asked_for(tiny: Path, exported: Path) -> None:
    assert choose(exported, "cpu", "int8", flags=OLD).graph is not None
    with pytest.raises(SettingsError, match="int8 runs in ONNX Runtime only"):
        choose(tiny / "bert", "cpu", "int8")
    with pytest.raises(ModelError, match="no ONNX graph of precision bfloat16"):
        choose(exported, "cpu", "bfloat16", "onnx")
    with pytest.raises(SettingsError, match="on the CPU only, not on cuda:1"):
        choose(exported, "cuda:1", "int8")
