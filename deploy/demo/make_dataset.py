"""Write the demo's data set: complaints to a made-up bank, and where each one belongs.

A hidden rule decides team and priority from the message, so there is something to learn and a right answer to
learn it from. Every sentence comes from the templates below; no real customer, bank or complaint is in it.
"""

import argparse
import json
import random
from dataclasses import dataclass
from pathlib import Path

DEFAULT_ROWS = 640
MIN_ROWS = 600
HIGH_AMOUNT = 500

INSTRUCTION = "Route this complaint: name the team and the priority."

OPENINGS = ("Hello.", "Good morning.", "Dear team,", "To whom it may concern,", "Hi there,", "Dear bank,")
SINCE = (
    "since Monday",
    "since last week",
    "for three days",
    "for two weeks",
    "since the update",
    "since May",
)
CLOSINGS = (
    ("Please call me back.", False),
    ("I look forward to your answer.", False),
    ("Thank you for your help.", False),
    ("Please look into it.", False),
    ("This is the third time I write.", True),
    ("I will go to the ombudsman.", True),
)
NAMES = ("Ana", "Ben", "Chidi", "Dora", "Emil", "Fatma", "Goran", "Hana", "Ines", "Jun", "Kofi", "Lena")


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """What a complaint is about, the team that answers it, and whether it is always urgent."""

    team: str
    is_urgent: bool
    sentences: tuple[str, ...]  # with {amount} and {since}


TOPICS = (
    Topic(
        team="cards",
        is_urgent=False,
        sentences=(
            "My card was charged {amount} euros twice in one shop.",
            "The machine took my card and I have had no new one {since}; a fee of {amount} euros was booked.",
            "My card is refused {since} although there are {amount} euros on it.",
        ),
    ),
    Topic(
        team="transfers",
        is_urgent=False,
        sentences=(
            "A transfer of {amount} euros has not arrived {since}.",
            "I sent {amount} euros to the wrong account and nobody answers {since}.",
            "My standing order of {amount} euros was not carried out {since}.",
        ),
    ),
    Topic(
        team="loans",
        is_urgent=False,
        sentences=(
            "The rate of my loan went up by {amount} euros a year and I was not told.",
            "I paid {amount} euros of my mortgage early and it is not on the statement {since}.",
            "My loan of {amount} euros has been waiting for a decision {since}.",
        ),
    ),
    Topic(
        team="online",
        is_urgent=False,
        sentences=(
            "I cannot log in to the app {since} and must pay a bill of {amount} euros.",
            "The web page shows an error {since} when I enter {amount} euros.",
            "The app forgot my password {since}; a bill of {amount} euros is due.",
        ),
    ),
    Topic(
        team="fraud",
        is_urgent=True,
        sentences=(
            "Somebody I do not know took {amount} euros from my account.",
            "A caller said he was the bank and I gave him a code; {amount} euros are gone.",
            "There is a payment of {amount} euros that I never made.",
        ),
    ),
)


def complaint_row(random_source: random.Random) -> dict[str, str]:
    """One complaint with its right answer.

    The rule: the topic names the team; the priority is high for fraud, for more than 500 euros, and for a
    customer who has lost patience; else it is normal.
    """
    topic = random_source.choice(TOPICS)
    amount = random_source.choice((15, 40, 85, 120, 260, 390, 640, 780, 950, 1200)) + random_source.randrange(
        9
    )
    closing, is_impatient = random_source.choice(CLOSINGS)
    sentence = random_source.choice(topic.sentences).format(amount=amount, since=random_source.choice(SINCE))
    message = f"{random_source.choice(OPENINGS)} {sentence} {closing} {random_source.choice(NAMES)}"
    is_high = topic.is_urgent or amount > HIGH_AMOUNT or is_impatient
    return {
        "instruct": INSTRUCTION,
        "input": message,
        "output": f"Team: {topic.team}. Priority: {'high' if is_high else 'normal'}.",
    }


def complaint_rows(count: int, seed: int) -> list[dict[str, str]]:
    """`count` different complaints; the same seed gives the same rows."""
    random_source = random.Random(seed)
    rows: dict[str, dict[str, str]] = {}
    while len(rows) < count:
        row = complaint_row(random_source)
        rows.setdefault(row["input"], row)
    return list(rows.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--output", type=Path, required=True, help="JSON Lines file to write")
    parser.add_argument("--rows", type=int, default=DEFAULT_ROWS, help=f"at least {MIN_ROWS}")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    if asked.rows < MIN_ROWS:
        parser.error(f"--rows is {asked.rows}; the demo needs at least {MIN_ROWS}")
    lines = (json.dumps(row, ensure_ascii=False) for row in complaint_rows(asked.rows, asked.seed))
    asked.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
