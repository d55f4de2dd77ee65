"""The command line, in process: exit codes, what is printed, what is refused."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from attestation.claims import Kind
from attestation.cli import main
from attestation.merkle import consistency_path
from attestation.tlogproof import ConsistencyProof, encode_consistency
from attestation.trust import encode_trust
from attestation.verify import CHECKS

AT = ["--at", "2026-11-21T12:00:00Z"]
Written = Callable[..., Path]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    def write(files: dict[str, bytes], name: str = "evidence") -> Path:
        for file, content in files.items():
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return tmp_path / name

    return write


@pytest.fixture
def evidence(written: Written, valid_pack: dict[str, bytes]) -> Path:
    return written(valid_pack)


@pytest.fixture
def pinned(packs: ModuleType) -> list[str]:
    return ["--trust-sha256", packs.pin(), *AT]


def test_verifies_evidence_and_says_what_was_and_was_not_proved(
    evidence: Path, pinned: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evidence", str(evidence), *pinned]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("VERIFIED  ")
    assert out.count("  ✓ ") == len(CHECKS) - 2 + 9  # two were not asked for; nine facts
    for words in (
        "carol (approver, key",
        "Held-out loss 3.009500 → 2.714250 nats",
        "around training: bubblewrap (bubblewrap 0.8.0), tier 1 of 3, profile champion",
        "around evaluation: bubblewrap",
        "inputs mounted after the first measurement; 0 bytes passed any network interface but lo",
        "NOT proved",
        "Escape: bubblewrap is tier 1 of 3",
        "no witness",
    ):
        assert words in out
    assert err == ""


def test_verifies_with_a_trust_folder_of_ones_own(
    evidence: Path, written: Written, packs: ModuleType
) -> None:
    trust = written(encode_trust(packs.trust_root()), "trust")
    assert main(["evidence", str(evidence), "--trust", str(trust), *AT]) == 0


def test_names_the_file_and_the_check_that_failed(
    evidence: Path, pinned: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (evidence / "run/stdout.log").write_bytes(b"step 1 loss 0.0\n")
    assert main(["evidence", str(evidence), *pinned]) == 1
    out = capsys.readouterr().out
    assert out.startswith("FAILED  ")
    assert "✓ trust" in out
    assert "✗ manifest   run/stdout.log: manifest says" in out
    assert "· claims     not reached" in out
    assert "Proved" not in out


def test_prints_nothing_when_quiet(
    evidence: Path, pinned: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evidence", str(evidence), *pinned, "-q"]) == 0
    assert capsys.readouterr().out == ""


def test_json_on_success(evidence: Path, pinned: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evidence", str(evidence), *pinned, "-o", "json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["schema"], said["verdict"], said["code"]) == ("assay.verify/v1", "pass", "OK")
    assert [check["id"] for check in said["checks"]] == list(CHECKS)
    assert len(said["signers"]) == len(Kind)
    assert said["proved"]
    assert said["not_proved"]


def test_json_on_failure(evidence: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evidence", str(evidence), "--trust-sha256", "ab" * 32, "-o", "json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["verdict"], said["code"], said["proved"]) == ("fail", "TRUST_FAILED", [])
    assert [check["ok"] for check in said["checks"]] == [True, False] + [None] * (len(CHECKS) - 2)
    assert said["hints"]


def test_hides_control_characters_of_claims(
    written: Written, packs: ModuleType, pinned: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    edit = packs.set_at("reason", value="fine\x1b[2J\x1b[1A\r\nVERIFIED\u202e")
    main(["evidence", str(written(packs.build(edits={Kind.APPROVAL: edit}))), *pinned])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert out.count("\nVERIFIED") == 0


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["evidence"],
        ["evidence", "x"],
        ["evidence", "x", "--trust-sha256", "short"],
        ["evidence", "x", "--trust-sha256", "ab" * 32, "--trust", "y"],
        ["evidence", "x", "--trust-sha256", "ab" * 32, "--at", "yesterday"],
        ["model", "x", "--trust-sha256", "ab" * 32],
    ],
)
def test_usage_errors_exit_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage: assay-verify" in capsys.readouterr().err


def test_cannot_decide_about_a_missing_folder(
    tmp_path: Path, pinned: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evidence", str(tmp_path / "no"), *pinned]) == 3
    assert "CANNOT DECIDE" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--trust", "--checkpoint", "--consistency"])
def test_unreadable_input_is_no_passed_check(
    evidence: Path, packs: ModuleType, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trust = [] if option == "--trust" else ["--trust-sha256", packs.pin()]
    assert main(["evidence", str(evidence), *trust, option, "/missing"]) == 3
    out = capsys.readouterr().out
    assert "✗ input" in out
    assert "✓" not in out


def test_remembers_a_checkpoint(
    evidence: Path,
    packs: ModuleType,
    valid_pack: dict[str, bytes],
    pinned: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["evidence", str(evidence), *pinned, "--checkpoint", str(evidence / "checkpoint")]) == 0
    leaves = packs.leaves_of(valid_pack)
    (tmp_path / "old").write_bytes(packs.note_over(leaves[:5]))
    (tmp_path / "new").write_bytes(packs.note_over([*leaves, leaves[0]]))
    assert main(["evidence", str(evidence), *pinned, "--checkpoint", str(tmp_path / "new")]) == 1
    capsys.readouterr()
    assert main(["evidence", str(evidence), *pinned, "--checkpoint", str(tmp_path / "old")]) == 3
    assert "--consistency" in capsys.readouterr().out


def test_verifies_with_a_consistency_proof(
    evidence: Path, packs: ModuleType, valid_pack: dict[str, bytes], pinned: list[str], tmp_path: Path
) -> None:
    leaves, note = packs.leaves_of(valid_pack), (evidence / "checkpoint").read_bytes()
    proof = ConsistencyProof(old_size=5, path=consistency_path(leaves, 5), checkpoint_note=note)
    (tmp_path / "proof").write_bytes(encode_consistency(proof))
    (tmp_path / "old").write_bytes(packs.note_over(leaves[:5]))
    options = ["--checkpoint", str(tmp_path / "old"), "--consistency", str(tmp_path / "proof")]
    assert main(["evidence", str(evidence), *pinned, *options]) == 0


def test_model_folder_is_the_one_proved(evidence: Path, pinned: list[str]) -> None:
    model = evidence.parent / "model"
    model.mkdir()
    for file in ("config.json", "sub/weights.safetensors"):
        (model / file).parent.mkdir(exist_ok=True)
        (model / file).write_bytes((evidence / "model" / file).read_bytes())
    command = ["model", str(model), "--evidence", str(evidence), *pinned]
    assert main(command) == 0
    (model / "config.json").write_bytes(b"{ }")
    assert main(command) == 1


@pytest.mark.parametrize("name", ["champion", "base-model", "dataset", "policy"])
def test_refuses_evidence_about_something_else(
    evidence: Path, pinned: list[str], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evidence", str(evidence), *pinned, f"--expect-{name}", "ab" * 32]) == 1
    assert "was asked for" in capsys.readouterr().out


def test_inspect_decodes_and_says_unverified(evidence: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(evidence / "claims.jsonl")]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("UNVERIFIED")
    assert json.loads(out)["verified"] is False
    assert len(json.loads(out)["bundles"]) == len(Kind)
    assert main(["inspect", str(evidence / "MANIFEST.sigstore.json")]) == 0


def test_inspect_refuses_what_it_cannot_decode(evidence: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(evidence / "report.txt")]) == 1
    assert main(["inspect", str(evidence / "missing")]) == 3
    assert "cannot decode" in capsys.readouterr().err


def test_reader_that_hangs_up_is_not_told_verified(
    tmp_path: Path, valid_pack: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    class HungUp(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    lines = tmp_path / "claims.jsonl"
    lines.write_bytes(valid_pack["claims.jsonl"])
    monkeypatch.setattr("sys.stdout", HungUp())
    assert main(["inspect", str(lines)]) == 3
