"""A folder with the name of another model: it is used, and said."""

from __future__ import annotations

from pathlib import Path

import pytest

from splade_os.encoding.resolve import resolve_model


@pytest.mark.parametrize("name", ["starter", "org/model"])
def test_a_folder_before_a_name_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve_model(name).folder.resolve() == tmp_path / name
    assert f"is the folder {tmp_path / name}, not that of" in caplog.text
    caplog.clear()
    assert resolve_model(f"./{name}").folder.resolve() == tmp_path / name
    assert not caplog.text
