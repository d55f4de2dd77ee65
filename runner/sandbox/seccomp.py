"""The system-call filter of every sandbox, assembled as classic BPF from `seccomp_allowlist.json`.

What is covered: every call not on the list fails, by default with ENOSYS so that libc falls back; another
architecture's calls kill the process. Comparisons are on the low 32 bits of an argument.
What is not covered: flaws in the calls that stay open; `ioctl` and `prctl` are not looked into. The numbers
come from the kernel's own headers; the aarch64 filter was generated, never run.
"""

import errno
import json
import platform
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.errors import SandboxUnavailableError

# linux/audit.h
AUDIT_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# linux/bpf_common.h and linux/seccomp.h
_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_MASK = 0x54  # BPF_ALU | BPF_AND | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K
_ALLOW = 0x7FFF0000
_KILL_PROCESS = 0x80000000
_ERRNO = 0x00050000
_NUMBER_OFFSET = 0  # struct seccomp_data
_ARCHITECTURE_OFFSET = 4
_ARGUMENTS_OFFSET = 16
_X32_BIT = 0x40000000
MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS


@dataclass(frozen=True, slots=True, kw_only=True)
class _Instruction:
    code: int
    if_true: int = 0
    if_false: int = 0
    operand: int

    def encoded(self) -> bytes:
        return struct.pack("=HBBI", self.code, self.if_true, self.if_false, self.operand)


def load_filter(machine: str | None = None) -> bytes:
    """The filter for `machine` (this host's by default), ready for `bwrap --seccomp`.

    Raises SandboxUnavailableError for an architecture without a table of call numbers.
    """
    machine = machine or platform.machine()
    here = Path(__file__).parent
    rules = json.loads((here / "seccomp_allowlist.json").read_bytes())
    numbers = json.loads((here / "syscall_numbers.json").read_bytes())
    if machine not in AUDIT_ARCHITECTURES or machine not in rules["architectures"]:
        known = ", ".join(sorted(AUDIT_ARCHITECTURES))
        raise SandboxUnavailableError(
            f"there is no system-call filter for {machine!r}; run the appliance on one of: {known}"
        )
    return assemble(rules, numbers[machine], machine=machine)


def assemble(rules: Mapping[str, Any], numbers: Mapping[str, int], *, machine: str) -> bytes:
    """`rules` as BPF for `machine`; names that the architecture lacks are skipped."""
    program = _prologue(machine)
    for rule in rules["conditional"]:
        if rule["syscall"] in numbers:
            program += _conditional(numbers[rule["syscall"]], rule)
    for name in rules["allow"]:
        if name in numbers:
            program += _verdict(numbers[name], _ALLOW)
    for name in rules["deny_eperm"]:
        if name in numbers:
            program += _verdict(numbers[name], _ERRNO | errno.EPERM)
    program.append(_return(_ERRNO | getattr(errno, rules["default"])))
    assert len(program) <= MAX_INSTRUCTIONS
    return b"".join(instruction.encoded() for instruction in program)


def _prologue(machine: str) -> list[_Instruction]:
    program = [
        _Instruction(code=_LOAD, operand=_ARCHITECTURE_OFFSET),
        _Instruction(code=_EQUAL, if_true=1, operand=AUDIT_ARCHITECTURES[machine]),
        _return(_KILL_PROCESS),
        _Instruction(code=_LOAD, operand=_NUMBER_OFFSET),
    ]
    if machine == "x86_64":
        program += [_Instruction(code=_AT_LEAST, if_false=1, operand=_X32_BIT), _return(_KILL_PROCESS)]
    return program


def _verdict(number: int, action: int) -> list[_Instruction]:
    return [_Instruction(code=_EQUAL, if_false=1, operand=number), _return(action)]


def _conditional(number: int, rule: Mapping[str, Any]) -> list[_Instruction]:
    block: list[_Instruction] = []
    for alternative in rule["allow_if_any"]:
        block += _alternative(alternative)
    block.append(_return(_ERRNO | getattr(errno, rule["else"])))
    return [_Instruction(code=_EQUAL, if_false=len(block), operand=number), *block]


def _alternative(comparisons: Sequence[Mapping[str, Any]]) -> list[_Instruction]:
    """Allow if all comparisons hold, else fall through to what follows."""
    block = [_return(_ALLOW)]
    for comparison in reversed(comparisons):
        block.insert(0, _Instruction(code=_EQUAL, if_false=len(block), operand=comparison["value"]))
        if comparison["op"] == "MASKED_EQ":
            block.insert(0, _Instruction(code=_MASK, operand=comparison["mask"]))
        offset = _ARGUMENTS_OFFSET + 8 * comparison["index"]  # low half: both architectures are little-endian
        block.insert(0, _Instruction(code=_LOAD, operand=offset))
    return block


def _return(action: int) -> _Instruction:
    return _Instruction(code=_RETURN, operand=action)
