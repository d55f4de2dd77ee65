"""Publishing as upstream does, plus a signature; idempotent."""

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from tournament_sync.champion import Channel, ContractEpoch, open_release
from tournament_sync.errors import PublishError
from tournament_sync.folder import FolderSource, release_path, repository_path
from tournament_sync.git_export import git_environment


def git(repository: Path, *arguments: str) -> str:
    environment = git_environment(repository)
    done = subprocess.run(["git", *arguments], env=environment, check=True, capture_output=True)
    return done.stdout.decode()


def test_release_is_offered_and_verifies(publish, feed: Path, trust, now, name: str) -> None:
    (offer,) = FolderSource(feed).offers()
    champion = open_release(offer, trust=trust, now=now)
    assert (champion.name, champion.channel, champion.contract_epoch, champion.published_at) == (
        name,
        Channel.TEXT,
        ContractEpoch.E4,
        now,
    )


def test_repository_is_one_orphan_commit_on_main_in_upstreams_form(feed: Path, name: str) -> None:
    repository = repository_path(feed, name)
    tree = git(repository, "rev-parse", "main^{tree}").strip()
    assert git(repository, "log", "--format=%P|%s|%an|%at", "--all") == (
        f"|Tournament winner repository - Commit: {tree[:8]}|Assay publisher|1767225600\n"
    )
    assert git(repository, "for-each-ref", "--format=%(refname)") == "refs/heads/main\n"


def test_repository_passes_gits_own_check(feed: Path, name: str) -> None:
    git(repository_path(feed, name), "fsck", "--strict", "--full")


def test_bytes_are_published_whatever_attributes_and_ignore_rules_ask_for(feed: Path, name: str) -> None:
    listed = git(repository_path(feed, name), "ls-tree", "-r", "--name-only", "main").splitlines()
    assert listed == [
        ".gitattributes",
        ".gitignore",
        "LICENSE.md",
        "NOTICE",
        "scripts.md",
        "scripts/entrypoint.sh",
        "scripts/text_trainer.py",
    ]


def test_publishing_again_later_returns_the_same_release(publish, now) -> None:
    assert publish() == publish(now=now + timedelta(days=1))


def test_the_same_tree_has_the_same_commit_under_any_name(publish, trust, now) -> None:
    first, second = publish(name="one"), publish(name="two")
    commits = {open_release(offer, trust=trust, now=now).commit for offer in (first, second)}
    assert len(commits) == 1


def test_an_interrupted_call_is_made_good_by_the_next(publish, feed: Path, name: str) -> None:
    release_path(feed, name).unlink()
    (repository_path(feed, name) / "objects").rename(repository_path(feed, name) / "gone")
    offer = publish()
    assert FolderSource(feed).offers() == (offer,)
    git(repository_path(feed, name), "fsck", "--strict", "--full")


def test_leaves_no_working_files_in_the_feed(feed: Path) -> None:
    assert sorted(path.name for path in feed.iterdir()) == ["releases", "repositories"]


def test_refuses_other_content_under_a_released_name(publish, upstream: Path) -> None:
    publish()
    (upstream / "scripts.md").write_text("changed")
    with pytest.raises(PublishError, match="was released with other content: choose another name"):
        publish()


@pytest.mark.parametrize("change", [{"channel": Channel.IMAGE}, {"contract_epoch": ContractEpoch.E3}])
def test_refuses_other_claims_under_a_released_name(publish, change: dict[str, object]) -> None:
    publish()
    with pytest.raises(PublishError, match="was released with other content"):
        publish(**change)


def test_refuses_to_replace_the_release_of_another_publisher(publish, publisher) -> None:
    publish()
    with pytest.raises(PublishError, match="is not a release of this publisher"):
        publish(signer=type(publisher)())


def test_a_repository_without_licence_is_released_as_having_none(publish, upstream: Path, trust, now) -> None:
    (upstream / "NOTICE").unlink()
    champion = open_release(publish(), trust=trust, now=now)
    assert (champion.licence_sha256, champion.notice_sha256) == (None, None)


def test_refuses_a_folder_that_holds_nothing(publish, upstream: Path, tmp_path: Path) -> None:
    upstream.rename(tmp_path / "moved")
    (upstream / "scripts/__pycache__").mkdir(parents=True)
    (upstream / "scripts/__pycache__/left.pyc").write_text("left behind")
    with pytest.raises(PublishError, match="cannot be released: there are no files"):
        publish()
    assert list((tmp_path / "feed").iterdir()) == []


def test_refuses_links(publish, upstream: Path) -> None:
    (upstream / "scripts/link").symlink_to("/etc/passwd")
    with pytest.raises(PublishError, match="'scripts/link' is a symbolic link"):
        publish()


def test_refuses_unsafe_file_names(publish, upstream: Path) -> None:
    (upstream / "-rf").write_text("x")
    with pytest.raises(PublishError, match="part starts with '-'"):
        publish()


def test_refuses_unsafe_release_names(publish) -> None:
    with pytest.raises(PublishError, match="is not lower case, digits and inner hyphens"):
        publish(name="../elsewhere")
