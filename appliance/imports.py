"""Models and datasets that people bring: checked, taken into the store, listed, logged."""

import tempfile
from pathlib import Path
from typing import Any

from appliance import classification
from appliance.assembly import Appliance
from appliance.datasets import prepare_dataset
from appliance.domain import Classification
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
    return _index(appliance, manifest, ArtifactKind.MODEL, name=name, facts=about, logged={}, actor=actor)


def import_dataset(
    appliance: Appliance,
    file: Path,
    *,
    actor: str,
    classified: Classification | None = None,
) -> Artifact:
    """Lint the rows in `file`, split off the held-out part, and take both.

    Not classified means `internal`, or whatever the same rows are known as; they may become stricter.
    Raises DatasetError naming row and field, ConflictError if the same rows are known under something stricter.
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
    said = {classification.FACT: (classified or classification.DEFAULT).value}
    taken = _index(
        appliance,
        manifest,
        ArtifactKind.DATASET,
        name=file.name,
        facts=about | said,
        logged=said,
        actor=actor,
    )
    if classified is None:
        return taken
    return classification.reclassify(appliance, taken, classified, actor=actor)


_EVENTS = {ArtifactKind.MODEL: EventKind.MODEL_IMPORTED, ArtifactKind.DATASET: EventKind.DATASET_IMPORTED}


def _index(
    appliance: Appliance,
    manifest: Manifest,
    kind: ArtifactKind,
    *,
    name: str,
    facts: dict[str, Any],
    logged: dict[str, str],
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
        detail={"name": name, "files": len(manifest.files), **logged},
    )
    with appliance.engine.begin() as connection:
        if artifacts.add(connection, artifact):
            enqueue(connection, event)
        known = artifacts.get(connection, manifest.root_sha256)
    if kind is ArtifactKind.MODEL and known.name != name:
        raise ConflictError(f"the same model was imported as {known.name}")
    return known
