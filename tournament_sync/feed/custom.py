"""What the feed says of a champion beside its archive's length and digest: its bundles, readable before fetching."""

from dataclasses import dataclass
from typing import Any

from tournament_sync.archive import MAX_RELEASE_BYTES
from tournament_sync.errors import ReleaseError

MAX_KEYLESS_BYTES = 64 << 10  # certificate, log entry and proof are about 10 KB
_KEY = "assay"  # our own name among the custom fields of a target
_FIELDS = {"release", "keyless"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedRelease:
    """The bundles of a champion, not verified. `keyless` is over the archive (tournament_sync.feed.keyless)."""

    release: bytes
    keyless: bytes | None


# Any: JSON, as python-tuf takes and gives it.
def encode_custom(release: FeedRelease) -> dict[str, Any]:
    """The custom field of a champion's target. Raises ReleaseError for what could not be read again."""
    keyless = None if release.keyless is None else _text(release.keyless)
    custom = {_KEY: {"release": _text(release.release), "keyless": keyless}}
    parse_custom(custom)
    return custom


def parse_custom(custom: Any) -> FeedRelease:
    """What `encode_custom` wrote. Raises ReleaseError for anything else."""
    fields = custom.get(_KEY) if isinstance(custom, dict) and custom.keys() == {_KEY} else None
    if not isinstance(fields, dict) or fields.keys() != _FIELDS:
        raise ReleaseError(f"custom metadata is not an object {_KEY!r} of {sorted(_FIELDS)}")
    release, keyless = fields["release"], fields["keyless"]
    return FeedRelease(
        release=_bytes(release, field="release", limit=MAX_RELEASE_BYTES),
        keyless=None if keyless is None else _bytes(keyless, field="keyless", limit=MAX_KEYLESS_BYTES),
    )


def _text(bundle: bytes) -> str:
    try:
        return bundle.decode()
    except UnicodeDecodeError as error:
        raise ReleaseError("a bundle is not UTF-8") from error


def _bytes(value: object, *, field: str, limit: int) -> bytes:
    if not isinstance(value, str):
        raise ReleaseError(f"custom metadata: {field} is no text")
    try:
        data = value.encode()
    except UnicodeEncodeError as error:
        raise ReleaseError(f"custom metadata: {field} holds an unpaired surrogate") from error
    if len(data) > limit:
        raise ReleaseError(f"custom metadata: {field} of {len(data)} bytes is over the limit of {limit}")
    return data
