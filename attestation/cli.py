"""assay-verify: check evidence offline. Exit codes: 0 verified, 1 failed, 2 usage, 3 cannot decide."""

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from attestation import __version__
from attestation.bundle import MAX_BUNDLE_BYTES, parse_bundle
from attestation.checkpoint import MAX_NOTE_BYTES
from attestation.claims import split_lines
from attestation.digest import parse_sha256_hex
from attestation.errors import AttestationError, locating
from attestation.expectations import Expectations
from attestation.files import hash_folder, read_file, read_folder, read_pack
from attestation.report import Outcome, render_json, render_text
from attestation.statement import parse_statement
from attestation.times import parse_time
from attestation.tlogproof import MAX_PROOF_BYTES, parse_consistency
from attestation.trust import parse_trust
from attestation.verify import verify_evidence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # ✓ on a terminal that has no such letter
    options = _parser().parse_args(argv)
    try:
        return _inspect(options.file) if options.command == "inspect" else _report(options)
    except BrokenPipeError:
        # Whoever reads our output has seen enough, but not been told the outcome: never "verified".
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  python flushes it once more at exit
        return 3


def _report(options: argparse.Namespace) -> int:
    outcome = _verify(options)
    if not options.quiet:
        sys.stdout.write(render_json(outcome) if options.output == "json" else render_text(outcome))
        sys.stdout.flush()
    return outcome.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="assay-verify",
        description="Check Assay's evidence offline: no network, no database, no trust in the sender.",
        epilog="Exit codes: 0 verified, 1 failed, 2 usage, 3 cannot decide. Only 0 means yes.",
    )
    parser.add_argument("--version", action="version", version=f"assay-verify {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    evidence = commands.add_parser("evidence", help="check an evidence folder")
    evidence.add_argument("evidence", type=Path, metavar="DIR", help="the evidence folder")
    _add_options(evidence)
    model = commands.add_parser("model", help="check that a model folder is the one the evidence is about")
    model.add_argument("model", type=Path, metavar="DIR", help="the model folder")
    model.add_argument("--evidence", type=Path, metavar="DIR", required=True, help="its evidence folder")
    _add_options(model)
    inspect = commands.add_parser(
        "inspect", help="show what a bundle or claims.jsonl says, WITHOUT checking it"
    )
    inspect.add_argument("file", type=Path, metavar="FILE", help="a bundle, or bundles one per line")
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    trust = parser.add_mutually_exclusive_group(required=True)
    trust.add_argument(
        "--trust-sha256", type=_sha256, metavar="HEX", help="pin of the evidence's own trust folder"
    )
    trust.add_argument("--trust", type=Path, metavar="DIR", help="a trust folder of your own, used instead")
    for name in ("champion", "base-model", "dataset", "policy"):
        parser.add_argument(
            f"--expect-{name}", type=_sha256, metavar="HEX", help=f"the {name}'s root digest must be this one"
        )
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="the newest log head you have seen")
    parser.add_argument(
        "--consistency", type=Path, metavar="FILE", help="proof that the log grew from that head to this one"
    )
    parser.add_argument("--at", type=_time, metavar="RFC3339", help="check as of this moment, default now")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="default text")
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing, only the exit code")


def _sha256(text: str) -> str:
    try:
        return parse_sha256_hex(text)
    except AttestationError as error:
        raise argparse.ArgumentTypeError(error.message) from error


def _time(text: str) -> datetime:
    try:
        return parse_time(text)
    except AttestationError as error:
        raise argparse.ArgumentTypeError(error.message) from error


def _verify(options: argparse.Namespace) -> Outcome:
    now, folder = options.at or datetime.now(UTC), str(options.evidence)
    try:
        with locating("input", file="command line"):
            expected = _expectations(options)
            trust = options.trust_sha256 or parse_trust(read_folder(options.trust))
        verified = verify_evidence(read_pack(options.evidence), trust=trust, expected=expected, now=now)
    except AttestationError as error:
        return Outcome(folder=folder, now=now, error=error)
    return Outcome(folder=folder, now=now, verified=verified)


def _expectations(options: argparse.Namespace) -> Expectations:
    checkpoint = consistency = None
    if options.checkpoint is not None:
        checkpoint = read_file(options.checkpoint, limit=MAX_NOTE_BYTES)
    if options.consistency is not None:
        with locating("input", file=str(options.consistency)):
            consistency = parse_consistency(read_file(options.consistency, limit=MAX_PROOF_BYTES))
    return Expectations(
        model_files=hash_folder(options.model) if options.command == "model" else None,
        champion=options.expect_champion,
        base_model=options.expect_base_model,
        dataset=options.expect_dataset,
        policy=options.expect_policy,
        checkpoint=checkpoint,
        consistency=consistency,
    )


def _inspect(file: Path) -> int:
    try:
        data = read_file(file, limit=MAX_BUNDLE_BYTES)
        shown = [_decoded(line) for line in split_lines(data if data.endswith(b"\n") else data + b"\n")]
    except AttestationError as error:
        print(f"cannot decode: {error}", file=sys.stderr)
        return Outcome(folder=str(file), now=datetime.now(UTC), error=error).exit_code
    print("UNVERIFIED: decoded only; no signature was checked.", file=sys.stderr)
    print(json.dumps({"verified": False, "bundles": shown}, indent=1))
    return 0


def _decoded(line: bytes) -> dict[str, object]:
    bundle = parse_bundle(line)
    statement = parse_statement(bundle.payload)
    return {
        "key": bundle.hint,
        "predicateType": statement.predicate_type,
        "subjects": {subject.name: subject.sha256 for subject in statement.subjects},
        "predicate": statement.predicate,
    }
