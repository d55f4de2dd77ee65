"""The comparison in its own process: whatever a champion's files do to a parser, whoever compares goes on."""

from dataclasses import replace
from pathlib import Path

import pytest

from attestation.files import hash_folder
from tests.tournament_sync.diff_trees import REPORT, write_tree
from tournament_sync.diff import ChampionDiff, compare, run
from tournament_sync.diff.comparison import compare_here
from tournament_sync.errors import ReportError

OLD, NEW = replace(REPORT, manifest_sha256="a" * 64), replace(REPORT, manifest_sha256="b" * 64)


def compared(tmp_path: Path, old: dict[str, bytes], new: dict[str, bytes]) -> ChampionDiff:
    trees = tmp_path / "old", tmp_path / "new"
    for tree, files in zip(trees, (old, new), strict=True):
        write_tree(tree, files)
    return compare(*trees, old=OLD, new=NEW, timeout_s=30)


def test_says_what_the_comparison_in_this_process_says(tmp_path: Path) -> None:
    found = compared(tmp_path, {"a.py": b"x = 1\n", "b": b"b"}, {"a.py": b"x = 2\n", "c": b"c"})
    trees = tmp_path / "old", tmp_path / "new"
    assert found == compare_here(*trees, old=OLD, new=NEW)
    manifests = {"old_manifest": hash_folder(trees[0]), "new_manifest": hash_folder(trees[1])}
    assert found == compare(*trees, old=OLD, new=NEW, **manifests)


@pytest.mark.parametrize(
    ("name", "old", "new", "why"),
    [
        ("x.yaml", b"a: 1\n", b"[" * 60_000, "nested deeper than"),
        ("x.yaml", b"a: 1\n", b"- " * 60_000, "nested deeper than"),
        ("x.json", b"{}", b'{"' + b"k" * 400_000 + b'":[' + b"1," * 20_000 + b"1]}", "a name of more than"),
        (
            "x.py",
            b"a = {}\n",
            b"a = {'" + b"k" * 300_000 + b"':[" + b"1," * 20_000 + b"]}\n",
            "a name of more",
        ),
    ],
    ids=["brackets", "dashes", "json", "python"],
)
def test_a_bomb_is_not_read_and_the_rest_is(
    tmp_path: Path, name: str, old: bytes, new: bytes, why: str
) -> None:
    found = compared(tmp_path, {name: old, "b": b"old\n"}, {name: new, "b": b"new\n"})
    assert [(unread.file, why in unread.why) for unread in found.unread if why in unread.why] == [
        (name, True)
    ]
    assert "b" in {text.path for text in found.texts}


def test_a_long_line_of_statements_is_compared_in_time(tmp_path: Path) -> None:
    found = compared(tmp_path, {"x.py": b"a;" * 100_000}, {"x.py": b"a;" * 99_999 + b"b"})
    assert [change.path for change in found.files] == ["x.py"]


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "died of signal SIGSEGV"),
        ("while True: pass", "took longer than 1 s"),
        ("print('{}')", "not a diff of champions"),
        ("import sys; sys.stdin.read(); print('x' * (33 << 20))", "wrote more than"),
        ("raise SystemExit(7)", "ended with code 7"),
    ],
)
def test_whatever_becomes_of_the_child_is_an_error_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, why: str
) -> None:
    tree = tmp_path / "tree"
    write_tree(tree, {"a": b"a"})
    monkeypatch.setattr(run, "_PROGRAM", program)  # what the child does is the input here
    with pytest.raises(ReportError, match=why):
        compare(tree, tree, old=OLD, new=NEW, timeout_s=1)


def test_another_pair_than_was_asked_for_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "tree"
    write_tree(tree, {"a": b"a"})
    other = compare(tree, tree, old=NEW, new=OLD)
    monkeypatch.setattr(run, "parse_diff", lambda _: other)
    with pytest.raises(ReportError, match="compared others"):
        compare(tree, tree, old=OLD, new=NEW)


def test_a_tree_that_is_not_there_cannot_be_compared(tmp_path: Path) -> None:
    write_tree(tmp_path / "a", {"a": b"a"})
    with pytest.raises(ReportError, match="could not be compared: the tree could not be read: TreeError"):
        compare(tmp_path / "a", tmp_path / "absent", old=OLD, new=NEW)
