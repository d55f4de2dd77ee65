"""Files on disk: which may be there, and that they stay what they were."""

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from attestation.files import hash_folder
from tournament_sync import tree_files
from tournament_sync.errors import TreeError
from tournament_sync.git_export import git_environment
from tournament_sync.tree_files import (
    MAX_DEPTH,
    check_files,
    check_names,
    flush_tree,
    hash_files,
    hash_tree,
    read_chunks,
    survey,
    write_file,
)

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    work = tmp_path / "work"
    for name in ("a", "a.b", "a0", "ab/c", "ab/c.d", "ab/e/f", "ä/ö", "Z", "empty"):
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("" if name == "empty" else name)
    (work / "a0").chmod(0o755)
    return work


def test_tree_id_is_what_git_computes(folder: Path, tmp_path: Path) -> None:
    environment = git_environment(tmp_path / "git") | {"GIT_WORK_TREE": str(folder)}
    for arguments in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *arguments], env=environment, check=True, cwd=folder)
    written = subprocess.run(["git", "write-tree"], env=environment, check=True, capture_output=True)
    assert hash_tree(folder).tree == written.stdout.decode().strip()


def test_manifest_is_the_verifiers(folder: Path) -> None:
    assert hash_tree(folder).manifest == hash_folder(folder)


def test_survey_lists_files_by_name(folder: Path) -> None:
    found = survey(folder)
    assert list(found) == sorted(["a", "a.b", "a0", "ab/c", "ab/c.d", "ab/e/f", "ä/ö", "Z", "empty"])
    assert [name for name, stamp in found.items() if stamp.is_executable] == ["a0"]
    assert found["ab/c.d"].size_bytes == 6


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.symlink_to("/etc/passwd"), "'ab/odd' is a symbolic link to '/etc/passwd'"),
        (lambda path: path.symlink_to("../.."), "'ab/odd' is a symbolic link to '../..'"),
        (lambda path: path.symlink_to("c"), "'ab/odd' is a symbolic link to 'c'"),
        (lambda path: path.symlink_to("nowhere"), "'ab/odd' is a symbolic link to 'nowhere'"),
        (os.mkfifo, "'ab/odd' is neither a file nor a folder"),
    ],
    ids=["absolute link", "escaping link", "inner link", "dangling link", "pipe"],
)
def test_refuses_links_and_special_files(folder: Path, make: Callable[[Path], None], reason: str) -> None:
    make(folder / "ab/odd")
    with pytest.raises(TreeError) as caught:
        hash_tree(folder)
    assert str(caught.value) == reason


def test_refuses_a_folder_without_files(tmp_path: Path) -> None:
    with pytest.raises(TreeError, match="there are no files"):
        hash_tree(tmp_path)


def test_refuses_folders_too_deep_without_following_them(tmp_path: Path) -> None:
    (tmp_path / "/".join(["d"] * (MAX_DEPTH + 5))).mkdir(parents=True)
    with pytest.raises(TreeError, match=f"lies more than {MAX_DEPTH} levels deep"):
        survey(tmp_path)


@pytest.mark.parametrize(
    ("sizes", "limit", "value", "reason"),
    [
        ({"a": 1, "b": 1}, "MAX_FILES", 1, "more than 1 files"),
        ({"a": 4}, "MAX_FILE_BYTES", 3, "'a' of 4 bytes is over the limit of 3"),
        ({"a": 2, "b": 3}, "MAX_TOTAL_BYTES", 4, "5 bytes of files are over the limit of 4"),
    ],
)
def test_refuses_more_than_the_limits(
    monkeypatch: pytest.MonkeyPatch, sizes: dict[str, int], limit: str, value: int, reason: str
) -> None:
    check_files(sizes)
    monkeypatch.setattr(tree_files, limit, value)
    with pytest.raises(TreeError) as caught:
        check_files(sizes)
    assert str(caught.value) == reason


def test_survey_stops_at_the_limit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_files, "MAX_FILES", 2)
    with pytest.raises(TreeError, match="more than 2 files"):
        survey(folder)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["README", "readme"], "'readme' and 'README' differ only in case or Unicode form"),
        (["straße", "STRASSE"], "differ only in case or Unicode form"),
        (["src/a", "Src/b"], "'Src' and 'src' differ only in case or Unicode form"),
        (["e\u0301"], "not in Unicode form NFC"),
        (["\u00e9", "e\u0301"], "not in Unicode form NFC"),
        (["ﬁle", "file"], "differ only in case or Unicode form"),
        (["a", "a"], "'a' is listed twice"),
        (["a", "a/b"], "'a' is listed twice, or as both a file and a folder"),
        (["/etc/passwd"], "not a normalised relative path"),
        (["a/../../b"], "not a normalised relative path"),
        (["a//b"], "not a normalised relative path"),
        (["C:\\evil"], "backslash"),
        (["a\u202eb"], "invisible or control character"),
        (["g\u200cit"], "invisible or control character"),
        (["udc\udcff"], "invisible or control character"),
        (["x/-rf"], "part starts with '-'"),
        ([".git/config"], "'.git/config' lies in a .git folder"),
        (["vendor/.Git/hooks/post-checkout"], "lies in a .git folder"),
        (["GIT~1/config"], "lies in a .git folder"),
        ([".git::$INDEX_ALLOCATION/config"], "has ':', which some systems cannot hold"),
        (["what?"], "has '?', which some systems cannot hold"),
        (["lib/aux.py"], "has a part that names a device on some systems"),
        (["COM1"], "has a part that names a device on some systems"),
        (["nul .txt"], "has a part that names a device on some systems"),
        (["end."], "has a part that ends with a dot or a space"),
        ([".git "], "has a part that ends with a dot or a space"),
        (["/".join(["d"] * (MAX_DEPTH + 1))], f"lies more than {MAX_DEPTH} levels deep"),
    ],
)
def test_refuses_names_that_some_system_reads_otherwise(names: list[str], reason: str) -> None:
    with pytest.raises(TreeError) as caught:
        check_names(names)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        *("auxiliary.py", "con_sts.py", ".gitignore", ".github/x.yml", "com10", "a b", "日本.txt"),
        "/".join(["d"] * MAX_DEPTH),
    ],
)
def test_takes_names_that_are_only_similar(name: str) -> None:
    check_names([name])


def test_writes_read_only_files(into: Path) -> None:
    write_file(into, "a/b", [b"one", b"two"], is_executable=False)
    write_file(into, "a/c", [], is_executable=True)
    assert (into / "a/b").read_bytes() == b"onetwo"
    assert [(into / name).stat().st_mode & 0o777 for name in ("a/b", "a/c")] == [0o444, 0o555]


def test_refuses_an_lfs_pointer(into: Path) -> None:
    with pytest.raises(TreeError, match=r"'models/m\.bin' is a Git LFS pointer, not the file"):
        write_file(into, "models/m.bin", [LFS_POINTER], is_executable=False)


def test_writes_over_nothing(into: Path) -> None:
    (into / "a").write_text("there")
    with pytest.raises(FileExistsError):
        write_file(into, "a", [b"new"], is_executable=False)
    assert (into / "a").read_text() == "there"


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text("longer than before"),
        lambda path: path.write_text("z"),
        lambda path: path.chmod(0o755),
        lambda path: os.utime(path, ns=(1, 1)),
        lambda path: (path.rename(path.with_name("old")), path.write_text("a")),
    ],
    ids=["grown", "same size", "mode", "time", "swapped"],
)
def test_refuses_a_file_that_changed_since_it_was_listed(
    folder: Path, change: Callable[[Path], object]
) -> None:
    stamps = survey(folder)
    change(folder / "a")
    with pytest.raises(TreeError, match="'a' changed while it was read"):
        hash_files(folder, stamps)


def test_refuses_a_file_that_grows_while_it_is_read(folder: Path) -> None:
    chunks = read_chunks(folder, "a", survey(folder)["a"])
    assert next(chunks) == b"a"
    with (folder / "a").open("a") as file:
        file.write("more")
    with pytest.raises(TreeError, match="'a' changed while it was read"):
        next(chunks)


def test_refuses_a_file_that_shrinks_while_it_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_files, "READ_BYTES", 2)
    chunks = read_chunks(folder, "ab/e/f", survey(folder)["ab/e/f"])
    next(chunks)
    (folder / "ab/e/f").write_text("")
    with pytest.raises(TreeError, match="changed while it was read"):
        list(chunks)


def test_refuses_a_file_swapped_for_a_link(folder: Path) -> None:
    stamp = survey(folder)["a"]
    (folder / "a").unlink()
    (folder / "a").symlink_to("a0")
    with pytest.raises(TreeError, match="'a' cannot be read: Too many levels of symbolic links"):
        list(read_chunks(folder, "a", stamp))


def test_refuses_a_file_behind_a_folder_swapped_for_a_link(folder: Path, tmp_path: Path) -> None:
    stamp = survey(folder)["ab/c"]
    (folder / "ab").rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/c").unlink()
    (tmp_path / "elsewhere/c").write_text("ab/c")
    (folder / "ab").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TreeError, match="'ab/c' changed while it was read"):
        list(read_chunks(folder, "ab/c", stamp))


def test_a_file_that_is_gone_cannot_be_read(folder: Path) -> None:
    stamp = survey(folder)["a"]
    (folder / "a").unlink()
    with pytest.raises(TreeError, match="'a' cannot be read: No such file"):
        list(read_chunks(folder, "a", replace(stamp, size_bytes=1)))


@pytest.mark.parametrize("kind", ["absent", "file", "link"])
def test_refuses_what_is_not_a_folder(folder: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(TreeError, match=f"/{kind} is not a folder"):
        survey(tmp_path / kind)


def test_flushes_every_file_and_folder_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(os.fstat(handle).st_ino))
    flush_tree(folder)
    assert sorted(flushed) == sorted(path.stat().st_ino for path in (folder, *folder.rglob("*")))


def test_an_error_of_the_disk_is_not_lost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_handle: int) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="the disk is full"):
        flush_tree(folder)
