"""What a Dockerfile may ask of a builder, and the plain form in which podman gets it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tournament_sync.errors import BuildError
from tournament_sync.images.instructions import check_stays_local, read_instructions, write_instructions


def written(text: str) -> str:
    return write_instructions(read_instructions(text, dockerfile="D"), dockerfile="D")


@pytest.mark.parametrize(
    "options",
    [
        "type=bind,from=s,source=/lnk,target=/host,rw",  # CVE-2024-1753
        'type=bind,"from=s",target=/host',
        "type=bind,rw,source=.,target=/ctx",
        "type=cache,id=pip,target=/c",
        "type=cache,target=/c,source=../../etc",  # CVE-2024-9675
        "type=bind,target=/c,bind-propagation=rshared",  # CVE-2024-9407
        "type=secret,id=a",
        "type=ssh",
        "type=tmpfs,target=/x",
        "target=/x",
        "$MOUNT",
    ],
)
@pytest.mark.parametrize("written_as", ["RUN --mount={}", "run --mount={}", "RUN --network=none --mount={}"])
def test_refuses_every_mount(options: str, written_as: str) -> None:
    text = f"FROM scratch AS s\nFROM scratch\n{written_as.format(options)} true\n"
    with pytest.raises(BuildError, match=r"^D:3: RUN '--(mount|network)=.* is refused: "):
        read_instructions(text, dockerfile="D")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("RUN --mount=type=tmpfs,target=/x true", "RUN '--mount=.* mounts reach files outside of the image"),
        ("RUN --network=host true", "RUN '--network=host' is refused: what a build may reach"),
        ("RUN --security=insecure true", "RUN '--security=insecure' is refused: what a build may do"),
        ("RUN --device=/dev/kmsg true", "RUN '--device=/dev/kmsg' is refused: a build gets no devices"),
        ("RUN --new=1 true", "RUN '--new=1' is refused: no flag of this kind is known to be harmless"),
        ("RUN --Mount=type=bind true", "RUN '--Mount=type=bind true' is refused: a flag that cannot be read"),
        ("RUN --mount2=x true", "RUN '--mount2=x true' is refused: a flag that cannot be read"),
        ("RUN -\\\n-mou\\\n# comment\n\nnt=type=bind true", "RUN '--mount=type=bind' is refused"),
        ("RUN \\\n  --mount=type=bind true", "RUN '--mount=type=bind' is refused"),
        ("CMD --mount=x true", "CMD '--mount=x' is refused"),
        ("ADD --from=b /x /y", "ADD '--from=b' is refused"),
        ("ADD --keep-git-dir=true https://a/b.git /y", "ADD '--keep-git-dir=true' is refused"),
        ("ADD --unpack=true /x /y", "ADD '--unpack=true' is refused"),
        ("COPY --parents /x /y", "COPY '--parents' is refused"),
        ('COPY --chown="1 --from=b" /x /y', "COPY '--chown=\"1' is refused"),
        ("COPY --chown=1\\ --from=b /x /y", "COPY '--chown=1\\\\\\\\' is refused"),
        ("FROM --from=x a", "FROM '--from=x' is refused"),
        ("ONBUILD RUN --mount=type=bind,target=/x true", "ONBUILD is refused: what it triggers"),
        ("onbuild copy a b", "ONBUILD is refused"),
    ],
)
def test_refuses_what_reaches_out_of_the_build(line: str, message: str) -> None:
    with pytest.raises(BuildError, match=f"^D:2: {message}"):
        read_instructions(f"FROM scratch\n{line}\n", dockerfile="D")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# syntax=evil/frontend\nFROM a\n", "D:1: directive syntax='evil/frontend' is refused"),
        ("#SYNTAX = docker/dockerfile:1-labs\nFROM a\n", "D:1: directive syntax='docker/dockerfile:1-labs'"),
        ("# escape=\\\n# syntax=evil\nFROM a\n", "D:2: directive syntax='evil' is refused"),
        ("# escape=`\nFROM a\n", "D:1: directive escape='`' is refused"),
    ],
)
def test_refuses_directives_that_choose_the_reader(text: str, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        read_instructions(text, dockerfile="D")


@pytest.mark.parametrize(
    ("word", "end"),
    [*((word, "E\n") for word in ("<<E", "<<-E", "3<<E", '<<"E"')), ('<<E""', ""), ('<<""E', "")],
)
def test_refuses_what_may_be_a_here_document(word: str, end: str) -> None:
    with pytest.raises(BuildError, match="D:2: builders read this in more than one way"):
        read_instructions(f"FROM a\nRUN cat {word}\n{end}", dockerfile="D")


@pytest.mark.parametrize(
    "line",
    [
        "RUN cat <<< word && echo $((1<<2))",
        "RUN make --mount=x",
        'RUN ["/bin/x", "--mount=type=bind"]',
        "COPY --chown=$USER:${GROUP} --chmod=0755 --link a b",
        "COPY --from=0 a b",
        "ADD --checksum=sha256:ab --chown=1:1 a.tar b",
        "HEALTHCHECK --interval=5m --timeout=3s CMD true",
        "ENV A=--mount",
    ],
)
def test_takes_what_stays_inside(line: str) -> None:
    text = f"FROM --platform=$BUILDPLATFORM a\n{line}\n"
    assert written(text) == text


def test_podman_gets_one_line_for_each_instruction_and_nothing_else() -> None:
    text = "# platform=x\n# escape=`\nfrom a\nRUN echo \\\n  # comment\n\nRUN --mount=x\r\n\n CMD x\n"
    assert written(text) == "\n\nFROM a\nRUN echo RUN --mount=x\n\n\n\n\nCMD x\n"


@pytest.mark.parametrize("text", ["RUN a \\ \\\n", "RUN a \\\x85\nRUN b"])
def test_refuses_what_may_go_on_in_the_next_line(text: str) -> None:
    with pytest.raises(BuildError, match="D:2: builders read this in more than one way"):
        written(f"FROM a\n{text}\n")


@pytest.mark.parametrize("value", ["x \\", "--mount=x", "x\nRUN y", ""])
def test_refuses_to_write_what_would_be_read_otherwise(value: str) -> None:
    base, command, last = read_instructions("FROM a\nRUN x\nCMD y\n", dockerfile="D")
    with pytest.raises(BuildError, match=r"^D"):
        write_instructions((base, replace(command, value=value), last), dockerfile="D")


@pytest.mark.parametrize(
    "value", ["https://a.invalid/x /y", "git@a:b/c /y", "$URL /y", "a.git /y", '["http://a", "/y"]']
)
def test_without_a_network_podman_fetches_nothing_either(value: str) -> None:
    instructions = read_instructions(f"FROM a\nADD x.tar /y\nADD {value}\n", dockerfile="D")
    with pytest.raises(BuildError, match=r"D:3: ADD .* may fetch, and this build has no network"):
        check_stays_local(instructions, dockerfile="D")
    check_stays_local(instructions[:2], dockerfile="D")


@given(st.text(alphabet="RUNCOPY-=mountfrm\\\"'<E# \t\r\n`\x0b\x85", max_size=80))
def test_what_is_written_has_no_flag_that_was_not_read(rest: str) -> None:
    try:
        text = written(f"FROM a\nRUN {rest}")
    except BuildError:
        return
    for line in text.split("\n"):
        assert not line.startswith("RUN --")
        assert not line.rstrip().endswith("\\")
