"""API tokens: creation and revocation are audit events in the same transaction."""

import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, and_, insert, select, update
from sqlalchemy.exc import IntegrityError

from appliance.errors import ConflictError, NotFoundError, UnauthorizedError
from appliance.store.tables import token as token_table
from appliance.tokens import SECRET_BYTES, Role, Token, format_token, hashed, is_secret_of, is_token
from audit.event import Event, EventKind
from audit.store import enqueue

_REFUSED: Final = "the token is unknown or revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token just made. The secret exists nowhere else and is not shown when this is printed."""

    token: Token
    secret: str = field(repr=False)


def create(
    conn: Connection,
    *,
    name: str,
    role: Role,
    actor: str,
    now: datetime,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> NewToken:
    """A new token for `name`, with its secret, which is told this once.

    Raises ConflictError if that name has one that is not revoked.
    """
    secret = format_token(random_bytes(SECRET_BYTES))
    sha256 = hashed(secret)
    token = Token(id=sha256[:16], name=name, role=role, sha256=sha256, created_at=now)
    try:
        with conn.begin_nested():  # a refused insert must not spoil the caller's transaction
            conn.execute(insert(token_table).values(asdict(token)))
    except IntegrityError as error:
        raise ConflictError(f"{name} has a token already; revoke it before making another") from error
    _record(conn, EventKind.TOKEN_CREATED, token, actor=actor, now=now)
    return NewToken(token=token, secret=secret)


def authenticate(conn: Connection, secret: str) -> Token:
    """The live token with that secret. Raises UnauthorizedError, the same for unknown and for revoked."""
    if not is_token(secret):
        raise UnauthorizedError(_REFUSED)
    sha256 = hashed(secret)
    row = conn.execute(select(token_table).where(token_table.c.sha256 == sha256)).one_or_none()
    if row is None:
        raise UnauthorizedError(_REFUSED)
    token = _token(row)
    if token.revoked_at is not None or not is_secret_of(token, sha256):
        raise UnauthorizedError(_REFUSED)
    return token


def list_tokens(conn: Connection) -> tuple[Token, ...]:
    """All tokens ever made, oldest first."""
    query = select(token_table).order_by(token_table.c.created_at, token_table.c.id)
    return tuple(_token(row) for row in conn.execute(query))


def revoke(conn: Connection, token_id: str, *, actor: str, now: datetime) -> Token:
    """The token, revoked from `now` on; revoking again changes nothing. Raises NotFoundError."""
    live = and_(token_table.c.id == token_id, token_table.c.revoked_at.is_(None))
    changed = conn.execute(update(token_table).where(live).values(revoked_at=now)).rowcount
    row = conn.execute(select(token_table).where(token_table.c.id == token_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"no token {token_id}")
    token = _token(row)
    if changed:
        _record(conn, EventKind.TOKEN_REVOKED, token, actor=actor, now=now)
    return token


def _record(conn: Connection, kind: EventKind, token: Token, *, actor: str, now: datetime) -> None:
    detail = {"name": token.name, "role": token.role.value}
    enqueue(conn, Event(kind=kind, subject=token.id, actor=actor, at=now, detail=detail))


# Any: rows of a Core select have no static column types.
def _token(row: Row[Any]) -> Token:
    return Token(**{**row._asdict(), "role": Role(row.role)})
