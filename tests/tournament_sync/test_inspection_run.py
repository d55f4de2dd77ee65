"""The real child process: what makes a parser die, run away or write too much ends as a finding, not as a hole."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tournament_sync import limited_child
from tournament_sync.errors import ReportError
from tournament_sync.inspection import run
from tournament_sync.inspection.gather import inspect_here
from tournament_sync.inspection.report import InspectionReport, Severity, encode_report
from tournament_sync.inspection.run import could_not_inspect, inspect_tree
from tournament_sync.inspection.tree import HEAD_BYTES

MANIFEST = "cd" * 32
ROOT = Path(run.__file__).parents[2]


def inspect(tree: Path, *, timeout_s: float = 60) -> InspectionReport:
    return inspect_tree(tree, manifest_sha256=MANIFEST, timeout_s=timeout_s)


def rules(report: InspectionReport) -> set[str]:
    return {found.rule for found in report.findings}


def in_child(program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, check=False, cwd=ROOT, timeout=60
    )


def test_same_tree_gives_same_bytes_in_every_process(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.py").write_text(
            f"import redis, requests, {name}\nexec(x)\nT = ['o/a', 'o/b', 'o/c']\nopen('/srv/{name}/q', 'w')\n"
        )
        (tmp_path / name / "LICENSE").write_text(name)
    # -I ignores PYTHONHASHSEED: each child has another order of sets.
    first, second = inspect(tmp_path), inspect(tmp_path)
    assert encode_report(first) == encode_report(second)
    assert encode_report(first) == encode_report(inspect_here(tmp_path, manifest_sha256=MANIFEST))
    assert first.manifest_sha256 == MANIFEST and first.files.python == 3


@pytest.mark.parametrize(
    "bomb",
    [
        b"x = " + b"(" * 100_000,
        b"x = " + b"[" * 150 + b"]" * 150,
        b"x = " + b"-" * 1_000_000 + b"1",
        b"x = " + b"not " * 200_000 + b"1",
        b"x = 1" + b"+1" * 400_000,
        b"x = a" + b".b" * 400_000,
        b"x = f" + b"()" * 400_000,
        b"x = " + b"lambda: " * 100_000 + b"1",
        b"".join(b" " * n + b"if x:\n" for n in range(600)) + b" " * 600 + b"pass\n",
        b"x = f'" + b"{f'" * 1000 + b"'}" * 1000 + b"'",
    ],
    ids=[
        "parentheses",
        "brackets",
        "minus",
        "not",
        "sum",
        "attributes",
        "calls",
        "lambda",
        "indent",
        "f-string",
    ],
)
def test_deep_nesting_in_one_file_never_passes_unseen(bomb: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"exec(y)\n" + bomb + b"\n")
    (tmp_path / "b.py").write_text("exec(x)\n")
    report = inspect(tmp_path)
    assert rules(report) & {"could-not-inspect", "python-unreadable", "python-unparsable"} or {
        found.file for found in report.findings if found.rule == "python-exec"
    } == {"a.py", "b.py"}


def test_one_unreadable_file_does_not_hide_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"(" * 100_000)
    (tmp_path / "nul.py").write_bytes(b"x = 1\x00\n")
    (tmp_path / "b.py").write_text("exec(x)\n")
    found = {(each.file, each.rule) for each in inspect(tmp_path).findings}
    assert {("a.py", "python-unreadable"), ("nul.py", "python-unreadable"), ("b.py", "python-exec")} <= found


def test_file_of_200_megabytes_is_read_by_its_head(tmp_path: Path) -> None:
    with (tmp_path / "large.py").open("wb") as file:
        file.write(b"exec(x)\n")
        file.truncate(200 << 20)
    with (tmp_path / "large.txt").open("wb") as file:
        file.write(b"x" * HEAD_BYTES)
        file.truncate(200 << 20)
    report = inspect(tmp_path)
    assert {"file-too-large", "file-unread"} <= rules(report)
    assert report.files.size_bytes == 400 << 20


def test_names_with_line_breaks_and_controls_stay_in_one_finding(tmp_path: Path) -> None:
    (tmp_path / "a\nCRITICAL forged\x1b[2J.py").write_text("exec(x)\n")
    (tmp_path / "ünï…\u202e.py").write_text("exec(x)\n")
    files = {found.file for found in inspect(tmp_path).findings if found.rule == "python-exec"}
    assert files == {"a\nCRITICAL forged\x1b[2J.py", "ünï…\u202e.py"}


def test_name_that_is_no_utf8_is_still_told(tmp_path: Path) -> None:
    (tmp_path / "a\udcff.py").write_text("exec(x)\n")
    files = [found.file for found in inspect(tmp_path).findings if found.rule == "python-exec"]
    assert files == ["a\\xff.py"]


def test_child_that_runs_out_of_time_is_a_critical_finding(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"a{number}.py").write_bytes(b"x = [" + b"f(1)," * 300_000 + b"]\n")
    report = inspect(tmp_path, timeout_s=0.3)
    (found,) = report.findings
    assert found.rule == "could-not-inspect" and found.severity is Severity.CRITICAL
    assert "took longer than 0.3 s" in found.found
    assert report.epochs == () and report.capabilities == () and report.licence.licence is None


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os; os.kill(os.getpid(), 11)", "died of signal SIGSEGV"),
        ("import os; os.kill(os.getpid(), 9)", "died of signal SIGKILL"),
        ("import os; os.kill(os.getpid(), 24)", "used up its processor time"),
        ("raise SystemExit(7)", "ended with code 7"),
        ("raise SystemExit(0)", "wrote no report"),
        ("print('{}')", "wrote no report"),
        ("print('x' * (17 << 20))", "wrote more than"),
        ("import sys; sys.stdout.write('MemoryError: '); sys.exit(3)", "could not be read: MemoryError"),
        ("while True: pass", "took longer than 2 s"),
    ],
)
def test_whatever_becomes_of_the_child_is_told(
    program: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_PROGRAM", program)  # what the child does is the input here
    (found,) = inspect(tmp_path, timeout_s=2).findings
    assert found.rule == "could-not-inspect" and reason in found.found


def test_child_gets_nothing_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setattr(
        run, "_PROGRAM", "import os, sys; print(*sorted(os.environ)); sys.stdout.flush(); os._exit(3)"
    )
    (found,) = inspect(tmp_path).findings
    assert "LC_ALL MALLOC_MMAP_THRESHOLD_ MALLOC_TRIM_THRESHOLD_ PATH" in found.found
    assert "HF_TOKEN" not in found.found


def test_report_on_another_manifest_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = encode_report(could_not_inspect("x", manifest_sha256="ee" * 32)).decode()
    monkeypatch.setattr(run, "_PROGRAM", f"print({other!r}, end='')")
    (found,) = inspect(tmp_path).findings
    assert "another report" in found.found


def test_refuses_what_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    for path in (tmp_path / "absent", tmp_path / "link"):
        with pytest.raises(ReportError, match="is no folder"):
            inspect(path)


def test_tells_that_no_child_could_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "absent"))
    with pytest.raises(ReportError, match="could not be started"):
        inspect(tmp_path)


def test_unreadable_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        run,
        "_PROGRAM",
        run._PROGRAM.replace("main()", "child_main()").replace(
            "import main;",
            "import main as child_main; import tournament_sync.inspection.tree as t; t.MAX_ENTRIES = 2;",
        ),
    )
    for number in range(3):
        (tmp_path / str(number)).touch()
    (found,) = inspect(tmp_path).findings
    assert "TooManyEntriesError: the tree has more than 2 entries" in found.found


@pytest.mark.parametrize(
    ("attempt", "error"),
    [
        ("open(sys.argv[1], 'wb', buffering=0).write(b'x')", "File too large"),
        ("bytearray(3 << 30)", "MemoryError"),
        ("[open('/dev/null') for _ in range(64)]", "Too many open files"),
    ],
)
def test_limits_bind_the_child(attempt: str, error: str, tmp_path: Path) -> None:
    program = f"import sys\nfrom tournament_sync.limited_child import limit\nlimit(cpu_s=10)\n{attempt}\n"
    done = in_child(program, str(tmp_path / "written"))
    assert done.returncode != 0 and error in done.stderr.decode()


def test_processor_time_is_limited() -> None:
    program = "from tournament_sync.limited_child import limit\nlimit(cpu_s=1)\nwhile True: pass\n"
    assert in_child(program).returncode == -24


def test_memory_death_is_told(tmp_path: Path) -> None:
    program = (
        "import json, sys, io\nfrom tournament_sync.inspection import child\n"
        "def die(*a, **k): raise MemoryError('no more')\nchild.inspect_here = die\nchild.main()\n"
    )
    request = json.dumps({"tree": str(tmp_path), "manifest_sha256": MANIFEST, "cpu_s": 5}).encode()
    done = subprocess.run(
        [sys.executable, "-c", program], input=request, capture_output=True, check=False, cwd=ROOT, timeout=60
    )
    assert (done.returncode, done.stdout) == (limited_child.EXIT_UNREADABLE, b"MemoryError: no more")


def test_champions_modules_are_never_imported(tmp_path: Path) -> None:
    for name in ("ast.py", "yaml.py", "sitecustomize.py", "tournament_sync.py"):
        (tmp_path / name).write_text("raise SystemExit('imported')\n")
    assert "could-not-inspect" not in rules(inspect(tmp_path))
