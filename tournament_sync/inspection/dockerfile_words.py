"""Words of a Dockerfile's instructions: quotes, escapes and the variables of ARG and ENV."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tournament_sync.inspection.shell_commands import name_set

# Set by the builder itself.
PREDEFINED = name_set(
    "HTTP_PROXY http_proxy HTTPS_PROXY https_proxy FTP_PROXY ftp_proxy NO_PROXY no_proxy ALL_PROXY all_proxy "
    "TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT BUILDPLATFORM BUILDOS BUILDARCH BUILDVARIANT"
)
MAX_VALUE_CHARS = 8192  # of a word after its variables were put in: they may double at each line
_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*|\d)|\{([A-Za-z_]\w*)(?:(:?[-+?])([^${}]*))?\})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerWord:
    """A word after quotes were taken off. `unset` are variables in it whose value is not known."""

    text: str
    unset: tuple[str, ...]


def split_words(value: str, variables: Mapping[str, str], *, escape: str = "\\") -> tuple[DockerWord, ...]:
    """The words of `value`."""
    return tuple(_word(raw, variables, escape) for raw in _raw_words(value, escape))


def split_pairs(
    value: str, variables: Mapping[str, str], *, escape: str = "\\"
) -> tuple[tuple[str, DockerWord], ...]:
    """The `name=value` pairs of ENV, ARG and LABEL; `ENV name value` too. A bare name has no value: ""."""
    raws = list(_raw_words(value, escape))
    if len(raws) > 1 and "=" not in raws[0]:
        rest = value.lstrip()[len(raws[0]) :].strip()
        return ((raws[0], _word(rest, variables, escape)),)
    pairs = (raw.partition("=") for raw in raws)
    return tuple((name.strip("\"'"), _word(text, variables, escape)) for name, _, text in pairs)


def string_list(value: str) -> tuple[str, ...] | None:
    """The strings of the JSON form of an instruction; None if it is not one, which builders take for shell form."""
    if not value.lstrip().startswith("["):
        return None
    try:
        items = json.loads(value)
    except (ValueError, RecursionError):
        return None
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        return None
    return tuple(items)


def _raw_words(value: str, escape: str) -> Iterator[str]:
    word, quote, position = "", "", 0
    while position < len(value):
        char = value[position]
        if char == escape and quote != "'" and position + 1 < len(value):
            word += value[position : position + 2]
            position += 2
            continue
        if not quote and char.isspace():
            if word:
                yield word
            word = ""
        else:
            if char in "\"'" and quote in {"", char}:
                quote = "" if quote else char
            word += char
        position += 1
    if word:
        yield word


def _word(raw: str, variables: Mapping[str, str], escape: str) -> DockerWord:
    text: list[str] = []
    unset: list[str] = []
    quote, position = "", 0
    while position < len(raw):
        char = raw[position]
        if char == escape and quote != "'" and position + 1 < len(raw):
            text.append(raw[position + 1])
            position += 2
        elif char in "\"'" and quote in {"", char}:
            quote = "" if quote else char
            position += 1
        elif char == "$" and quote != "'" and (match := _VARIABLE.match(raw, position)):
            text.append(_value(match, variables, unset))
            position = match.end()
        else:
            if char == "$" and quote != "'":
                unset.append(raw[position : position + 40])
            text.append(char)
            position += 1
    return DockerWord(text="".join(text)[:MAX_VALUE_CHARS], unset=tuple(unset))


def _value(match: re.Match[str], variables: Mapping[str, str], unset: list[str]) -> str:
    name, operator, other = match[1] or match[2], match[3] or "", match[4] or ""
    value = variables.get(name)
    is_set = value is not None and (value != "" or not operator.startswith(":"))
    match operator[-1:]:
        case "-":
            return value if is_set and value is not None else other
        case "+":
            return other if is_set else ""
        case _:
            if value is None:
                unset.append(name)
                return match[0]
            return value
