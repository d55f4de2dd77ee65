"""What is odd about a file as a file: its kind, its place, its size and the characters in it.

Covered: machine code, bytecode, weights, archives, pointers to files elsewhere, files that Python runs unasked,
characters that hide what source says.
Not covered: what is inside an archive, and data that hides in a well-formed image.
"""

import re
from collections.abc import Iterator

from tournament_sync.inspection.kinds import PARSED_KINDS, SOURCE_KINDS, TEXT_KINDS, Kind
from tournament_sync.inspection.report import Finding
from tournament_sync.inspection.rules import finding
from tournament_sync.inspection.tree import MAX_READ_BYTES, TreeFile

MAX_SOURCE_BYTES = 2 << 20  # the longest generated Python in common libraries has 1 MB
MAX_LINE_BYTES = 4000

_POINTER = b"version https://git-lfs.github.com/spec/"
_RULES = {
    Kind.BINARY: "file-binary",
    Kind.WEIGHTS: "file-weights",
    Kind.ARCHIVE: "file-archive",
    Kind.OPAQUE: "file-opaque",
    Kind.NOTEBOOK: "file-notebook",
    Kind.SPECIAL: "file-special",
}
_KNOWN_HIDDEN = re.compile(
    r"\.(git(ignore|attributes|keep|modules)|github|gitlab(-ci\.yml)?|dockerignore|editorconfig|vscode|idea|flake8"
    r"|pre-commit-config\.yaml|pylintrc|python-version|coveragerc|mypy\.ini|ruff\.toml|env\.example|markdownlint.*"
    r"|readthedocs\.ya?ml|clang-format|isort\.cfg|style\.yapf|npmrc|prettierrc|circleci|travis\.yml|codespellrc)"
)
_BIDI_CHARS = "\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c"
_INVISIBLE_CHARS = (
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b\u200c\u2060-\u2064\u3164"
    "\ufeff\uffa0\U000e0000-\U000e007f"
)
_BIDI = re.compile(f"[{_BIDI_CHARS}]")
_INVISIBLE = re.compile(
    f"[{_INVISIBLE_CHARS}]|(?<![\u2190-\U0010ffff])\u200d"  # between two pictures it joins them into one
)
_MAY_HIDE = re.compile(
    f"[{_BIDI_CHARS}{_INVISIBLE_CHARS}\u200d]"
)  # looked for in what is no ASCII, which is little
_ASCII = bytes(range(0x80))
_UNSEEN_CONTROLS = bytes([*range(0x09), 0x0B, *range(0x0E, 0x20), 0x7F])


def inspect_file(file: TreeFile, kind: Kind) -> Iterator[Finding]:
    """What is odd about `file` as a file; what its code does is not looked at here."""
    if (rule := _rule_of_kind(file, kind)) is not None:
        size = "" if kind is Kind.SPECIAL else f", {file.size_bytes} bytes"
        yield finding(rule, file=file.path, line=0, found=f"{file.name}{size}")
    if kind is Kind.SPECIAL:
        return
    name = file.name
    if name in {"sitecustomize.py", "usercustomize.py"} or (kind is Kind.TEXT and file.suffix == ".pth"):
        yield finding("file-auto-run", file=file.path, line=0, found=name)
    if name == "conftest.py":
        yield finding("file-test-hook", file=file.path, line=0, found=name)
    if "/." in f"/{file.path}" and any(map(_is_hidden, file.path.split("/"))):
        yield finding("file-hidden", file=file.path, line=0, found=file.path)
    if file.is_executable and kind not in SOURCE_KINDS | {Kind.BINARY} and not file.data.startswith(b"#!"):
        yield finding("file-executable", file=file.path, line=0, found=name)
    if kind in TEXT_KINDS and not file.is_whole:
        yield finding(
            "file-unread", file=file.path, line=0, found=f"{file.size_bytes} bytes, over {MAX_READ_BYTES}"
        )
    if kind in SOURCE_KINDS:
        yield from _inspect_source(file)


def _is_hidden(part: str) -> bool:
    return part.startswith(".") and not _KNOWN_HIDDEN.fullmatch(part)


def _rule_of_kind(file: TreeFile, kind: Kind) -> str | None:
    if kind in TEXT_KINDS and file.data.startswith(_POINTER):
        return "file-lfs-pointer"
    if kind in PARSED_KINDS and file.size_bytes > MAX_SOURCE_BYTES:
        return "file-too-large"
    return _RULES.get(kind)


def _inspect_source(file: TreeFile) -> Iterator[Finding]:
    data = file.data
    if not data.isascii() and _MAY_HIDE.search(data.translate(None, _ASCII).decode(errors="replace")):
        yield from _hidden_characters(file.path, data.decode(errors="replace").removeprefix("\ufeff"))
    if len(data.translate(None, _UNSEEN_CONTROLS)) < len(data):  # ten times faster than to search for them
        start = min(at for byte in _UNSEEN_CONTROLS if (at := data.find(byte)) >= 0)
        line = data.count(b"\n", 0, start) + 1
        yield finding("source-invisible", file=file.path, line=line, found=f"byte 0x{data[start]:02x}")
    sizes = list(map(len, data.splitlines()))
    if max(sizes, default=0) > MAX_LINE_BYTES:  # one is enough to send a reader there
        line, size = next((line, size) for line, size in enumerate(sizes, 1) if size > MAX_LINE_BYTES)
        yield finding("source-long-line", file=file.path, line=line, found=f"{size} bytes in one line")


def _hidden_characters(path: str, text: str) -> Iterator[Finding]:
    for rule, pattern in (("source-bidi", _BIDI), ("source-invisible", _INVISIBLE)):
        if (first := pattern.search(text)) is None:
            continue
        found = f"U+{ord(first[0]):04X}, {len(pattern.findall(text))} such characters in the file"
        line = text.count("\n", 0, first.start()) + 1
        yield finding(rule, file=path, line=line, found=found)
