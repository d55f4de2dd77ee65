"""A feed as a source of champions: what is offered and fetched, what it costs, what is refused by whom."""

import hashlib
import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.tournament_sync.feed_site import NAME, Site
from tests.tournament_sync.tuf_repository import TufRepository
from tournament_sync.champion import Champion, Channel, open_release
from tournament_sync.errors import RefusedError, ReleaseError, SourceUnavailableError, TreeError
from tournament_sync.feed.client import FeedSource
from tournament_sync.feed.publisher import refresh, revoke_release, rotate_key
from tournament_sync.feed.serve import feed_server
from tournament_sync.git_objects import object_id
from tournament_sync.sync import sync_once


@pytest.fixture
def site(tmp_path: Path, publisher, now: datetime) -> Site:
    return Site(tmp_path, publisher, now).init()


@pytest.fixture
def champion_of(trust, now: datetime):
    def call(source: FeedSource, name: str = NAME) -> Champion:
        (offer,) = (offer for offer in source.offers() if offer.name == name)
        return open_release(offer, trust=trust, now=now)

    return call


@contextmanager
def served(feed: Path) -> Iterator[tuple[str, list[str]]]:
    """The feed's URL, and the paths that were asked for."""
    server = feed_server(feed, host="127.0.0.1", port=0)
    asked: list[str] = []

    class Counting(server.RequestHandlerClass):  # type: ignore[misc,name-defined]
        def parse_request(self) -> bool:
            is_parsed = bool(super().parse_request())
            asked.append(self.path)
            return is_parsed

    server.RequestHandlerClass = Counting
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# Fetching


def test_fetches_the_files_and_the_commit_of_a_champion(site: Site, champion_of, into: Path) -> None:
    site.add(files={"train.py": "print()\n", "scripts/run.sh": "#!/bin/sh\n"})
    source = site.source()
    champion = champion_of(source)
    raw = source.fetch(champion, into)
    assert object_id("commit", raw) == champion.commit
    assert sorted(path.relative_to(into).as_posix() for path in into.rglob("*") if path.is_file()) == [
        "scripts/run.sh",
        "train.py",
    ]


def test_a_pass_takes_new_champions_once(site: Site, trust, now: datetime, tmp_path: Path) -> None:
    site.add()
    quarantine = tmp_path / "quarantine"
    quarantine.mkdir()
    source = site.source()
    first = sync_once(source, known={}, quarantine=quarantine, trust=trust, now=now)
    assert [taken.champion.name for taken in first.new] == [NAME]
    known = {NAME: first.new[0].champion.manifest_root}
    second = sync_once(source, known=known, quarantine=quarantine, trust=trust, now=now)
    assert (second.new, second.known, second.refused) == ((), (NAME,), ())


def test_fetches_without_having_listed(site: Site, champion_of, into: Path) -> None:
    site.add()
    champion = champion_of(site.source())
    assert site.source(state="another").fetch(champion, into)


def test_refuses_a_champion_that_the_feed_does_not_list(site: Site, champion_of, into: Path) -> None:
    site.add()
    champion = champion_of(site.source())
    revoke_release(site.feed, keys=site.keys, name=NAME, reason="bad", now=site.now)
    with pytest.raises(TreeError, match=rf"the feed does not list text/{NAME}.champion.tar"):
        site.source().fetch(champion, into)


def test_refuses_an_archive_that_was_changed(site: Site, champion_of, into: Path) -> None:
    site.add()
    source = site.source()
    champion = champion_of(source)
    (archive,) = (site.feed / "targets/text").glob("*.champion.tar")
    data = bytearray(archive.read_bytes())
    data[-2000] ^= 1
    archive.write_bytes(data)
    with pytest.raises(ReleaseError, match=r"is not what the feed signed: .* \(rule: target\)"):
        source.fetch(champion, into)
    assert list(into.iterdir()) == []


def test_refuses_an_archive_that_goes_on(site: Site, champion_of, into: Path) -> None:
    site.add()
    source = site.source()
    champion = champion_of(source)
    (archive,) = (site.feed / "targets/text").glob("*.champion.tar")
    with archive.open("ab") as file:
        file.write(bytes(512))
    with pytest.raises(ReleaseError, match=r"rule: endless data"):
        source.fetch(champion, into)
    assert list(into.iterdir()) == []


def test_refuses_an_archive_that_is_cut_short(site: Site, champion_of, into: Path) -> None:
    site.add()
    source = site.source()
    champion = champion_of(source)
    (archive,) = (site.feed / "targets/text").glob("*.champion.tar")
    archive.write_bytes(archive.read_bytes()[:-512])
    with pytest.raises(ReleaseError, match="is not what the feed signed"):
        source.fetch(champion, into)


def test_an_archive_that_is_not_there_keeps_no_other_out(site: Site, champion_of, into: Path) -> None:
    site.add()
    source = site.source()
    champion = champion_of(source)
    (archive,) = (site.feed / "targets/text").glob("*.champion.tar")
    archive.unlink()
    with pytest.raises(TreeError, match=rf"the feed lists text/{NAME}.champion.tar but does not have it"):
        source.fetch(champion, into)


def test_refuses_an_archive_over_the_limit_before_it_is_fetched(
    site: Site, champion_of, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.add()
    with served(site.feed) as (url, asked):
        source = site.source(url)
        champion = champion_of(source)
        asked.clear()
        monkeypatch.setattr("tournament_sync.feed.client.MAX_ARCHIVE_BYTES", 100)
        with pytest.raises(ReleaseError, match="bytes is over the limit of 100"):
            source.fetch(champion, into)
        assert asked == []
        source.close()


def test_refuses_an_archive_with_another_release_than_was_listed(
    tmp_path: Path, publisher, now: datetime, champion_of, into: Path
) -> None:
    site = Site(tmp_path / "site", publisher, now)
    archive = site_archive(site)
    listed = (site.folder / f"{NAME}.release").read_bytes()
    shutil.rmtree(site.folder / f"taken-{NAME}")
    other = site.archive()
    repository = TufRepository(tmp_path / "repository", now=now)
    custom = {"assay": {"release": listed.decode(), "keyless": None}}
    assert archive != other.read_bytes()
    repository.add_target(f"text/{NAME}.champion.tar", other.read_bytes(), role="text", custom=custom)
    repository.publish()
    source = site.source(repository.folder, root=repository.first_root)
    with pytest.raises(ReleaseError, match="holds another release than the feed lists for it"):
        source.fetch(champion_of(source), into)


def site_archive(site: Site) -> bytes:
    return site.archive().read_bytes()


@pytest.mark.parametrize(
    "custom",
    [
        None,
        {},
        [],
        {"assay": None},
        {"assay": {"release": "x"}},
        {"assay": {"release": "x", "keyless": None, "more": 1}},
        {"assay": {"release": 1, "keyless": None}},
        {"assay": {"release": "x" * 70_000, "keyless": None}},
        {"assay": {"release": "x", "keyless": None}, "other": 1},
    ],
)
def test_a_target_with_other_custom_metadata_is_offered_empty(
    tmp_path: Path, publisher, now: datetime, custom
) -> None:
    repository = TufRepository(tmp_path / "repository", now=now)
    repository.add_target(f"text/{NAME}.champion.tar", b"x", role="text", custom=custom)
    repository.publish()
    source = Site(tmp_path, publisher, now).source(repository.folder, root=repository.first_root)
    assert [(offer.name, offer.bundle) for offer in source.offers()] == [(NAME, b"")]


def test_refuses_more_champions_than_anybody_has(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.add()
    monkeypatch.setattr("tournament_sync.feed.client.MAX_OFFERS", 0)
    with pytest.raises(SourceUnavailableError, match="1 releases are over the limit of 0"):
        site.names()


# Keyless bundles and revocations


def test_hands_over_the_keyless_bundle_with_the_digest_of_the_archive(site: Site, champion_of) -> None:
    archive = site.archive()
    site.publish(archive, keyless=b'{"a bundle":1}')
    source = site.source()
    found = source.keyless(champion_of(source))
    assert found is not None
    assert found.bundle == b'{"a bundle":1}'
    assert found.artifact_sha256 == hashlib.sha256(archive.read_bytes()).hexdigest()


def test_a_champion_without_keyless_bundle_has_none(site: Site, champion_of) -> None:
    site.add()
    source = site.source()
    assert source.keyless(champion_of(source)) is None


def test_revocations_of_all_channels_are_told(site: Site) -> None:
    for name, channel in (("god-b", Channel.IMAGE), ("god-a", Channel.TEXT), ("god-c", Channel.TEXT)):
        site.add(name, channel=channel)
        revoke_release(site.feed, keys=site.keys, name=name, reason=f"{name} is bad", now=site.now)
    source = site.source()
    assert [entry.name for entry in source.revocations_of(Channel.IMAGE)] == ["god-b"]
    told = source.revocations()
    assert [(entry.name, entry.reason) for entry in told] == [
        ("god-a", "god-a is bad"),
        ("god-c", "god-c is bad"),
        ("god-b", "god-b is bad"),
    ]


def test_a_list_of_revocations_that_was_changed_is_no_feed(site: Site) -> None:
    (listed,) = (site.feed / "targets/text").glob("*.revocations.json")
    listed.write_bytes(listed.read_bytes().replace(b"[", b"{"))
    with pytest.raises(
        SourceUnavailableError, match=r"text/revocations.json: .* is not what the feed signed"
    ):
        site.source().revocations()


def test_a_list_of_revocations_that_is_not_there_is_no_feed(site: Site) -> None:
    (listed,) = (site.feed / "targets/text").glob("*.revocations.json")
    listed.unlink()
    with pytest.raises(SourceUnavailableError, match=r"lists text/revocations.json but does not have it"):
        site.source().revocations()


def test_a_signed_list_of_revocations_that_is_none_is_no_feed(
    tmp_path: Path, publisher, now: datetime
) -> None:
    repository = TufRepository(tmp_path / "repository", now=now)
    repository.add_target("text/revocations.json", b"{}", role="text")
    repository.publish()
    source = Site(tmp_path, publisher, now).source(repository.folder, root=repository.first_root)
    with pytest.raises(
        SourceUnavailableError, match=r"text/revocations.json: list of revocations: not an object"
    ):
        source.revocations()


def test_a_feed_without_list_of_revocations_is_none(tmp_path: Path, publisher, now: datetime) -> None:
    repository = TufRepository(tmp_path / "repository", now=now)
    del repository.signed["text"].targets["text/revocations.json"]
    repository.publish()
    source = Site(tmp_path, publisher, now).source(repository.folder, root=repository.first_root)
    with pytest.raises(SourceUnavailableError, match=r"lacks text/revocations.json"):
        source.revocations()


# Status and state


def test_what_a_killed_download_left_is_gone_with_the_next_look(site: Site) -> None:
    for name in ("client/fetch-abc/archive", "client/metadata/tmpabc"):
        (site.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (site.folder / name).write_bytes(b"half of it")
    site.source().offers()
    assert not (site.folder / "client/fetch-abc").exists()
    assert not list((site.folder / "client/metadata").glob("tmp*"))


def test_a_feed_is_named_by_the_root_that_was_given(site: Site) -> None:
    assert site.source().root_sha256 == hashlib.sha256(site.root).hexdigest()


def test_status_tells_versions_and_how_long_the_feed_counts(site: Site, now: datetime) -> None:
    site.add()
    source = site.source()
    source.offers()
    found = source.status()
    assert (found.root_version, found.timestamp_version, found.changed) == (1, 2, True)
    assert found.expires_at == now + timedelta(days=7)
    source.offers()
    assert not source.status().changed


def test_only_what_is_listed_counts_as_changed(site: Site) -> None:
    source = site.source()
    source.offers()
    refresh(site.feed, keys=site.keys, now=site.now)
    rotate_key(site.feed, keys=site.keys, role="timestamp", now=site.now)
    source.offers()
    assert not source.status().changed
    site.add()
    source.offers()
    assert source.status().changed


def test_the_state_outlives_the_source(site: Site) -> None:
    kept = site.folder / "kept"
    shutil.copytree(site.feed, kept)
    site.add()
    assert site.names() == [NAME]
    with pytest.raises(SourceUnavailableError, match="rule: rollback"):
        site.names(kept)


def test_a_state_that_cannot_be_written_is_told(site: Site) -> None:
    (site.folder / "client").write_text("a file")
    with pytest.raises(SourceUnavailableError, match=r"state of the feed in .* cannot be used"):
        site.names()


def test_a_damaged_state_is_mended_from_the_feed(site: Site) -> None:
    site.add()
    site.names()
    for path in (site.folder / "client/metadata").glob("*.json"):
        if not path.is_symlink():
            path.write_bytes(b"\xff")
    assert site.names() == [NAME]


def test_refuses_a_folder_that_is_not_there(site: Site) -> None:
    with pytest.raises(SourceUnavailableError, match=r"timestamp.json is not there"):
        site.names(site.folder / "absent")


# Over HTTP


def test_a_feed_over_http_is_the_feed_in_the_folder(site: Site, champion_of, into: Path) -> None:
    site.add()
    with served(site.feed) as (url, _):
        source = site.source(url)
        assert source.offers() == site.source(state="other").offers()
        assert source.revocations() == ()
        assert source.fetch(champion_of(source), into)
        source.close()


def test_nothing_new_costs_two_requests_and_no_second(site: Site) -> None:
    for number in range(5):
        site.add(f"god-text-{number}")
    with served(site.feed) as (url, asked):
        source = site.source(url)
        assert len(source.offers()) == 5
        source.revocations()
        asked.clear()
        started_s = time.monotonic()
        assert len(source.offers()) == 5
        source.revocations()
        spent_s = time.monotonic() - started_s
        assert asked == ["/metadata/2.root.json", "/metadata/timestamp.json"]
        assert spent_s < 1
        source.close()


def test_one_new_champion_costs_the_roles_that_changed(site: Site) -> None:
    site.add()
    with served(site.feed) as (url, asked):
        source = site.source(url + "/")
        source.offers()
        site.add("god-text-b")
        asked.clear()
        source.offers()
        source.close()
    assert asked == [
        "/metadata/2.root.json",
        "/metadata/timestamp.json",
        "/metadata/3.snapshot.json",
        "/metadata/3.text.json",
    ]


def test_a_feed_that_is_not_reached_is_no_refusal(site: Site) -> None:
    source = site.source("http://127.0.0.1:9/")
    with pytest.raises(SourceUnavailableError, match="cannot be read"):
        source.offers()


def test_what_is_fetched_leaves_nothing_in_the_state(site: Site, champion_of, into: Path) -> None:
    site.add()
    source = site.source()
    source.fetch(champion_of(source), into)
    assert sorted(path.name for path in (site.folder / "client").iterdir()) == ["metadata"]


def test_refusals_are_ours(site: Site, champion_of, into: Path) -> None:
    site.add()
    source = site.source()
    champion = champion_of(source)
    (archive,) = (site.feed / "targets/text").glob("*.champion.tar")
    good = archive.read_bytes()
    for at in range(0, len(good), 997):
        archive.write_bytes(good[:at] + bytes([good[at] ^ 255]) + good[at + 1 :])
        with pytest.raises(RefusedError):
            source.fetch(champion, into)


def test_custom_metadata_carries_text_verbatim(site: Site) -> None:
    site.publish(site.archive(), keyless=json.dumps({"n": "é\u2028\U0001f600"}).encode())
    assert site.names() == [NAME]
