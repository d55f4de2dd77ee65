"""Approving with a key that never comes to the appliance: request out, approval back."""

import json
from pathlib import Path
from typing import Any

import pytest

from appliance.home import open_home, trust_person
from attestation.trust import Role
from tests.appliance.champion_cli import Site, assay, make_archive, make_key, make_site, make_tree
from tests.appliance.world import PROPOSER, propose

NAME = "god-text-reference"
SAID = ("--as", "zoe", "--printed-name", "Zoe Elsewhere", "--reason", "read whole")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = make_site(tmp_path)
    with made.opened() as appliance:
        propose(appliance, published_at=made.now)
    signer = make_key(tmp_path / "zoe.pem")
    trust_person(
        open_home(made.home),
        name="zoe",
        role=Role.APPROVER,
        public_pem=signer.public_pem,
        valid_from=made.now,
    )
    return made


@pytest.fixture
def request_file(site: Site, tmp_path: Path) -> Path:
    path = tmp_path / "request.json"
    path.write_text(site.assay("champions", "show", NAME, "--approval-request").stdout)
    return path


def sign(tmp_path: Path, *more: str, key: str = "zoe.pem", said: tuple[str, ...] = SAID) -> Any:
    return assay(
        "champions",
        "approve",
        "--request",
        str(tmp_path / "request.json"),
        "--sign-with",
        str(tmp_path / key),
        "--bundle-out",
        str(tmp_path / "approval.json"),
        *said,
        *more,
    )


def hand_in(site: Site, tmp_path: Path) -> Any:
    return site.assay("champions", "approve", NAME, "--bundle", str(tmp_path / "approval.json"))


def test_request_goes_out_and_the_approval_comes_back(site: Site, request_file: Path, tmp_path: Path) -> None:
    signed = sign(tmp_path)
    asked = json.loads(request_file.read_text())
    assert (signed.exit_code, signed.stdout) == (0, "")
    assert f"zoe approved {NAME}, manifest sha256:{asked['manifest_sha256']}" in signed.stderr
    assert hand_in(site, tmp_path).exit_code == 0
    assert hand_in(site, tmp_path).exit_code == 0  # the same again is no change
    shown = json.loads(site.assay("champions", "show", NAME, "-o", "json").stdout)
    (approval,) = shown["approvals"]
    assert (approval["approver"], approval["printed_name"]) == ("zoe", "Zoe Elsewhere")
    assert site.assay("champions", "adopt", NAME, "--as", PROPOSER).exit_code == 0


def test_request_names_policy_and_report(site: Site, request_file: Path) -> None:
    asked = json.loads(request_file.read_text())
    shown = json.loads(site.assay("champions", "show", NAME, "-o", "json").stdout)
    with site.opened() as appliance:
        assert asked["policy_sha256"] == appliance.admission_policy().sha256
    assert asked["report_sha256"] == shown["inspected"]["sha256"]
    assert asked["schema"] == "assay.approval-request/v1"


def test_the_proposer_is_refused_before_anything_is_signed(
    site: Site, request_file: Path, tmp_path: Path
) -> None:
    refused = sign(tmp_path, said=("--as", PROPOSER, *SAID[2:]))
    assert (refused.exit_code, "another person must approve it" in refused.stderr) == (1, True)
    assert not (tmp_path / "approval.json").exists()


def test_an_existing_file_is_not_written_over(site: Site, request_file: Path, tmp_path: Path) -> None:
    (tmp_path / "approval.json").write_text("mine")
    refused = sign(tmp_path)
    assert (refused.exit_code, "give a new file" in refused.stderr) == (1, True)
    assert (tmp_path / "approval.json").read_text() == "mine"


def test_a_key_of_nobody_counts_for_nothing(site: Site, request_file: Path, tmp_path: Path) -> None:
    make_key(tmp_path / "stranger.pem")
    assert sign(tmp_path, key="stranger.pem").exit_code == 0
    refused = hand_in(site, tmp_path)
    assert (refused.exit_code, "is not in the trust root" in refused.stderr) == (1, True)


def test_another_persons_name_counts_for_nothing(site: Site, request_file: Path, tmp_path: Path) -> None:
    assert sign(tmp_path, said=("--as", "olu", *SAID[2:])).exit_code == 0
    refused = hand_in(site, tmp_path)
    assert (refused.exit_code, "its approver is olu, expected zoe" in refused.stderr) == (1, True)


def test_an_approval_of_another_champion_is_refused(site: Site, request_file: Path, tmp_path: Path) -> None:
    with site.opened() as appliance:
        propose(appliance, name="second", note="other", published_at=site.now)
    assert sign(tmp_path).exit_code == 0
    refused = site.assay("champions", "approve", "second", "--bundle", str(tmp_path / "approval.json"))
    assert (refused.exit_code, "its subject is" in refused.stderr) == (1, True)


@pytest.mark.parametrize(
    "change",
    [
        {"colour": "red"},
        {"schema": "assay.approval-request/v2"},
        {"manifest_sha256": "0" * 64},
        {"manifest_sha256": "xyz"},
        {"name": "../../etc/passwd"},
        {"name": "another-name"},
        {"proposed_at": "yesterday"},
        {"commit": 7},
        {"policy_sha256": None},
        {"release": "{}"},
    ],
)
def test_a_changed_request_is_refused(
    site: Site, request_file: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    request_file.write_text(json.dumps(json.loads(request_file.read_text()) | change))
    refused = sign(tmp_path)
    assert (refused.exit_code, "request" in refused.stderr) == (1, True)
    assert not (tmp_path / "approval.json").exists()


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"{" * 5000, b" " * 300_000])
def test_what_is_no_request_is_refused(
    site: Site, request_file: Path, tmp_path: Path, content: bytes
) -> None:
    request_file.write_bytes(content)
    assert sign(tmp_path).exit_code == 1


@pytest.mark.parametrize("missing", ["request.json", "zoe.pem"])
def test_a_missing_file_is_told(site: Site, request_file: Path, tmp_path: Path, missing: str) -> None:
    (tmp_path / missing).unlink()
    refused = sign(tmp_path)
    assert refused.exit_code in (1, 3)
    assert missing in refused.stderr


@pytest.mark.parametrize("option", ["--sign-with", "--bundle-out"])
def test_signing_elsewhere_needs_a_key_and_a_place(request_file: Path, tmp_path: Path, option: str) -> None:
    given = {"--sign-with": str(tmp_path / "zoe.pem"), "--bundle-out": str(tmp_path / "approval.json")}
    del given[option]
    words = [word for pair in given.items() for word in pair]
    done = assay("champions", "approve", "--request", str(request_file), *SAID, *words)
    assert (done.exit_code, f"{option} is missing" in " ".join(done.stderr.split())) == (2, True)


def test_handing_in_needs_the_champions_name(site: Site, request_file: Path) -> None:
    assert site.assay("champions", "approve", "--bundle", str(request_file)).exit_code == 2


def test_an_approval_that_is_too_large_is_refused(site: Site, tmp_path: Path) -> None:
    (tmp_path / "approval.json").write_bytes(b"x" * 70_000)
    refused = hand_in(site, tmp_path)
    assert (refused.exit_code, "over the limit" in refused.stderr) == (1, True)


def test_the_approver_signs_only_for_the_files_they_saw(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    make_key(tmp_path / "zoe.pem")
    archive = make_archive(tmp_path, site.publisher(), name=NAME)
    assert site.assay("champions", "import", str(archive), "--as", PROPOSER).exit_code == 0
    (tmp_path / "request.json").write_text(site.assay("champions", "show", NAME, "--approval-request").stdout)
    other = make_tree(tmp_path, note="other")
    refused = sign(tmp_path, "--seen", str(other))
    assert (refused.exit_code, "the request is for sha256:" in refused.stderr) == (1, True)
    assert not (tmp_path / "approval.json").exists()
    assert sign(tmp_path, "--seen", str(archive)).exit_code == 0
