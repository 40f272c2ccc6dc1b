"""The pictures of docs/serve.md.

    python -m tests.serve.screenshots docs/images --url http://127.0.0.1:8080

A service of the demo's index has to run there (splade-os demo --serve).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tests.serve.browser import open_browser, resize, scheme, shoot

QUERY = "q=pick+an+element+at+random+by+weight"
_COLOURS = 240  # of the palette: text on paper needs few


def small(file: Path) -> None:
    """The same picture with a palette: a third of the bytes."""
    from PIL import Image

    image = Image.open(file).convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
    image.save(file, optimize=True)


def wait_for(browser: Any, expression: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 60).until(lambda _: browser.execute_script(f"return {expression}"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    browser = open_browser()
    try:
        for name, path, width, height, colours in (
            ("search", f"/?{QUERY}", 1280, 800, "light"),
            ("vector", f"/?{QUERY}&ways=idf,hybrid", 1280, 800, "dark"),
            ("explain", "/explain", 1280, 800, "light"),
            ("narrow", f"/?{QUERY}&ways=idf,bm25", 360, 740, "light"),
        ):
            resize(browser, width, height)
            scheme(browser, colours)
            browser.get(f"{given.url}{path}")
            if name == "vector":
                browser.execute_script("document.querySelector('a.open').click()")
                wait_for(browser, "document.getElementById('panel').open")
                browser.execute_script("document.querySelector('#panel h2').scrollIntoView()")
            file = given.folder / f"serve-{name}.png"
            shoot(browser, file)
            small(file)
            print(f"{file}: {file.stat().st_size / 1000:.0f} KB")
    finally:
        browser.quit()


if __name__ == "__main__":
    main()
