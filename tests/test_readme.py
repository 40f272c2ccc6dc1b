"""The Python examples of README and docs/application.md run as they stand."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path

import pytest

from splade_os.engines import connect

ROOT = Path(__file__).parents[1]


def example_of(file: str) -> str:
    text = (ROOT / file).read_text()
    (code,) = re.findall(r"tests/test_readme.py -->\n```python\n(.*?)```", text, re.S)
    return str(code)


def test_documents_one_by_one(opensearch_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, name = example_of("README.md"), f"products-{uuid.uuid4().hex[:12]}"
    assert code.count('"http://localhost:9200"') == 1
    code = code.replace("http://localhost:9200", opensearch_url).replace(
        '"products")', f'"{name}")'
    )
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out == "1 1\n"
    connect(opensearch_url).delete_index(name)


def test_a_whole_collection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    documents = [
        {"_id": "csv", "title": "csv.reader", "text": "Read the rows of a table from a file."},
        {"_id": "sun", "title": "sunrise", "text": "The time at which the sun comes up."},
        {"_id": "rm", "title": "shutil.rmtree", "text": "Delete a folder with its content."},
    ]
    (tmp_path / "docs.jsonl").write_text("\n".join(json.dumps(d) for d in documents))
    monkeypatch.chdir(tmp_path)
    exec(compile(example_of("docs/application.md"), "application.md", "exec"), {})
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("1 ") and first.endswith("csv csv.reader")
    assert not (tmp_path / "dead.jsonl").exists()
