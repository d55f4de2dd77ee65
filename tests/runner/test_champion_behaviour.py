"""Scripts with the habits of real champions, behind every driver: what the exit, the harvest and the verdict say.

The scripts are ours, in `champions/`; what real winners do is in `docs/champion-behaviour.md`.
"""

import os
import resource
import stat
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from runner.contract.epochs import ContractEpoch
from runner.contract.launch import contract_launch
from runner.spec import ExitReason
from runner.verdict import NoModelError, Verdict
from tests.runner.champion_runs import (
    LEAF,
    MIB,
    REPOSITORY,
    SCRIPTS,
    TASK_ID,
    Ran,
    champion,
    inputs,
    order,
    run_habit,
    spec_of,
    start,
    start_habit,
)

pytestmark = pytest.mark.sandbox
DRIVERS = ("bubblewrap", "oci", "gvisor")
MODEL = ["config.json", "loss.txt", "model.safetensors"]
DEADLINE_S = 60.0


@pytest.fixture(scope="module", params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def seen(driver: str, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """What a champion finds around itself."""
    ran = run_habit("looks_around", tmp_path_factory.mktemp("job"), driver=driver)
    assert ended_well(ran), ran.log
    return ran.facts


def await_log(ran: Ran, words: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if (ran.job_dir / "stdout.log").exists() and words in ran.log:
            return
        time.sleep(0.02)
    raise AssertionError(f"{words!r} never appeared in the log")


def ended_well(ran: Ran) -> bool:
    return (ran.exit.reason, ran.exit.code) == (ExitReason.EXITED, 0)


def test_every_script_is_run_by_a_test() -> None:
    here = Path(__file__).read_text()
    scripts = {path.stem for path in SCRIPTS.glob("*.py")} - {"contract"}
    assert [name for name in sorted(scripts) if f'"{name}"' not in here] == []


# The contract itself.


@pytest.mark.parametrize(
    ("epoch", "where"),
    [(ContractEpoch.E2, "dockerfiles"), (ContractEpoch.E3, "dockerfiles"), (ContractEpoch.E4, "ops/docker")],
)
def test_a_champion_of_each_epoch_trains(tmp_path: Path, epoch: ContractEpoch, where: str) -> None:
    given = inputs(tmp_path)
    tree = champion(tmp_path / "tree", "trains", where=where)
    launch = contract_launch(order(epoch=epoch), tree=tree, inputs=given)
    ran = start(spec_of(launch, driver="bubblewrap"), tmp_path / "job", base=given.base_model).end()
    assert ended_well(ran), ran.log
    assert ran.facts == {"rows": "8", "trained": REPOSITORY}
    assert (ran.harvested, ran.rejected, ran.verdict) == (MODEL, {}, Verdict.TRAINED)


def test_a_shell_script_may_be_the_entry_point(tmp_path: Path, driver: str) -> None:
    given = inputs(tmp_path)
    tree = champion(tmp_path / "tree", "trains", entrypoint=("./run_text_trainer.sh",))
    script = tree / "scripts" / "run_text_trainer.sh"
    script.write_text('#!/bin/bash\nset -e\necho "*****Running text trainer"\npython -m trains "$@"\n')
    script.chmod(0o755)
    launch = contract_launch(order(), tree=tree, inputs=given)
    ran = start(spec_of(launch, driver=driver), tmp_path / "job", base=given.base_model).end()
    assert ended_well(ran), ran.log
    assert ran.log.startswith("*****Running text trainer\n")
    assert ran.verdict is Verdict.TRAINED


def test_what_a_champion_sees_is_what_upstream_shows_and_no_more(seen: Mapping[str, str]) -> None:
    assert seen["hours"] == "2.0"
    assert seen["nulls"] == str(["field", "field_input", "field_system", "format", "no_input_format"])
    assert seen["ids"] == "(0, 0, 0)"
    assert (seen["home"], seen["folder"]) == ("/root", "/workspace/scripts")
    assert seen["clock"] == "('UTC', 0)"
    assert (seen["leaf"], seen["parent"]) == ("False", "True")
    assert seen["stdin"] == "b''"
    assert seen["cache"] == str(
        [
            f"datasets/{TASK_ID}_train_data.json",
            "models/Qwen--Qwen3-0.6B/config.json",
            "models/Qwen--Qwen3-0.6B/model.safetensors",
        ]
    )
    assert seen["write-checkpoints"] == "done"
    assert {"WANDB_MODE", "WANDB_DIR", "TZ", "HF_HUB_OFFLINE", "QUIET"} <= set(seen["environment"].split(","))


def test_inputs_are_read_only_to_user_id_zero_inside(seen: Mapping[str, str]) -> None:
    for attempt in ("open-data", "open-weights", "write-cache", "remove-data"):
        assert seen[attempt] in {"EROFS", "EACCES", "EBUSY"}, attempt
    assert seen["chown"] in {"EPERM", "EINVAL"}  # no such user is mapped


def test_the_network_is_dead_at_once_and_not_after_minutes(seen: Mapping[str, str]) -> None:
    assert seen["connect"] in {"ENETUNREACH", "EHOSTUNREACH"}  # the second is gVisor's word
    assert seen["resolve"] != "done"
    assert int(seen["network-ms"]) < 3000
    assert seen["pip"] != "0"
    assert int(seen["pip-ms"]) < 20_000


# Its root file system, its output, its own port.


def test_a_champion_writes_all_over_its_root_and_nothing_of_it_reaches_the_host(
    tmp_path: Path, driver: str
) -> None:
    def state() -> dict[str, bytes]:
        files = [p for name in ("tree", "inputs") for p in (tmp_path / name).rglob("*") if p.is_file()]
        return {str(path): path.read_bytes() for path in files}

    running = start_habit("writes_everywhere", tmp_path, driver=driver)
    before = state()
    ran = running.end()
    assert ended_well(ran), ran.log
    assert ran.facts["failed"] == "[]"
    assert (ran.facts["own-script"], ran.facts["deleted"], ran.facts["hosts"]) == ("True", "True", "True")
    assert {value for name, value in ran.facts.items() if name.startswith("execute-")} == {"b'ran'"}
    assert ran.facts["mode"] == "drwxrwxrwt"
    assert ran.verdict is Verdict.TRAINED
    assert state() == before
    assert not [path for path in ("/ours", "/srv/ours", "/opt/ours", "/run/ours") if Path(path).exists()]
    assert "127.0.0.1 me" not in Path("/etc/hosts").read_text()


def test_a_champion_may_remove_and_make_its_submission_folder(tmp_path: Path, driver: str) -> None:
    ran = run_habit("replaces_output", tmp_path, driver=driver)
    assert ended_well(ran), ran.log
    assert ran.facts["left"] == str(MODEL)
    assert (ran.harvested, ran.rejected, ran.verdict) == (MODEL, {}, Verdict.TRAINED)
    assert (ran.job_dir / "harvest" / LEAF / "loss.txt").read_text() == "3,no_eval"


def test_folders_of_the_image_can_be_moved(tmp_path: Path, driver: str) -> None:
    ran = run_habit("renames_folders", tmp_path, driver=driver)
    assert ended_well(ran), ran.log
    assert ran.facts["rename"] in {"EXDEV", "done"}
    assert (ran.facts["moved"], ran.facts["gone"], ran.facts["file"]) == ("{}", "True", "{}")


def test_two_champions_use_the_same_port_at_the_same_time(tmp_path: Path, driver: str) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    running = [start_habit("serves_loopback", folder, driver=driver) for folder in folders]
    for one in running:
        await_log(one.ran, "second=")
    for one in running:
        one.cancel()
    for one in running:
        ran = one.end()
        assert ran.exit.reason is ExitReason.CANCELLED
        assert (ran.facts["set"], ran.facts["served"]) == ("b'OK'", f"b'{TASK_ID}'")
        assert ran.facts["second"] == "Address already in use"
        assert ran.facts["still"] == f"b'{TASK_ID}'"


def test_workers_share_memory(tmp_path: Path, driver: str) -> None:
    ran = run_habit("forks_workers", tmp_path, driver=driver)
    assert ended_well(ran), ran.log
    assert ran.facts["shm"] == str([48 * MIB])
    for method in ("fork", "spawn"):
        assert ran.facts[f"{method}-squares"] == str(sum(n * n for n in range(100)))
        assert (ran.facts[f"{method}-workers"], ran.facts[f"{method}-filled"]) == ("True", "48")


@pytest.mark.training
def test_torch_loads_with_workers_and_averages_over_loopback(tmp_path: Path, driver: str) -> None:
    ran = run_habit("loads_with_torch", tmp_path, driver=driver, memory_bytes=2048 * MIB, pids=1024)
    assert ended_well(ran), ran.log
    assert (ran.facts["learned"], ran.facts["averaged"], ran.facts["gpus"]) == ("True", "True", "0")
    assert ran.verdict is Verdict.TRAINED


# How it ends.


def test_a_daemon_that_outlives_its_script_dies_before_the_harvest(tmp_path: Path, driver: str) -> None:
    ran = run_habit("leaves_daemon", tmp_path, driver=driver)
    assert ended_well(ran), ran.log
    assert ran.facts["left"] == "a daemon"
    assert ran.harvested == ["beats.txt", *MODEL]
    assert (ran.job_dir / "harvest" / LEAF / "beats.txt").read_text().endswith("beat\n")
    assert ran.verdict is Verdict.TRAINED


def test_using_up_the_time_is_a_normal_end_and_the_checkpoint_counts(tmp_path: Path, driver: str) -> None:
    ran = run_habit("overruns", tmp_path, driver=driver, wall_clock_s=3.0, grace_s=0.3)
    assert (ran.exit.reason, ran.exit.code) == (ExitReason.TIMEOUT, None)
    assert ran.facts["saved"] == "True"
    assert (ran.harvested, ran.verdict) == (MODEL, Verdict.TRAINED)


def test_a_champion_may_save_within_the_grace(tmp_path: Path, driver: str) -> None:
    ran = run_habit("saves_when_asked", tmp_path, driver=driver, wall_clock_s=3.0, grace_s=20.0)
    assert ran.exit.reason is ExitReason.TIMEOUT
    assert ran.facts == {"waiting": "True", "saved": "True"}
    assert (ran.harvested, ran.verdict) == (MODEL, Verdict.TRAINED)


def test_running_out_of_memory_is_told_and_the_checkpoint_before_it_kept(tmp_path: Path, driver: str) -> None:
    ran = run_habit("exhausts_memory", tmp_path, driver=driver)
    assert ran.exit.reason is ExitReason.OUT_OF_MEMORY, ran.exit.message
    assert ran.exit.usage["oom_kills"] >= 1
    assert "memory" in ran.exit.message
    assert (ran.facts["saved"], ran.verdict) == ("True", Verdict.TRAINED)


def test_a_worker_killed_for_memory_is_told_although_the_script_exits_well(
    tmp_path: Path, driver: str
) -> None:
    ran = run_habit("child_exhausts_memory", tmp_path, driver=driver)
    assert ran.exit.reason is ExitReason.OUT_OF_MEMORY, ran.exit.message
    assert ran.exit.usage["oom_kills"] >= 1
    assert ran.harvested == MODEL
    if driver != "gvisor":  # its kernel is one process, which is killed whole
        assert (ran.exit.code, ran.facts["worker"]) == (0, "-9")


# What it hands in.


def test_the_noise_fallback_is_found_out(tmp_path: Path, driver: str) -> None:
    ran = run_habit("adds_noise", tmp_path, driver=driver)
    assert ended_well(ran), ran.log
    assert ran.verdict is Verdict.NOISE_FALLBACK
    assert ran.judged().rules[-1].rule == "more-than-embeddings-changed"


@pytest.mark.parametrize(
    ("habit", "verdict"), [("hands_in_base", Verdict.UNCHANGED), ("copies_half", Verdict.PARTIAL)]
)
def test_exit_zero_is_no_training(tmp_path: Path, driver: str, habit: str, verdict: Verdict) -> None:
    ran = run_habit(habit, tmp_path, driver=driver)
    assert ended_well(ran), ran.log
    assert ran.verdict is verdict


def test_exit_zero_with_nothing_is_no_model(tmp_path: Path, driver: str) -> None:
    ran = run_habit("does_nothing", tmp_path, driver=driver)
    assert ended_well(ran), ran.log
    assert ran.harvested == []
    assert ran.exit.rejected == {LEAF: "declared and missing"}
    with pytest.raises(NoModelError, match="its output folder is missing"):
        ran.judged()


def test_pickles_are_told_and_never_loaded(tmp_path: Path, driver: str) -> None:
    ran = run_habit("writes_pickles", tmp_path, driver=driver)
    assert ended_well(ran), ran.log
    assert ran.harvested == ["config.json"]
    assert ran.rejected == dict.fromkeys(("pytorch_model.bin", "training_args.bin", "optimizer.pt"), "pickle")
    with pytest.raises(NoModelError, match=r"wrote no model: .*, found config\.json"):
        ran.judged()
    assert not Path("/tmp/unpickled").exists()


def test_strange_files_beside_a_model_are_left_behind(tmp_path: Path, driver: str) -> None:
    ran = run_habit("leaves_strange_files", tmp_path, driver=driver)
    assert ended_well(ran), ran.log
    wanted = {
        "link": "symlink",
        "up": "symlink",
        "cache": "symlink",
        "one": "2 hard links",
        "two": "2 hard links",
        "sparse.bin": "sparse",
        "setuid": "setuid or setgid",
        "new\\nline": "unsafe name",
        "deep/a/b/c/d/e/f": "too deep",
    }
    if driver != "gvisor":  # whose pipes and sockets live in its own kernel
        wanted |= {kind: kind for kind in ("pipe", "socket") if ran.facts[kind] == "made"}
    rejected = {name: why for name, why in ran.rejected.items() if not name.startswith("deep/")}
    assert rejected == {name: why for name, why in wanted.items() if not name.startswith("deep/")}
    assert "too deep" in ran.rejected.values()
    assert "made" not in (ran.facts["device"], ran.facts["link-out"])
    assert (ran.harvested, ran.verdict) == (MODEL, Verdict.TRAINED)


def test_logs_do_not_crowd_the_model_out(tmp_path: Path, driver: str) -> None:
    ran = run_habit("logs_much", tmp_path, driver=driver, output_inodes=2000)
    assert ended_well(ran), ran.log
    assert ran.facts["logs"] == "True"
    assert "too many files" in ran.rejected.values()
    assert (set(MODEL) <= set(ran.harvested), ran.verdict) == (True, Verdict.TRAINED)


def test_locked_output_is_named_and_hangs_nothing(tmp_path: Path, driver: str) -> None:
    ran = run_habit("locks_output", tmp_path, driver=driver)
    assert ended_well(ran), ran.log
    for path in (ran.job_dir / "harvest").rglob("*"):
        assert stat.S_IMODE(path.lstat().st_mode) in {0o644, 0o755}
    if ran.harvested:  # who harvests has rights of its own: then it is whole
        assert ran.verdict is Verdict.TRAINED
    else:
        assert any(why.startswith("cannot be opened: ") for why in ran.exit.rejected.values())


# Limits.


def test_full_disks_are_told_to_the_champion_which_may_go_on(tmp_path: Path, driver: str) -> None:
    ran = run_habit("fills_disks", tmp_path, driver=driver, tmp_bytes=24 * MIB, shm_bytes=24 * MIB)
    assert ended_well(ran), ran.log
    for place in ("output", "root", "/tmp", "/dev/shm"):
        reason, _, count = ran.facts[place].rpartition(" after ")
        assert reason == "No space left on device", place
        assert 8 <= int(count) <= 32, place
    for place in ("output-files", "root-files"):
        reason, _, count = ran.facts[place].rpartition(" after ")
        assert reason == "No space left on device", place
        assert int(count) <= 600, place
    assert ran.verdict is Verdict.TRAINED


@pytest.mark.parametrize("wanted", [3000, 65_536])
def test_open_files_end_at_the_limit_or_at_the_hosts(tmp_path: Path, driver: str, wanted: int) -> None:
    ran = run_habit("opens_files", tmp_path, driver=driver, open_files=wanted)
    assert ended_well(ran), ran.log
    hosts = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # never raised: a node without the right to cannot
    limit = wanted if hosts == resource.RLIM_INFINITY else min(wanted, hosts)
    if driver == "gvisor":
        limit = wanted  # of its own kernel's files
    assert ran.facts["limit"] == str(limit)
    assert ran.facts["refused"] == "Too many open files"
    assert limit - 100 < int(ran.facts["opened"]) < limit


def test_a_gigabyte_of_log_is_counted_and_cut(tmp_path: Path, driver: str) -> None:
    ran = run_habit("prints_gigabyte", tmp_path, driver=driver)
    assert ended_well(ran), ran.log[-1000:]
    assert ran.exit.log_bytes_total == (1 << 30) + len("first words\nlast words\n")
    assert (ran.job_dir / "stdout.log").stat().st_size <= (256 << 10) + 4096
    assert ran.log.startswith("first words\n")
    assert ran.verdict is Verdict.TRAINED


def test_there_are_no_secrets_to_print(tmp_path: Path, driver: str) -> None:
    ran = run_habit("prints_secrets", tmp_path, driver=driver, secret="canary-4e1d", log_bytes=4 * MIB)
    assert ended_well(ran), ran.log
    assert "QUIET=1" in ran.log  # it did print
    assert "canary-4e1d" not in ran.log
    for word in ("TOKEN=", "PASSWORD=", "SECRET="):
        assert word not in ran.log.upper()
    shadow = Path("/etc/shadow").read_text().splitlines()[0] if os.geteuid() == 0 else "root:"
    assert shadow not in ran.log


# The scripts are as strict as real ones, or they would prove nothing.


@pytest.mark.parametrize("change", ["added", "missing", "swapped"])
def test_the_scripts_exit_with_two_at_any_other_argument(tmp_path: Path, change: str) -> None:
    launch = contract_launch(order(), tree=champion(tmp_path / "tree", "trains"), inputs=inputs(tmp_path))
    words = list(launch.argv[3:])
    changed = {"added": [*words, "--seed", "1"], "missing": words[:-2], "swapped": words[2:] + words[:2]}
    command = [sys.executable, "-m", "trains", *changed[change]]
    done = subprocess.run(command, cwd=SCRIPTS, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
