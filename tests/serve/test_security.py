"""Who gets in, what gets through to the engine, and what gets out."""

from __future__ import annotations

import base64
import hmac
from typing import Any

import pytest
import requests

from splade_os.serve import admission
from tests.serve.conftest import Start, post

TOKEN = "0123456789abcdef0123456789abcdef"


def test_token(start: Start, engine_url: str, filled: str) -> None:
    url = start(engine_url, filled, token=TOKEN).url
    body = {"text": "shoe"}
    nobody = post(url, "search", body)
    assert nobody.status_code == 401 and nobody.headers["www-authenticate"] == "Bearer"
    assert requests.get(f"{url}/metrics", timeout=9).headers["www-authenticate"].startswith("Basic")
    basic = base64.b64encode(f"me:{TOKEN}".encode()).decode()
    for value, status in (
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        (f"Basic {basic}", 200),
        (f"Bearer {TOKEN[:-1]}", 401),
        (f"Bearer {TOKEN}0", 401),
        ("Bearer", 401),
        ("Basic !!!", 401),
        (TOKEN, 401),
    ):
        found = post(url, "search", body, headers={"Authorization": value})
        assert found.status_code == status, value
    for path in ("live", "ready"):
        assert requests.get(f"{url}/health/{path}", timeout=60).status_code == 200
    assert post(url, "search", body, headers={"Host": "evil.example"}).status_code == 401


def test_token_is_compared_in_constant_time(
    start: Start, engine_url: str, filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest

    def watched(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return compare(one, other)

    monkeypatch.setattr(admission.hmac, "compare_digest", watched)
    url = start(engine_url, filled, token=TOKEN).url
    post(url, "search", {"text": "x"}, headers={"Authorization": "Bearer guess"})
    assert (b"guess", TOKEN.encode()) in compared


def test_other_sites_get_nothing(service: str) -> None:
    """No CORS; forms and scripts of other pages, and names that were pointed here, are refused."""
    body = {"text": "shoe"}
    for headers in (
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "null"},
    ):
        answer = post(service, "search", body, headers=headers)
        assert answer.status_code == 403, headers
        assert not any(name.startswith("access-control") for name in answer.headers)
    options = requests.options(
        f"{service}/v1/search",
        headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"},
        timeout=9,
    )
    assert options.status_code >= 400
    assert not any(name.startswith("access-control") for name in options.headers)
    assert post(service, "search", body, headers={"Host": "evil.example"}).status_code == 421
    assert post(service, "search", body, headers={"Origin": service}).status_code == 200


def test_headers_of_every_answer(service: str) -> None:
    for path in ("/health/live", "/nothing", "/openapi.json"):
        headers = requests.get(f"{service}{path}", timeout=9).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert headers["x-content-type-options"] == "nosniff" and "server" not in headers
    evil = {"X-Request-ID": "a" * 65}
    given = requests.get(f"{service}/health/live", headers=evil, timeout=9)
    assert "aaa" not in given.headers["x-request-id"]


@pytest.mark.parametrize(
    "sections",
    [
        {"filter": {"script": {"script": {"source": "true"}}}},
        {"filter": [{"bool": {"must": [{"script": {"script": "true"}}]}}]},
        {"filter": {"terms": {"brand": {"index": "secrets", "id": "1", "path": "word"}}}},
        {"filter": {"geo_shape": {"place": {"indexed_shape": {"index": "s", "id": "1"}}}}},
        {"filter": {"wrapper": {"query": "e30="}}},
        {"filter": {"percolate": {"field": "query", "index": "secrets", "id": "1"}}},
        {"filter": {"more_like_this": {"like": [{"_index": "secrets", "_id": "1"}]}}},
        {"aggs": {"a": {"terms": {"script": "doc['brand']"}}}},
        {"aggs": {"a": {"scripted_metric": {}}}},
        {"sort": [{"_script": {"type": "number", "script": {"source": "1"}}}]},
        {"body": {"script_fields": {"a": {"script": "1"}}}},
        {"body": {"runtime_mappings": {"a": {"type": "long"}}}},
        {"post_filter": {"script": {"script": {"id": "x"}}}},
    ],
)
def test_no_code_and_no_other_index(service: str, sections: dict[str, Any]) -> None:
    answer = post(service, "search", {"text": "shoe", **sections})
    assert answer.status_code == 400 and answer.json()["error"]["type"] == "refused", answer.text


def test_fields_of_any_name_may_be_filtered(service: str) -> None:
    """A field that is called as a section is, is no section."""
    for name in ("script", "index", "source"):
        answer = post(service, "search", {"text": "shoe", "filter": {"term": {name: "latin"}}})
        assert answer.status_code == 200 and answer.json()["hits"] == []
