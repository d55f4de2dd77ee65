"""What a configuration may say otherwise than its base model's, and what not."""

import json
from pathlib import Path
from typing import Any

import pytest

from runner.verdict import Verdict, decide_verdict
from tests.runner.judged import TRAINED, broken
from tests.runner.tensors import BASE, CONFIG, write_adapter, write_model


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_model(tmp_path / "base", BASE)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"architectures": ["OtherForCausalLM"]},
            "architectures is ['OtherForCausalLM'], the base model has",
        ),
        ({"architectures": None}, "architectures is None"),
        ({"model_type": "other"}, "model_type is 'other'"),
        ({"hidden_size": 8}, "hidden_size is 8, the base model has 4"),
        ({"max_position_embeddings": 32}, "max_position_embeddings is 32, the base model has 64"),
        ({"max_position_embeddings": True}, "max_position_embeddings is True, the base model has 64"),
        ({"max_position_embeddings": None}, "max_position_embeddings is None, the base model has 64"),
        ({"vocab_size": "6"}, "vocab_size is '6', the base model has nothing"),
        ({"is_causal": False}, "is_causal is False, the base model has nothing"),
        ({"is_causal": None}, "is_causal is None, the base model has nothing"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
        ({"transformers_weights": "other.safetensors"}, "transformers_weights is 'other.safetensors'"),
        ({"auto_map": {"AutoConfig": "mine.C"}}, "auto_map is {'AutoConfig': 'mine.C'}"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is {'bits': 4}"),
        ({"attn_implementation": "mine"}, "attn_implementation is 'mine'"),
        ({"_attn_implementation": "mine"}, "_attn_implementation is 'mine'"),
        ({"rope_theta": 5.0}, "rope_parameters is {'rope_theta': 5.0, 'rope_type': 'default'}"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_parameters is"),
        ({"rope_theta": 1e4, "rope_parameters": {"rope_theta": 5.0}}, "rope_parameters is"),
        ({"attention_bias": True}, "attention_bias is True, the base model has False"),
        ({"layer_types": ["sliding_attention"]}, "layer_types is ['sliding_attention']"),
    ],
)
def test_another_architecture_is_partial(out: Path, base: Path, change: dict[str, Any], message: str) -> None:
    report = decide_verdict(write_model(out, TRAINED, {**CONFIG, **change}), base)
    assert report.verdict is Verdict.PARTIAL
    assert message in broken(report)[1]


def test_settings_that_change_nothing_may_differ(out: Path, base: Path) -> None:
    config = {**CONFIG, "max_position_embeddings": 128, "use_cache": False, "torch_dtype": "bfloat16"}
    config |= {
        "transformers_version": "9",
        "_name_or_path": "x",
        "eos_token_id": [1, 2],
        "pad_token_id": None,
    }
    assert decide_verdict(write_model(out, TRAINED, config), base).verdict is Verdict.TRAINED


# What transformers 5.23 makes of configurations as model hubs keep them, which older versions wrote.
LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4, "num_attention_heads": 2,
    "num_hidden_layers": 2, "max_position_embeddings": 64, "pretraining_tp": 1, "rope_scaling": None,
    "tie_word_embeddings": False, "torch_dtype": "float32", "transformers_version": "4.31.0",
}  # fmt: skip


QWEN = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 4, "num_attention_heads": 2,
    "num_hidden_layers": 2, "max_position_embeddings": 64, "max_window_layers": 1, "rope_theta": 1e6,
    "sliding_window": 32768, "use_sliding_window": False, "torch_dtype": "bfloat16",
}  # fmt: skip


GEMMA = {
    "architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "hidden_size": 4, "num_hidden_layers": 3,
    "num_attention_heads": 2, "head_dim": 8, "rope_theta": 1e4, "sliding_window": 4096,
}  # fmt: skip


SCALED = {"factor": 32.0, "rope_type": "llama3"}


@pytest.mark.parametrize(
    ("older", "dropped", "added"),
    [
        (
            LLAMA,
            {"rope_scaling", "torch_dtype"},
            {
                "attention_bias": False, "attention_dropout": 0.0, "dtype": "float32", "head_dim": 2,
                "mlp_bias": False, "pad_token_id": None,
                "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
            },
        ),
        (
            {**LLAMA, "rope_theta": 5e5, "rope_scaling": SCALED},
            {"rope_scaling", "rope_theta"},
            {"rope_parameters": {**SCALED, "rope_theta": 5e5}},
        ),
        (
            QWEN,
            {"rope_theta", "torch_dtype"},
            {
                "dtype": "bfloat16", "layer_types": ["full_attention"] * 2, "sliding_window": None,
                "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"},
            },
        ),
        (
            GEMMA,
            {"rope_theta"},
            {
                "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
                "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
                "tie_word_embeddings": True, "use_bidirectional_attention": None,
            },
        ),
    ],
)  # fmt: skip
def test_the_same_settings_as_a_newer_library_writes_them_are_equal(
    tmp_path: Path, out: Path, older: dict[str, Any], dropped: set[str], added: dict[str, Any]
) -> None:
    newer = {key: value for key, value in older.items() if key not in dropped} | added
    base = write_model(tmp_path / "base", BASE, older)
    assert decide_verdict(write_model(out, TRAINED, newer), base).verdict is Verdict.TRAINED
    other = write_model(tmp_path / "other", BASE, newer)
    assert decide_verdict(write_model(out, TRAINED, older), other).verdict is Verdict.TRAINED


def test_a_setting_left_out_is_partial(out: Path, base: Path) -> None:
    config = {key: value for key, value in CONFIG.items() if key != "hidden_size"}
    report = decide_verdict(write_model(out, TRAINED, config), base)
    assert broken(report) == (
        "architecture-equals-base",
        "config.json: hidden_size is nothing, the base model has 4",
    )


def test_a_missing_configuration_is_partial(out: Path, base: Path) -> None:
    (write_model(out, TRAINED) / "config.json").unlink()
    assert broken(decide_verdict(out, base)) == ("architecture-equals-base", "config.json is missing")


@pytest.mark.parametrize("name", ["config.json", "adapter_config.json"])
@pytest.mark.parametrize("depth", [100, 900, 980, 100_000])
def test_a_deep_configuration_is_partial(out: Path, base: Path, name: str, depth: int) -> None:
    write_adapter(out) if name.startswith("adapter") else write_model(out, TRAINED)
    (out / name).write_text('{"architectures": ' + "[" * depth + "]" * depth + "}")
    report = decide_verdict(out, base)
    assert report.verdict is Verdict.PARTIAL
    assert name in broken(report)[1]


def test_a_setting_that_stands_twice_is_partial(out: Path, base: Path) -> None:
    text = json.dumps(CONFIG)
    (write_model(out, TRAINED) / "config.json").write_text(text[:-1] + ', "hidden_size": 4}')
    assert broken(decide_verdict(out, base))[1] == "config.json is not JSON: a key stands twice"
