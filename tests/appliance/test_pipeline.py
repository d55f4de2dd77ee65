"""Every step of a run, every refusal and every wait; the launcher and the clock are fakes, all else is real."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import func, select

from appliance.adoption import adopt, approve
from appliance.domain import LEGAL_MOVES, RunState
from appliance.errors import ConflictError, EvidenceError, HomeError, StaleRunError
from appliance.pipeline import STEPS, advance
from appliance.store import champions, claims
from appliance.store.tables import claim as claim_table
from appliance.waiting import Capacity
from attestation.claims import Kind
from audit.log import AuditLog
from runner.errors import LauncherError
from runner.launcher.fake import SUCCESS, FakeLauncher
from runner.spec import Exit, ExitReason, SandboxSpec
from tests.appliance.isolation_facts import facts_with
from tests.appliance.world import PROPOSER, RUN_ID, START, TRAINED, World, adapts, job, trains
from tests.runner.tensors import BASE, write_model

PATH = (
    RunState.SUBMITTED,
    RunState.PLACED,
    RunState.RUNNING,
    RunState.HARVESTED,
    RunState.EVALUATED,
    RunState.ATTESTED,
    RunState.LOGGED,
)
STATES_WITH_A_STEP = PATH[:-1]
MOVES = ["run:submitted", "run:placed", "run:started", "run:harvested", "run:evaluated", "run:attested"]
NOISE = BASE | {
    "model.embed_tokens.weight": ("F32", [6, 4], [v + 0.001 for v in BASE["model.embed_tokens.weight"][2]])
}


def bring_to(world: World, state: RunState) -> None:
    """Submit the run and advance it until it is in `state`; no job runs longer than it must."""
    world.submit()
    for _ in range(20):
        if world.run().state is state:
            return
        world.advance()
    raise AssertionError(f"the run never was {state}, it is {world.run().state}: {world.run().reason}")


# The way there.


def test_a_run_goes_all_the_way_and_its_evidence_verifies(world: World) -> None:
    world.submit()
    assert world.settle().state is RunState.LOGGED
    verified = world.verify()
    assert verified.run_id == RUN_ID
    assert verified.model_root == world.run().model
    assert [claim.kind for claim in verified.claims.all] == list(Kind)
    assert verified.interval.mean_after < verified.interval.mean_before
    world.ports.log.sequence(START)
    assert world.kinds() == [*MOVES, *["claim:signed"] * len(Kind), "run:logged"]
    assert world.fsck() == ()


def test_an_adapter_goes_all_the_way(world: World) -> None:
    world.launcher.job = adapts
    world.submit()
    assert world.settle().state is RunState.LOGGED
    model = world.appliance.home.evidence_dir / RUN_ID / "model"
    assert json.loads((model / "adapter_config.json").read_bytes())["base_model_name_or_path"] == "local/tiny"
    world.verify()


def test_every_state_that_is_not_final_has_a_step() -> None:
    assert set(STEPS) == {state for state, moves in LEGAL_MOVES.items() if moves}


def test_each_step_makes_its_move(world: World) -> None:
    world.submit()
    seen = [RunState.SUBMITTED]
    while not seen[-1].is_final:
        world.advance()
        if world.run().state is not seen[-1]:
            seen.append(world.run().state)
        assert world.fsck() == ()
    assert tuple(seen) == PATH


@pytest.mark.parametrize("final", [s for s in RunState if s.is_final])
def test_nothing_is_done_about_a_final_run(world: World, final: RunState) -> None:
    run = replace(world.submit(), state=final)
    assert advance(run, world.ports) is None
    assert world.kinds() == ["run:submitted"]


def test_timeout_is_a_normal_end_whose_output_is_judged(world: World) -> None:
    ended = replace(SUCCESS, reason=ExitReason.TIMEOUT, code=None, message="the time is used up")
    world.launcher.job = job(lambda output: write_model(output, TRAINED), ended)
    world.submit()
    assert world.settle().state is RunState.LOGGED
    (run,) = world.verify().claims.of(Kind.TRAINING_RUN)
    assert run.predicate["exit"] == {"reason": "timeout", "code": None}


# Waits.


def test_waits_while_all_places_are_taken(world: World) -> None:
    world.launcher.holds = True
    world.submit("run-1")
    assert world.settle("run-1").state is RunState.RUNNING
    world.clock.pass_s(1)
    world.submit("run-2")
    assert world.settle("run-2").state is RunState.SUBMITTED
    world.launcher.holds = False
    world.settle("run-1")
    assert world.settle("run-2").state is RunState.LOGGED


def test_waits_for_disk(world: World) -> None:
    world.submit()
    greedy = replace(world.ports, capacity=Capacity(max_parallel_runs=1, needed_free_bytes=1 << 62))
    assert world.advance(ports=greedy) is None
    assert world.advance() is not None


def test_placing_starts_nothing_yet(world: World) -> None:
    bring_to(world, RunState.PLACED)
    assert world.launcher.poll(RUN_ID) is None


def test_waits_while_the_walls_are_made(world: World) -> None:
    world.launcher.prepares = True
    world.submit()
    assert world.settle().state is RunState.PLACED
    world.launcher.prepares = False
    assert world.settle().state is RunState.LOGGED


def test_waits_while_the_champion_trains(world: World) -> None:
    world.launcher.holds = True
    world.submit()
    assert world.settle().state is RunState.RUNNING


def test_waits_while_the_evaluation_runs(world: World) -> None:
    bring_to(world, RunState.HARVESTED)
    world.launcher.holds = True
    assert world.settle().state is RunState.HARVESTED
    world.launcher.holds = False
    assert world.settle().state is RunState.LOGGED


def test_waits_until_every_claim_is_in_the_log(world: World) -> None:
    bring_to(world, RunState.EVALUATED)
    home = world.appliance.home
    held_up = replace(
        world.ports,
        log=IdleLog(
            world.ports.engine,
            origin=home.log_origin,
            signer=home.log_signer(),
            checkpoint_path=home.log_checkpoint_path,
        ),
    )
    assert world.advance(ports=held_up) is not None
    for _ in range(2):
        assert world.advance(ports=held_up) is None
    assert world.run().state is RunState.ATTESTED
    assert not (home.evidence_dir / RUN_ID).exists()
    assert world.settle().state is RunState.LOGGED


class IdleLog(AuditLog):
    """Sequences nothing, as if it always came too late."""

    def sequence(self, now: datetime) -> int:
        return 0


# Failures.


@pytest.mark.parametrize(
    ("reason", "code"),
    [(reason, None) for reason in ExitReason if reason not in (ExitReason.TIMEOUT, ExitReason.EXITED)]
    + [(ExitReason.EXITED, 1), (ExitReason.EXITED, 137)],
)
def test_an_end_that_is_no_success_fails_the_run_with_its_message(
    world: World, reason: ExitReason, code: int | None
) -> None:
    ended = replace(SUCCESS, reason=reason, code=code, message=f"the sentence about {reason}")
    world.launcher.job = job(lambda output: write_model(output, TRAINED), ended)
    world.submit()
    failed = world.settle()
    assert (failed.state, failed.reason) == (RunState.FAILED, f"the sentence about {reason}")
    assert failed.model is None
    assert world.events()[-1].detail == {"reason": failed.reason}
    assert world.fsck() == ()


@pytest.mark.parametrize(
    ("write", "verdict", "match"),
    [
        (lambda output: None, None, "wrote no model: its output folder is missing"),
        (lambda output: output.mkdir(), None, "wrote no model: looked for"),
        (lambda output: write_model(output, BASE), "unchanged", "training verdict unchanged"),
        (lambda output: write_model(output, NOISE), "noise-fallback", "training verdict noise-fallback"),
        (
            lambda output: write_model(output, {"other.weight": ("F32", [1], [1.0])}),
            "partial",
            "training verdict partial",
        ),
    ],
    ids=["no-folder", "empty", "unchanged", "noise", "partial"],
)
def test_what_was_not_trained_is_no_model(
    world: World, write: Callable[[Path], object], verdict: str | None, match: str
) -> None:
    stored = set(world.appliance.home.store_dir.iterdir())
    world.launcher.job = job(write)
    world.submit()
    failed = world.settle()
    assert (failed.state, failed.verdict, failed.model) == (RunState.FAILED, verdict, None)
    assert match in (failed.reason or "")
    assert set(world.appliance.home.store_dir.iterdir()) == stored
    assert list(world.appliance.home.jobs_dir.glob(".*")) == []


def test_an_output_that_could_not_be_taken_fails_the_run(world: World) -> None:
    def guest(spec: SandboxSpec, job_dir: Path) -> Exit:
        (job_dir / "harvest").rmdir()
        return replace(SUCCESS, message="the disk was full while the output was taken")

    world.launcher.job = guest
    world.submit()
    assert "the disk was full" in (world.settle().reason or "")
    assert world.run().state is RunState.FAILED


def test_a_configuration_nested_without_end_fails_the_run_and_not_the_worker(world: World) -> None:
    def write(output: Path) -> None:
        write_model(output, TRAINED)
        (output / "adapter_config.json").write_text("[" * 500_000)

    world.launcher.job = job(write)
    world.submit()
    assert world.settle().state is RunState.FAILED


def test_an_evaluation_that_did_not_finish_fails_the_run(world: World) -> None:
    ended = replace(SUCCESS, code=1, message="the evaluator broke")
    world.launcher.job = job(lambda output: write_model(output, TRAINED), evaluated=ended)
    world.submit()
    failed = world.settle()
    assert failed.state is RunState.FAILED
    assert failed.reason == "the evaluation did not finish: the evaluator broke"


@pytest.mark.parametrize(
    ("losses", "match"),
    [
        (None, "without writing losses.json"),
        (b'{"after":[1],"before":[1]}', "1 rows, the held-out part has 22"),
    ],
)
def test_losses_that_cannot_be_used_fail_the_run(world: World, losses: bytes | None, match: str) -> None:
    def guest(spec: SandboxSpec, job_dir: Path) -> Exit:
        ended = trains(spec, job_dir)
        file = job_dir / "harvest" / "losses.json"
        if file.exists():
            file.unlink()
            if losses is not None:
                file.write_bytes(losses)
        return ended

    world.launcher.job = guest
    world.submit()
    failed = world.settle()
    assert failed.state is RunState.FAILED
    assert match in (failed.reason or "")


@pytest.mark.parametrize("part", ["champion", "base_model", "dataset"])
def test_what_changed_in_the_store_is_never_run(world: World, part: str) -> None:
    folder = world.ports.store.path(getattr(world.order, part))
    file = sorted(p for p in folder.rglob("*") if p.is_file())[0]
    file.chmod(0o644)
    file.write_bytes(file.read_bytes() + b" ")
    world.submit()
    failed = world.settle()
    assert failed.state is RunState.FAILED
    assert f"changed in the store: {file.relative_to(folder)}" in (failed.reason or "")
    assert world.launcher.poll(RUN_ID) is None


def test_champion_that_is_no_longer_admitted_is_not_run(world: World) -> None:
    world.submit()
    refuse(world)
    failed = world.settle()
    assert failed.state is RunState.FAILED
    assert "is not admitted" in (failed.reason or "")
    assert world.launcher.poll(RUN_ID) is None


def test_decisions_after_the_order_change_nothing_about_a_run_that_was_let_in(world: World) -> None:
    bring_to(world, RunState.RUNNING)
    world.clock.pass_s(5)
    refuse(world)
    assert world.settle().state is RunState.LOGGED
    world.verify()


def test_another_policy_after_the_order_changes_nothing_about_the_evidence(
    world: World, tmp_path: Path
) -> None:
    bring_to(world, RunState.ATTESTED)
    world.clock.pass_s(5)
    folder = tmp_path / "policies" / "admission"
    folder.mkdir(parents=True)
    for name, content in world.appliance.admission_policy().files.items():
        (folder / name).write_bytes(content + (b"// stricter\n" if name.endswith(".cedar") else b""))
    settings = replace(world.appliance.settings, policies_dir=tmp_path / "policies")
    stricter = replace(world.appliance, settings=settings)
    with world.ports.engine.connect() as conn:
        champion = champions.get(conn, world.order.champion)
    approve(stricter, champion, approver="olu", printed_name="Olu", reason="again")
    assert adopt(stricter, champion, actor=PROPOSER).allowed
    assert world.settle().state is RunState.LOGGED
    assert world.verify().policy_sha256 == world.appliance.admission_policy().sha256


def refuse(world: World) -> None:
    with world.ports.engine.begin() as conn:
        champions.add_admission(
            conn,
            world.order.champion,
            policy_sha256="e" * 64,
            allowed=False,
            reasons=["licence"],
            bundle=None,
            decided_by=PROPOSER,
            decided_at=world.clock.now(),
        )


# The machine stands in the way: nothing is lost, the step is tried again.


def test_a_launcher_that_cannot_start_the_job_fails_no_run(world: World) -> None:
    class Broken(FakeLauncher):
        def submit(self, spec: SandboxSpec) -> None:
            raise LauncherError("no process could be made")

    bring_to(world, RunState.PLACED)
    broken = Broken(world.launcher.root, trains)
    with pytest.raises(LauncherError):
        world.advance(ports=replace(world.ports, launcher=broken))
    assert world.run().state is RunState.PLACED
    assert world.settle().state is RunState.LOGGED


def test_a_full_disk_fails_no_run(world: World) -> None:
    class Full:
        def __getattr__(self, name: str) -> object:
            return getattr(world.ports.store, name)

        def put(self, folder: Path) -> object:
            raise HomeError("no space left on device; nothing was taken")

    bring_to(world, RunState.RUNNING)
    with pytest.raises(HomeError):
        world.advance(ports=replace(world.ports, store=Full()))  # type: ignore[arg-type]  # a store that is full
    assert world.run().state is RunState.RUNNING
    assert list(world.appliance.home.jobs_dir.glob(".*")) == []
    assert world.settle().state is RunState.LOGGED


def test_publishing_that_fails_keeps_the_claims_and_works_later(world: World) -> None:
    bring_to(world, RunState.ATTESTED)
    evidence = world.appliance.home.evidence_dir
    evidence.rename(evidence.with_name("elsewhere"))
    evidence.write_text("no folder")
    for _ in range(2):
        with pytest.raises(OSError, match="Not a directory"):
            world.advance()
    assert world.run().state is RunState.ATTESTED
    evidence.unlink()
    evidence.with_name("elsewhere").rename(evidence)
    assert world.settle().state is RunState.LOGGED
    assert world.kinds().count("claim:signed") == len(Kind)
    world.verify()


def test_evidence_that_does_not_verify_is_not_handed_out(world: World) -> None:
    bring_to(world, RunState.ATTESTED)
    model = world.ports.store.path(world.run().model or "") / "config.json"
    before = model.read_bytes()
    model.chmod(0o644)
    model.write_bytes(before + b" ")
    with pytest.raises(EvidenceError, match="does not verify"):
        world.advance()
    assert world.run().state is RunState.ATTESTED
    assert list(world.appliance.home.evidence_dir.iterdir()) == []
    model.write_bytes(before)
    assert world.settle().state is RunState.LOGGED


def test_isolation_that_is_no_json_is_not_signed(world: World) -> None:
    bring_to(world, RunState.EVALUATED)
    (world.launcher.job_dir(RUN_ID) / "isolation.json").write_text("{")
    assert world.settle().state is RunState.FAILED
    assert "isolation.json" in (world.run().reason or "")


def test_walls_that_were_weaker_never_become_evidence(world: World) -> None:
    world.launcher.isolation = facts_with("violations", ["the network was there"])
    bring_to(world, RunState.EVALUATED)
    run = world.settle()
    assert run.state is RunState.FAILED
    assert "walls that were as asked, found ['the network was there']" in (run.reason or "")
    assert "claim:signed" not in world.kinds()


# Cancelling.


@pytest.mark.parametrize("state", [s for s in STATES_WITH_A_STEP if s.is_cancellable])
def test_a_run_can_be_cancelled_in(world: World, state: RunState) -> None:
    world.launcher.holds = state in (RunState.PLACED, RunState.RUNNING)
    bring_to(world, state)
    world.launcher.holds = True
    if state in (RunState.PLACED, RunState.HARVESTED):
        world.advance()  # starts the job
    world.cancel()
    world.settle()
    assert world.run().state is RunState.CANCELLED
    assert "cancelled by bob" in (world.run().reason or "")
    for name in (RUN_ID, f"{RUN_ID}-evaluate"):
        facts = world.launcher.poll(name)
        assert facts is None or facts.exit is not None
    assert world.kinds()[-1] == "run:cancelled"
    assert world.events()[-1].actor == "bob"
    assert world.fsck() == ()


def test_a_run_that_is_cancelled_before_it_is_placed_leaves_no_job(world: World) -> None:
    before = world.submit()
    world.cancel()
    with pytest.raises(StaleRunError):
        advance(before, world.ports)
    assert world.run().state is RunState.CANCELLED
    assert world.launcher.poll(RUN_ID) is None


@pytest.mark.parametrize("state", [RunState.ATTESTED, RunState.LOGGED])
def test_signed_claims_cannot_be_cancelled(world: World, state: RunState) -> None:
    bring_to(world, state)
    with pytest.raises(ConflictError, match="cannot be cancelled any more"):
        world.cancel()
    assert world.settle().state is RunState.LOGGED


def test_cancelling_wins_over_a_step_in_flight(world: World) -> None:
    bring_to(world, RunState.EVALUATED)
    before = world.run()
    world.cancel()
    with pytest.raises(StaleRunError):
        advance(before, world.ports)
    with world.ports.engine.connect() as conn:
        assert claims.of_run(conn, RUN_ID) == ()
    assert world.settle().state is RunState.CANCELLED


# Once, and only once.


@pytest.mark.parametrize("state", STATES_WITH_A_STEP)
def test_a_second_worker_with_the_same_old_run_changes_nothing(world: World, state: RunState) -> None:
    bring_to(world, state)
    before = world.run()
    while world.run() == before:
        world.advance()
    kinds, moved = world.kinds(), world.run()
    with pytest.raises(StaleRunError, match=f"no longer {state}"):
        advance(before, world.ports)
    assert (world.kinds(), world.run()) == (kinds, moved)
    assert world.settle().state is RunState.LOGGED
    with world.ports.engine.connect() as conn:
        assert conn.scalar(select(func.count()).select_from(claim_table)) == len(Kind)
    world.verify()


def test_two_runs_of_the_same_order_have_each_their_own_evidence(world: World) -> None:
    world.submit("run-1")
    world.settle("run-1")
    world.clock.pass_s(1)
    world.submit("run-2")
    world.settle("run-2")
    assert [world.verify(run).run_id for run in ("run-1", "run-2")] == ["run-1", "run-2"]
    assert world.run("run-1").model == world.run("run-2").model
