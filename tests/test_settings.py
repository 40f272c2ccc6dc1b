"""Names of settings: a mistyped one is told, wherever it stands; other programs' are left alone."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

from splade_os.errors import SettingsError, SpladeWarning
from splade_os.settings import load_settings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("ULR", "Is SPLADE_OS_URL meant"),
        ("PASWORD", "Is SPLADE_OS_PASSWORD meant"),
        ("TIME_OUT", "Is SPLADE_OS_TIMEOUT meant"),
        ("CA_CERT", "Is SPLADE_OS_CA_CERTS meant"),
        ("SHARDS", "There are: .*SPLADE_OS_API_KEY"),
    ],
)
@pytest.mark.parametrize("place", ["environment", ".env"])
def test_a_mistyped_variable(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, nearest: str, place: str
) -> None:
    if place == ".env":
        (folder / ".env").write_text(f"SPLADE_OS_{name}=hunter2\n")
    else:
        monkeypatch.setenv(f"SPLADE_OS_{name}", "hunter2")
    with pytest.warns(SpladeWarning, match=f"SPLADE_OS_{name} .*{nearest}") as caught:
        load_settings()
    assert "hunter2" not in str(caught[0].message)


@pytest.mark.parametrize(
    "name",
    [
        "SPLADE_OS_TEST_URL", "SPLADE_OS_CACHE", "SPLADE_OS_STATE", "SPLADE_OS_FUZZ_SECONDS",
        "SPLADE_OS_HEAP", "SPLADE_OS_PORT", "SPLADE_OS_VERSION",  # of docker/compose
        "SPLADE_OS_SERVICE_HOST", "SPLADE_OS_PORT_9200_TCP_ADDR",  # of Kubernetes
        "SPLADE_OS_SEARCH_SERVICE_PORT_HTTP", "SPLADE_OS_SEARCH_PORT",
        "SPLADE_URL", "URL",
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["environment", ".env"])
def test_variables_of_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, place: str
) -> None:
    if place == ".env":
        (folder / ".env").write_text(f"{name}=x\n")
    else:
        monkeypatch.setenv(name, "x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_settings().url == "http://localhost:9200"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('urll = "x"\n', "holds 'urll', which is no setting.*\nIs url meant"),
        ('[elsewhere]\nurl = "x"\n', "holds 'elsewhere', which is no setting"),
        ("url = 5\n", "url: Input should be a valid string"),
        ("timeout = -1\n", "timeout: Input should be greater than 0"),
        ("timeout = nan\n", "timeout"),
        ("url = \n", "splade-os.toml cannot be read"),
        ("a = " + "[" * 5000, "splade-os.toml cannot be read"),
        (
            'password = "@~nobody-of-this-name/x"\n',
            "password: in .* it begins with @",
        ),
    ],
)
def test_a_wrong_file(folder: Path, text: str, message: str) -> None:
    (folder / "splade-os.toml").write_text(text)
    with pytest.raises(SettingsError, match=message):
        load_settings()


@pytest.mark.parametrize("name", ["splade-os.toml", ".env"])
def test_a_file_in_another_encoding(folder: Path, name: str) -> None:
    (folder / name).write_bytes("SPLADE_OS_URL = 'http://föö'\n".encode("latin-1"))
    with pytest.raises(SettingsError, match=f"{name} cannot be read"):
        load_settings()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["splade-os.toml", ".env"])
def test_a_file_that_may_not_be_read(folder: Path, name: str) -> None:
    (folder / name).write_text("")
    (folder / name).chmod(0)
    with pytest.raises(SettingsError, match=f"{name} cannot be read: Permission denied"):
        load_settings()
