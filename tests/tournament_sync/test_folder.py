"""A feed folder that is incomplete, foreign or hostile."""

import os
import shutil
from pathlib import Path

import pytest

from tournament_sync.champion import open_release
from tournament_sync.errors import SourceUnavailableError, TreeError
from tournament_sync.folder import MAX_BUNDLE_BYTES, FolderSource, release_path, repository_path


def test_refuses_a_folder_that_is_no_feed(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="is no feed: it has no folder 'releases'"):
        FolderSource(tmp_path).offers()


def test_skips_a_release_that_is_still_being_copied(feed: Path, name: str) -> None:
    (feed / "releases/god-text-next").mkdir()
    assert [offer.name for offer in FolderSource(feed).offers()] == [name]


def test_offers_are_sorted_by_name(feed: Path, publish, name: str) -> None:
    publish(name="zz")
    publish(name="aa")
    assert [offer.name for offer in FolderSource(feed).offers()] == ["aa", name, "zz"]


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_release_that_is_a_link_is_offered_empty(feed: Path, name: str, what: str, tmp_path: Path) -> None:
    path = release_path(feed, name) if what == "file" else release_path(feed, name).parent
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert [(offer.name, offer.bundle) for offer in FolderSource(feed).offers()] == [(name, b"")]


def test_a_release_with_an_unsafe_name_is_offered_empty(feed: Path, name: str) -> None:
    (feed / "releases" / name).rename(feed / "releases" / "God_Text")
    assert [(offer.name, offer.bundle) for offer in FolderSource(feed).offers()] == [("God_Text", b"")]


def test_a_release_whose_name_is_not_text_is_offered_under_a_name_that_is(feed: Path, name: str) -> None:
    (feed / "releases" / name).rename(Path(os.fsdecode(os.fsencode(feed / "releases") + b"/\xff")))
    assert [(offer.name, offer.bundle) for offer in FolderSource(feed).offers()] == [("\\udcff", b"")]


def test_reads_no_more_than_a_release_may_have(feed: Path, name: str) -> None:
    release_path(feed, name).write_bytes(b"x" * (MAX_BUNDLE_BYTES + 100))
    assert len(FolderSource(feed).offers()[0].bundle) == MAX_BUNDLE_BYTES + 1


def test_refuses_too_many_releases(feed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tournament_sync.folder.MAX_OFFERS", 0)
    with pytest.raises(SourceUnavailableError, match="1 releases are over the limit of 0"):
        FolderSource(feed).offers()


def test_refuses_a_release_without_repository(feed: Path, name: str, trust, now, into: Path) -> None:
    source = FolderSource(feed)
    champion = open_release(source.offers()[0], trust=trust, now=now)
    shutil.rmtree(repository_path(feed, name))
    with pytest.raises(TreeError, match=f"the feed has a release but no repository of {name}"):
        source.fetch(champion, into)
