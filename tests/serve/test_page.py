"""The page as it comes over HTTP, without JavaScript."""

from __future__ import annotations

import re
import threading
import warnings
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from splade_os import SearchClient
from splade_os.evaluation.trec import read_qrels, read_queries
from splade_os.serve.page.state import PageState, Way
from splade_os.serve.page.texts import AFTER, BEFORE, cut, spans
from tests.serve.conftest import EVIL, Start


class Elements(HTMLParser):
    """Names, attributes and texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def having(self, name: str, value: str) -> list[dict[str, str | None]]:
        return [given for _, given in self.tags if value in (given.get(name) or "").split()]


def get(url: str, **params: Any) -> requests.Response:
    return requests.get(url, params=params, timeout=60)


def test_columns_are_the_searches(service: str, engine_url: str, filled: str) -> None:
    answer = get(f"{service}/", q="running shoe", ways="bm25,idf,hybrid,encoder")
    assert answer.status_code == 200, answer.text
    page = Elements(answer.text)
    ids = [given["data-id"] for given in page.having("class", "hit")]
    with SearchClient(engine_url, filled) as client:
        expected = [
            hit.id
            for mode in ("bm25", "idf", "hybrid", "encoder")
            for hit in client.search("running shoe", 10, mode)  # type: ignore[arg-type]
        ]
    assert ids == expected
    assert {"bm25", "idf", "hybrid", "encoder"} == {
        (given["value"] or "").partition("@")[0]
        for given in page.having("name", "ways")
        if "checked" in given
    }
    assert page.having("class", "move") and page.having("class", "expansion")
    assert "<mark>Running</mark>" in answer.text or "<mark>running</mark>" in answer.text
    assert "client = SearchClient(" in answer.text
    assert ("curl -sS" in answer.text) == (not engine_url.startswith("sqlite"))
    assert len(answer.content) < 150_000


def test_nothing_is_asked_elsewhere(service: str) -> None:
    """Everything that the page loads is its own; nothing stands inline."""
    for path in ("/", "/?q=shoe", "/explain", "/document?id=d1&q=shoe"):
        answer = get(f"{service}{path}")
        assert answer.status_code == 200, answer.text
        page = Elements(answer.text)
        for tag, given in page.tags:
            assert "style" not in given and not any(name.startswith("on") for name in given)
            if tag in ("script", "link", "img"):
                source = given.get("src") or given.get("href") or ""
                assert source.startswith("/static/"), given
                assert get(f"{service}{source}").status_code == 200
        assert "<style" not in answer.text
    script = get(f"{service}/static/page.js", v="x")
    assert "immutable" in script.headers["cache-control"]


def test_documents_and_queries_are_never_markup(service: str) -> None:
    for path, params in (
        ("/", {"q": "evil shoe " + EVIL, "ways": "bm25,idf"}),
        ("/document", {"q": EVIL, "id": "d6"}),
        ("/explain", {"text": EVIL}),
        ("/", {"q": "shoe", "ways": EVIL, "f": f"{EVIL}:{EVIL}", "sort": "", "k": EVIL}),
    ):
        answer = get(f"{service}{path}", **params)
        assert answer.status_code < 500, answer.text
        assert "<script>alert" not in answer.text and "&lt;script&gt;" in answer.text
        assert "\u202e" not in answer.text and "\u0007" not in answer.text
        for _, given in Elements(answer.text).tags:
            for name in ("href", "src", "action"):
                assert not (given.get(name) or "/").startswith("javascript")
    answer = get(f"{service}/", q="evil shoe", ways="idf")
    assert "&lt;em&gt;" in answer.text  # a document cannot mark itself
    assert not re.search(r"<mark>An </mark>|<mark></mark>", answer.text)


def test_every_state_has_an_url() -> None:
    pairs = [("q", "a b"), ("ways", "bm25,idf@y"), ("k", "20"), ("prune", "0.2"), ("bm25", "0.5")]
    pairs += [("f", "brand:acme"), ("f", "price:10..20"), ("sort", "price:asc")]
    state = PageState.read(pairs, ["x", "y"])
    assert state.ways == (Way("bm25", "x"), Way("idf", "y")) and not state.complaints
    from urllib.parse import parse_qsl

    assert PageState.read(parse_qsl(state.url()[2:]), ["x", "y"]) == state
    assert state.clauses() == [
        {"term": {"brand": "acme"}},
        {"range": {"price": {"gte": 10.0, "lte": 20.0}}},
    ]
    assert ("brand", "acme") not in PageState.read(
        parse_qsl(state.with_filter("brand", "acme")[2:]), ["x", "y"]
    ).filters
    wrong = [
        ("k", "x"),
        ("prune", "7"),
        ("ways", "guess,idf@z,,,"),
        ("f", "nothing"),
        ("bm25", "nan"),
    ]
    state = PageState.read(wrong, ["x"])
    assert len(state.complaints) == 6 and state.k == 10 and state.prune == 0 and state.bm25 == 1


def test_filters_and_sort(service: str, engine_url: str) -> None:
    answer = get(f"{service}/", q="shoe thing", f="brand:acme", ways="idf")
    ids = {given["data-id"] for given in Elements(answer.text).having("class", "hit")}
    assert ids and ids <= {"d1", "d3", "d6"}
    assert "Remove the filter brand: acme" in answer.text
    if engine_url.startswith("sqlite"):
        return
    assert "brand" in answer.text and "price" in answer.text
    answer = get(f"{service}/", q="thing", sort="price:desc", ways="bm25", k=5)
    prices = re.findall(r"<bdi>price</bdi> <b><bdi>(\d+)", answer.text)
    assert prices == sorted(prices, key=int, reverse=True) and len(prices) == 5


def test_a_documents_vector(service: str, engine_url: str, filled: str) -> None:
    answer = get(f"{service}/document", id="d1", q="running footwear", ways="idf")
    assert answer.status_code == 200, answer.text
    with SearchClient(engine_url, filled) as client:
        (hit,) = [
            h for h in client.search("running footwear", 10, "idf", explain=True) if h.id == "d1"
        ]
    for term in hit.terms:
        row = re.search(
            rf"<bdi>{re.escape(term.token)}</bdi></th>\s*<td class=\"n\">([\d.]+)</td>.*?</td>"
            r"\s*<td class=\"n\">([\d.]+)",
            answer.text,
            re.S,
        )
        assert row is not None
        assert float(row[1]) == pytest.approx(term.stored_weight, abs=6e-4)
        assert float(row[2]) == pytest.approx(term.share, abs=6e-4)
    assert f"{hit.score:.4f}" in answer.text
    assert get(f"{service}/document", id="nobody").status_code == 404
    assert get(f"{service}/document").status_code == 400


def test_explain(service: str) -> None:
    answer = get(f"{service}/explain", text="The shoe for running")
    page = Elements(answer.text)
    assert {"shoe", "running"} <= {text.strip() for text in page.texts}
    assert page.having("class", "prior") and page.having("class", "expansion")
    assert get(f"{service}/explain", text="").status_code == 200
    assert get(f"{service}/explain", text="x" * 5000).status_code == 400
    assert get(f"{service}/explain", text="x", index="other").status_code == 404


def test_judgements_are_what_evaluate_reads(
    start: Start, engine_url: str, filled: str, tmp_path: Path
) -> None:
    folder = tmp_path / "judged"
    url = start(engine_url, filled, judgements=folder).url

    def judge(query: str, document: str, relevance: str, **more: Any) -> requests.Response:
        body = {"q": query, "id": document, "relevance": relevance, **more}
        return requests.post(f"{url}/judge", data=body, timeout=30, allow_redirects=False)

    answer = judge("red  shoe", "d1", "1", state="q=red++shoe&ways=idf")
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/?q=red") and "idf" in answer.headers["location"]
    judge("red shoe", "d5", "0")
    judge("boats", "d2", "1")
    judge("boats", "d1", "1")
    judge("boats", "d1", "")
    queries = read_queries(folder / "queries.jsonl")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        qrels = read_qrels(folder / "qrels" / "test.tsv")
    assert {queries[q]: judged for q, judged in qrels.items()} == {
        "red shoe": {"d1": 1, "d5": 0},
        "boats": {"d2": 1},
    }
    shown = Elements(get(f"{url}/", q="red shoe", ways="idf").text)
    assert len([g for g in shown.having("aria-pressed", "true") if g.get("data-grade") == "1"]) == 1
    assert (
        get(f"{url}/judgements/qrels/test.tsv").content
        == (folder / "qrels" / "test.tsv").read_bytes()
    )
    for query, document, relevance in (("", "d1", "1"), ("x", "a\tb", "1"), ("x", "d1", "2")):
        assert judge(query, document, relevance).status_code == 400
    cross = requests.post(
        f"{url}/judge",
        data={"q": "x", "id": "d1", "relevance": "1"},
        headers={"Sec-Fetch-Site": "cross-site"},
        timeout=9,
    )
    assert cross.status_code == 403
    again = start(engine_url, filled, judgements=folder).url  # what is there is kept
    assert 'Judgements: <b id="judgements">3</b>' in get(f"{again}/", q="x").text
    assert requests.post(f"{again}/judge", data={}, timeout=9).status_code == 400


def test_no_buttons_without_a_folder(service: str) -> None:
    assert "Relevant" not in get(f"{service}/", q="shoe").text
    assert requests.post(f"{service}/judge", data={}, timeout=9).status_code == 403


def test_node_that_is_down(start: Start) -> None:
    url = start("http://127.0.0.1:9", "products").url
    answer = get(f"{url}/", q="shoe")
    assert answer.status_code == 503
    assert answer.text.count('role="alert"') == 1 and "127.0.0.1:9" in answer.text
    assert get(f"{url}/").status_code == 200  # the page itself is there


class Guarded(BaseHTTPRequestHandler):
    """A cluster that takes no password."""

    def do_GET(self) -> None:
        body = b'{"error":{"reason":"missing authentication credentials"},"status":401}'
        self.send_response(401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_HEAD = do_GET  # noqa: N815

    def log_message(self, *given: Any) -> None:
        pass


def test_wrong_password(start: Start) -> None:
    """Said in each column, without the password; it is no fault of whoever looks at the page."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Guarded)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        auth = {"username": "me", "password": "wrong-secret"}
        url = start(f"http://127.0.0.1:{server.server_port}", "products", auth=auth).url
        answer = get(f"{url}/", q="shoe")
        assert answer.status_code == 502 and answer.text.count('role="alert"') == 1
        assert "refuse" in answer.text and "wrong-secret" not in answer.text
        assert get(f"{url}/health/ready").json()["reason"] == "AuthenticationError"
        api = requests.post(f"{url}/v1/search", json={"text": "x"}, timeout=60)
        assert api.status_code == 502 and "wrong-secret" not in api.text
    finally:
        server.shutdown()
        server.server_close()


def test_marks() -> None:
    one, other = BEFORE, AFTER
    assert spans(f"a {one}b{other} c{one}d{other}") == [
        ("a ", False), ("b", True), (" c", False), ("d", True),
    ]  # fmt: skip
    assert spans("plain") == [("plain", False)] and spans("") == []
    assert cut([("abc", False), ("defg", True)], 5) == [("abc", False), ("de…", True)]
