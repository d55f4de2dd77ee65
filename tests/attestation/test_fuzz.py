"""Parsers of hostile bytes end in a value or in AttestationError, never in anything else."""

from collections.abc import Callable
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation import canonical
from attestation.bundle import parse_bundle
from attestation.checkpoint import open_checkpoint, parse_vkey
from attestation.claims import parse_entry
from attestation.errors import AttestationError
from attestation.keys import load_public_key
from attestation.pack import parse_manifest
from attestation.predicates import check_predicate
from attestation.statement import parse_statement
from attestation.tlogproof import parse_consistency, parse_proof
from attestation.trust import parse_trust

Parser = Callable[[bytes], object]
# Hand-picked bytes that parsers stumble over, beside random ones.
SPLICES = [
    b"",
    b"\0",
    b"\n",
    b'"',
    b"[[[[",
    b"{}",
    b"null",
    b"1e9",
    b"-1",
    b"\\ud800",
    b"\xff",
    "٣".encode(),
    b"9" * 400,
]


def parsers(packs: ModuleType, files: dict[str, bytes]) -> dict[str, tuple[Parser, bytes]]:
    line = files["claims.jsonl"].split(b"\n")[7]
    trust = {name.removeprefix("trust/"): data for name, data in files.items() if name.startswith("trust/")}
    pem = packs.APPLIANCE.public_pem
    return {
        "bundle": (parse_bundle, line),
        "statement": (lambda data: check_predicate(parse_statement(data)), parse_bundle(line).payload),
        "manifest": (parse_manifest, files["MANIFEST.json"]),
        "entry": (parse_entry, files["proofs/01.entry"]),
        "proof": (parse_proof, files["proofs/01.tlog-proof"]),
        "consistency": (parse_consistency, b"old 5\n\n" + files["checkpoint"]),
        "checkpoint": (lambda data: open_checkpoint(data, vkey=packs.LOG.vkey), files["checkpoint"]),
        "vkey": (lambda data: parse_vkey(data.decode("latin-1")), packs.LOG.vkey.encode()),
        "key": (load_public_key, pem),
        "trust": (lambda data: parse_trust({**trust, "keys.json": data}), trust["keys.json"]),
        "signature": (lambda data: load_public_key(pem).verify(data, b"m"), packs.APPLIANCE.sign(b"m")),
        "json": (lambda data: canonical.decode(data, max_bytes=9999), b'{"a":[1,"x",{"b":null}]}'),
    }


NAMES = [
    "bundle",
    "statement",
    "manifest",
    "entry",
    "proof",
    "consistency",
    "checkpoint",
    "vkey",
    "key",
    "trust",
]


@pytest.mark.parametrize("name", [*NAMES, "signature", "json"])
def test_spoiled_bytes_end_in_a_value_or_our_error(
    packs: ModuleType, valid_pack: dict[str, bytes], name: str
) -> None:
    parse, valid = parsers(packs, valid_pack)[name]
    parse(valid)

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(
        start=st.integers(0, len(valid)),
        length=st.integers(0, 40),
        splice=st.one_of(st.sampled_from(SPLICES), st.binary(max_size=8)),
    )
    def spoil(start: int, length: int, splice: bytes) -> None:
        try:
            parse(valid[:start] + splice + valid[start + length :])
        except AttestationError as error:
            assert str(error)

    spoil()
