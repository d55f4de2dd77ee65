import os
from pathlib import Path
from types import ModuleType

import pytest

from attestation.errors import MalformedError, UndecidedError
from attestation.files import hash_folder, read_file, read_folder, read_pack
from attestation.pack import manifest_of, pack_of

FILES = {"b.txt": b"1", "a/z.bin": b"x" * 3_000_000, "a.txt": b""}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_hashes_a_folder(tmp_path: Path) -> None:
    assert hash_folder(write(tmp_path, FILES)) == manifest_of(FILES)


def test_reads_a_folder(tmp_path: Path) -> None:
    assert read_folder(write(tmp_path, FILES)) == FILES


def test_reads_the_pack_that_was_written(tmp_path: Path, valid_pack: dict[str, bytes]) -> None:
    pack = read_pack(write(tmp_path, valid_pack))
    assert pack == pack_of(valid_pack)
    assert not any(name.startswith(("model/", "run/")) for name in pack.contents)


def test_ignores_empty_folders_and_hard_links(tmp_path: Path) -> None:
    write(tmp_path, {"a": b"1"})
    (tmp_path / "empty").mkdir()
    os.link(tmp_path / "a", tmp_path / "b")
    assert hash_folder(tmp_path) == manifest_of({"a": b"1", "b": b"1"})


@pytest.mark.parametrize("target", ["a.txt", "missing", "/etc/passwd", "."])
def test_refuses_links(tmp_path: Path, target: str) -> None:
    write(tmp_path, {"a.txt": b"1"})
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(MalformedError, match="link: a symbolic link"):
        hash_folder(tmp_path)


def test_refuses_pipes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MalformedError, match="pipe: neither a file nor a folder"):
        hash_folder(tmp_path)


@pytest.mark.parametrize("name", ["-rf", "a\nb", "a\\b", "u\u0308"])
def test_refuses_unsafe_names(tmp_path: Path, name: str) -> None:
    write(tmp_path, {name: b""})
    with pytest.raises(MalformedError, match="unsafe file name"):
        hash_folder(tmp_path)


def test_refuses_names_that_are_not_utf8(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).write_bytes(b"")
    with pytest.raises(MalformedError, match="unsafe file name"):
        hash_folder(tmp_path)


def test_refuses_case_twins(tmp_path: Path) -> None:
    write(tmp_path, {"README": b"", "readme": b""})
    with pytest.raises(MalformedError, match="differ only in case"):
        hash_folder(tmp_path)


def test_refuses_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(MalformedError, match="at least one file"):
        hash_folder(tmp_path)


def test_cannot_decide_about_what_is_not_there(tmp_path: Path) -> None:
    for act in (hash_folder, read_folder, read_pack):
        with pytest.raises(UndecidedError, match="cannot be read: No such file"):
            act(tmp_path / "missing")
    with pytest.raises(UndecidedError, match="missing: cannot be read: No such file"):
        read_file(tmp_path / "missing", limit=1)


def test_refuses_a_file_over_the_limit(tmp_path: Path) -> None:
    write(tmp_path, {"a": b"12"})
    assert read_file(tmp_path / "a", limit=2) == b"12"
    with pytest.raises(MalformedError, match="a: larger than the 1 bytes"):
        read_file(tmp_path / "a", limit=1)


def test_refuses_a_pack_whose_read_files_are_huge(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(33 << 20)
    with pytest.raises(MalformedError, match=r"\[pack\] b: larger than"):
        read_pack(tmp_path)


def test_hashes_huge_models_without_reading_them_into_the_pack(tmp_path: Path, packs: ModuleType) -> None:
    write(tmp_path, {"model/weights": b"", "README.txt": b""})
    with (tmp_path / "model/weights").open("wb") as file:
        file.truncate(65 << 20)
    assert read_pack(tmp_path).contents == {"README.txt": b""}
