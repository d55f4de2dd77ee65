"""Bad inputs and hostile champions at a real site: one clear message each, nothing half-written, and the site
still works.

All runs are made at one site, one after another; a good one ends them.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.cli.client import ApiClient
from appliance.demo.offline import verify_offline
from appliance.demo.processes import free_port
from appliance.domain import Run, RunState
from appliance.errors import ApiError
from audit.event import EventKind
from runner.spec import ExitReason
from tests.e2e.site import (
    HOSTILE,
    QUICK,
    SUBMITTER,
    Inputs,
    Site,
    assay,
    client_of,
    make_site,
    order_of,
    processes,
    server_of,
    wait_until,
)
from tests.runner.guests import needs_bwrap

pytestmark = [pytest.mark.sandbox, needs_bwrap]

MIB = 1 << 20
SECONDS = 1 / 3600  # in hours


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A site with its API and inputs; runs are taken on by the test's own worker loop."""

    site: Site
    api: ApiClient
    inputs: Inputs

    def run(self, champion: str, *, seconds: float = 60.0, **limits: int) -> Run:
        """A run of that champion at its end."""
        run_id = self.submit(champion, seconds=seconds)
        return self.site.work(run_id, ports=self.site.ports(**limits))

    def submit(self, champion: str, *, seconds: float = 60.0) -> str:
        order = order_of(champion, self.inputs, hours=seconds * SECONDS)
        return str(self.api.submit(order, idempotency_key=f"{champion}-{seconds}")["id"])

    def run_hostile(self, name: str, *, seconds: float = 60.0, **limits: int) -> Run:
        """A failed run of the hostile champion `name`, checked for what every failed run has in common."""
        champion = self.site.admit_champion(name.replace("_", "-"), script=HOSTILE / f"{name}.py")
        run = self.run(champion, seconds=seconds, **limits)
        assert run.state is RunState.FAILED
        assert run.reason is not None
        assert "\n" not in run.reason
        assert run.model is None
        kinds = [event.kind for event in self.site.events(run.id)]
        assert kinds.count(EventKind.RUN_FAILED) == 1
        assert self.site.events(run.id)[-1].detail["reason"] == run.reason
        with pytest.raises(ApiError) as refused:
            self.api.fetch(run.id, "evidence", into=self.site.folder / "never")
        assert refused.value.answer_status == 409
        assert self.site.job_exit(run.id).survivors == 0
        assert self.site.half_written() == []
        return run


@pytest.fixture(scope="module")
def opened(
    tmp_path_factory: pytest.TempPathFactory, base_model: Path, few_complaints: Path
) -> Iterator[Open]:
    site = make_site(tmp_path_factory.mktemp("bad-input"))
    inputs = site.import_inputs(base_model, few_complaints)
    port = free_port()
    server = server_of(site, port=port)
    with processes(server):
        wait_until(lambda: "listening" in server.log.read_text(), what="the server", alive=(server,))
        yield Open(site=site, api=client_of(site, port=port), inputs=inputs)


# Imports, as an operator types them.


def refuse(site: Site, *arguments: str | Path) -> str:
    """What `assay …` says in one line when it refuses and changes nothing."""
    before, logged = site.everything(), site.log_findings()
    done = assay(*arguments, "--home", site.home)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("assay: ")
    assert (site.everything(), site.log_findings()) == (before, logged)
    return done.stderr.removeprefix("assay: ").strip()


def refuse_model(site: Site, folder: Path) -> str:
    return refuse(site, "models", "import", folder, "--name", "assay/other", "--as", SUBMITTER)


def refuse_data(site: Site, file: Path, content: bytes) -> str:
    file.write_bytes(content)
    return refuse(site, "datasets", "import", file, "--as", SUBMITTER)


def test_a_missing_model_folder_is_refused(opened: Open, tmp_path: Path) -> None:
    assert refuse_model(opened.site, tmp_path / "none") == f"model {tmp_path}/none: no such folder"


def test_a_folder_that_is_no_model_is_refused(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"\xff\xd8")
    said = refuse_model(opened.site, tmp_path)
    assert said == f"model {tmp_path}: found no config.json; wanted a Hugging Face folder"


def test_pickled_weights_are_refused(opened: Open, tmp_path: Path, base_model: Path) -> None:
    model = Path(shutil.copytree(base_model, tmp_path / "model"))
    (model / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    said = refuse_model(opened.site, model)
    assert said == f"model {model}: pytorch_model.bin is a pickle, wanted .safetensors weights only"


def test_foreign_code_and_links_are_refused(opened: Open, tmp_path: Path, base_model: Path) -> None:
    model = Path(shutil.copytree(base_model, tmp_path / "model"))
    config = json.loads((model / "config.json").read_bytes())
    (model / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "code.Model"}}))
    assert "auto_map, which asks for foreign code" in refuse_model(opened.site, model)
    (model / "config.json").write_text(json.dumps(config))
    (model / "vocab.txt").symlink_to("/etc/passwd")
    assert refuse_model(opened.site, model).startswith(f"{model}/vocab.txt: is a link;")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b'{"instruct": "\xff"}\n', "the file is not UTF-8: byte 14 is 0xff (invalid start byte)"),
        (
            b'{"question": "a", "output": "b"}\n',
            "the columns are output, question; wanted instruct and output",
        ),
        (
            b'{"instruct": "a", "output": "b"}\n' * 221,
            "221 rows leave 199 for training after 22 are held out;",
        ),
        (b'{"instruct": "a", "output": 1}\n', "row 1, field 'output': wanted text, found "),
        (b'{"instruct": "a", "outp', "line 1 is not JSON: "),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused(
    opened: Open, tmp_path: Path, content: bytes, said: str
) -> None:
    assert refuse_data(opened.site, tmp_path / "rows.jsonl", content).startswith(said)


# Champions that may not run.


def test_an_unapproved_champion_cannot_be_ordered(opened: Open) -> None:
    champion = opened.site.sync_champion("unapproved", script=HOSTILE / "fork_bomb.py")
    with pytest.raises(ApiError, match="unapproved is not admitted: nobody decided about it yet") as refused:
        opened.submit(champion)
    assert refused.value.answer_status == 422
    assert opened.api.list_runs(limit=200)["runs"] == []


def test_the_same_champion_under_another_name_is_refused_by_name(opened: Open) -> None:
    first = opened.site.sync_champion("original")
    before = opened.site.events(first)
    report = opened.site.publish("copy", feed="another-feed")  # which later tests do not sync
    assert [(refusal.name, refusal.reason) for refusal in report.refused] == [
        ("copy", "its tree is here already, as original")
    ]
    assert report.new == ()
    assert opened.site.events("copy")[-1].kind is EventKind.CHAMPION_REFUSED
    assert opened.site.events(first) == before


def test_a_champion_that_changed_in_the_store_does_not_run(opened: Open) -> None:
    champion = opened.site.admit_champion("changed", script=QUICK)
    script = opened.site.appliance.store.path(champion) / "scripts" / "text_trainer.py"
    content, mode = script.read_bytes(), script.stat().st_mode
    script.chmod(0o644)
    script.write_bytes(content + b"# one line more\n")
    run = opened.run(champion)
    script.write_bytes(content)
    script.chmod(mode)
    assert run.state is RunState.FAILED
    assert run.reason is not None
    assert "changed in the store: scripts/text_trainer.py: found " in run.reason
    assert [event.kind for event in opened.site.events(run.id)] == [
        EventKind.RUN_SUBMITTED,
        EventKind.RUN_PLACED,
        EventKind.RUN_FAILED,
    ]
    assert opened.site.events(run.id)[-1].detail["reason"] == run.reason
    assert not (opened.site.home / "jobs" / run.id).exists()


# Champions that do their worst.


def test_ending_well_without_training_is_no_success(opened: Open) -> None:
    run = opened.run_hostile("exits_without_training")
    assert opened.site.job_exit(run.id).code == 0
    assert str(run.reason).startswith(
        "the champion wrote no model: its output folder is missing; looked for "
    )


def test_the_base_model_handed_back_is_no_success(opened: Open) -> None:
    run = opened.run_hostile("copies_base")
    assert run.verdict == "unchanged"
    assert "tensors equal the base model's" in str(run.reason)


def test_noise_in_the_embeddings_is_no_success(opened: Open) -> None:
    run = opened.run_hostile("adds_embedding_noise")
    assert run.verdict == "noise-fallback"
    assert "differs from the base model: what a champion does when training failed" in str(run.reason)


def test_links_stay_in_the_sandbox_and_pipes_cannot_be_made(opened: Open) -> None:
    run = opened.run_hostile("leaves_links_and_fifos")
    harvested = opened.site.home / "jobs" / run.id / "harvest"
    assert [path for path in harvested.rglob("*") if not path.is_dir()] == []
    rejected = opened.site.job_exit(run.id).rejected
    assert sorted(rejected.values()) == ["symlink"] * 4
    assert "mkfifo" in opened.site.job_log(run.id)
    assert "Operation not permitted" in opened.site.job_log(run.id)


def test_ten_times_the_quota_ends_at_the_quota(opened: Open) -> None:
    run = opened.run_hostile("fills_output", output_bytes=64 * MIB, output_inodes=2000)
    said = opened.site.job_log(run.id)
    assert "fill stopped_after_bytes=" in said
    assert "by=No space left on device" in said
    stopped = int(said.partition("stopped_after_bytes=")[2].split()[0])
    assert 50 * MIB < stopped < 80 * MIB


def test_a_champion_that_ignores_signals_ends_with_its_time(opened: Open) -> None:
    run = opened.run_hostile("ignores_sigterm", seconds=4)
    ended = opened.site.job_exit(run.id)
    assert ended.reason is ExitReason.TIMEOUT
    assert 2_000 <= ended.usage["wall_ms"] < 10_000  # its time, and the grace after SIGTERM
    assert opened.site.job_log(run.id).count("waiting for ever") == 2


def test_the_network_is_not_there(opened: Open) -> None:
    run = opened.run_hostile("tries_network")
    attempts = [line for line in opened.site.job_log(run.id).splitlines() if line.startswith("network ")]
    assert len(attempts) == 14
    assert all(" failed=" in line for line in attempts)


def test_a_fork_bomb_is_held_and_ended(opened: Open) -> None:
    run = opened.run_hostile("fork_bomb", seconds=4, pids=64)
    ended = opened.site.job_exit(run.id)
    assert ended.reason is ExitReason.TIMEOUT
    assert ended.usage.get("forks_refused", 1) > 0  # counted where control groups are


def test_after_all_this_a_good_run_is_proved(opened: Open) -> None:
    run = opened.run(opened.site.admit_champion("good", script=QUICK))
    assert run.state is RunState.LOGGED, run.reason
    evidence = opened.api.fetch(run.id, "evidence", into=opened.site.folder / "evidence")
    done = verify_offline(evidence, pin=opened.site.pin)
    assert done.returncode == 0, done.stdout
    assert opened.site.half_written() == []
    assert opened.site.log_findings() == ()
