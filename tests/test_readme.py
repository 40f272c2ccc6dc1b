"""The README's Python example runs as it stands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def test_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"tests/test_readme.py -->\n```python\n(.*?)```", README.read_text(), re.S)
    documents = [
        {"_id": "csv", "title": "csv.reader", "text": "Read the rows of a table from a file."},
        {"_id": "sun", "title": "sunrise", "text": "The time at which the sun comes up."},
        {"_id": "rm", "title": "shutil.rmtree", "text": "Delete a folder with its content."},
    ]
    (tmp_path / "docs.jsonl").write_text("\n".join(json.dumps(d) for d in documents))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(README), "exec"), {})
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("1 ") and first.endswith("csv csv.reader")
    assert not (tmp_path / "dead.jsonl").exists()
