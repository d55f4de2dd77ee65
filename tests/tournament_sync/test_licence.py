"""Upstream's licence rule, with upstream's file names and upstream's digests."""

import shutil
from pathlib import Path

import pytest

from attestation.digest import sha256_hex
from tournament_sync.errors import LicenceError
from tournament_sync.licence import (
    APACHE_2_SHA256,
    LICENCE_NAMES,
    NOTICE_NAMES,
    UPSTREAM_NOTICE_SHA256,
    Licence,
    normalised,
    read_licence,
)

LICENCE = Path(__file__).parents[2] / "LICENSE"


@pytest.fixture
def folder(tmp_path: Path, notice: str) -> Path:
    shutil.copy(LICENCE, tmp_path / "LICENSE.md")
    (tmp_path / "NOTICE").write_text(notice)
    return tmp_path


def test_reads_both_texts(folder: Path) -> None:
    assert read_licence(folder) == Licence(
        licence_sha256=APACHE_2_SHA256, notice_sha256=UPSTREAM_NOTICE_SHA256
    )


def test_the_projects_own_licence_is_apache_2() -> None:
    assert sha256_hex(normalised(LICENCE.read_text())) == APACHE_2_SHA256


@pytest.mark.parametrize("name", LICENCE_NAMES)
def test_takes_every_name_of_the_licence(folder: Path, name: str) -> None:
    (folder / "LICENSE.md").rename(folder / name)
    assert read_licence(folder).licence_sha256 == APACHE_2_SHA256


@pytest.mark.parametrize("name", NOTICE_NAMES)
def test_takes_every_name_of_the_notice(folder: Path, name: str) -> None:
    (folder / "NOTICE").rename(folder / name)
    assert read_licence(folder).notice_sha256 == UPSTREAM_NOTICE_SHA256


@pytest.mark.parametrize("ending", ["\r\n", " \t\n"])
def test_white_space_at_line_ends_does_not_count(folder: Path, notice: str, ending: str) -> None:
    (folder / "NOTICE").write_bytes(notice.replace("\n", ending).encode())
    assert read_licence(folder).notice_sha256 == UPSTREAM_NOTICE_SHA256


def test_a_missing_last_newline_does_not_count(folder: Path, notice: str) -> None:
    (folder / "NOTICE").write_text(notice.rstrip("\n"))
    assert read_licence(folder).notice_sha256 == UPSTREAM_NOTICE_SHA256


def test_the_first_name_counts(folder: Path) -> None:
    (folder / "LICENSE").write_text("mine")
    assert read_licence(folder).licence_sha256 == APACHE_2_SHA256


def test_refuses_a_repository_without_licence(folder: Path) -> None:
    (folder / "LICENSE.md").unlink()
    with pytest.raises(LicenceError, match=r"the repository has no LICENSE\.md"):
        read_licence(folder)


def test_refuses_a_repository_without_notice(folder: Path) -> None:
    (folder / "NOTICE").unlink()
    with pytest.raises(LicenceError, match="the repository has no NOTICE"):
        read_licence(folder)


def test_refuses_another_licence(folder: Path) -> None:
    (folder / "LICENSE.md").write_text("MIT License\n")
    with pytest.raises(LicenceError, match=r"LICENSE\.md is not the text that champions are published under"):
        read_licence(folder)


def test_refuses_one_changed_word(folder: Path, notice: str) -> None:
    (folder / "NOTICE").write_text(notice.replace("must", "may"))
    with pytest.raises(LicenceError, match="NOTICE is not the text"):
        read_licence(folder)


def test_refuses_a_text_over_the_limit(folder: Path) -> None:
    (folder / "NOTICE").write_text("x" * (65 << 10))
    with pytest.raises(LicenceError, match="over the limit of 65536"):
        read_licence(folder)


def test_refuses_a_text_that_is_not_utf8(folder: Path) -> None:
    (folder / "NOTICE").write_bytes(b"\xff\xfe")
    with pytest.raises(LicenceError, match="NOTICE is not UTF-8 text"):
        read_licence(folder)
