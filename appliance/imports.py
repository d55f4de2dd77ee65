"""Models and datasets that people bring: checked, taken into the store, listed, logged."""

import tempfile
from pathlib import Path
from typing import Any

from appliance.assembly import Appliance
from appliance.datasets import prepare_dataset
from appliance.errors import ArtifactError, ConflictError
from appliance.models import check_model_folder
from appliance.store import artifacts
from appliance.store.artifacts import Artifact, ArtifactKind
from attestation.oms import Manifest
from audit.event import Event, EventKind
from audit.store import enqueue
from runner.champion_contract import is_model_id


def import_model(appliance: Appliance, folder: Path, *, name: str, actor: str) -> Artifact:
    """Take the base model in `folder`; the same content again is no change.

    `name` is the model's id as champions see it (`organisation/model`).
    Raises ArtifactError naming the file at fault.
    """
    if not is_model_id(name):
        raise ArtifactError(f"model name {name!r}: wanted an id such as organisation/model")
    facts = check_model_folder(folder)
    manifest = appliance.store.put(folder)
    about = {"architectures": list(facts.architectures), "model_type": facts.model_type}
    return _index(appliance, manifest, ArtifactKind.MODEL, name=name, facts=about, actor=actor)


def import_dataset(appliance: Appliance, file: Path, *, actor: str) -> Artifact:
    """Lint the rows in `file`, split off the held-out part, and take both.

    Raises DatasetError naming row and field.
    """
    with tempfile.TemporaryDirectory(dir=appliance.home.root, prefix=".preparing-") as scratch:
        prepared = prepare_dataset(file, Path(scratch) / "dataset")
        manifest = appliance.store.put(Path(scratch) / "dataset")
    about = {
        "columns": list(prepared.columns),
        "renamed": dict(prepared.renamed),
        "train_rows": prepared.train_rows,
        "held_out_rows": prepared.held_out_rows,
        "warnings": list(prepared.warnings),
    }
    return _index(appliance, manifest, ArtifactKind.DATASET, name=file.name, facts=about, actor=actor)


_EVENTS = {ArtifactKind.MODEL: EventKind.MODEL_IMPORTED, ArtifactKind.DATASET: EventKind.DATASET_IMPORTED}


def _index(
    appliance: Appliance,
    manifest: Manifest,
    kind: ArtifactKind,
    *,
    name: str,
    facts: dict[str, Any],
    actor: str,
) -> Artifact:
    now = appliance.clock.now()
    artifact = Artifact(
        root_sha256=manifest.root_sha256,
        kind=kind,
        name=name,
        facts=facts,
        imported_by=actor,
        imported_at=now,
    )
    event = Event(
        kind=_EVENTS[kind],
        subject=manifest.root_sha256,
        actor=actor,
        at=now,
        detail={"name": name, "files": len(manifest.files)},
    )
    with appliance.engine.begin() as connection:
        if artifacts.add(connection, artifact):
            enqueue(connection, event)
        known = artifacts.get(connection, manifest.root_sha256)
    if kind is ArtifactKind.MODEL and known.name != name:
        raise ConflictError(f"the same model was imported as {known.name}")
    return known
