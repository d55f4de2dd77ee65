"""What champions are, from their files alone: `assay champions inspect` and `diff`; for most, no home is needed.

Champions are the work of Gradients.io's participants (https://gradients.io).
"""

from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.candidates import Candidate, open_candidate
from appliance.cli.options import HomeOption, OutputOption
from appliance.cli.output import Format, print_bytes, print_facts, printable, write_new

CandidateArgument = Annotated[
    str,
    typer.Argument(metavar="WHAT", help="A champion here, ./FOLDER, ./ARCHIVE, or URL@COMMIT (40 digits)."),
]


def register(champions: typer.Typer) -> None:
    """Add the verbs to the noun."""
    champions.command("inspect")(inspect)
    champions.command("diff")(diff)


def inspect(
    what: CandidateArgument,
    everything: Annotated[
        bool, typer.Option("--all", help="Shorten no list: every download, table and place.")
    ] = False,
    home: HomeOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Say what a champion is and would do, from its files alone; JSON is the report, byte for byte."""
    from tournament_sync.inspection.report import encode_report
    from tournament_sync.inspection.text import SHORT, WHOLE, render_text

    with open_candidate(what, home=home) as candidate:
        if output is Format.JSON:
            print_bytes(encode_report(candidate.report))
            return
        print_facts(
            {
                "taken from": candidate.origin,
                "released": candidate.released,
                "commit": candidate.commit,
                **_claimed(candidate),
                "competed as": candidate.competed_commit,
                "git tree": candidate.tree,
                "manifest": candidate.report.manifest_sha256,
            }
        )
        print(printable(render_text(candidate.report, limits=WHOLE if everything else SHORT)), end="")


def _claimed(candidate: Candidate) -> dict[str, object]:
    """What the commit says of itself, which nobody vouches for."""
    claims = candidate.claims
    if claims is None:
        return {}
    said = {
        "author": claims.author,
        "committer": claims.committer,
        "date": claims.committed_at,
        "message": claims.subject,
    }
    return {name: f"{text}  (a claim of the repository)" for name, text in said.items() if text}


def diff(
    old: CandidateArgument,
    new: CandidateArgument,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write it as a page fragment, too.")
    ] = None,
    home: HomeOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Say what changed from one champion to another."""
    from tournament_sync.diff import compare, encode_diff
    from tournament_sync.diff.render import diff_html, diff_text

    with open_candidate(old, home=home) as before, open_candidate(new, home=home) as after:
        changes = compare(before.folder, after.folder, old=before.report, new=after.report)
    if html is not None:
        write_new(html, diff_html(changes).encode())
    if output is Format.JSON:
        print_bytes(encode_diff(changes))
    else:
        print(printable(diff_text(changes)), end="")
