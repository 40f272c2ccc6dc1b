"""The starter in the package is what its recipe makes."""

from __future__ import annotations

from pathlib import Path

import orjson
from safetensors.numpy import load_file

from splade_os.encoding.resolve import starter_folder
from splade_os.export.starter import build_starter


def test_reproducible(tmp_path: Path) -> None:
    build_starter(tmp_path / "starter")
    shipped, built = starter_folder(), tmp_path / "starter"
    names = {file.relative_to(shipped) for file in shipped.rglob("*") if file.is_file()}
    assert names == {file.relative_to(built) for file in built.rglob("*") if file.is_file()}
    for name in names:
        if name.suffix == ".safetensors":
            theirs, ours = load_file(shipped / name), load_file(built / name)
            assert theirs.keys() == ours.keys()
            assert all(theirs[key].tobytes() == ours[key].tobytes() for key in ours)
    for name in ("splade_os.json", "modules.json", "router_config.json"):
        assert orjson.loads((shipped / name).read_bytes()) == orjson.loads(
            (built / name).read_bytes()
        )
