"""splade-os.toml, .env, variables and cloud ids, damaged: what is read is what tomllib and dotenv
read."""

from __future__ import annotations

import base64
import random
import tomllib
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values
from pydantic import SecretStr

from splade_os.errors import SettingsError
from splade_os.settings import Settings, cloud_url, load_settings
from tests.fuzz.conftest import Fuzz
from tests.fuzz.mutations import HOSTILE, damage

TOML = b"""\
# of the shop
url = "https://search.example:9200"
index = 'products'
timeout = 2.5
verify_certs = false
username = "loader"  # r\xc3\xb6le
password = "@@secret"
"""
DOTENV = b"""\
export SPLADE_OS_URL=https://search.example:9200
SPLADE_OS_INDEX='products'
SPLADE_OS_TIMEOUT=2.5
OTHER_PROGRAM="x${HOME}"
SPLADE_OS_PASSWORD=secret
"""


def same(value: Any, theirs: Any) -> bool:
    if isinstance(value, SecretStr):
        return value.get_secret_value() == str(theirs).removeprefix("@")
    return (
        str(value).lower() == str(theirs).lower().strip().rstrip("/")
        or value == theirs
        or str(value) == theirs
    )


def test_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fuzz: Fuzz) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "splade-os.toml"

    def load(data: bytes) -> None:
        file.write_bytes(data)
        found = load_settings()
        for name, theirs in tomllib.loads(data.decode("utf-8-sig")).items():
            value = getattr(found, name)
            if name == "url" and "@" in str(theirs):  # user and password are taken out of it
                continue
            if name in {"url", "index", "username", "password"}:
                assert same(value, theirs), (name, value, theirs)

    fuzz("splade-os.toml", lambda chance: damage(TOML, chance), load)


def test_dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fuzz: Fuzz) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / ".env"

    def load(data: bytes) -> None:
        file.write_bytes(data)
        found = load_settings()
        theirs = {str(k).lower(): v for k, v in dotenv_values(file, encoding="utf-8").items()}
        for name in ("url", "index", "username", "password"):
            wanted = theirs.get(f"splade_os_{name}")
            # user and password may stand in the URL: they are taken out of it
            if wanted is not None and "@" not in theirs.get("splade_os_url", ""):
                assert same(getattr(found, name), wanted)

    fuzz(".env", lambda chance: damage(DOTENV, chance), load)


def test_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fuzz: Fuzz) -> None:
    monkeypatch.chdir(tmp_path)
    names = [f"SPLADE_OS_{name.upper()}" for name in Settings.model_fields]

    def make(chance: random.Random) -> tuple[str, str]:
        value = b"@" * chance.randrange(2) + damage(chance.choice(HOSTILE), chance)
        return chance.choice(names), value.replace(b"\0", b"").decode("utf-8", "surrogateescape")

    def load(variable: tuple[str, str]) -> None:
        with monkeypatch.context() as patch:
            patch.setenv(*variable)
            load_settings().connection()

    fuzz("SPLADE_OS_* variables", make, load)


def test_cloud_ids(fuzz: Fuzz) -> None:
    good = b"shop:" + base64.b64encode(b"eu.cloud.test:9243$f00d$beef")

    def load(data: bytes) -> None:
        assert cloud_url(data.decode("utf-8", "surrogateescape")).startswith("https://")

    fuzz("cloud id", lambda chance: damage(good, chance), load)


def test_a_secret_is_in_no_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "splade-os.toml"
    for number in range(300):
        data = damage(b'url = "x"\npassword = "hunter2hunter2"\n', random.Random(number))
        file.write_bytes(data)
        try:
            load_settings()
        except SettingsError as error:
            assert "hunter2hunter2" not in str(error)
