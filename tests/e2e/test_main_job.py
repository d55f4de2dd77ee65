"""The main job with every part real, and everything that can be done to its evidence afterwards.

One site, one server and one worker as processes; three runs: the reference champion really trains, and a quick
champion runs twice. Evidence is taken over HTTP.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appliance.cli.client import ApiClient
from appliance.demo.offline import verify_command, verify_offline
from appliance.demo.processes import free_port
from appliance.errors import ApiError
from attestation.claims import Kind
from attestation.cli import main
from attestation.pack import CHECKPOINT, MANIFEST, MANIFEST_BUNDLE
from tests.e2e.insider import LoggedClaim, log_again, put_under, read_claims, reseal, write_claims
from tests.e2e.site import (
    QUICK,
    Site,
    client_of,
    make_site,
    order_of,
    processes,
    server_of,
    wait_until,
    worker_of,
)
from tests.runner.guests import needs_bwrap

pytestmark = [pytest.mark.sandbox, pytest.mark.training, needs_bwrap]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proved:
    """A run that is logged, as its client has it."""

    run: dict[str, Any]  # Any: the API's plain JSON
    evidence: Path
    events: tuple[str, ...]

    @property
    def id(self) -> str:
        return str(self.run["id"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What happened at the site, after it was shut down."""

    site: Site
    trained: Proved
    quick: Proved
    quick_again: Proved
    refusals: tuple[tuple[str, str, int, str], ...]  # state, part, status, code
    early_head: bytes  # signed before the first claim was logged
    late_head: bytes  # signed after the last


@pytest.fixture(scope="module")
def story(
    tmp_path_factory: pytest.TempPathFactory, base_model: Path, complaints: Path, few_complaints: Path
) -> Story:
    site = make_site(tmp_path_factory.mktemp("main-job"))
    reference, quick = site.admit_champion("reference"), site.admit_champion("quick", script=QUICK)
    inputs, others = (
        site.import_inputs(base_model, complaints),
        site.import_inputs(base_model, few_complaints),
    )
    port = free_port()
    both = server_of(site, port=port), worker_of(site)
    with processes(*both):
        api = client_of(site, port=port)
        wait_until(lambda: _answers(api), what="the server")
        orders = [order_of(reference, inputs), order_of(quick, others), order_of(quick, others)]
        ids = [api.submit(order, idempotency_key=f"order-{n}")["id"] for n, order in enumerate(orders)]
        refusals = [*_refusals(api, ids[0], site.folder)]
        wait_until(lambda: api.show(ids[0])["state"] == "running", what="the training", alive=both)
        refusals += _refusals(api, ids[0], site.folder)
        early_head = site.appliance.home.log_checkpoint_path.read_bytes()
        proved = [_await_evidence(api, run_id, site.folder) for run_id in ids]
        model = api.fetch(ids[0], "model", into=site.folder / "model")
        wait_until(lambda: site.appliance.log.sequence(site.appliance.clock.now()) == 0, what="the log")
    assert sorted(p.name for p in model.iterdir()) == sorted(
        p.name for p in (proved[0].evidence / "model").iterdir()
    )
    return Story(
        site=site,
        trained=proved[0],
        quick=proved[1],
        quick_again=proved[2],
        refusals=tuple(refusals),
        early_head=early_head,
        late_head=site.appliance.home.log_checkpoint_path.read_bytes(),
    )


@pytest.fixture
def evidence(story: Story, tmp_path: Path) -> Path:
    """A copy of the trained run's evidence, to be spoilt."""
    return Path(shutil.copytree(story.trained.evidence, tmp_path / "evidence"))


@pytest.fixture
def verify(story: Story, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """`assay-verify evidence` with the pin of the story's site: exit code and what it printed."""

    def verify_folder(folder: Path, *more: str) -> tuple[int, str]:
        code = main(["evidence", str(folder), "--trust-sha256", story.site.pin, *more])
        return code, capsys.readouterr().out

    return verify_folder


def test_a_stranger_verifies_the_evidence_without_network(story: Story) -> None:
    for proved in (story.trained, story.quick, story.quick_again):
        done = verify_offline(proved.evidence, pin=story.site.pin)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.startswith("VERIFIED")


def test_the_model_is_better_on_rows_it_has_never_seen(story: Story) -> None:
    run = story.trained.run
    assert run["verdict"] == "trained"
    assert run["metrics"]["mean_after"] < run["metrics"]["mean_before"]
    assert run["metrics"]["high"] < 0  # of the interval of the difference: not by chance


def test_nothing_is_handed_out_before_it_is_logged(story: Story) -> None:
    assert story.refusals == tuple(
        (state, part, 409, "not-ready")
        for state in ("submitted", "running")
        for part in ("evidence", "model")
    )


def test_each_step_and_each_claim_is_logged_once(story: Story) -> None:
    # A strange script has a second approval among its claims.
    for proved, claims in (
        (story.trained, len(Kind)),
        (story.quick, len(Kind) + 1),
        (story.quick_again, len(Kind) + 1),
    ):
        steps = [event for event in proved.events if event.startswith("run:")]
        assert len(steps) == len(set(steps)) == 7
        assert proved.events.count("claim:signed") == claims
    assert story.site.log_findings() == ()
    assert story.site.half_written() == []


def test_a_flipped_byte_anywhere_is_refused_by_check_and_file(
    evidence: Path, verify: Callable[..., tuple[int, str]]
) -> None:
    files = sorted(path for path in evidence.rglob("*") if path.is_file())
    assert len(files) > 40
    accepted = []
    for path in files:
        name = str(path.relative_to(evidence))
        check, shown = ("trust", "trust/") if name.startswith("trust/") else ("manifest", name)
        content = path.read_bytes()
        for position in _positions(name, len(content)):
            path.write_bytes(_flipped(content, position))
            code, said = verify(evidence)
            if code != 1 or f"✗ {check:<11}{shown}: " not in said:
                accepted.append((name, position, code, said.splitlines()[:6]))
        path.write_bytes(content)
    assert accepted == []
    assert verify(evidence)[0] == 0


def test_no_bit_of_the_seal_can_be_changed(evidence: Path, verify: Callable[..., tuple[int, str]]) -> None:
    seal = evidence / MANIFEST_BUNDLE
    content = seal.read_bytes()
    accepted = []
    for position in range(len(content)):
        seal.write_bytes(_flipped(content, position, bit=1 << position % 8))
        code, said = verify(evidence)
        if code != 1 or f"✗ {'manifest':<11}{MANIFEST_BUNDLE}: " not in said:
            accepted.append((position, code, said.splitlines()[:6]))
    assert accepted == []


def test_the_command_itself_refuses_a_flipped_byte(story: Story, evidence: Path) -> None:
    weights = evidence / "model" / "adapter_model.safetensors"
    weights.write_bytes(_flipped(weights.read_bytes(), weights.stat().st_size // 2))
    done = subprocess.run(
        verify_command(evidence, pin=story.site.pin), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "model/adapter_model.safetensors: manifest says" in done.stdout


def test_files_cannot_be_added_removed_renamed_or_linked(
    evidence: Path, verify: Callable[..., tuple[int, str]]
) -> None:
    report = evidence / "report.txt"
    content = report.read_bytes()
    (evidence / "model" / "more.json").write_bytes(b"{}")
    assert _refusal(verify(evidence)) == ("manifest", "model/more.json: not listed in the manifest")
    (evidence / "model" / "more.json").unlink()
    report.rename(evidence / "report.md")
    assert _refusal(verify(evidence)) == ("manifest", "report.txt: listed in the manifest, but missing")
    (evidence / "report.md").unlink()
    report.symlink_to("README.txt")
    assert _refusal(verify(evidence)) == ("pack", "report.txt: a symbolic link")
    report.unlink()
    os.mkfifo(report)
    assert _refusal(verify(evidence)) == ("pack", "report.txt: neither a file nor a folder")
    report.unlink()
    report.write_bytes(content)
    for name in (MANIFEST, MANIFEST_BUNDLE):
        kept = (evidence / name).read_bytes()
        (evidence / name).unlink()
        assert _refusal(verify(evidence)) == ("manifest", f"{name}: missing from the pack")
        (evidence / name).write_bytes(kept)
    assert verify(evidence)[0] == 0


@pytest.mark.parametrize("kind", Kind)
def test_a_removed_claim_is_missed(
    story: Story, evidence: Path, verify: Callable[..., tuple[int, str]], kind: Kind
) -> None:
    write_claims(evidence, [claim for claim in read_claims(evidence) if claim.kind is not kind])
    assert _refusal(verify(evidence))[0] == "manifest"
    reseal(evidence, run_id=story.trained.id, signer=story.site.appliance.signer)
    assert _refusal(verify(evidence)) == ("kinds", f"claims.jsonl: no {kind} claim")


@pytest.mark.parametrize("kind", Kind)
def test_a_claim_of_another_run_is_refused(
    story: Story, evidence: Path, verify: Callable[..., tuple[int, str]], kind: Kind
) -> None:
    swapped = _swapped(read_claims(evidence), read_claims(story.quick.evidence), kind)
    _refuse_swap(story, evidence, verify, swapped, run_id=story.trained.id)


@pytest.mark.parametrize(
    "kind",
    sorted(set(Kind) - {Kind.DATASET, Kind.CHAMPION_RELEASE, Kind.APPROVAL, Kind.ADMISSION}),
)
def test_a_claim_of_another_run_of_the_same_order_is_refused(
    story: Story, tmp_path: Path, verify: Callable[..., tuple[int, str]], kind: Kind
) -> None:
    evidence = Path(shutil.copytree(story.quick.evidence, tmp_path / "evidence"))
    swapped = _swapped(read_claims(evidence), read_claims(story.quick_again.evidence), kind)
    _refuse_swap(story, evidence, verify, swapped, run_id=story.quick.id)


def test_an_old_log_head_is_refused(
    story: Story, evidence: Path, verify: Callable[..., tuple[int, str]]
) -> None:
    put_under(evidence, story.early_head)
    check, said = _refusal(verify(evidence))
    assert (check, said.split(":")[0]) == ("manifest", CHECKPOINT)
    reseal(evidence, run_id=story.trained.id, signer=story.site.appliance.signer)
    check, said = _refusal(verify(evidence))
    assert (check, said.split(":")[0]) == ("log", "proofs/01.tlog-proof")


def test_a_head_of_a_log_that_was_cut_is_refused_by_who_remembers(
    story: Story, evidence: Path, verify: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    (tmp_path / "remembered").write_bytes(story.late_head)
    check, said = _refusal(verify(evidence, "--checkpoint", str(tmp_path / "remembered")))
    assert check == "checkpoint"
    assert "is below the remembered size" in said


def _swapped(claims: list[LoggedClaim], others: list[LoggedClaim], kind: Kind) -> list[LoggedClaim]:
    other = next(claim for claim in others if claim.kind is kind)
    swapped = [other if claim.kind is kind else claim for claim in claims]
    assert swapped != claims
    return swapped


def _refuse_swap(
    story: Story,
    evidence: Path,
    verify: Callable[..., tuple[int, str]],
    swapped: list[LoggedClaim],
    *,
    run_id: str,
) -> None:
    signer = story.site.appliance.signer
    # A thief.
    write_claims(evidence, swapped)
    assert _refusal(verify(evidence))[0] == "manifest"
    # An insider with the appliance's key.
    reseal(evidence, run_id=run_id, signer=signer)
    assert _refusal(verify(evidence))[0] == "log"
    # An insider who logs the claim once more, as one of this run.
    logged, head = log_again(story.site, swapped, run_id=run_id)
    write_claims(evidence, logged)
    (evidence / CHECKPOINT).write_bytes(head)
    reseal(evidence, run_id=run_id, signer=signer)
    assert _refusal(verify(evidence))[0] == "links"


def _refusal(verified: tuple[int, str]) -> tuple[str, str]:
    """The check that failed and why, of an exit with 1."""
    code, said = verified
    assert code == 1, said
    (failed,) = [line.strip() for line in said.splitlines() if line.strip().startswith("✗")]
    _, check, why = failed.split(maxsplit=2)
    return check, why


def _positions(name: str, size: int) -> list[int]:
    """First, middle, last; eight more in JSON, where a byte may mean nothing to a careless parser."""
    more = [size * n // 9 for n in range(1, 9)] if name.endswith((".json", ".jsonl", ".entry")) else []
    return sorted({0, size // 2, size - 1, *more})


def _flipped(content: bytes, position: int, *, bit: int = 1) -> bytes:
    return content[:position] + bytes([content[position] ^ bit]) + content[position + 1 :]


def _answers(api: ApiClient) -> bool:
    try:
        api.list_runs(limit=1)
    except Exception:  # noqa: BLE001  not up yet, in one of many ways
        return False
    return True


def _refusals(api: ApiClient, run_id: str, folder: Path) -> Iterator[tuple[str, str, int, str]]:
    for part in ("evidence", "model"):
        state = api.show(run_id)["state"]
        with pytest.raises(ApiError) as refused:
            api.fetch(run_id, part, into=folder / "too-early")
        assert not (folder / "too-early").exists()
        yield state, part, refused.value.answer_status, refused.value.answer_code


def _await_evidence(api: ApiClient, run_id: str, folder: Path) -> Proved:
    wait_until(lambda: api.show(run_id)["state"] in {"logged", "failed"}, what="the evidence", pause_s=0.2)
    run = api.show(run_id)
    assert run["state"] == "logged", run["reason"]
    evidence = api.fetch(run_id, "evidence", into=folder / "evidence" / run_id)
    events = tuple(event["event"] for event in api.events(run_id)["events"])
    return Proved(run=run, evidence=evidence, events=events)
