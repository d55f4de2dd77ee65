"""What every key must do: those in files, and those in memory that the tests sign with."""

from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.keys.file import create_claim_key, create_log_key, load_claim_key, load_log_key
from attestation.bundle import open_bundle, parse_bundle, sign_statement
from attestation.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from attestation.errors import AttestationError, VerificationError
from attestation.keys import NoteSigner, Signer, key_id, load_public_key
from attestation.predicates import APPROVAL
from attestation.statement import Statement, Subject
from tests.attestation.packs import LogSigner, P256Signer, approval_predicate

ORIGIN = "example.org/appliance/audit"


def file_signer(folder: Path, number: int) -> Signer:
    create_claim_key(folder / f"{number}.pem")
    return load_claim_key(folder / f"{number}.pem")


def file_note_signer(folder: Path, number: int) -> NoteSigner:
    create_log_key(folder / f"{number}.pem", name=ORIGIN)
    return load_log_key(folder / f"{number}.pem", name=ORIGIN)


@pytest.fixture(params=[file_signer, lambda _folder, number: P256Signer(number)], ids=["file", "memory"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[int], Signer]:
    """Makes the signer of a number; each number is another key."""
    driver: Callable[[Path, int], Signer] = request.param
    return lambda number: driver(tmp_path, number)


@pytest.fixture(params=[file_note_signer, lambda _folder, number: LogSigner(number)], ids=["file", "memory"])
def make_note(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[int], NoteSigner]:
    driver: Callable[[Path, int], NoteSigner] = request.param
    return lambda number: driver(tmp_path, number)


def statement() -> Statement:
    return Statement(
        subjects=(Subject(name="champion", sha256="c" * 64),),
        predicate_type=APPROVAL,
        predicate=approval_predicate(),
    )


def test_key_is_named_by_the_digest_of_its_public_half(make: Callable[[int], Signer]) -> None:
    signer = make(1)
    assert signer.key_id == key_id(signer.public_pem)
    assert load_public_key(signer.public_pem).key_id == signer.key_id


@pytest.mark.parametrize("message", [b"", b"message", b"\0" * 100_000], ids=["empty", "short", "long"])
def test_signature_is_by_this_key_over_this_message(make: Callable[[int], Signer], message: bytes) -> None:
    signer = make(1)
    key = load_public_key(signer.public_pem)
    for _ in range(8):  # ECDSA signatures have two forms and lengths by chance
        signature = signer.sign(message)
        key.verify(signature, message)
    with pytest.raises(VerificationError):
        key.verify(signature, message + b"!")


def test_another_key_is_another_key(make: Callable[[int], Signer]) -> None:
    one, other = make(1), make(2)
    assert one.key_id != other.key_id
    with pytest.raises(VerificationError):
        load_public_key(other.public_pem).verify(one.sign(b"message"), b"message")


def test_signs_bundles_that_open(make: Callable[[int], Signer]) -> None:
    signer = make(1)
    bundle = parse_bundle(sign_statement(statement(), signer))
    assert bundle.hint == signer.key_id
    assert open_bundle(bundle, load_public_key(signer.public_pem)) == statement()


def test_log_key_signs_heads_that_open(make_note: Callable[[int], NoteSigner]) -> None:
    signer = make_note(1)
    head = Checkpoint(origin=ORIGIN, size=3, root=bytes(32))
    assert signer.name == ORIGIN
    assert len(signer.sign(b"message")) == 64
    assert open_checkpoint(sign_checkpoint(head, signer), vkey=signer.vkey) == head


def test_log_signatures_are_the_same_each_time(make_note: Callable[[int], NoteSigner]) -> None:
    signer = make_note(1)
    assert signer.sign(b"message") == signer.sign(b"message") != signer.sign(b"other")


def test_another_log_key_is_another_key(make_note: Callable[[int], NoteSigner]) -> None:
    one, other = make_note(1), make_note(2)
    assert one.vkey != other.vkey
    note = sign_checkpoint(Checkpoint(origin=ORIGIN, size=3, root=bytes(32)), one)
    with pytest.raises(AttestationError):
        open_checkpoint(note, vkey=other.vkey)


def test_a_key_in_a_file_is_the_same_key_when_loaded_again(tmp_path: Path) -> None:
    made = create_claim_key(tmp_path / "key.pem")
    assert load_claim_key(tmp_path / "key.pem").public_pem == made.public_pem
    log = create_log_key(tmp_path / "log.pem", name=ORIGIN)
    assert load_log_key(tmp_path / "log.pem", name=ORIGIN).vkey == log.vkey


@pytest.mark.parametrize("create", [create_claim_key, lambda path: create_log_key(path, name=ORIGIN)])
def test_a_key_is_never_overwritten(tmp_path: Path, create: Callable[[Path], object]) -> None:
    create(tmp_path / "key.pem")
    before = (tmp_path / "key.pem").read_bytes()
    with pytest.raises(FileExistsError):
        create(tmp_path / "key.pem")
    assert (tmp_path / "key.pem").read_bytes() == before
