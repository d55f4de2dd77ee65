"""A diff for people: text for a terminal, and a fragment of HTML for the console.

Every word of a champion is escaped when the diff is made, for control characters, and here again for HTML. The
fragment has classes only: no script, no style, no link to anywhere but what its attribution names as text.
"""

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from tournament_sync.diff.model import ChampionDiff, Change, FileChange, FunctionChange, ValueChange
from tournament_sync.inspection.report import Finding

_SECTIONS = (
    ("Dependencies", "dependencies"),
    ("Base images", "base_images"),
    ("Capabilities", "capabilities"),
    ("Needs", "needs"),
    ("Licences", "licences"),
    ("Arguments", "arguments"),
    ("Hyper-parameters and tables", "tables"),
)
_SIGNS = {Change.ADDED: "+", Change.REMOVED: "-"}


def diff_text(diff: ChampionDiff) -> str:
    """`diff` as lines of plain text, the facts first and the changed lines last."""
    return "\n".join(_text_lines(diff)) + "\n"


def diff_html(diff: ChampionDiff) -> str:
    """`diff` as one `<section>`, to be put into a page as it is."""
    return "".join(_html_parts(diff))


def _text_lines(diff: ChampionDiff) -> Iterator[str]:
    yield f"Changes of a champion of {diff.attribution}"
    yield f"from {diff.old_manifest_sha256}"
    yield f"to   {diff.new_manifest_sha256}"
    if diff.is_empty:
        yield "nothing changed"
    for line in _warnings(diff):
        yield f"! {line}"
    yield from _titled("New findings", [_finding(finding) for finding in diff.findings_new])
    yield from _titled("Findings that are gone", [_finding(finding) for finding in diff.findings_gone])
    yield f"{diff.findings_same} findings are the same"
    for title, name in _SECTIONS:
        yield from _titled(title, [_value(change) for change in getattr(diff, name)])
    yield from _titled("Functions", [_function(change) for change in diff.functions])
    yield from _titled("Files", [_file(change) for change in diff.files])
    for text in diff.texts:
        yield from _titled(f"{text.path}{' (cut)' if text.is_cut else ''}", text.lines)


def _titled(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield ""
        yield title
        yield from (f"  {line}" for line in lines)


def _warnings(diff: ChampionDiff) -> Iterator[str]:
    yield from (f"not compared: {part.file or 'all files'}: {part.why}" for part in diff.unread)
    yield from (f"too many to list: {name.replace('_', ' ')}" for name in diff.cut)


def _finding(finding: Finding) -> str:
    return f"{finding.severity.value} {finding.rule} {_place(finding)}: {finding.found} ({finding.why})"


def _place(finding: Finding) -> str:
    return f"{finding.file or 'whole tree'}{f':{finding.line}' if finding.line else ''}"


def _value(change: ValueChange) -> str:
    name = f"{change.file}: {change.name}" if change.file else change.name
    return f"{name}: {_shown(change.old)} → {_shown(change.new)}"


def _shown(value: str | None) -> str:
    if value is None:
        return "absent"
    return value or '""'


def _function(change: FunctionChange) -> str:
    place = f"{change.file}: {change.name}"
    if change.change is Change.SIGNATURE:
        return f"{place}: {change.old_signature} → {change.new_signature}"
    return f"{place}: {change.change.value}"


def _file(change: FileChange) -> str:
    sign = _SIGNS.get(change.change, "~")
    name = f"{change.old_path} → {change.path}" if change.change is Change.RENAMED else change.path
    return f"{sign} {name}{_mode(change)}"


def _mode(change: FileChange) -> str:
    if change.old_is_executable is None or change.old_is_executable == change.new_is_executable:
        return ""
    if change.new_is_executable is None:
        return ""
    return " (executable now)" if change.new_is_executable else " (no longer executable)"


def _html_parts(diff: ChampionDiff) -> Iterator[str]:
    yield '<section class="champion-diff">'
    yield f'<p class="attribution">Champions of {escape(diff.attribution)}</p>'
    yield f"<p>From <code>{escape(diff.old_manifest_sha256)}</code>"
    yield f" to <code>{escape(diff.new_manifest_sha256)}</code></p>"
    if diff.is_empty:
        yield "<p>Nothing changed.</p>"
    yield from _list("Not compared", list(_warnings(diff)), "warning")
    yield from _findings("New findings", diff.findings_new)
    yield from _findings("Findings that are gone", diff.findings_gone)
    yield f"<p>{diff.findings_same} findings are the same.</p>"
    for title, name in _SECTIONS:
        yield from _value_table(title, getattr(diff, name))
    yield from _list("Functions", [_function(change) for change in diff.functions], "function")
    yield from _list("Files", [_file(change) for change in diff.files], "file")
    for text in diff.texts:
        yield f'<details class="text-diff"><summary>{escape(text.path)}'
        yield f"{' (cut)' if text.is_cut else ''}</summary><pre>"
        yield from (f'<span class="{_line_class(line)}">{escape(line)}</span>\n' for line in text.lines)
        yield "</pre></details>"
    yield "</section>"


def _list(title: str, items: Iterable[str], name: str) -> Iterator[str]:
    listed = [f'<li class="{name}">{escape(item)}</li>' for item in items]
    if listed:
        yield f"<h3>{title}</h3><ul>{''.join(listed)}</ul>"


def _findings(title: str, findings: Sequence[Finding]) -> Iterator[str]:
    if not findings:
        return
    yield f"<h3>{title}</h3><table><thead><tr><th>Severity</th><th>Rule</th><th>Where</th><th>Found</th>"
    yield "<th>Why it matters</th></tr></thead><tbody>"
    for finding in findings:
        cells = (finding.severity.value, finding.rule, _place(finding), finding.found, finding.why)
        yield f'<tr class="severity-{finding.severity.value}">'
        yield "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        yield "</tr>"
    yield "</tbody></table>"


def _value_table(title: str, changes: Sequence[ValueChange]) -> Iterator[str]:
    if not changes:
        return
    yield f"<h3>{title}</h3><table><thead><tr><th>File</th><th>Name</th><th>Old</th><th>New</th></tr></thead>"
    yield "<tbody>"
    for change in changes:
        cells = (change.file, change.name, _shown(change.old), _shown(change.new))
        yield f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
    yield "</tbody></table>"


def _line_class(line: str) -> str:
    return {"+": "added", "-": "removed", "@": "place"}.get(line[:1], "same")
