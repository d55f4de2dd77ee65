"""What one Dockerfile builds from, fetches, copies and starts; each instruction judged in its stage."""

import posixpath
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from tournament_sync.inspection.dockerfile_syntax import (
    Heredoc,
    Instruction,
    UnreadableDockerfileError,
    parse_dockerfile,
)
from tournament_sync.inspection.dockerfile_words import (
    PREDEFINED,
    DockerWord,
    split_pairs,
    split_words,
    string_list,
)
from tournament_sync.inspection.report import BaseImage, Download, Finding, Phase
from tournament_sync.inspection.rules import finding
from tournament_sync.inspection.shell import LineMap, ShellFacts, is_shell, read_shell
from tournament_sync.inspection.shell_programs import SHELLS
from tournament_sync.inspection.startup import environment_rule, is_startup_file

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)
_OFFICIAL_FRONTEND = re.compile(
    r"(?:docker\.io/)?docker/dockerfile(?:-upstream)?(?::[\w.-]+)?(?:@sha256:[0-9a-f]{64})?"
)
_SECRET_NAME = re.compile(
    r"(?:.*_)?(?:TOKEN|SECRET|PASSW(?:OR)?D|API_?KEY|ACCESS_KEY(?:_ID)?|PRIVATE_KEY|CREDENTIALS?)(?:_.*)?",
    re.ASCII,
)
_SHELL_OPTION = re.compile(
    r"-[a-zA-Z]+|\+[a-zA-Z]+|pipefail|errexit|nounset|xtrace|--login|--norc|--noprofile"
)
_NO_SECRET = re.compile(r"|true|false|none|null|\d+|x+|changeme|your[-_].*|<.*>|/.*|\$.*", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A COPY or ADD from the repository into the image of the last stage; `target` is absolute."""

    dockerfile: str
    line: int
    sources: tuple[str, ...]  # below the tree, "" for all of it; patterns as written
    target: str
    target_is_folder: bool


@dataclass(slots=True, kw_only=True)
class StageFacts:
    """What was read of one Dockerfile, as it is gathered. Copies and everything after belong to the last stage."""

    dockerfile: str
    base_images: list[BaseImage] = field(default_factory=list)
    downloads: list[Download] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    shells: list[ShellFacts] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    workdir: str = "/"


def read_stages(dockerfile: str, data: bytes) -> StageFacts:
    """The facts of one Dockerfile; one that cannot be read gives a finding and nothing else."""
    facts = StageFacts(dockerfile=dockerfile)
    try:
        _Stages(facts, data).read()
    except UnreadableDockerfileError as error:
        return StageFacts(
            dockerfile=dockerfile,
            findings=[finding("docker-unparsable", file=dockerfile, line=0, found=str(error))],
        )
    return facts


class _Stages:
    """The state of a build that only reads: variables, stages seen, shell."""

    def __init__(self, facts: StageFacts, data: bytes) -> None:
        self._facts = facts
        self._syntax = parse_dockerfile(data)
        self._globals: dict[str, str] = {}
        self._stages: list[str] = []
        self._new_stage()

    def read(self) -> None:
        for oddity in self._syntax.oddities:
            self._tell(oddity.rule, oddity.line, oddity.found)
        if frontend := self._syntax.frontend:
            official = _OFFICIAL_FRONTEND.fullmatch(frontend) is not None
            self._tell("docker-syntax" if official else "docker-frontend", 1, frontend)
        for instruction in self._syntax.instructions:
            if not self._stages and instruction.name not in {"FROM", "ARG"}:
                raise UnreadableDockerfileError(f"line {instruction.line}: {instruction.name} before FROM")
            _READERS[instruction.name](self, instruction)
        if not self._stages:
            raise UnreadableDockerfileError("no FROM")

    def _new_stage(self) -> None:
        self._variables: dict[str, str] = {}
        self._environment: dict[str, str] = {}
        self._shell: tuple[str, ...] = ("/bin/sh", "-c")
        self._facts.workdir, self._facts.entrypoint, self._facts.command = "/", (), ()
        self._facts.copies.clear()

    @property
    def _known(self) -> dict[str, str]:
        return self._variables | self._environment  # ENV wins over ARG

    def _tell(self, rule: str, line: int, found: str) -> None:
        self._facts.findings.append(finding(rule, file=self._facts.dockerfile, line=line, found=found))

    def _words(
        self, instruction: Instruction, variables: Mapping[str, str] | None = None
    ) -> tuple[DockerWord, ...]:
        known = self._known if variables is None else variables
        listed = string_list(instruction.value) if instruction.name in {"COPY", "ADD", "VOLUME"} else None
        if listed is not None:
            return tuple(DockerWord(text=text, unset=()) for text in listed)
        return split_words(instruction.value, known, escape=self._syntax.escape)

    def _from(self, instruction: Instruction) -> None:
        words = self._words(instruction, self._globals)
        texts = [word.text for word in words]
        if len(words) not in {1, 3} or (len(words) == 3 and texts[1].upper() != "AS"):
            raise UnreadableDockerfileError(
                f"line {instruction.line}: FROM takes an image and perhaps AS a name"
            )
        if texts[0].lower() not in self._stages and texts[0] != "scratch":
            self._base(words[0], instruction.line)
        self._stages.append(texts[2].lower() if len(words) == 3 else f"#{len(self._stages)}")
        self._new_stage()

    def _base(self, image: DockerWord, line: int) -> None:
        for name in image.unset:
            self._tell("docker-open-argument", line, f"{name} in {image.text}")
        name, _, digest = image.text.partition("@")
        digest = digest if _DIGEST.fullmatch(digest) else ""
        self._facts.base_images.append(
            BaseImage(dockerfile=self._facts.dockerfile, line=line, reference=image.text, digest=digest)
        )
        tag = name.rpartition("/")[2].partition(":")[2]
        if not digest:
            self._tell(
                "docker-latest-base" if tag in {"", "latest"} else "docker-unpinned-base", line, image.text
            )

    def _other_image(self, reference: str, line: int) -> None:
        """The image of `--from=`, unless it is a stage of this file."""
        words = split_words(reference, self._globals | self._known, escape=self._syntax.escape)
        for word in words[:1]:
            if word.text.lower() not in self._stages and not word.text.isdecimal():
                self._base(word, line)

    def _arg(self, instruction: Instruction) -> None:
        known = self._known if self._stages else self._globals
        for name, value in split_pairs(instruction.value, known, escape=self._syntax.escape):
            has_default = re.search(rf"(?:^|\s)[\"']?{re.escape(name)}[\"']?=", instruction.value) is not None
            self._check_secret(name, value, instruction.line)
            if not self._stages:
                if has_default:
                    self._globals[name] = value.text
            elif has_default:
                self._variables[name] = value.text
            elif name in self._globals:
                self._variables[name] = self._globals[name]
            if not has_default and name not in self._globals and name not in PREDEFINED:
                self._tell("docker-open-argument", instruction.line, name)

    def _env(self, instruction: Instruction) -> None:
        # All values of one ENV see the variables as they were before it.
        pairs = split_pairs(instruction.value, self._known, escape=self._syntax.escape)
        for name, value in pairs:
            self._check_secret(name, value, instruction.line)
            self._environment[name] = value.text
            if rule := environment_rule(name, value.text):
                self._tell(rule, instruction.line, f"{name}={value.text}")

    def _check_secret(self, name: str, value: DockerWord, line: int) -> None:
        if _SECRET_NAME.fullmatch(name.upper()) and not value.unset and not _NO_SECRET.fullmatch(value.text):
            # The value itself is not shown: reports travel further than repositories.
            self._tell("docker-secret-env", line, f"{name}=… ({len(value.text)} characters)")

    def _run(self, instruction: Instruction) -> None:
        self._check_run_flags(instruction)
        argv = string_list(instruction.value)
        if argv is not None:
            self._shell_text(shlex.join(argv), instruction.line, Phase.BUILD)
            return
        if self._shell_name() not in SHELLS:
            self._tell("docker-foreign-shell", instruction.line, shlex.join(self._shell))
            return
        if instruction.heredocs and re.fullmatch(r"\d*<<-?\S+", instruction.value):
            for heredoc in instruction.heredocs:
                self._script(heredoc, Phase.BUILD)
            return
        text, lines = _with_heredocs(instruction)
        self._shell_text(text, instruction.line, Phase.BUILD, lines=lines)

    def _check_run_flags(self, instruction: Instruction) -> None:
        for flag in instruction.flags:
            name, _, value = flag.partition("=")
            options = dict(part.partition("=")[::2] for part in value.split(","))
            if name == "--security" and value != "sandbox":
                self._tell("docker-privileged", instruction.line, flag)
            elif name == "--network" and value == "host":
                self._tell("docker-host-network", instruction.line, flag)
            elif name == "--mount" and options.get("type") in {"secret", "ssh"}:
                self._tell("docker-secret-mount", instruction.line, flag)
            elif name == "--mount" and options.get("type") != "tmpfs":
                self._tell("docker-mount", instruction.line, flag)
                if options.get("from"):
                    self._other_image(options["from"], instruction.line)

    def _shell_name(self) -> str:
        return self._shell[0].rpartition("/")[2] if self._shell else ""

    def _script(self, heredoc: Heredoc, phase: Phase) -> None:
        if heredoc.text.startswith("#!") and not is_shell("", heredoc.text.encode()):
            self._tell("docker-foreign-shell", heredoc.line, heredoc.text.partition("\n")[0])
            return
        self._shell_text(heredoc.text, heredoc.line, phase)

    def _shell_text(self, text: str, line: int, phase: Phase, *, lines: LineMap | None = None) -> None:
        read = read_shell(
            text,
            file=self._facts.dockerfile,
            first_line=line,
            phase=phase,
            lines=lines,
            variables=self._known,
        )
        self._facts.shells.append(read)
        self._facts.downloads += read.downloads
        self._facts.findings += read.findings

    def _copy(self, instruction: Instruction) -> None:
        flags = dict(flag.partition("=")[::2] for flag in instruction.flags)
        texts = [word.text for word in self._words(instruction)]
        for heredoc in instruction.heredocs:
            if is_shell(texts[-1] if texts else "", heredoc.text.encode()):
                self._script(heredoc, Phase.RUN)
        if "--from" in flags:
            self._other_image(flags["--from"], instruction.line)
            return
        sources = [text for text in texts[:-1] if not text.startswith("<<")]
        if instruction.name == "ADD":
            sources = [text for text in sources if not self._fetches(text, flags, instruction.line)]
        if texts and any(map(is_startup_file, (texts[-1], *sources))):
            self._tell("docker-startup-file", instruction.line, " ".join(texts))
        if sources:
            target = posixpath.join(self._facts.workdir, texts[-1])
            self._facts.copies.append(
                Copy(
                    dockerfile=self._facts.dockerfile,
                    line=instruction.line,
                    sources=tuple(_below_tree(text) for text in sources),
                    target=posixpath.normpath(target),
                    target_is_folder=texts[-1].endswith(("/", ".")) or len(sources) > 1,
                )
            )

    def _fetches(self, source: str, flags: Mapping[str, str], line: int) -> bool:
        """Whether ADD takes `source` from the network; told if so."""
        is_git = source.startswith("git@") or re.match(r"https?://\S+\.git(?:#|$)", source) is not None
        if not is_git and not re.match(r"(?:https?|ftp|git)://", source):
            return False
        commit = source.partition("#")[2].partition(":")[0]
        pinned = (
            bool(_COMMIT.fullmatch(commit))
            if is_git
            else bool(_DIGEST.fullmatch(flags.get("--checksum", "")))
        )
        self._facts.downloads.append(
            Download(
                phase=Phase.BUILD,
                file=self._facts.dockerfile,
                line=line,
                tool="git" if is_git else "curl",
                target=source,
                pinned=pinned,
            )
        )
        if not pinned:
            self._tell("docker-add-url", line, source)
        return True

    def _workdir(self, instruction: Instruction) -> None:
        text = " ".join(word.text for word in self._words(instruction))
        self._facts.workdir = posixpath.normpath(posixpath.join(self._facts.workdir, text))

    def _entrypoint(self, instruction: Instruction) -> None:
        self._facts.entrypoint = self._start(instruction)
        if string_list(instruction.value) is None:
            self._tell("docker-shell-entrypoint", instruction.line, instruction.value)

    def _cmd(self, instruction: Instruction) -> None:
        self._facts.command = self._start(instruction)

    def _healthcheck(self, instruction: Instruction) -> None:
        name, _, rest = instruction.value.partition(" ")
        if name.upper() == "CMD":
            argv = string_list(rest)
            self._shell_text(rest if argv is None else shlex.join(argv), instruction.line, Phase.RUN)

    def _start(self, instruction: Instruction) -> tuple[str, ...]:
        argv = string_list(instruction.value)
        text = instruction.value if argv is None else shlex.join(argv)
        self._shell_text(text, instruction.line, Phase.RUN, lines=instruction.lines if argv is None else None)
        return (*self._shell, instruction.value) if argv is None else argv

    def _set_shell(self, instruction: Instruction) -> None:
        argv = string_list(instruction.value)
        if not argv:
            raise UnreadableDockerfileError(f"line {instruction.line}: SHELL takes a list of strings")
        self._shell = argv
        # What stands among the options is run by every RUN, before its own words.
        if not all(_SHELL_OPTION.fullmatch(word) for word in argv[1:]):
            self._tell("docker-foreign-shell", instruction.line, shlex.join(argv))

    def _user(self, instruction: Instruction) -> None:
        name = instruction.value.partition(":")[0]
        if name not in {"root", "0"}:
            self._tell("docker-user", instruction.line, instruction.value)

    def _volume(self, instruction: Instruction) -> None:
        self._tell("docker-volume", instruction.line, instruction.value)

    def _onbuild(self, instruction: Instruction) -> None:
        self._tell("docker-onbuild", instruction.line, instruction.value)

    def _nothing(self, instruction: Instruction) -> None:
        """LABEL, EXPOSE, STOPSIGNAL, MAINTAINER: words about the image, not acts."""


_READERS: Mapping[str, Callable[[_Stages, Instruction], None]] = MappingProxyType(
    {
        "ADD": _Stages._copy,
        "ARG": _Stages._arg,
        "CMD": _Stages._cmd,
        "COPY": _Stages._copy,
        "ENTRYPOINT": _Stages._entrypoint,
        "ENV": _Stages._env,
        "EXPOSE": _Stages._nothing,
        "FROM": _Stages._from,
        "HEALTHCHECK": _Stages._healthcheck,
        "LABEL": _Stages._nothing,
        "MAINTAINER": _Stages._nothing,
        "ONBUILD": _Stages._onbuild,
        "RUN": _Stages._run,
        "SHELL": _Stages._set_shell,
        "STOPSIGNAL": _Stages._nothing,
        "USER": _Stages._user,
        "VOLUME": _Stages._volume,
        "WORKDIR": _Stages._workdir,
    }
)


def _with_heredocs(instruction: Instruction) -> tuple[str, LineMap]:
    """The text that the shell gets: the command, then each here-document with its end."""
    text, marks = instruction.value, list(instruction.lines.marks)
    for heredoc in instruction.heredocs:
        text += "\n"
        for number, line in enumerate([*heredoc.text.splitlines(), heredoc.name]):
            marks.append((len(text.encode()), heredoc.line + number))
            text += f"{line}\n"
    return text, LineMap(tuple(marks))


def _below_tree(source: str) -> str:
    normal = posixpath.normpath(source.lstrip("/") or ".")
    return "" if normal == "." else normal
