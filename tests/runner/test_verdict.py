"""Each verdict from tensors alone, and what is no model at all."""

from pathlib import Path

import pytest

from runner.contract.tasks import TaskType
from runner.safetensors import SafetensorsError
from runner.verdict import NoModelError, Trained, Verdict, decide_verdict
from runner.weights import WeightsError
from tests.runner.judged import NOISED, TRAINED, broken, cut
from tests.runner.tensors import BASE, write_model


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_model(tmp_path / "base", BASE)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


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
    assert detail.startswith("'\\x1b[2Jxxx")
    assert detail.endswith("is missing in the base model")
    assert len(detail) < 500


def test_what_was_left_in_the_sandbox_is_told_beside_no_model(out: Path, base: Path) -> None:
    out.mkdir()
    left = {"t/r/pytorch_model.bin": "pickle", "t/r/a": "symlink"}
    with pytest.raises(
        NoModelError, match=r"left in the sandbox: t/r/a \(symlink\), t/r/pytorch_model\.bin \(pickle\)$"
    ):
        decide_verdict(out, base, left_out=left)
    with pytest.raises(NoModelError, match=r"is missing; looked for .*; left in the sandbox: t/r/a"):
        decide_verdict(out / "none", base, left_out=left)


# --- what the champion says itself


def test_an_image_task_wants_a_lora_file(out: Path, base: Path) -> None:
    out.mkdir()
    with pytest.raises(NoModelError, match=r"looked for a LoRA file, \.safetensors, found nothing"):
        decide_verdict(out, base, task=TaskType.IMAGE)


def test_a_log_without_failures_leaves_a_trained_model_verified(
    tmp_path: Path, out: Path, base: Path
) -> None:
    (tmp_path / "log").write_text("{'loss': 1.25}\n")
    (write_model(out, TRAINED) / "loss.txt").write_text("500,1.25")
    report = decide_verdict(out, base, log=tmp_path / "log", wants_loss_file=True)
    assert (report.verdict, report.trained, report.doubts) == (Verdict.TRAINED, Trained.VERIFIED, ())
    assert [(r.rule, r.holds, r.detail) for r in report.rules[:2]] == [
        ("loss-file", True, "loss.txt tells of step 500 with a loss of 1.25"),
        ("log-readable", True, "the log tells of no failure"),
    ]


def test_a_marker_does_not_make_a_good_model_bad_but_unverified(
    tmp_path: Path, out: Path, base: Path
) -> None:
    (tmp_path / "log").write_text("Training failed for task 7\n")
    report = decide_verdict(write_model(out, TRAINED), base, log=tmp_path / "log")
    assert (report.verdict, report.trained) == (Verdict.TRAINED, Trained.UNVERIFIED)
    assert all(r.holds for r in report.rules)
    assert report.rules[0].detail == "in 1 line of the log, first 'Training failed for task 7'"
    assert report.doubts == (report.rules[0].detail,)


def test_a_missing_loss_file_is_a_doubt_where_one_is_wanted(out: Path, base: Path) -> None:
    write_model(out, TRAINED)
    assert decide_verdict(out, base).trained is Trained.VERIFIED
    report = decide_verdict(out, base, wants_loss_file=True)
    assert (report.trained, report.doubts) == (
        Trained.UNVERIFIED,
        ("no loss.txt, which this champion writes",),
    )


def test_the_verdict_in_the_words_of_the_contract(out: Path, base: Path) -> None:
    assert decide_verdict(write_model(out, NOISED), base).trained is Trained.NOISE_FALLBACK
    assert decide_verdict(write_model(out, BASE), base).trained is Trained.UNVERIFIED


def test_a_loss_file_that_is_no_file_is_none(out: Path, base: Path) -> None:
    (write_model(out, TRAINED) / "loss.txt").symlink_to("loss.txt")
    assert decide_verdict(out, base).trained is Trained.VERIFIED  # as good as none
    (out / "loss.txt").unlink()
    (out / "loss.txt").mkdir()
    assert decide_verdict(out, base, wants_loss_file=True).doubts == (
        "no loss.txt, which this champion writes",
    )
