"""The files of a tree, each read once, and what kind each one is."""

import os
import socket
from pathlib import Path

import pytest

from tournament_sync.inspection import tree as tree_module
from tournament_sync.inspection.files import MAX_LINE_BYTES, inspect_file
from tournament_sync.inspection.kinds import Kind, kind_of
from tournament_sync.inspection.tree import (
    HEAD_BYTES,
    MAX_READ_BYTES,
    TooManyEntriesError,
    TreeFile,
    read_tree,
)


def file(path: str, data: bytes = b"x\n", *, size_bytes: int | None = None) -> TreeFile:
    return TreeFile(
        path=path,
        size_bytes=len(data) if size_bytes is None else size_bytes,
        is_executable=False,
        is_regular=True,
        data=data,
    )


def test_reads_every_file_once_and_in_one_order(tmp_path: Path) -> None:
    for path in ("b/2", "b/1", "a", "c/d/e"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    files = list(read_tree(tmp_path))
    assert [(each.path, each.data.decode()) for each in files] == [
        (p, p) for p in ("a", "b/1", "b/2", "c/d/e")
    ]


def test_reads_only_the_head_of_a_long_file(tmp_path: Path) -> None:
    with (tmp_path / "long").open("wb") as long:
        long.truncate(MAX_READ_BYTES + 1)
    (only,) = read_tree(tmp_path)
    assert (len(only.data), only.size_bytes, only.is_whole) == (HEAD_BYTES, MAX_READ_BYTES + 1, False)


def test_opens_no_link_pipe_or_socket(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(__file__)
    (tmp_path / "folder").symlink_to("/etc", target_is_directory=True)
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        files = list(read_tree(tmp_path))
    assert {(each.path, each.is_regular, each.data) for each in files} == {
        (name, False, b"") for name in ("link", "folder", "pipe", "socket")
    }


def test_refuses_tree_with_too_many_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_module, "MAX_ENTRIES", 3)
    for number in range(4):
        (tmp_path / str(number)).touch()
    with pytest.raises(TooManyEntriesError, match="more than 3 entries"):
        list(read_tree(tmp_path))


@pytest.mark.parametrize(
    ("name", "suffix"), [("a.PY", ".py"), ("a", ""), (".env", ""), ("a.tar.gz", ".gz"), ("d/.b/c.sh", ".sh")]
)
def test_suffix_is_lower_case_and_never_the_whole_name(name: str, suffix: str) -> None:
    assert file(name).suffix == suffix


@pytest.mark.parametrize(
    ("path", "data", "kind"),
    [
        ("a.py", b"x = 1\n", Kind.PYTHON),
        ("a.pyi", b"x: int\n", Kind.PYTHON),
        ("run", b"#!/usr/bin/env python3\n", Kind.PYTHON),
        ("run", b"#!/bin/bash\n", Kind.SHELL),
        ("a.sh", b"true\n", Kind.SHELL),
        ("run", b"#!/usr/bin/awk -f\n", Kind.SOURCE),
        ("Dockerfile", b"FROM x\n", Kind.DOCKERFILE),
        ("dockerfile.gpu", b"FROM x\n", Kind.DOCKERFILE),
        ("d/standalone-text-trainer.dockerfile", b"FROM x\n", Kind.DOCKERFILE),
        ("a.ipynb", b"{}", Kind.NOTEBOOK),
        ("a.yaml", b"a: 1\n", Kind.SOURCE),
        ("a.json", b"{}", Kind.TEXT),
        ("a.md", b"# a\n", Kind.TEXT),
        ("tool", b"\x7fELF\x02\x01\x01" + bytes(9), Kind.BINARY),
        ("a.dll", b"MZ\x90\x00\x03" + bytes(60), Kind.BINARY),
        ("tool", b"\xcf\xfa\xed\xfe" + bytes(12), Kind.BINARY),
        ("a.cpython-311.pyc", b"\xa7\r\r\n" + bytes(12), Kind.BINARY),
        ("hidden.dat", b"\xa7\r\r\n" + bytes(12), Kind.BINARY),
        ("a.so", b"text that calls itself a library", Kind.BINARY),
        ("a.bin", b"\x80\x02}q\x00.", Kind.WEIGHTS),
        ("a.dat", b"\x80\x04\x95\x00\x00", Kind.WEIGHTS),
        ("a.pt", b"PK\x03\x04" + bytes(26) + b"archive/data.pkl", Kind.WEIGHTS),
        ("a.zip", b"PK\x03\x04" + bytes(26) + b"archive/data.pkl", Kind.WEIGHTS),
        ("a.npz", b"PK\x03\x04" + bytes(26), Kind.WEIGHTS),
        ("a.dat", b"GGUF\x03\x00\x00\x00", Kind.WEIGHTS),
        ("a.dat", b"\x1c" + bytes(7) + b'{"w":{"data_offsets":[0,1]}}', Kind.WEIGHTS),
        ("a.onnx", b"\x08\x07\x12\x00", Kind.WEIGHTS),
        ("a.pth", bytes(20), Kind.WEIGHTS),
        ("a.pth", b"import os\n", Kind.TEXT),
        ("a.zip", b"PK\x03\x04" + bytes(26), Kind.ARCHIVE),
        ("a.tgz", b"\x1f\x8b\x08\x00", Kind.ARCHIVE),
        ("data", bytes(257) + b"ustar" + bytes(10), Kind.ARCHIVE),
        ("a.png", b"\x89PNG\r\n\x1a\n\x00", Kind.MEDIA),
        ("a.jpg", b"\xff\xd8\xff\xe0\x00", Kind.MEDIA),
        ("a.dat", b"a\x00b", Kind.OPAQUE),
        ("empty", b"", Kind.TEXT),
    ],
)
def test_knows_the_kind(path: str, data: bytes, kind: Kind) -> None:
    assert kind_of(file(path, data)) is kind


@pytest.mark.parametrize("magic", [b"GIF8", b"RIFF", b"OggS", b"GGUF", b"BZh", b"%PDF-", b"MZ", b"Rar"])
def test_source_cannot_pass_for_a_picture(magic: bytes) -> None:
    data = magic + b" = 1\nimport os\nos.system('x')\n"
    assert kind_of(file("a.py", data)) is Kind.PYTHON
    assert kind_of(file("a.sh", data)) is Kind.SHELL


def test_python_with_nul_inside_stays_python_so_that_it_is_found_unreadable() -> None:
    assert kind_of(file("a.py", b"\x89PNG\r\n\x1a\n\x00")) is Kind.PYTHON
    assert kind_of(file("a.py", b"\x7fELF" + bytes(10))) is Kind.BINARY


@pytest.mark.parametrize("path", [".gitignore", ".github/workflows/a.yml", ".dockerignore", "a/.gitkeep"])
def test_usual_hidden_files_are_no_findings(path: str) -> None:
    assert not [each for each in inspect_file(file(path), Kind.TEXT) if each.rule == "file-hidden"]


def test_says_which_character_hides_and_where() -> None:
    text = "a = 1\nb = '\u2067x'\n\u200bc = 2\n"
    found = list(inspect_file(file("a.py", text.encode()), Kind.PYTHON))
    assert [(each.rule, each.line, each.found) for each in found] == [
        ("source-bidi", 2, "U+2067, 1 such characters in the file"),
        ("source-invisible", 3, "U+200B, 1 such characters in the file"),
    ]


@pytest.mark.parametrize(
    "character", "\u202a\u202e\u2066\u200e\u061c\u00ad\u200b\u200c\u3164\ufeff\U000e0041"
)
@pytest.mark.parametrize("before", [b"x", "é".encode(), b"\xf0", b"\xe2\x80", "\U0001f600x".encode()])
def test_no_character_beside_it_covers_one_that_hides(before: bytes, character: str) -> None:
    data = "# grün ".encode() + before + character.encode() + b"y\n"
    found = list(inspect_file(file("a.py", data), Kind.PYTHON))
    assert [each.rule for each in found] in (["source-bidi"], ["source-invisible"])
    assert f"U+{ord(character):04X}" in found[0].found


def test_a_joiner_hides_what_it_joins_unless_that_are_pictures() -> None:
    (found,) = inspect_file(file("a.py", "é\u200dy = 1\n".encode()), Kind.PYTHON)
    assert (found.rule, found.found) == ("source-invisible", "U+200D, 1 such characters in the file")
    assert not list(inspect_file(file("a.py", "# \U0001f468\u200d\U0001f469\n".encode()), Kind.PYTHON))


def test_says_which_control_byte_hides() -> None:
    (found,) = inspect_file(file("a.sh", b"true\necho \x1b[8m\n"), Kind.SHELL)
    assert (found.rule, found.line, found.found) == ("source-invisible", 2, "byte 0x1b")


def test_tells_the_first_of_several_long_lines() -> None:
    lines = [b"a" * MAX_LINE_BYTES, b"b" * (MAX_LINE_BYTES + 1), b"c" * (MAX_LINE_BYTES + 2)]
    (found,) = inspect_file(file("a.c", b"\r\n".join(lines)), Kind.SOURCE)
    assert (found.rule, found.line) == ("source-long-line", 2)
    assert found.found == f"{MAX_LINE_BYTES + 1} bytes in one line"
    assert not list(inspect_file(file("a.c", b""), Kind.SOURCE))


def test_prose_may_hold_any_character() -> None:
    assert not list(inspect_file(file("a.md", "\u202e".encode()), Kind.TEXT))
