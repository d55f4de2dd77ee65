"""A TUF repository in memory that can sign anything: what an attacker with some of the keys would publish.

`publish` signs every role anew, one version up, and writes the folder that a client reads. Tests change the
signed objects, the signers or the written files before or after.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Role,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from tournament_sync.champion import Channel
from tournament_sync.feed.revocations import encode_revocations

CHANNELS = tuple(channel.value for channel in Channel)
TOP = ("root", "targets", "snapshot", "timestamp")


class TufRepository:
    """`signed`: role → what it says; `signers`: role → who signs it."""

    def __init__(self, folder: Path, *, now: datetime) -> None:
        self.folder = folder
        self.signers: dict[str, list[CryptoSigner]] = {}
        expires = now + timedelta(days=7)
        root = Root(expires=expires, roles={role: Role([], 1) for role in TOP})
        roles = {
            name: DelegatedRole(name, [], threshold=1, terminating=True, paths=[f"{name}/*"])
            for name in CHANNELS
        }
        targets = Targets(expires=expires, delegations=Delegations(keys={}, roles=roles))
        self.signed: dict[str, Any] = {
            "root": root,
            "targets": targets,
            "snapshot": Snapshot(expires=expires, meta={}),
            "timestamp": Timestamp(expires=expires),
            **{name: Targets(expires=expires) for name in CHANNELS},
        }
        for role in (*TOP, *CHANNELS):
            self.add_key(role)
        for name in CHANNELS:
            self.add_target(f"{name}/revocations.json", encode_revocations(()), role=name)
        self._publish_first()

    @property
    def first_root(self) -> bytes:
        return (self.folder / "metadata/1.root.json").read_bytes()

    def delegator(self, role: str) -> Any:
        return self.signed["targets" if role not in TOP else "root"]

    def add_key(self, role: str) -> CryptoSigner:
        signer = CryptoSigner.generate_ed25519()
        self.delegator(role).add_key(signer.public_key, role)
        self.signers.setdefault(role, []).append(signer)
        return signer

    def replace_key(self, role: str) -> None:
        """Another key; the old one signs no more."""
        for signer in self.signers.pop(role):
            self.delegator(role).revoke_key(signer.public_key.keyid, role)
        self.add_key(role)

    def add_target(
        self, path: str, data: bytes, *, role: str, custom: object = None, listed: bytes | None = None
    ) -> TargetFile:
        """`listed`: the bytes of which length and digest are signed, where those differ from what is there."""
        target = TargetFile.from_data(path, data if listed is None else listed, ["sha256"])
        if custom is not None:
            target.unrecognized_fields["custom"] = custom
        self.signed[role].targets[path] = target
        folder, _, name = path.rpartition("/")
        self.write(f"targets/{folder}/{target.hashes['sha256']}.{name}", data)
        return target

    def metadata(self, role: str, signers: Sequence[CryptoSigner] | None = None) -> bytes:
        """The role signed as it is."""
        metadata = Metadata(self.signed[role])
        for signer in self.signers[role] if signers is None else signers:
            metadata.sign(signer, append=True)
        return metadata.to_bytes()

    def write(self, name: str, data: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def publish(self, change: Callable[["TufRepository"], object] | None = None, *roles: str) -> None:
        """Sign `roles` (without any: all channels and targets), snapshot and timestamp one version up.

        `change` comes after the new versions were set and before anything is signed.
        """
        roles = roles or (*CHANNELS, "targets")
        for role in (*roles, "snapshot", "timestamp"):
            self.signed[role].version += 1
        if change is not None:
            change(self)
        self._write_all(roles)

    def publish_root(self, signers: Sequence[CryptoSigner] | None = None) -> None:
        """Sign a new root; without `signers` by all keys of the root that are known."""
        self.signed["root"].version += 1
        version = self.signed["root"].version
        self.write(f"metadata/{version}.root.json", self.metadata("root", signers))

    def _publish_first(self) -> None:
        self.write("metadata/1.root.json", self.metadata("root"))
        self._write_all((*CHANNELS, "targets"))

    def _write_all(self, roles: Sequence[str]) -> None:
        snapshot, timestamp = self.signed["snapshot"], self.signed["timestamp"]
        for role in roles:
            data, version = self.metadata(role), self.signed[role].version
            self.write(f"metadata/{version}.{role}.json", data)
            snapshot.meta[f"{role}.json"] = MetaFile.from_data(version, data, ["sha256"])
        data = self.metadata("snapshot")
        self.write(f"metadata/{snapshot.version}.snapshot.json", data)
        timestamp.snapshot_meta = MetaFile.from_data(snapshot.version, data, ["sha256"])
        self.write("metadata/timestamp.json", self.metadata("timestamp"))
