"""A diff as text and as HTML: whole, attributed, and safe whatever a champion wrote."""

from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from tests.tournament_sync.diff_trees import finding_of
from tournament_sync.diff.model import (
    DIFF_VERSION,
    ChampionDiff,
    Change,
    FileChange,
    FunctionChange,
    TextDiff,
    Unread,
    ValueChange,
)
from tournament_sync.diff.render import diff_html, diff_text

EMPTY = ChampionDiff(
    version=DIFF_VERSION,
    attribution="Gradients.io (https://gradients.io)",
    old_manifest_sha256="0" * 64,
    new_manifest_sha256="1" * 64,
    files=(),
    texts=(),
    functions=(),
    tables=(),
    arguments=(),
    dependencies=(),
    base_images=(),
    capabilities=(),
    needs=(),
    licences=(),
    findings_new=(),
    findings_gone=(),
    findings_same=3,
    unread=(),
    cut=(),
)
_SECTIONS = ("tables", "arguments", "dependencies", "base_images", "capabilities", "needs", "licences")


def full(word: str) -> ChampionDiff:
    """A diff in which everything that a champion can write is `word`."""
    value = (ValueChange(file=word, name=word, old=word, new=word),)
    file = FileChange(
        path=word,
        old_path=word,
        change=Change.RENAMED,
        old_sha256="0" * 64,
        new_sha256="0" * 64,
        old_is_executable=False,
        new_is_executable=True,
    )
    return replace(
        EMPTY,
        files=(file,),
        texts=(TextDiff(path=word, lines=(f"+{word}", f"-{word}", f" {word}", "@@ -1 +1 @@"), is_cut=True),),
        functions=(
            FunctionChange(
                file=word, name=word, change=Change.SIGNATURE, old_signature=word, new_signature=word
            ),
        ),
        findings_new=(finding_of(file=word, found=word),),
        findings_gone=(finding_of(rule=word, file="", line=0, found=word),),
        unread=(Unread(file=word, why=word),),
        cut=("files",),
        **dict.fromkeys(_SECTIONS, value),
    )


class _Reader(HTMLParser):
    """Collects what a browser would make of a fragment."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read_html(html: str) -> _Reader:
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


@pytest.mark.parametrize("render", [diff_text, diff_html])
def test_both_forms_name_where_champions_come_from(render: Callable[[ChampionDiff], str]) -> None:
    for diff in (EMPTY, full("x")):
        assert "Gradients.io (https://gradients.io)" in render(diff)


@pytest.mark.parametrize(
    "word",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "'><svg/onload=alert(1)>",
        "</pre></details></section><style>*{}</style>",
        "&lt;b&gt; &amp; &#60;",
        "<!-- -->",
        "]]>",
    ],
)
def test_what_a_champion_wrote_stays_text_in_html(word: str) -> None:
    reader = read_html(diff_html(full(word)))
    assert reader.tags == {
        *("section", "p", "code", "h3", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"),
        *("details", "summary", "pre", "span"),
    }
    assert reader.attributes == {"class"}
    assert reader.text.count(word) >= 4 * len(_SECTIONS) + 10


def test_html_has_nothing_that_a_strict_policy_forbids() -> None:
    html = diff_html(full("x"))
    assert html.startswith('<section class="champion-diff">') and html.endswith("</section>")
    for forbidden in ("<script", "<style", "<link", "<a ", "style=", "href=", "src=", "javascript:"):
        assert forbidden not in html


@pytest.mark.parametrize("render", [diff_text, diff_html])
def test_every_list_is_shown(render: Callable[[ChampionDiff], str]) -> None:
    for number, name in enumerate(_SECTIONS):
        value = ValueChange(file="", name=f"name{number}", old="before", new=None)
        shown = render(replace(EMPTY, **{name: (value,)}))
        assert all(word in shown for word in (f"name{number}", "before", "absent")), name
    everything = render(full("wörd"))
    for title in ("New findings", "Findings that are gone", "Functions", "Files", "executable now", "(cut)"):
        assert title in everything


def test_text_reads_as_it_should() -> None:
    diff = replace(
        EMPTY,
        files=(
            FileChange(
                path="new.py",
                old_path="",
                change=Change.ADDED,
                old_sha256=None,
                new_sha256="0" * 64,
                old_is_executable=None,
                new_is_executable=True,
            ),
            FileChange(
                path="run",
                old_path="",
                change=Change.MODE,
                old_sha256="0" * 64,
                new_sha256="0" * 64,
                old_is_executable=True,
                new_is_executable=False,
            ),
        ),
        texts=(TextDiff(path="a.py", lines=("@@ -1 +1 @@", "-x", "+y"), is_cut=False),),
        functions=(
            FunctionChange(
                file="a.py", name="f", change=Change.REMOVED, old_signature="def f()", new_signature=""
            ),
        ),
        dependencies=(ValueChange(file="", name="pip torch", old="==2.1", new=""),),
        findings_new=(finding_of(),),
        unread=(Unread(file="", why="too large"),),
    )
    assert diff_text(diff).splitlines() == [
        "Changes of a champion of Gradients.io (https://gradients.io)",
        f"from {'0' * 64}",
        f"to   {'1' * 64}",
        "! not compared: all files: too large",
        "",
        "New findings",
        "  high python-exec a.py:1: exec(x) (because)",
        "3 findings are the same",
        "",
        "Dependencies",
        '  pip torch: ==2.1 → ""',
        "",
        "Functions",
        "  a.py: f: removed",
        "",
        "Files",
        "  + new.py",
        "  ~ run (no longer executable)",
        "",
        "a.py",
        "  @@ -1 +1 @@",
        "  -x",
        "  +y",
    ]


def test_says_when_nothing_changed_and_only_then() -> None:
    assert "nothing changed" in diff_text(EMPTY)
    assert "Nothing changed" in diff_html(EMPTY)
    unread = replace(EMPTY, unread=(Unread(file="a", why="b"),))
    assert "nothing changed" not in (diff_text(unread) + diff_html(unread)).lower()
