"""A publisher with a key, a small repository under the right licence, and git repositories made by hand."""

import hashlib
import shutil
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.checkpoint import format_vkey
from attestation.keys import key_id, low_s
from attestation.trust import Role, TrustedKey, TrustRoot
from tournament_sync.archive import write_archive
from tournament_sync.champion import Channel, ContractEpoch
from tournament_sync.intake import take_tree
from tournament_sync.release import ReleaseFacts, sign_release

NAME = "god-text-tourn-00112233aabbccdd-20261101-position-1"
NOW = datetime(2026, 11, 21, 2, 0, tzinfo=UTC)
ROOT = Path(__file__).parents[2]
NOTICE = """Gradients-on-Demand
Copyright 2025 Grads LLC

This product includes software developed by Grads LLC.

When using, redistributing, or modifying this software, you must include
attribution to Gradients.io (https://gradients.io) in any documentation,
user interfaces, or other materials that accompany the software or its
derivatives.

Gradients.io is owned by Grads LLC.
"""


@dataclass(frozen=True, slots=True)
class MemoryKey:
    """An ECDSA P-256 key in memory."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def public_pem(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def key_id(self) -> str:
        return key_id(self.public_pem)

    def sign(self, message: bytes) -> bytes:
        return low_s(self.key.sign(message, ec.ECDSA(SHA256())))


class Repository:
    """A bare git repository of loose objects made by hand, so that it can hold what git would not make."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "objects").mkdir(parents=True)

    def write(self, kind: str, data: bytes, *, as_id: str | None = None) -> str:
        raw = f"{kind} {len(data)}\0".encode() + data
        name = as_id or hashlib.sha1(raw).hexdigest()
        path = self.path / "objects" / name[:2] / name[2:]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(zlib.compress(raw))
        return name

    def tree(self, *rows: tuple[str, bytes, str]) -> str:
        """Rows of mode, name and id, in the order given."""
        return self.write(
            "tree",
            b"".join(mode.encode() + b" " + name + b"\0" + bytes.fromhex(oid) for mode, name, oid in rows),
        )

    def commit(self, tree: str) -> str:
        author = "A <a@b.invalid> 0 +0000"
        message = "Tournament winner repository - Commit: 0123abcd"
        text = f"tree {tree}\nauthor {author}\ncommitter {author}\n\n{message}\n"
        return self.write("commit", text.encode())


@pytest.fixture
def publisher() -> MemoryKey:
    return MemoryKey()


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture
def name() -> str:
    return NAME


@pytest.fixture
def notice() -> str:
    return NOTICE


@pytest.fixture
def trust_in() -> Callable[..., TrustRoot]:
    def make(key: MemoryKey, *, role: Role = Role.PUBLISHER, **dates: datetime) -> TrustRoot:
        trusted = TrustedKey(
            key_id=key.key_id,
            pem=key.public_pem,
            role=role,
            name="publisher",
            **{"valid_from": datetime(2026, 1, 1, tzinfo=UTC), **dates},  # type: ignore[arg-type]
        )
        return TrustRoot(keys=(trusted,), log_vkey=format_vkey("assay.test/log", bytes(32)))

    return make


@pytest.fixture
def trust(trust_in, publisher) -> TrustRoot:
    return trust_in(publisher)


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    """The working tree of a champion, with what trips a careless importer: attributes, modes, sort order."""
    tree = tmp_path / "upstream"
    files: Mapping[str, str] = {
        "NOTICE": NOTICE,
        ".gitattributes": "* text eol=crlf\n*.py filter=evil export-ignore\n",
        ".gitignore": "*\n",
        "scripts/text_trainer.py": "raise SystemExit('champions are never imported')\n",
        "scripts.md": "sorts before the folder in bytes, after it in git\n",
        "scripts/entrypoint.sh": "#!/bin/sh\n",
        "scripts/__pycache__/text_trainer.cpython-311.pyc": "left behind",
    }
    for file, text in files.items():
        (tree / file).parent.mkdir(parents=True, exist_ok=True)
        (tree / file).write_text(text)
    (tree / "scripts/entrypoint.sh").chmod(0o755)
    shutil.copy(ROOT / "LICENSE", tree / "LICENSE.md")
    return tree


@pytest.fixture
def release(tmp_path: Path, upstream: Path, publisher) -> Callable[..., Path]:
    """Releases `upstream`, as it is then, as an archive."""

    def call(name: str = NAME) -> Path:
        taken = take_tree(upstream, into=tmp_path / f"released-{name}")
        facts = ReleaseFacts(name=name, channel=Channel.TEXT, contract_epoch=ContractEpoch.E4)
        bundle = sign_release(taken, facts, signer=publisher, now=NOW)
        path = tmp_path / f"{name}.champion.tar"
        write_archive(taken.folder.parent, bundle, out=path)
        return path

    return call


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "by-hand.git")


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "into"
    folder.mkdir()
    return folder
