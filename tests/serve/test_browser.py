"""The page in a real browser: typed into, clicked, looked at by axe-core."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from splade_os.engines import connect
from splade_os.serve.options import ServeOptions
from splade_os.serve.server import serving
from splade_os.settings import load_settings
from tests.serve.browser import open_browser, resize, scheme
from tests.serve.conftest import fill

AXE = "axe-core@4.11.0"
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
QUERY = "/?q=running+shoe&ways=bm25,idf,hybrid"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    opened = open_browser()
    yield opened
    opened.quit()


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("judged")


@pytest.fixture(scope="module")
def url(opensearch_url: str, judged: Path) -> Iterator[str]:
    """A service on OpenSearch, with judgements."""
    engine, name = connect(opensearch_url), f"test-serve-browser-{os.getpid()}"
    fill(engine, name)
    options = ServeOptions((name,), port=0, judgements=judged)
    with serving(load_settings(url=opensearch_url), options) as service:
        yield service.url
    engine.delete_index(name)
    engine.close()


@pytest.fixture(autouse=True)
def plain(browser: Any) -> Iterator[None]:
    """Each test begins as a reader at a desk; none leaves an error in the console."""
    resize(browser, 1440)
    scheme(browser, "light")
    browser.get_log("browser")
    yield
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []


def wait(browser: Any, true: str | Callable[[], Any], *arguments: Any) -> Any:
    """Until a JavaScript expression holds; its value."""
    from selenium.webdriver.support.ui import WebDriverWait

    script = f"return {true}" if isinstance(true, str) else ""
    return WebDriverWait(browser, 60).until(
        lambda _: browser.execute_script(script, *arguments) if script else true()  # type: ignore[operator]
    )


def keys(browser: Any, text: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(text).perform()


def columns(browser: Any) -> list[list[str]]:
    """The ids of each column."""
    found: list[list[str]] = browser.execute_script(
        "return [...document.querySelectorAll('.column')].map("
        "c => [...c.querySelectorAll('.hit')].map(h => h.dataset.id))"
    )
    return found


def test_type_compare_share_reload(browser: Any, url: str) -> None:
    browser.get(url)
    keys(browser, "running shoe\n")  # the query has the focus
    wait(browser, "document.querySelectorAll('.column .hit').length > 3")
    assert len(columns(browser)) == 3
    browser.execute_script("document.querySelector('input[value^=encoder]').click()")
    wait(browser, "document.querySelectorAll('.column').length === 4")
    before = columns(browser)
    shared = browser.current_url
    assert "q=running+shoe" in shared and "encoder" in shared
    browser.get(shared)  # somebody else's
    assert columns(browser) == before
    browser.execute_script("document.querySelector('.facet a.filter').click()")
    wait(browser, "document.querySelector('.filter.on')")
    assert "f=brand" in browser.current_url
    browser.back()
    wait(browser, "!document.querySelector('.filter.on')")
    assert columns(browser) == before and browser.current_url == shared


def test_a_range_is_typed(browser: Any, url: str) -> None:
    browser.get(f"{url}/?q=thing&ways=bm25&k=50")
    browser.find_element("id", "filter").send_keys("price:3..5\n")
    wait(browser, "document.querySelector('.filter.on')")
    prices = browser.execute_script(
        "return [...document.querySelectorAll('.fields')].map("
        "e => e.textContent.match(/price (\\d+)/)[1])"
    )
    assert sorted(prices) == ["3", "4", "5"]
    assert browser.execute_script("return document.getElementById('filter').value") == ""
    browser.find_element("id", "filter").send_keys("brand:many\n")
    wait(browser, "document.querySelectorAll('.filter.on').length === 2")
    assert browser.current_url.count("&f=") == 2


def test_sliders_change_the_ranking(browser: Any, url: str) -> None:
    browser.get(f"{url}{QUERY}")
    scores = "[...document.querySelectorAll('.column:nth-child(3) .score')].map(s => s.textContent)"
    before = browser.execute_script(f"return {scores}")
    browser.execute_script(
        "const s = document.querySelector('input[name=bm25]'); s.value = 0;"
        "s.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    wait(
        browser,
        f"JSON.stringify({scores}) !== arguments[0]",
        json.dumps(before, separators=(",", ":")),
    )
    idf = "[...document.querySelectorAll('.column:nth-child(2) .score')].map(s => s.textContent)"
    assert browser.execute_script(f"return {scores}") == browser.execute_script(f"return {idf}")
    assert "bm25=0" in browser.current_url
    assert (
        browser.execute_script("return document.querySelector('[name=bm25] ~ output').textContent")
        == "0.0"
    )


def test_keyboard_alone(browser: Any, url: str, judged: Path) -> None:
    """Hits, columns, the vector, a judgement, and back to the query."""
    browser.get(f"{url}{QUERY}")
    keys(browser, "jj")
    ids = columns(browser)
    active = "document.activeElement.dataset.id"
    assert browser.execute_script(f"return {active}") == ids[0][1]
    keys(browser, "lk")
    assert browser.execute_script(f"return {active}") == ids[1][0]
    keys(browser, "r")
    wait(browser, "document.querySelector('#judgements').textContent !== '0'")
    pressed = browser.execute_script(
        "return [...document.querySelectorAll('[data-grade=\"1\"][aria-pressed=true]')].map("
        "b => b.closest('.hit').dataset.id)"
    )
    assert set(pressed) == {ids[1][0]} and len(pressed) == sum(ids[1][0] in c for c in ids)
    assert f"\t{ids[1][0]}\t1\n" in (judged / "qrels" / "test.tsv").read_text()
    keys(browser, "o")
    wait(browser, "document.getElementById('panel').open")
    assert (
        browser.execute_script("return document.querySelectorAll('#panel .vector tr').length") > 20
    )
    keys(browser, "\ue00c")  # Escape
    wait(browser, "!document.getElementById('panel').open")
    wait(browser, "document.activeElement.matches('a.open')")
    keys(browser, "/")
    assert browser.execute_script("return document.activeElement.id") == "q"
    browser.refresh()
    assert browser.execute_script(
        "return document.querySelectorAll('[data-grade=\"1\"][aria-pressed=true]').length"
    ) == len(pressed)


def test_explain_is_live(browser: Any, url: str) -> None:
    browser.get(f"{url}/explain?text=shoe")
    browser.execute_script("document.getElementById('text').focus()")
    keys(browser, " boat")
    wait(browser, "document.querySelectorAll('.pieces li').length === 2")
    wait(browser, "location.search.includes('boat')")


def test_works_without_javascript(browser: Any, url: str) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(url)
        browser.find_element("id", "q").send_keys("running shoe\n")
        found = wait(browser, lambda: browser.find_elements("css selector", ".hit a.open"))
        found[0].click()
        wait(browser, lambda: browser.find_elements("css selector", "table.vector"))
        browser.find_element("css selector", ".back a").click()
        wait(browser, lambda: browser.find_elements("css selector", ".hit"))
        assert browser.find_elements("css selector", "noscript button")
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_fits(browser: Any, url: str, width: int) -> None:
    """Nothing hangs over the edge; what is wide scrolls in itself."""
    resize(browser, width)
    for path in (QUERY, "/", "/explain", "/document?id=d1&q=shoe"):
        browser.get(f"{url}{path}")
        seen = browser.execute_script("return document.documentElement.scrollWidth")
        assert seen <= width, (path, seen)
        small = browser.execute_script(
            "return [...document.querySelectorAll('button, .pill, .filter, select')].filter("
            "e => e.offsetParent && e.getBoundingClientRect().height < 20).map(e => e.outerHTML)"
        )
        assert small == []


def test_nothing_moves_while_it_loads(browser: Any, url: str) -> None:
    browser.get(f"{url}{QUERY}")
    moved = browser.execute_async_script(
        "const done = arguments[0]; new PerformanceObserver(l => done("
        "l.getEntries().reduce((s, e) => s + e.value, 0))).observe("
        "{type: 'layout-shift', buffered: true}); setTimeout(() => done(0), 500)"
    )
    assert moved == 0
    sizes = browser.execute_script(
        "return performance.getEntriesByType('resource').concat("
        "performance.getEntriesByType('navigation')).map(e => e.decodedBodySize)"
    )
    assert 0 < sum(sizes) < 150_000


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core, of the npm registry."""
    if shutil.which("npm") is None:
        pytest.skip("no npm to fetch axe-core with")
    folder = tmp_path_factory.mktemp("axe")
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", AXE]
    got = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200)
    if got.returncode:
        pytest.skip(f"axe-core could not be fetched: {got.stderr[-200:]}")
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text("utf-8")


@pytest.mark.parametrize(("width", "colours"), [(360, "light"), (1440, "dark")])
def test_axe_finds_nothing(browser: Any, url: str, axe: str, width: int, colours: str) -> None:
    resize(browser, width)
    scheme(browser, colours)
    run = "const d = arguments[0]; axe.run(document, {runOnly: %s}).then(r => d(r.violations))"
    for path in (QUERY, "/", "/explain", "/document?id=d1&q=running+shoe&ways=idf", "/?q=x&k=y"):
        browser.get(f"{url}{path}")
        browser.execute_cdp_cmd("Runtime.evaluate", {"expression": axe})  # past the page's policy
        browser.set_script_timeout(120)
        found = browser.execute_async_script(run % json.dumps(_RULES))
        said = [
            (each["id"], each["help"], [n["html"][:160] for n in each["nodes"]]) for each in found
        ]
        assert said == [], path


def test_a_document_runs_nothing(browser: Any, url: str) -> None:
    for path in (
        "/?q=evil+shoe",
        "/document?id=d6&q=evil",
        "/explain?text=%3Cscript%3Ealert(1)%3C/script%3E",
    ):
        browser.get(f"{url}{path}")  # an alert would make the next command fail
        assert browser.execute_script("return document.querySelectorAll('script').length") == 1
