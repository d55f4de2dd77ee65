"""A home is complete or absent; its keys are private; trust changes as a whole."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.errors import HomeError
from appliance.home import Home, add_person, create_home, open_home
from attestation.trust import Role, trust_sha256

NOW = datetime(2026, 11, 21, 2, 0, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return create_home(tmp_path / "home", name="test", now=NOW)


def test_new_home_opens_with_its_own_keys(home: Home) -> None:
    opened = open_home(home.root)
    assert opened.appliance_signer().key_id == home.trust().keys[0].key_id
    assert opened.log_signer().vkey == home.trust().log_vkey
    assert opened.log_origin.startswith("test.assay/")


def test_refuses_a_place_that_is_taken(home: Home) -> None:
    with pytest.raises(HomeError, match="not an empty folder"):
        create_home(home.root, name="test", now=NOW)


def test_failed_creation_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(HomeError):
        create_home(tmp_path / "home", name="Not A Name", now=NOW)
    assert list(tmp_path.iterdir()) == []


def test_says_that_a_folder_is_no_home(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="no appliance home here"):
        open_home(tmp_path)


def test_refuses_a_home_of_another_layout(home: Home) -> None:
    facts = home.root / "home.json"
    facts.write_text(facts.read_text().replace('"layout": 1', '"layout": 9'))
    with pytest.raises(HomeError, match="layout 9, this Assay knows 1"):
        open_home(home.root)


def test_private_keys_are_for_the_owner_alone(home: Home) -> None:
    assert {p.stat().st_mode & 0o777 for p in home.keys_dir.iterdir()} == {0o600}


def test_refuses_a_key_that_others_can_read(home: Home) -> None:
    (home.keys_dir / "appliance.pem").chmod(0o644)
    with pytest.raises(HomeError, match="mode 644, wanted 600"):
        home.appliance_signer()


def test_refuses_a_key_of_the_wrong_kind(home: Home) -> None:
    log_key = (home.keys_dir / "log.pem").read_bytes()
    (home.keys_dir / "appliance.pem").write_bytes(log_key)
    with pytest.raises(HomeError, match="P-256"):
        home.appliance_signer()


def test_added_person_is_trusted_for_the_role_alone(home: Home) -> None:
    before = trust_sha256(home.trust_files())
    signer = add_person(home, name="olu", role=Role.APPROVER, now=NOW)
    key = home.trust().key(signer.key_id)
    assert (key.role, key.name) == (Role.APPROVER, "olu")
    assert trust_sha256(home.trust_files()) != before


def test_adding_a_person_again_changes_nothing(home: Home) -> None:
    add_person(home, name="olu", role=Role.APPROVER, now=NOW)
    pin = trust_sha256(home.trust_files())
    add_person(home, name="olu", role=Role.APPROVER, now=NOW)
    assert trust_sha256(home.trust_files()) == pin


@pytest.mark.parametrize("name", ["../evil", "", "Olu", "a b", "appliance/x", "é"])
def test_refuses_names_that_are_not_plain(home: Home, name: str) -> None:
    with pytest.raises(HomeError, match="wanted up to 40"):
        add_person(home, name=name, role=Role.APPROVER, now=NOW)


@pytest.mark.parametrize("name", ["appliance", "log"])
def test_refuses_the_appliances_own_names_for_people(home: Home, name: str) -> None:
    with pytest.raises(HomeError, match="reserved"):
        add_person(home, name=name, role=Role.APPROVER, now=NOW)


def test_one_worker_per_home(home: Home) -> None:
    with home.worker_lock(), pytest.raises(HomeError, match="another worker"), home.worker_lock():
        pass


def test_kept_policy_is_checked_against_its_name(home: Home) -> None:
    files = {"a.cedar": b"permit(principal, action, resource);"}
    name = trust_sha256(files)
    home.keep_policy(files, sha256=name)
    assert home.policy_files(name) == files
    (home.root / "policies" / name / "a.cedar").write_bytes(b"changed")
    with pytest.raises(HomeError, match="not the one of that digest"):
        home.policy_files(name)
