"""What changed between two champions: files, facts, findings; and the laws that a diff keeps."""

import tempfile
from collections.abc import Mapping
from dataclasses import fields, replace
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.oms import FileDigest, Manifest
from tests.tournament_sync.diff_trees import REPORT, finding_of, swapped, write_tree
from tournament_sync.diff import ChampionDiff, encode_diff, parse_diff
from tournament_sync.diff.comparison import MAX_TEXT_LINES
from tournament_sync.diff.comparison import compare_here as compare
from tournament_sync.diff.lines import MAX_LINES
from tournament_sync.diff.model import Change, ValueChange
from tournament_sync.errors import ReportError, TreeError
from tournament_sync.inspection.report import (
    BaseImage,
    Capability,
    Download,
    InspectionReport,
    LicenceText,
    Phase,
    Support,
)
from tournament_sync.inspection.run import could_not_inspect

Files = Mapping[str, bytes | str]


@pytest.fixture
def diff(tmp_path: Path):
    def make(
        old: Files, new: Files, *, before: InspectionReport = REPORT, after: InspectionReport = REPORT
    ) -> ChampionDiff:
        old_tree, new_tree = write_tree(tmp_path / "old", old), write_tree(tmp_path / "new", new)
        return compare(old_tree, new_tree, old=before, new=after)

    return make


def facts(
    before: InspectionReport, after: InspectionReport, section: str
) -> list[tuple[str, str, str | None, str | None]]:
    with tempfile.TemporaryDirectory() as folder:
        tree = write_tree(Path(folder) / "tree", {"a": "a"})
        changes: tuple[ValueChange, ...] = getattr(compare(tree, tree, old=before, new=after), section)
    return [(each.file, each.name, each.old, each.new) for each in changes]


# Files


def test_tells_every_kind_of_change_of_a_file(diff) -> None:
    old = {"same": "s", "gone": "g", "a/moved": "m", "changed": "1", "mode": "x", "both": "1"}
    new = {"same": "s", "fresh": "f", "b/moved": "m", "changed": "2", "mode!": "x", "both!": "2"}
    assert [(each.path, each.change, each.old_path) for each in diff(old, new).files] == [
        ("b/moved", Change.RENAMED, "a/moved"),
        ("both", Change.CONTENT, ""),
        ("changed", Change.CONTENT, ""),
        ("fresh", Change.ADDED, ""),
        ("gone", Change.REMOVED, ""),
        ("mode", Change.MODE, ""),
    ]


def test_files_carry_digests_and_modes_of_both_sides(diff) -> None:
    gone, changed = diff({"a": "1", "b": "1"}, {"a!": "2"}).files[::-1]
    digests = [sha256(text.encode()).hexdigest() for text in "12"]
    assert (changed.old_sha256, changed.new_sha256) == (digests[0], digests[1])
    assert (changed.old_is_executable, changed.new_is_executable) == (False, True)
    assert (gone.new_sha256, gone.new_is_executable) == (None, None)


def test_pairs_equal_contents_by_name_one_to_one(diff) -> None:
    files = diff({"a": "x", "b": "x", "c": "x"}, {"d": "x", "e": "x"}).files
    assert [(each.path, each.change, each.old_path) for each in files] == [
        ("c", Change.REMOVED, ""),
        ("d", Change.RENAMED, "a"),
        ("e", Change.RENAMED, "b"),
    ]


def test_empty_files_are_never_renamed(diff) -> None:
    assert {each.change for each in diff({"a": "", "k": ""}, {"b": "", "k": ""}).files} == {
        Change.ADDED,
        Change.REMOVED,
    }


def test_manifests_save_reading_what_did_not_change(tmp_path: Path) -> None:
    trees = [write_tree(tmp_path / name, {"same": "secret", "a.txt": name}) for name in ("old", "new")]
    for tree in trees:
        # Were it read, its digest would not be that of the manifest.
        (tree / "same").write_text("SECRET")
    digest = sha256(b"secret").hexdigest()
    manifests = [
        Manifest(
            files=(
                FileDigest(name="a.txt", sha256=sha256(name.encode()).hexdigest()),
                FileDigest(name="same", sha256=digest),
            )
        )
        for name in ("old", "new")
    ]
    found = compare(*trees, old=REPORT, new=REPORT, old_manifest=manifests[0], new_manifest=manifests[1])
    assert [each.path for each in found.files] == ["a.txt"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "b"], "'b' is in the manifest only"),
        (["b"], "'a' is not in the manifest"),
        (["a"], "'a' has digest .* its manifest says 0000"),
    ],
)
def test_refuses_a_manifest_of_another_tree(tmp_path: Path, names: list[str], message: str) -> None:
    old, new = write_tree(tmp_path / "old", {"a": "1"}), write_tree(tmp_path / "new", {"a": "2"})
    manifest = Manifest(files=tuple(FileDigest(name=name, sha256="0" * 64) for name in names))
    with pytest.raises(TreeError, match=message):
        compare(old, new, old=REPORT, new=REPORT, old_manifest=manifest)


def test_refuses_a_tree_with_a_link(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "tree", {"a": "1"})
    (tree / "b").symlink_to("a")
    with pytest.raises(TreeError, match="'b' is a symbolic link"):
        compare(tree, tree, old=REPORT, new=REPORT)


# Content


def test_tells_changed_lines_of_text_files(diff) -> None:
    (text,) = diff({"a.txt": "1\n2\n3\n", "b.bin": b"\0a"}, {"a.txt": "1\nx\n3\n", "b.bin": b"\0b"}).texts
    assert (text.path, text.is_cut) == ("a.txt", False)
    assert text.lines == ("@@ -1,4 +1,4 @@", " 1", "-2", "+x", " 3", " ")


def test_tells_functions_arguments_and_numbers_of_python_files(diff) -> None:
    old = "LR = 1e-4\ndef f(a): pass\np.add_argument('--lr', default=1, help='x')\n"
    new = "LR = 2e-4\ndef f(a, b): pass\np.add_argument('--lr', default=2, help='y')\n"
    found = diff({"a.py": old}, {"a.py": new})
    assert [(each.name, each.change) for each in found.functions] == [
        ("<module>", Change.BODY),
        ("f", Change.SIGNATURE),
    ]
    assert [(each.name, each.old, each.new) for each in found.arguments] == [
        ("--lr", "default=1", "default=2")
    ]
    assert [(each.name, each.old, each.new) for each in found.tables] == [("LR", "0.0001", "0.0002")]


def test_tells_entries_of_tables(diff) -> None:
    found = diff(
        {"lrs.json": '{"a": {"lr": 1e-4, "x": 1}}'}, {"lrs.json": '{"a": {"lr": 2e-4, "x": 1}, "b": 3}'}
    )
    assert [(each.file, each.name, each.old, each.new) for each in found.tables] == [
        ("lrs.json", "a.lr", "1e-4", "2e-4"),
        ("lrs.json", "b", None, "3"),
    ]


@pytest.mark.parametrize("rule", ["python-unparsable", "python-unreadable", "python-2", "file-too-large"])
@pytest.mark.parametrize("side", ["before", "after"])
def test_does_not_parse_what_hurt_the_inspection(diff, rule: str, side: str) -> None:
    report = replace(REPORT, findings=(finding_of(rule),))
    found = diff({"a.py": "x = 1", "b.py": "y = 1"}, {"a.py": "x = 2", "b.py": "y = 2"}, **{side: report})
    assert [(each.file, each.why) for each in found.unread] == [("a.py", "the inspection could not parse it")]
    assert [each.file for each in found.tables] == ["b.py"]


def test_parses_no_python_of_a_champion_that_could_not_be_inspected(diff) -> None:
    report = could_not_inspect("x", manifest_sha256="1" * 64)
    found = diff({"a.py": "x = 1"}, {"a.py": "x = 2"}, after=report)
    assert [each.file for each in found.unread] == ["a.py"]


@pytest.mark.parametrize(
    ("name", "old", "new", "why"),
    [
        ("a.py", "x = 1", "x = (", "SyntaxError: "),
        ("a.py", "x = 1", "x = " + "-" * 50_000 + "1", "Error"),
        ("a.py", "x = 1", "x = " + "(" * 300 + ")" * 300, "SyntaxError: too many nested parentheses"),
        (
            "a.py",
            "x = 1",
            "if 1:\n" + "".join(" " * n + "def f():\n" for n in range(1, 90)) + " " * 90 + "pass",
            "",
        ),
        ("a.json", "{}", "[" * 5000 + "]" * 5000, "RecursionError"),
        ("a.json", "{}", "{", "JSONDecodeError"),
        ("a.yaml", "a: 1", "a: &x [1]\nb: *x", "it may have anchors"),
        ("a.yaml", "a: 1", "a: [", "ParserError"),
        ("a.toml", "a = 1", "a = ", "TOMLDecodeError"),
    ],
)
def test_tells_what_could_not_be_compared(diff, name: str, old: str, new: str, why: str) -> None:
    found = diff({name: old}, {name: new})
    assert [each.file for each in found.unread] == [name]
    assert why in found.unread[0].why
    assert not found.is_empty


@pytest.mark.parametrize(
    ("limit", "name", "why"),
    [
        ("MAX_JSON_BYTES", "a.txt", "over the limit of 4 bytes"),
        ("MAX_TEXT_BYTES", "a.txt", "over the limit of 4 bytes for a comparison of lines"),
        ("MAX_PYTHON_BYTES", "a.py", "over the limit of 4 bytes for Python"),
        ("MAX_PYTHON_TOTAL", "a.py", "more than 4 bytes of Python changed"),
    ],
)
def test_tells_files_over_a_limit(
    diff, monkeypatch: pytest.MonkeyPatch, limit: str, name: str, why: str
) -> None:
    monkeypatch.setattr("tournament_sync.diff.comparison." + limit, 4)
    assert why in [each.why for each in diff({name: "x = 1"}, {name: "x = 2"}).unread]


def test_cuts_lists_and_says_which(diff, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tournament_sync.diff.comparison.MAX_LISTED", 2)
    found = diff({"k": "k"}, {"a": "1", "b": "2", "c": "3", "k": "k"})
    assert (len(found.files), found.cut) == (2, ("files",))


def test_lists_as_many_functions_as_there_is_room_for(diff, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tournament_sync.diff.comparison.MAX_LISTED", 3)
    old = dict.fromkeys(("a.py", "b.py"), "def f(): 1\ndef g(): 1\ndef h(): 1\nX = 1")
    new = {name: text.replace("1", "2") for name, text in old.items()}
    found = diff(old, new)
    assert [(each.file, each.name) for each in found.functions] == [
        ("a.py", "<module>"),
        ("a.py", "f"),
        ("a.py", "g"),
    ]
    assert found.cut == ("functions",)
    assert [(each.file, each.name) for each in found.tables] == [("a.py", "X"), ("b.py", "X")]


def test_a_list_that_is_just_full_is_not_cut(diff, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tournament_sync.diff.comparison.MAX_LISTED", 2)
    found = diff({"a.py": "def f(): 1", "b.py": "def g(): 1"}, {"a.py": "def f(): 2", "b.py": "def g(): 2"})
    assert ([each.name for each in found.functions], found.cut) == (["f", "g"], ())


def test_files_for_whose_lines_no_room_is_left_are_cut(diff) -> None:
    count = MAX_TEXT_LINES // MAX_LINES + 2
    old, new = ({f"{n:03}": f"{word}\n" * MAX_LINES for n in range(count)} for word in ("old", "new"))
    texts = diff(old, new).texts
    assert [len(each.lines) for each in texts] == [MAX_LINES] * (count - 2) + [0, 0]
    assert all(each.is_cut for each in texts)


@pytest.mark.parametrize("default", ["-" * 1500 + "1", f"0x{'f' * 5000}"])
def test_tells_signatures_that_cannot_be_written_out(diff, default: str) -> None:
    found = diff({"a.py": "def e(): 1\ndef f(): 1"}, {"a.py": f"def e(): 2\ndef f(a={default}): 1"})
    assert [each.file for each in found.unread] == ["a.py"]
    assert "Error: " in found.unread[0].why
    assert found.functions == ()


# Reports


def _download(target: str, *, tool: str = "pip", pinned: bool = True, file: str = "Dockerfile") -> Download:
    return Download(phase=Phase.BUILD, file=file, line=1, tool=tool, target=target, pinned=pinned)


def test_dependencies_are_compared_by_name() -> None:
    before = replace(
        REPORT,
        downloads=(
            _download("Torch==2.1"),
            _download("numpy", pinned=False),
            _download("gone==1"),
            _download("moved==1"),
            _download("git=1:2", tool="apt"),
        ),
    )
    after = replace(
        REPORT,
        downloads=(
            _download("torch[x]==2.2"),
            _download("torch"),
            _download("numpy==1", pinned=True),
            _download("moved==1", file="other"),
            _download("git", tool="apt", pinned=False),
            _download("https://h/a", tool="curl", pinned=False),
        ),
    )
    assert facts(before, after, "dependencies") == [
        ("", "apt git", "=1:2", "(not pinned)"),
        ("", "curl https://h/a", None, "(not pinned)"),
        ("", "pip gone", "==1", None),
        ("", "pip numpy", "(not pinned)", "==1"),
        ("", "pip torch", "==2.1", ", ==2.2"),
    ]


def test_base_images_are_compared_by_repository() -> None:
    images = [
        BaseImage(dockerfile="Dockerfile", line=line, reference=reference, digest="")
        for line, reference in enumerate(["h:5000/a/b:1", "h:5000/a/b:2", "c"], 1)
    ]
    before, after = replace(REPORT, base_images=(images[0],)), replace(REPORT, base_images=tuple(images[1:]))
    assert facts(before, after, "base_images") == [
        ("Dockerfile", "c", None, "c"),
        ("Dockerfile", "h:5000/a/b", "h:5000/a/b:1", "h:5000/a/b:2"),
    ]


def test_capabilities_needs_and_licences_are_compared() -> None:
    row = Capability(
        task_type="DpoTask", support=Support.YES, dockerfile="D", entrypoint="e.py", reason="it parses it"
    )
    text = LicenceText(file="LICENSE", normalised_sha256="1" * 64, recognised="Apache-2.0")
    after = replace(
        REPORT,
        capabilities=(row,),
        epochs=("E3", "E4"),
        needs=replace(REPORT.needs, redis=True, writable_paths=("/x",), minimum_rows=10),
        licence=replace(REPORT.licence, licence=text, vendored=(replace(text, file="v/L", recognised=""),)),
    )
    assert facts(REPORT, after, "capabilities") == [("", "DpoTask", None, "yes (D e.py): it parses it")]
    assert facts(REPORT, after, "needs") == [
        ("", "epochs", "E3", "E3 E4"),
        ("", "minimum rows", "unknown", "10"),
        ("", "redis", "no", "yes"),
        ("", "writable /x", None, "yes"),
    ]
    assert facts(REPORT, after, "licences") == [
        ("", "licence", None, f"Apache-2.0 {'1' * 64}"),
        ("v/L", "vendored licence", None, f"not recognised {'1' * 64}"),
    ]


def test_findings_are_matched_by_rule_file_and_text_not_by_line(diff) -> None:
    before = replace(REPORT, findings=(finding_of(line=1), finding_of(line=2), finding_of(found="gone")))
    after = replace(REPORT, findings=(finding_of(line=9), finding_of(found="new"), finding_of(file="b.py")))
    found = diff({"a": "a"}, {"a": "a"}, before=before, after=after)
    assert [(each.file, each.line, each.found) for each in found.findings_gone] == [
        ("a.py", 2, "exec(x)"),
        ("a.py", 1, "gone"),
    ]
    assert [(each.file, each.found) for each in found.findings_new] == [("a.py", "new"), ("b.py", "exec(x)")]
    assert found.findings_same == 1


# The written form


def test_a_diff_reads_back_as_it_was_written(diff) -> None:
    found = diff({"a.py": "x = 1\n", "b": "b"}, {"a.py": "x = 2\n", "c\u202e": "b"})
    assert parse_diff(encode_diff(found)) == found
    assert "Gradients.io (https://gradients.io)" in encode_diff(found).decode()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"version":1', b'"version":2'),
        (b'"version":1', b'"version":1 '),
        (b'"version":1', b'"version":1,"more":1'),
        (b'"version":1', b'"version":"1"'),
        (b'"findings_same":0', b'"findings_same":0.0'),
        (b"{", b"["),
    ],
)
def test_refuses_bytes_that_are_no_diff(diff, old: bytes, new: bytes) -> None:
    data = encode_diff(diff({"a": "a"}, {"a": "a"}))
    assert old in data
    with pytest.raises(ReportError, match="not a diff of champions"):
        parse_diff(data.replace(old, new, 1))


# Laws

_NAMES = st.sampled_from(["a.py", "b.py", "c.json", "d.yaml", "e.txt", "f/g.py", "f/h.bin"])
_TEXTS = st.lists(
    st.sampled_from(
        [
            *(
                "x = 1\n",
                "x = 2\n",
                "LR = {'a': 1e-4, 'b': [1, 2]}\n",
                "def f(a): return a\n",
                "def f(a, b=1): pass\n",
            ),
            *(
                "class C:\n    def g(self): pass\n",
                "p.add_argument('--lr', default=1)\n",
                '{"a": 1}\n',
                "a: 1\n",
            ),
            *(
                "<script>\n",
                "\x1b[2J\n",
                "(\n",
                "\0",
                "é\u202e\n",
                "",
                "[" * 300,
                "b: [1, {c: 2}]\n",
                "if 1:\n  y = -3\n",
            ),
        ]
    ),
    max_size=12,
).map("".join)
_TREES = st.dictionaries(_NAMES, _TEXTS, min_size=1, max_size=7)


def _reported(files: Mapping[str, str]) -> InspectionReport:
    return replace(
        REPORT,
        manifest_sha256=sha256(repr(sorted(files.items())).encode()).hexdigest(),
        findings=tuple(finding_of(file=name, found=text[:20]) for name, text in sorted(files.items())),
        downloads=tuple(_download(f"{name}=={len(text)}") for name, text in sorted(files.items())),
    )


@settings(max_examples=60, deadline=None)
@given(_TREES, _TREES)
def test_a_diff_and_its_reverse_mirror_each_other(old: Mapping[str, str], new: Mapping[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        trees = [write_tree(Path(folder) / name, files) for name, files in (("old", old), ("new", new))]
        reports = [_reported(old), _reported(new)]
        forth = compare(*trees, old=reports[0], new=reports[1])
        back = compare(*trees[::-1], old=reports[1], new=reports[0])
        assert swapped(forth) == replace(back, unread=forth.unread)
        assert {each.file for each in forth.unread} == {each.file for each in back.unread}
        assert parse_diff(encode_diff(forth)) == forth


@settings(max_examples=30, deadline=None)
@given(_TREES)
def test_a_champion_does_not_differ_from_itself(files: Mapping[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tree = write_tree(Path(folder) / "tree", files)
        found = compare(tree, tree, old=_reported(files), new=_reported(files))
    assert found.is_empty
    assert found.findings_same == len(files)


def test_is_empty_looks_at_every_list(diff) -> None:
    found = diff({"a": "a"}, {"a": "a"})
    assert found.is_empty
    lists = [field.name for field in fields(found) if isinstance(getattr(found, field.name), tuple)]
    assert len(lists) == 14
    for name in lists:
        assert not replace(found, **{name: (None,)}).is_empty, name
