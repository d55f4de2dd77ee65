"""Whose signatures count: every change of the trust root is an audit event."""

from datetime import datetime

from appliance.assembly import Appliance
from appliance.home import INTAKE, add_person, trust_person
from appliance.keys.file import FileSigner
from appliance.store.engine import reading
from attestation.trust import Role
from audit.event import Event, EventKind
from audit.store import enqueue, events_of


def add(appliance: Appliance, *, name: str, role: Role, actor: str) -> str:
    """Make a key for `name` in this home and trust it; its key id."""
    signer = add_person(appliance.home, name=name, role=role, now=appliance.clock.now())
    _record(appliance, name=name, role=role, key_id=signer.key_id, actor=actor)
    return signer.key_id


def trust(
    appliance: Appliance, *, name: str, role: Role, public_pem: bytes, valid_from: datetime, actor: str
) -> str:
    """Trust the public key of somebody who keeps the private half elsewhere; its key id."""
    key = trust_person(appliance.home, name=name, role=role, public_pem=public_pem, valid_from=valid_from)
    _record(appliance, name=name, role=role, key_id=key.key_id, actor=actor)
    return key.key_id


def intake_signer(appliance: Appliance, *, actor: str) -> FileSigner:
    """The site's own publisher key, made, trusted and logged at first use by `actor`."""
    signer = appliance.home.intake_signer(now=appliance.clock.now())
    with reading(appliance.engine) as connection:
        logged = [entry.event.detail.get("key") for entry in events_of(connection, INTAKE)]
    # Asked of the log and not of the key file: a crash between the two must not leave it untold.
    if signer.key_id not in logged:
        _record(appliance, name=INTAKE, role=Role.PUBLISHER, key_id=signer.key_id, actor=actor)
    return signer


def _record(appliance: Appliance, *, name: str, role: Role, key_id: str, actor: str) -> None:
    event = Event(
        kind=EventKind.PERSON_TRUSTED,
        subject=name,
        actor=actor,
        at=appliance.clock.now(),
        detail={"role": role.value, "key": key_id},
    )
    with appliance.engine.begin() as connection:
        enqueue(connection, event)
