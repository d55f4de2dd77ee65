"""The gate: the guest's first process, which tells what it finds inside, waits, and becomes the guest.

It is a static program of our own choice (busybox), started before anything of the guest: no loader, shell or
preloaded library of a champion's image runs before its walls are measured. It tries what must fail (reach the
network, write to what is read-only), and prints its report on the guest's stdout, ahead of the guest's log.
Words on its standard input: `try FOLDER…`, then `go`; a closed one is a refusal.

What is covered: what the guest itself would see and could do at its first instruction, by its own attempts.
What is not covered: attempts are few and harmless; the self-check tries the rest. Under gVisor the facts are
of its own kernel. The gate stays visible to the guest as /busybox-gate.
"""

import os
import select
import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Any

from runner.errors import SandboxUnavailableError

TARGET = "/busybox-gate"  # busybox takes a name that starts so for itself, others for an applet
READY = "gate: ready"
# Only the first shows that nobody could write there: another's folder is refused to us, but not to its owner.
REASONS = ("read-only", "permission", "other")
MAX_REPORT_BYTES = 1 << 20
CHUNK_BYTES = 1 << 16
DEADLINE_S = 20.0
# RFC 5737 (TEST-NET-1), RFC 3927 (where clouds answer with credentials), RFC 3849.
ADDRESSES = ("192.0.2.1", "169.254.169.254", "2001:db8::1")

# Applets are looked up before PATH, so nothing here is a program of the guest. Each line is `kind words`.
# The guest's command is an absolute path: a bare word could name an applet.
_SCRIPT = r"""
try_writes() {
  for path; do
    if said=$( (: >>"$path/.assay-try") 2>&1 ); then
      rm -f "$path/.assay-try"; echo "gate: write $path WRITTEN"; continue
    fi
    case $said in
      *": Read-only file system") why=read-only ;;
      *": Permission denied") why=permission ;;
      *) why=other ;;
    esac
    echo "gate: write $path refused"; echo "gate: why $path $why"
  done
}
while IFS=: read -r name value; do
  case $name in
    Uid|Gid|Groups|CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp) echo "gate: status $name $value" ;;
  esac
done </proc/self/status
while read -r name rest; do
  case $name in *:*) echo "gate: interface $name $rest" ;; esac
done </proc/net/dev
read -r line </proc/self/uid_map && echo "gate: uid_map $line"
for address in @ADDRESSES@; do
  if nc -w 1 "$address" 80 </dev/null >/dev/null 2>&1
  then echo "gate: connect $address CONNECTED"; else echo "gate: connect $address refused"; fi
done
echo "gate: ready"
while read -r word paths; do
  case $word in
    try) try_writes $paths; echo "gate: ready" ;;
    go) exec "$@" </dev/null ;;
  esac
done
exit 125
"""
RELEASE = b"go\n"


def find_gate() -> str:
    """The static busybox of this host. Raises SandboxUnavailableError if there is none."""
    found = shutil.which("busybox", path="/usr/local/bin:/usr/bin:/bin")
    if found is None:
        raise SandboxUnavailableError(
            "busybox is not there; install the operating system's package 'busybox-static'"
        )
    return found


def gate_command(argv: Sequence[str]) -> tuple[str, ...]:
    """What the gate is started with; the guest's program is an absolute path."""
    return (TARGET, "sh", "-c", _SCRIPT.replace("@ADDRESSES@", " ".join(ADDRESSES)), "gate", *argv)


def try_writes(release: int, output: int, folders: Sequence[str]) -> bytes:
    """Have the gate try to write to `folders`; its report of that. Raises as `read_report`."""
    os.write(release, f"try {' '.join(folders)}\n".encode())
    return read_report(output)


def read_report(output: int) -> bytes:
    """The gate's report, up to its last line; the guest writes nothing before it is released.

    Raises SandboxUnavailableError with what was said instead, when the pipe closes or nothing comes in time.
    """
    said = b""
    deadline = time.monotonic() + DEADLINE_S
    while (left := deadline - time.monotonic()) > 0 and len(said) < MAX_REPORT_BYTES:
        if not select.select([output], [], [], left)[0]:
            break
        chunk = os.read(output, CHUNK_BYTES)
        if not chunk:
            break
        said += chunk
        if said.endswith(f"{READY}\n".encode()):
            return said
    raise SandboxUnavailableError(f"the gate did not report: {said.decode(errors='replace').strip()[-2000:]}")


def parse_report(report: bytes) -> dict[str, Any]:
    """What the gate found, as facts for the isolation claim. Raises SandboxUnavailableError if malformed."""
    status: dict[str, str] = {}
    writes: dict[str, str] = {}
    reasons: dict[str, str] = {}
    connects: dict[str, str] = {}
    interfaces: dict[str, Mapping[str, int]] = {}
    uid_map: list[int] = []
    try:
        for line in report.decode("ascii").splitlines():
            words = line.split()
            if words[:1] != ["gate:"] or words[1:] == ["ready"]:
                continue
            match words[1]:
                case "status":
                    status[words[2]] = " ".join(words[3:])
                case "interface":
                    interfaces |= _interface(words[2:])
                case "uid_map":
                    uid_map = [int(word) for word in words[2:]]
                case "write":
                    writes[words[2]] = words[3]
                case "why":
                    reasons[words[2]] = REASONS[REASONS.index(words[3])]
                case "connect":
                    connects[words[2]] = words[3]
    except (ValueError, IndexError) as error:
        raise SandboxUnavailableError(f"the gate's report is malformed: {error}") from error
    return {
        "status": status,
        "uid_map": uid_map,
        "interfaces": interfaces,
        "write_tries": writes,
        "write_reasons": reasons,
        "connect_tries": connects,
    }


def _interface(words: Sequence[str]) -> dict[str, Mapping[str, int]]:
    """One line of /proc/net/dev: received bytes are the first number, sent ones the ninth."""
    name, _, first = words[0].partition(":")
    numbers = [int(word) for word in ([first] if first else []) + list(words[1:])]
    return {name: {"received_bytes": numbers[0], "sent_bytes": numbers[8]}}
