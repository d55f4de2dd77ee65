import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine

from appliance.errors import ConflictError, NotFoundError, UnauthorizedError
from appliance.store import tokens
from appliance.store.tokens import NewToken
from appliance.tokens import Role, format_token, hashed, is_token
from audit.event import EventKind
from audit.store import events_of

NOW = datetime(2026, 11, 21, 3, 0, 0, tzinfo=UTC)
REFUSED = "the token is unknown or revoked"


@pytest.fixture
def new(engine: Engine) -> NewToken:
    with engine.begin() as conn:
        return tokens.create(conn, name="ada", role=Role.SUBMITTER, actor="root", now=NOW)


def test_token_has_the_documented_form() -> None:
    assert format_token(bytes(32)) == "assay_" + "A" * 43
    assert is_token(format_token(bytes(range(32))))


def test_short_randomness_is_a_bug() -> None:
    with pytest.raises(ValueError, match="16 random bytes, wanted 32"):
        format_token(bytes(16))


def test_secret_opens_its_token(engine: Engine, new: NewToken) -> None:
    with engine.connect() as conn:
        assert tokens.authenticate(conn, new.secret) == new.token


@pytest.mark.parametrize(
    "secret", ["", "assay_", "assay_" + "A" * 43, "assay_" + "A" * 44, "assay_é" + "A" * 42, "x" * 5000]
)
def test_other_secrets_are_refused(engine: Engine, new: NewToken, secret: str) -> None:
    with engine.connect() as conn, pytest.raises(UnauthorizedError, match=REFUSED):
        tokens.authenticate(conn, secret)


def test_the_digest_is_not_the_secret(engine: Engine, new: NewToken) -> None:
    with engine.connect() as conn, pytest.raises(UnauthorizedError, match=REFUSED):
        tokens.authenticate(conn, new.token.sha256)


def test_revoked_token_is_refused_in_the_same_words(engine: Engine, new: NewToken) -> None:
    with engine.begin() as conn:
        tokens.revoke(conn, new.token.id, actor="root", now=NOW)
        with pytest.raises(UnauthorizedError, match=REFUSED):
            tokens.authenticate(conn, new.secret)


def test_revoking_twice_keeps_the_first_time(engine: Engine, new: NewToken) -> None:
    with engine.begin() as conn:
        first = tokens.revoke(conn, new.token.id, actor="root", now=NOW)
        assert tokens.revoke(conn, new.token.id, actor="eve", now=NOW.replace(hour=9)) == first
        kinds = [logged.event.kind for logged in events_of(conn, new.token.id)]
    assert kinds == [EventKind.TOKEN_CREATED, EventKind.TOKEN_REVOKED]


def test_unknown_token_cannot_be_revoked(engine: Engine) -> None:
    with engine.begin() as conn, pytest.raises(NotFoundError, match="no token abc"):
        tokens.revoke(conn, "abc", actor="root", now=NOW)


def test_name_in_use_is_refused(engine: Engine, new: NewToken) -> None:
    with engine.begin() as conn, pytest.raises(ConflictError, match="ada has a token already"):
        tokens.create(conn, name="ada", role=Role.ADMIN, actor="root", now=NOW)


def test_name_is_free_again_after_revocation(engine: Engine, new: NewToken) -> None:
    with engine.begin() as conn:
        tokens.revoke(conn, new.token.id, actor="root", now=NOW)
        again = tokens.create(conn, name="ada", role=Role.SUBMITTER, actor="root", now=NOW)
        assert [token.id for token in tokens.list_tokens(conn)] == sorted([new.token.id, again.token.id])


def test_secret_is_in_no_file_no_log_and_no_repr(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with engine.begin() as conn:
        new = tokens.create(conn, name="ada", role=Role.SUBMITTER, actor="root", now=NOW)
        tokens.authenticate(conn, new.secret)
    secret = new.secret.removeprefix("assay_")
    assert all(secret.encode() not in path.read_bytes() for path in tmp_path.iterdir())
    assert secret not in caplog.text + repr(new)


def test_only_the_digest_is_kept(engine: Engine, new: NewToken) -> None:
    with engine.connect() as conn:
        assert [token.sha256 for token in tokens.list_tokens(conn)] == [hashed(new.secret)]


@pytest.mark.parametrize(
    ("role", "may"),
    [(Role.ADMIN, True), (Role.SUBMITTER, True), (Role.APPROVER, False), (Role.AUDITOR, False)],
)
def test_roles_that_submit(role: Role, may: bool) -> None:
    assert role.may_submit is may
