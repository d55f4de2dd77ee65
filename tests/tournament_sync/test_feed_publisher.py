"""What a publisher does to a feed, what it refuses to do, and what a crash leaves."""

import os
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root

from tests.tournament_sync.feed_site import NAME, Site
from tournament_sync.archive import write_archive
from tournament_sync.champion import Channel
from tournament_sync.errors import PublishError, SourceUnavailableError
from tournament_sync.feed.edition import Lifetimes
from tournament_sync.feed.layout import CHANNEL_ROLES, ROLES
from tournament_sync.feed.publisher import (
    ROOT_KEYS,
    ROOT_THRESHOLD,
    init_feed,
    refresh,
    revoke_release,
    rotate_key,
)


@pytest.fixture
def site(tmp_path: Path, publisher, now: datetime) -> Site:
    return Site(tmp_path, publisher, now).init()


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def current_root(site: Site) -> Root:
    versions = sorted(int(path.name.split(".")[0]) for path in (site.feed / "metadata").glob("*.root.json"))
    return Metadata[Root].from_file(str(site.feed / f"metadata/{versions[-1]}.root.json")).signed


# Init


def test_a_new_feed_is_empty_and_has_a_root_of_two_of_three(site: Site) -> None:
    assert site.names() == []
    root = current_root(site).get_delegated_role("root")
    assert (len(root.keyids), root.threshold) == (ROOT_KEYS, ROOT_THRESHOLD) == (3, 2)


def test_each_key_is_a_file_that_nobody_else_may_read(site: Site) -> None:
    found = sorted(path.name for path in site.keys.glob("*.pem"))
    roots = ["root-1.pem", "root-2.pem", "root-3.pem"]
    assert found == sorted(roots + [f"{role}-1.pem" for role in ROLES if role != "root"])
    assert {path.stat().st_mode & 0o777 for path in site.keys.glob("*.pem")} == {0o600}


def test_every_channel_has_a_role_of_its_own(site: Site) -> None:
    assert [channel.value for channel in Channel] == list(CHANNEL_ROLES)
    keys = {(site.keys / f"{role}-1.pem").read_bytes() for role in CHANNEL_ROLES}
    assert len(keys) == len(CHANNEL_ROLES)


def test_a_second_feed_does_not_take_the_keys_of_the_first(site: Site) -> None:
    with pytest.raises(PublishError, match="has the keys of a feed already"):
        init_feed(site.folder / "other", keys=site.keys, now=site.now)


def test_other_keys_do_not_take_over_a_feed(site: Site) -> None:
    before = files_of(site.feed)
    with pytest.raises(PublishError, match="is a feed with other keys"):
        init_feed(site.feed, keys=site.folder / "other", now=site.now)
    (site.feed / "metadata/1.root.json").write_bytes(b"no root")
    with pytest.raises(PublishError, match="is a feed with other keys"):
        init_feed(site.feed, keys=site.folder / "other", now=site.now)
    (site.feed / "metadata/1.root.json").write_bytes(before["metadata/1.root.json"])
    assert files_of(site.feed) == before


def test_keys_that_are_there_already_are_taken(tmp_path: Path, publisher, now: datetime) -> None:
    first = Site(tmp_path / "a", publisher, now).init()
    second = Site(tmp_path / "b", publisher, now)
    shutil.copytree(first.keys, second.keys, ignore=shutil.ignore_patterns("root.json", "state"))
    second.init()
    assert files_of(second.feed) == files_of(first.feed)


def test_keys_may_have_a_passphrase(tmp_path: Path, publisher, now: datetime) -> None:
    site = Site(tmp_path, publisher, now).init(passphrase=b"correct horse")
    assert b"ENCRYPTED PRIVATE KEY" in (site.keys / "root-1.pem").read_bytes()
    archive = site.archive()
    with pytest.raises(PublishError, match="key cannot be read"):
        site.publish(archive)
    with pytest.raises(PublishError, match="key cannot be read"):
        site.publish(archive, passphrase=b"wrong")
    site.publish(archive, passphrase=b"correct horse")
    assert site.names() == [NAME]


@pytest.mark.parametrize("role", ROLES)
def test_what_is_signed_counts_as_long_as_its_role(site: Site, role: str) -> None:
    lifetimes = Lifetimes()
    refresh(site.feed, keys=site.keys, now=site.now, also=(*CHANNEL_ROLES, "targets", "root"))
    name = "timestamp" if role == "timestamp" else f"2.{role}"
    signed = Metadata.from_file(str(site.feed / f"metadata/{name}.json")).signed
    wanted = getattr(lifetimes, role, lifetimes.channel)
    assert signed.expires == site.now + wanted


# Add


def test_an_added_champion_is_offered_with_its_release(site: Site, trust) -> None:
    assert site.add() == f"text/{NAME}.champion.tar"
    offers = site.source().offers()
    assert [(offer.name, offer.bundle) for offer in offers] == [
        (NAME, (site.folder / f"{NAME}.release").read_bytes())
    ]


def test_champions_of_all_channels_are_offered_sorted_by_name(site: Site) -> None:
    site.add("god-zz")
    site.add("god-env", channel=Channel.ENVIRONMENT)
    site.add("god-image", channel=Channel.IMAGE)
    assert site.names() == ["god-env", "god-image", "god-zz"]


def test_adding_the_same_again_changes_nothing(site: Site) -> None:
    archive = site.archive()
    site.publish(archive)
    before = files_of(site.feed)
    assert site.publish(archive) == f"text/{NAME}.champion.tar"
    assert files_of(site.feed) == before


def test_refuses_the_same_name_with_other_content(site: Site) -> None:
    site.add()
    shutil.rmtree(site.folder / f"taken-{NAME}")
    other = site.archive(files={"train.py": "print('another')\n"})
    before = files_of(site.feed)
    with pytest.raises(PublishError, match="is listed with other content"):
        site.publish(other)
    assert {name for name in files_of(site.feed) if not name.endswith(".part")} == set(before)
    assert site.names() == [NAME]


def test_refuses_the_same_name_in_another_channel(site: Site) -> None:
    site.add()
    shutil.rmtree(site.folder / f"taken-{NAME}")
    with pytest.raises(PublishError, match=rf"text/{NAME}.champion.tar is listed with other content"):
        site.add(NAME, channel=Channel.IMAGE)


def test_refuses_an_archive_whose_files_are_not_the_release_s(site: Site) -> None:
    site.archive("god-text-b")
    with pytest.raises(PublishError, match=r"god-text-c.tar has commit [0-9a-f]{40}, its release has"):
        site.add("god-text-c", signed="god-text-b")
    assert site.names() == []


def test_refuses_what_is_no_archive(site: Site, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"no archive")
    with pytest.raises(PublishError, match=r"x.tar cannot be published: "):
        site.publish(tmp_path / "x.tar")


def test_refuses_an_archive_whose_release_is_none(site: Site) -> None:
    site.archive()
    write_archive(site.folder / f"taken-{NAME}", b"{}", out=site.folder / "bad.tar")
    with pytest.raises(PublishError, match=r"bad.tar cannot be published: not a release"):
        site.publish(site.folder / "bad.tar")


@pytest.mark.parametrize("what", ["absent", "link", "pipe", "folder"])
def test_refuses_an_archive_that_is_no_file(site: Site, tmp_path: Path, what: str) -> None:
    path = tmp_path / "x.tar"
    match what:
        case "link":
            path.symlink_to(site.archive())
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
    with pytest.raises(PublishError, match=r"cannot be changed|is no regular file"):
        site.publish(path)


def test_refuses_an_archive_over_the_limit(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = site.archive()
    monkeypatch.setattr("tournament_sync.feed.publisher.MAX_ARCHIVE_BYTES", 100)
    with pytest.raises(PublishError, match="is over the limit of 100 bytes"):
        site.publish(archive)


@pytest.mark.parametrize(
    ("keyless", "message"), [(b"\xff", "is not UTF-8"), (b"x" * 70_000, "over the limit")]
)
def test_refuses_a_keyless_bundle_that_nobody_could_read(site: Site, keyless: bytes, message: str) -> None:
    with pytest.raises(PublishError, match=message):
        site.publish(site.archive(), keyless=keyless)


def test_refuses_a_folder_that_is_no_feed(tmp_path: Path, publisher, now: datetime) -> None:
    site = Site(tmp_path, publisher, now)
    with pytest.raises(PublishError, match="is no feed: it has no folder 'metadata'"):
        site.add()


# Revoke


def test_a_revoked_champion_is_listed_as_revoked_and_not_offered(site: Site) -> None:
    site.add()
    revoke_release(site.feed, keys=site.keys, name=NAME, reason="phones home", now=site.now)
    source = site.source()
    assert source.offers() == ()
    (entry,) = source.revocations()
    assert (entry.name, entry.reason, entry.revoked_at) == (NAME, "phones home", site.now)
    assert list((site.feed / "targets/text").glob("*.champion.tar")) == []


def test_revoking_twice_changes_nothing(site: Site) -> None:
    site.add()
    revoke_release(site.feed, keys=site.keys, name=NAME, reason="first", now=site.now)
    before = files_of(site.feed)
    revoke_release(site.feed, keys=site.keys, name=NAME, reason="second", now=site.now)
    assert files_of(site.feed) == before


def test_a_revoked_name_is_not_used_again(site: Site) -> None:
    archive = site.archive()
    site.publish(archive)
    revoke_release(site.feed, keys=site.keys, name=NAME, reason="bad", now=site.now)
    with pytest.raises(PublishError, match=r"was revoked \(bad\): a name is not used again"):
        site.publish(archive)


def test_a_revoked_tree_does_not_come_back_under_another_name_or_channel(site: Site) -> None:
    tree = {"train.py": "print('bad')\n"}
    site.add(files=tree)
    revoke_release(site.feed, keys=site.keys, name=NAME, reason="bad", now=site.now)
    with pytest.raises(PublishError, match=f"god-text-b has the tree of {NAME}, revoked: bad"):
        site.add("god-text-b", files=tree, channel=Channel.IMAGE)


def test_refuses_to_revoke_what_was_never_listed(site: Site) -> None:
    with pytest.raises(PublishError, match="'god-text-z' is not listed"):
        revoke_release(site.feed, keys=site.keys, name="god-text-z", reason="bad", now=site.now)


@pytest.mark.parametrize("reason", ["", "x" * 1001])
def test_refuses_a_revocation_without_a_readable_reason(site: Site, reason: str) -> None:
    site.add()
    before = files_of(site.feed)
    with pytest.raises(PublishError, match="the reason is no text of 1 to 1000 characters"):
        revoke_release(site.feed, keys=site.keys, name=NAME, reason=reason, now=site.now)
    assert files_of(site.feed) == before


def test_refuses_a_list_of_revocations_that_somebody_changed(site: Site) -> None:
    site.add()
    (listed,) = (site.feed / "targets/text").glob("*.revocations.json")
    listed.write_bytes(b'{"revocations":[]} ')
    with pytest.raises(PublishError, match=r"revocations.json was changed in the feed's folder"):
        site.add("god-text-b")


# Refresh and rotate


def test_fresh_dates_need_the_online_keys_only(site: Site) -> None:
    online = site.folder / "online"
    online.mkdir()
    for name in ("root.json", "snapshot-1.pem", "timestamp-1.pem"):
        shutil.copy(site.keys / name, online / name)
    site.now += timedelta(days=40)
    with pytest.raises(SourceUnavailableError, match="expired"):
        site.names()
    refresh(site.feed, keys=online, now=site.now)
    assert site.names() == []
    with pytest.raises(
        PublishError, match=r"role text needs 1 of its 1 keys, 0 found in .*\(text-<number>.pem\)"
    ):
        refresh(site.feed, keys=online, now=site.now, also=("text",))


def test_fresh_dates_are_nothing_new_to_a_client(site: Site) -> None:
    site.names()
    refresh(site.feed, keys=site.keys, now=site.now + timedelta(hours=1))
    assert not site.source().status().changed


@pytest.mark.parametrize("role", ROLES)
def test_a_role_can_be_renewed_after_it_expired(site: Site, role: str) -> None:
    site.now += timedelta(days=1000)
    refresh(
        site.feed,
        keys=site.keys,
        now=site.now,
        also=[each for each in ROLES if each not in {role, "snapshot"}],
    )
    if role in {"snapshot", "timestamp"}:
        assert site.names() == []
        return
    with pytest.raises(SourceUnavailableError, match=f"{role} of the feed expired"):
        site.names()
    refresh(site.feed, keys=site.keys, now=site.now, also=[role])
    assert site.names() == []


@pytest.mark.parametrize(
    "call", [lambda site: refresh(site.feed, keys=site.keys, now=site.now, also=["video"])]
)
def test_refuses_a_role_that_no_feed_has(site: Site, call: Callable[[Site], None]) -> None:
    with pytest.raises(PublishError, match="'video' is no role of a feed: root, targets, text"):
        call(site)
    with pytest.raises(PublishError, match="'video' is no role of a feed"):
        rotate_key(site.feed, keys=site.keys, role="video", now=site.now)


@pytest.mark.parametrize("role", [role for role in ROLES if role != "root"])
def test_a_rotated_key_signs_and_the_old_one_no_more(site: Site, role: str) -> None:
    site.add()
    site.names()
    new = rotate_key(site.feed, keys=site.keys, role=role, now=site.now)
    assert site.names() == [NAME]
    (site.keys / f"{role}-1.pem").unlink()
    site.add("god-text-b")
    assert site.names() == site.names(state="fresh") == [NAME, "god-text-b"]
    if role not in CHANNEL_ROLES:
        assert current_root(site).get_delegated_role(role).keyids == [new]


def test_a_new_root_key_needs_two_of_the_old_ones(site: Site) -> None:
    first = current_root(site).get_delegated_role("root").keyids
    with pytest.raises(PublishError, match="which key of role root is to be replaced"):
        rotate_key(site.feed, keys=site.keys, role="root", now=site.now)
    new = rotate_key(site.feed, keys=site.keys, role="root", now=site.now, replaced=first[0])
    second = current_root(site).get_delegated_role("root")
    assert (sorted(second.keyids), second.threshold) == (sorted([*first[1:], new]), 2)
    assert site.source().status().root_version == 2
    (site.keys / "root-1.pem").unlink()
    (site.keys / "root-2.pem").unlink()
    # root-3 and the new root-4 may be two of the second root, and one key of the first is not enough.
    for key in first[1:]:
        if len(list(site.keys.glob("root-*.pem"))) < ROOT_THRESHOLD:
            with pytest.raises(PublishError, match="role root needs 2 of its 3 keys"):
                rotate_key(site.feed, keys=site.keys, role="root", now=site.now, replaced=key)


def test_one_root_key_changes_nothing(site: Site) -> None:
    (site.keys / "root-1.pem").unlink()
    (site.keys / "root-2.pem").unlink()
    before = files_of(site.feed)
    for role in ("targets", "timestamp"):
        with pytest.raises(PublishError, match="role root needs 2 of its 3 keys, 1 found"):
            rotate_key(site.feed, keys=site.keys, role=role, now=site.now)
    assert files_of(site.feed) == before


def test_a_lost_online_key_can_be_replaced(site: Site) -> None:
    site.names()
    (site.keys / "timestamp-1.pem").unlink()
    with pytest.raises(PublishError, match="role timestamp needs 1 of its 1 keys, 0 found"):
        refresh(site.feed, keys=site.keys, now=site.now)
    rotate_key(site.feed, keys=site.keys, role="timestamp", now=site.now)
    assert site.names() == []


# A feed's folder that somebody else writes to


def test_does_not_sign_what_somebody_put_into_the_folder(site: Site) -> None:
    path = site.feed / "metadata/1.text.json"
    path.write_bytes(path.read_bytes().replace(b"revocations.json", b"revocation5.json"))
    with pytest.raises(PublishError, match=r"is not the feed of these keys: .*mix-and-match"):
        site.add()


def test_does_not_build_upon_a_folder_that_was_rolled_back(site: Site) -> None:
    kept = site.folder / "kept"
    shutil.copytree(site.feed, kept)
    site.add()
    revoke_release(site.feed, keys=site.keys, name=NAME, reason="bad", now=site.now)
    refresh(site.feed, keys=site.keys, now=site.now)
    shutil.rmtree(site.feed)
    kept.rename(site.feed)
    with pytest.raises(PublishError, match="rule: rollback"):
        refresh(site.feed, keys=site.keys, now=site.now)


def test_does_not_follow_a_root_of_somebody_else(site: Site, tmp_path: Path) -> None:
    other = Site(tmp_path / "other", site.publisher, site.now).init()
    shutil.rmtree(site.feed)
    shutil.copytree(other.feed, site.feed)
    with pytest.raises(PublishError, match="is not the feed of these keys"):
        site.add()


# Crashes


class Killed(BaseException):
    """No handler catches it, as none would run after kill -9."""


def is_killed(change: Callable[[], object], *, at: int) -> bool:
    """Run `change` and die before its rename number `at`; whether there were so many."""
    real, left = os.replace, at

    def replace(source: str | Path, target: str | Path) -> None:
        nonlocal left
        # What python-tuf remembers for the publisher is no part of the feed.
        if "state" not in Path(target).parts:
            left -= 1
            if left == 0:
                raise Killed
        real(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", replace)
        try:
            change()
        except Killed:
            return True
    return False


CHANGES: dict[str, Callable[[Site], object]] = {
    "add": lambda site: site.publish(site.folder / "god-text-b.tar"),
    "revoke": lambda site: revoke_release(site.feed, keys=site.keys, name=NAME, reason="bad", now=site.now),
    "refresh": lambda site: refresh(site.feed, keys=site.keys, now=site.now),
    **{
        f"rotate {role}": lambda site, role=role: rotate_key(  # type: ignore[misc]
            site.feed, keys=site.keys, role=role, now=site.now
        )
        for role in ("timestamp", "snapshot", "targets", "text")
    },
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_crash_at_any_rename_leaves_a_feed_that_is_the_old_or_the_new_one(site: Site, change: str) -> None:
    site.add()
    site.archive("god-text-b")
    old, started = site.names(), site.folder / "started"
    shutil.copytree(site.feed, started)
    CHANGES[change](site)
    new = site.names(state="after")
    for step in range(1, 20):
        shutil.rmtree(site.feed)
        shutil.rmtree(site.keys / "state")
        shutil.copytree(started, site.feed)
        if not is_killed(lambda: CHANGES[change](site), at=step):
            break
        # A client that knew the old feed and one that knows nothing find a whole one.
        knowing = f"old-{step}"
        shutil.copytree(site.folder / "client", site.folder / knowing)
        assert site.names(state=knowing) in (old, new)
        assert site.names(state=f"fresh-{step}") in (old, new)
        CHANGES[change](site)
        assert site.names(state=knowing) == new
    assert step > 2, "nothing was interrupted"
    assert site.names(state="last") == new


def test_a_crash_at_any_rename_of_init_is_followed_by_the_same_call(
    tmp_path: Path, publisher, now: datetime
) -> None:
    for step in range(1, 30):
        site = Site(tmp_path / str(step), publisher, now)
        if not is_killed(site.init, at=step):
            break
        site.init()
        assert site.names() == []
        assert len(list(site.keys.glob("*.pem"))) == len(ROLES) + ROOT_KEYS - 1
    assert step > 8, "nothing was interrupted"


def test_what_a_crash_left_is_no_champion_and_goes_with_the_next_call(site: Site) -> None:
    archive = site.archive()
    assert is_killed(lambda: site.publish(archive), at=1)
    assert list(site.feed.rglob("*.part"))
    assert site.names() == []
    site.publish(archive)
    assert site.names() == [NAME]
    assert not list(site.feed.rglob("*.part"))
