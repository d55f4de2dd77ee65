"""The repository's licence as upstream compares it, and the licences of its parts."""

from pathlib import Path

import pytest

from tournament_sync.inspection.licences import is_licence_name, read_licences, recognise
from tournament_sync.inspection.report import Finding, LicenceFacts
from tournament_sync.inspection.tree import TreeFile
from tournament_sync.licence import APACHE_2_SHA256, UPSTREAM_NOTICE_SHA256

REFERENCE = Path(__file__).parents[2] / "deploy" / "champions" / "reference"
APACHE = (REFERENCE / "LICENSE.md").read_bytes()
NOTICE = (REFERENCE / "NOTICE").read_bytes()


def file(path: str, data: bytes) -> TreeFile:
    return TreeFile(path=path, size_bytes=len(data), is_executable=False, is_regular=True, data=data)


def read(**files: bytes) -> tuple[LicenceFacts, list[Finding]]:
    return read_licences(
        [file(path.replace("__", "/").replace("_md", ".md"), data) for path, data in files.items()]
    )


def test_accepts_the_published_texts_with_other_white_space() -> None:
    facts, findings = read(LICENSE_md=APACHE.replace(b"\n", b"  \r\n"), NOTICE=NOTICE.rstrip())
    assert facts.licence is not None and facts.notice is not None
    assert facts.licence.normalised_sha256 == APACHE_2_SHA256 and facts.licence.recognised == "Apache-2.0"
    assert facts.notice.normalised_sha256 == UPSTREAM_NOTICE_SHA256
    assert facts.attribution == "Gradients.io (https://gradients.io)"
    assert not findings


def test_tells_that_both_are_missing() -> None:
    facts, findings = read()
    assert facts.licence is None and facts.notice is None
    assert [found.rule for found in findings] == ["licence-missing", "notice-missing"]


def test_tells_changed_texts_and_what_they_are() -> None:
    facts, findings = read(
        LICENSE=b"Permission is hereby granted, free of charge, to any person obtaining a copy",
        NOTICE=NOTICE + b"\nmore",
    )
    assert facts.licence is None and facts.notice is None
    assert [found.rule for found in findings] == ["licence-changed", "notice-changed"]
    assert findings[0].found.startswith("MIT, normalised sha256 ")


def test_first_name_in_upstreams_order_counts() -> None:
    facts, findings = read(LICENSE=APACHE, LICENSE_md=b"mine", NOTICE=NOTICE)
    assert facts.licence is None
    assert [(found.rule, found.file) for found in findings] == [("licence-changed", "LICENSE.md")]
    assert [text.file for text in facts.vendored] == ["LICENSE"]


def test_lists_licences_of_parts() -> None:
    facts, findings = read(
        LICENSE=APACHE,
        NOTICE=NOTICE,
        lib__LICENSE=APACHE,
        gpl__COPYING=b"GNU General Public License\nversion 2",
    )
    assert [(text.file, text.recognised) for text in facts.vendored] == [
        ("lib/LICENSE", "Apache-2.0"),
        ("gpl/COPYING", "GPL-2"),
    ]
    assert [(found.rule, found.file) for found in findings] == [("licence-copyleft", "gpl/COPYING")]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("GNU AFFERO GENERAL PUBLIC LICENSE\n  Version 3, 2007", "AGPL-3"),
        ("GNU Lesser General Public License version 2.1", "LGPL-2.1"),
        ("Mozilla Public License Version 2.0", "MPL-2.0"),
        ("Redistribution and use in source and binary forms ... Neither the name of", "BSD-3-Clause"),
        ("Redistribution and use in source and binary\nforms", "BSD-2-Clause"),
        ("CreativeML Open RAIL-M", "OpenRAIL"),
        ("LLAMA 3 COMMUNITY LICENSE AGREEMENT", "Community-Agreement"),
        ("This is free and unencumbered software", "Unlicense"),
        ("mine", ""),
    ],
)
def test_recognises(text: str, name: str) -> None:
    assert recognise(text) == name


@pytest.mark.parametrize(
    "path", ["LICENSE", "a/licence.txt", "LICENSE-MIT", "COPYING.LESSER", "x/NOTICE", "Copyright"]
)
def test_knows_names_of_licences(path: str) -> None:
    assert is_licence_name(path)


@pytest.mark.parametrize(
    "path", ["licence.py", "licensed", "tools/license_check.py", "unnoticed", "LICENSE.json"]
)
def test_knows_names_that_are_none(path: str) -> None:
    assert not is_licence_name(path)
