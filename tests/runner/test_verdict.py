"""Each verdict from tensors alone, and each way in which a folder is no model."""

import json
import math
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from runner.safetensors import SafetensorsError
from runner.verdict import NoModelError, Verdict, VerdictReport, decide_verdict
from runner.weights import WeightsError
from tests.runner.tensors import (
    ADAPTER,
    BASE,
    CONFIG,
    PREFIX,
    encode_file,
    encode_raw,
    ramp,
    write_adapter,
    write_model,
    write_sharded,
)

EMBED, Q, V = BASE
NOISED = {**BASE, EMBED: ("F32", [6, 4], ramp(24, 1.01))}
TRAINED = {**BASE, Q: ("F32", [4, 4], ramp(16, 1.5))}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_model(tmp_path / "base", BASE)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def broken(report: VerdictReport) -> tuple[str, str]:
    assert [r.holds for r in report.rules] == [True] * (len(report.rules) - 1) + [False]
    return report.rules[-1].rule, report.rules[-1].detail


def test_changed_weights_are_trained(out: Path, base: Path) -> None:
    report = decide_verdict(write_model(out, TRAINED), base)
    assert report.verdict is Verdict.TRAINED
    assert [r.rule for r in report.rules] == [
        "files-whole",
        "architecture-equals-base",
        "tensors-match-base",
        "values-finite",
        "weights-changed",
        "more-than-embeddings-changed",
    ]
    assert all(r.holds for r in report.rules)


def test_identical_weights_are_unchanged(out: Path, base: Path) -> None:
    report = decide_verdict(write_model(out, BASE), base)
    assert report.verdict is Verdict.UNCHANGED
    assert broken(report) == ("weights-changed", "all 3 tensors equal the base model's")


def test_identical_weights_in_another_type_are_unchanged(out: Path, base: Path) -> None:
    narrow = {name: ("BF16", shape, values) for name, (_, shape, values) in BASE.items()}
    assert decide_verdict(write_model(out, narrow), base).verdict is Verdict.UNCHANGED


def test_noise_on_embeddings_is_the_fallback(out: Path, base: Path) -> None:
    report = decide_verdict(write_model(out, NOISED), base)
    assert report.verdict is Verdict.NOISE_FALLBACK
    assert "nothing but model.embed_tokens.weight differs" in broken(report)[1]


def test_noise_on_embeddings_and_tied_head_is_the_fallback(out: Path, base: Path) -> None:
    tied = {**NOISED, "lm_head.weight": NOISED[EMBED]}
    assert decide_verdict(write_model(out, tied), base).verdict is Verdict.NOISE_FALLBACK


def test_noise_on_a_head_that_both_models_save_tied_is_the_fallback(tmp_path: Path, out: Path) -> None:
    base = write_model(tmp_path / "base", {**BASE, "lm_head.weight": BASE[EMBED]})
    tied = {**NOISED, "lm_head.weight": NOISED[EMBED]}
    assert decide_verdict(write_model(out, tied), base).verdict is Verdict.NOISE_FALLBACK


def test_noise_beside_an_untouched_head_is_the_fallback(tmp_path: Path, out: Path) -> None:
    head = {"lm_head.weight": ("F32", [6, 4], ramp(24, 3.0))}
    base = write_model(tmp_path / "base", {**BASE, **head})
    assert decide_verdict(write_model(out, {**NOISED, **head}), base).verdict is Verdict.NOISE_FALLBACK


def test_a_trained_head_of_its_own_counts_as_training(tmp_path: Path, out: Path) -> None:
    base = write_model(tmp_path / "base", {**BASE, "lm_head.weight": ("F32", [6, 4], ramp(24, 3.0))})
    trained = {**NOISED, "lm_head.weight": ("F32", [6, 4], ramp(24, 4.0))}
    assert decide_verdict(write_model(out, trained), base).verdict is Verdict.TRAINED


def test_a_tied_head_may_be_left_out(tmp_path: Path, out: Path) -> None:
    base = write_model(tmp_path / "base", {**BASE, "lm_head.weight": BASE[EMBED]})
    assert decide_verdict(write_model(out, TRAINED), base).verdict is Verdict.TRAINED


def test_wrapper_prefixes_and_saved_buffers_do_not_matter(out: Path, base: Path) -> None:
    renamed = {f"module._orig_mod.{name}": value for name, value in TRAINED.items()}
    renamed["model.layers.0.rotary_emb.inv_freq"] = ("F32", [2], ramp(2))
    assert decide_verdict(write_model(out, renamed), base).verdict is Verdict.TRAINED


@pytest.mark.parametrize("rows", [5, 7])
def test_another_number_of_token_rows_is_legal_if_the_configuration_tells_it(
    tmp_path: Path, out: Path, rows: int
) -> None:
    base = write_model(tmp_path / "base", BASE, {**CONFIG, "vocab_size": 6})
    resized = {**TRAINED, EMBED: ("F32", [rows, 4], ramp(4 * rows))}
    told = {**CONFIG, "vocab_size": rows}
    assert decide_verdict(write_model(out, resized, told), base).verdict is Verdict.TRAINED


HEAD = "lm_head.weight"


@pytest.mark.parametrize(
    ("embed_rows", "head_rows", "vocab_size", "message"),
    [
        (7, 7, 6, f"{HEAD} has shape [7, 4], the base model's [6, 4]"),
        (6, 6, 7, f"vocab_size is 7, but {HEAD} has 6 rows"),
        (7, 6, 7, f"vocab_size is 7, but {HEAD} has 6 rows"),
        (6, 7, 7, f"vocab_size is 7, but {EMBED} has 6 rows"),
    ],
)
def test_token_rows_that_contradict_each_other_are_partial(
    tmp_path: Path, out: Path, embed_rows: int, head_rows: int, vocab_size: int, message: str
) -> None:
    both = {**BASE, HEAD: ("F32", [6, 4], ramp(24, 3.0))}
    base = write_model(tmp_path / "base", both, {**CONFIG, "vocab_size": 6})
    resized = {
        **TRAINED,
        EMBED: ("F32", [embed_rows, 4], ramp(4 * embed_rows)),
        HEAD: ("F32", [head_rows, 4], ramp(4 * head_rows, 3.0)),
    }
    report = decide_verdict(write_model(out, resized, {**CONFIG, "vocab_size": vocab_size}), base)
    assert report.verdict is Verdict.PARTIAL
    assert message in broken(report)[1]


def test_a_head_of_its_own_in_a_model_that_ties_it_is_partial(tmp_path: Path, out: Path) -> None:
    config = {**CONFIG, "tie_word_embeddings": True}
    base = write_model(tmp_path / "base", {**BASE, HEAD: BASE[EMBED]}, config)
    untied = {**TRAINED, HEAD: ("F32", [6, 4], ramp(24, 9.0))}
    report = decide_verdict(write_model(out, untied, config), base)
    assert broken(report) == (
        "tensors-match-base",
        "lm_head.weight differs from the input embeddings, with which the configuration ties it",
    )


def test_a_head_left_out_of_a_model_that_does_not_tie_it_is_partial(tmp_path: Path, out: Path) -> None:
    config = {**CONFIG, "tie_word_embeddings": False}
    base = write_model(tmp_path / "base", {**BASE, HEAD: BASE[EMBED]}, config)
    report = decide_verdict(write_model(out, TRAINED, config), base)
    assert broken(report)[1] == "lm_head.weight is missing in the output"


def test_many_heads_are_refused_by_name_without_comparing_them(out: Path, base: Path) -> None:
    many = {f"x{i}.lm_head.weight": BASE[EMBED] for i in range(3)}
    assert "x0.lm_head.weight is missing" in broken(decide_verdict(write_model(out, TRAINED | many), base))[1]


def test_a_saved_constant_alone_is_no_training(tmp_path: Path, out: Path) -> None:
    name = "model.layers.0.rotary_emb.inv_freq"
    base = write_model(tmp_path / "base", {**BASE, name: ("F32", [2], ramp(2))})
    report = decide_verdict(write_model(out, {**BASE, name: ("F32", [2], ramp(2, 5.0))}), base)
    assert report.verdict is Verdict.UNCHANGED


@pytest.mark.parametrize("dtype", ["C64", "I64", "U8", "F8_E4M3"])
def test_floats_kept_in_another_kind_of_type_are_partial(out: Path, base: Path, dtype: str) -> None:
    width = {"C64": 8, "I64": 8, "U8": 1, "F8_E4M3": 1}[dtype]
    write_model(out, {name: BASE[name] for name in (EMBED, V)})
    data = (out / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, values = json.loads(data[8 : 8 + length]), data[8 + length :]
    odd = {"dtype": dtype, "shape": [4, 4], "data_offsets": [len(values), len(values) + 16 * width]}
    (out / "model.safetensors").write_bytes(encode_raw({**header, Q: odd}, values + bytes(16 * width)))
    report = decide_verdict(out, base)
    assert report.verdict is Verdict.PARTIAL
    assert broken(report) == ("tensors-match-base", f"{Q} is of type {dtype}, the base model's F32")


def test_shards_are_read_through_their_index(tmp_path: Path, out: Path) -> None:
    base = write_sharded(tmp_path / "base", {"a.safetensors": {EMBED: BASE[EMBED]}, "b.safetensors": {
        Q: BASE[Q], V: BASE[V]}})  # fmt: skip
    shards = {"x.safetensors": {Q: TRAINED[Q]}, "y.safetensors": {EMBED: BASE[EMBED], V: BASE[V]}}
    assert decide_verdict(write_sharded(out, shards), base).verdict is Verdict.TRAINED


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def test_a_cut_file_is_partial(out: Path, base: Path) -> None:
    cut(write_model(out, TRAINED) / "model.safetensors")
    report = decide_verdict(out, base)
    assert report.verdict is Verdict.PARTIAL
    assert broken(report)[1].startswith("model.safetensors: partial copy")


def test_a_cut_file_beside_the_model_is_partial(out: Path, base: Path) -> None:
    write_model(out, TRAINED)
    (out / "last.safetensors").write_bytes((out / "model.safetensors").read_bytes()[:-5])
    report = decide_verdict(out, base)
    assert report.verdict is Verdict.PARTIAL
    assert broken(report)[1] == "last.safetensors lies beside the weights that are judged"


@pytest.mark.parametrize("name", ["other.safetensors", "Z.SafeTensors", "adapter_model.safetensors"])
def test_whole_weights_beside_the_model_are_partial(out: Path, base: Path, name: str) -> None:
    write_model(out, TRAINED)
    (out / name).write_bytes(encode_file(BASE))
    report = decide_verdict(out, base)
    assert report.verdict is Verdict.PARTIAL
    assert broken(report) == ("files-whole", f"{name} lies beside the weights that are judged")


def test_full_weights_beside_an_adapter_are_partial(out: Path, base: Path) -> None:
    write_model(out, TRAINED)
    report = decide_verdict(write_adapter(out), base)
    assert broken(report)[1] == "model.safetensors lies beside the weights that are judged"


def test_a_folder_with_the_name_of_weights_is_partial(out: Path, base: Path) -> None:
    (write_model(out, TRAINED) / "z.safetensors").mkdir()
    report = decide_verdict(out, base)
    assert report.verdict is Verdict.PARTIAL
    assert broken(report) == ("files-whole", "z.safetensors lies beside the weights that are judged")


@pytest.mark.parametrize(
    "shard",
    [
        "b" * 5000 + ".safetensors",
        "b" * 250 + ".safetensors",
        "\u00e4" * 120 + ".safetensors",
        "a\0b.safetensors",
        "\ud800.safetensors",
        "a b.safetensors",
        "-a.safetensors",
        "..safetensors",
        "a\n.safetensors",
        "a.safetensors\n",
    ],
)
def test_a_shard_name_that_is_not_plain_is_partial(out: Path, base: Path, shard: str) -> None:
    out.mkdir()
    (out / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {Q: shard}}))
    report = decide_verdict(out, base)
    assert report.verdict is Verdict.PARTIAL
    assert broken(report)[0] == "files-whole"
    assert "unusable shard name" in broken(report)[1]


def test_a_shard_that_is_a_folder_is_partial(out: Path, base: Path) -> None:
    write_sharded(out, {"x.safetensors": {Q: TRAINED[Q]}, "y.safetensors": {EMBED: BASE[EMBED], V: BASE[V]}})
    (out / "y.safetensors").unlink()
    (out / "y.safetensors").mkdir()
    assert broken(decide_verdict(out, base))[1].endswith("names y.safetensors, which is missing")


def test_a_file_that_cannot_be_opened_is_partial(out: Path, base: Path) -> None:
    # /proc/self/mem is a file whose first byte cannot be read: EIO is ours to propagate, so not that. A file
    # in a cycle of links is the guest's doing.
    write_sharded(out, {"x.safetensors": BASE})
    (out / "x.safetensors").unlink()
    (out / "x.safetensors").symlink_to("x.safetensors")
    report = decide_verdict(out, base)
    assert report.verdict is Verdict.PARTIAL
    assert "x.safetensors" in broken(report)[1]


@pytest.mark.parametrize("name", ["config.json", "adapter_config.json"])
@pytest.mark.parametrize("depth", [100, 900, 980, 100_000])
def test_a_deep_configuration_is_partial(out: Path, base: Path, name: str, depth: int) -> None:
    write_adapter(out) if name.startswith("adapter") else write_model(out, TRAINED)
    (out / name).write_text('{"architectures": ' + "[" * depth + "]" * depth + "}")
    report = decide_verdict(out, base)
    assert report.verdict is Verdict.PARTIAL
    assert name in broken(report)[1]


def test_a_header_is_parsed_once_per_verdict(out: Path, base: Path) -> None:
    write_model(out, TRAINED)
    parsed: list[Path] = []

    def watch(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and frame.f_code.co_name == "read_header":
            parsed.append(frame.f_locals["path"])

    sys.setprofile(watch)
    try:
        decide_verdict(out, base)
    finally:
        sys.setprofile(None)
    assert sorted(parsed) == [base / "model.safetensors", out / "model.safetensors"]


def test_headers_too_large_together_are_partial(out: Path, base: Path) -> None:
    out.mkdir()
    shards = {f"x{i}.safetensors": f"t{i}" for i in range(5)}
    for file, name in shards.items():
        entry = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
        header = {"__metadata__": {"a": "x" * (7 << 20)}, name: entry}
        (out / file).write_bytes(encode_raw(header, b""))
    index = {"weight_map": {name: file for file, name in shards.items()}}
    (out / "model.safetensors.index.json").write_text(json.dumps(index))
    report = decide_verdict(out, base)
    assert report.verdict is Verdict.PARTIAL
    assert "x4.safetensors: headers of more than 33554432 bytes in one model" in broken(report)[1]


def test_a_missing_shard_is_partial(out: Path, base: Path) -> None:
    write_sharded(out, {"x.safetensors": {Q: TRAINED[Q]}, "y.safetensors": {EMBED: BASE[EMBED], V: BASE[V]}})
    (out / "y.safetensors").unlink()
    assert broken(decide_verdict(out, base)) == (
        "files-whole",
        "model.safetensors.index.json names y.safetensors, which is missing",
    )


def test_an_index_that_disagrees_with_its_shard_is_partial(out: Path, base: Path) -> None:
    write_sharded(out, {"x.safetensors": BASE})
    index = out / "model.safetensors.index.json"
    index.write_text(index.read_text().replace("q_proj", "k_proj"))
    assert "disagree on model.layers.0.k_proj.weight" in broken(decide_verdict(out, base))[1]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{}", "no weight_map"),
        ('{"weight_map": {"a": "../x.safetensors"}}', "unusable shard name"),
        ("{", "is not JSON"),
        ("[]", "is not an object"),
    ],
)
def test_an_unusable_index_is_partial(out: Path, base: Path, index: str, message: str) -> None:
    out.mkdir()
    (out / "model.safetensors.index.json").write_text(index)
    report = decide_verdict(out, base)
    assert report.verdict is Verdict.PARTIAL
    assert message in broken(report)[1]


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


def test_the_details_do_not_claim_more_than_a_difference(out: Path, base: Path) -> None:
    last = decide_verdict(write_model(out, TRAINED), base).rules[-1]
    assert last.detail == f"{Q} differs from the base model, beyond its embeddings"


def test_a_missing_configuration_is_partial(out: Path, base: Path) -> None:
    (write_model(out, TRAINED) / "config.json").unlink()
    assert broken(decide_verdict(out, base)) == ("architecture-equals-base", "config.json is missing")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({EMBED: BASE[EMBED], Q: TRAINED[Q]}, f"{V} is missing in the output"),
        ({**TRAINED, "extra.weight": ("F32", [1], [1.0])}, "extra.weight is missing in the base model"),
        ({**TRAINED, Q: ("F32", [2, 8], ramp(16))}, f"{Q} has shape [2, 8], the base model's [4, 4]"),
        ({**TRAINED, EMBED: ("F32", [8, 3], ramp(24))}, f"{EMBED} has shape [8, 3]"),
        (
            {**TRAINED, "lm_head.weight": ("F32", [6, 4], ramp(24, 9.0))},
            "lm_head.weight is missing in the base",
        ),
    ],
)
def test_other_tensors_than_the_base_are_partial(out: Path, base: Path, tensors: Any, message: str) -> None:
    report = decide_verdict(write_model(out, tensors), base)
    assert report.verdict is Verdict.PARTIAL
    assert message in broken(report)[1]


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_values_that_are_no_numbers_are_partial(out: Path, base: Path, wrong: float) -> None:
    report = decide_verdict(write_model(out, {**TRAINED, V: ("F32", [2, 4], [*ramp(7), wrong])}), base)
    assert report.verdict is Verdict.PARTIAL
    assert broken(report) == ("values-finite", f"{V} holds NaN or infinity")


# --- adapters


def test_an_adapter_that_changes_something_is_trained(out: Path, base: Path) -> None:
    report = decide_verdict(write_adapter(out), base)
    assert report.verdict is Verdict.TRAINED
    assert [r.rule for r in report.rules] == [
        "files-whole",
        "adapter-fits-base",
        "values-finite",
        "adapter-changes-model",
    ]


def test_an_adapter_with_every_lora_b_zero_is_unchanged(out: Path, base: Path) -> None:
    zero = {**ADAPTER, f"{PREFIX}.lora_B.weight": ("F32", [4, 2], [-0.0] * 8)}
    report = decide_verdict(write_adapter(out, zero), base)
    assert report.verdict is Verdict.UNCHANGED
    assert "every lora_B is zero" in broken(report)[1]


def test_an_adapter_without_scale_is_unchanged(out: Path, base: Path) -> None:
    report = decide_verdict(write_adapter(out, lora_alpha=0), base)
    assert report.verdict is Verdict.UNCHANGED
    assert broken(report) == (
        "adapter-changes-model",
        "all 1 LoRA products are zero (every lora_B is zero, or its lora_A or scale, or they share no rank)",
    )


@pytest.mark.parametrize(
    ("config", "verdict"),
    [
        ({"alpha_pattern": {"q_proj": 0}}, Verdict.UNCHANGED),
        ({"alpha_pattern": {"layers.0.q_proj": 0.0}}, Verdict.UNCHANGED),
        ({"alpha_pattern": {"^model.layers.0.q_proj": 0}}, Verdict.UNCHANGED),
        ({"alpha_pattern": {"v_proj": 0}}, Verdict.TRAINED),
        ({"alpha_pattern": {"proj": 0}}, Verdict.TRAINED),
        ({"lora_alpha": 0, "alpha_pattern": {"q_proj": 4}}, Verdict.TRAINED),
        ({"lora_alpha": 0, "alpha_pattern": {"v_proj": 4}}, Verdict.UNCHANGED),
        ({"lora_alpha": 0.0, "use_rslora": True}, Verdict.UNCHANGED),
        ({"r": 64, "rank_pattern": {"q_proj": 2}}, Verdict.TRAINED),
    ],
)
def test_the_scale_is_that_of_each_module(
    out: Path, base: Path, config: dict[str, Any], verdict: Verdict
) -> None:
    assert decide_verdict(write_adapter(out, **config), base).verdict is verdict


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
def test_factors_that_never_meet_make_a_product_of_zero(out: Path, base: Path, dtype: str) -> None:
    down, up = f"{PREFIX}.lora_A.weight", f"{PREFIX}.lora_B.weight"
    silent = {
        down: (dtype, [2, 4], [1.0, 0, 0, 0.5, 0, 0, -0.0, 0]),
        up: (dtype, [4, 2], [0, 1.0, -0.0, 2.0, 0, 0.0, 0, 0]),
    }
    assert decide_verdict(write_adapter(out, silent), base).verdict is Verdict.UNCHANGED
    heard = {**silent, up: (dtype, [4, 2], [0, 1.0, 0, 2.0, 0, 0.0, 0.25, 0])}
    assert decide_verdict(write_adapter(out, heard), base).verdict is Verdict.TRAINED


def test_embedding_adapters_start_from_a_zero_lora_a(out: Path, base: Path) -> None:
    name = "base_model.model.model.embed_tokens.lora_embedding"
    fresh = {f"{name}_A": ("F32", [2, 6], [0.0] * 12), f"{name}_B": ("F32", [4, 2], ramp(8))}
    assert decide_verdict(write_adapter(out, fresh), base).verdict is Verdict.UNCHANGED
    used = {**fresh, f"{name}_A": ("F32", [2, 6], ramp(12))}
    assert decide_verdict(write_adapter(out, used), base).verdict is Verdict.TRAINED


def test_a_saved_module_counts_only_if_it_differs(out: Path, base: Path) -> None:
    zero = {**ADAPTER, f"{PREFIX}.lora_B.weight": ("F32", [4, 2], [0.0] * 8)}
    same = {**zero, f"base_model.model.{V}": BASE[V]}
    assert decide_verdict(write_adapter(out, same), base).verdict is Verdict.UNCHANGED
    other = {**zero, f"base_model.model.{V}": ("F32", [2, 4], ramp(8, 7.0))}
    assert decide_verdict(write_adapter(out, other), base).verdict is Verdict.TRAINED


def test_weights_kept_the_other_way_round_fit(out: Path, base: Path) -> None:
    name = "base_model.model.model.layers.0.v_proj"  # [2, 4] in the base model: 2 in, 4 out, as GPT-2 has it
    pair = {
        f"{name}.lora_A.weight": ("F32", [2, 2], ramp(4)),
        f"{name}.lora_B.weight": ("F32", [4, 2], ramp(8)),
    }
    assert decide_verdict(write_adapter(out, pair), base).verdict is Verdict.TRAINED


def test_an_adapted_embedding_may_bring_its_own_weights_along(out: Path, base: Path) -> None:
    brought = {**ADAPTER, "base_model.model.model.embed_tokens.base_layer.weight": BASE[EMBED]}
    assert decide_verdict(write_adapter(out, brought), base).verdict is Verdict.TRAINED


def test_an_adapter_finds_modules_whose_leading_name_the_base_leaves_out(tmp_path: Path, out: Path) -> None:
    base = write_model(tmp_path / "short", {name.removeprefix("model."): v for name, v in BASE.items()})
    assert decide_verdict(write_adapter(out), base).verdict is Verdict.TRAINED


@pytest.mark.parametrize(
    ("tensors", "config", "message"),
    [
        (ADAPTER, {"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({f"{PREFIX}.lora_A.weight": ("F32", [2, 4], ramp(8))}, {}, "has no lora_B"),
        ({f"{PREFIX}.lora_B.weight": ("F32", [4, 2], ramp(8))}, {}, "has no lora_A"),
        (
            {
                f"{PREFIX}.lora_A.weight": ("F32", [2, 8], ramp(16)),
                f"{PREFIX}.lora_B.weight": ADAPTER[f"{PREFIX}.lora_B.weight"],
            },
            {},
            "do not fit the base model's [4, 4]",
        ),
        (
            {
                f"{PREFIX}.lora_A.weight": ("F32", [2, 4], ramp(8)),
                f"{PREFIX}.lora_B.weight": ("F32", [8, 1], ramp(8)),
            },
            {},
            "do not fit",
        ),
        (
            {name.replace("q_proj", "z_proj"): v for name, v in ADAPTER.items()},
            {},
            "no module of the base model",
        ),
        (
            {**ADAPTER, "base_model.model.stray.weight": ("F32", [1], [1.0])},
            {},
            "has no place in the base model",
        ),
        (ADAPTER, {"r": 4}, "rank 2, the configuration says 4"),
        (ADAPTER, {"rank_pattern": {"q_proj": 1}}, "rank 2, the configuration says 1"),
        (ADAPTER, {"lora_alpha": "4"}, "lora_alpha is '4'"),
        (ADAPTER, {"lora_alpha": True}, "lora_alpha is True"),
        (ADAPTER, {"lora_alpha": math.nan}, "lora_alpha is nan"),
        (ADAPTER, {"lora_alpha": math.inf}, "lora_alpha is inf"),
        (ADAPTER, {"lora_alpha": 10**400}, "lora_alpha is"),
        (ADAPTER, {"alpha_pattern": {"(a+)+": 1}}, "alpha_pattern: '(a+)+' is no plain module name"),
        (ADAPTER, {"alpha_pattern": {"q_proj": None}}, "alpha_pattern is {'q_proj': None}"),
        (ADAPTER, {"rank_pattern": [1]}, "rank_pattern is [1]"),
        (ADAPTER, {"layer_replication": [[0, 1]]}, "layer_replication is [[0, 1]]"),
        (ADAPTER, {"brand_new": 1}, "brand_new is 1, which is not judged"),
        (ADAPTER, {"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa'"),
        (ADAPTER, {"task_type": "SEQ_CLS"}, "task_type is 'SEQ_CLS'"),
        (
            {name: ("I64", shape, [1] * 8) for name, (_, shape, _) in ADAPTER.items()},
            {},
            "lora_A.weight is of type I64",
        ),
        (
            {**ADAPTER, **{"a." + name.removeprefix("base_model.model."): v for name, v in ADAPTER.items()}},
            {},
            "adapts a module twice",
        ),
        (
            {"a" * 2000 + name.removeprefix("base_model.model"): v for name, v in ADAPTER.items()},
            {},
            "name of 2",
        ),
    ],
)
def test_an_adapter_that_does_not_fit_is_partial(
    out: Path, base: Path, tensors: Any, config: dict[str, Any], message: str
) -> None:
    report = decide_verdict(write_adapter(out, tensors, **config), base)
    assert report.verdict is Verdict.PARTIAL
    assert report.rules[-1].rule == "adapter-fits-base"
    assert message in broken(report)[1]


def test_a_cut_adapter_is_partial(out: Path, base: Path) -> None:
    cut(write_adapter(out) / "adapter_model.safetensors")
    assert "partial copy" in broken(decide_verdict(out, base))[1]


def test_an_adapter_configuration_beside_full_weights_needs_its_adapter(out: Path, base: Path) -> None:
    write_model(out, TRAINED)
    (out / "adapter_config.json").write_text("{}")
    assert broken(decide_verdict(out, base))[1] == "adapter_config.json without adapter_model.safetensors"


# --- no model at all


def test_a_missing_folder_is_no_model(out: Path, base: Path) -> None:
    with pytest.raises(NoModelError, match="wrote no model: its output folder is missing; looked for"):
        decide_verdict(out, base)


def test_other_files_are_no_model(out: Path, base: Path) -> None:
    out.mkdir()
    (out / "loss.txt").write_text("1,no_eval")
    with pytest.raises(NoModelError, match=r"found loss\.txt$"):
        decide_verdict(out, base)


def test_an_empty_folder_is_no_model(out: Path, base: Path) -> None:
    out.mkdir()
    with pytest.raises(NoModelError, match="found nothing"):
        decide_verdict(out, base)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "model.pkl", "model.ckpt"])
def test_pickles_alone_are_no_model(out: Path, base: Path, name: str) -> None:
    out.mkdir()
    (out / name).write_bytes(b"\x80\x04")
    with pytest.raises(NoModelError, match=f"{name}: pickles are never loaded"):
        decide_verdict(out, base)


def test_a_broken_base_model_is_not_blamed_on_the_champion(out: Path, base: Path) -> None:
    write_model(out, TRAINED)
    cut(base / "model.safetensors")
    with pytest.raises(SafetensorsError, match="partial copy"):
        decide_verdict(out, base)
    (base / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="base: neither"):
        decide_verdict(out, base)


def test_hostile_tensor_names_are_told_harmlessly(out: Path, base: Path) -> None:
    hostile = {**TRAINED, "\x1b[2J" + "x" * 10_000: ("F32", [1], [1.0])}
    detail = broken(decide_verdict(write_model(out, hostile), base))[1]
    assert detail.isprintable()
    assert len(detail) == 500
