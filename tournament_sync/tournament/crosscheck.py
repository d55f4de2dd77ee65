"""Compares what the tournament's API says with a repository that was taken in; decides nothing.

Covered: name, tournament, state, participant, hotkey, position, commit, published repository, winner.
Not covered: whether the API tells the truth, for nothing of it is signed; the published tree against the
competed one, for the tournament records no tree.
"""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from tournament_sync.champion import TournamentFacts
from tournament_sync.inspection.report import MAX_FOUND_CHARS, Finding, Severity, sorted_findings
from tournament_sync.tournament.details import Participant, TournamentDetails, TournamentStatus
from tournament_sync.tournament.repository_name import RepositoryName, parse_repository_name
from tournament_sync.tournament.rules import RULES

# Under this hotkey the defending champion competes. Source: G.O.D, validator/scoring/constants.py.
EMISSION_BURN_HOTKEY = "5GU4Xkd3dCGTU3s8VLcHGc5wsD5M8XyxDca5yDQhYm1mVXFu"

_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)
_USER = re.compile(r"//[^/\s]*@")


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossCheck:
    """`facts` only if exactly one participant matches and nothing that was compared disagrees."""

    facts: TournamentFacts | None
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Match:
    """A participant, and by what it is the one whose repository this is."""

    participant: Participant
    by: tuple[str, ...]


def crosscheck(
    details: TournamentDetails, *, repository: str, commit: str, competed_commit: str | None, origin: str
) -> CrossCheck:
    """What `details` says about the repository of that name, and each point where they disagree.

    `commit` is the published commit, `competed_commit` the 8 digits that its message tells, `origin` the URL
    it was taken from. A finding of high severity is a disagreement; "could not be compared" is a finding too.
    """
    name = parse_repository_name(repository)
    if name is None:
        return _done(None, [_finding("tournament-name", repository)])
    findings = _tournament(details, name)
    if details.tournament_id != name.tournament_id:
        return _done(None, findings)
    matches = _matches(details, name, repository)
    if len(matches) != 1:
        return _done(None, [*findings, _not_one(details, matches, competed_commit)])
    participant = matches[0].participant
    findings += _entry(details, participant)
    findings += _position(details, participant, name)
    findings += _commit(participant, commit=commit, competed_commit=competed_commit)
    findings += _repository(participant, repository=repository, origin=origin)
    if name.position is None:
        return _done(None, findings)
    facts = TournamentFacts(
        tournament_id=details.tournament_id,
        position=name.position,
        hotkey=participant.hotkey,
        competed_commit=_full_commit(participant),
    )
    return _done(facts, findings)


def not_compared(repository: str) -> Finding | None:
    """That nobody compared the repository of that name; None if no tournament gives such a name."""
    if parse_repository_name(repository) is None:
        return None
    return _finding("tournament-not-compared", repository)


def _done(facts: TournamentFacts | None, findings: list[Finding]) -> CrossCheck:
    if any(finding.severity.rank >= Severity.HIGH.rank for finding in findings):
        facts = None
    return CrossCheck(facts=facts, findings=sorted_findings(findings))


def _tournament(details: TournamentDetails, name: RepositoryName) -> list[Finding]:
    findings = []
    if details.tournament_id != name.tournament_id:
        findings.append(
            _finding("tournament-id", f"name: {name.tournament_id}, API: {details.tournament_id}")
        )
    if details.tournament_type is not name.channel:
        findings.append(_finding("tournament-type", f"name: {name.channel}, API: {details.tournament_type}"))
    if details.status is not TournamentStatus.COMPLETED:
        findings.append(_finding("tournament-status", details.status.value))
    leaked = [participant.hotkey for participant in details.participants if participant.had_github_token]
    if leaked:
        findings.append(_finding("tournament-secret", f"github_token of {', '.join(leaked)}"))
    return findings


def _matches(details: TournamentDetails, name: RepositoryName, repository: str) -> list[_Match]:
    """Whoever is named by anything but the commit, which several may have: duplicates do."""
    matches = []
    for participant in details.participants:
        signs = {
            "backup_repo": _repository_name(participant.backup_repo) == repository,
            "final_position": name.position is not None and participant.final_position == name.position,
            "hotkey": name.hotkey8 is not None and participant.hotkey[:8].lower() == name.hotkey8,
            "winner_hotkey": name.position == 1 and participant.hotkey in _winners(details),
        }
        by = tuple(sign for sign, holds in signs.items() if holds)
        if by:
            matches.append(_Match(participant=participant, by=by))
    return matches


def _winners(details: TournamentDetails) -> tuple[str, ...]:
    """The entries under which the winner may stand: a defender is entered under the burn hotkey."""
    if details.winner_hotkey is None:
        return ()
    if details.winner_hotkey == details.base_winner_hotkey:
        return (details.winner_hotkey, EMISSION_BURN_HOTKEY)
    return (details.winner_hotkey,)


def _not_one(details: TournamentDetails, matches: list[_Match], competed_commit: str | None) -> Finding:
    if matches:
        told = "; ".join(f"{match.participant.hotkey} by {', '.join(match.by)}" for match in matches)
        return _finding("tournament-several-participants", told)
    same = [
        participant.hotkey
        for participant in details.participants
        if competed_commit is not None and (_full_commit(participant) or "").startswith(competed_commit)
    ]
    told = f"none of {len(details.participants)}; with its commit: {', '.join(same) or 'none'}"
    return _finding("tournament-no-participant", told)


def _entry(details: TournamentDetails, participant: Participant) -> list[Finding]:
    findings = []
    if participant.tournament_id != details.tournament_id:
        findings.append(
            _finding("tournament-id", f"API: {details.tournament_id}, entry: {participant.tournament_id}")
        )
    if participant.hotkey == EMISSION_BURN_HOTKEY:
        defender = details.base_winner_hotkey or "somebody whom the API does not name"
        findings.append(_finding("tournament-title-defended", f"{participant.hotkey} is {defender}"))
    return findings


def _position(details: TournamentDetails, participant: Participant, name: RepositoryName) -> list[Finding]:
    if name.position is None:
        return [_finding("tournament-duplicate", f"hotkey {participant.hotkey}")]
    findings = []
    if participant.final_position is None:
        findings.append(_finding("tournament-position-unknown", f"name: {name.position}, API: nothing"))
    elif participant.final_position != name.position:
        told = f"name: {name.position}, API: {participant.final_position}"
        findings.append(_finding("tournament-position", told))
    if details.winner_hotkey is None:
        findings.append(_finding("tournament-winner-unknown", "winner_hotkey: nothing"))
    elif (participant.hotkey in _winners(details)) != (name.position == 1):
        told = f"position {name.position}: {participant.hotkey}, winner: {details.winner_hotkey}"
        findings.append(_finding("tournament-winner", told))
    if name.position == 1 and participant.eliminated_in_round_id is not None:
        findings.append(_finding("tournament-eliminated", participant.eliminated_in_round_id))
    return findings


def _commit(participant: Participant, *, commit: str, competed_commit: str | None) -> list[Finding]:
    full = _full_commit(participant)
    if full == commit:
        return []  # not republished: taken at the very commit that competed
    message = "nothing" if competed_commit is None else competed_commit
    told = f"message: {message}, API: {participant.training_commit_hash or 'nothing'}"
    if full is None or competed_commit is None:
        return [_finding("tournament-commit-unknown", told)]
    if not full.startswith(competed_commit):
        return [_finding("tournament-commit", told)]
    return []


def _full_commit(participant: Participant) -> str | None:
    claimed = participant.training_commit_hash or ""
    return claimed if _COMMIT.fullmatch(claimed) else None


def _repository(participant: Participant, *, repository: str, origin: str) -> list[Finding]:
    published = participant.backup_repo
    if published is None:
        return [_finding("tournament-repository-unknown", "backup_repo: nothing")]
    told = f"taken from: {origin}, API: {published}"
    if _repository_name(published) != repository:
        return [_finding("tournament-repository", told)]
    if _location(published) != _location(origin):
        return [_finding("tournament-origin", told)]
    return []


def _repository_name(url: str | None) -> str | None:
    return None if url is None else url.rstrip("/").rpartition("/")[2].removesuffix(".git")


def _location(url: str) -> str:
    """What two spellings of one repository's URL have in common."""
    try:
        parts = urlsplit(url)
    except ValueError:  # of a bracket in the host
        return url
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/').removesuffix('.git')}"


def _finding(rule: str, found: str) -> Finding:
    severity, why = RULES[rule]
    shown = ascii(_USER.sub("//", found))[1:-1]
    return Finding(rule=rule, severity=severity, file="", line=0, found=shown[:MAX_FOUND_CHARS], why=why)
