"""The starter in the package is what its recipe makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest
from safetensors.numpy import load_file

from splade_os import DocumentEncoder
from splade_os.encoding.choice import INT8_MEAN_ERROR, choose
from splade_os.encoding.resolve import starter_folder
from splade_os.export.starter import build_starter
from splade_os.training.recipe_file import load_recipe
from tests.tiny_models import TEXTS

_LAYERS = 6
WEIGHTS = Path("document_0_Transformer/model.safetensors")


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("starter") / "untrained"
    build_starter(out)
    return out


def test_packed_again(tmp_path: Path) -> None:
    """From the folder itself the same folder comes, tensor by tensor."""
    shipped, built = starter_folder(), tmp_path / "starter"
    build_starter(built, trained=shipped)
    names = {file.relative_to(shipped) for file in shipped.rglob("*") if file.is_file()}
    assert names == {file.relative_to(built) for file in built.rglob("*") if file.is_file()}
    for name in names:
        if name.suffix == ".safetensors":
            theirs, ours = load_file(shipped / name), load_file(built / name)
            assert theirs.keys() == ours.keys()
            assert all(theirs[key].tobytes() == ours[key].tobytes() for key in ours)
    for name in (Path("splade_os.json"), Path("modules.json"), Path("router_config.json")):
        assert orjson.loads((shipped / name).read_bytes()) == orjson.loads(
            (built / name).read_bytes()
        )


def test_int8_on_cpus() -> None:
    """Its int8 graph stays close enough to be what a CPU runs without being asked."""
    folder = starter_folder() / WEIGHTS.parent
    assert choose(folder, "cpu", "auto", flags=frozenset()).precision == "int8"
    exact = DocumentEncoder.load("starter", device="cpu", backend="torch").encode(TEXTS)
    ours = DocumentEncoder.load("starter", device="cpu", dtype="int8").encode(TEXTS)
    expected = exact.to_dense()
    error = np.abs(ours.to_dense() - expected)[expected > 0].mean() / expected[expected > 0].mean()
    assert 0 < error <= INT8_MEAN_ERROR


def test_only_the_top_is_trained(untrained: Path) -> None:
    """What its recipe does not train is the base's, to the bit; special and unused tokens never
    fire."""
    part = load_recipe("starter-cpu", {"model.base": "starter"}).top_only
    assert part is not None
    trains = ["cls.predictions."]
    trains += [f"bert.encoder.layer.{i}." for i in range(_LAYERS - part.layers, _LAYERS)]
    start, trained = load_file(untrained / WEIGHTS), load_file(starter_folder() / WEIGHTS)
    assert start.keys() == trained.keys()
    changed = {name for name in start if start[name].tobytes() != trained[name].tobytes()}
    assert all(name.startswith(tuple(trains)) for name in changed)
    assert all(any(name.startswith(place) for name in changed) for place in trains)
    bias = trained["cls.predictions.bias"]
    assert np.isfinite(bias).all() and (bias[:999] < -50).all()
    options = [
        orjson.loads((f / "splade_os.json").read_bytes()) for f in (untrained, starter_folder())
    ]
    weights = [each.pop("lexical_weight") for each in options]
    assert options[0] == options[1]
    assert weights == [2.0, 1.0]  # beside it the top was trained; half of it is shipped
