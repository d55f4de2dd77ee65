"""A plain folder into a feed in one call: made where there is none, renewed where nothing is new."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.tournament_sync.conftest import NAME, MemoryKey
from tests.tournament_sync.feed_site import Site
from tournament_sync.champion import Champion, Channel, ContractEpoch, open_release
from tournament_sync.errors import PublishError, SourceUnavailableError
from tournament_sync.feed.edition import DEFAULT_LIFETIMES, open_edition
from tournament_sync.feed.keys import KeyFolder
from tournament_sync.feed.publish_tree import publish_tree
from tournament_sync.feed.publisher import init_feed, revoke_release
from tournament_sync.release import ReleaseFacts
from tournament_sync.snapshot import snapshot

FACTS = ReleaseFacts(name=NAME, channel=Channel.TEXT, contract_epoch=ContractEpoch.E4)
TARGET = f"text/{NAME}.champion.tar"


@pytest.fixture
def site(tmp_path: Path, publisher, now: datetime) -> Site:
    """Nothing yet."""
    return Site(tmp_path / "site", publisher, now)


@pytest.fixture
def publish(site: Site, upstream: Path) -> Callable[..., None]:
    def call(facts: ReleaseFacts = FACTS, **changes: object) -> None:
        given = {"keys": site.keys, "signer": site.publisher, "now": site.now, **changes}
        publish_tree(upstream, site.feed, facts=facts, **given)  # type: ignore[arg-type]

    return call


def opened(site: Site, trust) -> Champion:
    (offer,) = site.source().offers()
    return open_release(offer, trust=trust, now=site.now)


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_makes_the_feed_and_its_keys_and_releases_the_tree(publish, site: Site, trust) -> None:
    publish()
    champion = opened(site, trust)
    assert (champion.name, champion.channel, champion.contract_epoch, champion.published_at) == (
        NAME,
        Channel.TEXT,
        ContractEpoch.E4,
        site.now,
    )
    assert champion.origin == "tree"


def test_bytes_are_published_whatever_attributes_and_ignore_rules_ask_for(
    publish, site: Site, upstream: Path, trust, tmp_path: Path
) -> None:
    publish()
    taken = snapshot(site.source(), opened(site, trust), into=tmp_path / "taken")
    names = [
        ".gitattributes",
        ".gitignore",
        "LICENSE.md",
        "NOTICE",
        "scripts.md",
        "scripts/entrypoint.sh",
        "scripts/text_trainer.py",
    ]
    assert files_of(taken.folder) == {name: (upstream / name).read_bytes() for name in names}


def test_a_feed_that_is_there_gets_one_more_champion(publish, site: Site, upstream: Path) -> None:
    init_feed(site.feed, keys=site.keys, now=site.now)
    publish(replace(FACTS, name="zz"))
    publish(replace(FACTS, name="aa", channel=Channel.IMAGE))
    assert site.names() == ["aa", "zz"]


def test_a_feed_whose_making_was_interrupted_is_made_good(publish, site: Site) -> None:
    init_feed(site.feed, keys=site.keys, now=site.now)
    (site.keys / "root.json").unlink()  # what comes last
    publish()
    assert site.names() == [NAME]


def test_leaves_no_working_files(publish, site: Site, monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    publish()
    publish()
    assert list((tmp_path / "scratch").iterdir()) == []
    assert sorted(path.name for path in site.feed.iterdir()) == ["metadata", "targets"]
    assert list(site.feed.rglob(".*")) == []


# The same again


def test_the_same_again_later_is_the_same_release_with_fresh_dates(publish, site: Site) -> None:
    publish()
    before, first = site.source().offers(), files_of(site.feed)
    site.now += timedelta(days=8)
    with pytest.raises(SourceUnavailableError, match="timestamp of the feed expired"):
        site.source().offers()
    publish()
    assert site.source().offers() == before
    after = files_of(site.feed)
    # Nothing but the two that are signed often: no root, channel or archive is made anew.
    assert sorted(after.keys() - first.keys()) == ["metadata/3.snapshot.json"]
    assert [name for name in first if after[name] != first[name]] == ["metadata/timestamp.json"]


@pytest.mark.parametrize("days", [115, 360, 4000])
def test_parts_that_end_soon_or_have_ended_are_renewed_too(publish, site: Site, days: int) -> None:
    publish()
    site.now += timedelta(days=days)
    publish()
    source = site.source()
    assert [offer.name for offer in source.offers()] == [NAME]
    assert source.status().expires_at == site.now + DEFAULT_LIFETIMES.timestamp


# Refused


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: (tree / "scripts.md").write_text("changed"),
        lambda tree: (tree / "more").write_text("x"),
        lambda tree: (tree / "NOTICE").chmod(0o755),
    ],
    ids=["changed", "added", "executable"],
)
def test_refuses_other_content_under_a_released_name(
    publish, site: Site, upstream: Path, change: Callable[[Path], object]
) -> None:
    publish()
    before = files_of(site.feed)
    change(upstream)
    with pytest.raises(PublishError, match="was released with other content: choose another name"):
        publish()
    assert files_of(site.feed) == before


@pytest.mark.parametrize(
    ("released", "wanted"),
    [
        (FACTS, replace(FACTS, channel=Channel.IMAGE)),
        (replace(FACTS, channel=Channel.IMAGE), FACTS),
        (FACTS, replace(FACTS, contract_epoch=ContractEpoch.E3)),
    ],
    ids=["channel", "channel back", "epoch"],
)
def test_refuses_other_claims_under_a_released_name(
    publish, site: Site, released: ReleaseFacts, wanted: ReleaseFacts
) -> None:
    publish(released)
    before = files_of(site.feed)
    with pytest.raises(PublishError, match="was released with other content"):
        publish(wanted)
    assert files_of(site.feed) == before


def test_refuses_to_pass_for_the_release_of_another_publisher(publish, site: Site) -> None:
    publish()
    with pytest.raises(PublishError, match="is not listed as a release of this publisher"):
        publish(signer=MemoryKey())


def test_refuses_a_name_that_was_revoked(publish, site: Site) -> None:
    publish()
    revoke_release(site.feed, keys=site.keys, name=NAME, reason="it phones home", now=site.now)
    with pytest.raises(PublishError, match=r"was revoked \(it phones home\): a name is not used again"):
        publish()
    assert site.names() == []


def test_refuses_a_listing_that_says_something_else(publish, site: Site) -> None:
    publish()
    folder = KeyFolder(folder=site.keys, passphrase=None)
    edition = open_edition(site.feed, keys=folder, now=site.now, lifetimes=DEFAULT_LIFETIMES)
    edition.targets("text").targets[TARGET].unrecognized_fields["custom"] = {"other": {}}
    edition.publish()
    with pytest.raises(PublishError, match=f"{TARGET} is not listed as a champion is: custom metadata"):
        publish()


def test_refuses_a_feed_that_is_not_of_these_keys(publish, site: Site, tmp_path: Path) -> None:
    publish()
    init_feed(tmp_path / "other", keys=tmp_path / "other-keys", now=site.now)
    before = files_of(site.feed)
    with pytest.raises(PublishError, match="is not the feed of these keys"):
        publish(replace(FACTS, name="god-text-more"), keys=tmp_path / "other-keys")
    assert files_of(site.feed) == before


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda tree: (tree / "scripts/link").symlink_to("/etc/passwd"), "'scripts/link' is a symbolic link"),
        (lambda tree: (tree / "-rf").write_text("x"), "part starts with '-'"),
        (lambda tree: (tree / ".git").mkdir(), "is git's work tree"),
    ],
    ids=["link", "name", "git"],
)
def test_a_tree_that_may_not_be_taken_makes_no_feed(
    publish, site: Site, upstream: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    spoil(upstream)
    with pytest.raises(PublishError, match=f"cannot be released: .*{reason}"):
        publish()
    assert not site.folder.exists()


def test_a_folder_that_holds_nothing_makes_no_feed(
    publish, site: Site, upstream: Path, tmp_path: Path
) -> None:
    upstream.rename(tmp_path / "moved")
    (upstream / "scripts/__pycache__").mkdir(parents=True)
    (upstream / "scripts/__pycache__/left.pyc").write_text("left behind")
    with pytest.raises(PublishError, match="cannot be released: there are no files"):
        publish()
    assert not site.folder.exists()


def test_a_name_that_is_none_makes_no_feed(publish, site: Site) -> None:
    with pytest.raises(PublishError, match="is not lower case, digits and inner hyphens"):
        publish(replace(FACTS, name="../elsewhere"))
    assert not site.folder.exists()


def test_a_tree_without_licence_is_released_as_having_none(
    publish, site: Site, upstream: Path, trust
) -> None:
    (upstream / "NOTICE").unlink()
    publish()
    champion = opened(site, trust)
    assert (champion.licence_sha256, champion.notice_sha256) == (None, None)
