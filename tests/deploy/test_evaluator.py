"""The evaluator: exact losses, fair to base and tuned alike, and a refusal for what cannot be judged."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.bare import DEPLOY, Trained, run_script

pytestmark = pytest.mark.training

EVALUATOR = DEPLOY / "evaluators/instruct_text/evaluate.py"
Evaluate = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def evaluate(base_model: Path, demo_data: Path, tmp_path: Path) -> Evaluate:
    """Run the evaluator on `tuned`; results go to tmp_path."""

    def run(
        tuned: Path, *, base: Path = base_model, held_out: Path = demo_data / "held-out.json"
    ) -> subprocess.CompletedProcess[str]:
        arguments = ("--base-model", base, "--tuned", tuned, "--held-out", held_out, "--output", tmp_path)
        return run_script(EVALUATOR, *arguments)

    return run


def losses(folder: Path) -> dict[str, list[int]]:
    read: dict[str, list[int]] = json.loads((folder / "losses.json").read_bytes())
    return read


def changed(folder: Path, copy: Path, **fields: Any) -> Path:
    """A copy of a model folder with other values in its adapter or model configuration."""
    shutil.copytree(folder, copy)
    name = "adapter_config.json" if (copy / "adapter_config.json").exists() else "config.json"
    config = json.loads((copy / name).read_text(encoding="utf-8"))
    (copy / name).write_text(json.dumps(config | fields), encoding="utf-8")
    return copy


def refused(done: subprocess.CompletedProcess[str], folder: Path) -> str:
    assert done.returncode == 2, done.stderr
    assert not (folder / "losses.json").exists()
    return done.stderr.strip().splitlines()[-1]


def test_the_reference_champion_really_learns(trained: Trained, evaluate: Evaluate, tmp_path: Path) -> None:
    began = time.monotonic()
    done = evaluate(trained.output)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 60  # 6 s on two idle cores
    result = losses(tmp_path)
    assert len(result["before"]) == len(result["after"]) == 64
    assert sum(result["after"]) < 0.2 * sum(result["before"])  # promised: 20 % better; seen: 99 %


def test_writes_canonical_integers(trained: Trained, evaluate: Evaluate, tmp_path: Path) -> None:
    assert evaluate(trained.output).returncode == 0
    data = (tmp_path / "losses.json").read_text(encoding="ascii")
    assert data == json.dumps(json.loads(data), sort_keys=True, separators=(",", ":"))
    assert all(type(loss) is int and loss > 0 for column in losses(tmp_path).values() for loss in column)


def test_losses_are_those_of_each_row_alone(
    base_model: Path, demo_data: Path, evaluate: Evaluate, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert evaluate(base_model).returncode == 0
    rows = json.loads((demo_data / "held-out.json").read_bytes())[:10]
    tokenizer = AutoTokenizer.from_pretrained(base_model, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(base_model, local_files_only=True)
    for row, found in zip(rows, losses(tmp_path)["before"], strict=False):
        prompt = tokenizer(f"{row['instruct']} {row['input']}")["input_ids"]
        answer = [*tokenizer(row["output"])["input_ids"], tokenizer.eos_token_id]
        labels = torch.tensor([[-100] * len(prompt) + answer])
        alone = float(model(input_ids=torch.tensor([prompt + answer]), labels=labels).loss.detach())
        assert abs(found - alone * 1e6) < 50  # padding changes the order of sums, not the sum


def test_unchanged_weights_have_unchanged_losses(
    base_model: Path, evaluate: Evaluate, tmp_path: Path
) -> None:
    assert evaluate(base_model).returncode == 0
    assert losses(tmp_path)["before"] == losses(tmp_path)["after"]


def test_a_row_longer_than_the_context_still_has_a_loss(
    base_model: Path, evaluate: Evaluate, tmp_path: Path
) -> None:
    long = [{"instruct": "word " * 4000, "output": "ok"}, {"instruct": "q", "output": "word " * 4000}]
    (tmp_path / "long.json").write_text(json.dumps(long), encoding="utf-8")
    done = evaluate(base_model, held_out=tmp_path / "long.json")
    assert done.returncode == 0, done.stderr
    assert len(losses(tmp_path)["before"]) == 2


# What is refused


@pytest.mark.parametrize(
    ("held_out", "message"),
    [
        ([], "held-out file is not a JSON array with rows"),
        ([{"instruct": "q", "output": "a"}] * 401, "held-out file has 401 rows; at most 400 are evaluated"),
        ([{"instruct": "q"}], "held-out row 1 has no instruct or no output"),
        ([{"instruct": "q", "output": 7}], "held-out row 1 is not an object of texts"),
    ],
)
def test_refuses_rows_it_cannot_judge(
    base_model: Path, evaluate: Evaluate, tmp_path: Path, held_out: object, message: str
) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(held_out), encoding="utf-8")
    assert message in refused(evaluate(base_model, held_out=tmp_path / "rows.json"), tmp_path)


def test_refuses_another_vocabulary(base_model: Path, evaluate: Evaluate, tmp_path: Path) -> None:
    tuned = changed(base_model, tmp_path / "tuned", vocab_size=1024)
    assert "vocab_size is 1024; the base model has 768" in refused(evaluate(tuned), tmp_path)


def test_refuses_a_shorter_context(base_model: Path, evaluate: Evaluate, tmp_path: Path) -> None:
    tuned = changed(base_model, tmp_path / "tuned", max_position_embeddings=256)
    assert "max_position_embeddings is smaller" in refused(evaluate(tuned), tmp_path)


def test_refuses_foreign_code(base_model: Path, evaluate: Evaluate, tmp_path: Path) -> None:
    tuned = changed(
        base_model,
        tmp_path / "tuned",
        model_type="mine",
        auto_map={"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"},
    )
    (tuned / "mine.py").write_text("raise SystemExit('foreign code ran')\n", encoding="utf-8")
    assert "foreign code ran" not in refused(evaluate(tuned), tmp_path)


def test_refuses_weights_in_a_pickle(base_model: Path, evaluate: Evaluate, tmp_path: Path) -> None:
    tuned = changed(base_model, tmp_path / "tuned")
    (tuned / "model.safetensors").rename(tuned / "pytorch_model.bin")
    assert "safetensors" in refused(evaluate(tuned), tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"peft_type": "IA3"}, "adapter is of type 'IA3'; wanted 'LORA'"),
        ({"layer_replication": [[0, 4], [0, 4]]}, "adapter configuration sets layer_replication"),
        ({"auto_mapping": {"parent_library": "mine"}}, "adapter configuration sets auto_mapping"),
        ({"target_modules": ["q_proj"]}, "adapter does not fit the base model: 0 tensors missing"),
        ({"r": 4}, "size mismatch"),
    ],
)
def test_refuses_an_adapter_that_is_no_plain_lora(
    trained: Trained, evaluate: Evaluate, tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    assert message in refused(evaluate(changed(trained.output, tmp_path / "tuned", **fields)), tmp_path)


def test_refuses_an_adapter_cut_short(trained: Trained, evaluate: Evaluate, tmp_path: Path) -> None:
    tuned = changed(trained.output, tmp_path / "tuned")
    weights = tuned / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert "SafetensorError" in refused(evaluate(tuned), tmp_path)


def test_refuses_losses_that_are_not_numbers(trained: Trained, evaluate: Evaluate, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tuned = changed(trained.output, tmp_path / "tuned")
    tensors = load_file(tuned / "adapter_model.safetensors")
    save_file(
        {name: tensor * float("nan") for name, tensor in tensors.items()}, tuned / "adapter_model.safetensors"
    )
    assert "tuned: the loss of row 1 is not a number" in refused(evaluate(tuned), tmp_path)
