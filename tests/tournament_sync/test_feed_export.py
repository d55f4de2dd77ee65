"""A feed on a stick: complete, the same every time, verified where it lies, carried to where no network is."""

import os
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.tournament_sync.feed_site import NAME, Site
from tournament_sync.errors import PublishError, SourceUnavailableError
from tournament_sync.feed.publisher import export_feed, refresh, revoke_release, rotate_key


@pytest.fixture
def site(tmp_path: Path, publisher, now: datetime) -> Site:
    site = Site(tmp_path, publisher, now).init()
    site.add()
    site.add("god-text-b")
    revoke_release(site.feed, keys=site.keys, name="god-text-b", reason="bad", now=now)
    return site


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    return tmp_path / "stick"


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_a_stick_says_what_the_feed_says(site: Site, stick: Path) -> None:
    exported = export_feed(site.feed, stick, now=site.now)
    assert site.names(stick) == [NAME]
    assert [entry.name for entry in site.source(stick).revocations()] == ["god-text-b"]
    found = files_of(stick)
    assert (exported.files, exported.size_bytes) == (len(found), sum(map(len, found.values())))
    assert exported.expires_at == site.now + timedelta(days=7)


def test_a_stick_has_nothing_but_what_is_current(site: Site, stick: Path) -> None:
    site_only = site.feed / "metadata/1.snapshot.json"
    assert site_only.is_file()
    export_feed(site.feed, stick, now=site.now)
    assert not (stick / "metadata/1.snapshot.json").exists()
    assert all(files_of(site.feed)[name] == data for name, data in files_of(stick).items())


def test_two_sticks_are_alike(site: Site, stick: Path, tmp_path: Path) -> None:
    export_feed(site.feed, stick, now=site.now)
    export_feed(site.feed, tmp_path / "second", now=site.now)
    assert files_of(stick) == files_of(tmp_path / "second")


def test_an_older_stick_is_renewed_and_is_like_a_new_one(site: Site, stick: Path, tmp_path: Path) -> None:
    export_feed(site.feed, stick, now=site.now)
    assert site.names(stick) == [NAME]
    revoke_release(site.feed, keys=site.keys, name=NAME, reason="bad", now=site.now)
    rotate_key(site.feed, keys=site.keys, role="timestamp", now=site.now)
    (stick / "metadata/.export.part").write_bytes(b"what a crash left")
    export_feed(site.feed, stick, now=site.now)
    export_feed(site.feed, tmp_path / "second", now=site.now)
    assert files_of(stick) == files_of(tmp_path / "second")
    assert site.names(stick) == []


def test_a_stick_of_yesterday_is_refused_after_todays(site: Site, stick: Path, tmp_path: Path) -> None:
    export_feed(site.feed, stick, now=site.now)
    refresh(site.feed, keys=site.keys, now=site.now)
    export_feed(site.feed, tmp_path / "second", now=site.now)
    assert site.names(tmp_path / "second") == [NAME]
    with pytest.raises(SourceUnavailableError, match="rule: rollback"):
        site.names(stick)


def test_a_stick_that_lay_too_long_is_refused(site: Site, stick: Path) -> None:
    exported = export_feed(site.feed, stick, now=site.now)
    site.now = exported.expires_at
    with pytest.raises(SourceUnavailableError, match="import a fresh copy of the feed"):
        site.names(stick)


def test_refuses_to_copy_a_feed_that_expired(site: Site, stick: Path) -> None:
    with pytest.raises(PublishError, match="cannot be copied: timestamp of the feed expired"):
        export_feed(site.feed, stick, now=site.now + timedelta(days=8))
    assert not stick.exists()


def test_by_default_the_present_decides_what_expired(site: Site, stick: Path) -> None:
    refresh(site.feed, keys=site.keys, now=site.now - timedelta(days=3650))
    with pytest.raises(PublishError, match="expired"):
        export_feed(site.feed, stick)


def test_refuses_a_folder_that_holds_something_else(site: Site, stick: Path) -> None:
    stick.mkdir()
    (stick / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(PublishError, match="is neither empty nor a copy of a feed"):
        export_feed(site.feed, stick, now=site.now)
    assert files_of(stick) == {"holiday.jpg": b"x"}


def test_refuses_a_feed_whose_archive_was_changed(site: Site, stick: Path) -> None:
    (archive,) = (site.feed / "targets/text").glob("*.champion.tar")
    archive.write_bytes(archive.read_bytes() + b"x")
    with pytest.raises(PublishError, match="in the copy is not what the feed signed"):
        export_feed(site.feed, stick, now=site.now)


def test_refuses_a_feed_that_lacks_an_archive(site: Site, stick: Path) -> None:
    (archive,) = (site.feed / "targets/text").glob("*.champion.tar")
    archive.unlink()
    with pytest.raises(PublishError, match="cannot be copied to"):
        export_feed(site.feed, stick, now=site.now)


def test_refuses_what_is_no_feed(tmp_path: Path, stick: Path, now: datetime) -> None:
    with pytest.raises(PublishError, match="cannot be copied"):
        export_feed(tmp_path / "absent", stick, now=now)


def test_a_copy_cut_short_is_the_older_one(site: Site, stick: Path, tmp_path: Path) -> None:
    export_feed(site.feed, stick, now=site.now)
    before = site.names(stick, state="before")
    site.add("god-text-c")
    wanted = site.names()
    older = tmp_path / "older"
    shutil.copytree(stick, older)
    for step in range(1, 30):
        shutil.rmtree(stick)
        shutil.copytree(older, stick)
        with pytest.MonkeyPatch.context() as patch:
            left, real = step, os.replace

            def replace(source: str, target: str, real=real) -> None:
                nonlocal left
                left -= stick in Path(target).parents
                if left == 0:
                    raise KeyboardInterrupt
                real(source, target)

            patch.setattr(os, "replace", replace)
            try:
                export_feed(site.feed, stick, now=site.now)
            except KeyboardInterrupt:
                pass
            else:
                break
        assert site.names(stick, state=f"cut-{step}") in (before, wanted)
    assert step > 5, "nothing was interrupted"
    assert site.names(stick, state="last") == wanted
