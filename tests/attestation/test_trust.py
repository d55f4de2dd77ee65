import json
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import pytest

from attestation import canonical
from attestation.errors import AttestationError, MalformedError, VerificationError
from attestation.trust import Role, encode_trust, parse_trust, trust_sha256


@pytest.fixture
def files(packs: ModuleType) -> dict[str, bytes]:
    return encode_trust(packs.trust_root())


def with_key(files: dict[str, bytes], **fields: Any) -> dict[str, bytes]:
    raw = json.loads(files["keys.json"])
    raw["keys"][0] |= fields
    return {**files, "keys.json": canonical.encode(raw)}


def test_parses_what_it_encodes(packs: ModuleType) -> None:
    moment = datetime(2026, 11, 1, tzinfo=UTC)
    retired = packs.trusted(packs.APPROVER, Role.APPROVER, "carol", valid_until=moment, revoked_at=moment)
    root = packs.trust_root(approver=retired)
    assert parse_trust(encode_trust(root)) == root


def test_pin_covers_every_file(files: dict[str, bytes]) -> None:
    pins = {trust_sha256(files)}
    for name, content in files.items():
        pins.add(trust_sha256({**files, name: content + b" "}))
        pins.add(trust_sha256({other: data for other, data in files.items() if other != name}))
    assert len(pins) == 2 * len(files) + 1


def test_knows_only_its_own_keys(packs: ModuleType) -> None:
    root = packs.trust_root()
    assert root.key(packs.APPROVER.key_id).name == "carol"
    with pytest.raises(VerificationError, match="not in the trust root"):
        root.key(packs.STRANGER.key_id)


def test_key_is_valid_from_first_to_last_moment_until_revoked(packs: ModuleType) -> None:
    key = packs.trusted(
        packs.APPROVER,
        Role.APPROVER,
        "carol",
        valid_until=datetime(2026, 3, 1, tzinfo=UTC),
        revoked_at=datetime(2026, 2, 1, tzinfo=UTC),
    )
    key.check_valid(datetime(2026, 1, 1, tzinfo=UTC))
    key.check_valid(datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC))
    for moment, message in (
        (datetime(2025, 12, 31, tzinfo=UTC), "valid only from 2026-01-01"),
        (datetime(2026, 2, 1, tzinfo=UTC), "revoked at 2026-02-01"),
        (datetime(2026, 3, 2, tzinfo=UTC), "valid only until 2026-03-01"),
    ):
        with pytest.raises(
            VerificationError, match=f"approver key 429bce97fa9f03f8… .carol. was {message}|is {message}"
        ):
            key.check_valid(moment)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"role": "root"}, "unknown role 'root'"),
        ({"role": ["appliance"]}, "unknown role"),
        ({"name": ""}, "not a plain text"),
        ({"name": "a\x1b[2J"}, "not a plain text"),
        ({"validFrom": None}, "expected a time"),
        ({"validUntil": "soon"}, "expected a time"),
        ({"extra": 1}, "other fields"),
        ({"keyId": "ab"}, "absent, or the other way round"),
    ],
)
def test_refuses_keys(files: dict[str, bytes], fields: dict[str, Any], message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        parse_trust(with_key(files, **fields))


def test_refuses_missing_and_extra_files(files: dict[str, bytes]) -> None:
    for name in files:
        with pytest.raises(MalformedError, match=f"trust/{name}: "):
            parse_trust({other: data for other, data in files.items() if other != name})
    with pytest.raises(MalformedError, match="trust/extra: "):
        parse_trust({**files, "extra": b""})


def test_refuses_a_key_under_another_name(files: dict[str, bytes]) -> None:
    first, second = sorted(name for name in files if name.endswith(".pem"))[:2]
    with pytest.raises(MalformedError, match="not the key of its file name"):
        parse_trust({**files, first: files[second]})


@pytest.mark.parametrize(
    ("keys_json", "message"),
    [
        (b"{}", "not of schema"),
        (b'{"keys":[],"schema":"assay.trust/v1"}', "expected 1 to 1000 keys"),
        (b'{"keys":[1],"schema":"assay.trust/v1"}', "other fields"),
        (b'{ "keys":[],"schema":"assay.trust/v1"}', "not canonical JSON"),
        (b"[", "not JSON"),
    ],
)
def test_refuses_key_lists(files: dict[str, bytes], keys_json: bytes, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        parse_trust({**files, "keys.json": keys_json})


def test_refuses_keys_out_of_order(files: dict[str, bytes]) -> None:
    raw = json.loads(files["keys.json"])
    raw["keys"].reverse()
    with pytest.raises(MalformedError, match="not sorted by id"):
        parse_trust({**files, "keys.json": canonical.encode(raw)})


def test_refuses_a_log_key_without_line_end(files: dict[str, bytes]) -> None:
    with pytest.raises(MalformedError, match=r"trust/log\.vkey: not one line"):
        parse_trust({**files, "log.vkey": files["log.vkey"].rstrip(b"\n")})


@pytest.mark.parametrize("vkey", [b"", b"\n", b"x\n\n", b"\xff\n", b"name+00000000+AAAA\n"])
def test_refuses_log_keys(files: dict[str, bytes], vkey: bytes) -> None:
    with pytest.raises(AttestationError):
        parse_trust({**files, "log.vkey": vkey})
