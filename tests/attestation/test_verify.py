"""One test per thing a liar could try. Each starts from evidence that verifies and changes one thing."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from attestation import verify
from attestation.claims import Kind
from attestation.errors import AttestationError, MalformedError, VerificationError
from attestation.expectations import Expectations
from attestation.oms import Manifest
from attestation.pack import manifest_of
from attestation.paired import encode_losses
from attestation.trust import Role
from attestation.verify import CHECKS, Verified

Check = Callable[..., Verified]


def refused(check: str, file: str, message: str) -> Any:
    return pytest.raises(AttestationError, match=rf"^\[{check}\] {file}: .*{message}")


# --- what passes -------------------------------------------------------------------------------


def test_verifies_valid_evidence(check: Check, valid_pack: dict[str, bytes]) -> None:
    verified = check(valid_pack)
    assert verified.run_id == "run-0042"
    assert set(verified.checks) | set(verified.skipped) == set(CHECKS)
    assert verified.skipped == ("checkpoint", "expected")
    assert [by.kind for by in verified.signers] == list(Kind)
    assert verified.interval.high < 0


def test_says_what_it_did_not_prove(check: Check, valid_pack: dict[str, bytes]) -> None:
    said = " ".join(check(valid_pack).not_proved)
    for word in ("trusted time", "hardware attestation", "kernel", "witness", "remembered", "revocations"):
        assert word in said


def test_says_of_each_guest_what_its_walls_left_open(check: Check, packs: ModuleType) -> None:
    edit = packs.set_at("measured", "unenforced", value=["cpu_millis", "pids: per user id only"])
    late = packs.set_at("measured", "inputs_mounted", value="before the measurement")
    said = check(packs.build(edits={Kind.ISOLATION_TRAIN: edit, Kind.ISOLATION_EVALUATE: late})).not_proved
    assert said[:3] == (
        "Limits: around training, bubblewrap left unenforced: cpu_millis, pids: per user id only.",
        "Order: inputs of evaluation were mounted before its walls had been measured.",
        "Escape: bubblewrap is tier 1 of 3. A flaw of the host's kernel is a way out.",
    )


def test_numbered_steps_of_the_docstring_recur_at_the_code() -> None:
    assert verify.__doc__ is not None
    names = [line.split()[1] for line in verify.__doc__.splitlines() if line.strip()[:1].isdigit()]
    assert names == list(CHECKS)
    source = Path(verify.__file__).read_text()
    assert [number for number in range(1, 12) if f"    # {number}." in source] == list(range(1, 12))


def test_takes_a_second_approval(check: Check, packs: ModuleType) -> None:
    kinds = [*Kind][:4] + [*Kind][3:]
    assert len(check(packs.build(kinds=kinds)).claims.of(Kind.APPROVAL)) == 2


def test_own_trust_root_replaces_the_one_in_the_pack(check: Check, packs: ModuleType) -> None:
    # The pack says nothing of a revocation; the reader's newer root does.
    revoked = packs.trusted(
        packs.APPROVER, Role.APPROVER, "carol", revoked_at=datetime(2026, 11, 2, tzinfo=UTC)
    )
    valid = packs.build()
    check(valid, trust=packs.trust_root())
    with refused("claims", "claims.jsonl line 4", "revoked at 2026-11-02"):
        check(valid, trust=packs.trust_root(approver=revoked))


def test_rotated_key_still_verifies_old_claims(check: Check, packs: ModuleType) -> None:
    retired = packs.trusted(
        packs.APPLIANCE, Role.APPLIANCE, "appliance-7", valid_until=datetime(2026, 11, 21, 4, tzinfo=UTC)
    )
    new = packs.trusted(packs.STRANGER, Role.APPLIANCE, "appliance-7 since December")
    root = packs.trust_root(appliance=retired, new=new)
    assert check(packs.build(root=root), trust=packs.pin(root)).run_id == "run-0042"


# --- any change of any file --------------------------------------------------------------------


def test_refuses_every_changed_file_and_names_it(check: Check, valid_pack: dict[str, bytes]) -> None:
    for name, data in valid_pack.items():
        places = {0, 1, len(data) // 3, len(data) // 2, len(data) - 1}
        for at in places:
            changes = (
                data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :],
                data[:at] + data[at + 1 :],
                data[:at] + b"\0" + data[at:],
            )
            for spoiled in changes:
                if spoiled == data:
                    continue
                with pytest.raises(AttestationError) as caught:
                    check({**valid_pack, name: spoiled})
                assert caught.value.check in {"trust", "manifest"}
                assert caught.value.file == ("trust/" if name.startswith("trust/") else name)


def test_refuses_every_changed_byte_of_the_signed_manifest(
    check: Check, valid_pack: dict[str, bytes]
) -> None:
    for name in ("MANIFEST.json", "MANIFEST.sigstore.json"):
        data = valid_pack[name]
        for at in range(0, len(data), 3):
            for bit in (1, 32):
                with refused("manifest", name, ""):
                    check({**valid_pack, name: data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]})


def test_refuses_every_missing_file(check: Check, valid_pack: dict[str, bytes]) -> None:
    for name in valid_pack:
        with pytest.raises(VerificationError) as caught:
            check({other: data for other, data in valid_pack.items() if other != name})
        assert caught.value.file == ("trust/" if name.startswith("trust/") else name)


def test_refuses_an_extra_file(check: Check, valid_pack: dict[str, bytes]) -> None:
    for name in ("extra", "model/extra.bin", "run/extra"):
        with refused("manifest", name, "not listed in the manifest"):
            check({**valid_pack, name: b"x"})


def test_sealing_again_saves_no_changed_file(
    check: Check, packs: ModuleType, valid_pack: dict[str, bytes]
) -> None:
    # Even who holds the appliance's key cannot change a file that other claims or the pin speak of.
    unsaid = {"README.txt", "report.txt", "MANIFEST.json", "MANIFEST.sigstore.json"}
    for name in valid_pack.keys() - unsaid:
        data = valid_pack[name]
        for at in (0, len(data) // 2, len(data) - 1):
            for spoiled in (data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], data[:at] + data[at + 1 :]):
                if spoiled == data:
                    continue
                with pytest.raises(AttestationError) as caught:
                    check(packs.reseal({**valid_pack, name: spoiled}))
                assert caught.value.check in CHECKS
                assert caught.value.file


# --- 2. trust ----------------------------------------------------------------------------------


def test_refuses_another_trust_root(check: Check, packs: ModuleType, valid_pack: dict[str, bytes]) -> None:
    with refused("trust", "trust/", "pinned abab"):
        check(valid_pack, trust="ab" * 32)


def test_refuses_a_pin_that_is_no_digest(check: Check, valid_pack: dict[str, bytes]) -> None:
    with pytest.raises(MalformedError, match="64 lower-case"):
        check(valid_pack, trust="")


# --- 3. manifest -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signer", "message"),
    [
        ("STRANGER", "not in the trust root"),
        ("APPROVER", "needs the appliance's signature, found approver key"),
    ],
)
def test_refuses_a_manifest_sealed_by_another(
    check: Check, packs: ModuleType, valid_pack: dict[str, bytes], signer: str, message: str
) -> None:
    with refused("manifest", "MANIFEST.sigstore.json", message):
        check(packs.reseal(valid_pack, signer=getattr(packs, signer)))


def test_refuses_a_manifest_from_the_future(
    check: Check, packs: ModuleType, valid_pack: dict[str, bytes]
) -> None:
    sealed_at = datetime(2026, 11, 21, 3, tzinfo=UTC)
    check(valid_pack, now=sealed_at - timedelta(minutes=5))  # clocks may differ a little
    with refused("manifest", "MANIFEST.sigstore.json", "sealed at 2026-11-21T03:00:00Z, which is after"):
        check(valid_pack, now=sealed_at - timedelta(minutes=6))


def test_refuses_a_manifest_sealed_after_the_key_expired(check: Check, packs: ModuleType) -> None:
    expired = packs.trusted(
        packs.APPLIANCE, Role.APPLIANCE, "appliance-7", valid_until=datetime(2026, 11, 21, 2, 45, tzinfo=UTC)
    )
    root = packs.trust_root(appliance=expired)
    with refused("manifest", "MANIFEST.sigstore.json", "valid only until"):
        check(packs.build(root=root), trust=packs.pin(root))


@pytest.mark.parametrize(("field", "value"), [("files", 3), ("runId", "run-0043")])
def test_refuses_a_seal_that_disagrees_with_the_manifest(
    check: Check, packs: ModuleType, valid_pack: dict[str, bytes], field: str, value: object
) -> None:
    with refused("manifest", "MANIFEST.sigstore.json", f"{field} is .* the manifest says"):
        check(packs.reseal(valid_pack, edit=packs.set_at(field, value=value)))


def test_refuses_a_manifest_that_was_not_the_sealed_one(
    check: Check, packs: ModuleType, valid_pack: dict[str, bytes]
) -> None:
    other = packs.reseal({**valid_pack, "README.txt": b"Trust me."})
    other["MANIFEST.sigstore.json"] = valid_pack["MANIFEST.sigstore.json"]
    with refused("manifest", "MANIFEST.json", "the signature is over"):
        check(other)


def test_refuses_another_claim_in_place_of_the_seal(check: Check, valid_pack: dict[str, bytes]) -> None:
    line = valid_pack["claims.jsonl"].split(b"\n")[0]
    with refused("manifest", "MANIFEST.sigstore.json", "not the manifest"):
        check({**valid_pack, "MANIFEST.sigstore.json": line})


# --- 4. claims ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(Kind))
def test_refuses_a_claim_signed_in_another_role(check: Check, packs: ModuleType, kind: Kind) -> None:
    wrong = packs.APPLIANCE if kind in {Kind.APPROVAL, Kind.CHAMPION_RELEASE} else packs.APPROVER
    line = list(Kind).index(kind) + 1
    with refused("claims", f"claims.jsonl line {line}", "needs the .* signature, found"):
        check(packs.build(signers={kind: wrong}))


def test_refuses_a_claim_by_a_stranger(check: Check, packs: ModuleType) -> None:
    with refused("claims", "claims.jsonl line 4", "not in the trust root"):
        check(packs.build(signers={Kind.APPROVAL: packs.STRANGER}))


@pytest.mark.parametrize(
    ("approved_at", "message"),
    [("2025-12-31T00:00:00Z", "valid only from"), ("2026-11-21T03:00:01Z", "after the pack was sealed")],
)
def test_refuses_a_claim_out_of_time(check: Check, packs: ModuleType, approved_at: str, message: str) -> None:
    edit = packs.set_at("approvedAt", value=approved_at)
    with refused("claims", "claims.jsonl line 4", message):
        check(packs.build(edits={Kind.APPROVAL: edit}))


@pytest.mark.parametrize("ending", [b"", b"\n\n", b"\r\n"])
def test_refuses_claims_with_other_line_ends(check: Check, packs: ModuleType, ending: bytes) -> None:
    files = packs.build()
    files["claims.jsonl"] = files["claims.jsonl"][:-1] + ending
    with refused("claims", r"claims.jsonl( line \d+)?", ""):
        check(packs.reseal(files))


def test_refuses_a_claim_of_a_kind_that_does_not_belong(check: Check, packs: ModuleType) -> None:
    edit = packs.about("dataset-2", "ab" * 32)
    rename = {
        Kind.DATASET: lambda statement: replace(
            edit(statement), subjects=(replace(statement.subjects[0], name="dataset-2"),)
        )
    }
    with refused("claims", "claims.jsonl line 2", "no claim of evidence"):
        check(packs.build(edits=rename))


# --- 5. kinds ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(Kind))
def test_refuses_a_missing_claim(check: Check, packs: ModuleType, kind: Kind) -> None:
    with refused("kinds", "claims.jsonl", f"no {kind} claim"):
        check(packs.build(kinds=[other for other in Kind if other is not kind]))


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.APPROVAL])
def test_refuses_a_claim_twice(check: Check, packs: ModuleType, kind: Kind) -> None:
    with refused("kinds", "claims.jsonl", f"2 {kind} claims"):
        check(packs.build(kinds=[*Kind, kind]))


# --- 9. model and evaluation -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [("model/config.json", b"{ }"), ("model/extra.bin", b"x"), ("model/config.json", None)],
)
def test_refuses_other_model_files_under_a_new_seal(
    check: Check, packs: ModuleType, valid_pack: dict[str, bytes], name: str, content: bytes | None
) -> None:
    files = {other: data for other, data in valid_pack.items() if other != name}
    if content is not None:
        files[name] = content
    with refused("model", name, "the model claim says"):
        check(packs.reseal(files))


def test_refuses_model_files_that_swapped_names(
    check: Check, packs: ModuleType, valid_pack: dict[str, bytes]
) -> None:
    # The root of an OMS manifest does not cover names; the verifier compares files.
    files = dict(valid_pack)
    files["model/config2.json"] = files.pop("model/config.json")
    with refused("model", "model/config.json", "found nothing"):
        check(packs.reseal(files))


def test_refuses_other_losses(check: Check, packs: ModuleType) -> None:
    better = encode_losses(packs.BEFORE, [loss - 1 for loss in packs.AFTER])
    with refused("model", "evaluation/losses.json", "the evaluation says [0-9a-f]{64}, found"):
        check(packs.build(files={"evaluation/losses.json": better}))


@pytest.mark.parametrize("field", ["rows", "meanBefore", "meanAfter", "meanDifference", "low", "high"])
def test_refuses_figures_that_do_not_recompute(check: Check, packs: ModuleType, field: str) -> None:
    with refused("model", "evaluation/losses.json", f"the evaluation says {field} 7, recomputed"):
        check(packs.build(edits={Kind.EVALUATION: packs.set_at(field, value=7)}))


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        (b"[]", "not losses"),
        (b'{"after":[1,2]}', "not losses"),
        (b'{"after":[1,2],"before":[1,2],"x":1}', "not canonical"),
        (b'{"before":[1,2],"after":[1,2]}', "not canonical"),
        (b'{"after":[1,"2"],"before":[1,2]}', "not an integer"),
        (b'{"after":[1],"before":[1,2]}', "2 losses before, but 1 after"),
        (b'{"after":[0.5],"before":[1]}', "not an integer"),
    ],
)
def test_refuses_losses_of_another_form(check: Check, packs: ModuleType, losses: bytes, message: str) -> None:
    digest = manifest_of({"x": losses}).files[0].sha256
    edits = {Kind.EVALUATION: packs.set_at("losses", "sha256", value=digest)}
    with refused("model", "evaluation/losses.json", message):
        check(packs.build(files={"evaluation/losses.json": losses}, edits=edits))


def test_refuses_absurd_work(check: Check, packs: ModuleType) -> None:
    with refused("model", "evaluation/losses.json", "no more than 100000000 draws"):
        check(packs.build(edits={Kind.EVALUATION: packs.set_at("resamples", value=10**12)}))


# --- 10. verdict -------------------------------------------------------------------------------


@pytest.mark.parametrize("verdict", ["unchanged", "noise-fallback", "partial"])
def test_refuses_a_model_that_was_not_trained(check: Check, packs: ModuleType, verdict: str) -> None:
    with refused("verdict", "claims.jsonl line 9", f"the verdict on the model is '{verdict}'"):
        check(packs.build(edits={Kind.VERDICT: packs.set_at("verdict", value=verdict)}))


def test_refuses_a_verdict_with_a_broken_rule(check: Check, packs: ModuleType) -> None:
    with refused("verdict", "claims.jsonl line 9", "rule 'weights-differ' does not hold"):
        check(packs.build(edits={Kind.VERDICT: packs.set_at("rules", 0, "holds", value=False)}))


# --- 11. expected ------------------------------------------------------------------------------


def _expectations(packs: ModuleType, valid_pack: dict[str, bytes]) -> dict[str, Any]:
    provenance = json.loads(json.dumps(packs.provenance_predicate("")))
    return {
        "champion": packs.CHAMPION.sha256,
        "base_model": provenance["buildDefinition"]["externalParameters"]["model"],
        "policy": packs.POLICY["sha256"],
    }


def test_accepts_what_was_asked_for(check: Check, packs: ModuleType, valid_pack: dict[str, bytes]) -> None:
    model = manifest_of(packs.MODEL_FILES)
    expected = Expectations(model_files=model, **_expectations(packs, valid_pack))
    assert "expected" in check(valid_pack, expected=expected).checks


@pytest.mark.parametrize("field", ["champion", "base_model", "dataset", "policy"])
def test_refuses_what_was_not_asked_for(check: Check, valid_pack: dict[str, bytes], field: str) -> None:
    other: dict[str, Any] = {field: "ed" * 32}
    with refused("expected", "claims.jsonl", f"{field.replace('_', ' ')} eded.* was asked for"):
        check(valid_pack, expected=Expectations(**other))


def test_refuses_another_model(check: Check, packs: ModuleType, valid_pack: dict[str, bytes]) -> None:
    other: Manifest = manifest_of({**packs.MODEL_FILES, "config.json": b"[]"})
    with refused("expected", "model/config.json", "the model claim says"):
        check(valid_pack, expected=Expectations(model_files=other))
