"""Secrets out of what a guest prints: values that were handed in, and well-known forms of tokens.

What is covered: whole lines, however they were cut when they were read; values also as base64, percent-encoded
and inside JSON; private keys over many lines.
What is not covered: a guest that hides a secret on purpose, by any encoding of its own. It is given none.
"""

import base64
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import quote

from runner.errors import SpecError

SCRUBBED: Final = b"[scrubbed]"
MIN_VALUE_BYTES: Final = 6  # shorter ones occur in ordinary text
MAX_VALUE_BYTES: Final = 4096  # who cuts lines must look this far ahead
MAX_VALUES: Final = 256

_CONTEXT_BYTES: Final = 64  # a key without a form of its own is known by what stands before it
_HEX_KEY: Final = re.compile(rb"(?<![0-9A-Za-z])[0-9a-f]{40}(?![0-9A-Za-z])")
_SPEAKS_OF_KEYS: Final = re.compile(rb"wandb|api[ _-]?key|password", re.IGNORECASE)
_KEY_BEGIN: Final = re.compile(rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----[^\n]*")
_KEY_LINE: Final = re.compile(
    rb"\s*(?:[A-Za-z0-9+/=]{1,80}|(?:Proc-Type|DEK-Info|Version|Comment): [ -~]{0,80})?\s*"
)
_KEY_REST: Final = re.compile(rb"\s*[A-Za-z0-9+/=]{40,80}\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """A form of token. A search for the literal `anchors` is quick, one for the pattern is not.

    What matches a group named `kept` stays. Patterns must be linear: the text is hostile.
    """

    anchors: tuple[bytes, ...]
    pattern: re.Pattern[bytes]


def _form(pattern: bytes, *anchors: bytes) -> _Form:
    return _Form(anchors=anchors, pattern=re.compile(pattern))


# Source: the issuers' documentation of their token formats.
_FORMS: Final = (
    _form(rb"(?:hf|api_org)_[A-Za-z0-9]{30,}", b"hf_", b"api_org_"),
    _form(rb"gh[pousr]_[A-Za-z0-9]{36,}", b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_"),
    _form(rb"github_pat_[A-Za-z0-9_]{30,}", b"github_pat_"),
    _form(rb"glpat-[A-Za-z0-9_-]{20,}", b"glpat-"),
    _form(rb"wandb_v1_[A-Za-z0-9_-]{20,}", b"wandb_v1_"),
    _form(rb"(?<![A-Z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])", b"AKIA", b"ASIA"),
    _form(rb"(?<![A-Za-z0-9])sk-[A-Za-z0-9_-]{20,}", b"sk-"),
    _form(rb"xox[abeprs]-[A-Za-z0-9-]{10,}", b"xox"),
    _form(rb"AIza[A-Za-z0-9_-]{35}", b"AIza"),
    _form(rb"nvapi-[A-Za-z0-9_-]{40,}", b"nvapi-"),
    _form(rb"assay_[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])", b"assay_"),
    _form(rb"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}", b"eyJ"),
    _form(rb"(?P<kept>://)[^\s/@:]{0,256}:[^\s/@]{1,256}(?=@)", b"://"),
    _form(
        rb"(?P<kept>[Aa]uthorization['\"]?[:=] ?['\"]?(?:[Bb]earer|[Bb]asic|[Tt]oken) )[A-Za-z0-9._~+/=-]{8,}",
        b"uthorization",
    ),
    # As programs print their environment: WANDB_API_KEY=…, 'HF_TOKEN': '…', aws_secret_access_key = ….
    _form(
        rb"(?P<kept>(?:API_KEY|ACCESS_KEY|SECRET|TOKEN|PASSWORD|secret_access_key|session_token)['\"]?"
        rb"\s{0,4}[=:]\s{0,4}['\"]?)[A-Za-z0-9+/_.=-]{20,}",
        b"API_KEY", b"ACCESS_KEY", b"SECRET", b"TOKEN", b"PASSWORD", b"secret_access_key", b"session_token",
    ),
)  # fmt: skip


class _Key(Enum):
    """Whether the next line belongs to a private key."""

    NONE = 0
    BODY = 1
    PERHAPS = 2  # its first line may have been missed


class Scrubber:
    """Replaces secrets in whole lines. `count` is how often it did."""

    def __init__(self, *, values: Iterable[str] = ()) -> None:
        """`values` must never show. Raises SpecError for one that cannot be told from ordinary text."""
        wanted = {spelling for value in values for spelling in _spellings(value)}
        if len(wanted) > MAX_VALUES:
            raise SpecError(f"{len(wanted)} secret values are more than {MAX_VALUES}")
        self.count = 0
        self._values = tuple(sorted(wanted, key=len, reverse=True))  # the longest first: one may hold another
        self._key = _Key.NONE

    def scrub(self, lines: bytes) -> bytes:
        """`lines`, which go on where the last call ended, without secrets."""
        for value in self._values:
            if value in lines:
                self.count += lines.count(value)
                lines = lines.replace(value, SCRUBBED)
        if self._key is not _Key.NONE or b"PRIVATE KEY" in lines:
            lines = self._without_keys(lines)
        for form in _FORMS:
            if any(anchor in lines for anchor in form.anchors):
                lines, found = form.pattern.subn(_replacement, lines)
                self.count += found
        if _SPEAKS_OF_KEYS.search(lines):
            lines = _HEX_KEY.sub(self._hex_key, lines)
        return lines

    def after_gap(self) -> None:
        """Some lines were never seen: what follows may be the rest of a key."""
        self._key = _Key.PERHAPS

    def _without_keys(self, lines: bytes) -> bytes:
        return b"\n".join(map(self._without_key, lines.split(b"\n")))

    def _without_key(self, line: bytes) -> bytes:
        if begin := _KEY_BEGIN.search(line):
            self._key = _Key.NONE if b"-----END " in begin[0] else _Key.BODY
            self.count += 1
            return line[: begin.start()] + SCRUBBED
        if not line:
            return line  # also what follows the last line feed
        body = _KEY_LINE if self._key is _Key.BODY else _KEY_REST
        if self._key is _Key.NONE or (body.fullmatch(line) is None and b"-----END " not in line):
            self._key = _Key.NONE
            return line
        self._key = _Key.NONE if b"-----END " in line else _Key.BODY
        return SCRUBBED

    def _hex_key(self, match: re.Match[bytes]) -> bytes:
        line_start = match.string.rfind(b"\n", 0, match.start()) + 1
        context = match.string[max(line_start, match.start() - _CONTEXT_BYTES) : match.start()]
        if _SPEAKS_OF_KEYS.search(context) is None:
            return match[0]  # a commit, most likely
        self.count += 1
        return SCRUBBED


def _replacement(match: re.Match[bytes]) -> bytes:
    return (match.groupdict().get("kept") or b"") + SCRUBBED


def _spellings(value: str) -> set[bytes]:
    """How `value` may stand in a log; one over several lines is found line by line."""
    lines = [line.strip() for line in value.splitlines()]
    raw = [line.encode("utf-8", errors="surrogateescape") for line in lines]
    longest = max(map(len, raw), default=0)
    if not MIN_VALUE_BYTES <= longest <= MAX_VALUE_BYTES:
        raise SpecError(
            f"a secret value has {longest} bytes in a line: wanted {MIN_VALUE_BYTES} to {MAX_VALUE_BYTES},"
            " so that it can be found and is no ordinary text"
        )
    found: set[bytes] = set()
    for line, plain in zip(lines, raw, strict=True):
        if len(plain) >= MIN_VALUE_BYTES:
            found |= {plain, base64.b64encode(plain).rstrip(b"="), quote(plain, safe="").encode()}
            found.add(json.dumps(line)[1:-1].encode("ascii"))
    return found
