"""Server: a page of all runs, and of each run its report, which grows while a training writes."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit

from shiftwatch.live.access import Access, loopback, new_token
from shiftwatch.live.listing import Listing
from shiftwatch.live.pages import Pages
from shiftwatch.report.page import render, update
from shiftwatch.run import Run
from shiftwatch.store.folder import line as json_line
from shiftwatch.store.folder import number

#: Connections at once; more are turned away. A browser holds at most six to a host.
CONNECTIONS = 128

_IDLE = 30.0  # seconds after which a silent connection is closed

_ASSETS = Path(__file__).parent / "assets"
_REPORT = Path(__file__).parents[1] / "report" / "assets"
_FILES = {
    "report.css": (_REPORT, "text/css"),
    "runs.css": (_ASSETS, "text/css"),
    "runs.js": (_ASSETS, "text/javascript"),
    "waiting.js": (_ASSETS, "text/javascript"),
}

_HTML = "text/html; charset=utf-8"
_JSON = "application/json"

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Server(ThreadingHTTPServer):
    """Serves a folder of runs; ``serve_forever()`` until ``shutdown()``.

    Args:
        top: a folder of runs, or a run.
        host: address to bind; only a loopback address can be reached without the token.
        port: 0 for any that is free.
        token: ask for a token on a loopback address, too.

    Raises:
        OSError: where the address cannot be bound.

    Cost: nothing while nobody looks. A tab asks every two seconds, and what it asks for is read
    once for all tabs, and only where a run has grown.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = os.name != "nt"  # where it would let two servers share a port
    request_queue_size = 64

    def __init__(
        self,
        top: str | os.PathLike[str],
        host: str = "127.0.0.1",
        port: int = 0,
        token: bool = False,
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._open: set[socket.socket] = set()
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__((host, port), Handler)
        self.host, self.port = host, int(self.server_address[1])
        local = loopback(host)
        self.access = Access(
            local=local,
            token="" if local and not token else new_token(),
            cookie=f"shiftwatch-{self.port}",
        )
        self.listing = Listing(Path(top).resolve())
        makers: dict[str, Callable[[Run], str]] = {
            "page": _page,
            "attempt page": partial(_page, attempt=True),
            "update": _news,
            "attempt update": partial(_news, attempt=True),
        }
        self.pages = Pages(makers)

    @property
    def url(self) -> str:
        """What to open in a browser, with the token where one is asked for."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        if self.host in ("", "0.0.0.0", "::"):
            name = socket.gethostname()
        query = f"?token={self.access.token}" if self.access.token else ""
        return f"http://{name}:{self.port}/{query}"

    def server_bind(self) -> None:
        """Bind without asking a name server who we are, as the library's own would."""
        self.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, int(self.allow_reuse_address)
        )
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for a connection, if not too many are open."""
        if self._free.acquire(blocking=False):
            self._open.add(request)
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection to its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._open.discard(request)
            self._free.release()

    def server_close(self) -> None:
        """Let go of the port and of every connection; browsers keep theirs open."""
        super().server_close()
        for request in list(self._open):
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader who leaves in the middle is no error; anything else is shown."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = _IDLE
    server: Server

    def do_GET(self) -> None:
        """Answer; what is wrong with a run is the answer, too."""
        try:
            url = urlsplit(self.path)
            given = parse_qs(url.query, max_num_fields=8)
        except ValueError:
            self._plain(HTTPStatus.BAD_REQUEST, "This is no address of a page.")
            return
        token = given.get("token", [""])[0]
        access = self.server.access
        if not access.names_us(self.headers.get("Host", "")):
            self._plain(HTTPStatus.FORBIDDEN, "This server answers to its local address alone.")
        elif not access.admits(self.headers.get("Cookie", ""), token):
            self._plain(
                HTTPStatus.FORBIDDEN,
                "Open the address that `shiftwatch serve` printed; it holds a token.",
            )
        elif token and access.token:
            self._keep_token(url.path)
        else:
            self._route(url.path, given)

    do_HEAD = do_GET

    def _route(self, path: str, given: dict[str, list[str]]) -> None:
        parts = path.split("/")[1:]
        if parts == [""]:
            self._send(_ASSETS.joinpath("runs.html").read_bytes(), _HTML)
        elif parts == ["runs"]:
            since = given.get("since", ["0"])[0]
            self._list(int(since) if since.isdecimal() and len(since) < 16 else 0)
        elif len(parts) == 2 and parts[0] == "assets" and parts[1] in _FILES:
            folder, kind = _FILES[parts[1]]
            self._send(folder.joinpath(parts[1]).read_bytes(), f"{kind}; charset=utf-8")
        elif len(parts) in (3, 4) and parts[0] == "run" and parts[-1] in ("", "update"):
            attempt = parts[2] if len(parts) == 4 else ""
            self._run(os.fsdecode(unquote_to_bytes(parts[1])), attempt, parts[-1])
        else:
            self._plain(HTTPStatus.NOT_FOUND, "There is nothing here.")

    def _list(self, since: int) -> None:
        news = self.server.listing.since(since)
        if since == news["version"]:
            self._send(b"", _JSON, HTTPStatus.NO_CONTENT)
            return
        news["top"] = self.server.listing.top.name
        self._send(json_line(news), _JSON)

    def _run(self, name: str, attempt: str, what: str) -> None:
        """The report of a run, or what is new in it. A name is looked up, never opened."""
        listing, key = self.server.listing, f"{name}/{attempt}" if attempt else name
        entry = listing.attempt(name, attempt) if attempt else listing.entry(name)
        if entry is None:
            self.server.pages.forget(key)
            self._plain(HTTPStatus.NOT_FOUND, "This run is gone, or was never here.")
            return
        if not entry.attempt:
            if what:
                self._send(b"", _JSON, HTTPStatus.NO_CONTENT)
            else:
                self._send(_ASSETS.joinpath("waiting.html").read_bytes(), _HTML)
            return
        try:
            known = self.headers.get("If-None-Match", "") if what else ""
            kind = ("attempt " if attempt else "") + (what or "page")
            body, tag = self.server.pages.get(key, entry, kind, known)
        except (OSError, ValueError) as error:
            self._plain(HTTPStatus.SERVICE_UNAVAILABLE, f"The run cannot be read now: {error}")
            return
        if body is None:
            self._send(b"", _JSON, HTTPStatus.NOT_MODIFIED, {"ETag": tag})
        elif what:
            self._send(body, _JSON, HTTPStatus.OK, {"ETag": tag})
        else:
            # The page carries a policy of its own, made for its script and style.
            self._send(
                body, _HTML, HTTPStatus.OK, {"Content-Security-Policy": "frame-ancestors 'none'"}
            )

    def _keep_token(self, path: str) -> None:
        """Move the token from the address, which is seen and kept, to a cookie."""
        access = self.server.access
        cookie = f"{access.cookie}={access.token}; Path=/; HttpOnly; SameSite=Lax"
        # A path that begins with two slashes would lead to another host.
        where = "/" + path.lstrip("/")
        self._send(b"", _HTML, HTTPStatus.SEE_OTHER, {"Set-Cookie": cookie, "Location": where})

    def _plain(self, status: HTTPStatus, words: str) -> None:
        self._send(f"{words}\n".encode("utf-8", "replace"), "text/plain; charset=utf-8", status)

    def _send(
        self,
        body: bytes,
        kind: str,
        status: HTTPStatus = HTTPStatus.OK,
        more: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store", **_ALWAYS}
        for key, value in (headers | (more or {})).items():
            self.send_header(key, value)
        if status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the library refuses (a method, a line too long) in our way."""
        self.close_connection, self.request_version = True, self.protocol_version
        self.command = getattr(self, "command", None) or "GET"
        self._plain(HTTPStatus(code), message or HTTPStatus(code).phrase)

    def version_string(self) -> str:
        """Who answers; not in which version of Python."""
        return "shiftwatch"

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: a token may stand in one."""


def _page(run: Run, attempt: bool = False) -> str:
    """The report, with the way back to the list and to the run's other attempts.

    Args:
        attempt: the page of one attempt, a folder below that of the run, which shows the latest.
    """
    head = '<header class="page">'
    ways = f'<a href="{_up(attempt)}../../">‹ All runs</a>'
    ways += f' <span class="attempts" data-slot="attempts">{_attempts(run, attempt)}</span>'
    return render(run, live="update").replace(
        head, f'<nav class="brand ways">{ways}</nav>\n{head}', 1
    )


def _news(run: Run, attempt: bool = False) -> str:
    """What is new, of the run's attempts too: while one is looked at, the next may begin."""
    return update(run, {"attempts": _attempts(run, attempt)})


def _attempts(run: Run, attempt: bool) -> str:
    """Links to all attempts; nothing where there is but one."""
    if len(run.attempts) < 2:
        return ""
    up = _up(attempt)
    places = [(str(number(n)), f"{up}{n}/") for n in run.attempts[:-1]]
    here = str(number(run.attempt)) if attempt else "latest"
    shown = " ".join(
        f'<b aria-current="page">{word}</b>' if word == here else f'<a href="{href}">{word}</a>'
        for word, href in [*places, ("latest", up)]
    )
    return f"Attempts: {shown}"


def _up(attempt: bool) -> str:
    """From a page to the folder of its run."""
    return "../" if attempt else ""
