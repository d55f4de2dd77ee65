"""One pass: each offer is new, known or refused with a reason."""

import sys
from hashlib import sha256
from pathlib import Path

import pytest

from attestation.bundle import sign_statement
from attestation.predicates import CHAMPION_RELEASE
from attestation.statement import Statement, Subject
from tournament_sync.champion import ReleaseOffer, open_release
from tournament_sync.errors import SourceUnavailableError
from tournament_sync.fake import FakeSource
from tournament_sync.folder import FolderSource, release_path
from tournament_sync.git_objects import object_id
from tournament_sync.sync import sync_once


@pytest.fixture
def quarantine(tmp_path: Path) -> Path:
    folder = tmp_path / "quarantine"
    folder.mkdir()
    return folder


@pytest.fixture
def sync(feed: Path, quarantine: Path, trust, now):
    def call(*, source=None, **known: str):
        return sync_once(
            source or FolderSource(feed), known=known, quarantine=quarantine, trust=trust, now=now
        )

    return call


def test_a_new_champion_is_taken(sync, name: str) -> None:
    report = sync()
    assert [taken.champion.name for taken in report.new] == [name]
    assert (report.known, report.refused) == ((), ())


def test_a_known_champion_is_not_fetched_again(sync, quarantine: Path, feed, trust, now, name: str) -> None:
    champion = open_release(FolderSource(feed).offers()[0], trust=trust, now=now)
    report = sync(**{name: champion.manifest_root})
    assert (report.new, report.known, report.refused) == ((), (name,), ())
    assert list(quarantine.iterdir()) == []


def test_a_pass_that_was_not_recorded_gives_the_same_again(sync) -> None:
    assert sync() == sync()


def test_another_release_under_a_known_name_is_refused(sync, name: str) -> None:
    report = sync(**{name: "a" * 64})
    assert report.new == ()
    assert "a champion does not change under its name" in report.refused[0].reason


def test_a_refused_champion_does_not_keep_the_others_out(sync, feed: Path, publish, name: str) -> None:
    publish(name="god-text-bad")
    release_path(feed, "god-text-bad").write_bytes(b"{}")
    report = sync()
    assert [taken.champion.name for taken in report.new] == [name]
    assert [refusal.name for refusal in report.refused] == ["god-text-bad"]
    assert "release of god-text-bad: " in report.refused[0].reason


def test_a_signed_release_without_licence_is_refused_for_that_reason(sync, publisher) -> None:
    data = b"print()\n"
    row = b"100644 train.py\0" + bytes.fromhex(object_id("blob", data))
    tree = object_id("tree", row)
    raw = f"tree {tree}\n\nno licence\n".encode()
    commit = object_id("commit", raw)
    statement = Statement(
        subjects=(Subject(name="god-text-free", sha256=sha256(sha256(data).digest()).hexdigest()),),
        predicate_type=CHAMPION_RELEASE,
        predicate={
            "name": "god-text-free",
            "channel": "text",
            "commit": commit,
            "tree": tree,
            "contractEpoch": "E2",
            "licence": {"sha256": "e" * 64},
            "notice": {"sha256": "f" * 64},
            "publishedAt": "2026-11-20T00:00:00Z",
        },
    )
    offer = ReleaseOffer(name="god-text-free", bundle=sign_statement(statement, publisher))
    fake = FakeSource((offer,), files={commit: {"train.py": data}}, commits={commit: raw})
    report = sync(source=fake)
    assert [(each.name, each.reason[:38]) for each in report.refused] == [
        ("god-text-free", "the repository has no LICENSE.md (look")
    ]


def test_a_source_that_cannot_be_read_is_no_refusal(sync, tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError):
        sync(source=FolderSource(tmp_path / "absent"))


def test_nothing_of_a_champion_is_imported(sync) -> None:
    report = sync()
    folder = str(report.new[0].folder)
    assert not [
        name for name, module in sys.modules.items() if folder in str(getattr(module, "__file__", ""))
    ]
    assert folder not in sys.path
