"""Everything the pipeline touches outside itself, in one value; each part has a fake in the tests."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from sqlalchemy import Engine

from appliance.attest import RuntimeFacts
from appliance.home import Home
from appliance.isolation_policy import IsolationPolicy
from appliance.waiting import Capacity
from attestation.keys import Signer
from attestation.oms import Manifest
from audit.log import AuditLog
from runner.launcher.port import Launcher
from runner.spec import Limits, Runtime


class Clock(Protocol):
    """The present."""

    def now(self) -> datetime:
        """The present moment, aware, UTC, whole seconds."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """See the port."""
        return datetime.now(UTC).replace(microsecond=0)


class Store(Protocol):
    """Content-addressed, read-only folders: models, datasets, champions' trees, trained outputs.

    A folder is named by the root digest of its manifest (attestation.oms). `put` twice is `put` once.
    """

    def put(self, folder: Path) -> Manifest:
        """Take a copy of `folder`; visible only when complete and flushed to disk.

        Raises ArtifactError for links, special files, unsafe names, too many files; HomeError for a full or
        broken disk.
        """

    def path(self, root_sha256: str) -> Path:
        """The folder of that digest. Raises ArtifactError if there is none."""

    def manifest(self, root_sha256: str) -> Manifest:
        """Its manifest as taken. Raises ArtifactError if there is none."""

    def verify(self, root_sha256: str) -> None:
        """Hash every file again. Raises ArtifactError naming the first file that changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What a step may use."""

    engine: Engine
    home: Home
    store: Store
    launcher: Launcher
    log: AuditLog
    clock: Clock
    signer: Signer  # the appliance's own key
    capacity: Capacity
    limits: Limits  # of training jobs; their wall clock comes from the order
    runtime: Runtime
    runtime_facts: RuntimeFacts  # the same environment as measured when the worker started
    evaluator: str  # root digest of the evaluator in the store
    isolation: Callable[[], IsolationPolicy]  # the rules as they are now
    check_driver: Callable[[str], object]  # raises SandboxUnavailableError for what this host cannot put up
