"""The evidence folder is whole, verified and on the disk, or it is not there."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.errors import EvidenceError
from appliance.evidence import EvidenceInputs, write_evidence
from attestation.cli import main as verifier
from attestation.pack import LOSSES, MANIFEST, MANIFEST_BUNDLE
from attestation.trust import trust_sha256
from audit.log import Receipt
from tests.appliance.world import RUN_ID, START, World


@pytest.fixture
def made(world: World) -> Path:
    """The evidence folder of a run."""
    world.submit()
    world.settle()
    return world.appliance.home.evidence_dir / RUN_ID


@pytest.fixture
def inputs(world: World, made: Path) -> EvidenceInputs:
    """What that folder was written from."""
    numbers = range(1, len(list((made / "proofs").glob("*.entry"))) + 1)
    checkpoint = (made / "checkpoint").read_bytes()
    home = world.appliance.home
    return EvidenceInputs(
        run_id=RUN_ID,
        claims=tuple((made / "claims.jsonl").read_bytes().split(b"\n")[:-1]),
        entries=tuple((made / "proofs" / f"{n:02}.entry").read_bytes() for n in numbers),
        receipts=tuple(
            Receipt(
                index=n, proof=(made / "proofs" / f"{n:02}.tlog-proof").read_bytes(), checkpoint=checkpoint
            )
            for n in numbers
        ),
        trust_files=home.trust_files(),
        policy_files={p.name: p.read_bytes() for p in (made / "policy").iterdir()},
        losses=(made / LOSSES).read_bytes(),
        stdout_log=made / "run" / "stdout.log",
        model=made / "model",
        report="report\n",
    )


def write(world: World, inputs: EvidenceInputs, target: Path) -> None:
    write_evidence(inputs, target, signer=world.ports.signer, now=START)


def names(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_folder_holds_what_a_stranger_needs(made: Path) -> None:
    found = names(made)
    assert {"README.txt", "report.txt", "claims.jsonl", "checkpoint", MANIFEST, MANIFEST_BUNDLE} <= found
    assert {"run/stdout.log", LOSSES, "model/config.json", "model/model.safetensors"} <= found
    assert {"trust/keys.json", "trust/log.vkey", "policy/champions.cedar", "policy/schema.json"} <= found
    assert {name for name in found if name.startswith("proofs/")} == {
        f"proofs/{number:02}.{kind}" for number in range(1, 12) for kind in ("entry", "tlog-proof")
    }


def test_the_verifier_accepts_the_command_that_the_readme_names(
    world: World, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pin = trust_sha256(world.appliance.home.trust_files())
    assert f"assay-verify evidence . --trust-sha256 {pin}" in (made / "README.txt").read_text()
    # The fake's times are of today's date only in the tests' world: the verifier reads the real clock.
    assert verifier(["evidence", str(made), "--trust-sha256", pin]) == 0
    assert RUN_ID in capsys.readouterr().out


def test_readme_and_report_attribute_the_champion(made: Path) -> None:
    for name in ("README.txt", "report.txt"):
        assert "Gradients.io (https://gradients.io)" in (made / name).read_text()


def test_report_tells_the_numbers_that_are_claimed(world: World, made: Path) -> None:
    report, interval = (made / "report.txt").read_text(), world.verify().interval
    assert f"loss {interval.mean_before / 1e6:.4f} → {interval.mean_after / 1e6:.4f}" in report
    assert f"model       sha256:{world.run().model}\n" in report


def test_a_complete_folder_is_kept_as_it_is(world: World, inputs: EvidenceInputs, made: Path) -> None:
    before = {name: (made / name).stat().st_mtime_ns for name in names(made)}
    write(world, replace(inputs, report="another"), made)
    assert {name: (made / name).stat().st_mtime_ns for name in names(made)} == before


def test_written_anew_it_verifies_again(world: World, inputs: EvidenceInputs, made: Path) -> None:
    write(world, inputs, made.with_name("again"))
    assert names(made.with_name("again")) == names(made)


@pytest.mark.parametrize("part", ["claims", "losses", "policy_files", "stdout_log", "model"])
def test_what_does_not_verify_is_not_kept(
    world: World, inputs: EvidenceInputs, made: Path, tmp_path: Path, part: str
) -> None:
    (tmp_path / "wrong.log").write_bytes(b"something else")
    (tmp_path / "wrong-model").mkdir()
    (tmp_path / "wrong-model" / "config.json").write_bytes(b"{}")
    wrong = {
        "claims": (*inputs.claims[:-1], inputs.claims[0]),
        "losses": b'{"after":[1,1],"before":[2,2]}',
        "policy_files": {**inputs.policy_files, "more.cedar": b""},
        "stdout_log": tmp_path / "wrong.log",
        "model": tmp_path / "wrong-model",
    }
    target = made.with_name("wrong")
    with pytest.raises(EvidenceError, match="the evidence just written does not verify"):
        write(world, replace(inputs, **{part: wrong[part]}), target)  # type: ignore[arg-type]  # by name
    assert [path.name for path in made.parent.iterdir()] == [RUN_ID]


def test_a_failure_while_writing_leaves_nothing(world: World, inputs: EvidenceInputs, made: Path) -> None:
    with pytest.raises(OSError, match="gone"):
        write(world, replace(inputs, model=made / "gone"), made.with_name("broken"))
    assert [path.name for path in made.parent.iterdir()] == [RUN_ID]


def test_every_file_is_flushed_before_the_folder_gets_its_name(
    world: World, inputs: EvidenceInputs, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut after the rename must not find an empty model under a name that says complete."""
    target, flushed = made.with_name("again"), set()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if not target.exists():
            flushed.add(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write(world, inputs, target)
    assert {Path(name).name for name in names(target)} <= flushed
    assert {path.name for path in target.rglob("*") if path.is_dir()} <= flushed
