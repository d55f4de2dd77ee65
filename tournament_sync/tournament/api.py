"""Reads the tournament's public API over HTTP, as if whoever answers meant harm.

Covered: time for each wait and for the whole answer, bytes on the wire and after decompression, redirects to
elsewhere, cookies, proxies and credentials of the environment, media type, lying about which tournament.
Not covered: the time of a name resolution, which is the system's; truth (crosscheck).
"""

import asyncio
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Final, TypeVar

import httpx

from attestation import __version__
from tournament_sync.errors import SourceUnavailableError, TournamentError
from tournament_sync.tournament.answer_body import read_body
from tournament_sync.tournament.details import (
    MAX_ANSWER_BYTES,
    TOURNAMENT_ID_PATTERN,
    LatestDetails,
    TournamentDetails,
    TournamentWeights,
    parse_details,
    parse_latest,
    parse_weights,
)

LATEST_PATH: Final = "/v1/tournaments/latest/details"
WEIGHTS_PATH: Final = "/v1/performance/latest-tournament-weights"
USER_AGENT: Final = f"assay/{__version__}"
MAX_REDIRECTS = 3  # within the host: a missing or extra slash
_MAX_TOLD_CHARS = 200
_TOURNAMENT_ID = re.compile(TOURNAMENT_ID_PATTERN, re.ASCII)
_T = TypeVar("_T")
_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]{0,256}"', re.ASCII)  # RFC 9110, 8.8.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """An answer. `body` is None if it has not changed since the answer with the `etag` that was sent.

    `etag` is for the next request, None if the answer has none that may be sent back.
    """

    body: bytes | None
    etag: str | None


def details_path(tournament_id: str) -> str:
    """Where the API has that tournament. Raises TournamentError for an id that is none."""
    if not _TOURNAMENT_ID.fullmatch(tournament_id):
        raise TournamentError(
            f"tournament id {tournament_id[:80]!r} is not of the form tourn_<16 hex digits>_<date>"
        )
    return f"/v1/tournaments/{tournament_id}/details"


class TournamentApi:
    """The API at `base_url` (http or https).

    `timeout_s` limits each wait, `deadline_s` a whole request. `ca_file` replaces the public certificate
    authorities, `proxy` is the URL of a proxy; the environment sets neither. Its methods must not be called
    on a running event loop. All raise SourceUnavailableError if nothing was learned, TournamentError for an
    answer that may not be.
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeout_s: float = 10.0,
        deadline_s: float = 60.0,
        max_bytes: int = MAX_ANSWER_BYTES,
        proxy: str | None = None,
        ca_file: Path | None = None,
    ) -> None:
        self._base = _base_url(base_url)
        self._timeout_s = timeout_s
        self._deadline_s = deadline_s
        self._max_bytes = max_bytes
        self._proxy = None if proxy is None else _proxy(proxy)
        self._tls = _tls(ca_file)

    def details(self, tournament_id: str) -> TournamentDetails:
        """That tournament."""
        path = details_path(tournament_id)
        details = self._parsed(path, parse_details)
        if details.tournament_id != tournament_id:
            raise TournamentError(
                f"{self._told(path)}: asked for {tournament_id}, the answer is about {details.tournament_id}"
            )
        return details

    def latest(self) -> LatestDetails:
        """The latest tournament of each channel. Upstream renews the answer once an hour."""
        return self._parsed(LATEST_PATH, parse_latest)

    def weights(self) -> TournamentWeights:
        """Who is paid for the latest tournaments."""
        return self._parsed(WEIGHTS_PATH, parse_weights)

    def fetch(self, path: str, *, etag: str | None) -> Fetched:
        """The JSON at `path`, not parsed; only if it changed since the answer with that `etag`."""
        try:
            url = self._base.copy_with(path=path)  # join would leave the host for "//elsewhere"
        except httpx.InvalidURL as error:
            raise SourceUnavailableError(f"{path[:_MAX_TOLD_CHARS]!r} is no path of the API") from error
        return asyncio.run(self._fetch(url, etag=_usable_etag(etag)))

    def _parsed(self, path: str, parse: Callable[[bytes], _T]) -> _T:
        body = self.fetch(path, etag=None).body
        assert body is not None  # only a conditional request may be answered without one
        try:
            return parse(body)
        except TournamentError as error:
            raise TournamentError(f"{self._told(path)}: {error}") from error

    def _told(self, path: str) -> str:
        return _told(self._base.copy_with(path=path))

    async def _fetch(self, url: httpx.URL, *, etag: str | None) -> Fetched:
        try:
            async with asyncio.timeout(self._deadline_s), self._client() as client:
                for _ in range(MAX_REDIRECTS + 1):
                    found = await self._request(client, url, etag=etag)
                    if isinstance(found, Fetched):
                        return found
                    url = found
        except TimeoutError as error:
            raise SourceUnavailableError(
                f"{_told(url)}: no whole answer in {self._deadline_s:g} s"
            ) from error
        except httpx.TimeoutException as error:
            raise SourceUnavailableError(f"{_told(url)}: no answer in {self._timeout_s:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            told = ascii(str(error) or type(error).__name__)[1:-1]
            raise SourceUnavailableError(f"{_told(url)}: {told[:_MAX_TOLD_CHARS]}") from error
        raise SourceUnavailableError(f"{_told(url)}: more than {MAX_REDIRECTS} redirects")

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            headers={"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "gzip"},
            cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=())),
            timeout=self._timeout_s,
            verify=self._tls,
            proxy=self._proxy,
            trust_env=False,
            follow_redirects=False,
        )

    async def _request(
        self, client: httpx.AsyncClient, url: httpx.URL, *, etag: str | None
    ) -> Fetched | httpx.URL:
        """The answer, or where on the same host it is."""
        headers = {} if etag is None else {"If-None-Match": etag}
        async with client.stream("GET", url, headers=headers) as response:
            if response.has_redirect_location:
                return _redirect(url, response.headers["Location"])
            if response.status_code == httpx.codes.NOT_MODIFIED and etag is not None:
                return Fetched(body=None, etag=_usable_etag(response.headers.get("ETag")) or etag)
            _check_status(url, response)
            _check_media_type(url, response)
            body = await read_body(response, max_bytes=self._max_bytes)
            return Fetched(body=body, etag=_usable_etag(response.headers.get("ETag")))


def _base_url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise SourceUnavailableError(f"the tournament API's URL cannot be read: {error}") from error
    if url.userinfo or url.query or url.fragment:
        raise SourceUnavailableError(
            f"the tournament API at {url.host} is public: its URL has no user name, query or fragment"
        )
    if url.scheme not in ("http", "https") or not url.host:
        raise SourceUnavailableError(
            f"the tournament API's URL {text[:_MAX_TOLD_CHARS]!r} is not http://… or https://…"
        )
    # The API's paths begin with a slash, so one given here would be dropped in silence.
    if url.path != "/":
        raise SourceUnavailableError(
            f"the tournament API's URL {text[:_MAX_TOLD_CHARS]!r} has a path, expected a host only"
        )
    return url


def _proxy(text: str) -> httpx.Proxy:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise SourceUnavailableError(f"the proxy's URL cannot be read: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise SourceUnavailableError(f"the proxy's URL has scheme {url.scheme!r}, expected http or https")
    return httpx.Proxy(url)


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    if ca_file is None:
        return httpx.create_ssl_context(trust_env=False)
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError too
        raise SourceUnavailableError(f"{ca_file}: no certificates to trust: {error}") from error


def _told(url: httpx.URL) -> str:
    """For a message: after a redirect, most of it is the other side's text."""
    return str(url)[:_MAX_TOLD_CHARS]  # httpx has escaped all but printable ASCII


def _usable_etag(etag: str | None) -> str | None:
    return etag if etag is not None and _ETAG.fullmatch(etag) else None


def _redirect(url: httpx.URL, location: str) -> httpx.URL:
    target = url.join(location)
    if (target.scheme, target.host, target.port) != (url.scheme, url.host, url.port) or target.userinfo:
        shown = ascii(f"{target.scheme}://{target.host}")[1:-1]
        raise SourceUnavailableError(
            f"{_told(url)}: redirects to {shown[:_MAX_TOLD_CHARS]}, another scheme or host than asked; not followed"
        )
    return target


def _check_status(url: httpx.URL, response: httpx.Response) -> None:
    match response.status_code:
        case httpx.codes.OK:
            return
        case httpx.codes.NOT_MODIFIED:
            raise TournamentError(f"{_told(url)}: 304, though nothing was said about an earlier answer")
        case httpx.codes.NOT_FOUND:
            raise SourceUnavailableError(f"{_told(url)}: 404, not there")
        case httpx.codes.TOO_MANY_REQUESTS:
            after = ascii(response.headers.get("Retry-After", "not said"))[1:-1]
            raise SourceUnavailableError(
                f"{_told(url)}: 429, too many requests; try again after: {after[:60]}"
            )
        case status:
            raise SourceUnavailableError(f"{_told(url)}: status {status}, expected 200")


def _check_media_type(url: httpx.URL, response: httpx.Response) -> None:
    found = response.headers.get("Content-Type", "")
    if found.partition(";")[0].strip().lower() != "application/json":
        raise TournamentError(f"{_told(url)}: content type {found[:80]!a}, expected application/json")
