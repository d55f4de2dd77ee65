"""The licence of the repository as upstream compares it, and the licences of the parts that it carries along.

Upstream's rule is tournament_sync.licence; which licence another text is, is told by phrases, for a reader.
"""

import re
from collections.abc import Iterator, Sequence

from attestation.digest import sha256_hex
from tournament_sync.inspection.report import Finding, LicenceFacts, LicenceText
from tournament_sync.inspection.rules import finding
from tournament_sync.inspection.tree import TreeFile
from tournament_sync.licence import (
    APACHE_2_SHA256,
    LICENCE_NAMES,
    NOTICE_NAMES,
    UPSTREAM_LICENCE_SHA256,
    UPSTREAM_NOTICE_SHA256,
    normalised,
)

ATTRIBUTION = "Gradients.io (https://gradients.io)"
MAX_LICENCE_BYTES = 64 << 10  # as upstream's rule has it; longer files are lists of licences of others

_LICENCE_NAME = re.compile(r"(?i)(?:licen[cs]es?|copying|notice|copyright|unlicense)(?:[-_.][\w.-]*)?")
_NOT_TEXT = (".py", ".json", ".js", ".html", ".png", ".yml", ".yaml", ".sh")
# The first phrase that a text holds names it; several texts quote Apache or MIT, so those come last.
_PHRASES = (
    ("gnu affero general public license", "AGPL"),
    ("gnu lesser general public license", "LGPL"),
    ("gnu library general public license", "LGPL"),
    ("gnu general public license", "GPL"),
    ("mozilla public license", "MPL"),
    ("european union public licence", "EUPL"),
    ("creativeml open rail", "OpenRAIL"),
    ("openrail", "OpenRAIL"),
    ("non-commercial license", "Non-Commercial"),
    ("noncommercial", "Non-Commercial"),
    ("for non-commercial", "Non-Commercial"),
    ("community license agreement", "Community-Agreement"),
    ("creative commons", "CC"),
    ("this is free and unencumbered software", "Unlicense"),
    ("permission to use, copy, modify, and/or distribute this software for any purpose", "ISC"),
    ("boost software license", "BSL-1.0"),
    ("gradients-on-demand", "Gradients-on-Demand"),
)
_COPYLEFT = frozenset({"AGPL", "LGPL", "GPL", "MPL", "EUPL"})
_RESTRICTED = frozenset({"OpenRAIL", "Non-Commercial", "Community-Agreement", "CC"})


def is_licence_name(path: str) -> bool:
    """Whether a file of that name usually holds a licence or notice."""
    name = path.rpartition("/")[2]
    return _LICENCE_NAME.fullmatch(name) is not None and not name.lower().endswith(_NOT_TEXT)


def read_licences(files: Sequence[TreeFile]) -> tuple[LicenceFacts, list[Finding]]:
    """The licences among `files`, which are those that `is_licence_name` picked."""
    by_path = {file.path: file for file in files}
    licence = next((by_path[name] for name in LICENCE_NAMES if name in by_path), None)
    notice = next((by_path[name] for name in NOTICE_NAMES if name in by_path), None)
    accepted_licences = frozenset({APACHE_2_SHA256, UPSTREAM_LICENCE_SHA256})
    found: list[Finding] = []
    facts = LicenceFacts(
        licence=_accepted(licence, accepted_licences, "licence", found),
        notice=_accepted(notice, frozenset({UPSTREAM_NOTICE_SHA256}), "notice", found),
        vendored=tuple(_text(file) for file in files if file not in (licence, notice)),
        attribution=ATTRIBUTION,
    )
    found += [each for text in facts.vendored for each in _of_part(text)]
    return facts, found


def recognise(text: str) -> str:
    """The name of the licence that `text` is, "" if it is none that is known here."""
    plain = " ".join(text.lower().split())
    for phrase, name in _PHRASES:
        if phrase in plain:
            return f"{name}-{version}" if (version := _version(plain, name)) else name
    if "redistribution and use in source and binary forms" in plain:
        return "BSD-3-Clause" if "neither the name" in plain else "BSD-2-Clause"
    if "apache license" in plain and "version 2.0" in plain:
        return "Apache-2.0"
    is_mit = "permission is hereby granted, free of charge, to any person obtaining a copy" in plain
    return "MIT" if is_mit else ""


def _version(plain: str, name: str) -> str:
    if name not in _COPYLEFT:
        return ""
    number = re.search(r"version (\d(?:\.\d)?)", plain)
    return "" if number is None else number[1]


def _accepted(
    file: TreeFile | None, accepted: frozenset[str], title: str, found: list[Finding]
) -> LicenceText | None:
    if file is None:
        found.append(finding(f"{title}-missing", file="", line=0, found=f"no {title} file at the top"))
        return None
    text = _text(file)
    if text.normalised_sha256 in accepted:
        return text
    said = f"{text.recognised or 'no known licence'}, normalised sha256 {text.normalised_sha256}"
    found.append(finding(f"{title}-changed", file=file.path, line=0, found=said))
    return None


def _text(file: TreeFile) -> LicenceText:
    text = file.data[:MAX_LICENCE_BYTES].decode(errors="replace")
    return LicenceText(
        file=file.path, normalised_sha256=sha256_hex(normalised(text)), recognised=recognise(text)
    )


def _of_part(text: LicenceText) -> Iterator[Finding]:
    family = text.recognised.partition("-")[0]
    is_notice = re.match(r"(?i)notice|copyright", text.file.rpartition("/")[2]) is not None
    if family in _COPYLEFT:
        yield finding("licence-copyleft", file=text.file, line=0, found=text.recognised)
    elif text.recognised in _RESTRICTED or family in _RESTRICTED:
        yield finding("licence-restricted", file=text.file, line=0, found=text.recognised)
    elif not text.recognised and not is_notice:
        yield finding("licence-unknown", file=text.file, line=0, found=f"sha256 {text.normalised_sha256}")
