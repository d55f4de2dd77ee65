"""What of a champion's output is the model, by the tournament's own rules."""

import json
from pathlib import Path

from appliance.finalise import finalise


def test_leaves_pickles_and_trainer_leftovers_behind(tmp_path: Path) -> None:
    output = tmp_path / "output"
    (output / "checkpoint-7").mkdir(parents=True)
    for name in (
        "model.safetensors",
        "config.json",
        "optimizer.pt",
        "training_args.bin",
        "trainer_state.json",
    ):
        (output / name).write_bytes(b"x")
    finalise(output, tmp_path / "model", base_model_name="org/base")
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["config.json", "model.safetensors"]


def test_prefers_a_folder_with_weights(tmp_path: Path) -> None:
    output = tmp_path / "output"
    (output / "final").mkdir(parents=True)
    (output / "final" / "model.safetensors").write_bytes(b"x")
    (output / "notes.txt").write_text("n")
    finalise(output, tmp_path / "model", base_model_name="org/base")
    assert [p.name for p in (tmp_path / "model").iterdir()] == ["model.safetensors"]


def test_adapter_names_its_real_base_model(tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.mkdir()
    (output / "adapter_model.safetensors").write_bytes(b"x")
    (output / "adapter_config.json").write_text(
        '{"base_model_name_or_path": "/cache/models/org--base", "r": 8}'
    )
    finalise(output, tmp_path / "model", base_model_name="org/base")
    config = json.loads((tmp_path / "model" / "adapter_config.json").read_text())
    assert config == {"base_model_name_or_path": "org/base", "r": 8}


def test_broken_adapter_config_is_carried_to_the_verdict(tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.mkdir()
    (output / "adapter_config.json").write_text("{")
    finalise(output, tmp_path / "model", base_model_name="org/base")
    assert (tmp_path / "model" / "adapter_config.json").read_text() == "{"
