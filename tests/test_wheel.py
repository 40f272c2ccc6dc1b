"""The built wheel, alone in a clean environment: what is not packaged fails here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

USE = """
import sys
from pathlib import Path
import numpy as np
import splade_os
from splade_os import mappings, SearchClient, connect
from splade_os.engines import DocumentRenderer, IndexMeta
from splade_os.encoding import load_query_encoder, read_layout
from splade_os.encoding.resolve import content_hash
from splade_os.identity import ModelIdentity
from splade_os.local.artifacts import releases
from splade_os.local.docker import Cluster, compose_file

assert "site-packages" in splade_os.__file__, splade_os.__file__
assert mappings.load("opensearch", "rank_features") and releases()
with compose_file(Cluster("wheel", "elasticsearch", "9.2.0", 1, 9200)) as file:
    assert file.is_file()

model, database = sys.argv[1:]
part = read_layout(model).document
queries = load_query_encoder(model)
identity = ModelIdentity(
    name=model, content_hash=content_hash(part.folder), activation=part.activation,
    pooling=part.pooling, max_length=part.max_length, vocabulary_size=len(queries.vocabulary))
engine = connect(f"sqlite:///{database}")
engine.create_index("wheel", IndexMeta(
    splade_os=splade_os.__version__, feature_naming="token-esc1", model=identity))
row = queries.encode(["red cat"]).row(0)
body = DocumentRenderer(queries.vocabulary).render("1", {"text": "red cat"}, *row)
assert engine.bulk("wheel", body)[0].ok
hits = SearchClient(engine=engine, index="wheel").search("a cat")
assert [hit.id for hit in hits] == ["1"]
assert not {"torch", "transformers"} & set(sys.modules)
"""


def uv(*arguments: str) -> None:
    """uv with what is cached; with the network where that is not enough."""
    command = [str(Path(sys.executable).with_name("uv")), *arguments]
    for offline in (["--offline"], []):
        done = subprocess.run([*command, *offline], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
    pytest.fail(done.stderr)


def test_wheel(tiny: Path, tmp_path: Path) -> None:
    uv("build", "--wheel", "--no-build-isolation", "--python", sys.executable,
       "--out-dir", str(tmp_path), str(ROOT))  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    clean = tmp_path / "clean"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(clean)], check=True)
    python = clean / "bin" / "python"
    uv("pip", "install", "-q", "--python", str(python), "-c", str(ROOT / "constraints.txt"),
       str(wheel))  # fmt: skip
    top = {path.name for path in clean.glob("lib/*/site-packages/*")}
    assert not top & {"ingest", "mappings", "docker", "torch"}
    subprocess.run(
        [python, "-c", USE, str(tiny / "router"), str(tmp_path / "wheel.db")],
        check=True,
        cwd=tmp_path,
    )
    version = subprocess.run(
        [clean / "bin" / "splade-os", "--version"], capture_output=True, text=True, check=True
    )
    assert version.stdout.startswith("splade-os, version 0.1")
