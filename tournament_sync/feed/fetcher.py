"""Brings a feed's bytes from a folder or over HTTP(S); nothing of them is trusted here.

What is covered: links and names that lead out of the folder, servers that answer slowly, redirect or never
stop. Lengths are the caller's (tuf.ngclient): what is longer than signed, or than the limit, is cut off.
Not covered: an HTTP server sees who asks, when and for what.
"""

import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx
from tuf.api.exceptions import DownloadError, DownloadHTTPError, SlowRetrievalError
from tuf.ngclient import FetcherInterface

SILENCE_TIMEOUT_S = 30.0  # for connecting, and between two pieces of an answer
DOWNLOAD_TIMEOUT_S = 1800.0  # for one file as a whole: 1 GiB at 600 kB/s
FOLDER_URL = "feed:///"
_READ_BYTES = 1 << 16


class DirectoryFetcher(FetcherInterface):
    """Reads a feed in a folder: a mounted stick, a share, a mirror. Never leaves it, never follows a link."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = self._folder / unquote(urlsplit(url).path).lstrip("/")
        try:
            # Links that stay inside are refused as well: what is signed is files.
            if path.resolve() != path:
                raise DownloadError(
                    f"{url[:200]} is reached by a link or leads out of the folder (rule: folder)"
                )
            if not path.is_file():
                raise DownloadHTTPError(f"{path} is not there", 404)  # how a chain of roots ends
            with path.open("rb") as file:
                while chunk := file.read(_READ_BYTES):
                    yield chunk
        except (OSError, ValueError, RuntimeError) as error:  # the last: a loop of links, before Python 3.13
            raise DownloadError(f"{path} cannot be read: {error}") from error


class HttpFetcher(FetcherInterface):
    """Reads a feed over HTTP(S). Proxies and certificates come from the environment and the system.

    python-tuf's own fetcher limits the silence between two pieces, not the whole: a server that sends a
    byte now and then could hold it for ever. Redirects are refused: a feed has one address.
    """

    def __init__(
        self,
        *,
        silence_timeout_s: float = SILENCE_TIMEOUT_S,
        download_timeout_s: float = DOWNLOAD_TIMEOUT_S,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = httpx.Client(
            verify=ssl.create_default_context(),
            timeout=silence_timeout_s,
            follow_redirects=False,
            headers={"User-Agent": "assay-feed", "Accept-Encoding": "identity"},
        )
        self._download_timeout_s = download_timeout_s
        self._clock_s = clock_s

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _fetch(self, url: str) -> Iterator[bytes]:
        deadline_s = self._clock_s() + self._download_timeout_s
        try:
            with self._client.stream("GET", url) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise DownloadHTTPError(f"{url} answered {answer.status_code}", answer.status_code)
                for chunk in answer.iter_raw():
                    yield chunk
                    if self._clock_s() > deadline_s:
                        raise SlowRetrievalError(f"{url} took longer than {self._download_timeout_s:g} s")
        except httpx.TimeoutException as error:
            raise SlowRetrievalError(f"{url} was silent for longer than allowed") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise DownloadError(f"{url} cannot be read: {error}") from error
