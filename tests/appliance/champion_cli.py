"""What the tests of `assay champions` and `assay feed` share: a home of today, archives and feeds made on the spot."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from appliance.assembly import Appliance
from appliance.cli import make_app
from appliance.home import add_person, create_home, open_home
from appliance.keys.file import FileSigner, create_claim_key
from appliance.ports import SystemClock
from attestation.trust import Role
from tests.appliance.world import APPROVER, PUBLISHER, REFERENCE, FixedClock, open_appliance
from tournament_sync.archive import write_archive
from tournament_sync.champion import Channel, ContractEpoch
from tournament_sync.intake import take_tree
from tournament_sync.release import ReleaseFacts, sign_release

APP = make_app()
ATTRIBUTION = "Gradients.io (https://gradients.io)"
NAME = "god-text-tourn-00112233aabbccdd-20261101-position-1"


@dataclass(frozen=True, kw_only=True)
class Site:
    """A home with an approver and a trusted publisher; commands see the real clock, so it is made now."""

    home: Path
    now: datetime

    def assay(self, *arguments: str) -> Any:
        """`assay …` on this home."""
        return CliRunner().invoke(APP, [*arguments, "--home", str(self.home)])

    @contextmanager
    def opened(self) -> Iterator[Appliance]:
        """The appliance, for what no command does; its clock stands where the home was made."""
        with open_appliance(self.home, FixedClock(self.now)) as appliance:
            yield appliance

    def publisher(self) -> FileSigner:
        """The key of the publisher that this home trusts."""
        return open_home(self.home).person_signer(PUBLISHER)


def make_site(root: Path) -> Site:
    """A new home below `root`. Its people are trusted since yesterday: releases may be an hour old."""
    now = SystemClock().now()
    since = now - timedelta(days=1)
    create_home(root / "home", name="test", now=since)
    for name, role in ((APPROVER, Role.APPROVER), (PUBLISHER, Role.PUBLISHER)):
        add_person(open_home(root / "home"), name=name, role=role, now=since)
    return Site(home=root / "home", now=now)


def assay(*arguments: str) -> Any:
    """`assay …` without a home."""
    return CliRunner().invoke(APP, list(arguments))


def make_tree(root: Path, *, note: str | None = None) -> Path:
    """The reference champion as a plain folder, with one executable file; with one more file if `note` is given."""
    tree = root / f"tree-{note or 'plain'}"
    shutil.copytree(REFERENCE, tree, ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "run.sh").write_text("#!/bin/sh\necho hello\n")
    (tree / "run.sh").chmod(0o755)
    if note is not None:
        (tree / "note.txt").write_text(note)
    return tree


def make_archive(root: Path, signer: FileSigner, *, name: str = NAME, note: str | None = None) -> Path:
    """A released champion as an archive."""
    work = root / f"work-{name}"
    taken = take_tree(make_tree(root, note=note), into=work)
    facts = ReleaseFacts(name=name, channel=Channel.TEXT, contract_epoch=ContractEpoch.E4)
    release = sign_release(taken, facts, signer=signer, now=SystemClock().now() - timedelta(hours=1))
    path = root / f"{name}.champion.tar"
    write_archive(work, release, out=path)
    return path


def make_key(path: Path) -> FileSigner:
    """Somebody's key in a file that is not in any home."""
    return create_claim_key(path)
