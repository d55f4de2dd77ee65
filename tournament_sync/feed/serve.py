"""Serves a feed's folder over HTTP to the machines of a site: a mirror, read-only and without any trust in it."""

import logging
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO

from tournament_sync.errors import SourceUnavailableError
from tournament_sync.feed.layout import TIMESTAMP_FILE

_log = logging.getLogger(__name__)
_SILENCE_TIMEOUT_S = 30
# What a feed has, in the form in which it asks for it: no dots that climb, no escapes, no hidden files.
_PATH = re.compile(r"/((?:metadata|targets)(?:/[0-9A-Za-z][0-9A-Za-z._-]*)+)", re.ASCII)


def serve_feed(feed: Path, *, host: str, port: int) -> None:
    """Serve `feed` until the process is interrupted. Raises SourceUnavailableError."""
    with feed_server(feed, host=host, port=port) as server:
        server.serve_forever()


def feed_server(feed: Path, *, host: str, port: int) -> ThreadingHTTPServer:
    """The server behind `serve_feed`, bound but not running. Port 0 takes a free one."""
    if not (feed / TIMESTAMP_FILE).is_file():
        raise SourceUnavailableError(f"{feed} is no feed: it has no {TIMESTAMP_FILE}")
    handler = type("Handler", (_FeedHandler,), {"folder": feed.resolve()})
    try:
        return _FeedServer((host, port), handler)
    except OSError as error:
        raise SourceUnavailableError(f"{host}:{port} cannot be served: {error.strerror}") from error


class _FeedServer(ThreadingHTTPServer):
    """One thread a connection; they end with the process."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""
        _log.debug("connection ended client=%s error=%r", client_address, sys.exc_info()[1])


class _FeedHandler(BaseHTTPRequestHandler):
    """Answers GET and HEAD for regular files of the feed; everything else is not found."""

    folder: Path
    protocol_version = "HTTP/1.1"
    server_version = "assay-feed"
    sys_version = ""
    timeout = _SILENCE_TIMEOUT_S

    def do_GET(self) -> None:
        """The file, unless the client has it."""
        with self._asked() as file:
            if file is not None:
                shutil.copyfileobj(file, self.wfile)

    def do_HEAD(self) -> None:
        """The headers of the file."""
        with self._asked():
            pass

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name for it
        """Not to stderr: `format` holds what a stranger sent."""

    @contextmanager
    def _asked(self) -> Iterator[BinaryIO | None]:
        """Answer up to the body, and give the file that is the body, if one follows."""
        match = _PATH.fullmatch(self.path)
        file = _open(self.folder, match[1]) if match else None
        if file is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            yield None
            return
        with file:
            status = os.fstat(file.fileno())
            etag = f'"{status.st_size:x}-{status.st_mtime_ns:x}-{status.st_ino:x}"'
            is_known = self.headers.get("If-None-Match") == etag
            self.send_response(HTTPStatus.NOT_MODIFIED if is_known else HTTPStatus.OK)
            self.send_header("ETag", etag)
            # Versioned names never change; the timestamp is asked for every time.
            self.send_header("Cache-Control", "no-cache")
            if not is_known:
                self.send_header("Content-Type", "application/octet-stream")
                self.send_header("Content-Length", str(status.st_size))
            self.end_headers()
            yield None if is_known or self.command == "HEAD" else file


def _open(folder: Path, name: str) -> BinaryIO | None:
    """The regular file of that name below `folder`, reached without any link; None for everything else."""
    path = folder / name
    try:
        if path.resolve() != path:
            return None
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, RuntimeError):  # the last: a loop of links, before Python 3.13
        return None
    file = os.fdopen(handle, "rb")
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return file
    file.close()
    return None
