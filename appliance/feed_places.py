"""Where a feed is, and what the home keeps of it: the root pinned for a place, and by root what it said before.

Both ways to sync, by hand and on schedule, have one memory of a feed; so a stick that is mounted elsewhere cannot
bring an older state to either.
Not covered: the same feed pinned by another version of its root. It counts as another feed.
"""

import re
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sqlalchemy import Connection

from appliance.errors import HomeError, InvalidOrderError
from appliance.home import Home
from appliance.store import sources
from attestation.digest import sha256_hex
from audit.durable import write_durably

MAX_ROOT_BYTES: Final = 512_000  # python-tuf's own limit for a root
MAX_PLACE_CHARS: Final = 500
WANTED: Final = "http(s)://… or a folder"
_ROOT_FILE: Final = "root.json"
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def feed_place(location: str) -> str:
    """The one spelling of a feed's place: its URL, or the absolute path of its folder. Raises InvalidOrderError.

    It becomes part of what is logged and shown to everybody, and so may carry no secret.
    """
    if not 0 < len(location) <= MAX_PLACE_CHARS or not location.isprintable():
        raise _refused(
            f"a location of {len(location)} characters, or with one that cannot be printed, is no feed"
        )
    scheme = _SCHEME.match(location)
    if scheme is not None and scheme[1] in {"http", "https"}:
        _check_url(location)
        return location.rstrip("/")
    path = location
    if scheme is not None:
        path = location.removeprefix("file://")
        if not path.startswith("/"):
            raise _refused(f"a location with protocol {scheme[1][:20]!r} is no feed")
    place = str(Path(path).absolute())
    if len(place) > MAX_PLACE_CHARS:
        raise _refused(f"a path of {len(place)} characters is no feed")
    return place


def pinned_root(connection: Connection, home: Home, place: str) -> bytes | None:
    """The root that is trusted for the place, synced by hand or on schedule. Raises HomeError if it was changed."""
    path = pin_folder(home, place) / _ROOT_FILE
    try:
        return path.read_bytes()
    except FileNotFoundError:
        scheduled = {source.location: source.root_sha256 for source in sources.list_sources(connection)}
    except OSError as error:
        raise HomeError(f"the root kept of {place} cannot be read: {error}") from error
    return kept_root(home, scheduled[place], place=place) if place in scheduled else None


def pin_root(home: Home, place: str, root: bytes) -> None:
    """Trust `root` for that place from now on; a root that is pinned there stays."""
    folder = pin_folder(home, place)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not (folder / _ROOT_FILE).exists():
        write_durably(folder / _ROOT_FILE, root)


def keep_root(home: Home, root: bytes) -> None:
    """Keep the bytes under their own digest: whatever else is pinned stays what it is."""
    write_durably(feed_memory(home, sha256_hex(root)) / _ROOT_FILE, root)


def kept_root(home: Home, root_sha256: str, *, place: str) -> bytes:
    """What `keep_root` kept. Raises HomeError, for the feed at `place`, if it is gone or was changed."""
    try:
        root = (feed_memory(home, root_sha256) / _ROOT_FILE).read_bytes()
    except OSError as error:
        raise HomeError(f"the pinned root of {place} cannot be read: {error}") from error
    if (found := sha256_hex(root)) != root_sha256:
        raise HomeError(f"the pinned root of {place} was changed", found=found, wanted=root_sha256)
    return root


def feed_memory(home: Home, root_sha256: str) -> Path:
    """The folder for all that was seen of the feed with that root, wherever it was read."""
    folder = home.feeds_dir / f"root-{root_sha256}"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def pin_folder(home: Home, place: str) -> Path:
    return home.feeds_dir / sha256_hex(place.encode())[:16]


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise _refused(f"the feed's URL cannot be read: {error}") from error
    if not parts.hostname:
        raise _refused("the feed's URL names no host")
    # The URL itself is not told: the refusal may be shown to others, too.
    if "@" in parts.netloc:
        raise _refused(
            "the feed's URL carries a user or password, which would be logged and shown to everybody"
        )
    if "?" in url or "#" in url:
        raise _refused("the feed's URL carries a query or fragment: a feed is files below one address")


def _refused(what: str) -> InvalidOrderError:
    return InvalidOrderError(what, checked="location", wanted=WANTED)
