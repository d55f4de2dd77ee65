"""Links that a publisher left out: never made anywhere, named in the signed release, part of the tree id."""

from dataclasses import replace
from pathlib import Path

import pytest

from attestation.errors import AttestationError
from tournament_sync.archive import ArchiveSource, take_archive, write_archive
from tournament_sync.champion import Channel, ContractEpoch, ReleaseOffer, open_release
from tournament_sync.errors import RefusedError, TreeError
from tournament_sync.git_objects import Link
from tournament_sync.intake import take_git, verify_taken
from tournament_sync.quarantine import LINKS_FILE
from tournament_sync.release import ReleaseFacts, Taken, sign_release
from tournament_sync.snapshot import snapshot

WAY_OUT = Link(name="core/outputs/artifacts", target="/workspace/data/artifacts")
INNER = Link(name="a-link", target="core/train.py")
ALL = (WAY_OUT.name, INNER.name)
FACTS = ReleaseFacts(name="god-text-x", channel=Channel.TEXT, contract_epoch=ContractEpoch.E4)


@pytest.fixture
def commit(repository) -> str:
    """A tree with a file and two links, as winners publish it."""
    links = [repository.write("blob", link.target.encode()) for link in (WAY_OUT, INNER)]
    outputs = repository.tree(("120000", b"artifacts", links[0]))
    train = repository.write("blob", b"raise SystemExit\n")
    core = repository.tree(("40000", b"outputs", outputs), ("100644", b"train.py", train))
    return str(repository.commit(repository.tree(("120000", b"a-link", links[1]), ("40000", b"core", core))))


@pytest.fixture
def taken(repository, commit: str, tmp_path: Path) -> Taken:
    return take_git(str(repository.path), commit, into=tmp_path / "taken", without=ALL)


@pytest.fixture
def packed(taken: Taken, publisher, now, tmp_path: Path) -> Path:
    release = sign_release(taken, FACTS, signer=publisher, now=now)
    write_archive(taken.folder.parent, release, out=tmp_path / "x.tar")
    return tmp_path / "x.tar"


def files(folder: Path) -> list[str]:
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_every_link_is_refused_until_somebody_names_it(repository, commit: str, tmp_path: Path) -> None:
    wanted = (
        "'core/outputs/artifacts' is a symbolic link to '/workspace/data/artifacts'; who imports it may look"
    )
    with pytest.raises(TreeError, match=wanted):
        take_git(str(repository.path), commit, into=tmp_path / "taken", without=[INNER.name])
    assert not (tmp_path / "taken").exists()


def test_the_commit_and_its_tree_stay_exact(taken: Taken, commit: str) -> None:
    assert (taken.commit, taken.links) == (commit, (INNER, WAY_OUT))
    assert files(taken.folder) == ["core/train.py"]
    assert [file.name for file in taken.manifest.files] == ["core/train.py"]


def test_only_links_can_be_left_out(repository, commit: str, tmp_path: Path) -> None:
    for name in ("core/train.py", "core/outputs", "nothing"):
        with pytest.raises(TreeError, match=f"'{name}' was to be left out, but the commit has no such link"):
            take_git(str(repository.path), commit, into=tmp_path / "taken", without=[*ALL, name])


def test_a_target_that_is_not_utf_8_is_refused(repository, tmp_path: Path) -> None:
    link = repository.write("blob", b"\xff")
    blob = repository.write("blob", b"x")
    tree = repository.tree(("100644", b"file", blob), ("120000", b"link", link))
    with pytest.raises(TreeError, match="'link' is a symbolic link whose target is not UTF-8"):
        take_git(str(repository.path), repository.commit(tree), into=tmp_path / "taken", without=["link"])


def test_a_file_may_not_lie_behind_a_link_that_was_left_out(repository, tmp_path: Path) -> None:
    link, blob = repository.write("blob", b"/etc"), repository.write("blob", b"x")
    inner = repository.tree(("100644", b"file", blob))
    tree = repository.tree(("120000", b"a", link), ("40000", b"A", inner))
    with pytest.raises(TreeError, match=r"differ only|collide|same"):
        take_git(str(repository.path), repository.commit(tree), into=tmp_path / "taken", without=["a"])


def test_taking_it_again_with_other_links_is_refused(
    repository, commit: str, taken: Taken, tmp_path: Path
) -> None:
    again = take_git(str(repository.path), commit, into=tmp_path / "taken", without=ALL)
    assert again == taken
    with pytest.raises(TreeError, match="links before, asked for is"):
        take_git(str(repository.path), commit, into=tmp_path / "taken")


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda path: path.unlink(), "files have tree"),
        (
            lambda path: path.write_bytes(path.read_bytes().replace(b"workspace", b"somewhere")),
            "files have tree",
        ),
        (lambda path: path.write_bytes(b"[[1,2]]"), "names and targets are texts"),
        (lambda path: path.write_bytes(b'[["a"]]'), "cannot be read"),
        (lambda path: path.write_bytes(b"["), "cannot be read"),
        (lambda path: path.write_bytes(b"x" * (1 << 21)), "too large"),
    ],
)
def test_a_changed_list_of_links_is_noticed(taken: Taken, change, wanted: str) -> None:
    change(taken.folder.parent / LINKS_FILE)
    with pytest.raises(TreeError, match=wanted):
        verify_taken(taken.folder.parent, origin="x")


def test_the_release_names_them_and_they_travel(
    taken: Taken, packed: Path, trust, now, tmp_path: Path
) -> None:
    source = ArchiveSource(packed)
    champion = open_release(source.offers()[0], trust=trust, now=now)
    assert champion.links == taken.links
    arrived = snapshot(source, champion, into=tmp_path / "arrived")
    assert (arrived.manifest, files(arrived.folder)) == (taken.manifest, ["core/train.py"])
    assert take_archive(packed, into=tmp_path / "again").links == taken.links


def test_a_release_that_hides_a_link_does_not_fit_its_commit(
    taken: Taken, packed: Path, trust, publisher, now, tmp_path: Path
) -> None:
    hidden = sign_release(replace(taken, links=(INNER,)), FACTS, signer=publisher, now=now)
    champion = open_release(ReleaseOffer(name=FACTS.name, bundle=hidden), trust=trust, now=now)
    with pytest.raises(RefusedError, match="files have tree"):
        snapshot(ArchiveSource(packed), champion, into=tmp_path / "arrived")


def test_an_archive_of_junk_claims_no_links(packed: Path, tmp_path: Path, taken: Taken) -> None:
    write_archive(taken.folder.parent, b"{}", out=tmp_path / "junk.tar")
    with pytest.raises((TreeError, AttestationError), match="files have tree"):
        take_archive(tmp_path / "junk.tar", into=tmp_path / "again")
