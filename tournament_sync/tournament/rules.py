"""The findings that a comparison with the tournament's API can have: how bad, and why it matters.

High is a disagreement: somebody errs or lies. Medium and low are what could not be compared.
"""

from collections.abc import Mapping
from typing import Final

from tournament_sync.inspection.report import Severity

RULES: Final[Mapping[str, tuple[Severity, str]]] = {
    "tournament-name": (
        Severity.HIGH,
        "the repository has no name that the tournament gives, so nothing could be compared",
    ),
    "tournament-not-compared": (
        Severity.MEDIUM,
        "named after a tournament, but nobody compared it with what the tournament's API says",
    ),
    "tournament-id": (
        Severity.HIGH,
        "the name, the API's answer and its entry speak of different tournaments",
    ),
    "tournament-type": (Severity.HIGH, "the name and the API disagree on what the champion trains"),
    "tournament-status": (
        Severity.HIGH,
        "the tournament is not completed: who won may still change, or was never decided",
    ),
    "tournament-secret": (
        Severity.MEDIUM,
        "the API handed out a token with which private repositories can be read; it was not kept",
    ),
    "tournament-no-participant": (Severity.HIGH, "the API knows no participant whose repository this is"),
    "tournament-several-participants": (
        Severity.HIGH,
        "the API names more than one participant as the one whose repository this is",
    ),
    "tournament-duplicate": (
        Severity.HIGH,
        "published as evidence of a copied entry, which was thrown out, not as a winner",
    ),
    "tournament-title-defended": (
        Severity.INFO,
        "the champion before defended its title; what competed was the head of a branch at that time",
    ),
    "tournament-position": (Severity.HIGH, "the name and the API disagree on the position"),
    "tournament-position-unknown": (Severity.LOW, "the API tells no position: only the name does"),
    "tournament-winner": (Severity.HIGH, "who the API says has won is not who was published as the winner"),
    "tournament-winner-unknown": (Severity.MEDIUM, "the API tells no winner, so it could not be compared"),
    "tournament-eliminated": (Severity.MEDIUM, "the API says of the winner that it was eliminated"),
    "tournament-commit": (
        Severity.HIGH,
        "the commit that the published one claims to come from is not the commit that competed",
    ),
    "tournament-commit-unknown": (
        Severity.MEDIUM,
        "the commit's message or the API names no commit that competed, so it could not be compared",
    ),
    "tournament-repository": (Severity.HIGH, "the tournament published this participant elsewhere"),
    "tournament-repository-unknown": (
        Severity.MEDIUM,
        "the API names no published repository, so where this was taken from could not be compared",
    ),
    "tournament-origin": (
        Severity.MEDIUM,
        "taken from another place than where the tournament published it, under the same name",
    ),
}
