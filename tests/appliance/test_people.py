"""Whose signatures count is decided on purpose, and every such decision is logged."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance import people
from appliance.assembly import Appliance, open_appliance
from appliance.errors import HomeError
from appliance.home import create_home
from appliance.keys.file import create_claim_key
from appliance.settings import Settings
from appliance.store.engine import reading
from attestation.errors import MalformedError
from attestation.trust import Role
from audit.store import events_of
from tests.appliance.vetting import change_key
from tests.appliance.world import START

NOW = datetime(2026, 11, 21, 2, 0, tzinfo=UTC)
EARLIER = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def appliance(tmp_path: Path) -> Appliance:
    return open_appliance(Settings(home=create_home(tmp_path / "home", name="test", now=NOW).root))


@pytest.fixture
def public_pem(tmp_path: Path) -> bytes:
    return create_claim_key(tmp_path / "elsewhere.pem").public_pem


def test_public_key_of_somebody_elsewhere_is_trusted_from_then_on(
    appliance: Appliance, public_pem: bytes
) -> None:
    key_id = people.trust(
        appliance, name="feed", role=Role.PUBLISHER, public_pem=public_pem, valid_from=EARLIER, actor="ada"
    )
    key = appliance.home.trust().key(key_id)
    assert (key.name, key.role, key.valid_from) == ("feed", Role.PUBLISHER, EARLIER)
    assert not (appliance.home.keys_dir / "feed.pem").exists()


def test_trusting_is_an_event_with_the_key(appliance: Appliance, public_pem: bytes) -> None:
    key_id = people.trust(
        appliance, name="feed", role=Role.PUBLISHER, public_pem=public_pem, valid_from=EARLIER, actor="ada"
    )
    with reading(appliance.engine) as conn:
        (logged,) = events_of(conn, "feed")
    assert (logged.event.kind, logged.event.actor) == ("person:trusted", "ada")
    assert logged.event.detail == {"key": key_id, "role": "publisher"}


def test_nobody_gets_the_appliances_role(appliance: Appliance) -> None:
    with pytest.raises(HomeError, match="the appliance's own"):
        people.add(appliance, name="mallory", role=Role.APPLIANCE, actor="ada")


def test_one_key_is_one_person_s(appliance: Appliance) -> None:
    people.add(appliance, name="olu", role=Role.APPROVER, actor="ada")
    pem = appliance.home.person_signer("olu").public_pem
    with pytest.raises(HomeError, match="that key is olu's as approver"):
        people.trust(
            appliance, name="eve", role=Role.PUBLISHER, public_pem=pem, valid_from=START, actor="ada"
        )


@pytest.mark.parametrize(
    ("first", "second"), [(Role.APPROVER, Role.PUBLISHER), (Role.PUBLISHER, Role.APPROVER)]
)
def test_one_name_has_one_role_whatever_the_key(
    appliance: Appliance, public_pem: bytes, first: Role, second: Role
) -> None:
    people.add(appliance, name="mal", role=first, actor="ada")
    for trusting in (
        lambda: people.add(appliance, name="mal", role=second, actor="ada"),
        lambda: people.trust(
            appliance, name="mal", role=second, public_pem=public_pem, valid_from=START, actor="ada"
        ),
    ):
        with pytest.raises(HomeError, match=f"mal is trusted as {first}: one person, one role"):
            trusting()
    assert [key.role for key in appliance.home.trust().keys if key.name == "mal"] == [first]


def test_a_name_whose_key_was_revoked_gets_no_other_role(appliance: Appliance) -> None:
    people.add(appliance, name="mal", role=Role.PUBLISHER, actor="ada")
    change_key(appliance, "mal", revoked_at=START)
    with pytest.raises(HomeError, match="mal is trusted as publisher"):
        people.add(appliance, name="mal", role=Role.APPROVER, actor="ada")


def test_a_person_who_is_refused_gets_no_key(appliance: Appliance, public_pem: bytes) -> None:
    people.trust(
        appliance, name="mal", role=Role.PUBLISHER, public_pem=public_pem, valid_from=START, actor="ada"
    )
    with pytest.raises(HomeError, match="mal is trusted as publisher"):
        people.add(appliance, name="mal", role=Role.APPROVER, actor="ada")
    assert not (appliance.home.keys_dir / "mal.pem").exists()


def test_what_is_no_public_key_is_refused(appliance: Appliance) -> None:
    with pytest.raises(MalformedError):
        people.trust(
            appliance, name="feed", role=Role.PUBLISHER, public_pem=b"x", valid_from=NOW, actor="ada"
        )


def test_person_without_a_key_here_is_told_how_to_get_one(appliance: Appliance) -> None:
    with pytest.raises(
        HomeError, match="bob has no signing key in this home; `assay people add bob --role approver`"
    ):
        appliance.home.person_signer("bob")


def test_an_earlier_date_for_a_trusted_key_is_refused_not_passed_over(
    appliance: Appliance, public_pem: bytes
) -> None:
    def trust(since: datetime) -> str:
        return people.trust(
            appliance, name="feed", role=Role.PUBLISHER, public_pem=public_pem, valid_from=since, actor="ada"
        )

    assert trust(NOW) == trust(NOW)
    with pytest.raises(HomeError, match="is trusted from 2026-11-21T02:00:00Z on; that it counted earlier"):
        trust(EARLIER)
