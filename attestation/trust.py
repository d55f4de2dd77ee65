"""Whom to believe, and for what: the trust folder that travels with evidence.

`keys.json` (canonical JSON), `keys/<key id>.pem` and `log.vkey`. One digest over the folder is the pin
that a stranger gets by another way. Retired and revoked keys stay listed: old claims need them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from attestation import canonical
from attestation.checkpoint import parse_vkey
from attestation.digest import folder_sha256, sha256_hex
from attestation.errors import MalformedError, VerificationError
from attestation.keys import load_public_key
from attestation.times import format_time, parse_time

SCHEMA = "assay.trust/v1"
MAX_KEYS = 1000
MAX_KEYS_BYTES = 1 << 20
_FIELDS = {"keyId", "name", "revokedAt", "role", "validFrom", "validUntil"}


class Role(StrEnum):
    """What a key may sign."""

    APPLIANCE = "appliance"  # everything but the two below
    APPROVER = "approver"  # approvals
    PUBLISHER = "publisher"  # champion releases


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """A key, whose it is, what for and when. The name of an approver is the one in approvals."""

    key_id: str
    pem: bytes
    role: Role
    name: str
    valid_from: datetime
    valid_until: datetime | None = None
    revoked_at: datetime | None = None

    def check_valid(self, at: datetime) -> None:
        """Raise VerificationError unless a claim made at that moment may be signed with this key."""
        if at < self.valid_from:
            raise VerificationError(f"{self.title} is valid only from {format_time(self.valid_from)}")
        if self.valid_until is not None and at > self.valid_until:
            raise VerificationError(f"{self.title} was valid only until {format_time(self.valid_until)}")
        if self.revoked_at is not None and at >= self.revoked_at:
            raise VerificationError(f"{self.title} was revoked at {format_time(self.revoked_at)}")

    @property
    def title(self) -> str:
        """The key for a person."""
        return f"{self.role} key {self.key_id[:16]}… ({self.name})"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustRoot:
    """Everybody who is believed, and the one log."""

    keys: tuple[TrustedKey, ...]
    log_vkey: str

    def key(self, key_id: str) -> TrustedKey:
        """The key of that id. Raises VerificationError if it is not trusted."""
        for key in self.keys:
            if key.key_id == key_id:
                return key
        raise VerificationError(f"key {key_id[:16]!r}… is not in the trust root")


def encode_trust(root: TrustRoot) -> dict[str, bytes]:
    """`root` as the files of a trust folder, name → bytes. Raises MalformedError."""
    keys = sorted(root.keys, key=lambda key: key.key_id)
    listed = {"keys": [_encode_key(key) for key in keys], "schema": SCHEMA}
    files = {"keys.json": canonical.encode(listed), "log.vkey": f"{root.log_vkey}\n".encode()}
    files.update({f"keys/{key.key_id}.pem": key.pem for key in keys})
    parse_trust(files)
    return files


def parse_trust(files: Mapping[str, bytes]) -> TrustRoot:
    """The trust root in a folder's files. Raises MalformedError for anything `encode_trust` cannot write."""
    for name in ("keys.json", "log.vkey"):
        if name not in files:
            raise MalformedError("missing from the trust folder", file=f"trust/{name}")
    listed = _listed_keys(files["keys.json"])
    wanted = {"keys.json", "log.vkey", *(f"keys/{raw['keyId']}.pem" for raw in listed)}
    if odd := sorted(wanted ^ files.keys()):
        raise MalformedError("listed in keys.json but absent, or the other way round", file=f"trust/{odd[0]}")
    keys = tuple(_parse_key(raw, pem=files[f"keys/{raw['keyId']}.pem"]) for raw in listed)
    if [key.key_id for key in keys] != sorted({key.key_id for key in keys}):
        raise MalformedError("keys are not sorted by id, or one is listed twice", file="trust/keys.json")
    return TrustRoot(keys=keys, log_vkey=_log_vkey(files["log.vkey"]))


def trust_sha256(files: Mapping[str, bytes]) -> str:
    """The pin of a trust folder: `attestation.digest.folder_sha256` of its files."""
    return folder_sha256({name: sha256_hex(data) for name, data in files.items()})


def _encode_key(key: TrustedKey) -> dict[str, object]:
    return {
        "keyId": key.key_id,
        "name": key.name,
        "revokedAt": _encode_time(key.revoked_at),
        "role": str(key.role),
        "validFrom": format_time(key.valid_from),
        "validUntil": _encode_time(key.valid_until),
    }


def _encode_time(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment)


def _parse_time(text: object) -> datetime | None:
    return None if text is None else parse_time(text)


# Any: JSON objects whose fields `_parse_key` checks.
def _listed_keys(data: bytes) -> list[dict[str, Any]]:
    raw = canonical.decode(data, max_bytes=MAX_KEYS_BYTES)
    if canonical.encode(raw) != data:
        raise MalformedError("not canonical JSON", file="trust/keys.json")
    if not isinstance(raw, dict) or raw.keys() != {"keys", "schema"} or raw["schema"] != SCHEMA:
        raise MalformedError(f"not of schema {SCHEMA}", file="trust/keys.json")
    listed = raw["keys"]
    if not isinstance(listed, list) or not 0 < len(listed) <= MAX_KEYS:
        raise MalformedError(f"expected 1 to {MAX_KEYS} keys", file="trust/keys.json")
    if not all(isinstance(key, dict) and key.keys() == _FIELDS for key in listed):
        raise MalformedError(f"a key has other fields than {sorted(_FIELDS)}", file="trust/keys.json")
    return listed


# Any: as above.
def _parse_key(raw: Mapping[str, Any], *, pem: bytes) -> TrustedKey:
    if raw["role"] not in list(Role):
        raise MalformedError(f"unknown role {str(raw['role'])[:40]!r}", file="trust/keys.json")
    if not isinstance(raw["name"], str) or not raw["name"].isprintable() or not raw["name"]:
        raise MalformedError("a key's name is not a plain text", file="trust/keys.json")
    public = load_public_key(pem)
    if public.key_id != raw["keyId"]:
        raise MalformedError("not the key of its file name", file=f"trust/keys/{raw['keyId']}.pem")
    return TrustedKey(
        key_id=public.key_id,
        pem=pem,
        role=Role(raw["role"]),
        name=raw["name"],
        valid_from=parse_time(raw["validFrom"]),
        valid_until=_parse_time(raw["validUntil"]),
        revoked_at=_parse_time(raw["revokedAt"]),
    )


def _log_vkey(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise MalformedError("not UTF-8", file="trust/log.vkey") from error
    vkey = text.removesuffix("\n")
    if f"{vkey}\n" != text:
        raise MalformedError("not one line", file="trust/log.vkey")
    parse_vkey(vkey)
    return vkey
