"""The evaluator: exact losses, fair to base and tuned alike, and a refusal for what cannot be judged."""

import importlib.util
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner import adapter, verdict, weights
from runner.verdict import Verdict, decide_verdict
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
    assert "vocab_size is 1024; the base model has 768, the weights" in refused(evaluate(tuned), tmp_path)


def test_refuses_a_shorter_context(base_model: Path, evaluate: Evaluate, tmp_path: Path) -> None:
    tuned = changed(base_model, tmp_path / "tuned", max_position_embeddings=256)
    assert "max_position_embeddings is smaller" in refused(evaluate(tuned), tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"is_causal": False}, "config.json sets is_causal; the base model does not"),
        ({"is_causal": None}, "config.json sets is_causal; the base model does not"),
        ({"transformers_weights": "other.safetensors"}, "config.json sets transformers_weights"),
        ({"use_bidirectional_attention": True}, "config.json sets use_bidirectional_attention"),
        ({"_attn_implementation": "mine/kernel"}, "config.json sets _attn_implementation"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "config.json sets quantization_config"),
        ({"auto_map": {"AutoModelForCausalLM": "mine.M"}}, "config.json sets auto_map"),
        ({"rope_theta": 5.0}, "rope_theta is 5.0; rope_parameters is {'rope_theta': 10000.0"),
        ({"rms_norm_eps": 0.5}, "rms_norm_eps is 0.5; the base model has 1e-06"),
        ({"hidden_act": "relu"}, "hidden_act is relu; the base model has silu"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False; the base model has True"),
        ({"architectures": ["MistralForCausalLM"]}, "architectures is ['MistralForCausalLM']"),
        (
            {"hidden_size": "wide"},
            "StrictDataclassFieldValidationError: Validation error for field 'hidden_size'",
        ),
    ],
)
def test_refuses_another_configuration_as_the_verdict_does(
    base_model: Path, evaluate: Evaluate, tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    tuned = changed(base_model, tmp_path / "tuned", **fields)
    assert message in refused(evaluate(tuned), tmp_path)
    report = decide_verdict(tuned, base_model)
    assert (report.verdict, report.rules[-1].rule) == (Verdict.PARTIAL, "architecture-equals-base")


def make_qwen(llama: Path, folder: Path) -> Path:
    """A tiny Qwen3 with the tokenizer of `llama`."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    shutil.copytree(llama, folder, ignore=shutil.ignore_patterns("model.safetensors", "config.json"))
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=768, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=512, tie_word_embeddings=False,
        bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder


def fine_tune(base: Path, folder: Path, *, token_rows: int | None = None, **saving: Any) -> Path:
    """What an honest champion of full weights makes of `base` in one step."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, local_files_only=True)
    if token_rows is not None:
        model.resize_token_embeddings(token_rows)
    ids = torch.arange(3, 40).unsqueeze(0)
    model(input_ids=ids, labels=ids).loss.backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    model.save_pretrained(folder, **saving)
    return folder


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
@pytest.mark.parametrize(
    "how", [{}, {"max_shard_size": "500KB"}, {"token_rows": 1024}], ids=["whole", "sharded", "resized"]
)
def test_an_honest_fine_tune_of_full_weights_is_evaluated(
    base_model: Path, evaluate: Evaluate, tmp_path: Path, architecture: str, how: dict[str, Any]
) -> None:
    base = base_model if architecture == "llama" else make_qwen(base_model, tmp_path / "base")
    tuned = fine_tune(base, tmp_path / "tuned", **how)
    assert (tuned / "model.safetensors.index.json").exists() is ("max_shard_size" in how)
    assert decide_verdict(tuned, base).verdict is Verdict.TRAINED
    done = evaluate(tuned, base=base)
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path)["before"] != losses(tmp_path)["after"]


def test_an_honest_fine_tune_of_a_base_that_an_older_library_wrote_is_evaluated(
    base_model: Path, evaluate: Evaluate, tmp_path: Path
) -> None:
    base = make_qwen(base_model, tmp_path / "base")
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    config |= {"rope_theta": config.pop("rope_parameters")["rope_theta"], "torch_dtype": config.pop("dtype")}
    config |= {"rope_scaling": None, "sliding_window": None}
    del config["layer_types"], config["pad_token_id"]
    (base / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tuned = fine_tune(base, tmp_path / "tuned")
    assert "rope_theta" not in json.loads((tuned / "config.json").read_text(encoding="utf-8"))
    assert decide_verdict(tuned, base).verdict is Verdict.TRAINED
    assert evaluate(tuned, base=base).returncode == 0


def test_wrapped_names_are_those_that_the_verdict_judges(
    base_model: Path, evaluate: Evaluate, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    tuned = fine_tune(base_model, tmp_path / "tuned")
    assert evaluate(tuned).returncode == 0
    plain = losses(tmp_path)
    tensors = load_file(tuned / "model.safetensors")
    save_file({f"_orig_mod.module.{name}": t for name, t in tensors.items()}, tuned / "model.safetensors")
    assert decide_verdict(tuned, base_model).verdict is Verdict.TRAINED
    assert evaluate(tuned).returncode == 0
    assert losses(tmp_path) == plain


def edited(folder: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")
    return folder


def add_head(tensors: dict[str, Any]) -> None:
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 1


def drop_norm(tensors: dict[str, Any]) -> None:
    del tensors["model.norm.weight"]


def add_tensor(tensors: dict[str, Any]) -> None:
    tensors["model.extra.weight"] = tensors["model.norm.weight"].clone()


def make_complex(tensors: dict[str, Any]) -> None:
    import torch

    tensors["model.norm.weight"] = tensors["model.norm.weight"].to(torch.complex64)


def reshape(tensors: dict[str, Any]) -> None:
    tensors["model.norm.weight"] = tensors["model.norm.weight"].reshape(2, -1)


def fewer_rows(tensors: dict[str, Any]) -> None:
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][:700].clone()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (add_head, "lm_head.weight differs from the input embeddings"),
        (drop_norm, "model.norm.weight is missing in the tuned weights"),
        (add_tensor, "model.extra.weight is missing in the base model"),
        (make_complex, "model.norm.weight is of type torch.complex64"),
        (reshape, "mismatched_keys: ('model.norm.weight'"),
        (fewer_rows, "mismatched_keys: ('model.embed_tokens.weight'"),
    ],
)
def test_refuses_other_tensors_than_the_base_models(
    base_model: Path,
    evaluate: Evaluate,
    tmp_path: Path,
    edit: Callable[[dict[str, Any]], None],
    message: str,
) -> None:
    tuned = edited(fine_tune(base_model, tmp_path / "tuned"), edit)
    told = refused(evaluate(tuned), tmp_path)
    assert message in told
    assert decide_verdict(tuned, base_model).verdict is Verdict.PARTIAL


def test_refuses_weights_beside_those_that_are_judged(
    base_model: Path, trained: Trained, evaluate: Evaluate, tmp_path: Path
) -> None:
    for tuned in (
        fine_tune(base_model, tmp_path / "full"),
        shutil.copytree(trained.output, tmp_path / "adapter"),
    ):
        shutil.copy(base_model / "model.safetensors", tuned / "other.safetensors")
        assert "other.safetensors lies beside" in refused(evaluate(tuned), tmp_path)
        assert decide_verdict(tuned, base_model).verdict is Verdict.PARTIAL


def test_refuses_fewer_token_rows_than_the_tokenizer_has(
    base_model: Path, evaluate: Evaluate, tmp_path: Path
) -> None:
    tuned = fine_tune(base_model, tmp_path / "tuned", token_rows=100)
    assert "vocab_size is 100; the base model's tokenizer has" in refused(evaluate(tuned), tmp_path)


def test_its_rules_are_those_of_the_verdict() -> None:
    spec = importlib.util.spec_from_file_location("evaluate_instruct", EVALUATOR)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    assert (module.HARMLESS, module.BUFFERS) == (verdict.HARMLESS, verdict.BUFFERS)
    assert (module.EMBEDDINGS, module.HEADS) == (verdict.EMBEDDINGS, verdict.HEADS)
    assert (module.LORA_FIELDS, module.LORA_STARTS) == (adapter.LORA_FIELDS, adapter.LORA_STARTS)
    assert module.HARMLESS_LORA_FIELDS == adapter.HARMLESS_LORA_FIELDS
    assert (module.PATTERN_KEY, module.SHARD) == (adapter.PATTERN_KEY, weights.SHARD)
    assert (module.WRAPPERS, module.MAX_CONFIG_BYTES) == (weights.WRAPPERS, weights.MAX_CONFIG_BYTES)


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
        ({"brand_new": True}, "adapter configuration sets brand_new, which is not evaluated"),
        ({"modules_to_save": ["norm"]}, "adapter configuration sets modules_to_save"),
        ({"init_lora_weights": "pissa"}, "sets task_type or init_lora_weights to what is not evaluated"),
        ({"task_type": "SEQ_CLS"}, "sets task_type or init_lora_weights to what is not evaluated"),
        ({"alpha_pattern": {"(.*)+q_proj": 1}}, "alpha_pattern names '(.*)+q_proj', which is no plain"),
        (
            {"exclude_modules": ["q_proj"]},
            "adapter does not fit the base model: 0 tensors missing, 8 too many",
        ),
        ({"rank_pattern": {"q_proj": 1}}, "size mismatch"),
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
