"""Which images a Dockerfile starts from, and the same Dockerfile with digests in their place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tournament_sync.errors import BuildError
from tournament_sync.images.bases import ResolvedBase, pin_bases, read_bases
from tournament_sync.images.instructions import read_instructions

DIGEST = "sha256:" + "ab" * 32


def references(text: str) -> list[tuple[int, str]]:
    return [(base.line, base.reference) for base in read_bases(text, dockerfile="D")]


def pinned(text: str) -> str:
    resolved = tuple(
        ResolvedBase(
            dockerfile="D",
            line=base.line,
            reference=base.reference,
            pinned=f"{base.reference.split(':')[0]}@{DIGEST}",
        )
        for base in read_bases(text, dockerfile="D")
    )
    return pin_bases(text, resolved, dockerfile="D")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("FROM a/b:1\n", [(1, "a/b:1")]),
        ("# from x\n\nfrom a/b\nRUN true\n", [(3, "a/b")]),
        ("FROM --platform=linux/amd64 host.invalid:5000/a/b:1 AS one\n", [(1, "host.invalid:5000/a/b:1")]),
        (f"FROM a@{DIGEST}\n", [(1, f"a@{DIGEST}")]),
        ("ARG V=2\nARG I=a:${V}\nFROM $I\n", [(3, "a:2")]),
        ("FROM ${I:-a:3}\n", [(1, "a:3")]),
        ("FROM a AS one\nFROM one AS two\nFROM Two\n", [(1, "a")]),
        ("FROM scratch\nCOPY --from=b:1 /x /y\n", [(2, "b:1")]),
        (
            "FROM a AS one\nFROM b\nCOPY --chown=1 --from=one /x /y\nCOPY --from=0 /x /y\n",
            [(1, "a"), (2, "b")],
        ),
        ("FROM a\nCOPY --from=7 /x /y\n", [(1, "a"), (2, "7")]),
        ("FROM a\nCOPY --from=0 /x /y\n", [(1, "a"), (2, "0")]),
        ("FROM a AS one\nCOPY --from=one /x /y\n", [(1, "a"), (2, "one")]),
        ("FROM a\nARG B=b\nRUN echo FROM c --from=d\n", [(1, "a")]),
        ("# comment\nFROM \\\n  # comment\n  a\n", [(2, "a")]),
    ],
)
def test_finds_every_image_with_its_line(text: str, wanted: list[tuple[int, str]]) -> None:
    assert references(text) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM $NONE\n", "D:1: FROM '\\$NONE' needs an argument that has no value"),
        ("ARG I\nFROM $I\n", "D:2: '' does not name a base image"),
        ("FROM a b c d\n", "D:1: FROM 'a b c d' cannot be read"),
        ("FROM a\nCOPY --from=$I /x /y\n", "D:2: '\\$I' does not name a base image"),
        ("FROM a\nCOPY --from=a --from=b /x /y\n", "D:2: copies from more than one place"),
        ("FROM a\nCOPY --from= /x /y\n", "D:2: COPY '--from=' is refused"),
        ("FROM a\nCOPY --from /x /y\n", "D:2: '--from' does not name a base image"),
        ("FROM a\nCOPY --from=\u0661 /x /y\n", "D:2: COPY '--from=\u0661' is refused"),
        (
            "FROM a AS dir:/etc\nFROM b\nCOPY --from=dir:/etc /x /y\n",
            "D:1: FROM 'a AS dir:/etc' cannot be read",
        ),
        ("FROM a AS 1\n", "D:1: FROM 'a AS 1' cannot be read"),
        ('FROM a\nFROM ""\n', "D:2: '' does not name a base image"),
        ("FROM -a\n", "D:1: '-a' does not name a base image"),
        (f"FROM a@{DIGEST[:-1]}\n", "D:1: .* does not name a base image"),
        ("FROM a\n" * 101, "101 base images are over the limit of 100"),
        ("FROM a\nRUN cat <<E\nFROM b\nE\n", "D:2: builders read this in more than one way"),
        ("", "D: cannot be read: no instructions"),
        ("FORM a\n", "D: cannot be read: line 1: 'FORM' is no instruction"),
    ],
)
def test_refuses_what_cannot_be_said_exactly(text: str, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        read_bases(text, dockerfile="D")


@pytest.mark.parametrize(
    "reference", ["dir:/etc", "oci-archive:x", "docker://a", "containers-storage:a", "dir:x/y"]
)
def test_a_place_on_this_machine_is_no_base_image(reference: str) -> None:
    with pytest.raises(BuildError, match=f"D:1: '{reference}' does not name a base image"):
        read_bases(f"FROM {reference}\n", dockerfile="D")


@pytest.mark.parametrize(
    "reference", ["dir:/etc", "oci-archive:x", "docker://a", "containers-storage:a", "/etc", "./x", "a@b"]
)
def test_nothing_is_copied_from_a_place_on_this_machine(reference: str) -> None:
    with pytest.raises(BuildError, match=f"D:2: '{reference}' does not name a base image"):
        read_bases(f"FROM a\nCOPY --from={reference} /x /y\n", dockerfile="D")


def test_writes_digests_and_keeps_every_instruction_on_its_line() -> None:
    text = (
        "# comment\nARG V=1\nFROM --platform=linux/amd64 \\\n  a:$V \\\n  AS one\n\n"
        "FROM b:2\nCOPY --from=one /x /y\nCOPY --chown=1:1 --from=c:3 /x \\\n  /y\nRUN true\n"
    )
    assert pinned(text) == (
        "\nARG V=1\n"
        f"FROM --platform=linux/amd64 a@{DIGEST} AS one\n\n\n\n"
        f"FROM b@{DIGEST}\nCOPY --from=one /x /y\nCOPY --from=c@{DIGEST} --chown=1:1 /x   /y\n\nRUN true\n"
    )


def test_refuses_to_write_where_a_base_was_not_resolved() -> None:
    with pytest.raises(BuildError, match="cannot be written with digests: \\['a'\\]"):
        pin_bases("FROM a\n", (), dockerfile="D")


@given(st.text(alphabet="FROM COPYADRG-=$\\\"'{}abs:@/#<0\n \t`", max_size=120))
def test_any_text_is_either_read_or_refused(text: str) -> None:
    try:
        found = read_bases(text, dockerfile="D")
        again = pinned(text)
    except BuildError:
        return
    read, reread = (read_instructions(one, dockerfile="D") for one in (text, again))
    assert [(one.name, one.line) for one in read] == [(one.name, one.line) for one in reread]
    assert len(found) == again.count(DIGEST) or DIGEST in text
