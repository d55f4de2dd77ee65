"""The hostile champions do what they claim, so that a wall which stops them stops something real."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.bare import Bare, champion_arguments, child_env, make_bare

HOSTILE = Path(__file__).parent / "hostile"


def run_hostile(name: str, bare: Bare) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(HOSTILE / f"{name}.py"), *champion_arguments(hours=1)],
        env=child_env({"CHAMPION_ROOT": str(bare.root)}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def bare(tmp_path: Path) -> Bare:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}", encoding="utf-8")
    return make_bare(tmp_path / "root", model=model, train=None)


def test_one_ends_with_0_and_leaves_nothing(bare: Bare) -> None:
    assert run_hostile("exits_without_training", bare).returncode == 0
    assert not bare.output.exists()


def test_one_hands_the_base_back(bare: Bare) -> None:
    assert run_hostile("copies_base", bare).returncode == 0
    assert json.loads((bare.output / "config.json").read_text(encoding="utf-8")) == {}


def test_one_changes_only_the_embeddings(bare: Bare) -> None:
    import numpy
    from safetensors.numpy import load_file, save_file

    ones = {
        name: numpy.ones((4, 4), "float32") for name in ("model.embed_tokens.weight", "model.norm.weight")
    }
    save_file(ones, bare.root / "cache/models/assay--tiny/model.safetensors")
    assert run_hostile("adds_embedding_noise", bare).returncode == 0
    left = load_file(bare.output / "model.safetensors")
    assert (left["model.norm.weight"] == 1).all()
    assert not (left["model.embed_tokens.weight"] == 1).any()


def test_one_leaves_links_and_special_files(bare: Bare) -> None:
    done = run_hostile("leaves_links_and_fifos", bare)
    assert done.returncode == 0, done.stderr
    assert (bare.output / "adapter_model.safetensors").is_symlink()
    assert (bare.output / "loss.txt").is_fifo()
    assert (bare.output / "socket").is_socket()


def test_one_does_not_end_when_asked(bare: Bare) -> None:
    child = subprocess.Popen(
        [sys.executable, str(HOSTILE / "ignores_sigterm.py")], stdout=subprocess.PIPE, start_new_session=True
    )
    assert child.stdout is not None
    both = [child.stdout.readline(), child.stdout.readline()]
    assert both == [b"waiting for ever\n"] * 2
    children = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text(encoding="ascii").split()
    child.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(timeout=0.3)
    for pid in (*map(int, children), child.pid):
        os.kill(pid, signal.SIGKILL)
    child.wait(timeout=10)


def test_one_tells_each_way_out_that_it_tried(bare: Bare) -> None:
    # In an empty network namespace, so that nothing leaves this machine either.
    script = str(HOSTILE / "tries_network.py")
    namespace = ["unshare", "--user", "--map-root-user", "--net"]
    if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this host gives no network namespace")
    done = subprocess.run([*namespace, sys.executable, script], capture_output=True, text=True, check=False)
    attempts = done.stdout.splitlines()
    assert len(attempts) == 14
    assert all(" failed=" in line for line in attempts)


def test_the_fork_bomb_does_not_start_outside_a_sandbox(bare: Bare) -> None:
    if os.getpid() < 900:
        pytest.skip("process numbers are too small to tell this from a sandbox")
    done = run_hostile("fork_bomb", bare)
    assert done.returncode == 1
    assert "not in a sandbox" in done.stderr


def test_one_writes_ten_times_its_limit(bare: Bare) -> None:
    done = run_hostile("fills_output", bare)
    assert done.stdout.splitlines() == ["fill written_bytes=671088640", "fill files=10000"]
    assert (bare.output / "model.safetensors").stat().st_size == 640 << 20
