"""All the files of a release, exactly those, or nothing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from attestation.files import hash_folder
from tournament_sync.archive import ArchiveSource
from tournament_sync.champion import Champion, open_release
from tournament_sync.errors import LicenceError, SourceUnavailableError, TreeError
from tournament_sync.snapshot import snapshot


class AlteringSource:
    """A source whose files somebody alters on the way."""

    def __init__(self, inner: ArchiveSource, *, alter: Callable[[Path], None]) -> None:
        self._inner, self._alter = inner, alter
        self.raw: bytes | None = None

    def offers(self):
        return self._inner.offers()

    def fetch(self, champion: Champion, into: Path) -> bytes:
        raw = self._inner.fetch(champion, into)
        self._alter(into)
        return self.raw or raw


@pytest.fixture
def source(release) -> ArchiveSource:
    return ArchiveSource(release())


@pytest.fixture
def champion(source: ArchiveSource, trust, now) -> Champion:
    return open_release(source.offers()[0], trust=trust, now=now)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "quarantine").mkdir()
    return tmp_path / "quarantine" / "champion"


def left_in(place: Path) -> list[str]:
    return [path.name for path in place.parent.iterdir()]


def test_takes_exactly_the_files_of_the_release(source, champion: Champion, place: Path) -> None:
    taken = snapshot(source, champion, into=place)
    assert taken.manifest == hash_folder(taken.folder)
    assert taken.manifest.root_sha256 == champion.manifest_root
    assert [file.name for file in taken.manifest.files] == [
        ".gitattributes",
        ".gitignore",
        "LICENSE.md",
        "NOTICE",
        "scripts.md",
        "scripts/entrypoint.sh",
        "scripts/text_trainer.py",
    ]


def test_records_the_competed_commit_that_the_publisher_names(
    source, champion: Champion, place: Path
) -> None:
    assert snapshot(source, champion, into=place).competed_commit == champion.tree[:8]


def test_attributes_of_the_champion_change_no_byte(source, champion, place: Path, upstream: Path) -> None:
    taken = snapshot(source, champion, into=place)
    name = "scripts/text_trainer.py"
    assert (taken.folder / name).read_bytes() == (upstream / name).read_bytes()


def test_files_are_read_only_and_executable_only_where_git_says_so(source, champion, place: Path) -> None:
    folder = snapshot(source, champion, into=place).folder
    modes = {name: (folder / name).stat().st_mode & 0o777 for name in ("NOTICE", "scripts/entrypoint.sh")}
    assert modes == {"NOTICE": 0o444, "scripts/entrypoint.sh": 0o555}


def test_the_same_release_again_fetches_nothing(source, champion: Champion, place: Path) -> None:
    first = snapshot(source, champion, into=place)

    class Unreachable(ArchiveSource):
        def fetch(self, champion: Champion, into: Path) -> bytes:
            raise SourceUnavailableError("must not be asked")

    assert snapshot(Unreachable(place), champion, into=place) == first


@pytest.mark.parametrize("name", ["scripts/text_trainer.py", "NOTICE"])
def test_refuses_a_copy_that_was_changed_in_quarantine(source, champion, place: Path, name: str) -> None:
    folder = snapshot(source, champion, into=place).folder
    (folder / name).unlink()
    (folder / name).write_text("changed")
    with pytest.raises(TreeError, match=r"the quarantined copy in .* was changed: files have tree"):
        snapshot(source, champion, into=place)


def test_refuses_a_copy_that_lost_its_commit(source, champion, place: Path) -> None:
    snapshot(source, champion, into=place)
    (place / "commit").unlink()
    with pytest.raises(TreeError, match="was changed: it lacks its commit or its tree"):
        snapshot(source, champion, into=place)


def change(tree: Path) -> None:
    (tree / "scripts.md").unlink()
    (tree / "scripts.md").write_text("changed")


def add(tree: Path) -> None:
    (tree / "scripts/extra.py").write_text("extra")


def remove(tree: Path) -> None:
    (tree / "scripts.md").unlink()


def make_executable(tree: Path) -> None:
    (tree / "NOTICE").chmod(0o755)


@pytest.mark.parametrize("alter", [change, add, remove, make_executable])
def test_refuses_files_altered_on_the_way(source, champion, place: Path, alter) -> None:
    with pytest.raises(TreeError, match=f"files have tree [0-9a-f]+, the commit has {champion.tree}"):
        snapshot(AlteringSource(source, alter=alter), champion, into=place)
    assert left_in(place) == []


def test_refuses_links_in_what_was_fetched(source, champion, place: Path) -> None:
    altering = AlteringSource(source, alter=lambda tree: (tree / "link").symlink_to("/etc/passwd"))
    with pytest.raises(TreeError, match="'link' is a symbolic link"):
        snapshot(altering, champion, into=place)
    assert left_in(place) == []


def test_refuses_another_commit_object(source, champion, place: Path) -> None:
    altering = AlteringSource(source, alter=lambda tree: None)
    altering.raw = b"tree " + champion.tree.encode() + b"\n\nanother message\n"
    with pytest.raises(TreeError, match=f"commit is [0-9a-f]+, released was {champion.commit}"):
        snapshot(altering, champion, into=place)


def test_refuses_a_release_that_pins_another_tree(source, champion, place: Path) -> None:
    with pytest.raises(TreeError, match=f"commit has tree {champion.tree}, released was a+"):
        snapshot(source, replace(champion, tree="a" * 40), into=place)


def test_refuses_a_release_that_signs_another_manifest(source, champion, place: Path) -> None:
    with pytest.raises(TreeError, match=f"files have manifest {champion.manifest_root}, released was b+"):
        snapshot(source, replace(champion, manifest_root="b" * 64), into=place)


@pytest.mark.parametrize("field", ["licence_sha256", "notice_sha256"])
def test_refuses_a_release_that_names_another_licence(source, champion, place: Path, field: str) -> None:
    with pytest.raises(
        LicenceError, match=r"licence and notice are cfc7.* and 3e31.*, the release names .*c{64}"
    ):
        snapshot(source, replace(champion, **{field: "c" * 64}), into=place)


def test_files_without_a_licence_are_taken_if_the_release_says_so(
    release, upstream: Path, place: Path, trust, now
) -> None:
    (upstream / "NOTICE").unlink()
    source = ArchiveSource(release())
    champion = open_release(source.offers()[0], trust=trust, now=now)
    assert (champion.licence_sha256, champion.notice_sha256) == (None, None)
    assert snapshot(source, champion, into=place).champion == champion


def test_refuses_a_release_that_hides_the_licence(source, champion, place: Path) -> None:
    silent = replace(champion, licence_sha256=None, notice_sha256=None)
    with pytest.raises(LicenceError, match="the release names none and none"):
        snapshot(source, silent, into=place)


def test_a_large_commit_in_quarantine_is_not_read_whole(source, champion, place: Path) -> None:
    snapshot(source, champion, into=place)
    (place / "commit").write_bytes(b"x" * ((1 << 20) + 1))
    with pytest.raises(TreeError, match="its commit is over the limit of 1048576 bytes"):
        snapshot(source, champion, into=place)


def test_an_interrupted_fetch_leaves_nothing_visible(source, champion, place: Path) -> None:
    def interrupt(_tree: Path) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        snapshot(AlteringSource(source, alter=interrupt), champion, into=place)
    assert left_in(place) == []


def test_what_a_crash_left_is_cleared_away(source, champion, place: Path) -> None:
    left = place.with_name(".champion.part")
    (left / "tree").mkdir(parents=True)
    (left / "tree/NOTICE").write_text("half")
    snapshot(source, champion, into=place)
    assert left_in(place) == ["champion"]
