"""The OCI profile and the BPF are one policy: every rule, each run through both."""

import errno
import json
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from runner.errors import SandboxUnavailableError
from runner.sandbox.seccomp import AUDIT_ARCHITECTURES, load_filter
from runner.sandbox.seccomp_oci import ARCHITECTURES, load_profile, profile
from tests.runner.test_seccomp import ALLOW, NUMBERS, RULES, conditional_cases, decide, refusal

MACHINES = sorted(AUDIT_ARCHITECTURES)
CONDITIONAL = {rule["syscall"]: rule for rule in RULES["conditional"]}
INTERESTING = (0, 1, 2, 3, 5, 8, 10, 16, 17, 38, 40, 0x11, 0x80, 0x20000, 0x80001, 0x10000000, 0xFFFFFFFF)


def meaning(rules: dict[str, Any], name: str, arguments: tuple[int, ...]) -> int:
    """What a runtime makes of one call: the first entry that fits, else the default; a model of libseccomp."""
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    for entry in rules["syscalls"]:
        if name in entry["names"] and all(_holds(one, padded) for one in entry["args"]):
            return ALLOW if entry["action"] == "SCMP_ACT_ALLOW" else refusal(entry["errnoRet"])
    assert rules["defaultAction"] == "SCMP_ACT_ERRNO"
    return refusal(rules["defaultErrnoRet"])


def _holds(comparison: dict[str, Any], arguments: tuple[int, ...]) -> bool:
    value = arguments[comparison["index"]]
    match comparison["op"]:
        case "SCMP_CMP_EQ":
            return bool(value == comparison["value"])
        case "SCMP_CMP_MASKED_EQ":
            return bool(value & comparison["value"] == comparison["valueTwo"])
    raise AssertionError(f"unknown comparison {comparison['op']}")


def many_calls() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Each conditional call with every combination of words that some rule looks at, and the listed cases."""
    for name, arguments, _ in conditional_cases():
        yield name, arguments
    for name, one, two, three in product(CONDITIONAL, INTERESTING, INTERESTING, (0, 9, 12, 15)):
        yield name, (one, two, three)


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def rules(machine: str) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(load_profile(machine))
    return parsed


def test_every_call_without_arguments_means_the_same_in_both(machine: str, rules: dict[str, Any]) -> None:
    program = load_filter(machine)
    for name, number in NUMBERS[machine].items():
        if name not in CONDITIONAL:
            assert meaning(rules, name, ()) == decide(program, machine=machine, number=number), name


def test_every_call_with_arguments_is_allowed_in_both_or_in_none(machine: str, rules: dict[str, Any]) -> None:
    program, seen = load_filter(machine), set()
    for name, arguments in many_calls():
        ours = decide(program, machine=machine, number=NUMBERS[machine][name], arguments=arguments)
        theirs = meaning(rules, name, arguments)
        assert (theirs == ALLOW) == (ours == ALLOW), (name, arguments)
        seen.add((name, ours == ALLOW))
    assert seen == {(name, allowed) for name in CONDITIONAL for allowed in (True, False)} - {("clone3", True)}


def test_only_the_errno_of_a_refusal_may_differ_and_then_is_the_default(
    machine: str, rules: dict[str, Any]
) -> None:
    program = load_filter(machine)
    for name, arguments in many_calls():
        ours = decide(program, machine=machine, number=NUMBERS[machine][name], arguments=arguments)
        theirs = meaning(rules, name, arguments)
        if ours != ALLOW:
            assert ours == refusal(getattr(errno, CONDITIONAL[name]["else"]))
            assert theirs == refusal(errno.ENOSYS), (name, arguments)


def test_words_with_high_bits_are_never_allowed_where_our_filter_refuses(
    machine: str, rules: dict[str, Any]
) -> None:
    program = load_filter(machine)
    for name, arguments in many_calls():
        high = (arguments[0] | 1 << 32, *arguments[1:]) if arguments else (1 << 32,)
        ours = decide(program, machine=machine, number=NUMBERS[machine][name], arguments=high)
        assert not (meaning(rules, name, high) == ALLOW and ours != ALLOW), (name, high)


def test_no_call_has_two_entries_that_could_disagree(rules: dict[str, Any]) -> None:
    plain = [name for entry in rules["syscalls"] if not entry["args"] for name in entry["names"]]
    assert len(plain) == len(set(plain))
    assert not set(plain) & set(CONDITIONAL)


def test_only_one_architecture_is_named(machine: str, rules: dict[str, Any]) -> None:
    assert rules["archMap"] == [{"architecture": ARCHITECTURES[machine], "subArchitectures": []}]


def test_calls_that_an_architecture_lacks_are_left_out() -> None:
    assert "iopl" not in load_profile("aarch64").decode()
    assert "iopl" in load_profile("x86_64").decode()


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(SandboxUnavailableError, match="no system-call filter for 'riscv64'"):
        load_profile("riscv64")


def test_a_weaker_rule_would_be_seen() -> None:
    weaker = {**RULES, "allow": [*RULES["allow"], "ptrace"], "deny_eperm": []}
    changed = profile(weaker, NUMBERS["x86_64"], machine="x86_64")
    program = load_filter("x86_64")
    ptrace = NUMBERS["x86_64"]["ptrace"]
    assert meaning(changed, "ptrace", ()) != decide(program, machine="x86_64", number=ptrace)
