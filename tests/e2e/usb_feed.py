"""A vetting site that publishes a feed, sticks that carry it, and sites that have no network; `assay` as processes.

Nothing here is a fake, and every command of a site without network runs in an empty network namespace.
"""

import hashlib
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from appliance.assembly import Appliance, open_appliance
from appliance.demo.offline import without_network
from appliance.domain import Order, Run
from appliance.keys.file import create_claim_key
from appliance.settings import Settings
from appliance.store import runs
from appliance.store.engine import reading
from attestation.digest import sha256_hex
from attestation.times import format_time
from audit.event import Event
from audit.fsck import check_log
from audit.store import events_of, read_pending, scan_entries

REFERENCE = Path(__file__).parents[2] / "deploy" / "champions" / "reference"
FIRST, SECOND = "god-text-first", "god-text-second"
CARRIER, HERE, ELSEWHERE, PUBLISHER = "ana", "olu", "pia", "vetting-desk"
RUN_ID = "run-queued"
DEADLINE_S = 60
DATABASE = "assay.db"  # and its write-ahead log beside it
# A feed's client may remember what it verified before it met what it refuses; locks are empty files. Whether there
# is an empty quarantine says nothing; what lies in it is compared.
NOT_COMPARED = (DATABASE, "feeds", "sync.lock", "worker.lock")


def assay(*words: str | Path, is_offline: bool) -> "subprocess.CompletedProcess[str]":
    """`assay …` as an operator types it."""
    command = [sys.executable, "-m", "appliance", *map(str, words)]
    return subprocess.run(
        without_network(command) if is_offline else command,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def done(finished: "subprocess.CompletedProcess[str]") -> str:
    """The stdout of a command that must go well."""
    assert finished.returncode == 0, f"{finished.args}: {finished.stderr}"
    return finished.stdout


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One home, and whether its commands have a network."""

    home: Path
    is_offline: bool

    def try_(self, *words: str | Path) -> "subprocess.CompletedProcess[str]":
        """`assay …` on this home, however it ends."""
        return assay(*words, "--home", self.home, is_offline=self.is_offline)

    def assay(self, *words: str | Path) -> str:
        """`assay …` on this home, which must go well; its stdout."""
        return done(self.try_(*words))

    def show(self, name: str) -> dict[str, Any]:
        """All that this home says of a champion."""
        said: dict[str, Any] = json.loads(self.assay("champions", "show", name, "-o", "json"))
        return said

    def status(self, name: str) -> str:
        return str(self.show(name)["champion"]["status"])

    def release(self, name: str) -> dict[str, str]:
        """What is released: every digest that two sites can compare, the report's included."""
        asked = json.loads(self.assay("champions", "show", name, "--approval-request"))
        report = self.assay("champions", "inspect", name, "-o", "json").encode()
        assert asked["report_sha256"] == sha256_hex(report)
        return {
            "manifest": asked["manifest_sha256"],
            "tree": asked["tree"],
            "commit": asked["commit"],
            "release": sha256_hex(asked["release"].encode()),
            "report": sha256_hex(report),
        }

    @contextmanager
    def opened(self) -> Iterator[Appliance]:
        """The appliance, for what no command does."""
        appliance = open_appliance(Settings(home=self.home))
        yield appliance
        appliance.engine.dispose()

    def submit(self, name: str) -> None:
        """An order of that champion, queued: no worker runs here."""
        champion = self.show(name)["champion"]["manifest_sha256"]
        order = Order(champion=champion, base_model="b" * 64, dataset="d" * 64, hours_to_complete=0.5)
        with self.opened() as appliance, appliance.engine.begin() as conn:
            now = appliance.clock.now()
            runs.submit(conn, order, run_id=RUN_ID, actor=CARRIER, idempotency_key=None, now=now)

    def run(self) -> Run:
        with self.opened() as appliance, reading(appliance.engine) as conn:
            return runs.get(conn, RUN_ID)

    def events(self, subject: str) -> list[Event]:
        with self.opened() as appliance, reading(appliance.engine) as conn:
            return [logged.event for logged in events_of(conn, subject)]

    def check_log(self) -> None:
        """Sign what waits, and recompute the whole log."""
        with self.opened() as appliance:
            appliance.log.sequence(appliance.clock.now())
            home = appliance.home
            found = check_log(
                appliance.engine,
                origin=home.log_origin,
                vkey=home.log_signer().vkey,
                checkpoint_path=home.log_checkpoint_path,
            )
            assert found == ()
            with reading(appliance.engine) as conn:
                assert read_pending(conn) == ()
                assert next(scan_entries(conn), None) is not None

    def rows(self) -> list[str]:
        """The whole database as statements."""
        with closing(sqlite3.connect(f"file:{self.home}/{DATABASE}?mode=ro", uri=True)) as database:
            return list(database.iterdump())

    def files(self) -> dict[str, str]:
        """Every other file of the home, half-written ones included, with its content's digest."""
        found = {}
        for path in sorted(self.home.rglob("*")):
            name = path.relative_to(self.home).as_posix()
            if name != "quarantine" and not name.startswith(NOT_COMPARED):
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        return found

    def copy(self, to: Path) -> "Site":
        """The same site, for a test of its own."""
        shutil.copytree(self.home, to, symlinks=True)
        return Site(home=to, is_offline=self.is_offline)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vetting:
    """The site that publishes: a home with a network, a feed with its keys, and the sticks it wrote.

    `sticks`: the first champion; both; the second, while the first is revoked.
    """

    folder: Path
    site: Site
    sticks: tuple[Path, ...]
    since: datetime  # before everything that the publisher signed

    @property
    def feed(self) -> Path:
        return self.folder / "feed"

    @property
    def root(self) -> Path:
        return self.folder / "keys" / "root.json"

    @property
    def public_key(self) -> Path:
        """The publisher's, among those that `assay trust export` wrote."""
        keys = json.loads(self.site.assay("trust", "show", "-o", "json"))["keys"]
        (key_id,) = (key["key"] for key in keys if key["name"] == PUBLISHER)
        return self.folder / "trust" / "keys" / f"{key_id}.pem"


def make_vetting(folder: Path) -> Vetting:
    """Two champions published, the first revoked at last; a stick after each step."""
    since = datetime.now(UTC) - timedelta(hours=1)
    site = Site(home=folder / "home", is_offline=False)
    site.assay("init", "--name", "vetting")
    site.assay("people", "add", PUBLISHER, "--role", "publisher")
    site.assay("trust", "export", folder / "trust")
    feed, keys = folder / "feed", ("--keys", folder / "keys")
    done(assay("feed", "init", feed, *keys, is_offline=False))
    sticks: list[Path] = []

    def publish(name: str) -> None:
        tree = _tree(folder / name, note=name)
        words = ("--name", name, "--channel", "text", "--epoch", "E4")
        key = ("--sign-with", site.home / "keys" / f"{PUBLISHER}.pem")
        done(assay("feed", "add", feed, tree, *keys, *words, *key, is_offline=False))

    def export() -> None:
        sticks.append(folder / f"stick-{len(sticks)}")
        done(assay("feed", "export", feed, "--into", sticks[-1], is_offline=False))

    publish(FIRST)
    export()
    publish(SECOND)
    export()
    root = ("--root", folder / "keys" / "root.json")
    site.assay("champions", "sync", feed, *root, "--as", "vera")
    revoked = ("feed", "revoke", feed, FIRST, *keys, "--reason", "it phones home")
    done(assay(*revoked, is_offline=False))
    export()
    return Vetting(folder=folder, site=site, sticks=tuple(sticks), since=since)


def make_trusting(folder: Path, vetting: Vetting) -> Site:
    """A site without network that trusts the publisher and three approvers, one of them with a key kept elsewhere.

    That key lies beside the home, in `<ELSEWHERE>.pem`.
    """
    site = Site(home=folder / "home", is_offline=True)
    site.assay("init", "--name", "bank")
    for name in (HERE, CARRIER):
        site.assay("people", "add", name, "--role", "approver")
    theirs = create_claim_key(folder / f"{ELSEWHERE}.pem")
    public_key = folder / f"{ELSEWHERE}.pub.pem"
    public_key.write_bytes(theirs.public_pem)
    site.assay("people", "trust", ELSEWHERE, "--role", "approver", "--public-key", public_key)
    since = ("--valid-from", format_time(vetting.since))
    words = ("--role", "publisher", "--public-key", vetting.public_key, *since)
    site.assay("people", "trust", PUBLISHER, *words)
    return site


def plug_in(stick: Path, at: Path) -> None:
    """Mount another stick where the last one was."""
    shutil.rmtree(at, ignore_errors=True)
    shutil.copytree(stick, at)


def change_a_byte(file: Path, *, find: Callable[[bytes], int] = lambda data: len(data) // 2) -> None:
    """The lowest bit of one byte of `file`, the middle one if nothing else is wanted."""
    data = bytearray(file.read_bytes())
    data[find(bytes(data))] ^= 1
    file.write_bytes(data)


def _tree(folder: Path, *, note: str) -> Path:
    shutil.copytree(REFERENCE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "note.txt").write_text(f"{note}\n", encoding="utf-8")
    return folder
