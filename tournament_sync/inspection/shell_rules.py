"""What the commands of a shell script do that a reader should know: the findings of one script."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from tournament_sync.inspection.report import Phase
from tournament_sync.inspection.shell_commands import ShellCommand, Word, name_set
from tournament_sync.inspection.shell_downloads import (
    Fetch,
    checks_digest,
    fetches,
    names_digest,
    pins_commit,
)
from tournament_sync.inspection.shell_programs import (
    SHELLS,
    SOURCES,
    is_interpreter,
    other_code,
    program_name,
    program_words,
    reads_code_from_input,
    script_path,
    shell_code,
    wrappers,
)
from tournament_sync.inspection.startup import is_startup_file

_FETCHERS = name_set("curl wget aria2c axel fetch http https lynx w3m")
_UNPACKERS = name_set("gunzip zcat bunzip2 bzcat unxz xzcat unzstd zstdcat uudecode rev tr")
_DECODERS = name_set("base64 base32 basenc openssl gzip bzip2 xz zstd xxd")
_REMOTE = name_set("nc ncat netcat socat telnet ssh scp sftp ftp tftp rsh rlogin")
_PRIVILEGED = name_set(
    "mount umount nsenter unshare chroot insmod modprobe rmmod setcap capsh iptables nft sysctl losetup mknod"
)
_ENGINES = name_set("docker podman nerdctl kubectl")
_SCHEDULERS = name_set("crontab at batch systemctl update-rc.d")
_CREDENTIAL = re.compile(
    r"\$\{?!?[A-Z_]*(?:TOKEN|SECRET|PASSW(?:OR)?D|API_?KEY|ACCESS_KEY|PRIVATE_KEY|CREDENTIALS?)(?![A-Za-z])"
)
_CREDENTIAL_FILE = re.compile(
    r"\.ssh(?:/|$)|\.aws(?:/|$)|\.docker/config\.json|\.netrc|\.git-credentials|\.kube/config"
    r"|/proc/[\w$*]+/environ|/etc/shadow|huggingface/(?:stored_)?tokens?\b"
)
_PATTERN = re.compile(r"[*?{]|\[.")  # a program found by a pattern; "[" alone is one
_DEVICE = re.compile(r"/dev/(?:tcp|udp)/")
_OPEN_MODE = re.compile(
    r"0?[0-7]?[0-7][0-7][2367]|[ugo]*[ao][ugo]*[+=][rxXst]*w[rwxXst]*|\+\w*w\w*", re.ASCII
)
_SETUID_MODE = re.compile(r"0?[2-7][0-7]{3}|[ugoa]*[+=][rwxX]*s[rwxXst]*", re.ASCII)
_UNVERIFIED = name_set(
    "-k --insecure --no-check-certificate --allow-unauthenticated --force-yes --no-gpg-check --nogpgcheck "
    "--trusted-host --allow-untrusted --allow-insecure-host"
)
_OTHER_INDEX = name_set("-i --index-url --extra-index-url -f --find-links --index --default-index --registry")
# Of each program, what in its arguments starts others.
_ARGUMENT_CODE: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        **dict.fromkeys(
            ("awk", "gawk", "mawk"), re.compile(r"system\s*\(|\|\s*getline|\|\s*[\"']|popen|/inet/")
        ),
        "sed": re.compile(r"(?:^|[;\d$/}])\s*e(?:\s|$)|s(.).*\1.*\1[gimp\d]*e"),
        "tar": re.compile(
            r"--checkpoint-action|--to-command|--use-compress-program|--rsh-command|^-I|--info-script"
        ),
        "make": re.compile(r"^-f|--file|--makefile|--eval"),
        **dict.fromkeys(("gcc", "cc", "g++", "clang", "tcc"), re.compile(r"^-x|^-run$|-wrapper|-fplugin")),
        "alias": re.compile(r"="),
        "vim": re.compile(r"^[-+]c|^\+"),
        "ssh-keygen": re.compile(r"^-D"),
        "git": re.compile(r"core\.(?:sshCommand|pager|fsmonitor|hooksPath)|^ext::|--upload-pack|alias\."),
    }
)
_SPLIT_STRING = frozenset({"-S", "--split-string"})
_LOOKUPS = name_set("getent dig nslookup host drill resolvectl ping")
_NO_SCRIPT = re.compile(
    r"\.(?:txt|md|rst|cfg|conf|ini|log|dat|data|bin|json|ya?ml|toml|csv|png|jpe?g|safetensors|lock)$",
    re.IGNORECASE,
)
_PRELOADS = frozenset({"LD_PRELOAD", "LD_AUDIT", "BASH_ENV", "PROMPT_COMMAND", "PYTHONSTARTUP"})
# Places of the container that every run may write.
_OUTPUT = ("/app/checkpoints", "/tmp", "/dev")  # noqa: S108

Told = tuple[str, str]  # rule, found


@dataclass(frozen=True, slots=True)
class Script:
    """The commands of one text, with what of the others each rule has to know."""

    commands: Sequence[ShellCommand]
    phase: Phase
    _pipes: dict[int, list[int]]
    _made: dict[str, str]

    @staticmethod
    def of(commands: Sequence[ShellCommand], *, phase: Phase) -> "Script":
        pipes: dict[int, list[int]] = defaultdict(list)
        made: dict[str, str] = {}
        for number, command in enumerate(commands):
            for pipe, _ in command.stages:
                pipes[pipe].append(number)
            if rule := _maker(command):
                made.update(dict.fromkeys(_made_files(command), rule))
        return Script(commands, phase, pipes, made)

    def upstream(self, command: ShellCommand) -> list[ShellCommand]:
        """The commands whose output `command` reads."""
        found = []
        for pipe, stage in command.stages:
            for number in self._pipes[pipe]:
                other = self.commands[number]
                if any(at == pipe and before < stage for at, before in other.stages):
                    found.append(other)
        return found

    def inner(self, number: int) -> list[ShellCommand]:
        """The commands in substitutions within the words of command `number`."""
        start, end = self.commands[number].span
        found = []
        for other in self.commands[number + 1 :]:
            if other.span[0] >= end:
                break
            if start <= other.span[0]:
                found.append(other)
        return found

    def made(self, path: str) -> str:
        """The rule under which running the file at `path` falls, "" if this script did not make it."""
        return self._made.get(path.rpartition("/")[2], "")


def told(script: Script) -> Iterator[tuple[ShellCommand, str, str]]:
    """Command, rule and text of everything that is to be told about `script`."""
    for number, command in enumerate(script.commands):
        words = program_words(command)
        for rule, found in _hidden(script, number, words):
            yield command, rule, found
        for check in _CHECKS:
            for rule, found in check(command, words, script.phase):
                yield command, rule, found


def fetched(script: Script) -> Iterator[tuple[ShellCommand, tuple[Fetch, ...]]]:
    """What each command fetches, pinned by what the script does later too."""
    clones: list[tuple[ShellCommand, tuple[Fetch, ...]]] = []
    checked = " ".join(_checked_text(script))
    for command in script.commands:
        found = fetches(command)
        if clones and pins_commit(command):
            yield clones[-1][0], tuple(_pinned(fetch) for fetch in clones.pop()[1])
        elif found and found[0].tool == "git" and not found[0].pinned:
            clones.append((command, found))
        elif found:
            yield command, tuple(_pinned(f) if f.saved_as and f.saved_as in checked else f for f in found)
    yield from clones


def _pinned(fetch: Fetch) -> Fetch:
    return Fetch(tool=fetch.tool, target=fetch.target, pinned=True, saved_as=fetch.saved_as)


def _checked_text(script: Script) -> Iterator[str]:
    # Only digests that stand in the script itself count: a list fetched from the same place proves nothing.
    for command in script.commands:
        if checks_digest(command):
            texts = [other.shown for other in script.upstream(command)]
            if command.stdin is not None:
                texts.append(command.stdin.text)
            yield from (text for text in texts if names_digest(text))


def _hidden(script: Script, number: int, words: tuple[Word, ...]) -> Iterator[Told]:
    """Code that is not in the script: fetched, decoded or computed."""
    command = script.commands[number]
    if reads_code_from_input(words):
        sources = script.upstream(command)
        if rule := _origin(sources):
            yield rule, f"{' | '.join([*(source.shown for source in sources), command.shown])}"
        elif sources and not all(_is_printer(source) for source in sources):
            yield "shell-dynamic-code", f"{sources[-1].shown} | {command.shown}"
    code, path = shell_code(words), script_path(words)
    name = program_name(words)
    if code is not None or path is not None or name in SOURCES:
        if rule := _origin(script.inner(number)):
            yield rule, command.shown
        elif code is not None and not code.is_literal and not _runs_arguments(code.text):
            yield "shell-dynamic-code", command.shown
    target = path.text if path is not None else (words[0].text if words else "")
    if made := script.made(target):
        yield made, command.shown
    if words and (not words[0].is_literal or _PATTERN.search(words[0].text)):
        yield _computed(words[0].text), command.shown


def _origin(commands: Sequence[ShellCommand]) -> str:
    """The rule for running what `commands` print, "" if they fetch and decode nothing."""
    if any(_decodes(command) for command in commands):
        return "shell-decode-and-run"
    if any(_downloads(command) for command in commands):
        return "shell-pipe-to-shell"
    return ""


def _decodes(command: ShellCommand) -> bool:
    words = program_words(command)
    name = program_name(words)
    if name in _UNPACKERS:
        return True
    flags = [word.text for word in words[1:]]
    if name == "xxd":
        return any(re.fullmatch(r"-[a-z]*r[a-z]*", flag) for flag in flags)
    return name in _DECODERS and any(
        re.fullmatch(r"-[a-ce-zA-Z]*[dD][a-zA-Z]*|--decode|--decompress", flag) for flag in flags
    )


def _downloads(command: ShellCommand) -> bool:
    return program_name(program_words(command)) in _FETCHERS


def _is_printer(command: ShellCommand) -> bool:
    name = program_name(command.words)
    return (
        name in {"echo", "printf", "cat", ":"}
        and all(word.is_literal for word in command.words)
        and (name != "cat" or command.stdin is not None)
    )


def _maker(command: ShellCommand) -> str:
    if _decodes(command):
        return "shell-decode-and-run"
    return "shell-download-and-run" if _downloads(command) else ""


def _made_files(command: ShellCommand) -> Iterator[str]:
    names = [
        redirect.target.text for redirect in command.redirects if redirect.operator.startswith((">", "&>"))
    ]
    names += [fetch.saved_as for fetch in fetches(command)]
    words = program_words(command)
    names += [
        words[n + 1].text
        for n, word in enumerate(words[:-1])
        if word.text in {"-o", "-O", "--output", "-out"}
    ]
    yield from (
        name.rpartition("/")[2] for name in names if name and name.isascii() and not name.startswith("/dev/")
    )


def _runs_arguments(text: str) -> bool:
    return re.fullmatch(r'(?:exec )?"?\$\{?[@*]\}?"?', text.strip()) is not None


def _computed(text: str) -> str:
    if _runs_arguments(text):
        return "shell-runs-arguments"
    is_found = "`" in text or "$(" in text or _PATTERN.search(text.partition("$")[0]) is not None
    return "shell-computed-command" if is_found else "shell-variable-command"


def _remote(command: ShellCommand, words: tuple[Word, ...], phase: Phase) -> Iterator[Told]:
    name = program_name(words)
    if name in _REMOTE or (name == "rsync" and any(":" in word.text for word in words[1:])):
        yield "shell-network-tool", command.shown
    for redirect in command.redirects:
        if _DEVICE.search(redirect.target.text):
            yield "shell-network-tool", redirect.target.text
    if name in _PRIVILEGED or any("docker.sock" in word.text for word in words):
        yield "shell-privileged", command.shown
    elif name in _ENGINES:
        yield "shell-container", command.shown


def _secret(command: ShellCommand, words: tuple[Word, ...], phase: Phase) -> Iterator[Told]:
    texts = [word.text for word in command.words]
    texts += [redirect.target.text for redirect in command.redirects]
    texts += [assignment.value.text for assignment in command.assignments]
    for text in texts:
        if _CREDENTIAL_FILE.search(text):
            yield "shell-credential-file", command.shown or text
        elif _CREDENTIAL.search(text):
            sends = program_name(words) in _FETCHERS | _REMOTE
            yield ("shell-credential-sent" if sends else "shell-credential-use"), command.shown or text
    for assignment in command.assignments:
        if assignment.name in _PRELOADS and assignment.value.text:
            yield "shell-preload", f"{assignment.name}={assignment.value.text}"


def _service(command: ShellCommand, words: tuple[Word, ...], phase: Phase) -> Iterator[Told]:
    name = program_name(words)
    if name == "redis-server":
        yield "shell-redis", command.shown
    detached = not {"nohup", "setsid"}.isdisjoint(wrappers(command)) or name == "disown"
    daemon = any(word.text in {"--daemonize", "-daemon", "--daemon", "--fork"} for word in words)
    if words and (command.in_background or detached or daemon):
        yield "shell-background", command.shown
    if name in _SCHEDULERS:
        yield "shell-scheduled", command.shown


def _rights(command: ShellCommand, words: tuple[Word, ...], phase: Phase) -> Iterator[Told]:
    if not {"sudo", "doas"}.isdisjoint(wrappers(command)) or program_name(words) in {"sudo", "su"}:
        yield "shell-sudo", command.shown
    if program_name(words) == "chmod":
        for word in words[1:]:
            if _SETUID_MODE.fullmatch(word.text) and not re.fullmatch(r"0?0?[0-7]{3}", word.text):
                yield "shell-setuid", command.shown
            if _OPEN_MODE.fullmatch(word.text):
                yield "shell-open-permissions", command.shown


def _install(command: ShellCommand, words: tuple[Word, ...], phase: Phase) -> Iterator[Told]:
    found = fetches(command)
    options = {word.text.partition("=")[0] for word in words}
    if found and not _UNVERIFIED.isdisjoint(options):
        yield "shell-unverified-download", command.shown
    if found and found[0].tool in {"pip", "npm"} and not _OTHER_INDEX.isdisjoint(options):
        yield "shell-other-index", command.shown
    if program_name(words) in {"add-apt-repository", "apt-key"}:
        yield "shell-other-index", command.shown
    removes = any(word.text in {"uninstall", "remove", "purge"} for word in words[1:4])
    if phase is Phase.RUN and removes and re.match(r"pip|uv|conda|apt|python", program_name(words)):
        yield "shell-uninstall", command.shown


def _in_argument(command: ShellCommand, words: tuple[Word, ...], phase: Phase) -> Iterator[Told]:
    """Programs that run what stands in an argument of theirs, in a language that nobody here reads."""
    name, texts = program_name(words), [word.text for word in words[1:]]
    pattern = _ARGUMENT_CODE.get(name)
    outer = {word.text for word in command.words[:3]}
    is_split = "env" in {text.rpartition("/")[2] for text in outer} and not _SPLIT_STRING.isdisjoint(outer)
    if is_split or (pattern is not None and any(pattern.search(text) for text in texts)):
        yield "shell-code-in-argument", command.shown
    elif name in _LOOKUPS and any(not word.is_literal for word in words[1:]):
        yield "shell-network-tool", command.shown
    path = script_path(words)
    if path is not None and path.is_literal and _NO_SCRIPT.search(path.text):
        yield "shell-odd-script", command.shown


def _startup(command: ShellCommand, words: tuple[Word, ...], phase: Phase) -> Iterator[Told]:
    for path in written_paths(command):
        if is_startup_file(path):
            yield "shell-startup-file", path


def _write(command: ShellCommand, words: tuple[Word, ...], phase: Phase) -> Iterator[Told]:
    if phase is Phase.RUN:
        yield from (("shell-absolute-write", path) for path in written_paths(command))


def _inline(command: ShellCommand, words: tuple[Word, ...], phase: Phase) -> Iterator[Told]:
    code = other_code(words)
    if code is None and command.stdin is not None and program_name(words) not in SHELLS:
        code = command.stdin if reads_code_from_input(words) else None
    if code is not None and is_interpreter(program_name(words)):
        yield "shell-inline-code", f"{program_name(words)}: {code.text}"


def written_paths(command: ShellCommand) -> tuple[str, ...]:
    """Absolute paths that `command` writes to, but for those that every run may write."""
    words = program_words(command)
    paths = [r.target for r in command.redirects if r.operator in {">", ">>", "&>", "&>>", ">|"}]
    match program_name(words):
        case "tee" | "mkdir" | "touch":
            paths += [word for word in words[1:] if not word.text.startswith("-")]
        case "cp" | "mv" | "ln" | "install":
            paths += words[-1:]
    return tuple(
        dict.fromkeys(
            path.text
            for path in paths
            if path.is_literal and path.text.startswith("/") and not path.text.startswith(_OUTPUT)
        )
    )


_CHECKS: tuple[Callable[[ShellCommand, tuple[Word, ...], Phase], Iterator[Told]], ...] = (
    _remote,
    _secret,
    _service,
    _rights,
    _install,
    _write,
    _startup,
    _in_argument,
    _inline,
)
