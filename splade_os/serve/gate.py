"""Everything that is the same for every request: limits, identity, errors, headers, a log line."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import re
import secrets
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from pydantic import ValidationError
from starlette.exceptions import HTTPException

from splade_os.errors import SpladeError
from splade_os.serve.admission import OPEN_PATHS, Admission
from splade_os.serve.metrics import ServeMetrics
from splade_os.serve.options import ServeOptions
from splade_os.serve.problems import RETRY_AFTER, RequestError, problem_body, request_error

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_log = logging.getLogger("splade_os.serve")
_PROCESS = secrets.token_hex(6)
_numbers = itertools.count(1)
_ID = re.compile(rb"[A-Za-z0-9_.-]{1,64}")
_GONE = 499  # what nginx calls a client that did not wait
_WATCHING = OPEN_PATHS | {"/metrics"}  # answered when all places are taken
_ROUTER = {404: "There is no such page.", 405: "This path takes another method."}
_SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        b"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
)


class _Answer:
    """The answer to one request, as far as it has been sent."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.id = request_id
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = [*_SECURITY, (b"x-request-id", self.id.encode())]
            if not any(name == b"cache-control" for name, _ in message.get("headers", ())):
                own.append((b"cache-control", b"no-store"))
            message = {**message, "headers": [*message.get("headers", ()), *own]}
        await self._send(message)

    async def problem(self, problem: RequestError, *, page: bool) -> None:
        """Answer with an error, if nothing was sent yet."""
        if self.status:
            return
        body = problem_body(problem, self.id)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        if problem.status in RETRY_AFTER:
            headers.append((b"retry-after", RETRY_AFTER[problem.status].encode()))
        if problem.status == 401:  # browsers ask for a password at Basic alone
            scheme = b'Basic realm="splade-os"' if page else b"Bearer"
            headers.append((b"www-authenticate", scheme))
        if problem.status in (408, 413):  # what is left of the body is not read
            headers.append((b"connection", b"close"))
        await self.send(
            {"type": "http.response.start", "status": problem.status, "headers": headers}
        )
        await self.send({"type": "http.response.body", "body": body})


class Gate:
    """ASGI: lets requests through to ``app`` as far as the options allow, and answers for it when
    it fails.

    The body is read before the work begins, so that slow clients hold no place among those that
    are worked on; who goes away is not worked for any longer.
    """

    def __init__(
        self, app: App, options: ServeOptions, metrics: ServeMetrics, paths: frozenset[str]
    ) -> None:
        self._app, self._options, self._metrics = app, options, metrics
        self._paths = paths  # a client must not make names of metrics
        self._admission = Admission(options)
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._request(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = time.perf_counter()
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        known = given.decode() if _ID.fullmatch(given) else f"{_PROCESS}-{next(_numbers):x}"
        answer = _Answer(send, known)
        scope.setdefault("state", {})["request_id"] = known
        scope["app"] = self._app  # what nothing is found for is raised then, not answered
        page = not scope["path"].startswith("/v1/")
        failed: BaseException | None = None
        try:
            refusal = self._admission.refusal(scope["method"], scope["path"], headers)
            if refusal is not None:
                raise refusal
            end = time.monotonic() + self._options.timeout
            body = await self._body(headers, receive, end)
            await self._work(scope, body, receive, answer, end)
        except (SpladeError, ValidationError) as error:
            failed = error
            await answer.problem(request_error(error), page=page)
        except RequestError as problem:
            await answer.problem(problem, page=page)
        except HTTPException as error:  # of the router
            status = error.status_code
            what = _ROUTER.get(status, "The request makes no sense.")
            await answer.problem(RequestError(status, "http", what), page=page)
        except _GoneError:
            answer.status = answer.status or _GONE
        except Exception as error:
            failed = error
            about = {"request_id": known, "traceback": traceback.format_exc()}
            _log.exception("The request %s failed.", known, extra={"data": about})
            internal = RequestError(
                500,
                "internal",
                "This is a fault of the service; its log has more.",
                f"Look for the request {known}.",
            )
            await answer.problem(internal, page=page)
        finally:
            self._tell(scope, answer, time.perf_counter() - start, failed)

    async def _body(self, headers: dict[bytes, bytes], receive: Receive, end: float) -> bytes:
        """
        Raises:
            RequestError: it is too large (413), or does not come (408).
            _GoneError: the client went away.
        """
        most = self._options.max_body
        too_large = RequestError(413, "too_large", f"The body has more than {most:,} bytes.")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > most:
            raise too_large
        parts, size = [], 0
        while True:
            try:
                message = await asyncio.wait_for(receive(), max(end - time.monotonic(), 0.001))
            except TimeoutError:
                raise RequestError(408, "slow", "The body did not come in time.") from None
            if message["type"] == "http.disconnect":
                raise _GoneError
            part = message.get("body", b"")
            size += len(part)
            if size > most:
                raise too_large
            parts.append(part)
            if not message.get("more_body"):
                return b"".join(parts)

    async def _work(
        self, scope: Scope, body: bytes, receive: Receive, answer: _Answer, end: float
    ) -> None:
        """
        Raises:
            RequestError: too many at once (429), or too slow (504).
            _GoneError: the client went away.
        """
        watched = scope["path"] in _WATCHING
        if self._running >= self._options.max_concurrent and not watched:
            raise RequestError(
                429,
                "busy",
                f"{self._options.max_concurrent} requests are worked on already.",
                "Try again in a moment, or start the service with a larger --max-concurrent.",
            )
        given = False

        async def replay() -> Message:
            nonlocal given
            if given:  # nobody waits for more of it
                await asyncio.Event().wait()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        self._running += not watched
        self._metrics.running.set(self._running)
        work = asyncio.ensure_future(self._app(scope, replay, answer.send))
        gone = asyncio.ensure_future(receive())
        try:
            left = max(end - time.monotonic(), 0.001)
            await asyncio.wait({work, gone}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
            elif gone.done():
                raise _GoneError
            else:
                raise RequestError(
                    504,
                    "timeout",
                    f"The request took longer than {self._options.timeout:g} s.",
                )
        finally:
            gone.cancel()
            if not work.done():
                work.cancel()
                with contextlib.suppress(asyncio.CancelledError, SpladeError):
                    await work
            self._running -= not watched
            self._metrics.running.set(self._running)

    def _tell(
        self, scope: Scope, answer: _Answer, seconds: float, failed: BaseException | None
    ) -> None:
        """One line for each request: not what was looked for."""
        path = scope["path"] if scope["path"] in self._paths else "other"
        self._metrics.answered(path, answer.status, seconds)
        if not _log.isEnabledFor(logging.INFO):
            return
        data = {
            "request_id": answer.id,
            "method": scope["method"],
            "path": path,
            "status": answer.status,
            "ms": round(seconds * 1000, 1),
            **scope["state"].get("about", {}),
        }
        if failed is not None:
            data["error"] = type(failed).__name__
        _log.info(
            "%s %s %d %.1f ms",
            scope["method"],
            path,
            answer.status,
            seconds * 1000,
            extra={"event": "request", "data": data},
        )


class _GoneError(Exception):
    """The client went away."""
