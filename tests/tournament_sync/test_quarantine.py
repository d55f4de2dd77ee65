"""A quarantine folder appears whole or not at all, wherever the process dies."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tournament_sync.archive import write_archive
from tournament_sync.errors import TreeError
from tournament_sync.intake import take_tree
from tournament_sync.quarantine import read_commit, staged

ROOT = Path(__file__).parents[2]

# Dies, without any clean-up, at the nth of its calls that touch the disk; prints n when it was not reached.
KILLED = """
import os, shutil, sys
from pathlib import Path
from tournament_sync.archive import take_archive
from tournament_sync.intake import take_git, take_tree, verify_taken

TOUCHES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree"}
how, source, commit, into = sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4])

def take(into):
    match how:
        case "tree":
            return take_tree(Path(source), into=into)
        case "git":
            return take_git(source, commit, into=into)
        case "archive":
            return take_archive(Path(source), into=into)

def die_at(last):
    left = last
    def hook(event, arguments):
        nonlocal left
        if event in TOUCHES:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), 9)
    sys.addaudithook(hook)

take(into.with_name("warm"))
states = set()
for last in range(1, 10_000):
    child = os.fork()
    if child == 0:
        die_at(last)
        take(into)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, -9}, code
    states.add(into.exists())
    if into.exists():
        taken = verify_taken(into, origin="tree")
        assert taken.tree == verify_taken(into.with_name("warm"), origin="tree").tree
        shutil.rmtree(into)
    take(into)
    assert sorted(os.listdir(into.parent)) == [into.name, "warm"], os.listdir(into.parent)
    shutil.rmtree(into)
    if code == 0:
        print(last, sorted(states))
        break
"""


def test_appears_with_what_was_put_into_it(tmp_path: Path) -> None:
    into = tmp_path / "champion"
    with staged(into) as part:
        (part / "commit").write_bytes(b"raw")
        assert not into.exists()
    assert read_commit(into) == b"raw"
    assert [path.name for path in tmp_path.iterdir()] == ["champion"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with staged(tmp_path / "champion") as part:
            (part / "commit").write_bytes(b"raw")
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_everything_is_on_disk_before_it_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    into, flushed = tmp_path / "champion", []
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append((os.fstat(handle).st_ino, into.exists())))
    with staged(into) as part:
        (part / "commit").write_bytes(b"raw")
        (part / "tree/a").write_bytes(b"x")
    inside = {path.stat().st_ino for path in (into, *into.rglob("*"))}
    assert {inode for inode, was_visible in flushed if not was_visible} == inside
    assert [inode for inode, was_visible in flushed if was_visible] == [tmp_path.stat().st_ino]


@pytest.mark.parametrize("spoil", ["no commit", "no tree", "linked commit", "linked tree"])
def test_refuses_a_folder_that_is_no_quarantine(tmp_path: Path, spoil: str) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "commit").write_bytes(b"raw")
    name = spoil.split()[1]
    (tmp_path / name).rename(tmp_path / "elsewhere")
    if spoil.startswith("linked"):
        (tmp_path / name).symlink_to("elsewhere")
    with pytest.raises(TreeError, match="it lacks its commit or its tree"):
        read_commit(tmp_path)


@pytest.mark.parametrize("how", ["tree", "git", "archive"])
def test_killed_at_any_point_it_leaves_the_old_state_or_the_new(tmp_path: Path, repository, how: str) -> None:
    blob = repository.write("blob", b"x")
    inner = repository.tree(("100755", b"c", blob))
    commit = repository.commit(repository.tree(("100644", b"a", blob), ("40000", b"b", inner)))
    source = {"tree": tmp_path / "folder", "git": repository.path, "archive": tmp_path / "x.tar"}[how]
    (tmp_path / "folder/b").mkdir(parents=True)
    (tmp_path / "folder/a").write_text("x")
    (tmp_path / "folder/b/c").write_text("x")
    (tmp_path / "quarantine").mkdir()
    if how == "archive":
        take_tree(tmp_path / "folder", into=tmp_path / "taken")
        write_archive(tmp_path / "taken", b"{}", out=source)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, how, str(source), commit, str(tmp_path / "quarantine/champion")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    count, states = done.stdout.split(maxsplit=1)
    assert int(count) > 15
    assert states.strip() == "[False, True]"
