"""Dockerfiles of champions: what they build on, fetch, copy and start; and files that builders read differently."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tournament_sync.inspection import dockerfiles
from tournament_sync.inspection.dockerfile_syntax import (
    INSTRUCTIONS,
    MAX_DOCKERFILE_BYTES,
    MAX_INSTRUCTIONS,
    MAX_LINE_BYTES,
    UnreadableDockerfileError,
    parse_dockerfile,
)
from tournament_sync.inspection.dockerfile_words import MAX_VALUE_CHARS, split_pairs, split_words, string_list
from tournament_sync.inspection.dockerfiles import (
    DockerfileFacts,
    dockerfile_facts,
    is_dockerfile,
    path_in_tree,
    read_dockerfiles,
)
from tournament_sync.inspection.report import Phase, Severity
from tournament_sync.inspection.rules import RULES

TEXT = "dockerfiles/standalone-text-trainer.dockerfile"
DIGEST = "sha256:" + "0123456789abcdef" * 4
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FROM = f"FROM base@{DIGEST}\n"
FILES = ("scripts/entrypoint.sh", "scripts/text_trainer.py", "scripts/requirements.txt", "core/a.py")

# Shaped like the Dockerfiles of text champions.
CHAMPION = r"""FROM runpod/pytorch:2.4.0-py3.11-cuda12.4.1-devel-ubuntu22.04

# System dependencies
RUN apt-get update && apt-get install -y \
    vim \
    redis-server \
    && rm -rf /var/lib/apt/lists/*
RUN mkdir -p /workspace/scripts/datasets
WORKDIR /workspace/scripts
COPY scripts /workspace/scripts
RUN chmod +x /workspace/scripts/entrypoint.sh
RUN bash -c "source /workspace/axo_py/bin/activate && \
    pip install uv && \
    # in between

    uv pip install --no-build-isolation axolotl==0.9.1 && \
    deactivate"
RUN pip install torch==2.7.1 --index-url https://download.example/whl && \
    uv pip install -r /workspace/scripts/requirements.txt --system && \
    pip install "fiber @ git+https://github.com/rayonlabs/fiber.git@2.4.0"
ENTRYPOINT ["./entrypoint.sh"]
"""


def read(
    text: str | bytes, *, path: str = TEXT, names: Iterable[str] = FILES, **files: str
) -> DockerfileFacts:
    data = text.encode() if isinstance(text, str) else text
    others = {
        name.replace("__", "/").replace("_txt", ".txt"): content.encode() for name, content in files.items()
    }
    return dockerfile_facts({path: data, **others}, names={path, *names, *others})


def rules(text: str | bytes) -> set[str]:
    return {found.rule for found in read(text).findings} - {"docker-no-entrypoint"}


def lines(text: str, rule: str) -> list[int]:
    return [found.line for found in read(text).findings if found.rule == rule]


def unreadable(text: str | bytes) -> str:
    (found,) = read(text, path="Dockerfile").findings
    assert (found.rule, found.severity) == ("docker-unparsable", Severity.CRITICAL)
    return found.found


# A champion's Dockerfile


def test_reads_a_champions_dockerfile() -> None:
    facts = read(CHAMPION, scripts__requirements_txt="torch==2.7.1\nnumpy  # any\n\n-e .\n--hash=x\n")
    assert [(image.reference, image.digest, image.line) for image in facts.base_images] == [
        ("runpod/pytorch:2.4.0-py3.11-cuda12.4.1-devel-ubuntu22.04", "", 1)
    ]
    assert [(each.file, each.line, each.tool, each.target, each.pinned) for each in facts.downloads] == [
        (TEXT, 4, "apt", "vim", False),
        (TEXT, 4, "apt", "redis-server", False),
        (TEXT, 13, "pip", "uv", False),
        (TEXT, 16, "pip", "axolotl==0.9.1", True),
        (TEXT, 18, "pip", "torch==2.7.1", True),
        (TEXT, 19, "pip", "-r /workspace/scripts/requirements.txt", False),
        (TEXT, 20, "pip", "fiber @ git+https://github.com/rayonlabs/fiber.git@2.4.0", False),
        ("scripts/requirements.txt", 1, "pip", "torch==2.7.1", True),
        ("scripts/requirements.txt", 2, "pip", "numpy", False),
    ]
    assert {each.phase for each in facts.downloads} == {Phase.BUILD}
    assert facts.entrypoints == {TEXT: ("./entrypoint.sh",)}
    assert facts.entry_files == {TEXT: "scripts/entrypoint.sh"}
    assert facts.workdirs == {TEXT: "/workspace/scripts"}
    assert not facts.needs_redis
    assert {found.rule for found in facts.findings} == {
        "docker-unpinned-base",
        "shell-other-index",
        "shell-unpinned-download",
        "shell-unpinned-system",
    }


def test_reads_from_a_tree_and_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "dockerfiles").mkdir()
    (tmp_path / "scripts").mkdir()
    (tmp_path / TEXT).write_text(f"{FROM}COPY scripts /s\nRUN pip install -r /s/r.txt\nENTRYPOINT ['x']\n")
    (tmp_path / "scripts/r.txt").write_text("a==1\n")
    (tmp_path / "Dockerfile").symlink_to(tmp_path / TEXT)
    facts = read_dockerfiles(tmp_path)
    assert list(facts.entrypoints) == [TEXT]
    assert ("scripts/r.txt", "a==1") in [(each.file, each.target) for each in facts.downloads]


def test_reads_the_contracts_folders_first_and_tells_which_file_is_not_used() -> None:
    names = [TEXT, "ops/docker/standalone-text-trainer.dockerfile", "a/Dockerfile"]
    facts = dockerfile_facts({name: f'{FROM}ENTRYPOINT ["x"]\n'.encode() for name in names}, names=set(names))
    assert list(facts.entrypoints) == [names[1], names[0], names[2]]
    assert [(found.rule, found.file) for found in facts.findings] == [("docker-shadowed", TEXT)]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("Dockerfile", True),
        ("a/dockerfile.gpu", True),
        ("a/b.Dockerfile", True),
        ("Containerfile", True),
        ("docker/a.py", False),
        ("mydockerfile", False),
    ],
)
def test_knows_dockerfiles_by_their_names(path: str, expected: bool) -> None:
    assert is_dockerfile(path) is expected


def test_reads_only_so_many_dockerfiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dockerfiles, "MAX_DOCKERFILES", 1)
    facts = dockerfile_facts({"Dockerfile": FROM.encode(), "z/Dockerfile": FROM.encode()}, names=())
    (found,) = facts.findings
    assert (found.rule, found.file, found.found) == (
        "docker-unparsable",
        "z/Dockerfile",
        "more than 1 Dockerfiles",
    )


# Base images


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM a", [("a", "docker-latest-base")]),
        ("FROM a:latest", [("a:latest", "docker-latest-base")]),
        ("FROM h:5000/a/b", [("h:5000/a/b", "docker-latest-base")]),
        ("FROM h:5000/a:1 AS x", [("h:5000/a:1", "docker-unpinned-base")]),
        (f"FROM a:latest@{DIGEST}", [(f"a:latest@{DIGEST}", "")]),
        ("FROM a@sha256:123", [("a@sha256:123", "docker-latest-base")]),
        ("FROM --platform=linux/amd64 a:1", [("a:1", "docker-unpinned-base")]),
        ("FROM scratch", []),
        ("ARG V=1\nFROM a:$V", [("a:1", "docker-unpinned-base")]),
        ("ARG V=1\nFROM a:${V:-2}${W:-3}${V:+4}", [("a:134", "docker-unpinned-base")]),
        ("ARG D\nFROM a:${D:-1}", [("a:1", "docker-unpinned-base")]),
        ("FROM a:1 AS B\nFROM b", [("a:1", "docker-unpinned-base")]),
        (FROM + "COPY --from=b:2 /x /y", [(f"base@{DIGEST}", ""), ("b:2", "docker-unpinned-base")]),
        (FROM + "COPY --from=0 /x /y", [(f"base@{DIGEST}", "")]),
        (f"FROM a@{DIGEST} AS s\nFROM scratch\nCOPY --from=S /x /y", [(f"a@{DIGEST}", "")]),
        (
            FROM + "RUN --mount=type=bind,from=c:3,target=/x ls",
            [(f"base@{DIGEST}", ""), ("c:3", "docker-unpinned-base")],
        ),
    ],
)
def test_tells_base_images_and_what_does_not_pin_them(text: str, expected: list[tuple[str, str]]) -> None:
    facts = read(text)
    assert [image.reference for image in facts.base_images] == [reference for reference, _ in expected]
    told = {found.found: found.rule for found in facts.findings if found.rule.endswith("-base")}
    assert told == {reference: rule for reference, rule in expected if rule}


def test_a_base_with_a_digest_carries_it() -> None:
    assert read(FROM).base_images[0].digest == DIGEST


def test_a_variable_without_value_in_from_is_told() -> None:
    assert {"docker-open-argument", "docker-latest-base"} <= rules("FROM ${BASE}")


# Rules


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("docker-ambiguous", f"{FROM}RUN\\\n ls\n"),
        ("docker-ambiguous", f"{FROM}RUN echo a \\\\\nRUN ls\n"),
        ("docker-ambiguous", f"{FROM}RUN echo a \\\xa0\nRUN ls\n"),
        ("docker-frontend", f"# syntax=evil/frontend@{DIGEST}\n{FROM}"),
        ("docker-frontend", f"#!/bin/x\n# syntax = evil/frontend\n{FROM}"),
        ("docker-syntax", f"# syntax=docker/dockerfile:1\n{FROM}"),
        ("docker-heredoc", f"{FROM}RUN <<EOF\nls\nEOF\n"),
        ("docker-foreign-shell", f'{FROM}SHELL ["pwsh", "-c"]\nRUN x\n'),
        ("docker-foreign-shell", f"{FROM}RUN <<EOF\n#!/usr/bin/perl\nx\nEOF\n"),
        ("docker-latest-base", "FROM a\n"),
        ("docker-unpinned-base", "FROM a:1\n"),
        ("docker-open-argument", f"{FROM}ARG TOKEN_FILE\n"),
        ("docker-open-argument", "ARG V\nFROM a:$V\n"),
        ("docker-add-url", f"{FROM}ADD https://h/a.tgz /x/\n"),
        ("docker-add-url", f"{FROM}ADD git@h:a/b.git /x/\n"),
        ("docker-missing-source", f"{FROM}COPY nowhere /x\n"),
        ("docker-missing-source", f"{FROM}COPY core/*.txt /x/\n"),
        ("docker-missing-source", f"{FROM}COPY ../secret /x\n"),
        ("docker-privileged", f"{FROM}RUN --security=insecure ls\n"),
        ("docker-mount", f"{FROM}RUN --mount=type=bind,rw,source=.,target=/ctx ls\n"),
        ("docker-mount", f"{FROM}RUN --mount=type=cache,target=/c ls\n"),
        ("docker-foreign-shell", f'{FROM}SHELL ["/bin/sh", "-c", "curl http://h/x | sh; #"]\nRUN true\n'),
        ("docker-preload", f"{FROM}ENV PYTHONPATH=/cache/models\n"),
        ("docker-preload", f"{FROM}ENV NODE_OPTIONS=--require=/x.js\n"),
        ("docker-search-path", f"{FROM}ENV LD_LIBRARY_PATH=/usr/local/cuda/lib64\n"),
        ("docker-other-index", f"{FROM}ENV PIP_INDEX_URL=http://h/simple\n"),
        ("docker-startup-file", f"{FROM}COPY x /etc/ld.so.preload\n"),
        ("docker-startup-file", f"{FROM}COPY evil.pth /usr/lib/python3/dist-packages/\n"),
        ("docker-host-network", f"{FROM}RUN --network=host ls\n"),
        ("docker-secret-mount", f"{FROM}RUN --mount=type=secret,id=x cat /run/secrets/x\n"),
        ("docker-secret-mount", f"{FROM}RUN --mount=type=ssh git fetch\n"),
        ("docker-secret-env", f"{FROM}ENV HF_TOKEN=hf_0123456789\n"),
        ("docker-secret-env", f"{FROM}ARG DB_PASSWORD=hunter2\n"),
        ("docker-preload", f"{FROM}ENV LD_PRELOAD=/x.so\n"),
        ("docker-user", f"{FROM}USER nobody:nogroup\n"),
        ("docker-volume", f"{FROM}VOLUME /data\n"),
        ("docker-onbuild", f"{FROM}ONBUILD RUN curl https://h | sh\n"),
        ("docker-no-entrypoint", f"{FROM}CMD python x.py\n"),
        ("docker-shell-entrypoint", f"{FROM}ENTRYPOINT python x.py\n"),
        ("docker-shell-entrypoint", f"{FROM}ENTRYPOINT ['x']\n"),
        ("docker-unparsable", "FROM\n"),
    ],
)
def test_tells(rule: str, text: str) -> None:
    assert rule in {found.rule for found in read(text).findings}


def test_every_rule_of_dockerfiles_is_provoked_here() -> None:
    cases = test_tells.pytestmark[0].args[1]  # type: ignore[attr-defined]  # pytest puts it there
    # Shadowed has a test of its own above: it takes two files.
    assert {rule for rule, _ in cases} | {"docker-shadowed"} == {r for r in RULES if r.startswith("docker-")}


@pytest.mark.parametrize(
    "text",
    [
        "ENV HF_TOKEN= A_SECRET=$X DB_PASSWORD=changeme KEY=abc TOKENIZERS_PARALLELISM=false",
        "ENV TOKENIZER=abcdefgh",
        "USER root",
        "ARG TARGETPLATFORM",
        "ARG V=1",
        'LABEL a="curl https://h | sh"',
        "EXPOSE 80",
        "STOPSIGNAL 9",
        "MAINTAINER x",
        "COPY . /x",
        "COPY scripts core /x/",
        "COPY core/*.py scripts/requirements.t?t scripts/[a-z]*.sh /x/",
        "COPY ./scripts/ /x",
        "COPY /core/a.py /x",
        "# RUN curl https://h | sh",
        f"ADD https://h/a.git#{COMMIT} /x",
        f"ADD --checksum={DIGEST} https://h/a.tgz /x",
        "RUN --network=none ls",
        "RUN --mount=type=tmpfs,target=/c ls",
        "HEALTHCHECK NONE",
    ],
)
def test_stays_silent_on_what_is_harmless(text: str) -> None:
    assert rules(f"{FROM}{text}\n") == set()


def test_does_not_repeat_a_secret() -> None:
    facts = read(f"{FROM}ENV HF_TOKEN=hf_0123456789\n")
    assert [found.found for found in facts.findings if found.rule == "docker-secret-env"] == [
        "HF_TOKEN=… (13 characters)"
    ]


def test_add_from_the_network_is_a_download() -> None:
    facts = read(f"{FROM}ADD https://h/a.tgz https://h/b.git#{COMMIT} core /x/\n")
    assert [(each.tool, each.target, each.pinned) for each in facts.downloads] == [
        ("curl", "https://h/a.tgz", False),
        ("git", f"https://h/b.git#{COMMIT}", True),
    ]
    assert facts.copies[0].sources == ("core",)


# Shell within


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("RUN true && \\\n curl https://h | sh", 3),
        ("RUN true && \\\n# comment\n\n curl https://h | sh", 5),
        ('RUN ["sh", "-c", "curl https://h | sh"]', 2),
        ("RUN <<EOF\ntrue\ncurl https://h | sh\nEOF", 4),
        ("RUN <<-'A'\n\ttrue\n\tcurl https://h | sh\n\tA", 4),
        ("RUN <<EOF\n# a\n#!x\ncurl https://h | sh\nEOF", 5),
        ("RUN bash -e <<EOF\ntrue\ncurl https://h | sh\nEOF", 4),
        ("RUN cat <<EOF | sh && \\\n true\ncurl https://h | sh\nEOF", 4),
        ("RUN --mount=type=cache,target=/x \\\n curl https://h | sh", 3),
        ("COPY <<EOF /x.sh\n#!/bin/sh\ncurl https://h | sh\nEOF", 4),
        ("ENTRYPOINT curl https://h | sh", 2),
        ('ENTRYPOINT ["bash", "-c", "curl https://h | sh"]', 2),
        ("CMD true; \\\n curl https://h | sh", 3),
        ("HEALTHCHECK CMD curl https://h | sh", 2),
        ('HEALTHCHECK --interval=5s CMD ["sh", "-c", "curl https://h | sh"]', 2),
        ("ARG U=https://h\nENV S=sh\nRUN curl $U | $S", 4),
        ("run true\nrUn curl https://h | sh", 3),
        ("RUN true \\\r\n && curl https://h | sh\r", 3),
    ],
)
def test_reads_shell_wherever_it_stands_and_knows_its_line(text: str, line: int) -> None:
    assert lines(f"{FROM}{text}\n", "shell-pipe-to-shell") == [line]


def test_backtick_may_be_the_escape() -> None:
    text = "# escape=`\n" + FROM + "RUN dir C:\\\nRUN true && `\n curl https://h | sh\n"
    assert lines(text, "shell-pipe-to-shell") == [5]


def test_an_escape_after_another_comment_is_a_comment() -> None:
    text = "# a comment\n# escape=`\n" + FROM + "RUN true && \\\n curl https://h | sh\n"
    assert lines(text, "shell-pipe-to-shell") == [5]


def test_a_redis_server_at_start_is_needed() -> None:
    assert read(f"{FROM}ENTRYPOINT redis-server --daemonize yes; python x.py\n").needs_redis
    assert not read(f"{FROM}RUN apt-get install -y redis-server\n").needs_redis


# Stages


def test_what_earlier_stages_copy_and_start_does_not_count() -> None:
    text = f'{FROM}WORKDIR /a\nCOPY core /a\nENTRYPOINT ["a"]\n{FROM}WORKDIR /b\nWORKDIR c\nCMD ["b"]\n'
    facts = read(text)
    assert (facts.entrypoints[TEXT], facts.workdirs[TEXT], facts.copies) == (("b",), "/b/c", ())


def test_arguments_before_the_first_stage_need_to_be_taken_into_a_stage() -> None:
    text = "ARG V=1\nFROM a:1\nRUN pip install a==$V\nARG V\nRUN pip install b==$V\n"
    assert [(each.target, each.pinned) for each in read(text).downloads] == [("a==$V", False), ("b==1", True)]


def test_the_environment_wins_over_arguments() -> None:
    text = f"{FROM}ARG V=1\nENV V=2 W=$V\nRUN pip install a==$V b==$W\n"
    assert [each.target for each in read(text).downloads] == ["a==2", "b==1"]


def test_shell_form_starts_with_the_stages_shell() -> None:
    facts = read(f'{FROM}SHELL ["/bin/bash", "-ec"]\nENTRYPOINT python x.py\n')
    assert facts.entrypoints[TEXT] == ("/bin/bash", "-ec", "python x.py")


# Files in the image


@pytest.mark.parametrize(
    ("copy", "path", "expected"),
    [
        ("COPY . /w", "/w/core/a.py", "core/a.py"),
        ("COPY core /w", "/w/a.py", "core/a.py"),
        ("COPY core /w/", "a.py", "core/a.py"),
        ("COPY core/a.py /x.py", "/x.py", "core/a.py"),
        ("COPY core/a.py /w/", "/w/a.py", "core/a.py"),
        ("COPY core/*.py /w/", "/w/a.py", "core/a.py"),
        ('COPY ["core/a.py", "/w/"]', "a.py", "core/a.py"),
        ("COPY core /elsewhere", "/w/a.py", ""),
        ("COPY core /w", "/w/../../etc/passwd", ""),
        ("COPY scripts /w\nCOPY core/a.py /w/text_trainer.py", "/w/text_trainer.py", "core/a.py"),
    ],
)
def test_finds_the_file_of_the_tree_at_a_place_in_the_image(copy: str, path: str, expected: str) -> None:
    facts = read(f"{FROM}WORKDIR /w\n{copy}\n")
    names = {*FILES, "scripts/", "core/"}
    assert path_in_tree(path, facts.copies, names=names, workdir="/w") == expected


def test_finds_the_module_that_python_starts() -> None:
    text = f'{FROM}WORKDIR /w\nCOPY scripts /w\nENTRYPOINT ["python", "-m", "text_trainer"]\n'
    assert read(text).entry_files[TEXT] == "scripts/text_trainer.py"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("core/*", True),
        ("c*e/?.py", True),
        ("*", True),
        ("*.py", False),
        ("core/*.p", False),
        ("*/*/*", False),
    ],
)
def test_no_wildcard_crosses_a_slash(pattern: str, expected: bool) -> None:
    assert ("docker-missing-source" not in rules(f"{FROM}COPY {pattern} /x/\n")) is expected


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    name = "a" * 200
    facts = read(f"{FROM}COPY {'*a' * 100}b /x/\n", names=(name,))
    assert "docker-missing-source" in {found.rule for found in facts.findings}


# Words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a 'b c' \"d e\" f\\ g", ["a", "b c", "d e", "f g"]),
        ("$V ${V} '$V' \"$V\" \\$V", ["v", "v", "$V", "v", "$V"]),
        ("${N:-d}${V:-d} ${N-d} ${V:+s}${N:+s}", ["dv", "d", "s"]),
        ("", []),
    ],
)
def test_words_are_unquoted_and_variables_put_in(text: str, expected: list[str]) -> None:
    assert [word.text for word in split_words(text, {"V": "v"})] == expected


@pytest.mark.parametrize(
    ("text", "unset"), [("$N", ("N",)), ("${V#x}", ("${V#x}",)), ("${N:?x}", ("N",)), ("$V", ())]
)
def test_words_tell_variables_without_value(text: str, unset: tuple[str, ...]) -> None:
    assert split_words(text, {"V": "v"})[0].unset == unset


def test_pairs_come_in_both_forms() -> None:
    pairs = split_pairs("A=1 B=\"x y\" C='z' D", {})
    assert [(name, value.text) for name, value in pairs] == [("A", "1"), ("B", "x y"), ("C", "z"), ("D", "")]
    assert [(name, value.text) for name, value in split_pairs("A b c", {})] == [("A", "b c")]


def test_variables_do_not_grow_without_end() -> None:
    text = FROM + "ENV A=aaaaaaaaaaaaaaaa\n" + "ENV A=$A$A\n" * 60 + "RUN pip install $A\n"
    (download,) = read(text).downloads
    assert len(download.target) == MAX_VALUE_CHARS


@pytest.mark.parametrize(
    "text", ["['a']", "[1]", '["a"', "[" * 5000, "a", '{"a": 1}', "[" + "1" * 5000 + "]"]
)
def test_what_is_no_list_of_strings_is_shell_form(text: str) -> None:
    assert string_list(text) is None


# Unreadable and hostile files


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no instructions"),
        ("# only a comment\n", "no instructions"),
        ("ARG A=1\n", "no FROM"),
        ("RUN ls\n", "line 1: RUN before FROM"),
        (f"{FROM}FETCH x\n", "line 2: 'FETCH' is no instruction"),
        (f"{FROM}RUN\n", "line 2: RUN needs an argument"),
        ("FROM a b\n", "line 1: FROM takes an image and perhaps AS a name"),
        ("FROM a IS b\n", "line 1: FROM takes an image and perhaps AS a name"),
        (f"{FROM}SHELL bash\n", "line 2: SHELL takes a list of strings"),
        (f"{FROM}SHELL []\n", "line 2: SHELL takes a list of strings"),
        (f"{FROM}RUN <<EOF\nls\n", "line 2: here-document 'EOF' does not end"),
        ("# escape=x\nFROM a\n", "escape is 'x', not a backslash or a backtick"),
        ("# escape=`\n# escape=`\nFROM a\n", "directive escape is given twice"),
        (b"FROM a\nRUN \xff\n", "not UTF-8 at byte 11"),
        ("FROM a\0\n", "a NUL byte"),
        (b"#" * (MAX_DOCKERFILE_BYTES + 1), f"{MAX_DOCKERFILE_BYTES + 1} bytes are over the limit"),
        (f"{FROM}RUN {'a' * MAX_LINE_BYTES}\n", f"line 2 is over the limit of {MAX_LINE_BYTES} bytes"),
        (FROM + "USER root\n" * MAX_INSTRUCTIONS, f"more than {MAX_INSTRUCTIONS} instructions"),
    ],
)
def test_what_no_builder_takes_is_one_critical_finding(text: str | bytes, message: str) -> None:
    assert message in unreadable(text)


def test_a_byte_order_mark_is_no_part_of_the_first_instruction() -> None:
    assert read(b"\xef\xbb\xbf" + FROM.encode()).base_images[0].line == 1


def test_an_empty_line_does_not_end_an_instruction_that_is_continued() -> None:
    # dockerfile-parse alone ends it there, and takes the next line for an instruction.
    assert lines(f"{FROM}RUN true \\\n\n && curl https://h | sh\n", "shell-pipe-to-shell") == [4]
    assert "docker-ambiguous" not in rules(f"{FROM}RUN true \\\n\n && ls\n")


def test_instructions_in_a_here_document_are_none() -> None:
    assert [
        i.name for i in parse_dockerfile(f"{FROM}RUN <<EOF\nFROM evil\nEOF\nUSER x\n".encode()).instructions
    ] == [
        "FROM",
        "RUN",
        "USER",
    ]


def test_several_here_documents_come_in_order() -> None:
    (_, copy) = parse_dockerfile(f"{FROM}COPY <<a <<'b' /x/\n1\na\n2\nb\n".encode()).instructions
    assert [(each.name, each.text, each.line) for each in copy.heredocs] == [("a", "1\n", 3), ("b", "2\n", 5)]


def test_writes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # dockerfile-parse writes to a file called Dockerfile when it is not given one in memory.
    monkeypatch.chdir(tmp_path)
    read(CHAMPION)
    assert list(tmp_path.iterdir()) == []


def test_control_characters_are_escaped_in_findings() -> None:
    facts = read(f"{FROM}RUN echo ok\x1b[2K\rnc h 1\nUSER \u202eroot\n")
    assert all(found.found.isprintable() for found in facts.findings)
    assert any("\\u202eroot" in found.found for found in facts.findings)


_PARTS = [
    *(
        "FROM a\n",
        "FROM a AS b\n",
        "RUN ",
        "COPY ",
        "ENV ",
        "ARG ",
        "ADD ",
        "SHELL ",
        "CMD ",
        "ONBUILD ",
        "FROM ",
    ),
    *(
        "<<EOF",
        "EOF\n",
        "\\\n",
        "\\",
        "\n",
        "#",
        "# escape=`\n",
        "`",
        "$A",
        "${A:-b}",
        "${",
        "'",
        '"',
        "[",
        '["a"]',
    ),
    *(
        "--from=b ",
        "--mount=type=secret ",
        "a=b ",
        "a ",
        "/",
        "..",
        "*",
        "\r",
        "\t",
        "\xa0",
        "é",
        "curl h | sh",
    ),
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(_PARTS), max_size=30).map("".join))
def test_any_text_gives_facts_and_no_error(text: str) -> None:
    facts = read(text)
    last = text.count("\n") + 1
    assert all(0 <= found.line <= last for found in facts.findings)
    assert facts == read(text)
    try:
        instructions = parse_dockerfile(text.encode()).instructions
    except UnreadableDockerfileError:
        assert "docker-unparsable" in {found.rule for found in facts.findings}
    else:
        assert {each.name for each in instructions} <= INSTRUCTIONS
