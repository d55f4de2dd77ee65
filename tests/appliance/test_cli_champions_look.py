"""`assay champions inspect` and `diff`: five minutes with a stranger's repository, without a home."""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from tests.appliance.champion_cli import NAME, assay, make_archive, make_key, make_site, make_tree
from tests.appliance.world import PROPOSER, propose
from tournament_sync.diff import parse_diff
from tournament_sync.inspection.report import encode_report, parse_report


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No home at hand, and a place of its own for what commands leave behind."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "none"))
    monkeypatch.setattr("tempfile.tempdir", None)


def commit_all(tree: Path, *, author: str = "op <op@example.invalid>") -> str:
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=op", "-c", "user.email=op@example.invalid"]
        done = subprocess.run(["git", *who, *arguments], cwd=tree, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "--quiet", "--initial-branch=main")
    git("add", ".")
    git(
        "commit",
        "--quiet",
        "--author",
        author,
        "--message",
        "Tournament winner repository - Commit: 0a1b2c3d",
    )
    return git("rev-parse", "HEAD")


def test_a_folder_is_inspected_and_nothing_is_left(tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    done = assay("champions", "inspect", str(tree))
    assert done.exit_code == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["taken", "from", str(tree)]
    assert [line[0] for line in lines[1:3]] == ["git", "manifest"]  # a commit of it exists nowhere
    assert "Champion of Gradients.io (https://gradients.io)" in done.stdout
    assert list((tmp_path / "scratch").iterdir()) == []
    assert not (tmp_path / "none").exists()


def test_json_is_the_report_byte_for_byte(tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    done = assay("champions", "inspect", str(tree), "-o", "json")
    report = parse_report(done.stdout_bytes)
    assert encode_report(report) == done.stdout_bytes
    again = assay("champions", "inspect", str(tree), "-o", "json")
    assert hashlib.sha256(again.stdout_bytes).digest() == hashlib.sha256(done.stdout_bytes).digest()


def test_an_archive_says_who_released_it_and_that_nobody_checked(tmp_path: Path) -> None:
    signer = make_key(tmp_path / "key.pem")
    shown = assay("champions", "inspect", str(make_archive(tmp_path, signer))).stdout
    assert f"as {NAME}, by key {signer.key_id[:16]}… (claimed; " in shown


def test_a_repository_is_inspected_at_a_commit(tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    commit = commit_all(tree)
    done = assay("champions", "inspect", f"{tree}@{commit}")
    assert done.exit_code == 0, done.stderr
    assert commit in done.stdout
    assert "competed as  0a1b2c3d" in done.stdout
    for said in (
        "author       op <op@example.invalid>",
        "committer    op <op@example.invalid>",
        "message      Tournament winner repository - Commit: 0a1b2c3d",
    ):
        assert f"{said}  (a claim of the repository)" in done.stdout


def test_a_commit_cannot_forge_a_line(tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    commit = commit_all(tree, author="x\x1b[2J\ttaken from: nowhere <x@example.invalid>")
    shown = assay("champions", "inspect", f"{tree}@{commit}").stdout
    assert "author       x\\x1b[2J taken from: nowhere <x@example.invalid>" in shown
    assert "\x1b" not in shown


def test_a_relative_repository_is_named_from_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = make_tree(tmp_path)
    commit = commit_all(tree)
    monkeypatch.chdir(tmp_path)
    for what in (f"./{tree.name}@{commit}", f"file://{tree}@{commit}"):
        shown = assay("champions", "inspect", what).stdout
        assert str(tree) in shown.splitlines()[0]


def test_all_shortens_no_list(tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    (tree / "get.sh").write_text("".join(f"pip install package-{number}\n" for number in range(30)))
    short, whole = (assay("champions", "inspect", str(tree), *words).stdout for words in ((), ("--all",)))
    assert "pip package-29 " not in short and "pip package-29 " in whole
    assert "more\n" in short and " more\n" not in whole


def test_the_same_files_are_the_same_from_folder_archive_and_git(tmp_path: Path) -> None:
    archive = make_archive(tmp_path, make_key(tmp_path / "key.pem"))
    tree = tmp_path / "tree-plain"
    reports = {assay("champions", "inspect", str(what), "-o", "json").stdout for what in (tree, archive)}
    commit = commit_all(tree)
    reports.add(assay("champions", "inspect", f"{tree}@{commit}", "-o", "json").stdout)
    assert len(reports) == 1


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ("./nothing", 1, "is nothing to look at; wanted"),
        ("https://example.invalid/x.git", 1, "is nothing to look at"),
        ("https://example.invalid/x.git@main", 1, "is nothing to look at"),
        ("ext::sh -c id@" + "0" * 40, 3, "has blanks"),
        ("some-name", 3, "no appliance home here"),
    ],
)
def test_what_cannot_be_looked_at_is_told(tmp_path: Path, what: str, code: int, said: str) -> None:
    done = assay("champions", "inspect", what)
    assert (done.exit_code, done.stdout) == (code, "")
    assert said in done.stderr


def test_a_link_in_a_folder_is_a_finding_and_is_not_followed(tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    (tree / "link").symlink_to("/etc/passwd")
    done = assay("champions", "inspect", str(tree), "-o", "json")
    assert done.exit_code == 0, done.stderr
    (found,) = [one for one in parse_report(done.stdout_bytes).findings if one.rule == "link-left-out"]
    assert (found.file, found.found) == ("link", "→ /etc/passwd")
    assert assay("champions", "diff", str(tree), str(tree)).exit_code == 0
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize("verb", ["inspect", "build"])
def test_a_repository_that_is_given_as_a_folder_is_told_with_its_head(tmp_path: Path, verb: str) -> None:
    tree = make_tree(tmp_path)
    head = commit_all(tree)
    done = assay(
        "champions", verb, str(tree), *(["--into", str(tmp_path / "built")] if verb == "build" else [])
    )
    told = f"{tree} is git: give {tree}@COMMIT; its HEAD is {head}"
    assert (done.exit_code, told in done.stderr) == (1, True)


def test_a_word_is_a_name_even_if_a_folder_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(tmp_path)
    with site.opened() as appliance:
        propose(appliance, published_at=site.now)
    (tmp_path / "here").mkdir()
    make_tree(tmp_path).rename(tmp_path / "here" / "god-text-reference")
    monkeypatch.chdir(tmp_path / "here")
    by_name = site.assay("champions", "inspect", "god-text-reference")
    assert f"taken from  home {site.home}" in by_name.stdout
    assert "taken from  ./god-text-reference" in assay("champions", "inspect", "./god-text-reference").stdout


def test_a_champion_of_this_home_is_inspected_if_nobody_did(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    with site.opened() as appliance:
        row = propose(appliance, published_at=site.now, findings=None)
    done = site.assay("champions", "inspect", row.name, "-o", "json")
    assert parse_report(done.stdout_bytes).manifest_sha256 == row.manifest_sha256


def test_diff_says_what_changed_as_text_json_and_page(tmp_path: Path) -> None:
    old, new = make_tree(tmp_path), make_tree(tmp_path, note="<script>alert(1)</script>")
    text = assay("champions", "diff", str(old), str(new), "--html", str(tmp_path / "changes.html"))
    assert text.exit_code == 0, text.stderr
    assert "note.txt" in text.stdout
    page = (tmp_path / "changes.html").read_text()
    assert "note.txt" in page and "<script" not in page
    written = assay("champions", "diff", str(old), str(new), "-o", "json")
    parse_diff(written.stdout_bytes)
    assert "note.txt" in json.dumps(json.loads(written.stdout))


def test_diff_writes_over_no_page(tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    (tmp_path / "changes.html").write_text("mine")
    done = assay("champions", "diff", str(tree), str(tree), "--html", str(tmp_path / "changes.html"))
    assert (done.exit_code, "give a new file" in done.stderr) == (1, True)
    assert (tmp_path / "changes.html").read_text() == "mine"


def test_diff_of_a_champion_here_with_a_folder(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    archive = make_archive(tmp_path, site.publisher())
    assert site.assay("champions", "import", str(archive), "--as", PROPOSER).exit_code == 0
    done = site.assay("champions", "diff", NAME, str(make_tree(tmp_path, note="new")))
    assert (done.exit_code, "note.txt" in done.stdout) == (0, True)
