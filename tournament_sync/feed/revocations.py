"""The list of a channel's revoked champions: a signed target, so that it is as current as the feed itself."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from attestation import canonical
from attestation.digest import parse_sha256_hex
from attestation.errors import MalformedError
from attestation.times import format_time, parse_time
from tournament_sync.champion import is_champion_name
from tournament_sync.errors import ReleaseError

MAX_REVOCATIONS_BYTES = 4 << 20  # some 10,000 entries
MAX_REASON_CHARS = 1000
_FIELDS = {"name", "manifestRoot", "tree", "reason", "revokedAt"}
_TREE = re.compile(r"[0-9a-f]{40}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """A champion that shall not be used any more, under whatever name its tree is published again."""

    name: str
    manifest_root: str
    tree: str
    reason: str
    revoked_at: datetime


def encode_revocations(revocations: Sequence[Revocation]) -> bytes:
    """The list as canonical JSON, in the order given. Raises ReleaseError for what could not be read again."""
    data = canonical.encode(
        {
            "revocations": [
                {
                    "name": entry.name,
                    "manifestRoot": entry.manifest_root,
                    "tree": entry.tree,
                    "reason": entry.reason,
                    "revokedAt": format_time(entry.revoked_at),
                }
                for entry in revocations
            ]
        }
    )
    parse_revocations(data)
    return data


def parse_revocations(data: bytes) -> tuple[Revocation, ...]:
    """What `encode_revocations` wrote. Raises ReleaseError for anything else, to the byte."""
    try:
        raw = canonical.decode(data, max_bytes=MAX_REVOCATIONS_BYTES)
        entries = raw.get("revocations") if isinstance(raw, dict) and raw.keys() == {"revocations"} else None
        if not isinstance(entries, list):
            raise MalformedError("not an object with the one field 'revocations'")
        parsed = tuple(_entry(entry) for entry in entries)
        if canonical.encode(raw) != data:
            raise MalformedError("not canonical JSON")
    except MalformedError as error:
        raise ReleaseError(f"list of revocations: {error}") from error
    return parsed


# Any: JSON whose fields are checked one by one.
def _entry(raw: Any) -> Revocation:
    if not isinstance(raw, dict) or raw.keys() != _FIELDS:
        raise MalformedError(f"an entry is not an object of {sorted(_FIELDS)}")
    name, tree, reason = raw["name"], raw["tree"], raw["reason"]
    if not isinstance(name, str) or not is_champion_name(name):
        raise MalformedError(f"{str(name)[:80]!r} is no champion's name")
    if not isinstance(tree, str) or not _TREE.fullmatch(tree):
        raise MalformedError(f"{name}: the tree is no git id")
    if not isinstance(reason, str) or not 0 < len(reason) <= MAX_REASON_CHARS:
        raise MalformedError(f"{name}: the reason is no text of 1 to {MAX_REASON_CHARS} characters")
    if not reason.isprintable():
        # It goes to logs and terminals of every site.
        raise MalformedError(f"{name}: the reason has a character that cannot be printed: {reason[:80]!a}")
    return Revocation(
        name=name,
        manifest_root=parse_sha256_hex(raw["manifestRoot"]),
        tree=tree,
        reason=reason,
        revoked_at=parse_time(raw["revokedAt"]),
    )
