"""What stands before a real node and lets not every request through: a role, a firewall."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

Refusal = tuple[int, str, bytes]
"""Status, content type, body."""
Refuse = Callable[[str, str, bytes], Refusal | None]


class Gate:
    """Forwards to ``target`` what ``refuse`` (method, path, body) has nothing against."""

    def __init__(self, target: str, refuse: Refuse) -> None:
        where = urlsplit(target)
        self.refused: list[str] = []
        gate = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else 40 ms a request

            def log_message(self, format: str, *arguments: object) -> None:
                pass

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                refusal = refuse(self.command, unquote(urlsplit(self.path).path), body)
                if refusal is not None:
                    gate.refused.append(f"{self.command} {self.path}")
                    self.reply(*refusal)
                    return
                upstream = http.client.HTTPConnection(where.hostname or "", where.port, timeout=60)
                headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
                upstream.request(self.command, self.path, body, headers)
                response = upstream.getresponse()
                data = response.read()
                upstream.close()
                self.reply(response.status, response.getheader("content-type", ""), data)

            def reply(self, status: int, kind: str, data: bytes) -> None:
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = handle_any  # noqa: N815

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
