"""What a shell command fetches: packages, repositories, files and models, and whether each names one content."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tournament_sync.inspection.shell_commands import ShellCommand, Word, name_set
from tournament_sync.inspection.shell_programs import is_python, program_name, program_words

_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}(?:[0-9a-f]{64})?", re.ASCII)
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.ASCII | re.IGNORECASE)
# PEP 440 and 508: one version, nothing left open. `===` is an exact text.
_EXACT = re.compile(r"\s*[A-Za-z0-9][\w.-]*\s*(?:\[[^\]]*\])?\s*={2,3}\s*[^\s=*,;<>!~]+\s*(?:;.*)?", re.ASCII)
_LOCAL = re.compile(r"(?:\.{0,2}/|\.{1,2}(?:\[|$)|file:|~/)")

_PIP_VALUES = name_set(
    "-r --requirement --requirements -c --constraint --constraints -i --index-url --extra-index-url -f "
    "--find-links --trusted-host -t --target --prefix --python -p --platform --root --src --no-binary "
    "--only-binary --cache-dir --timeout --retries --progress-bar -C --config-settings --config-setting "
    "--global-option --upgrade-strategy --index-strategy --extra --group --torch-backend --index "
    "--default-index --log --proxy --cert --client-cert --python-version --implementation --abi --report "
    "--exists-action --keyring-provider --resolution --prerelease --exclude-newer --link-mode --override "
    "--overrides -b --build-constraint --build-constraints --no-build-isolation-package --refresh-package -P "
    "--upgrade-package --reinstall-package --no-build-package --no-binary-package -n --name --channel "
    "--solver --use-feature --build-option"
)
_REQUIREMENT_FILES = frozenset({"-r", "--requirement", "--requirements"})
_SYSTEM_VALUES = frozenset(
    {"-t", "--target-release", "-o", "--option", "-c", "--repository", "-X", "--enablerepo"}
)
_CURL_VALUES = name_set(
    "-o --output -O --output-dir -H --header -d --data --data-binary -u --user -A --user-agent -e -b -c -x "
    "--proxy -X --request --retry --retry-delay --connect-timeout -m --max-time -w -T -F -K --cacert --cert "
    "-P --directory-prefix --tries -t --timeout -i --input-file --password --header= -a -U"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """One thing that a command fetches. `saved_as` is the name of the file that it becomes, "" if unknown."""

    tool: str
    target: str
    pinned: bool
    saved_as: str = ""


def fetches(command: ShellCommand) -> tuple[Fetch, ...]:
    """What `command` fetches, judged alone: a commit checked out later is not known here."""
    words = program_words(command)
    name = program_name(words)
    if is_python(name) and len(words) > 2 and words[1].text == "-m":
        words = words[2:]
        name = program_name(words)
    if re.fullmatch(r"pip[0-9.]*", name):
        name = "pip"
    reader = _READERS.get(name)
    return tuple(reader(words[1:])) if reader else ()


def pins_commit(command: ShellCommand) -> bool:
    """Whether `command` checks out a full commit id."""
    words = program_words(command)
    texts = {word.text for word in words[1:] if word.is_literal}
    return (
        program_name(words) == "git"
        and not texts.isdisjoint({"checkout", "reset", "switch", "worktree"})
        and any(_COMMIT.fullmatch(text) for text in texts)
    )


def checks_digest(command: ShellCommand) -> bool:
    """Whether `command` compares files with SHA-2 digests that it is given."""
    words = program_words(command)
    if re.fullmatch(r"sha(?:256|384|512)sum|shasum", program_name(words)) is None:
        return False
    return any(re.fullmatch(r"-[a-z]*c[a-z]*|--check", word.text) for word in words[1:])


def names_digest(text: str) -> bool:
    """Whether `text` has a SHA-256 or SHA-512 in hex."""
    return any(_SHA256.fullmatch(part) for part in re.split(r"[^0-9a-fA-F]+", text.lower()))


def is_exact_requirement(text: str) -> bool:
    """Whether a requirement of pip names one content: an exact version, a full commit id or a digest."""
    if "git+" in text:
        return (
            _COMMIT.fullmatch(text.partition("git+")[2].rpartition("@")[2].partition("#")[0].strip())
            is not None
        )
    if _URL.search(text):
        return re.search(r"#(?:.*&)?sha256=[0-9a-f]{64}", text) is not None
    return _EXACT.fullmatch(text.partition(" --hash")[0]) is not None


def requirement_fetch(text: str, *, tool: str = "pip") -> Fetch | None:
    """What a requirement of pip fetches; None for a local path."""
    if _LOCAL.match(text) or not text:
        return None
    return Fetch(tool=tool, target=text, pinned=is_exact_requirement(text))


def _pip(words: tuple[Word, ...]) -> Iterator[Fetch]:
    if not words or words[0].text not in {"install", "download", "wheel", "add", "sync"}:
        return
    if words[0].text == "sync":
        yield from (
            Fetch(tool="pip", target=f"-r {word.text}", pinned=False) for word in _positions(words[1:])
        )
        return
    has_hashes = any(word.text == "--require-hashes" for word in words)
    for option, value in _options(words[1:], _PIP_VALUES | {"-e", "--editable"}):
        if option in _REQUIREMENT_FILES:
            yield Fetch(tool="pip", target=f"-r {value.text}", pinned=has_hashes)
        elif option in {"", "-e", "--editable"} and (fetch := requirement_fetch(value.text)):
            yield Fetch(tool="pip", target=fetch.target, pinned=fetch.pinned and value.is_literal)


def _uv(words: tuple[Word, ...]) -> Iterator[Fetch]:
    match [word.text for word in words[:2]]:
        case ["pip", _] | ["tool", _]:
            yield from _pip(words[1:])
        case ["add", *_]:
            yield from _pip(words)
        case ["sync", *_]:
            frozen = any(word.text in {"--frozen", "--locked"} for word in words)
            yield Fetch(tool="pip", target="uv.lock", pinned=frozen)
        case ["python", "install"]:
            yield from (Fetch(tool="uv", target=word.text, pinned=False) for word in _positions(words[2:]))
        case _:
            pass


def _conda(words: tuple[Word, ...]) -> Iterator[Fetch]:
    if not words or words[0].text not in {"install", "create", "update", "env"}:
        return
    values = _PIP_VALUES | {"-c", "-n", "-f", "--file"}
    for option, value in _options(words[1:], values):
        if option in {"-f", "--file"}:
            yield Fetch(tool="conda", target=f"-f {value.text}", pinned=False)
        elif option == "" and value.text not in {"create", "update"}:
            pinned = re.fullmatch(r"[\w.:/-]+={1,2}[0-9][\w.]*(?:=\w+)?", value.text, re.ASCII) is not None
            yield Fetch(tool="conda", target=value.text, pinned=pinned and value.is_literal)


def _system(tool: str) -> Callable[[tuple[Word, ...]], Iterator[Fetch]]:
    def read(words: tuple[Word, ...]) -> Iterator[Fetch]:
        named = _positions(words, _SYSTEM_VALUES)
        if not named or named[0].text not in {
            "install",
            "add",
            "upgrade",
            "dist-upgrade",
            "full-upgrade",
            "source",
        }:
            return
        if named[0].text.endswith("upgrade"):
            yield Fetch(tool=tool, target=named[0].text, pinned=False)
        for word in named[1:]:
            pinned = re.fullmatch(r"[\w.+:-]+=[\w.+:~-]*[0-9][\w.+:~-]*", word.text, re.ASCII) is not None
            if not _LOCAL.match(word.text):
                yield Fetch(tool=tool, target=word.text, pinned=pinned and word.is_literal)

    return read


def _git(words: tuple[Word, ...]) -> Iterator[Fetch]:
    named = _positions(
        words, frozenset({"-C", "-c", "-b", "--branch", "--depth", "-j", "--jobs", "-o", "--origin"})
    )
    texts = [word.text for word in named]
    match texts:
        case ["clone", url, *_]:
            yield Fetch(tool="git", target=url, pinned=False)
        case ["fetch" | "pull", *rest]:
            pinned = any(_COMMIT.fullmatch(text) for text in rest)
            yield Fetch(tool="git", target=" ".join(rest) or "origin", pinned=pinned)
        case ["submodule", *rest] if "update" in rest:
            # The commit of the outer tree names that of the inner one.
            yield Fetch(tool="git", target="submodules", pinned=not any(w.text == "--remote" for w in words))
        case ["lfs", "pull" | "fetch" | "clone", *rest]:
            yield Fetch(tool="git", target=" ".join(["lfs", *rest]), pinned=False)
        case _:
            pass


def _curl(words: tuple[Word, ...]) -> Iterator[Fetch]:
    options = list(_options(words, _CURL_VALUES - {"-O"}))
    outputs = [value.text for option, value in options if option in {"-o", "--output", "--output-document"}]
    # `wget -O name` names the file, `curl -O` takes the name of the URL.
    outputs += [words[n + 1].text for n, word in enumerate(words[:-1]) if word.text in {"-O", "-qO"}]
    for option, value in options:
        if option in {"", "--url"} and _is_address(value.text):
            name = next((output for output in outputs if not _is_address(output)), value.text)
            yield Fetch(
                tool="curl",
                target=value.text,
                pinned=False,
                saved_as=name.partition("?")[0].rpartition("/")[2],
            )


def _is_address(text: str) -> bool:
    return _URL.match(text) is not None or re.match(r"(?:\$|[\w-]+\.[\w.-]+/)", text) is not None


def _hub(words: tuple[Word, ...]) -> Iterator[Fetch]:
    if not words or words[0].text not in {"download", "snapshot-download"}:
        return
    options = list(
        _options(
            words[1:],
            frozenset(
                {
                    "--revision",
                    "--repo-type",
                    "--local-dir",
                    "--include",
                    "--exclude",
                    "--cache-dir",
                    "--token",
                    "--max-workers",
                    "--model",
                    "--dataset",
                }
            ),
        )
    )
    revision = next((value.text for option, value in options if option == "--revision"), "")
    for option, value in options:
        if option in {"", "--model", "--dataset"}:
            yield Fetch(tool="hub", target=value.text, pinned=_COMMIT.fullmatch(revision) is not None)
            return


def _npm(words: tuple[Word, ...]) -> Iterator[Fetch]:
    named = _positions(words)
    if not named or named[0].text not in {"install", "i", "add", "ci"}:
        return
    if len(named) == 1:
        yield Fetch(tool="npm", target="package.json", pinned=named[0].text == "ci")
    for word in named[1:]:
        pinned = re.fullmatch(r"@?[\w./-]+@[0-9]+\.[0-9]+\.[0-9]+[\w.+-]*", word.text, re.ASCII) is not None
        yield Fetch(tool="npm", target=word.text, pinned=pinned and word.is_literal)


def _cargo(words: tuple[Word, ...]) -> Iterator[Fetch]:
    if not words or words[0].text not in {"install", "add"}:
        return
    options = list(
        _options(
            words[1:],
            frozenset(
                {
                    "--version",
                    "--vers",
                    "--git",
                    "--rev",
                    "--branch",
                    "--tag",
                    "--root",
                    "--features",
                    "-F",
                    "--target",
                }
            ),
        )
    )
    values = {option: value.text for option, value in options if option}
    version = values.get("--version", values.get("--vers", ""))
    pinned = bool(re.fullmatch(r"=?[0-9]+\.[0-9]+\.[0-9]+", version)) or bool(
        _COMMIT.fullmatch(values.get("--rev", ""))
    )
    names = [value.text for option, value in options if not option] or [values.get("--git", "")]
    yield from (Fetch(tool="cargo", target=name, pinned=pinned or "@=" in name) for name in names if name)


def _versioned(tool: str, verbs: frozenset[str]) -> Callable[[tuple[Word, ...]], Iterator[Fetch]]:
    def read(words: tuple[Word, ...]) -> Iterator[Fetch]:
        named = _positions(words, frozenset({"-v", "--version"}))
        if not named or (verbs and named[0].text not in verbs):
            return
        for word in named[1:] if verbs else named[:1]:
            pinned = re.search(r"@v?[0-9]+\.[0-9]+\.[0-9]+", word.text) is not None
            yield Fetch(tool=tool, target=word.text, pinned=pinned and word.is_literal)

    return read


def _cloud(tool: str) -> Callable[[tuple[Word, ...]], Iterator[Fetch]]:
    def read(words: tuple[Word, ...]) -> Iterator[Fetch]:
        remote = (word.text for word in words if re.match(r"[\w-]+:(?://|[\w-])", word.text))
        yield from (Fetch(tool=tool, target=text, pinned=False) for text in remote)

    return read


def _any(tool: str) -> Callable[[tuple[Word, ...]], Iterator[Fetch]]:
    def read(words: tuple[Word, ...]) -> Iterator[Fetch]:
        yield from (Fetch(tool=tool, target=word.text, pinned=False) for word in _positions(words)[:1])

    return read


def _options(words: tuple[Word, ...], with_value: frozenset[str]) -> Iterator[tuple[str, Word]]:
    """Pairs of option and value; the option is "" for a word that is none. Options without value are left out."""
    number = 0
    while number < len(words):
        word = words[number]
        name, equals, _ = word.text.partition("=")
        if not word.text.startswith("-") or word.text == "-":
            yield "", word
        elif equals and name in with_value:
            yield name, Word(text=word.text[len(name) + 1 :], is_literal=word.is_literal, lines=word.lines)
        elif word.text in with_value and number + 1 < len(words):
            number += 1
            yield word.text, words[number]
        number += 1


def _positions(words: tuple[Word, ...], with_value: frozenset[str] = frozenset()) -> tuple[Word, ...]:
    return tuple(value for option, value in _options(words, with_value) if not option)


_READERS: Mapping[str, Callable[[tuple[Word, ...]], Iterator[Fetch]]] = MappingProxyType(
    {
        "pip": _pip,
        "pipx": _pip,
        "uv": _uv,
        "poetry": _pip,
        "conda": _conda,
        "mamba": _conda,
        "micromamba": _conda,
        "apt": _system("apt"),
        "apt-get": _system("apt"),
        "aptitude": _system("apt"),
        "apk": _system("apk"),
        "yum": _system("dnf"),
        "dnf": _system("dnf"),
        "microdnf": _system("dnf"),
        "zypper": _system("zypper"),
        "git": _git,
        "curl": _curl,
        "wget": _curl,
        "aria2c": _curl,
        "axel": _curl,
        "huggingface-cli": _hub,
        "hf": _hub,
        "modelscope": _hub,
        "npm": _npm,
        "yarn": _npm,
        "pnpm": _npm,
        "cargo": _cargo,
        "go": _versioned("go", frozenset({"install", "get"})),
        "gem": _versioned("gem", frozenset({"install"})),
        "npx": _versioned("npm", frozenset()),
        "uvx": _versioned("pip", frozenset()),
        "aws": _cloud("cloud"),
        "gsutil": _cloud("cloud"),
        "rclone": _cloud("cloud"),
        "azcopy": _cloud("cloud"),
        "gdown": _any("gdown"),
    }
)
