"""A proxy in front of a real node that does to requests what networks and busy nodes do."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Fate = Literal["pass", "429", "503", "413", "drop before", "drop after", "late"]


class FaultyProxy:
    """Forwards to ``target``; ``fate`` decides about every ``_bulk`` request by its number
    (from 0) and its size in bytes.

    ``drop before``: the connection is closed, the node never sees the request; ``drop after``:
    the node has applied it, the answer is lost; ``late``: the answer comes after ``delay``
    seconds.
    """

    def __init__(self, target: str, fate: Callable[[int, int], Fate], delay: float = 3.0) -> None:
        self.seen: list[tuple[Fate, int]] = []
        lock = threading.Lock()
        where = urlsplit(target)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else 40 ms a request

            def log_message(self, format: str, *arguments: object) -> None:
                pass

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                chosen: Fate = "pass"
                if "_bulk" in self.path:
                    with lock:
                        chosen = fate(len(proxy.seen), len(body))
                        proxy.seen.append((chosen, len(body)))
                if chosen == "drop before":
                    self.close_connection = True
                    return
                if chosen in ("429", "503", "413"):
                    answer = b'{"error":{"type":"busy","reason":"told so by the proxy"}}'
                    self.reply(int(chosen), "application/json", answer)
                    return
                upstream = http.client.HTTPConnection(where.hostname or "", where.port, timeout=60)
                headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
                upstream.request(self.command, self.path, body, headers)
                response = upstream.getresponse()
                data = response.read()
                upstream.close()
                if chosen == "drop after":
                    self.close_connection = True
                    return
                if chosen == "late":
                    time.sleep(delay)
                self.reply(response.status, response.getheader("content-type", ""), data,
                           response.getheader("X-elastic-product"))  # fmt: skip

            def reply(
                self, status: int, kind: str, data: bytes, product: str | None = None
            ) -> None:
                try:
                    self.send_response(status)
                    self.send_header("content-type", kind)
                    if product:
                        self.send_header("X-elastic-product", product)
                    self.send_header("content-length", str(len(data)))
                    self.end_headers()
                    if self.command != "HEAD":
                        self.wfile.write(data)
                except OSError:  # the client has not waited
                    self.close_connection = True

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = handle_any  # noqa: N815

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> FaultyProxy:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
