from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from appliance.attest import Claim
from appliance.domain import Run
from appliance.errors import ConflictError, NotFoundError
from appliance.store import artifacts, champions, claims
from appliance.store.artifacts import Artifact, ArtifactKind
from tests.appliance.vetting import NOBODY

NOW = datetime(2026, 11, 21, 3, 0, 0, tzinfo=UTC)
CHAMPION, MODEL = "c" * 64, "b" * 64


def test_admitted_champion_carries_every_bundle(stocked: Engine) -> None:
    with stocked.connect() as conn:
        admitted = champions.admitted(conn, CHAMPION, trust=NOBODY)
    assert admitted is not None
    assert admitted.release_bundle == b"release"
    assert admitted.approval_bundles == (b"approval",)
    assert admitted.admission_bundle == b"admission"


def test_the_newest_decision_counts(stocked: Engine) -> None:
    with stocked.begin() as conn:
        refuse(conn)
        decision = champions.newest_decision(conn, CHAMPION)
        assert champions.admitted(conn, CHAMPION, trust=NOBODY) is None
    assert decision is not None
    assert decision.reasons == ("licence: found none",)


@pytest.mark.parametrize(
    ("approver", "policy"), [("ada", "e" * 64), ("eve", "9" * 64)], ids=["own champion", "other policy"]
)
def test_approval_that_did_not_count_is_not_carried(stocked: Engine, approver: str, policy: str) -> None:
    with stocked.begin() as conn:
        champions.add_approval(
            conn, CHAMPION, approver=approver, policy_sha256=policy, bundle=b"other", approved_at=NOW
        )
        admitted = champions.admitted(conn, CHAMPION, trust=NOBODY)
    assert admitted is not None
    assert admitted.approval_bundles == (b"approval",)


def test_approval_younger_than_the_decision_is_not_carried(stocked: Engine) -> None:
    with stocked.begin() as conn:
        champions.add_approval(
            conn, CHAMPION, approver="eve", policy_sha256="e" * 64, bundle=b"late", approved_at=NOW
        )
        admitted = champions.admitted(conn, CHAMPION, trust=NOBODY)
    assert admitted is not None
    assert admitted.approval_bundles == (b"approval",)


def test_admission_as_it_was_outlives_a_later_refusal(stocked: Engine) -> None:
    with stocked.begin() as conn:
        decided = champions.newest_decision(conn, CHAMPION)
        refuse(conn)
        assert decided is not None
        assert champions.admitted(conn, CHAMPION, trust=NOBODY, at=decided.decided_at) is not None
        assert champions.admitted(conn, CHAMPION, trust=NOBODY) is None


def test_undecided_champion_is_not_admitted(stocked: Engine) -> None:
    with stocked.begin() as conn:
        proposed = champions.get(conn, CHAMPION)
        other = champions.ChampionRow(
            **{f: getattr(proposed, f) for f in proposed.__slots__} | {"manifest_sha256": "f" * 64}
        )
        assert champions.add(conn, other)
        assert champions.newest_decision(conn, "f" * 64) is None
        assert champions.admitted(conn, "f" * 64, trust=NOBODY) is None


def test_unknown_champion_is_not_found(stocked: Engine) -> None:
    with stocked.connect() as conn, pytest.raises(NotFoundError, match="no champion sha256:0000"):
        champions.admitted(conn, "0" * 64, trust=NOBODY)


def test_proposing_again_changes_nothing(stocked: Engine) -> None:
    with stocked.begin() as conn:
        before = champions.list_champions(conn)
        assert not champions.add(conn, champions.by_name(conn, "god-text-assay-reference"))
        assert champions.list_champions(conn) == before


def test_unknown_name_is_not_found(stocked: Engine) -> None:
    with stocked.connect() as conn, pytest.raises(NotFoundError, match="no champion named nobody"):
        champions.by_name(conn, "nobody")


def test_same_approval_is_kept_once(stocked: Engine) -> None:
    with stocked.begin() as conn:
        champions.add_approval(
            conn, CHAMPION, approver="olu", policy_sha256="e" * 64, bundle=b"approval", approved_at=NOW
        )
        assert len(champions.approvals(conn, CHAMPION)) == 1


def test_approval_of_an_unknown_champion_is_refused(stocked: Engine) -> None:
    with pytest.raises(IntegrityError, match="FOREIGN KEY"), stocked.begin() as conn:
        champions.add_approval(
            conn, "0" * 64, approver="olu", policy_sha256="e" * 64, bundle=b"x", approved_at=NOW
        )


def test_admission_needs_its_signed_verdict(stocked: Engine) -> None:
    with stocked.begin() as conn, pytest.raises(ValueError, match="proves nothing"):
        champions.add_admission(
            conn,
            CHAMPION,
            policy_sha256="e" * 64,
            allowed=True,
            reasons=[],
            bundle=None,
            decided_by="ada",
            decided_at=NOW,
        )


def test_importing_again_keeps_the_first(stocked: Engine) -> None:
    with stocked.begin() as conn:
        first = artifacts.get(conn, MODEL)
        assert not artifacts.add(conn, artifact(ArtifactKind.MODEL))
        assert artifacts.list_artifacts(conn, ArtifactKind.MODEL) == (first,)


def test_same_content_as_another_kind_is_refused(stocked: Engine) -> None:
    with stocked.begin() as conn, pytest.raises(ConflictError, match="was imported as a model"):
        artifacts.add(conn, artifact(ArtifactKind.DATASET))


def test_unknown_artifact_is_not_found(stocked: Engine) -> None:
    with stocked.connect() as conn, pytest.raises(NotFoundError, match="no artifact sha256:0000"):
        artifacts.get(conn, "0" * 64)


def test_claims_come_back_byte_for_byte_in_order(engine: Engine, submit: object) -> None:
    run: Run = submit()  # type: ignore[operator]
    with engine.begin() as conn:
        for ordinal in (2, 1):
            claim = Claim(kind="model", bundle=b"{}\x00%d" % ordinal, sha256=str(ordinal) * 64)
            claims.add(conn, run.id, ordinal=ordinal, claim=claim, entry=b"entry %d" % ordinal)
        found = claims.of_run(conn, run.id)
    assert [(c.bundle, c.entry) for c in found] == [(b"{}\x001", b"entry 1"), (b"{}\x002", b"entry 2")]


def test_a_claim_is_never_replaced(engine: Engine, submit: object) -> None:
    run: Run = submit()  # type: ignore[operator]
    claim = Claim(kind="model", bundle=b"{}", sha256="1" * 64)
    with pytest.raises(IntegrityError), engine.begin() as conn:
        claims.add(conn, run.id, ordinal=1, claim=claim, entry=b"entry")
        claims.add(conn, run.id, ordinal=1, claim=claim, entry=b"entry")


def artifact(kind: ArtifactKind) -> Artifact:
    return Artifact(root_sha256=MODEL, kind=kind, name="again", facts={}, imported_by="eve", imported_at=NOW)


def refuse(conn: object) -> None:
    champions.add_admission(
        conn,  # type: ignore[arg-type]
        CHAMPION,
        policy_sha256="e" * 64,
        allowed=False,
        reasons=["licence: found none"],
        bundle=None,
        decided_by="ada",
        decided_at=NOW,
    )
