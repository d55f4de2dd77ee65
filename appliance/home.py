"""The appliance's home: one folder with database, keys, trust root, log, store and evidence.

HOME/home.json       name of the log, version of the layout
     assay.db        database          log/checkpoint  newest signed head of the audit log
     keys/           private keys      trust.json      who may sign what
     store/          models, datasets, champions' trees, by digest
     jobs/           one folder per sandboxed job      evidence/    one folder per proved run
     quarantine/     champions on their way in         worker.lock, sync.lock  held by one process
     feeds/          pinned roots and states of feeds that are synced on schedule
     images/         root file systems of champions, by manifest
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from appliance.errors import HomeError
from appliance.keys.file import (
    FileNoteSigner,
    FileSigner,
    create_claim_key,
    create_log_key,
    load_claim_key,
    load_log_key,
)
from attestation.keys import load_public_key
from attestation.times import format_time
from attestation.trust import Role, TrustedKey, TrustRoot, encode_trust, parse_trust, trust_sha256
from audit.durable import fsync_folder, locked, write_durably

LAYOUT_VERSION = 1
INTAKE = "intake"  # the publisher's name of the site itself: it releases what it imports from git
RESERVED_NAMES = frozenset({"appliance", "log", INTAKE})


@dataclass(frozen=True, slots=True)
class Home:
    """Paths below the home folder; opening one checks that it is a home."""

    root: Path

    @property
    def db_path(self) -> Path:
        return self.root / "assay.db"

    @property
    def jobs_dir(self) -> Path:
        return self.root / "jobs"

    @property
    def evidence_dir(self) -> Path:
        return self.root / "evidence"

    @property
    def store_dir(self) -> Path:
        return self.root / "store"

    @property
    def keys_dir(self) -> Path:
        return self.root / "keys"

    @property
    def quarantine_dir(self) -> Path:
        return self.root / "quarantine"

    @property
    def feeds_dir(self) -> Path:
        return self.root / "feeds"

    @property
    def trust_dir(self) -> Path:
        return self.root / "trust"

    @property
    def log_checkpoint_path(self) -> Path:
        return self.root / "log" / "checkpoint"

    @property
    def log_origin(self) -> str:
        return str(_read_facts(self.root)["log_origin"])

    def appliance_signer(self) -> FileSigner:
        return load_claim_key(self.keys_dir / "appliance.pem")

    def log_signer(self) -> FileNoteSigner:
        return load_log_key(self.keys_dir / "log.pem", name=self.log_origin)

    def person_signer(self, name: str) -> FileSigner:
        """The signing key of the person or publisher `name`. Raises HomeError if there is none here."""
        path = self.keys_dir / f"{checked_name(name)}.pem"
        if not path.exists():
            raise HomeError(
                f"{name} has no signing key in this home; `assay people add {name} --role approver` makes one"
            )
        return load_claim_key(path)

    def intake_signer(self, *, now: datetime) -> FileSigner:
        """The site's own publisher key, made and trusted at first use."""
        signer = _load_or_create(self.keys_dir / f"{INTAKE}.pem")
        _trust_key(self, name=INTAKE, role=Role.PUBLISHER, public_pem=signer.public_pem, valid_from=now)
        return signer

    def trust_files(self) -> dict[str, bytes]:
        """The trust root as the files an auditor gets; their digest is the pin."""
        folder = self.trust_dir.resolve()
        return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

    def trust(self) -> TrustRoot:
        return parse_trust(self.trust_files())

    def keep_policy(self, files: Mapping[str, bytes], *, sha256: str) -> None:
        """Keep the policy set of that digest for evidence to come; the same set again is no change."""
        kept = self._policy_dir(sha256)
        kept.parent.mkdir(exist_ok=True)
        with locked(kept):
            with suppress(HomeError):
                self.policy_files(sha256)
                return
            building = kept.with_name(f".{sha256}.new")
            shutil.rmtree(building, ignore_errors=True)  # what a crash left
            try:
                for name, content in files.items():
                    (building / name).parent.mkdir(parents=True, exist_ok=True)
                    write_durably(building / name, content)
                shutil.rmtree(kept, ignore_errors=True)  # it is not the set of its name
                building.rename(kept)
                fsync_folder(kept.parent)
            finally:
                shutil.rmtree(building, ignore_errors=True)

    def policy_files(self, sha256: str) -> dict[str, bytes]:
        """The policy set of that digest. Raises HomeError if it is not here or was changed."""
        folder = self._policy_dir(sha256)
        files = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
        if trust_sha256(files) != sha256:
            raise HomeError(f"{folder}: the policy set kept here is not the one of that digest")
        return files

    def _policy_dir(self, sha256: str) -> Path:
        return self.root / "policies" / sha256

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.root).free

    def remove_unfinished(self) -> None:
        """Remove what a killed worker was building; only for the process that holds `worker_lock`."""
        for folder in (self.jobs_dir, self.evidence_dir):
            for path in folder.glob(".*"):
                shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def worker_lock(self) -> Iterator[None]:
        """Held by the one worker of this home. Raises HomeError if another one runs."""
        with self._lock("worker.lock", otherwise="another worker is running on this home"):
            yield

    @contextmanager
    def sync_lock(self) -> Iterator[None]:
        """Held by whoever takes champions in. Raises HomeError if somebody else does."""
        with self._lock("sync.lock", otherwise="champions are being synced or imported by another process"):
            yield

    @contextmanager
    def _lock(self, name: str, *, otherwise: str) -> Iterator[None]:
        descriptor = os.open(self.root / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise HomeError(f"{self.root}: {otherwise}") from error
        try:
            yield
        finally:
            os.close(descriptor)


def open_home(root: Path) -> Home:
    """The home at `root`. Raises HomeError if there is none or it is of another layout."""
    facts = _read_facts(root)
    if facts.get("layout") != LAYOUT_VERSION:
        raise HomeError(f"{root}: home has layout {facts.get('layout')}, this Assay knows {LAYOUT_VERSION}")
    return Home(root.resolve())


def create_home(root: Path, *, name: str, now: datetime) -> Home:
    """A new home at `root`, complete or not at all: it is built beside and renamed.

    `name` is the appliance's name in its log's origin. Raises HomeError if `root` is not free.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise HomeError(f"{root}: exists and is not an empty folder; a new home needs a free place")
    root.parent.mkdir(parents=True, exist_ok=True)
    building = root.parent / f".{root.name}.{uuid.uuid4().hex}"
    building.mkdir(mode=0o700)
    try:
        home = Home(building)
        for folder in (home.jobs_dir, home.evidence_dir, home.store_dir, home.keys_dir, building / "log"):
            folder.mkdir(mode=0o700)
        signer = create_claim_key(home.keys_dir / "appliance.pem")
        origin = f"{checked_name(name)}.assay/{signer.key_id[:16]}"
        log = create_log_key(home.keys_dir / "log.pem", name=origin)
        _write_trust(home, TrustRoot(keys=(_own_key(signer, now),), log_vkey=log.vkey))
        facts = {"layout": LAYOUT_VERSION, "log_origin": origin, "created_at": now.isoformat()}
        write_durably(building / "home.json", json.dumps(facts, indent=1).encode())
        building.rename(root)  # fails if somebody filled `root` meanwhile
    except OSError as error:
        raise HomeError(f"{root}: home cannot be made: {error}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return open_home(root)


def add_person(home: Home, *, name: str, role: Role, now: datetime) -> FileSigner:
    """Give `name` a signing key in this home, and trust it for `role` from `now` on.

    Whoever operates the home can sign with it. Where four eyes must be two people's, the key stays with its
    owner and `trust_person` takes the public half.
    """
    _check_one_role(home, _person(name), role)  # before a key is made that nobody will trust
    signer = _load_or_create(home.keys_dir / f"{name}.pem")
    trust_person(home, name=name, role=role, public_pem=signer.public_pem, valid_from=now)
    return signer


def trust_person(home: Home, *, name: str, role: Role, public_pem: bytes, valid_from: datetime) -> TrustedKey:
    """Trust what `name` signs with the key `public_pem` as `role`, from `valid_from` on.

    The same key again for the same role changes nothing. Raises HomeError for the appliance's own role or
    names, for a key that is trusted otherwise and for a name that has the other role with any key, valid or not:
    whoever releases champions approves none. MalformedError for what is no P-256 public key.
    """
    if role is Role.APPLIANCE:
        raise HomeError("the role appliance is the appliance's own; people are approvers or publishers")
    _check_one_role(home, name, role)
    return _trust_key(home, name=_person(name), role=role, public_pem=public_pem, valid_from=valid_from)


def _check_one_role(home: Home, name: str, role: Role) -> None:
    for known in home.trust().keys:
        if known.name.casefold() == name.casefold() and known.role is not role:
            raise HomeError(
                f"{name} is trusted as {known.role}: one person, one role; {role} needs another name"
            )


def _trust_key(home: Home, *, name: str, role: Role, public_pem: bytes, valid_from: datetime) -> TrustedKey:
    key = TrustedKey(
        key_id=load_public_key(public_pem).key_id,
        pem=public_pem,
        role=role,
        name=name,
        valid_from=valid_from,
    )
    trust = home.trust()
    for known in trust.keys:
        if known.key_id == key.key_id:
            if (known.role, known.name) != (role, name):
                raise HomeError(f"that key is {known.name}'s as {known.role}: one key, one person, one role")
            if valid_from < known.valid_from:
                raise HomeError(
                    f"{known.title} is trusted from {format_time(known.valid_from)} on; that it counted earlier, from"
                    f" {format_time(valid_from)}, cannot be said afterwards: use a new key"
                )
            return known
    _write_trust(home, TrustRoot(keys=(*trust.keys, key), log_vkey=trust.log_vkey))
    return key


def _load_or_create(path: Path) -> FileSigner:
    return load_claim_key(path) if path.exists() else create_claim_key(path)


def _person(name: str) -> str:
    if name in RESERVED_NAMES:
        raise HomeError(f"name {name!r} is reserved for the appliance itself")
    return checked_name(name)


def checked_name(name: str) -> str:
    """`name` if it is a plain name of a person or appliance; it becomes part of file names."""
    if not (name.isascii() and name.replace("-", "").isalnum() and name == name.lower() and len(name) <= 40):
        raise HomeError(f"name {name!r}: wanted up to 40 lower-case letters, digits and dashes")
    return name


def _own_key(signer: FileSigner, now: datetime) -> TrustedKey:
    return TrustedKey(
        key_id=signer.key_id,
        pem=signer.public_pem,
        role=Role.APPLIANCE,
        name="appliance",
        valid_from=now,
    )


def _write_trust(home: Home, trust: TrustRoot) -> None:
    """Swap the whole trust folder at once: a link is renamed over, since folders cannot be.

    Earlier versions stay: somebody may be reading one.
    """
    version = home.root / f"trust-{uuid.uuid4().hex[:12]}"
    for name, content in encode_trust(trust).items():
        (version / name).parent.mkdir(parents=True, exist_ok=True)
        write_durably(version / name, content)
    link = home.root / f".trust-{uuid.uuid4().hex[:12]}"
    link.symlink_to(version.name)
    link.rename(home.trust_dir)


def _read_facts(root: Path) -> dict[str, object]:
    try:
        facts = json.loads((root / "home.json").read_bytes())
    except FileNotFoundError as error:
        raise HomeError(f"{root}: no appliance home here; make one with `assay init`") from error
    except (OSError, ValueError) as error:
        raise HomeError(f"{root}/home.json: cannot be read: {error}") from error
    if not isinstance(facts, dict):
        raise HomeError(f"{root}/home.json: wanted a JSON object")
    return facts
