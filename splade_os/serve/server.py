"""Runs the service: one process, one socket, an end that lets requests finish."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from splade_os.errors import MissingExtraError, SettingsError
from splade_os.serve.options import ServeOptions
from splade_os.settings import Settings

_BACKLOG = 2048
_IDLE = 30  # seconds that a connection without a request is kept


class Service:
    """A service that listens, and answers when it is `run`.

    Attributes:
        url: where it listens.

    Raises:
        MissingExtraError: the extra ``serve`` is not installed.
        SettingsError: the address cannot be listened at.
    """

    def __init__(self, settings: Settings, options: ServeOptions) -> None:
        try:
            import uvicorn

            from splade_os.serve.app import make_app
            from splade_os.serve.uvicorn_server import Server
        except ImportError as error:
            if (error.name or "").startswith("splade_os"):
                raise
            raise MissingExtraError("The service", "serve") from None
        app = make_app(settings, options)
        self._socket = _listen(options.host, options.port)
        port = self._socket.getsockname()[1]
        host = f"[{options.host}]" if ":" in options.host else options.host
        self.url = f"http://{host}:{port}"
        config = uvicorn.Config(
            app,
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_keep_alive=_IDLE,
            timeout_graceful_shutdown=max(1, int(options.timeout)),
        )
        self._server = Server(config)

    def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Answer until SIGTERM, Ctrl-C or `stop`; requests under way are finished.

        Args:
            started: called when it answers.
        """
        self._server.started_hook = started
        main = threading.current_thread() is threading.main_thread()
        # uvicorn raises it once more when all is done: that is no failure
        before = signal.signal(signal.SIGTERM, lambda number, frame: None) if main else None
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()
            if main:
                signal.signal(signal.SIGTERM, before)

    def stop(self) -> None:
        """End it, from another thread."""
        self._server.should_exit = True


@contextmanager
def serving(settings: Settings, options: ServeOptions) -> Iterator[Service]:
    """A service that answers while the context lasts, in a thread of its own."""
    service = Service(settings, options)
    answering = threading.Event()
    thread = threading.Thread(target=service.run, args=(answering.set,), name="splade-os-serve")
    thread.start()
    try:
        if not answering.wait(60):
            raise SettingsError(f"The service at {service.url} does not answer.")
        yield service
    finally:
        service.stop()
        thread.join()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family[0], socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(family[4])
        listening.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(
            f"The service cannot listen at {host}:{port}: {reason}.",
            hint="Give another --port (0: any that is free), or --host.",
        ) from None
    return listening
