from pathlib import Path
from types import ModuleType

import pytest

from attestation.checkpoint import Checkpoint, format_vkey, open_checkpoint, parse_vkey, sign_checkpoint
from attestation.errors import AttestationError, MalformedError, VerificationError
from attestation.tlogproof import parse_proof


@pytest.fixture(scope="module")
def head(packs: ModuleType) -> Checkpoint:
    return Checkpoint(origin=packs.LOG.name, size=5, root=b"\x07" * 32)


@pytest.fixture(scope="module")
def note(packs: ModuleType, head: Checkpoint) -> bytes:
    return sign_checkpoint(head, packs.LOG)


def test_opens_what_it_signs(packs: ModuleType, head: Checkpoint, note: bytes) -> None:
    assert open_checkpoint(note, vkey=packs.LOG.vkey) == head


def test_opens_a_head_made_elsewhere_and_ignores_its_witness(vectors: Path) -> None:
    note = parse_proof((vectors / "proof.tlog-proof").read_bytes()).checkpoint_note
    vkey = (vectors / "log.vkey").read_text().strip()
    head = open_checkpoint(note, vkey=vkey)
    assert (head.origin, head.size) == ("corp.example/appliance-7/audit", 5)
    assert note.count("—".encode()) == 2


def test_verifier_key_round_trips(vectors: Path) -> None:
    vkey = (vectors / "log.vkey").read_text().strip()
    key = parse_vkey(vkey)
    assert key.key_id.hex() == "b3852e54"
    assert format_vkey(key.name, key.public_raw) == vkey


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("+b3852e54+", "+b3852e55+", "does not match"),
        ("+b3852e54+", "+B3852E54+", "does not match"),
        ("corp.example", "corp example", "not a log name"),
        ("+ARIW", "+BNFL", "not an Ed25519 log key"),
        ("ws2K", "ws2", "not base64"),
        ("ws2K", "", "has 32 bytes"),
        ("+", " ", "not an Ed25519 log key"),
    ],
)
def test_refuses_verifier_keys(vectors: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        parse_vkey((vectors / "log.vkey").read_text().strip().replace(old, new))


def test_refuses_to_sign_for_another_log(packs: ModuleType, head: Checkpoint) -> None:
    other = Checkpoint(origin="example.org/other", size=1, root=head.root)
    with pytest.raises(MalformedError, match="cannot be signed by"):
        sign_checkpoint(other, packs.LOG)


def test_refuses_another_key_of_the_same_name(packs: ModuleType, note: bytes) -> None:
    with pytest.raises(VerificationError, match="expected one signature of log"):
        open_checkpoint(note, vkey=packs.OTHER_LOG.vkey)


def test_refuses_another_log(packs: ModuleType, note: bytes) -> None:
    other = packs.LogSigner(1, name="example.org/other")
    with pytest.raises(VerificationError, match=r"expected 'example\.org/other'"):
        open_checkpoint(note, vkey=other.vkey)


def test_refuses_the_same_signature_twice(packs: ModuleType, note: bytes) -> None:
    line = note.split(b"\n\n")[1]
    with pytest.raises(VerificationError, match="found 2"):
        open_checkpoint(note + line, vkey=packs.LOG.vkey)


def test_refuses_too_many_signatures(packs: ModuleType, note: bytes) -> None:
    line = note.split(b"\n\n")[1]
    with pytest.raises(MalformedError, match="17 signatures"):
        open_checkpoint(note + line * 16, vkey=packs.LOG.vkey)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"\n5\n", b"\n6\n", "head is not signed by"),
        (b"\n5\n", b"\n05\n", "not a tree size"),
        (b"\n5\n", b"\n-5\n", "not a tree size"),
        (b"\n5\n", b"\n5 \n", "not a tree size"),
        (b"\n5\n", "\n٥\n".encode(), "not a tree size"),
        (b"\n5\n", b"\n9999999999999999999\n", "not a tree size"),
        (b"\n5\n", b"\n5\nBwc=\n", "found 4 lines"),
        (b"\n5\n", b"\n", "found 2 lines"),
        (b"BwcHBwcHB", b"BwcH", "not base64|32 bytes"),
        (b"\n\n", b"\n", "signature lines"),
        ("—".encode(), b"-", "not a signature line"),
        (b"example", b"\xffxample", "not UTF-8"),
    ],
)
def test_refuses_heads(packs: ModuleType, note: bytes, old: bytes, new: bytes, message: str) -> None:
    assert old in note
    with pytest.raises(AttestationError, match=message):
        open_checkpoint(note.replace(old, new, 1), vkey=packs.LOG.vkey)


@pytest.mark.parametrize(
    ("root", "message"),
    [(b"BwcH", "a root has 32 bytes, found 3"), (b"Bw", "not base64")],
)
def test_refuses_roots(packs: ModuleType, note: bytes, root: bytes, message: str) -> None:
    lines = note.split(b"\n")
    with pytest.raises(MalformedError, match=message):
        open_checkpoint(b"\n".join([*lines[:2], root, *lines[3:]]), vkey=packs.LOG.vkey)


def test_refuses_a_root_with_stray_bits(packs: ModuleType, note: bytes) -> None:
    # The last letter before "=" carries two bits that no byte uses; b64decode alone ignores them.
    lines = note.split(b"\n")
    assert lines[2].endswith(b"c=")
    with pytest.raises(MalformedError, match="not canonical base64"):
        open_checkpoint(b"\n".join([*lines[:2], lines[2][:-2] + b"d=", *lines[3:]]), vkey=packs.LOG.vkey)


@pytest.mark.parametrize("name", ["", "a+b"])
def test_refuses_a_witness_without_a_proper_name(packs: ModuleType, note: bytes, name: str) -> None:
    with pytest.raises(MalformedError, match="not a log name"):
        open_checkpoint(note + f"— {name} AAAAAAAA\n".encode(), vkey=packs.LOG.vkey)


def test_refuses_an_oversized_note(packs: ModuleType) -> None:
    with pytest.raises(MalformedError, match="over the limit of 65536"):
        open_checkpoint(b"x" * 65537, vkey=packs.LOG.vkey)


def test_refuses_every_changed_byte(packs: ModuleType, note: bytes) -> None:
    for at in range(len(note)):
        for spoiled in (note[:at] + bytes([note[at] ^ 1]) + note[at + 1 :], note[:at] + note[at + 1 :]):
            if spoiled != note:
                with pytest.raises(AttestationError):
                    open_checkpoint(spoiled, vkey=packs.LOG.vkey)
