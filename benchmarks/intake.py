"""What intake and inspection of a champion cost: 5,000 files, 100 MB, one core, beside `git clone` + `sha256sum`.

Each round runs, in this order and on the same core:

  clone        `git clone` of the repository (local, so git links its objects and copies nothing)
  sha256sum    `sha256sum` of every file of that clone
  intake       the commit into a quarantine folder: read, written, hashed both ways, verified, flushed to disk
  inspect      the inspection report of what was taken
  compare      the diff with the same champion after one file in fifty was changed
  sync again   a pass over a signed feed with that champion when there is nothing new: everything verified, offers and
               revocations read; in a folder, and over HTTP on loopback with the number of requests that it took

The ratio is (intake + inspect) / (clone + sha256sum). Inspection parses every Python file, so its time follows how
much of the repository is Python: by default 500 files of 16 KB, more than twice the largest champion that was read
(173 files, 3.5 MB); `--python-files` changes that. The rest is JSON, and a hundred binaries of 400 KB.

Prints one Markdown table with the load before each round. Nothing else should run on the machine.
"""

import argparse
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import monotonic

from appliance.keys.file import create_claim_key
from attestation.checkpoint import format_vkey
from attestation.trust import Role, TrustedKey, TrustRoot
from tournament_sync.champion import Channel, ContractEpoch, open_release
from tournament_sync.diff import compare
from tournament_sync.feed.client import FeedSource
from tournament_sync.feed.keys import ROOT_FILE
from tournament_sync.feed.publish_tree import publish_tree
from tournament_sync.feed.serve import feed_server
from tournament_sync.inspection.report import InspectionReport
from tournament_sync.inspection.run import inspect_tree
from tournament_sync.intake import take_git, take_tree
from tournament_sync.release import ReleaseFacts, Taken
from tournament_sync.sync import sync_once

FILES, SIZE_BYTES = 5_000, 100_000_000
PYTHON_FILES, PYTHON_BYTES = 500, 16_000
BINARIES, BINARY_BYTES = 100, 400_000
CHANGED_ONE_IN = 50
NAME = "god-text-tourn-00112233aabbccdd-20261101-position-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A repository with the champion, a feed with it, and the same champion changed.

    `states` is where clients of the feed remember what they saw.
    """

    repository: Path
    commit: str
    changed: Taken
    feed: Path
    root: bytes
    states: Path
    known: dict[str, str]
    trust: TrustRoot


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """The feed over HTTP on loopback; `asked` grows by each request."""

    url: str
    asked: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Seconds of each step; `load` is the machine's one-minute load before the round.

    `requests` is how many `sync_again_http` took.
    """

    load: float
    clone: float
    sha256sum: float
    intake: float
    inspect: float
    compare: float
    sync_again: float
    sync_again_http: float
    requests: int

    @property
    def ratio(self) -> float:
        return (self.intake + self.inspect) / (self.clone + self.sha256sum)


def main() -> None:
    parser = argparse.ArgumentParser(description="The cost of taking a champion in.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=FILES)
    parser.add_argument("--size", type=int, default=SIZE_BYTES, help="bytes of all files together")
    parser.add_argument("--python-files", type=int, default=PYTHON_FILES)
    asked = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # children too
    with tempfile.TemporaryDirectory(prefix="assay-intake-") as folder:
        say("making the repository")
        site = prepare(
            Path(folder), files=asked.files, size_bytes=asked.size, python_files=asked.python_files
        )
        rounds = []
        with served(site.feed) as mirror:
            for location in (site.feed, mirror.url):  # the first look of each client, not counted
                sync_again(site, location, quarantine=Path(folder))
            for number in range(asked.rounds):
                say(f"round {number + 1} of {asked.rounds}")
                rounds.append(measure(site, mirror, Path(folder) / f"round-{number}"))
    print(table(rounds))


def prepare(folder: Path, *, files: int, size_bytes: int, python_files: int) -> Site:
    """Make the champion, commit it, publish it, and take a changed one in."""
    tree, feed, keys = folder / "tree", folder / "feed", folder / "keys"
    write_champion(tree, files=files, size_bytes=size_bytes, python_files=python_files)
    now = datetime.now(tz=UTC).replace(microsecond=0)
    signer = create_claim_key(folder / "publisher.key")
    facts = ReleaseFacts(name=NAME, channel=Channel.TEXT, contract_epoch=ContractEpoch.E4)
    publish_tree(tree, feed, keys=keys, facts=facts, signer=signer, now=now)
    root = (keys / ROOT_FILE).read_bytes()
    key = TrustedKey(
        key_id=signer.key_id, pem=signer.public_pem, role=Role.PUBLISHER, name="publisher", valid_from=now
    )
    trust = TrustRoot(keys=(key,), log_vkey=format_vkey("assay.test/log", bytes(32)))
    (offer,) = FeedSource(feed, state=folder / "publisher", root=root).offers()
    champion = open_release(offer, trust=trust, now=now)
    commit = commit_tree(tree, folder / "repository.git")
    for path in sorted(tree.rglob("*.py"))[::CHANGED_ONE_IN]:
        path.write_text(path.read_text().replace("return total", "return -total", 1))
    return Site(
        repository=folder / "repository.git",
        commit=commit,
        changed=take_tree(tree, into=folder / "changed"),
        feed=feed,
        root=root,
        states=folder / "states",
        known={NAME: champion.manifest_root},
        trust=trust,
    )


def write_champion(tree: Path, *, files: int, size_bytes: int, python_files: int) -> None:
    """The same bytes each time; JSON files fill up what Python and binaries leave."""
    rng = random.Random(20261101)
    others = files - BINARIES - python_files
    of_json = (size_bytes - BINARIES * BINARY_BYTES - python_files * PYTHON_BYTES) // others
    for number in range(files - BINARIES):
        is_python = number * python_files % (files - BINARIES) < python_files
        path = tree / f"part{number // 100:03}" / f"file{number:05}.{'py' if is_python else 'json'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(python_text(rng, PYTHON_BYTES) if is_python else json_text(rng, of_json))
    for number in range(BINARIES):
        (tree / f"image{number:03}.bin").write_bytes(rng.randbytes(BINARY_BYTES))


def commit_tree(tree: Path, repository: Path) -> str:
    """The id of the one commit of the bare repository `repository`, made of `tree`."""
    git = ("git", f"--git-dir={repository}", f"--work-tree={tree}", "-c", "core.bare=false")
    who = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@assay.invalid")
    run("git", "init", "--quiet", "--bare", "--initial-branch=main", str(repository))
    run(*git, "add", "--all", ".")
    run(*git, *who, "commit", "--quiet", "--message", "benchmark")
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return head.stdout.strip()


def python_text(rng: random.Random, size_bytes: int) -> str:
    """Valid Python of about that size."""
    functions, length = ["import math\n"], 0
    while length < size_bytes:
        word = f"{rng.getrandbits(64):016x}"
        functions.append(
            f"\n\ndef step_{word}(rows, rate={rng.random():.6f}):\n"
            f'    """Weigh the rows by {word}."""\n'
            f"    total = 0.0\n"
            f"    for index, row in enumerate(rows):\n"
            f"        total += math.sqrt(abs(row)) * rate / (index + {rng.randrange(1, 99)})\n"
            f"    return total\n"
        )
        length += len(functions[-1])
    return "".join(functions)


def json_text(rng: random.Random, size_bytes: int) -> str:
    """One array of numbers of about that size."""
    return "[" + ", ".join(f"{rng.random():.12f}" for _ in range(size_bytes // 16)) + "]\n"


@contextmanager
def served(feed: Path) -> Iterator[Mirror]:
    """The feed as `assay feed serve-dir` serves it."""
    server, asked = feed_server(feed, host="127.0.0.1", port=0), list[str]()

    class Counting(server.RequestHandlerClass):  # type: ignore[misc,name-defined]  # a class made at run time
        def parse_request(self) -> bool:
            is_parsed = bool(super().parse_request())
            asked.append(self.path)
            return is_parsed

    server.RequestHandlerClass = Counting
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Mirror(url=f"http://127.0.0.1:{server.server_port}", asked=asked)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def measure(site: Site, mirror: Mirror, folder: Path) -> Round:
    """One round in `folder`, which is removed afterwards."""
    folder.mkdir()
    load = os.getloadavg()[0]
    clone, taken_dir = folder / "clone", folder / "taken"
    clone_s = timed(lambda: run("git", "clone", "--quiet", str(site.repository), str(clone)))
    sums_s = timed(lambda: sha256sum(clone))
    taken: list[Taken] = []
    intake_s = timed(lambda: taken.append(take_git(str(site.repository), site.commit, into=taken_dir)))
    inspect_s, compare_s = inspect_and_compare(taken[0], site.changed)
    again_s = timed(lambda: sync_again(site, site.feed, quarantine=folder))
    asked_before = len(mirror.asked)
    http_s = timed(lambda: sync_again(site, mirror.url, quarantine=folder))
    shutil.rmtree(folder)
    return Round(
        load=load,
        clone=clone_s,
        sha256sum=sums_s,
        intake=intake_s,
        inspect=inspect_s,
        compare=compare_s,
        sync_again=again_s,
        sync_again_http=http_s,
        requests=len(mirror.asked) - asked_before,
    )


def inspect_and_compare(taken: Taken, changed: Taken) -> tuple[float, float]:
    """Seconds of the inspection of `taken`, and of its diff with `changed`, reports at hand."""
    reports = []
    inspect_s = timed(lambda: reports.append(inspected(taken)))
    reports.append(inspected(changed))
    new, old = reports
    return inspect_s, timed(lambda: compare(changed.folder, taken.folder, old=old, new=new))


def inspected(taken: Taken) -> InspectionReport:
    return inspect_tree(taken.folder, manifest_sha256=taken.manifest.root_sha256)


def sha256sum(tree: Path) -> None:
    files = [str(path) for path in tree.rglob("*") if path.is_file() and ".git" not in path.parts]
    run("sha256sum", *files)


def sync_again(site: Site, location: str | Path, *, quarantine: Path) -> None:
    """A pass by a client of its own for each kind of location, as a new process begins it."""
    state = site.states / ("folder" if isinstance(location, Path) else "http")
    state.mkdir(parents=True, exist_ok=True)
    source = FeedSource(location, state=state, root=site.root)
    report = sync_once(
        source,
        known=site.known,
        quarantine=quarantine,
        trust=site.trust,
        now=datetime.now(tz=UTC),
    )
    assert report.known == (NAME,), report
    assert source.revocations() == ()
    source.close()


def table(rounds: list[Round]) -> str:
    """The measurements as Markdown, medians last."""
    steps = ("clone", "sha256sum", "intake", "inspect", "compare", "sync_again", "sync_again_http")
    lines = [
        f"{platform.machine()}, one of {os.cpu_count()} cores, Python {platform.python_version()},"
        f" kernel {platform.release()}",
        "",
        "| round (load) | clone s | sha256sum s | intake s | inspect s | ratio | compare s |"
        " sync again: folder s | HTTP s (requests) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    rows = [(f"{number} ({each.load:.2f})", each) for number, each in enumerate(rounds, start=1)]
    middle = {step: median(getattr(each, step) for each in rounds) for step in steps}
    rows.append(("median", Round(load=0.0, requests=max(each.requests for each in rounds), **middle)))
    for title, each in rows:
        ratio = median(one.ratio for one in rounds) if title == "median" else each.ratio
        lines.append(
            f"| {title} | {each.clone:.2f} | {each.sha256sum:.2f} | {each.intake:.2f} | {each.inspect:.2f} |"
            f" {ratio:.2f} | {each.compare:.2f} | {each.sync_again:.3f} |"
            f" {each.sync_again_http:.3f} ({each.requests}) |"
        )
    return "\n".join(lines)


def timed(step: Callable[[], object]) -> float:
    began = monotonic()
    step()
    return monotonic() - began


def run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
