"""Which program a shell command really starts, and which code it hands to a shell or another interpreter."""

import re
from collections.abc import Mapping
from types import MappingProxyType

from tournament_sync.inspection.shell_commands import ShellCommand, Word

SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "rbash", "fish"})
SOURCES = frozenset({"source", "."})
_PYTHON = re.compile(r"(?:python|pypy)[0-9.]*", re.ASCII)
_OTHER_INTERPRETERS = frozenset(
    {"perl", "ruby", "node", "nodejs", "php", "lua", "awk", "gawk", "osascript", "tclsh"}
)

# Programs that start another one, with those of their options that take a value.
_WRAPPERS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "sudo": frozenset({"-u", "-g", "-h", "-p", "-C", "-T", "-U", "-D", "-R"}),
        "doas": frozenset({"-u", "-C"}),
        "env": frozenset({"-u", "--unset", "-C", "--chdir"}),
        "exec": frozenset({"-a"}),
        "command": frozenset(),
        "builtin": frozenset(),
        "nohup": frozenset(),
        "setsid": frozenset(),
        "time": frozenset({"-f", "-o"}),
        "timeout": frozenset({"-k", "--kill-after", "-s", "--signal"}),
        "nice": frozenset({"-n"}),
        "ionice": frozenset({"-c", "-n", "-p"}),
        "stdbuf": frozenset({"-i", "-o", "-e"}),
        "chrt": frozenset({"-p"}),
        "taskset": frozenset({"-c"}),
        "numactl": frozenset({"-C", "-m", "-N"}),
        "xargs": frozenset({"-a", "-d", "-E", "-I", "-L", "-n", "-P", "-s"}),
        "busybox": frozenset(),
        "tini": frozenset({"-g", "-e"}),
        "dumb-init": frozenset(),
        "gosu": frozenset(),
        "unbuffer": frozenset(),
    }
)
_POSITIONS_BEFORE_PROGRAM = {"timeout": 1, "gosu": 1, "chrt": 1, "taskset": 1}
_VARIABLE = re.compile(r"[A-Za-z_]\w*=", re.ASCII)
MAX_WRAPPERS = 16  # one in the other; what is deeper is taken as it stands


def program_words(command: ShellCommand) -> tuple[Word, ...]:
    """The words of `command` from the program that does the work: `sudo env A=1 pip install x` gives `pip …`."""
    words = command.words
    for _ in range(MAX_WRAPPERS):
        name = program_name(words)
        if name not in _WRAPPERS:
            return words
        inner = _after_options(
            words[1:], with_value=_WRAPPERS[name], positions=_POSITIONS_BEFORE_PROGRAM.get(name, 0)
        )
        if not inner:
            return words
        words = inner
    return words


def program_name(words: tuple[Word, ...]) -> str:
    """The literal name of the first of `words`, without its folder; "" if there is none."""
    return words[0].text.rpartition("/")[2] if words and words[0].is_literal else ""


def wrappers(command: ShellCommand) -> frozenset[str]:
    """The programs through which `command` is started."""
    outer = command.words[: len(command.words) - len(program_words(command))]
    return frozenset(word.text.rpartition("/")[2] for word in outer)


def is_python(name: str) -> bool:
    """Whether a program of that name runs Python."""
    return _PYTHON.fullmatch(name) is not None


def is_interpreter(name: str) -> bool:
    """Whether a program of that name runs what it reads from its input."""
    return name in SHELLS or name in _OTHER_INTERPRETERS or is_python(name)


def shell_code(words: tuple[Word, ...]) -> Word | None:
    """The text that a shell is told to run: of `sh -c …`, `eval …`, `su -c …`, `trap …`."""
    name = program_name(words)
    if name == "eval":
        return _joined(words[1:])
    if name == "trap":
        return words[1] if len(words) > 2 and words[1].text not in {"-", "-l", "-p", "--"} else None
    if name in SHELLS or name in {"su", "runuser", "script", "flock", "ssh"}:
        return _after_c(words)
    return None


def other_code(words: tuple[Word, ...]) -> Word | None:
    """The text that another interpreter is told to run: of `python -c …`, `perl -e …`."""
    name = program_name(words)
    if is_python(name):
        return _after_c(words)
    if name in _OTHER_INTERPRETERS:
        flags = ("-e", "-E", "--eval", "-r", "-p", "--print")
        return next((words[n + 1] for n, word in enumerate(words[:-1]) if word.text in flags), None)
    return None


def script_path(words: tuple[Word, ...]) -> Word | None:
    """The file that a shell, `source` or another interpreter is told to run, None if it reads its input."""
    name = program_name(words)
    if name not in SOURCES and not is_interpreter(name):
        return None
    if shell_code(words) or other_code(words) or any(word.text in {"-m", "-s"} for word in words[1:]):
        return None
    rest = _after_options(words[1:], with_value=frozenset({"-o", "-O", "-W", "-X", "--rcfile"}), positions=0)
    return rest[0] if rest and rest[0].text != "-" else None


def reads_code_from_input(words: tuple[Word, ...]) -> bool:
    """Whether what is piped into these words is run."""
    name = program_name(words)
    if not is_interpreter(name) or name in {"awk", "gawk"}:
        return name in SOURCES and any(word.text in {"/dev/stdin", "/proc/self/fd/0"} for word in words[1:])
    if shell_code(words) or other_code(words):
        return False
    script = script_path(words)
    if script is not None:
        return script.text in {"/dev/stdin", "/proc/self/fd/0"}
    return not any(word.text in {"-m", "--version", "-V", "--help"} for word in words[1:])


def _after_c(words: tuple[Word, ...]) -> Word | None:
    for number, word in enumerate(words[1:], 1):
        if word.text == "--command" or re.fullmatch(r"-[A-Za-z]*c", word.text, re.ASCII):
            return words[number + 1] if number + 1 < len(words) else None
        # `python -u -c …` goes on, `sh script -c …` does not.
        if not word.text.startswith(("-", "+")) and program_name(words) not in {
            "su",
            "runuser",
            "script",
            "flock",
        }:
            return None
    return None


def _after_options(
    words: tuple[Word, ...], *, with_value: frozenset[str], positions: int
) -> tuple[Word, ...]:
    number = 0
    while number < len(words):
        text = words[number].text
        if text in with_value:
            number += 2
        elif text == "--":
            number += 1
            break
        elif (text.startswith(("-", "+")) and text != "-") or _VARIABLE.match(text):
            number += 1
        else:
            break
    return words[number + positions :]


def _joined(words: tuple[Word, ...]) -> Word | None:
    if not words:
        return None
    return Word(
        text=" ".join(word.text for word in words),
        is_literal=all(word.is_literal for word in words),
        lines=words[0].lines,
    )
