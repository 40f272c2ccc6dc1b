"""The routes of the page."""

from __future__ import annotations

import asyncio
import hashlib
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qsl, urlencode

import jinja2
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from splade_os.control_characters import clean
from splade_os.errors import SpladeError
from splade_os.serve.options import ServeOptions
from splade_os.serve.page.columns import search_columns
from splade_os.serve.page.document import show_document
from splade_os.serve.page.fields import KnownFields
from splade_os.serve.page.judgements import Judgements
from splade_os.serve.page.state import PAGE_MODES, TITLES, PageState, Way
from splade_os.serve.problems import RequestError, request_error
from splade_os.serve.searchers import Searchers
from splade_os.serve.vectors import explain_text

_FILES = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_FOREVER = "public, max-age=31536000, immutable"
_LONGEST = 4_000  # characters of a text to explain in a URL
_EXAMPLE = "The museum opens at nine and is closed on public holidays."


class Page:
    """``/``, ``/document``, ``/explain``, the judgements, and the files that they need."""

    def __init__(self, searchers: Searchers, options: ServeOptions) -> None:
        self._searchers = searchers
        self._known = KnownFields()
        folder = options.judgements
        self._judgements = Judgements(folder) if folder is not None else None
        here = files("splade_os.serve.page")
        self._files = {name: (here / "static" / name).read_bytes() for name in _FILES}
        versions = {
            name: hashlib.sha256(data).hexdigest()[:12] for name, data in self._files.items()
        }
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("splade_os.serve.page"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=_shown,
        )
        self._templates.globals |= {
            "static": lambda name: f"/static/{name}?v={versions[name]}",
            "urlencode": lambda **values: urlencode(values),
            "titles": TITLES,
            "judging": self._judgements is not None,
        }

    def routes(self) -> list[Route]:
        """Of all of them."""
        return [
            Route("/", self.search),
            Route("/document", self.document),
            Route("/explain", self.explain),
            Route("/judge", self.judge, methods=["POST"]),
            Route("/judgements/queries.jsonl", self.queries),
            Route("/judgements/qrels/test.tsv", self.qrels),
            *(Route(f"/static/{name}", self.static) for name in _FILES),
        ]

    async def search(self, request: Request) -> Response:
        """Ways side by side."""
        state = self._state(request)
        columns, fields = await search_columns(state, self._searchers, self._known)
        failed = [column.problem for column in columns if column.problem is not None]
        status = failed[0].status if len(failed) == len(columns) else 200
        same = {problem.message for problem in failed}
        return self._html(
            "search.html.j2",
            status,
            state=state,
            columns=columns,
            trouble_of_all=failed[0] if len(failed) == len(columns) and len(same) == 1 else None,
            fields=fields,
            facets=next((c.facets for c in columns if c.facets is not None), {}),
            modes=PAGE_MODES,
            indices=self._searchers.names,
            ways=[Way(mode, name) for name in self._searchers.names for mode in PAGE_MODES],
            judged=self._judgements.of(state.q) if self._judgements is not None else {},
            judgements=self._judgements.count if self._judgements is not None else 0,
            path=state.url(),
        )

    async def document(self, request: Request) -> Response:
        """The vector of one document."""
        state, wanted = self._state(request), request.query_params
        way = state.ways[0]
        document, problem = None, None
        try:
            searcher = self._searchers.of(way.index)
            document = await show_document(
                searcher, way, state, wanted.get("id", ""), wanted.get("in", "")
            )
        except SpladeError as error:
            problem = request_error(error)
        except RequestError as error:
            problem = error
        status = 200 if problem is None else problem.status
        return self._html(
            "document.html.j2",
            status,
            state=state,
            way=way,
            document=document,
            problem=problem,
            path=state.url(),
        )

    async def explain(self, request: Request) -> Response:
        """A text as both sides of an index see it."""
        wanted = request.query_params
        text, index = wanted.get("text", _EXAMPLE), wanted.get("index") or self._searchers.names[0]
        explanation, problem = None, None
        try:
            if len(text) > _LONGEST:
                raise RequestError(
                    400, "too_long", f"The text has more than {_LONGEST:,} characters."
                )
            explanation = await explain_text(self._searchers.of(index), text)
        except SpladeError as error:
            problem = request_error(error)
        except RequestError as error:
            problem = error
        return self._html(
            "explain.html.j2",
            200 if problem is None else problem.status,
            text=text,
            index=index,
            indices=self._searchers.names,
            explanation=explanation,
            problem=problem,
            longest=_LONGEST,
        )

    async def judge(self, request: Request) -> Response:
        """Keep a judgement, and go back to where it was made."""
        if self._judgements is None:
            raise RequestError(
                403, "no_judgements", "This service keeps no judgements.", "--judgements FOLDER"
            )
        body = (await request.body()).decode("utf-8", "replace")
        form = dict(parse_qsl(body, keep_blank_values=True))
        grades = {"1": 1, "0": 0, "": None}
        if not {"q", "id", "relevance"} <= form.keys() or form["relevance"] not in grades:
            raise RequestError(
                400, "judgement", "A judgement is q, id and relevance (1, 0 or none)."
            )
        await asyncio.to_thread(
            self._judgements.judge, form["q"], form["id"], grades[form["relevance"]]
        )
        if "application/json" in request.headers.get("accept", ""):
            body_json = f'{{"judgements":{self._judgements.count}}}'
            return Response(body_json, media_type="application/json")
        state = PageState.read(parse_qsl(form.get("state", "")), self._searchers.names)
        return RedirectResponse(state.url(), 303)

    async def queries(self, request: Request) -> Response:
        """The judged queries."""
        return self._download("queries.jsonl", self._kept().queries_lines())

    async def qrels(self, request: Request) -> Response:
        """The judgements."""
        return self._download("test.tsv", self._kept().qrels_lines())

    def _kept(self) -> Judgements:
        if self._judgements is None:
            raise RequestError(404, "no_judgements", "This service keeps no judgements.")
        return self._judgements

    async def static(self, request: Request) -> Response:
        """A file of ours."""
        name = request.url.path.rpartition("/")[2]
        # "v" is a hash of what it holds
        cached = _FOREVER if "v" in request.query_params else "no-cache"
        headers = {"content-type": _FILES[name], "cache-control": cached}
        return Response(self._files[name], headers=headers)

    def _state(self, request: Request) -> PageState:
        return PageState.read(request.query_params.multi_items(), self._searchers.names)

    def _html(self, template: str, status: int, **values: Any) -> Response:
        page = self._templates.get_template(template).render(**values)
        return Response(page, status, media_type="text/html")

    def _download(self, name: str, text: str) -> Response:
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(text, media_type="text/plain", headers=headers)


def _shown(value: Any) -> Any:
    """Everything that a template shows: no control character of somebody else's gets through."""
    return (
        clean(value, lines=True)
        if isinstance(value, str) and not isinstance(value, Markup)
        else value
    )
