"""One pass: each offer is new, known or refused with a reason."""

import sys
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from attestation.bundle import sign_statement
from attestation.predicates import CHAMPION_RELEASE
from attestation.statement import Statement, Subject
from tests.tournament_sync.conftest import MemoryKey
from tests.tournament_sync.feed_site import NAME, Site
from tournament_sync.champion import ReleaseOffer, open_release
from tournament_sync.errors import SourceUnavailableError
from tournament_sync.fake import FakeSource
from tournament_sync.feed.client import FeedSource
from tournament_sync.git_objects import object_id
from tournament_sync.sync import sync_once


@pytest.fixture
def quarantine(tmp_path: Path) -> Path:
    folder = tmp_path / "quarantine"
    folder.mkdir()
    return folder


@pytest.fixture
def site(tmp_path: Path, publisher, now) -> Site:
    """A publisher's site, whose feed has one champion."""
    site = Site(tmp_path, publisher, now).init()
    site.add(files={"train.py": "raise SystemExit('champions are never imported')\n"})
    return site


@pytest.fixture
def source(site: Site) -> FeedSource:
    return site.source()


@pytest.fixture
def sync(source: FeedSource, quarantine: Path, trust, now):
    def call(*, source=source, **known: str):
        return sync_once(source, known=known, quarantine=quarantine, trust=trust, now=now)

    return call


def test_a_new_champion_is_taken(sync) -> None:
    report = sync()
    assert [taken.champion.name for taken in report.new] == [NAME]
    assert (report.known, report.refused) == ((), ())


def test_a_known_champion_is_not_fetched_again(sync, quarantine: Path, source, trust, now) -> None:
    champion = open_release(source.offers()[0], trust=trust, now=now)
    report = sync(**{NAME: champion.manifest_root})
    assert (report.new, report.known, report.refused) == ((), (NAME,), ())
    assert list(quarantine.iterdir()) == []


def test_a_pass_that_was_not_recorded_gives_the_same_again(sync) -> None:
    assert sync() == sync()


def test_another_release_under_a_known_name_is_refused(sync) -> None:
    report = sync(**{NAME: "a" * 64})
    assert report.new == ()
    assert "a champion does not change under its name" in report.refused[0].reason


def test_a_refused_champion_does_not_keep_the_others_out(sync, site: Site) -> None:
    replace(site, publisher=MemoryKey()).add("god-bad")  # by a stranger; sorted before the other
    report = sync()
    assert [taken.champion.name for taken in report.new] == [NAME]
    assert [refusal.name for refusal in report.refused] == ["god-bad"]
    assert "release of god-bad: " in report.refused[0].reason


@pytest.fixture
def unlicensed(publisher) -> Callable[..., FakeSource]:
    """A source with one champion without licence, whose release says what it is told to."""

    def make(licence: str | None) -> FakeSource:
        data = b"print()\n"
        row = b"100644 train.py\0" + bytes.fromhex(object_id("blob", data))
        tree = object_id("tree", row)
        raw = f"tree {tree}\n\nno licence\n".encode()
        commit = object_id("commit", raw)
        digest = None if licence is None else {"sha256": licence}
        statement = Statement(
            subjects=(Subject(name="god-text-free", sha256=sha256(sha256(data).digest()).hexdigest()),),
            predicate_type=CHAMPION_RELEASE,
            predicate={
                "name": "god-text-free",
                "channel": "text",
                "commit": commit,
                "tree": tree,
                "contractEpoch": "E2",
                "origin": "tree",
                "licence": digest,
                "notice": digest,
                "links": [],
                "images": [],
                "tournament": None,
                "publishedAt": "2026-11-20T00:00:00Z",
            },
        )
        offer = ReleaseOffer(name="god-text-free", bundle=sign_statement(statement, publisher))
        return FakeSource((offer,), files={commit: {"train.py": data}}, commits={commit: raw})

    return make


def test_a_champion_without_licence_is_taken_as_such_for_the_policy_to_refuse(sync, unlicensed) -> None:
    report = sync(source=unlicensed(None))
    assert [(taken.champion.name, taken.champion.licence_sha256) for taken in report.new] == [
        ("god-text-free", None)
    ]


def test_a_release_that_claims_a_licence_that_is_not_there_is_refused(sync, unlicensed) -> None:
    report = sync(source=unlicensed("e" * 64))
    assert [(each.name, each.reason) for each in report.refused] == [
        (
            "god-text-free",
            f"licence and notice are none and none, the release names {'e' * 64} and {'e' * 64}",
        )
    ]


def test_a_source_that_cannot_be_read_is_no_refusal(sync, site: Site) -> None:
    with pytest.raises(SourceUnavailableError):
        sync(source=site.source(site.folder / "absent", state="elsewhere"))


def test_nothing_of_a_champion_is_imported(sync) -> None:
    report = sync()
    folder = str(report.new[0].folder)
    assert not [
        name for name, module in sys.modules.items() if folder in str(getattr(module, "__file__", ""))
    ]
    assert folder not in sys.path
