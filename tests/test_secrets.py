"""Where a secret may go, and that nothing shows one, whatever characters it has."""

from __future__ import annotations

import asyncio
import json
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from splade_os import AsyncSearchClient, SearchClient, connect
from splade_os.cli import cli
from splade_os.errors import EngineError, SettingsError, SpladeError
from splade_os.settings import Settings, load_settings
from splade_os.urls import in_clear_text, nodes, shown, split_user, without_secrets

PLACES = ("flag", "environment", ".env", "splade-os.toml")
STRENGTH = {"flag": 0, "environment": 0, ".env": 1, "splade-os.toml": 2}
URL = "https://search.example:9200"
SECRETS = ("password", "api_key", "bearer_token")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(place: str, name: str, value: str, patch: pytest.MonkeyPatch) -> dict[str, str]:
    """A setting at one of its places; the flags."""
    if place == "flag":
        return {name: value}
    if place == "environment":
        patch.setenv(f"SPLADE_OS_{name.upper()}", value)
        return {}
    line = f"SPLADE_OS_{name.upper()}='{value}'" if place == ".env" else f"{name} = '{value}'"
    with Path(place).open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    return {}


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("of_secret", PLACES)
@pytest.mark.parametrize("of_url", PLACES)
def test_a_secret_goes_to_no_server_of_a_weaker_source(
    monkeypatch: pytest.MonkeyPatch, of_url: str, of_secret: str, secret: str
) -> None:
    flags = put(of_url, "url", URL, monkeypatch) | put(of_secret, secret, "hunter2", monkeypatch)
    flags |= put(of_secret, "username", "u", monkeypatch) if secret == "password" else {}
    if STRENGTH[of_url] <= STRENGTH[of_secret]:
        assert load_settings(**flags).url == URL
        return
    with pytest.raises(SettingsError, match=f"url comes from .*{of_url}.*{secret}") as caught:
        load_settings(**flags)
    with pytest.raises(SettingsError, match="url comes from"):
        SearchClient(index="x", **flags)
    assert "hunter2" not in str(caught.value) and "--url" in str(caught.value.hint)


@pytest.mark.parametrize("place", [".env", "splade-os.toml"])
@pytest.mark.parametrize(
    ("name", "value", "refused"),
    [
        ("verify_certs", "false", True),
        ("verify_certs", "0", True),
        ("verify_certs", "true", False),
        ("allow_http", "true", True),
        ("allow_http", "no", False),
        ("ca_certs", "ca.pem", True),
        ("fingerprint", "ab", True),
        ("timeout", "5", False),
    ],
)
@pytest.mark.parametrize("url", [URL, "https://u:hunter2@search.example"])
def test_nor_does_such_a_source_say_whom_to_trust(
    monkeypatch: pytest.MonkeyPatch, place: str, name: str, value: str, refused: bool, url: str
) -> None:
    put(place, name, value, monkeypatch)
    flags = {"url": url} | ({} if "@" in url else {"api_key": "hunter2"})
    if not refused:
        load_settings(**flags)
        return
    with pytest.raises(SettingsError, match=f"{name} comes from .*{place}"):
        load_settings(**flags)


@pytest.mark.parametrize("place", [".env", "splade-os.toml"])
@pytest.mark.parametrize("name", [*SECRETS, "client_key_password"])
def test_a_file_of_the_folder_names_no_other_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, place: str, name: str
) -> None:
    (folder / "key").write_text("TOP SECRET")
    put(place, name, "@key", monkeypatch)
    with pytest.raises(SettingsError, match=f"{name}.*begins with @"):
        load_settings()
    monkeypatch.setenv(f"SPLADE_OS_{name.upper()}", "@key")
    assert getattr(load_settings(), name).get_secret_value() == "TOP SECRET"


@pytest.mark.parametrize("place", [".env", "splade-os.toml"])
def test_its_use_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    put(place, "url", "sqlite:///no/such/folder/x.db", monkeypatch)
    put(place, "password", "hunter2", monkeypatch)
    result = CliRunner().invoke(cli, ["index", "show", "--index", "x"])
    assert f"{folder / place} are used: password, url" in result.stderr
    assert "hunter2" not in result.output


@pytest.mark.parametrize(
    ("url", "readable"),
    [
        ("http://search.example:9200", True),
        ("http://10.0.0.1", True),
        ("http://[2001:db8::1]:9200", True),
        ("http://127.0.0.1.example", True),
        ("http://localhost.example", True),
        ("http://localhost:9200", False),
        ("http://LOCALHOST", False),
        ("http://127.8.8.8:9200", False),
        ("http://[::1]:9200", False),
        ("https://search.example:9200", False),
    ],
)
def test_credentials_without_tls(url: str, readable: bool) -> None:
    assert in_clear_text(url) is readable
    connect(url).close()
    for credentials in ({"username": "u", "password": "hunter2"}, {"api_key": "hunter2"}):
        connect(url, allow_http=True, **credentials).close()
        if not readable:
            connect(url, **credentials).close()
            continue
        with pytest.raises(SettingsError, match="without TLS"):
            connect(url, **credentials)
        with pytest.raises(SettingsError, match="without TLS"):
            SearchClient(url, "x", **credentials)
    if readable:
        with pytest.raises(SettingsError, match="without TLS"):
            connect(url.replace("//", "//u:hunter2@"))


# not of digits alone: those may stand in a message for other reasons
PASSWORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(
    lambda text: f"hunter2{text}Zq9"
)


def leaks(secret: str, text: str) -> bool:
    """Whether a part of it that identifies it is shown."""
    return "hunter2" in text or "Zq9" in text or secret in text


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example("hunter2#rest-Zq9")
@example("hunter2/a?b@c:d%25'\"\nZq9")
@example("hunter2,https://Zq9")
@example("hunter2[Zq9")
@given(PASSWORDS)
def test_a_password_in_a_url_is_used_or_refused_and_never_shown(secret: str) -> None:
    """Encoded it arrives as it is; raw it may be refused, but not shown."""
    url = f"https://elastic:{quote(secret, safe='')}@127.0.0.1:1"
    assert split_user(url) == ("https://127.0.0.1:1", "elastic", secret)
    found = load_settings(url=url)
    assert found.url == "https://127.0.0.1:1" and found.password is not None
    assert found.password.get_secret_value() == secret
    assert not leaks(secret, repr(found) + str(found) + repr(found.connection()))
    raw = f"://elastic:{secret}@127.0.0.1:1"
    for given_url in (f"https{raw}", f"ftp{raw}", raw, f"https{raw}/p@th", f"https{raw},http://b"):
        for attempt in (load_settings, Settings, lambda url: connect(url).close()):
            try:
                value = attempt(url=given_url)
            except SettingsError as error:
                text = "".join(traceback.format_exception(error)) + repr(error) + str(error.hint)
            else:
                text = repr(value) if given_url.startswith("http") else ""
            assert not leaks(secret, text), (given_url, text)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example("hunter2\nZq9")
@example("hunter2/#?@Zq9")
@given(PASSWORDS)
def test_no_command_shows_a_secret_when_it_fails(folder: Path, secret: str) -> None:
    (folder / "docs.jsonl").write_text(json.dumps({"id": "1", "text": "red"}))
    commands = [["search", "red"], ["index", "show"], ["index", "list"], ["explain", "red", "1"],
                ["index", "delete", "--yes"], ["search", "red", "--mode", "bm25"]]  # fmt: skip
    ways = [
        ["--url", f"https://elastic:{secret}@127.0.0.1:1"],
        ["--url", f"http://elastic:{quote(secret, safe='')}@127.0.0.1:1"],
        ["--url", "http://127.0.0.1:1", "--username", "elastic", f"--password=@{secret}"],
        ["--url", "http://127.0.0.1:1", "--username", "elastic", f"--password={secret}"],
        ["--url", "http://127.0.0.1:1", f"--api-key={secret}"],
        ["--url", "http://127.0.0.1:1", f"--bearer-token={secret}"],
    ]
    for command in commands:
        for way in ways:
            index = [] if command == ["index", "list"] else ["--index", "x"]
            result = CliRunner().invoke(cli, [*command, *way, *index])
            assert result.exit_code != 0
            text = result.output
            if result.exception is not None and not isinstance(result.exception, SystemExit):
                assert isinstance(result.exception, SpladeError), result.exception
                text += "".join(traceback.format_exception(result.exception))
                text += str(result.exception.hint)
            assert not leaks(secret, text), (command, way, text)


@settings(max_examples=100)
@example("hunter2/x?y#@Zq9")
@example("1/hunter2@Zq9")
@given(PASSWORDS)
def test_a_url_of_a_source_is_shown_without_secrets(secret: str) -> None:
    url = f"http://alice:{secret}@127.0.0.1:1/docs.jsonl?sig={quote(secret)}"
    assert not leaks(secret, shown(url)) and "127.0.0.1:1/docs.jsonl" in shown(url)
    assert not leaks(secret, without_secrets(f"404, url={url}", url))
    assert shown("plain/file@home?.jsonl") == "plain/file@home?.jsonl"


def test_several_nodes() -> None:
    assert nodes("https://u:p%40@a:1/, https://b:2") == (["https://a:1", "https://b:2"], "u", "p@")


def test_a_source_shows_no_secret(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where it is no source: an ingest by URL that fails, its output and its state."""
    monkeypatch.setenv("SPLADE_OS_STATE", str(folder / "state"))
    for file in ("docs.jsonl", "docs.jsonl?sig=hunter2Zq9", "docs", "docs.parquet"):
        source = f"http://alice:hunter2-Zq9@127.0.0.1:1/{file}"
        result = CliRunner().invoke(
            cli, ["ingest", source, "--url", "sqlite:///x.db", "--index", "x"]
        )
        assert isinstance(result.exception, SpladeError)
        text = result.output + "".join(traceback.format_exception(result.exception))
        assert not leaks("hunter2-Zq9", text), text
        assert "http://***@127.0.0.1:1/docs" in str(result.exception)
    written = [file.read_bytes() for file in folder.rglob("*") if file.is_file()]
    assert not any(b"hunter2" in content for content in written)


def test_no_redirect_is_followed() -> None:
    """Neither with asyncio nor without: the other server sees nothing."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            if self.server is other:
                seen.append(self.path)
            self.send_response(307)
            self.send_header("location", f"http://127.0.0.1:{other.server_port}{self.path}")
            self.send_header("content-length", "0")
            self.end_headers()

        do_POST = do_GET  # noqa: N815

    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server,
        ThreadingHTTPServer(("127.0.0.1", 0), Handler) as other,
    ):
        for one in (server, other):
            threading.Thread(target=one.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"

        async def search() -> None:
            async with AsyncSearchClient(url, "x", api_key="k") as client:
                await client.search("red")

        with pytest.raises(EngineError) as without:
            SearchClient(url, "x", api_key="k").search("red")
        with pytest.raises(EngineError) as with_asyncio:
            asyncio.run(search())
        for one in (server, other):
            one.shutdown()
    assert not seen and without.value.status == with_asyncio.value.status == 307
