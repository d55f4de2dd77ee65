"""The archive: one spelling, everything checked before the first file is written."""

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tournament_sync import archive
from tournament_sync.archive import ArchiveSource, read_archive, take_archive, write_archive
from tournament_sync.champion import ReleaseOffer, open_release
from tournament_sync.errors import ReleaseError, SourceUnavailableError, TreeError
from tournament_sync.intake import take_tree
from tournament_sync.release import Taken
from tournament_sync.sync import sync_once

GOLDEN_SHA256 = "02714a5705416f1f75494afe1726c268839d98c6cc7e767609f8ad986d8eb36e"
RELEASE = b'{"a":"release"}'


@pytest.fixture
def taken(upstream: Path, tmp_path: Path) -> Taken:
    return take_tree(upstream, into=tmp_path / "taken")


@pytest.fixture
def packed(taken: Taken, tmp_path: Path) -> Path:
    write_archive(tmp_path / "taken", RELEASE, out=tmp_path / "x.champion.tar")
    return tmp_path / "x.champion.tar"


def files_in(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mode & 0o777)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_gives_back_what_was_put_in(packed: Path, taken: Taken, into: Path) -> None:
    content = read_archive(packed, into=into)
    assert (content.release, content.raw_commit) == (RELEASE, taken.raw_commit)
    assert files_in(into) == files_in(taken.folder)


def test_a_link_beside_the_archive_is_not_followed(
    taken: Taken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one under the name that an older Assay used, nor one that was guessed."""
    monkeypatch.setattr("secrets.token_hex", lambda _: "guessed")
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    (tmp_path / ".x.tar.part").symlink_to(precious)
    write_archive(tmp_path / "taken", RELEASE, out=tmp_path / "x.tar")
    assert (tmp_path / "x.tar").is_file()
    (tmp_path / ".y.tar.guessed.part").symlink_to(precious)
    with pytest.raises(FileExistsError):
        write_archive(tmp_path / "taken", RELEASE, out=tmp_path / "y.tar")
    assert precious.read_bytes() == b"precious"
    assert not (tmp_path / "y.tar").exists()


def test_has_the_three_parts_in_order_and_nothing_else(packed: Path) -> None:
    with tarfile.open(packed, "r:") as tar:
        members = tar.getmembers()
    assert [member.name for member in members] == [
        "release.sigstore.json",
        "commit",
        "tree/.gitattributes",
        "tree/.gitignore",
        "tree/LICENSE.md",
        "tree/NOTICE",
        "tree/scripts.md",
        "tree/scripts/entrypoint.sh",
        "tree/scripts/text_trainer.py",
    ]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.type) for m in members} == {(0, 0, 0, "", "", b"0")}
    assert {m.name: oct(m.mode) for m in members if m.mode != 0o644} == {
        "tree/scripts/entrypoint.sh": "0o755"
    }


def test_the_same_champion_has_the_same_bytes(packed: Path, upstream: Path, tmp_path: Path) -> None:
    again = take_tree(upstream, into=tmp_path / "elsewhere").folder.parent
    assert write_archive(again, RELEASE, out=tmp_path / "y.tar") == sha256(packed.read_bytes()).hexdigest()
    assert (tmp_path / "y.tar").read_bytes() == packed.read_bytes()


def test_the_bytes_are_the_same_on_every_machine_and_in_every_version(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    for name in ("a", "é" * 60, "n" * 150):
        (tmp_path / "tree" / name).write_text(name)
    (tmp_path / "tree/a").chmod(0o755)
    take_tree(tmp_path / "tree", into=tmp_path / "taken")
    assert write_archive(tmp_path / "taken", RELEASE, out=tmp_path / "x.tar") == GOLDEN_SHA256


def test_writing_leaves_nothing_beside_the_archive(packed: Path, tmp_path: Path) -> None:
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_refuses_to_write_files_that_are_not_the_commits(taken: Taken, tmp_path: Path) -> None:
    (taken.folder / "extra").write_text("x")
    with pytest.raises(TreeError, match=f"files have tree [0-9a-f]+, the commit has {taken.tree}"):
        write_archive(tmp_path / "taken", RELEASE, out=tmp_path / "x.tar")
    assert not (tmp_path / "x.tar").exists()


def test_a_file_that_changes_while_it_is_packed_leaves_no_archive(
    taken: Taken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hash_files = archive.hash_files

    def hash_and_change(*given, **named):
        found = hash_files(*given, **named)
        (taken.folder / "scripts.md").chmod(0o755)
        return found

    monkeypatch.setattr(archive, "hash_files", hash_and_change)
    with pytest.raises(TreeError, match=r"'scripts\.md' changed while it was read"):
        write_archive(tmp_path / "taken", RELEASE, out=tmp_path / "x.tar")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken", "upstream"]


@pytest.mark.parametrize("size", [0, (64 << 10) + 1])
def test_refuses_to_write_a_release_of_no_or_any_size(taken: Taken, tmp_path: Path, size: int) -> None:
    with pytest.raises(TreeError, match=f"a release of {size} bytes: the limit is 65536"):
        write_archive(tmp_path / "taken", b"x" * size, out=tmp_path / "x.tar")


def member(name: str, data: bytes = b"x", **fields: object) -> bytes:
    """A member as tarfile writes it, with these fields."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    if info.type not in {tarfile.REGTYPE, tarfile.AREGTYPE}:
        info.size, data = 0, b""
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict") + data + bytes(-len(data) % 512)


FIRST = member("release.sigstore.json", RELEASE) + member("commit", b"raw")
END = bytes(1024)


@pytest.fixture
def refused(tmp_path: Path, into: Path) -> Callable[[bytes], str]:
    """Reads these bytes as an archive, which must be refused with no file written; the reason."""

    def call(data: bytes) -> str:
        (tmp_path / "hostile.tar").write_bytes(data)
        with pytest.raises(TreeError) as caught:
            read_archive(tmp_path / "hostile.tar", into=into)
        assert list(into.iterdir()) == []
        return str(caught.value)

    return call


def test_the_builder_of_these_tests_builds_what_is_read(tmp_path: Path, into: Path) -> None:
    (tmp_path / "x.tar").write_bytes(FIRST + member("tree/a", b"hello") + END)
    assert read_archive(tmp_path / "x.tar", into=into).raw_commit == b"raw"
    assert files_in(into) == {"a": (b"hello", 0o444)}


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (
            member("tree/x", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
            "'tree/x' in the archive is a symbolic",
        ),
        (member("tree/x", type=tarfile.SYMTYPE, linkname="../../y"), "is a symbolic link"),
        (member("tree/x", type=tarfile.LNKTYPE, linkname="commit"), "is a hard link"),
        (member("tree/x", type=tarfile.CHRTYPE), "is a device"),
        (member("tree/x", type=tarfile.BLKTYPE), "is a device"),
        (member("tree/x", type=tarfile.FIFOTYPE), "is a pipe"),
        (member("tree/x", type=tarfile.DIRTYPE), "is a folder"),
        (member("tree/x", type=tarfile.CONTTYPE), "is a contiguous file"),
        (member("tree/x", type=tarfile.GNUTYPE_SPARSE), "is a sparse file"),
        (member("tree/x", type=tarfile.GNUTYPE_LONGNAME), "is a GNU long name"),
        (member("tree/x", type=tarfile.XGLTYPE), "is a header for all files"),
        (member("tree/x", type=b"Z"), "has a header that no archive of a champion has"),
        (member("/etc/passwd"), "'/etc/passwd' lies outside tree/"),
        (member("tree/../../x"), "not a normalised relative path"),
        (member("../x"), "lies outside tree/"),
        (member("treelike/x"), "lies outside tree/"),
        (member("commit"), "'commit' lies outside tree/"),
        (member("tree/"), "not a normalised relative path"),
        (member("tree/a\\b"), "backslash"),
        (member("tree/.git/config"), "lies in a .git folder"),
        (member("tree/e\u0301"), "not in Unicode form NFC"),
        (member("tree/A") + member("tree/a"), "differ only in case"),
        (member("tree/a") + member("tree/a"), "'tree/a' is listed twice in the archive, or out of order"),
        (member("tree/b") + member("tree/a"), "'tree/a' is listed twice in the archive, or out of order"),
        (member("tree/a") + member("tree/a/b"), "listed twice, or as both a file and a folder"),
        (member("tree/x", mtime=1), "has a header that no archive of a champion has"),
        (member("tree/x", uid=1), "has a header that no archive of a champion has"),
        (member("tree/x", uname="root"), "has a header that no archive of a champion has"),
        (member("tree/x", mode=0o4755), "has a header that no archive of a champion has"),
        (member("tree/x", mode=0o600), "has a header that no archive of a champion has"),
        (member("tree/x", pax_headers={"path": "tree/y"}), "has a header that no archive of a champion has"),
        (member("tree/x", pax_headers={"size": "1"}), "extended header that holds more than one file's name"),
        (member("tree/x", pax_headers={"GNU.sparse.major": "1"}), "extended header that holds more than"),
        (member("tree/x", pax_headers={"mtime": "1.5"}), "extended header that holds more than"),
        (
            member("tree/" + "é" * 60, pax_headers={"size": "1"}),
            "extended header that holds more than|no archive",
        ),
        (b"", "the archive holds no files"),
    ],
)
def test_refuses_what_no_archive_has(refused, entry: bytes, reason: str) -> None:
    assert any(part in refused(FIRST + entry + END) for part in reason.split("|"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the archive is cut short"),
        (b"x" * 100, "the archive is cut short"),
        (END, "the archive holds no files"),
        (b"z" * 512, "where a number belongs"),
        (FIRST + member("tree/a"), "the archive is cut short"),
        (FIRST + member("tree/a") + bytes(512), "the archive is cut short"),
        (FIRST + member("tree/a") + END + bytes(512), "the archive goes on behind its end"),
        (FIRST + member("tree/a") + END + b"x", "the archive goes on behind its end"),
        (FIRST + member("tree/a") + bytes(512) + member("tree/b") + END, "goes on behind its end"),
        (FIRST + member("tree/a", b"x" * 600)[:-600] + END, "cut short"),
        (FIRST + member("tree/a")[:-1] + b"\1" + END, "the archive hides bytes behind 'tree/a'"),
        (
            member("commit", b"raw") + member("tree/a") + END,
            "'commit' in the place of 'release.sigstore.json'",
        ),
        (
            member("release.sigstore.json", RELEASE) + member("tree/a") + END,
            "'tree/a' in the place of 'commit'",
        ),
        (member("release.sigstore.json", mode=0o755) + END, "in the place of"),
        (member("release.sigstore.json", bytes((64 << 10) + 1)) + END, "bytes is over the limit of 65536"),
        (FIRST[:1024] + member("commit", bytes((1 << 20) + 1)) + END, "is over the limit of 1048576"),
    ],
)
def test_refuses_what_is_no_whole_archive(refused, data: bytes, reason: str) -> None:
    assert reason in refused(data)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_refuses_a_bomb_unopened(refused, compress: Callable[[bytes], bytes]) -> None:
    data = compress(FIRST + member("tree/a", bytes(1 << 20)) + END)
    assert refused(data) == "the archive is compressed: a champion's never is, so that it cannot unfold"


def test_refuses_a_size_that_is_no_octal_number(refused) -> None:
    entry = bytearray(member("tree/a"))
    entry[124:136] = b"\x80" + bytes(10) + b"\1"  # base 256, which other readers take
    assert "where a number belongs" in refused(FIRST + bytes(entry) + END)


def test_refuses_a_wrong_checksum(refused) -> None:
    entry = bytearray(member("tree/a"))
    entry[148:154] = b"000000"
    assert "has a header that no archive of a champion has" in refused(FIRST + bytes(entry) + END)


@pytest.mark.parametrize(
    ("holder", "limit", "value", "reason"),
    [
        ("archive", "MAX_FILES", 1, "more than 1 files"),
        ("archive", "MAX_ARCHIVE_BYTES", 1000, "archive of 5120 bytes is over the limit of 1000"),
        ("tree_files", "MAX_FILE_BYTES", 3, "'a' of 4 bytes is over the limit of 3"),
        ("tree_files", "MAX_TOTAL_BYTES", 6, "7 bytes of files are over the limit of 6"),
    ],
)
def test_refuses_more_than_the_limits(
    refused, monkeypatch: pytest.MonkeyPatch, holder: str, limit: str, value: int, reason: str
) -> None:
    monkeypatch.setattr(f"tournament_sync.{holder}.{limit}", value)
    assert reason in refused(FIRST + member("tree/a", b"four") + member("tree/b", b"333") + END)


def test_refuses_an_lfs_pointer(tmp_path: Path) -> None:
    pointer = member("tree/m", b"version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "x.tar").write_bytes(FIRST + pointer + END)
    with pytest.raises(TreeError, match="'m' is a Git LFS pointer, not the file"):
        take_archive(tmp_path / "x.tar", into=tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]


def test_a_file_that_claims_to_be_huge_is_refused_by_its_header(refused) -> None:
    info = tarfile.TarInfo("tree/bomb")
    info.size, info.mode = 7 << 30, 0o644
    assert "the archive is cut short within 'tree/bomb'" in refused(
        FIRST + info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict") + END
    )


@pytest.mark.parametrize("kind", ["absent", "folder", "link"])
def test_what_is_no_file_cannot_be_read(packed: Path, tmp_path: Path, into: Path, kind: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(packed)
    with pytest.raises(SourceUnavailableError, match=r"cannot be read|is not a regular file"):
        read_archive(tmp_path / kind, into=into)


def test_refuses_an_archive_that_changes_while_it_is_read(
    packed: Path, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file = archive.write_file

    def write_and_change(*given, **named):
        write_file(*given, **named)
        with packed.open("ab") as file:
            file.write(b"more")

    monkeypatch.setattr(archive, "write_file", write_and_change)
    with pytest.raises(TreeError, match="the archive changed while it was read"):
        read_archive(packed, into=into)


def test_takes_an_archive_into_quarantine(packed: Path, taken: Taken, tmp_path: Path) -> None:
    again = take_archive(packed, into=tmp_path / "again")
    assert replace(again, folder=taken.folder, origin="tree") == taken
    assert (again.folder, again.origin) == (tmp_path / "again/tree", str(packed))


def test_a_refused_archive_leaves_no_quarantine(packed: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    hostile = packed.read_bytes().replace(b"sorts before", b"sorts behind")
    packed.write_bytes(hostile)
    with pytest.raises(TreeError, match="files have tree"):
        take_archive(packed, into=tmp_path / "again")
    assert sorted(tmp_path.rglob("*")) == before


def test_an_archive_is_a_source_of_its_release(
    release, taken: Taken, tmp_path: Path, name: str, trust, now
) -> None:
    (tmp_path / "quarantine").mkdir()
    report = sync_once(
        ArchiveSource(release()), known={}, quarantine=tmp_path / "quarantine", trust=trust, now=now
    )
    assert [each.champion.name for each in report.new] == [name]
    assert files_in(report.new[0].folder) == files_in(taken.folder)


def test_an_archive_with_another_commit_than_its_release_is_refused(
    release, upstream: Path, into: Path, trust, now
) -> None:
    first = ArchiveSource(release())
    (upstream / "NOTICE").write_text("other")
    (offer,) = ArchiveSource(release("other")).offers()
    other = open_release(offer, trust=trust, now=now)
    with pytest.raises(TreeError, match=f"the archive has commit [0-9a-f]+, asked for was {other.commit}"):
        first.fetch(other, into)


def test_an_archive_whose_release_is_none_is_refused_by_its_file_name(packed: Path, trust, now) -> None:
    (offer,) = ArchiveSource(packed).offers()
    assert offer == ReleaseOffer(name="x", bundle=RELEASE)
    with pytest.raises(ReleaseError, match="release of x: "):
        open_release(offer, trust=trust, now=now)


def test_a_file_that_is_no_archive_is_an_unavailable_source(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"nothing of the kind")
    with pytest.raises(SourceUnavailableError, match=r"x\.tar is no champion's archive: .* cut short"):
        ArchiveSource(tmp_path / "x.tar").offers()


PARTS = st.text(st.sampled_from("abcé日.n _"), min_size=1, max_size=60).map(lambda part: f"x{part}x")
TREES = st.dictionaries(
    st.lists(PARTS, min_size=1, max_size=4).map("/".join),
    st.tuples(st.binary(max_size=1100).filter(lambda data: not data.startswith(b"version ")), st.booleans()),
    min_size=1,
    max_size=5,
).filter(lambda files: not any(other.startswith(f"{name}/") for name in files for other in files))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(files=TREES)
def test_any_tree_comes_back_as_it_was(
    files: dict[str, tuple[bytes, bool]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    top = tmp_path_factory.mktemp("generated")
    for name, (content, is_executable) in files.items():
        path = top / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755 if is_executable else 0o644)
    taken = take_tree(top / "tree", into=top / "taken")
    digest = write_archive(top / "taken", RELEASE, out=top / "x.tar")
    again = take_archive(top / "x.tar", into=top / "again")
    assert again.manifest == taken.manifest
    assert {name: data for name, (data, _) in files_in(again.folder).items()} == {
        name: data for name, (data, _) in files.items()
    }
    assert write_archive(top / "again", RELEASE, out=top / "y.tar") == digest


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(at=st.integers(0, 4607), value=st.integers(0, 255), cut=st.integers(0, 600))
@example(at=0, value=0, cut=0)
def test_a_changed_archive_is_refused_or_says_other_content(
    at: int, value: int, cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = FIRST + member("tree/a", b"hello") + member("tree/b", b"world") + END
    data = bytearray(whole)
    data[at % len(data)] = value
    changed = bytes(data[: len(data) - cut])
    top = tmp_path_factory.mktemp("changed")
    (top / "x.tar").write_bytes(changed)
    (top / "into").mkdir()
    try:
        content = read_archive(top / "x.tar", into=top / "into")
    except TreeError:
        return
    # What is read can be written in one way only: the bytes that were read.
    read = {name: data for name, (data, _) in files_in(top / "into").items()}
    modes = {name: mode for name, (_, mode) in files_in(top / "into").items()}
    again = io.BytesIO()
    again.write(member("release.sigstore.json", content.release) + member("commit", content.raw_commit))
    for name in sorted(read):
        again.write(member(f"tree/{name}", read[name], mode=0o755 if modes[name] == 0o555 else 0o644))
    assert again.getvalue() + END == changed
