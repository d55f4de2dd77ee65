"""Credentials in text: found by their form, told by their kind and length, never by their value.

Covered: private keys, tokens with a known form, random-looking values under a secret's name.
Not covered: passwords that are words, and secrets in binary files. A general scanner looks at each line with dozens
of plugins, which takes minutes for a tree that has to be done in seconds.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from tournament_sync.inspection.report import Finding
from tournament_sync.inspection.rules import finding

_MAX_PER_FILE = 50  # a list of tokens is one thing to look at
_MIN_BITS_PER_CHAR = 3.5  # of a generated value; words and dotted names are below


@dataclass(frozen=True, slots=True)
class _Form:
    """A token with a form of its own. Text without `mark` holds none, nor does text without a hint of `byte`."""

    title: str
    byte: bytes
    mark: bytes
    pattern: re.Pattern[bytes]


# Each begins with one byte, which a search skips to faster than it finds any word; most text has no hint at all.
_HINTS = (
    (b"_", re.compile(rb"_(?:(?<=hf_)|(?<=npm_)|(?<=gh[pousr]_)|(?<=github_pat_)|(?<=sk_live_))")),
    (b"-", re.compile(rb"-(?:(?<=sk-)|(?<=glpat-)|(?<=xox[baprs]-))")),
    (b"A", re.compile(rb"A(?:KIA|SIA|Iza)")),
    (b":", re.compile(rb":(?=//)")),
    (b"w", re.compile(rb"w(?=andb)")),
    (b"W", re.compile(rb"W(?=ANDB)")),
)
# Each pattern begins with its mark: then the search is as fast as that for a plain word.
_FORMS = (
    _Form("Hugging Face token", b"_", b"hf_", re.compile(rb"hf_[A-Za-z0-9]{34,40}\b")),
    *(
        _Form("GitHub token", b"_", mark, re.compile(mark + rb"[A-Za-z0-9]{36,255}\b"))
        for mark in (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_")
    ),
    _Form("GitHub token", b"_", b"github_pat_", re.compile(rb"github_pat_[A-Za-z0-9_]{60,255}\b")),
    _Form("GitLab token", b"-", b"glpat-", re.compile(rb"glpat-[\w-]{20,64}")),
    _Form("AWS access key", b"A", b"AKIA", re.compile(rb"AKIA[A-Z0-9]{16}\b")),
    _Form("AWS access key", b"A", b"ASIA", re.compile(rb"ASIA[A-Z0-9]{16}\b")),
    _Form(
        "OpenAI or Anthropic key",
        b"-",
        b"sk-",
        re.compile(rb"sk-(?:proj-|ant-|svcacct-)?[A-Za-z0-9_-]{40,255}"),
    ),
    _Form("Slack token", b"-", b"xox", re.compile(rb"xox[baprs]-[A-Za-z0-9-]{20,255}")),
    _Form("Google key", b"A", b"AIza", re.compile(rb"AIza[\w-]{35}\b")),
    _Form("npm token", b"_", b"npm_", re.compile(rb"npm_[A-Za-z0-9]{36}\b")),
    _Form("Stripe key", b"_", b"sk_live_", re.compile(rb"sk_live_[A-Za-z0-9]{20,255}")),
    _Form("password in a URL", b":", b"://", re.compile(rb"://[\w.%-]{1,64}:([^\s/@:\"'{}$<>]{6,128})@")),
    *(
        _Form(
            "Weights & Biases key",
            mark[:1],
            mark,
            re.compile(mark + rb"[^\n]{0,60}?[\"'=: (]([0-9a-f]{40})\b"),
        )
        for mark in (b"wandb", b"WANDB")
    ),
)
_PRIVATE_KEY = re.compile(rb"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_KEYWORDS = tuple(
    map(
        re.compile,
        (rb"secret", rb"passw(?:or)?d", rb"api_?key", rb"access_?key", rb"token(?!iz|s)", rb"credential"),
    )
)
_ASSIGNED = re.compile(
    rb"""[\w.-]{0,20}["']?\s{0,4}(?::\s?str\s{0,4})?(?:=|:|=>)\s{0,4}["']([A-Za-z0-9+/=_.~-]{20,200})["']"""
)
_PLACEHOLDER = re.compile(rb"(?i)your|example|changeme|placeholder|dummy|password|xxxx|1234567|abcdef")
_WORDS = re.compile(rb"[A-Za-z]+(?:[_./-][A-Za-z]+)*[_./-]?\d{0,4}")


def find_secrets(data: bytes, *, file: str) -> Iterator[Finding]:
    """What looks like a credential in `data`; values are not repeated."""
    for rule, start, title in islice(_matches(data), _MAX_PER_FILE):
        yield finding(rule, file=file, line=data.count(b"\n", 0, start) + 1, found=title)


def mask(text: str) -> str:
    """`text` with every token that has a known form replaced by its kind; for words of others in a report."""
    data = text.encode(errors="surrogatepass")
    for form in _FORMS:
        if form.mark in data:
            data = form.pattern.sub(f"[{form.title}]".encode(), data)
    return data.decode(errors="surrogatepass")


def _matches(data: bytes) -> Iterator[tuple[str, int, str]]:
    """(rule, where it starts, what to say)."""
    if b"-" in data and b"PRIVATE KEY" in data:
        for key in _PRIVATE_KEY.finditer(data):
            yield "secret-private-key", key.start(), "private key in PEM form"
    taken = set()
    hinted = {byte for byte, hint in _HINTS if byte in data and hint.search(data)}
    for form in _FORMS if hinted else ():
        if form.byte not in hinted or form.mark not in data:
            continue
        for token in form.pattern.finditer(data):
            value = token[token.lastindex or 0]
            is_inside_word = (
                form.mark[:1].isalnum() and data[max(0, token.start() - 1) : token.start()].isalnum()
            )
            if _is_token(value) and not is_inside_word:
                taken.add(token.end(token.lastindex or 0))
                yield "secret-token", token.start(), f"{form.title} of {len(value)} characters"
    for start, end, size in _assignments(data):
        if end not in taken:
            yield "secret-assignment", start, f"value of {size} characters under a secret's name"


def _is_token(value: bytes) -> bool:
    # A row of equal or rising characters is how documentation writes a token.
    return not _PLACEHOLDER.search(value) and len(set(value)) > len(value) // 6


def _assignments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(start, end of the value, size of the value) of random-looking values under a secret's name."""
    if not ((b"=" in data or b":" in data) and (b'"' in data or b"'" in data)):
        return  # nothing is assigned; so it is with data of numbers alone
    lower = data.lower()
    seen = set()
    for keyword in _KEYWORDS:
        for name in keyword.finditer(lower):
            assigned = _ASSIGNED.match(data, name.end())
            if assigned is not None and assigned.end() not in seen and _is_generated(assigned[1]):
                seen.add(assigned.end())
                yield name.start(), assigned.end(1), len(assigned[1])


def _is_generated(value: bytes) -> bool:
    has_both = re.search(rb"[0-9]", value) and re.search(rb"[A-Za-z]", value)
    if not has_both or _PLACEHOLDER.search(value) or _WORDS.fullmatch(value):
        return False
    counts = Counter(value)
    bits = -sum(n / len(value) * math.log2(n / len(value)) for n in counts.values())
    return bits >= _MIN_BITS_PER_CHAR
