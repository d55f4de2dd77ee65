"""Champions taken in from git and from plain folders: exactly one commit's files, or nothing at all."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_signing import hashing, verifying

from attestation.bundle import sign_statement
from attestation.files import hash_folder
from attestation.oms import oms_statement
from tests.tournament_sync.git_servers import git_daemon, serving
from tournament_sync import intake, tree_files
from tournament_sync.errors import RefusedError, SourceUnavailableError, TreeError
from tournament_sync.git_commit import commit_object
from tournament_sync.git_export import Exported, git_environment
from tournament_sync.git_objects import Link
from tournament_sync.intake import EVERY_LINK, ORIGIN_TREE, take_git, take_tree, verify_taken
from tournament_sync.release import Taken

NAMES = [".gitattributes", ".gitignore", "LICENSE.md", "NOTICE"]
NAMES += ["scripts.md", "scripts/entrypoint.sh", "scripts/text_trainer.py"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where a champion is taken to, beside one that was taken before."""
    (tmp_path / "quarantine/other").mkdir(parents=True)
    (tmp_path / "quarantine/other/commit").write_text("another champion's")
    return tmp_path / "quarantine/champion"


@pytest.fixture
def committed(upstream: Path, tmp_path: Path) -> tuple[Path, str]:
    """A real repository with `upstream` as a commit, and that commit's id."""
    shutil.rmtree(upstream / "scripts/__pycache__")
    repository = tmp_path / "upstream.git"
    environment = git_environment(repository) | {
        "GIT_WORK_TREE": str(upstream),
        **{f"GIT_{who}_NAME": "A" for who in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{who}_EMAIL": "a@b.invalid" for who in ("AUTHOR", "COMMITTER")},
    }
    (repository / "info").mkdir(parents=True)
    for arguments in (
        ["init", "-q", "--initial-branch=main"],
        ["-c", "core.attributesFile=/dev/null", "add", "-f", "-A"],
        ["commit", "-q", "-m", "Tournament winner repository - Commit: 0123abcd"],
    ):
        subprocess.run(["git", *arguments], env=environment, check=True, cwd=upstream)
    head = subprocess.run(["git", "rev-parse", "HEAD"], env=environment, check=True, capture_output=True)
    return repository, head.stdout.decode().strip()


def listing(folder: Path) -> dict[str, tuple[int, str]]:
    """Mode and digest of everything below `folder`."""
    return {
        path.relative_to(folder).as_posix(): (
            path.lstat().st_mode,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in folder.rglob("*")
    }


@pytest.fixture
def unchanged(place: Path) -> Iterator[None]:
    """The quarantine is byte for byte the same after the test."""
    before = listing(place.parent)
    yield
    assert listing(place.parent) == before


def test_takes_a_commit_from_a_local_repository(committed, place: Path) -> None:
    repository, commit = committed
    taken = take_git(str(repository), commit, into=place)
    assert (taken.commit, taken.competed_commit) == (commit, "0123abcd")
    assert (taken.origin, taken.folder) == (str(repository), place / "tree")
    assert [file.name for file in taken.manifest.files] == NAMES
    assert taken.manifest == hash_folder(place / "tree")


def test_the_tree_is_the_one_that_git_names(committed, place: Path) -> None:
    repository, commit = committed
    asked = ["git", f"--git-dir={repository}", "rev-parse", f"{commit}^{{tree}}"]
    named = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    assert take_git(str(repository), commit, into=place).tree == named


def test_the_same_commit_is_the_same_champion_from_a_server_and_from_a_folder(
    committed, place: Path, tmp_path: Path
) -> None:
    repository, commit = committed
    with serving(git_daemon(tmp_path)) as port:
        url = f"git://127.0.0.1:{port}/{repository.name}"
        remote = take_git(url, commit, into=place)
    local = take_git(str(repository), commit, into=tmp_path / "local")
    assert listing(remote.folder) == listing(local.folder)
    assert (remote.raw_commit, remote.manifest, remote.origin) == (local.raw_commit, local.manifest, url)


def test_quarantine_holds_the_commit_and_the_tree_and_nothing_else(committed, place: Path) -> None:
    take_git(str(committed[0]), committed[1], into=place)
    assert sorted(path.name for path in place.iterdir()) == ["commit", "tree"]
    assert sorted(path.name for path in place.parent.iterdir()) == ["champion", "other"]


def test_taking_the_same_again_asks_nobody(committed, place: Path) -> None:
    repository, commit = committed
    first = take_git(str(repository), commit, into=place)
    shutil.rmtree(repository)
    assert take_git(str(repository), commit, into=place) == first


def test_refuses_another_commit_in_a_folder_that_is_taken(committed, place: Path) -> None:
    repository, commit = committed
    take_git(str(repository), commit, into=place)
    with pytest.raises(TreeError, match=f"holds commit {commit} already, asked for was b+"):
        take_git(str(repository), "b" * 40, into=place)


@pytest.mark.parametrize("damage", ["changed", "added", "removed", "executable", "linked", "no commit"])
def test_refuses_a_copy_that_was_changed_in_quarantine(committed, place: Path, damage: str) -> None:
    repository, commit = committed
    tree = take_git(str(repository), commit, into=place).folder
    (tree / "NOTICE").chmod(0o644)
    match damage:
        case "changed":
            (tree / "NOTICE").write_text("changed")
        case "added":
            (tree / "extra").write_text("x")
        case "removed":
            (tree / "NOTICE").unlink()
        case "executable":
            (tree / "NOTICE").chmod(0o755)
        case "linked":
            (tree / "NOTICE").unlink()
            (tree / "NOTICE").symlink_to("LICENSE.md")
        case "no commit":
            (place / "commit").unlink()
    with pytest.raises(TreeError, match=r"the quarantined copy in .*/champion was changed: "):
        take_git(str(repository), commit, into=place)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("mode", "name", "content", "reason"),
    [
        ("120000", b"link", b"/etc/passwd", "'link' is a symbolic link to '/etc/passwd'"),
        ("120000", b"link", b"../../outside", "'link' is a symbolic link to '../../outside'"),
        ("120000", b"link", b"LICENSE.md", "'link' is a symbolic link to 'LICENSE.md'"),
        ("160000", b"vendor", b"x", "'vendor' is a submodule"),
        ("100644", b"..", b"x", "not a normalised relative path"),
        ("100644", b".git", b"x", "lies in a .git folder"),
        ("100644", b"git~1", b"x", "lies in a .git folder"),
        ("100644", b"e\xcc\x81", b"x", "not in Unicode form NFC"),
        ("100644", b"nul", b"x", "names a device"),
        ("100644", b"m.bin", b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        ("100664", b"odd-mode", b"x", "files have tree"),
    ],
)
def test_a_refused_commit_leaves_the_quarantine_as_it_was(
    repository, place: Path, mode: str, name: bytes, content: bytes, reason: str
) -> None:
    tree = repository.tree((mode, name, repository.write("blob", content)))
    with pytest.raises(TreeError) as caught:
        take_git(str(repository.path), repository.commit(tree), into=place)
    assert reason in str(caught.value)


@pytest.mark.usefixtures("unchanged")
def test_refuses_names_that_meet_on_some_file_system(repository, place: Path) -> None:
    blob = repository.write("blob", b"x")
    tree = repository.tree(("100644", b"A", blob), ("100644", b"a", blob))
    with pytest.raises(TreeError, match="'a' and 'A' differ only in case or Unicode form"):
        take_git(str(repository.path), repository.commit(tree), into=place)


@pytest.mark.usefixtures("unchanged")
def test_refuses_a_repository_that_lies_about_an_object(repository, place: Path) -> None:
    blob = repository.write("blob", b"true")
    commit = repository.commit(repository.tree(("100644", b"a", blob)))
    repository.write("blob", b"fake", as_id=blob)
    with pytest.raises(TreeError, match=r"files have tree|is absent or damaged|git has no blob|cut short"):
        take_git(str(repository.path), commit, into=place)


@pytest.mark.usefixtures("unchanged")
def test_refuses_another_commit_under_the_id_that_was_asked_for(
    committed, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, commit = committed

    def export_another(*_given: object, **_named: object) -> Exported:  # as a damaged pack would
        return Exported(raw_commit=commit_object("c" * 40), links=())

    monkeypatch.setattr(intake, "export_commit", export_another)
    with pytest.raises(TreeError, match=f"{repository} has [0-9a-f]+ in place of commit {commit}"):
        take_git(str(repository), commit, into=place)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("commit", ["main", "HEAD", "0123abcd", "refs/heads/main"])
def test_refuses_a_branch_name(committed, place: Path, commit: str) -> None:
    with pytest.raises(TreeError, match="never at a branch, a tag or a prefix"):
        take_git(str(committed[0]), commit, into=place)


@pytest.mark.usefixtures("unchanged")
def test_a_source_that_is_gone_is_unavailable(tmp_path: Path, place: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="is not a git repository"):
        take_git(str(tmp_path / "absent.git"), "a" * 40, into=place)


def test_configuration_hooks_and_attributes_of_the_repository_do_nothing(
    committed, place: Path, tmp_path: Path
) -> None:
    repository, commit = committed
    clean = listing(take_git(str(repository), commit, into=tmp_path / "clean").folder)
    witness = tmp_path / "was-run"
    evil = f"touch {witness}"
    (repository / "config").write_text(
        f'[core]\n\tfsmonitor = "{evil}"\n\thooksPath = {repository}/hooks\n\tsshCommand = "{evil}"\n'
        f'[filter "evil"]\n\tsmudge = "{evil}"\n\tprocess = "{evil}"\n\trequired = true\n'
        f'[uploadpack]\n\tpackObjectsHook = "{evil}"\n[include]\n\tpath = {tmp_path}/more\n'
        f'[alias]\n\tcat-file = "!{evil}"\n\tls-tree = "!{evil}"\n'
    )
    (repository / "info/attributes").write_text("* filter=evil text eol=crlf ident export-ignore\n")
    (repository / "hooks").mkdir(exist_ok=True)
    for name in ("post-checkout", "pre-upload", "reference-transaction", "post-index-change"):
        (repository / "hooks" / name).write_text(f"#!/bin/sh\n{evil}\n")
        (repository / "hooks" / name).chmod(0o755)
    assert listing(take_git(str(repository), commit, into=place).folder) == clean
    assert not witness.exists()


def test_replacements_and_grafts_do_nothing(repository, place: Path) -> None:
    commit = repository.commit(repository.tree(("100644", b"a", repository.write("blob", b"true"))))
    other = repository.commit(repository.tree(("100644", b"a", repository.write("blob", b"false"))))
    (repository.path / "refs/replace").mkdir(parents=True)
    (repository.path / "refs/replace" / commit).write_text(f"{other}\n")
    (repository.path / "info").mkdir()
    (repository.path / "info/grafts").write_text(f"{commit} {other}\n")
    taken = take_git(str(repository.path), commit, into=place)
    assert (taken.folder / "a").read_bytes() == b"true"


@pytest.mark.usefixtures("unchanged")
def test_refuses_borrowed_objects(repository, place: Path) -> None:
    (repository.path / "objects/info").mkdir()
    (repository.path / "objects/info/alternates").write_text("/elsewhere\n")
    with pytest.raises(TreeError, match="borrows objects from elsewhere"):
        take_git(str(repository.path), "a" * 40, into=place)


def test_takes_a_plain_folder_as_upstream_would_commit_it(upstream: Path, place: Path) -> None:
    taken = take_tree(upstream, into=place)
    assert (taken.origin, taken.competed_commit) == ("tree", taken.tree[:8])
    assert [file.name for file in taken.manifest.files] == NAMES
    assert taken == verify_taken(place, origin="tree")
    for name in NAMES:
        assert (taken.folder / name).read_bytes() == (upstream / name).read_bytes()


def test_a_folder_has_the_tree_that_git_gives_it(
    upstream: Path, committed, place: Path, tmp_path: Path
) -> None:
    assert (
        take_tree(upstream, into=place).tree
        == take_git(str(committed[0]), committed[1], into=tmp_path / "git").tree
    )


def test_the_same_folder_has_one_commit(upstream: Path, place: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(upstream, copy)
    os.utime(copy / "NOTICE", (1, 1))
    assert take_tree(upstream, into=place).commit == take_tree(copy, into=tmp_path / "again").commit


def test_taking_the_same_folder_again_copies_nothing(
    upstream: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = take_tree(upstream, into=place)
    monkeypatch.setattr(intake, "staged", None)
    assert take_tree(upstream, into=place) == first


def test_refuses_another_folder_in_the_place_of_one_that_is_taken(upstream: Path, place: Path) -> None:
    taken = take_tree(upstream, into=place)
    (upstream / "NOTICE").write_text("changed")
    with pytest.raises(TreeError, match=f"holds commit {taken.commit} already"):
        take_tree(upstream, into=place)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda tree: (tree / "x").symlink_to("/etc/passwd"), "'x' is a symbolic link"),
        (lambda tree: (tree / "x").symlink_to("NOTICE"), "'x' is a symbolic link"),
        (lambda tree: (tree / "x").symlink_to("scripts", target_is_directory=True), "is a symbolic link"),
        (lambda tree: os.mkfifo(tree / "x"), "'x' is neither a file nor a folder"),
        (lambda tree: (tree / "notice").write_text("x"), "differ only in case"),
        (lambda tree: (tree / "e\u0301").write_text("x"), "not in Unicode form NFC"),
        (lambda tree: (tree / "a\nb").write_text("x"), "invisible or control character"),
        (lambda tree: Path(os.fsdecode(bytes(tree) + b"/\xff")).write_text("x"), "invisible or control"),
        (lambda tree: (tree / "git~1").write_text("x"), "lies in a .git folder"),
        (lambda tree: (tree / ".git").mkdir(), "is git's work tree: take it from git, at its commit id"),
        (
            lambda tree: (tree / "m").write_text("version https://git-lfs.github.com/spec/v1\n"),
            "'m' is a Git LFS pointer",
        ),
    ],
)
def test_a_refused_folder_leaves_the_quarantine_as_it_was(
    upstream: Path, place: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    spoil(upstream)
    with pytest.raises(TreeError) as caught:
        take_tree(upstream, into=place)
    assert reason in str(caught.value)


@pytest.mark.usefixtures("unchanged")
def test_refuses_a_folder_over_the_limits_before_copying(
    upstream: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_files, "MAX_TOTAL_BYTES", 1000)
    monkeypatch.setattr(intake, "write_file", None)
    with pytest.raises(TreeError, match="bytes of files are over the limit of 1000"):
        take_tree(upstream, into=place)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("change", ["added", "removed", "rewritten"])
def test_refuses_a_folder_that_changes_while_it_is_read(
    upstream: Path, place: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    write = tree_files.write_file

    def write_and_change(folder: Path, name: str, chunks: Iterator[bytes], *, is_executable: bool) -> None:
        write(folder, name, chunks, is_executable=is_executable)
        if name == NAMES[-1]:  # the last: no file is opened again after it
            match change:
                case "added":
                    (upstream / "later").write_text("x")
                case "removed":
                    (upstream / "NOTICE").unlink()
                case "rewritten":
                    (upstream / "NOTICE").write_text("changed")

    monkeypatch.setattr(intake, "write_file", write_and_change)
    wanted = "later" if change == "added" else "NOTICE"
    with pytest.raises(TreeError, match=f"'{wanted}' changed while the folder was read"):
        take_tree(upstream, into=place)


def test_verifying_refuses_a_folder_that_is_no_quarantine(tmp_path: Path) -> None:
    with pytest.raises(TreeError, match="it lacks its commit or its tree"):
        verify_taken(tmp_path, origin="tree")


@pytest.fixture
def taken(upstream: Path, place: Path) -> Taken:
    return take_tree(upstream, into=place)


# Champions' own .gitignore and the like are files as any other.
WHOLE = hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False)


def test_model_signing_hashes_the_same_files_to_the_same_digests(taken: Taken) -> None:
    theirs = WHOLE.hash(taken.folder)
    assert {file.identifier: file.digest.digest_hex for file in theirs.resource_descriptors()} == {
        file.name: file.sha256 for file in taken.manifest.files
    }


def test_model_signing_verifies_the_folder_against_our_signature(
    taken: Taken, publisher, tmp_path: Path
) -> None:
    bundle = sign_statement(oms_statement("tree", taken.manifest), publisher)
    (tmp_path / "key.pem").write_bytes(publisher.public_pem)
    (tmp_path / "model.sig").write_bytes(bundle)
    config = verifying.Config().use_elliptic_key_verifier(public_key=tmp_path / "key.pem")
    config.set_hashing_config(WHOLE).verify(taken.folder, tmp_path / "model.sig")
    (taken.folder / "scripts.md").unlink()
    (taken.folder / "scripts.md").write_text("changed")
    with pytest.raises(ValueError, match=r"Hash mismatch for 'scripts\.md'"):
        config.verify(taken.folder, tmp_path / "model.sig")


PARTS = st.text(st.sampled_from("aAbé日. _1"), min_size=1, max_size=6).filter(lambda part: part.strip("."))
TREES = st.dictionaries(
    st.lists(PARTS, min_size=1, max_size=3).map("/".join),
    st.tuples(st.binary(max_size=30), st.booleans()),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=TREES)
def test_any_repository_is_taken_exactly_or_refused(
    files: dict[str, tuple[bytes, bool]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    top = tmp_path_factory.mktemp("generated")
    tree, place = top / "tree", top / "place"
    tree.mkdir()
    for name, (content, is_executable) in files.items():
        try:
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes(content)
            (tree / name).chmod(0o755 if is_executable else 0o644)
        except OSError:  # a file where another name wants a folder, or the other way round
            continue
    try:
        taken = take_tree(tree, into=place)
    except RefusedError:
        assert [path.name for path in top.iterdir()] == ["tree"]
        return
    written = {path.relative_to(tree).as_posix(): path for path in tree.rglob("*") if path.is_file()}
    assert [file.name for file in taken.manifest.files] == sorted(written)
    for name, path in written.items():
        copy, is_executable = taken.folder / name, bool(path.stat().st_mode & 0o100)
        assert copy.read_bytes() == path.read_bytes()
        assert copy.stat().st_mode & 0o777 == (0o555 if is_executable else 0o444)


# Links of a plain folder.


def linked(tmp_path: Path, target: str = "train.py") -> Path:
    tree = tmp_path / "linked"
    (tree / "below").mkdir(parents=True)
    (tree / "train.py").write_text("print()\n")
    (tree / "below" / "link").symlink_to(target)
    return tree


def test_refuses_a_link_of_a_folder_and_says_how_to_leave_it_out(tmp_path: Path) -> None:
    with pytest.raises(
        TreeError, match=r"'below/link' is a symbolic link to 'train.py'.*--leave-out below/link"
    ):
        take_tree(linked(tmp_path), into=tmp_path / "q")
    assert not (tmp_path / "q").exists()


@pytest.mark.parametrize("without", [frozenset({"below/link"}), EVERY_LINK])
def test_leaves_a_link_of_a_folder_out_but_not_out_of_its_tree(
    tmp_path: Path, without: frozenset[str] | None
) -> None:
    taken = take_tree(linked(tmp_path), into=tmp_path / "q", without=without)
    assert taken.links == (Link(name="below/link", target="train.py"),)
    assert [file.name for file in taken.manifest.files] == ["train.py"]
    assert not (taken.folder / "below").exists()
    again = take_tree(tmp_path / "linked", into=tmp_path / "q", without=without)
    assert again == taken == verify_taken(tmp_path / "q", origin=ORIGIN_TREE)


def test_refuses_to_leave_out_what_is_no_link_of_the_folder(tmp_path: Path) -> None:
    with pytest.raises(TreeError, match=r"'train\.py' was to be left out, but the folder has no such link"):
        take_tree(linked(tmp_path), into=tmp_path / "q", without=frozenset({"below/link", "train.py"}))


def test_refuses_a_link_of_a_folder_that_no_release_could_name(tmp_path: Path) -> None:
    tree = linked(tmp_path)
    (tree / "odd").symlink_to(os.fsdecode(b"\xff"))
    with pytest.raises(TreeError, match="'odd' is a symbolic link whose target is not UTF-8"):
        take_tree(tree, into=tmp_path / "q", without=EVERY_LINK)


def test_a_link_of_a_folder_with_a_name_that_is_unsafe_is_refused(tmp_path: Path) -> None:
    tree = linked(tmp_path)
    (tree / "con").symlink_to("train.py")
    with pytest.raises(TreeError, match="device"):
        take_tree(tree, into=tmp_path / "q", without=EVERY_LINK)
