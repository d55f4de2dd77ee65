"""`assay log` gives an auditor what `assay-verify --checkpoint` needs, and finds a changed log."""

from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from appliance.cli import make_app
from attestation.checkpoint import open_checkpoint
from attestation.merkle import verify_consistency
from attestation.tlogproof import parse_consistency
from tests.appliance.world import World


def assay(world: World, *arguments: str) -> "tuple[int, str]":
    done = CliRunner().invoke(make_app(), ["log", *arguments, "--home", str(world.appliance.home.root)])
    return done.exit_code, done.stdout


def test_proves_that_one_head_continues_another(world: World, tmp_path: Path) -> None:
    world.ports.log.sequence(world.clock.now())
    (tmp_path / "seen").write_bytes(world.ports.log.checkpoint() or b"")
    world.submit()
    world.settle()
    world.ports.log.sequence(world.clock.now())
    evidence_head = world.appliance.home.evidence_dir / "run-0042" / "checkpoint"
    code, proof = assay(world, "consistency", "--from", str(tmp_path / "seen"), "--to", str(evidence_head))
    assert code == 0
    vkey = world.appliance.home.trust().log_vkey
    old = open_checkpoint((tmp_path / "seen").read_bytes(), vkey=vkey)
    new = open_checkpoint(evidence_head.read_bytes(), vkey=vkey)
    assert old.size < new.size < open_checkpoint(world.ports.log.checkpoint() or b"", vkey=vkey).size
    verify_consistency(
        old_size=old.size,
        old_root=old.root,
        new_size=new.size,
        new_root=new.root,
        path=parse_consistency(proof.encode()).path,
    )


def test_prints_the_newest_head(world: World) -> None:
    world.ports.log.sequence(world.clock.now())
    code, note = assay(world, "checkpoint")
    assert (code, note.encode()) == (0, world.ports.log.checkpoint())


def test_whole_log_passes_and_a_changed_one_is_told(world: World) -> None:
    world.ports.log.sequence(world.clock.now())
    assert assay(world, "fsck")[0] == 0
    with world.ports.engine.begin() as conn:
        conn.execute(text("UPDATE log_entry SET entry = X'7B7D' WHERE leaf_index = 0"))
    code, findings = assay(world, "fsck")
    assert code == 1
    assert findings


@pytest.mark.parametrize("option", ["--from", "--to"])
def test_missing_checkpoint_file_is_told(world: World, tmp_path: Path, option: str) -> None:
    world.ports.log.sequence(world.clock.now())
    (tmp_path / "seen").write_bytes(world.ports.log.checkpoint() or b"")
    given = {"--from": str(tmp_path / "seen"), "--to": str(tmp_path / "seen"), option: "/nope"}
    code, _ = assay(world, "consistency", "--from", given["--from"], "--to", given["--to"])
    assert code == 3
