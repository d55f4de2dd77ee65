"""Each disagreement between the tournament's API and a repository is a finding, and none is resolved."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tournament_sync.tournament_server import (
    ORIGIN,
    REPOSITORY,
    RUNNER_UP,
    TOURNAMENT_ID,
    TRAINED,
    WINNER,
    details,
    participant,
)
from tournament_sync.champion import TournamentFacts
from tournament_sync.inspection.report import MAX_FOUND_CHARS, Severity, sorted_findings
from tournament_sync.tournament.crosscheck import EMISSION_BURN_HOTKEY, CrossCheck, crosscheck, not_compared
from tournament_sync.tournament.details import parse_details
from tournament_sync.tournament.rules import RULES

PUBLISHED = "c" * 40
DEFENDER = "5" + "B" * 47
SECOND = REPOSITORY.replace("position-1", "position-2")
FACTS = TournamentFacts(tournament_id=TOURNAMENT_ID, position=1, hotkey=WINNER, competed_commit=TRAINED)


def check(answer: dict[str, object] | None = None, **changes: object) -> CrossCheck:
    given_ = {
        "repository": REPOSITORY,
        "commit": PUBLISHED,
        "competed_commit": TRAINED[:8],
        "origin": ORIGIN,
        **changes,
    }
    return crosscheck(parse_details(json.dumps(answer or details()).encode()), **given_)  # type: ignore[arg-type]


def winner_row(**changes: object) -> dict[str, object]:
    row = {"final_position": 1, "training_commit_hash": TRAINED, "backup_repo": ORIGIN, **changes}
    return participant(str(row.pop("hotkey", WINNER)), **row)


def with_winner(**changes: object) -> dict[str, object]:
    return details(participants=[winner_row(**changes)])


def rules(found: CrossCheck) -> list[str]:
    return [finding.rule for finding in found.findings]


def told(found: CrossCheck, rule: str) -> str:
    (text,) = (finding.found for finding in found.findings if finding.rule == rule)
    return text


def test_agreement_gives_facts_and_no_finding() -> None:
    assert check() == CrossCheck(facts=FACTS, findings=())


def test_runner_up_is_found_at_its_position() -> None:
    origin = ORIGIN.replace("position-1", "position-2")
    found = check(repository=SECOND, competed_commit="9" * 8, origin=origin)
    assert found == CrossCheck(
        facts=TournamentFacts(
            tournament_id=TOURNAMENT_ID, position=2, hotkey=RUNNER_UP, competed_commit="9" * 40
        ),
        findings=(),
    )


# Disagreements: high, and no facts

DISAGREEMENTS = [
    ("tournament-name", {}, {"repository": "my-trainer"}, "my-trainer"),
    (
        "tournament-id",
        {"tournament_id": "tourn_ffffffffffffffff_20261101"},
        {},
        "API: tourn_ffffffffffffffff",
    ),
    (
        "tournament-id",
        with_winner(tournament_id="tourn_ffffffffffffffff_20261101"),
        {},
        "entry: tourn_ffffffffffffffff",
    ),
    ("tournament-type", {"tournament_type": "image"}, {}, "name: text, API: image"),
    ("tournament-status", {"status": "pending"}, {}, "pending"),
    ("tournament-status", {"status": "active"}, {}, "active"),
    ("tournament-status", {"status": "cancelled"}, {}, "cancelled"),
    ("tournament-no-participant", {"participants": []}, {}, "none of 0; with its commit: none"),
    ("tournament-position", with_winner(final_position=3), {}, "name: 1, API: 3"),
    ("tournament-winner", {"winner_hotkey": DEFENDER}, {}, f"position 1: {WINNER}, winner: {DEFENDER}"),
    ("tournament-commit", {}, {"competed_commit": "fedcba98"}, f"message: fedcba98, API: {TRAINED}"),
    (
        "tournament-repository",
        with_winner(backup_repo="https://github.com/gradients-opensource/other.git"),
        {},
        "API: https://github.com/gradients-opensource/other.git",
    ),
]


@pytest.mark.parametrize(("rule", "answer", "given_", "text"), DISAGREEMENTS)
def test_disagreement_is_a_high_finding_and_leaves_no_facts(
    rule: str, answer: dict[str, object], given_: dict[str, object], text: str
) -> None:
    found = check(details(**answer), **given_)
    assert rules(found) == [rule]
    assert found.findings[0].severity is Severity.HIGH
    assert text in told(found, rule)
    assert found.facts is None


def test_whoever_has_the_commit_is_told_but_not_taken() -> None:
    answer = details(participants=[participant(RUNNER_UP, training_commit_hash=TRAINED)])
    assert f"with its commit: {RUNNER_UP}" in told(check(answer), "tournament-no-participant")


def test_same_commit_does_not_make_another_participant_match() -> None:
    copier = participant(RUNNER_UP, training_commit_hash=TRAINED)
    assert check(details(participants=[copier, winner_row()])).facts == FACTS


@pytest.mark.parametrize(
    ("others", "text"),
    [
        ([participant(RUNNER_UP, final_position=1)], f"{RUNNER_UP} by final_position"),
        ([participant(RUNNER_UP, backup_repo=ORIGIN)], f"{RUNNER_UP} by backup_repo"),
        ([winner_row()], f"{WINNER} by backup_repo, final_position, winner_hotkey; {WINNER} by"),
    ],
)
def test_two_participants_that_match_are_both_told(others: list[dict[str, object]], text: str) -> None:
    found = check(details(participants=[winner_row(), *others]))
    assert rules(found) == ["tournament-several-participants"]
    assert text in told(found, "tournament-several-participants")
    assert found.facts is None


def test_published_under_one_hotkey_and_won_by_another() -> None:
    answer = details(winner_hotkey=RUNNER_UP)
    assert rules(check(answer)) == ["tournament-several-participants"]


def test_winner_published_as_second_is_a_disagreement() -> None:
    origin = ORIGIN.replace("position-1", "position-2")
    answer = with_winner(final_position=2, backup_repo=origin)
    assert rules(check(answer, repository=SECOND, origin=origin)) == ["tournament-winner"]


# What could not be compared: a finding too, and facts


@pytest.mark.parametrize(
    ("rule", "answer", "given_"),
    [
        ("tournament-position-unknown", with_winner(final_position=None), {}),
        ("tournament-winner-unknown", {"winner_hotkey": None}, {}),
        ("tournament-repository-unknown", with_winner(backup_repo=None), {}),
        ("tournament-commit-unknown", {}, {"competed_commit": None}),
        ("tournament-eliminated", with_winner(eliminated_in_round_id=f"{TOURNAMENT_ID}_round_001"), {}),
        ("tournament-origin", {}, {"origin": "tree"}),
        ("tournament-origin", {}, {"origin": f"https://github.com/somebody/{REPOSITORY}"}),
        ("tournament-origin", {}, {"origin": f"http://github.com/gradients-opensource/{REPOSITORY}"}),
        ("tournament-origin", {}, {"origin": "https://[/x"}),
    ],
)
def test_what_could_not_be_compared_is_told(
    rule: str, answer: dict[str, object], given_: dict[str, object]
) -> None:
    found = check(details(**answer), **given_)
    assert rules(found) == [rule]
    assert found.findings[0].severity in (Severity.LOW, Severity.MEDIUM)
    assert found.facts == FACTS


@pytest.mark.parametrize(
    "claimed", [None, "", "main", TRAINED[:8], TRAINED.upper(), TRAINED + "\n", "0" * 64]
)
def test_commit_that_is_none_is_no_fact(claimed: str | None) -> None:
    found = check(with_winner(training_commit_hash=claimed))
    assert rules(found) == ["tournament-commit-unknown"]
    assert found.facts is not None
    assert found.facts.competed_commit is None


def test_the_very_commit_that_competed_needs_no_message() -> None:
    assert check(commit=TRAINED, competed_commit=None) == CrossCheck(facts=FACTS, findings=())


@pytest.mark.parametrize(
    "origin",
    [
        ORIGIN,
        ORIGIN.removesuffix(".git"),
        ORIGIN.removesuffix(".git") + "/",
        ORIGIN.replace("github.com", "GitHub.com"),
    ],
)
def test_spellings_of_one_origin_agree(origin: str) -> None:
    assert check(origin=origin).findings == ()


# Defended titles, old names, duplicates


@pytest.mark.parametrize("winner", [EMISSION_BURN_HOTKEY, DEFENDER])
def test_defended_title_is_told_and_keeps_the_hotkey_of_the_answer(winner: str) -> None:
    answer = details(winner_hotkey=winner, participants=[winner_row(hotkey=EMISSION_BURN_HOTKEY)])
    found = check(answer)
    assert rules(found) == ["tournament-title-defended"]
    assert found.findings[0].severity is Severity.INFO
    assert told(found, "tournament-title-defended") == f"{EMISSION_BURN_HOTKEY} is {DEFENDER}"
    assert found.facts is not None
    assert found.facts.hotkey == EMISSION_BURN_HOTKEY


def test_defender_without_a_name_is_told() -> None:
    answer = details(
        winner_hotkey=EMISSION_BURN_HOTKEY,
        base_winner_hotkey=None,
        participants=[winner_row(hotkey=EMISSION_BURN_HOTKEY)],
    )
    assert told(check(answer), "tournament-title-defended").endswith("is somebody whom the API does not name")


def test_old_name_is_found_by_the_winner_alone() -> None:
    repository = "god-text-winner-tourn-00112233aabbccdd-20261101"
    answer = with_winner(final_position=None, backup_repo=None)
    found = check(
        answer, repository=repository, origin=f"https://github.com/gradients-opensource/{repository}"
    )
    assert rules(found) == ["tournament-repository-unknown", "tournament-position-unknown"]
    assert found.facts == FACTS


def test_duplicate_entry_is_found_by_its_hotkey_and_gives_no_facts() -> None:
    repository = f"god-text-tourn-00112233aabbccdd-20261101-dedup-{RUNNER_UP[:8].lower()}"
    origin = f"https://github.com/gradients-opensource/{repository}"
    answer = details(participants=[winner_row(), participant(RUNNER_UP, training_commit_hash=TRAINED)])
    found = check(answer, repository=repository, origin=origin)
    assert rules(found) == ["tournament-duplicate", "tournament-repository-unknown"]
    assert RUNNER_UP in told(found, "tournament-duplicate")
    assert found.facts is None


# Secrets and hostile text


def test_token_on_the_wire_is_told_without_the_token() -> None:
    answer = details(participants=[winner_row(), participant(RUNNER_UP, github_token="ghp_0123456789")])
    found = check(answer)
    assert rules(found) == ["tournament-secret"]
    assert told(found, "tournament-secret") == f"github_token of {RUNNER_UP}"
    assert "ghp_" not in repr(found)
    assert found.facts == FACTS


def test_password_in_the_origin_is_not_told() -> None:
    found = check(origin=ORIGIN.replace("https://", "https://somebody:secret@"))
    assert rules(found) == ["tournament-origin"]
    assert "secret" not in repr(found)


@given(st.text(max_size=400), st.text(max_size=400))
def test_text_of_others_is_cut_and_escaped(claimed: str, origin: str) -> None:
    found = check(with_winner(training_commit_hash=claimed.encode(errors="replace").decode()), origin=origin)
    for finding in found.findings:
        assert len(finding.found) <= MAX_FOUND_CHARS
        assert finding.found.isascii()
        assert finding.found.isprintable()


# The table of rules


def test_findings_are_about_the_whole_champion_and_in_the_order_of_reports() -> None:
    found = check(with_winner(final_position=None, backup_repo=None), competed_commit="fedcba98")
    assert {(finding.file, finding.line) for finding in found.findings} == {("", 0)}
    assert found.findings == sorted_findings(list(found.findings))


def test_what_nobody_compared_is_told() -> None:
    found = not_compared(REPOSITORY)
    assert found is not None
    assert (found.rule, found.severity, found.found) == (
        "tournament-not-compared",
        Severity.MEDIUM,
        REPOSITORY,
    )
    assert not_compared("some-winner") is None


def test_every_rule_has_a_test_above() -> None:
    """Rules are provoked by name; one that no test names is one that nobody has seen."""
    text = Path(__file__).read_text()
    assert [rule for rule in RULES if f'"{rule}"' not in text] == []


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_says_why(rule: str) -> None:
    severity, why = RULES[rule]
    assert rule.startswith("tournament-")
    assert severity is not Severity.CRITICAL
    assert 20 < len(why) < 200
