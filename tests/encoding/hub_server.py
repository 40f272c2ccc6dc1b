"""The few answers of a hub that a download needs, from folders on the disk."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def hub(repositories: dict[str, Path]) -> Iterator[tuple[str, list[str]]]:
    """URL, and the paths of the files that were fetched, as long as it runs."""
    fetched: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            path = self.path.split("?")[0].removeprefix("/api/models").lstrip("/")
            name = next((n for n in repositories if path.startswith(n + "/") or path == n), None)
            if name is None:
                self._send(404, b"{}", {})
                return
            folder, rest = repositories[name], path.removeprefix(name).lstrip("/")
            if self.path.startswith("/api/"):
                files = [f for f in folder.rglob("*") if f.is_file()]
                names = [f.relative_to(folder).as_posix() for f in files]
                answer: Any = {"id": name, "sha": COMMIT, "siblings": []}
                if rest.startswith("tree/"):
                    answer = [
                        {"type": "file", "path": n, "size": f.stat().st_size, "oid": COMMIT}
                        for n, f in zip(names, files, strict=True)
                    ]
                self._send(200, json.dumps(answer).encode(), {"X-Repo-Commit": COMMIT})
                return
            file = folder / rest.split("/", 2)[2]
            content = file.read_bytes()
            tag = hashlib.sha256(content).hexdigest()
            if body:
                fetched.append(file.relative_to(folder).as_posix())
            self._send(
                200, content if body else b"", {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT},
                len(content),
            )  # fmt: skip

        def _send(
            self, status: int, content: bytes, headers: dict[str, str], size: int | None = None
        ) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content) if size is None else size))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", fetched
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
