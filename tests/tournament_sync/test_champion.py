"""From a bundle of unknown origin to a champion, or a refusal."""

from datetime import timedelta

import pytest

from attestation.bundle import sign_statement
from attestation.keys import load_public_key
from attestation.predicates import APPROVAL, CHAMPION_RELEASE
from attestation.statement import Statement, Subject
from attestation.trust import Role
from tournament_sync.champion import Channel, ContractEpoch, ReleaseOffer, is_champion_name, open_release
from tournament_sync.errors import ReleaseError

RELEASE = {
    "channel": "text",
    "commit": "c" * 40,
    "tree": "d" * 40,
    "contractEpoch": "E4",
    "origin": "tree",
    "licence": {"sha256": "e" * 64},
    "notice": {"sha256": "f" * 64},
    "links": [],
    "images": [],
    "tournament": None,
    "publishedAt": "2026-11-20T00:00:00Z",
}


@pytest.fixture
def offer(name, publisher):
    def make(**changes: object) -> ReleaseOffer:
        statement = Statement(
            subjects=(Subject(name=name, sha256="a" * 64),),
            predicate_type=CHAMPION_RELEASE,
            predicate={"name": name, **RELEASE, **changes},
        )
        return ReleaseOffer(name=name, bundle=sign_statement(statement, publisher))

    return make


def test_champion_says_what_was_signed(offer, trust, publisher, name, now) -> None:
    champion = open_release(offer(), trust=trust, now=now)
    assert (champion.name, champion.commit, champion.tree) == (name, "c" * 40, "d" * 40)
    assert (champion.manifest_root, champion.licence_sha256, champion.notice_sha256) == (
        "a" * 64,
        "e" * 64,
        "f" * 64,
    )
    assert champion.publisher == load_public_key(publisher.public_pem).key_id


def test_bundle_is_kept_verbatim(offer, trust, now) -> None:
    given = offer()
    assert open_release(given, trust=trust, now=now).bundle == given.bundle


@pytest.mark.parametrize("channel", Channel)
def test_takes_every_channel(offer, trust, now, channel: Channel) -> None:
    assert open_release(offer(channel=channel.value), trust=trust, now=now).channel is channel


@pytest.mark.parametrize("epoch", ContractEpoch)
def test_takes_every_epoch(offer, trust, now, epoch: ContractEpoch) -> None:
    assert open_release(offer(contractEpoch=epoch.value), trust=trust, now=now).contract_epoch is epoch


@pytest.mark.parametrize(
    "text", ["", "A", "a_b", "-a", "a-", "a/b", "..", "a.git", "é", "a" * 101, "a\n", "0" * 64]
)
def test_refuses_unsafe_name(offer, trust, now, text: str) -> None:
    assert not is_champion_name(text)
    with pytest.raises(ReleaseError, match="is not lower case, digits and hyphens"):
        open_release(ReleaseOffer(name=text, bundle=offer().bundle), trust=trust, now=now)


@pytest.mark.parametrize("text", ["0" * 63, "0" * 65, "0" * 63 + "g", "a" * 100])
def test_takes_what_only_nearly_looks_like_a_digest(text: str) -> None:
    assert is_champion_name(text)


def test_refuses_release_by_an_unknown_key(offer, trust_in, publisher, now) -> None:
    stranger = type(publisher)()
    with pytest.raises(ReleaseError, match="is not in the trust root"):
        open_release(offer(), trust=trust_in(stranger), now=now)


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.PUBLISHER])
def test_refuses_release_by_a_key_for_something_else(offer, trust_in, publisher, now, role: Role) -> None:
    with pytest.raises(ReleaseError, match="may not sign releases"):
        open_release(offer(), trust=trust_in(publisher, role=role), now=now)


def test_refuses_another_statement_of_the_publisher(name, publisher, trust, now) -> None:
    approval = {
        "approver": "ada",
        "printedName": "Ada",
        "meaning": "approval",
        "reason": "fine",
        "approvedAt": "2026-11-20T00:00:00Z",
        "policy": {"sha256": "a" * 64},
    }
    statement = Statement(
        subjects=(Subject(name=name, sha256="a" * 64),), predicate_type=APPROVAL, predicate=approval
    )
    bundle = sign_statement(statement, publisher)
    with pytest.raises(ReleaseError, match="signed statement is a urn:assay:approval"):
        open_release(ReleaseOffer(name=name, bundle=bundle), trust=trust, now=now)


def test_refuses_release_from_before_the_key_was_valid(offer, trust, now) -> None:
    with pytest.raises(ReleaseError, match="is valid only from 2026-01-01"):
        open_release(offer(publishedAt="2025-12-31T23:59:59Z"), trust=trust, now=now)


def test_refuses_release_from_after_the_key_was_valid(offer, trust_in, publisher, now) -> None:
    ended = trust_in(publisher, valid_until=now - timedelta(days=9))
    with pytest.raises(ReleaseError, match="was valid only until"):
        open_release(offer(), trust=ended, now=now)


def test_refuses_release_of_a_key_that_was_revoked_since(offer, trust_in, publisher, now) -> None:
    revoked = trust_in(publisher, revoked_at=now - timedelta(seconds=1))
    with pytest.raises(ReleaseError, match="was revoked at 2026-11-21T01:59:59Z"):
        open_release(offer(), trust=revoked, now=now)


def test_refuses_release_from_the_future(offer, trust, now) -> None:
    with pytest.raises(ReleaseError, match="published in the future, at 2026-11-21T02:00:01Z"):
        open_release(offer(publishedAt="2026-11-21T02:00:01Z"), trust=trust, now=now)


def test_refuses_release_under_another_name(offer, trust, now) -> None:
    renamed = ReleaseOffer(name="god-text-other", bundle=offer().bundle)
    with pytest.raises(ReleaseError, match="release of god-text-other: its subject is"):
        open_release(renamed, trust=trust, now=now)


def test_refuses_every_changed_byte(offer, trust, now) -> None:
    given = offer()
    for place in range(0, len(given.bundle), 7):
        changed = bytearray(given.bundle)
        changed[place] ^= 1
        with pytest.raises(ReleaseError):
            open_release(ReleaseOffer(name=given.name, bundle=bytes(changed)), trust=trust, now=now)


@pytest.mark.parametrize("bundle", [b"", b"{}", b"\xff" * 100])
def test_refuses_what_is_no_bundle(name, trust, now, bundle: bytes) -> None:
    with pytest.raises(ReleaseError, match=f"release of {name}"):
        open_release(ReleaseOffer(name=name, bundle=bundle), trust=trust, now=now)
