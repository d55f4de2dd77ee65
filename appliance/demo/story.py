"""The main job, told in eight steps; everything here goes the way a real site goes, at a smaller size."""

import secrets
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.status import Status

from appliance.adoption import adopt, approve
from appliance.assembly import Appliance, open_appliance
from appliance.cli.client import ApiClient
from appliance.demo.offline import verify_command, verify_offline, without_network
from appliance.demo.processes import Processes, appliance_processes, free_port
from appliance.demo.progress import TrainingProgress
from appliance.demo.screen import Screen
from appliance.errors import AdmissionError, ApplianceError, ConflictError, EvidenceError
from appliance.evaluation import Metrics
from appliance.feeds import sync_by_hand
from appliance.home import add_person, create_home, open_home
from appliance.imports import import_dataset, import_model
from appliance.ports import SystemClock
from appliance.report import loss_line
from appliance.settings import Settings
from appliance.store import tokens
from appliance.store.champions import ChampionRow
from appliance.syncing import champion_named
from appliance.tokens import Role as ApiRole
from attestation.trust import Role, trust_sha256
from runner.sandbox.bubblewrap import BubblewrapSandbox
from tournament_sync.champion import Channel, ContractEpoch
from tournament_sync.errors import PublishError
from tournament_sync.feed.keys import ROOT_FILE
from tournament_sync.feed.publish_tree import publish_tree
from tournament_sync.release import ReleaseFacts

DEPLOY = Path(__file__).parents[2] / "deploy"
CHAMPION = "god-text-assay-reference"
SUBMITTER, APPROVER, PUBLISHER = "ada", "olu", "feed-publisher"
POLL_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What the user of the demo may choose."""

    folder: Path
    model: Path | None
    data: Path | None
    hours_to_complete: float


def run_demo(options: DemoOptions, *, screen: Screen) -> None:
    """Do the main job in `options.folder`; a second time it goes on with the home that is there.

    Raises SandboxUnavailableError before anything else, and ApplianceError when a step refuses.
    """
    BubblewrapSandbox().check()
    with screen.step("Appliance home: database, keys, log, trust root, two people"):
        appliance = make_home(options.folder)
        home = appliance.home
        screen.fact(f"{home.root}; {SUBMITTER} proposes and submits, {APPROVER} approves")
    with screen.step("Champion: released to a TUF feed, synced by its pinned root, inspected"):
        champion = sync_reference_champion(appliance, options.folder / "feed")
        screen.fact(f"{champion.name}, commit {champion.commit[:12]}, tree {champion.tree[:12]}, Apache-2.0")
        screen.fact("Attribution: Gradients.io (https://gradients.io)")
    with screen.step("Admission: signed approval of a second person, then the policy"):
        admit_champion(appliance, champion, screen)
    with screen.step("Inputs: base model and data, checked, split and digested"):
        base_model, dataset = _inputs(appliance, options, screen)
    with appliance_processes(home.root, log_dir=options.folder / "logs", port=free_port()) as running:
        api = ApiClient(running.url, token=make_token(appliance))
        watch = Watch(api=api, processes=running, screen=screen)
        order = {
            "champion": champion.manifest_sha256,
            "base_model": base_model,
            "dataset": dataset,
            "hours_to_complete": options.hours_to_complete,
        }
        with screen.step("Run: submitted over HTTP, trained in a sandbox that can reach nothing") as status:
            run_id = api.submit(order, idempotency_key=secrets.token_hex(16))["id"]
            run = _follow(watch, run_id, status, until={"harvested", "evaluated", "attested", "logged"})
        with screen.step("Verdict and evaluation: held-out rows, in a second sandbox") as status:
            run = _follow(watch, run_id, status, until={"attested", "logged"})
            screen.fact(f"training verdict: {run['verdict']}")
            screen.fact(f"held-out {loss_line(Metrics(**run['metrics']))}")
        with screen.step("Evidence: claims signed, logged, packed and downloaded") as status:
            _follow(watch, run_id, status, until={"logged"})
            evidence = api.fetch(run_id, "evidence", into=options.folder / "evidence" / run_id)
            screen.fact(str(evidence))
    pin = trust_sha256(home.trust_files())
    with screen.step("Verification, in an empty network namespace, by a program that needs one package"):
        verified = verify_offline(evidence, pin=pin)
    screen.out.print(verified.stdout, markup=False)
    if verified.returncode != 0:
        raise EvidenceError(f"verification failed with exit code {verified.returncode}: {verified.stderr}")
    _close(screen, evidence=evidence, pin=pin, options=options)


def make_home(folder: Path) -> Appliance:
    now = SystemClock().now()
    root = folder / "home"
    home = open_home(root) if (root / "home.json").exists() else create_home(root, name="demo", now=now)
    add_person(home, name=APPROVER, role=Role.APPROVER, now=now)
    add_person(home, name=PUBLISHER, role=Role.PUBLISHER, now=now)
    return open_appliance(Settings(home=home.root))


def sync_reference_champion(appliance: Appliance, feed: Path) -> ChampionRow:
    """The reference champion, released to `feed` and synced from there; the feed's keys lie beside it."""
    keys = feed.with_name(f"{feed.name}-keys")
    try:
        publish_tree(
            DEPLOY / "champions" / "reference",
            feed,
            keys=keys,
            facts=ReleaseFacts(name=CHAMPION, channel=Channel.TEXT, contract_epoch=ContractEpoch.E4),
            signer=appliance.home.person_signer(PUBLISHER),
            now=SystemClock().now(),
        )
    except PublishError as error:
        raise ConflictError(f"{error}; to begin afresh, remove {feed.parent}") from error
    root = (keys / ROOT_FILE).read_bytes()
    report = sync_by_hand(appliance, str(feed), actor=SUBMITTER, root=root)
    for refusal in report.refused:
        raise AdmissionError(f"champion {refusal.name} was refused: {refusal.reason}")
    return champion_named(appliance, CHAMPION)


def admit_champion(appliance: Appliance, champion: ChampionRow, screen: Screen) -> None:
    refused = adopt(appliance, champion, actor=SUBMITTER)
    if not refused.allowed:
        screen.fact(f"before the approval: {refused.reasons[0]}")
        reason = "reference champion of this version, read whole"
        approve(appliance, champion, approver=APPROVER, printed_name="Olu Approver", reason=reason)
        decision = adopt(appliance, champion, actor=SUBMITTER)
        if not decision.allowed:
            raise AdmissionError(f"refused: {'; '.join(map(str, decision.reasons))}")
    screen.fact(f"approved by {APPROVER} and admitted under policy sha256:{refused.policy_sha256[:16]}…")


def _inputs(appliance: Appliance, options: DemoOptions, screen: Screen) -> tuple[str, str]:
    made = options.folder / "made"
    made.mkdir(exist_ok=True)
    model, data = options.model or made / "base-model", options.data or made / "complaints.jsonl"
    if options.model is None and not model.exists():
        run_script("make_base_model.py", "--output", str(model))
    if options.data is None:
        run_script("make_dataset.py", "--output", str(data))
    base = import_model(appliance, model, name=f"local/{model.resolve().name}", actor=SUBMITTER)
    screen.fact(f"base model {base.name}, sha256:{base.root_sha256[:16]}…")
    dataset = import_dataset(appliance, data, actor=SUBMITTER)
    facts = dataset.facts
    screen.fact(
        f"data {data.name}: {facts['train_rows']} rows to train, {facts['held_out_rows']} held out,"
        f" sha256:{dataset.root_sha256[:16]}…"
    )
    return base.root_sha256, dataset.root_sha256


def run_script(name: str, *arguments: str) -> None:
    command = [sys.executable, str(DEPLOY / "demo" / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ApplianceError(f"{name} ended with {done.returncode}: {done.stderr.strip()[-500:]}")


def make_token(appliance: Appliance) -> str:
    """A fresh API token; the one of an earlier demo is revoked, since tokens are shown once and never kept."""
    now = SystemClock().now()
    with appliance.engine.begin() as connection:
        for token in tokens.list_tokens(connection):
            if token.name == SUBMITTER and token.revoked_at is None:
                tokens.revoke(connection, token.id, actor=SUBMITTER, now=now)
        made = tokens.create(connection, name=SUBMITTER, role=ApiRole.SUBMITTER, actor=SUBMITTER, now=now)
    return made.secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What following a run takes."""

    api: ApiClient
    processes: Processes
    screen: Screen


# Any: the API's plain JSON.
def _follow(watch: Watch, run_id: str, status: Status, *, until: set[str]) -> dict[str, Any]:
    """Show phase, loss and remaining time until the run is in one of the states; refusals are raised."""
    offset, progress = 0, TrainingProgress()
    while True:
        watch.processes.check()
        run = watch.api.show(run_id)
        if run["state"] in {"failed", "cancelled"}:
            raise ApplianceError(f"run {run_id} {run['state']}: {run['reason']}")
        if run["state"] in until:
            return run
        logs = watch.api.logs(run_id, offset=offset)
        offset = logs["next_offset"]
        progress.feed(logs["text"], now_s=time.monotonic())
        line = f"{run['phase']}  {run['waiting'] or progress.line()}"
        status.update(line[: watch.screen.talk.width - 4])
        time.sleep(POLL_S)


def _close(screen: Screen, *, evidence: Path, pin: str, options: DemoOptions) -> None:
    again = " ".join(without_network(verify_command(evidence, pin=pin)))
    lines = (
        f"Done in {screen.elapsed_s:.0f} s.",
        "",
        f"evidence   {evidence}",
        f"model      {evidence / 'model'}",
        f"home       {options.folder / 'home'}",
        "",
        "Repeat the verification, without network and without this appliance:",
        f"    {again}",
        "Then change any byte of any file in the evidence folder and type it again.",
        "",
        "Champions of Gradients-on-Demand. Gradients.io (https://gradients.io) is owned by Grads LLC.",
    )
    screen.out.print("\n".join(lines), markup=False)
