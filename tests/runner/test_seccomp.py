"""The filter decides every rule as written, in a model of BPF and in the kernel itself."""

import ctypes
import errno
import json
import os
import platform
import signal
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runner.sandbox
from runner.errors import SandboxUnavailableError
from runner.sandbox.seccomp import AUDIT_ARCHITECTURES, load_filter

FOLDER = Path(runner.sandbox.__file__).parent
RULES: dict[str, Any] = json.loads((FOLDER / "seccomp_allowlist.json").read_bytes())
NUMBERS: dict[str, dict[str, int]] = json.loads((FOLDER / "syscall_numbers.json").read_bytes())
ALLOW, KILL = 0x7FFF0000, 0x80000000
HERE = platform.machine()
# They block, end, or change more than the child that tries them.
NOT_TRIED = frozenset(
    (
        "alarm", "clone", "exit", "exit_group", "fork", "futex", "kill", "msgget", "pause", "restart_syscall",
        "rt_sigreturn", "rt_sigsuspend", "sched_yield", "setfsgid", "setfsuid", "setgid", "setgroups", "setregid",
        "setresgid", "setresuid", "setreuid", "setuid", "vfork", "wait4", "waitid",
    )
)  # fmt: skip


def decide(program: bytes, *, machine: str, number: int, arguments: tuple[int, ...] = ()) -> int:
    """What `program` answers to one call; an independent model of the machine in linux/bpf.h."""
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, AUDIT_ARCHITECTURES[machine], 0, *padded)
    position, accumulator = 0, 0
    while True:
        code, if_true, if_false, operand = struct.unpack_from("=HBBI", program, position * 8)
        position += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", data, operand)
            case 0x54:
                accumulator &= operand
            case 0x15:
                position += if_true if accumulator == operand else if_false
            case 0x35:
                position += if_true if accumulator >= operand else if_false
            case 0x06:
                return int(operand)
            case _:
                raise AssertionError(f"unknown instruction {code:#x}")


def refusal(code: int) -> int:
    return 0x00050000 | code


def conditional_cases() -> Iterator[tuple[str, tuple[int, ...], bool]]:
    for rule in RULES["conditional"]:
        for alternative in rule["allow_if_any"]:
            arguments = [0, 0, 0]
            for comparison in alternative:
                arguments[comparison["index"]] = comparison["value"]
            yield rule["syscall"], tuple(arguments), True
    yield "clone", (0x11,), True
    for flag in (0x80, 0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        yield "clone", (0x11 | flag,), False
    yield "clone3", (), False
    yield "personality", (0x40000,), False
    yield "socket", (1, 1 | 0x80000), True  # SOCK_CLOEXEC
    for family, kind, protocol in (
        (40, 1, 0),
        (38, 5, 0),
        (17, 3, 0),
        (2, 3, 1),
        (16, 3, 12),
        (16, 3, 15),
        (2, 5, 0),
    ):
        yield "socket", (family, kind, protocol), False


@pytest.mark.parametrize("machine", sorted(AUDIT_ARCHITECTURES))
def test_every_listed_call_is_decided_as_listed(machine: str) -> None:
    program, numbers = load_filter(machine), NUMBERS[machine]
    for name in RULES["allow"]:
        if name in numbers:
            assert decide(program, machine=machine, number=numbers[name]) == ALLOW, name
    for name in RULES["deny_eperm"]:
        if name in numbers:
            assert decide(program, machine=machine, number=numbers[name]) == refusal(errno.EPERM), name


@pytest.mark.parametrize("machine", sorted(AUDIT_ARCHITECTURES))
def test_every_unlisted_number_is_enosys(machine: str) -> None:
    program = load_filter(machine)
    for number in set(range(1200)) - set(NUMBERS[machine].values()):
        assert decide(program, machine=machine, number=number) == refusal(errno.ENOSYS), number


@pytest.mark.parametrize("machine", sorted(AUDIT_ARCHITECTURES))
@pytest.mark.parametrize(("name", "arguments", "allowed"), list(conditional_cases()))
def test_conditional_calls_look_at_their_arguments(
    machine: str, name: str, arguments: tuple[int, ...], allowed: bool
) -> None:
    otherwise = {rule["syscall"]: rule["else"] for rule in RULES["conditional"]}[name]
    wanted = ALLOW if allowed else refusal(getattr(errno, otherwise))
    number = NUMBERS[machine][name]
    assert decide(load_filter(machine), machine=machine, number=number, arguments=arguments) == wanted


def test_another_architecture_is_killed() -> None:
    data = load_filter("x86_64")
    assert decide(data, machine="aarch64", number=0) == KILL


def test_x32_calls_are_killed() -> None:
    assert decide(load_filter("x86_64"), machine="x86_64", number=0x40000000 | 39) == KILL


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(SandboxUnavailableError, match="no system-call filter for 'riscv64'"):
        load_filter("riscv64")


def test_the_numbers_are_the_kernels_own() -> None:
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if not header.exists():
        pytest.skip("the kernel's headers are not installed")
    lines = (line.split() for line in header.read_text().splitlines() if line.startswith("#define __NR_"))
    kernel = {words[1].removeprefix("__NR_"): int(words[2]) for words in lines}
    assert {name: kernel[name] for name in NUMBERS["x86_64"]} == NUMBERS["x86_64"]


def in_the_kernel(number: int, arguments: tuple[int, ...]) -> int:
    """errno of one call under the real filter, in a child of its own; 0 for success, -signal if killed."""
    program = load_filter()
    child = os.fork()
    if child == 0:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            buffer = ctypes.create_string_buffer(program)
            header = struct.pack("=HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
            signal.alarm(5)
            libc.prctl(38, 1, 0, 0, 0)
            if libc.prctl(22, 2, header, 0, 0) != 0:
                os._exit(255)
            padded = [ctypes.c_long(a) for a in arguments]
            failed = libc.syscall(ctypes.c_long(number), *padded) == -1
            os._exit(ctypes.get_errno() if failed else 0)
        finally:
            os._exit(254)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(HERE not in AUDIT_ARCHITECTURES, reason=f"no filter for {HERE}")
class TestInTheKernel:
    @pytest.mark.parametrize("name", [n for n in RULES["deny_eperm"] if n in NUMBERS.get(HERE, {})])
    def test_dangerous_calls_are_eperm(self, name: str) -> None:
        assert in_the_kernel(NUMBERS[HERE][name], (-1, -1, -1, -1, -1)) == errno.EPERM

    @pytest.mark.parametrize(
        "name", [n for n in RULES["allow"] if n in NUMBERS.get(HERE, {}) and n not in NOT_TRIED]
    )
    def test_listed_calls_reach_the_kernel(self, name: str) -> None:
        assert in_the_kernel(NUMBERS[HERE][name], (-1, -1, -1, -1, -1, -1)) not in {errno.ENOSYS, 254, 255}

    @pytest.mark.parametrize("number", [999, 450, 462])
    def test_unlisted_calls_are_enosys(self, number: int) -> None:
        assert in_the_kernel(number, ()) == errno.ENOSYS

    @pytest.mark.parametrize(
        ("name", "arguments", "allowed"),
        [c for c in conditional_cases() if c[0] in {"socket", "personality"}],
    )
    def test_conditional_calls(self, name: str, arguments: tuple[int, ...], allowed: bool) -> None:
        code = in_the_kernel(NUMBERS[HERE][name], arguments)
        if allowed:
            assert code in {0, errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT}
        else:
            assert code == (errno.EAFNOSUPPORT if name == "socket" else errno.EPERM)

    @pytest.mark.skipif(HERE != "x86_64", reason="x32 is a mode of x86_64")
    def test_an_x32_call_kills(self) -> None:
        assert in_the_kernel(0x40000000 | 39, ()) == -signal.SIGSYS
