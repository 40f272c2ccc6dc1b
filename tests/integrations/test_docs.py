"""The examples of docs/integrations.md run as they stand, on every engine."""

from __future__ import annotations

import contextlib
import re
import uuid
from pathlib import Path

import pytest

from splade_os.encoding.resolve import starter_folder
from splade_os.engines import connect
from splade_os.errors import IndexNotFoundError
from tests.integrations.conftest import framework

PAGE = (Path(__file__).parents[2] / "docs" / "integrations.md").read_text()
EXAMPLES = re.findall(
    r"tests/integrations/test_docs.py: (\w+) -->\n```python\n(.*?)```", PAGE, re.DOTALL
)

PRINTED = {"mteb": "splade-os/starter"}  # a task is not at hand without the hub: test_mteb.py


def test_every_example_is_run() -> None:
    assert PAGE.count("```python") == len(EXAMPLES) == 7


@pytest.mark.parametrize(("name", "code"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_example(name: str, code: str, engine_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    framework(name)
    code = code.replace('"MODEL"', repr(str(starter_folder())))
    index = f"test-{uuid.uuid4().hex[:12]}"
    assert '"http://localhost:9200"' in code and '"docs"' in code
    code = code.replace("http://localhost:9200", engine_url).replace('"docs"', f'"{index}"')
    try:
        exec(compile(code, "integrations.md", "exec"), {})
        assert PRINTED.get(name, "red shoe") in capsys.readouterr().out
    finally:
        engine = connect(engine_url)
        with contextlib.suppress(IndexNotFoundError):
            engine.delete_index(index)
        engine.close()
