"""A server of S3's protocol in a process of its own, obeying lines on its standard input.

``start``, ``stop`` (what it keeps stays), ``requests`` (those since the last time, as JSON), ``secure yes|no`` (whether rights are checked),
``hold PATTERN`` (a request whose method and path match waits and is then refused), ``release``. It answers each line with one.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto import settings
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server


class Server:
    """See the module."""

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server: BaseWSGIServer | None = None
        self._port = 0
        self._requests: list[str] = []
        self._held: re.Pattern[str] | None = None
        self._released = threading.Event()

    def __call__(self, environ: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
        self._requests.append(f"{request}?{environ['QUERY_STRING']}")
        if self._held is not None and self._held.match(request):
            self._released.wait()
            respond("503 Service Unavailable", [])
            return []
        answer: Iterable[bytes] = self._app(environ, respond)
        return answer

    def start(self) -> str:
        """Listen; the port."""
        self._server = make_server("127.0.0.1", self._port, self, threaded=True)
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return str(self._port)

    def stop(self) -> str:
        """Listen no longer."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        return "stopped"

    def requests(self) -> str:
        """Those since the last time."""
        seen, self._requests = self._requests, []
        return json.dumps(seen)

    def secure(self, answer: str) -> str:
        """Check rights from now on, or check none."""
        settings.INITIAL_NO_AUTH_ACTION_COUNT = 0 if answer == "yes" else float("inf")
        return answer

    def hold(self, pattern: str) -> str:
        """Let requests of this pattern wait."""
        self._released.clear()
        self._held = re.compile(pattern)
        return "held"

    def release(self) -> str:
        """Refuse those that wait."""
        self._held = None
        self._released.set()
        return "released"


if __name__ == "__main__":
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = Server()
    for line in sys.stdin:
        command, *arguments = line.split()
        print(getattr(server, command)(*arguments), flush=True)
