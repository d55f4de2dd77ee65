"""Which epochs of the tournament's contract a repository fits, by what it reads, writes and takes.

E1 (July 2025) has no licence and another output path; E2 to E4 differ in folders, types of images and keys.
"""

from collections.abc import Iterator
from dataclasses import dataclass

EPOCHS = ("E1", "E2", "E3", "E4")
IMAGE_TYPES = {
    "E1": frozenset({"sdxl", "flux"}),
    "E2": frozenset({"sdxl", "flux"}),
    "E3": frozenset({"sdxl", "flux", "z-image", "qwen-image"}),
    "E4": frozenset({"flux", "z-image", "qwen-image", "ideogram4", "krea2"}),
}
OLD_OUTPUT, OUTPUT = "workspace/axolotl/outputs", "app/checkpoints"


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochFacts:
    """What tells epochs apart. `words` are those of python_code.CONTRACT_WORDS that the entry script reaches.

    `near_words` are those in the entry script itself; `image_types` is None if its parser does not name them.
    """

    kind: str  # text or image
    dockerfile: str
    words: frozenset[str]
    near_words: frozenset[str]
    image_types: frozenset[str] | None
    takes_environment: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The epochs that fit, and why the others do not."""

    epochs: tuple[str, ...]
    reason: str


def fit_epochs(served: tuple[EpochFacts, ...], *, has_licence: bool) -> Fit:
    """The epochs in which each kind of task that the repository serves finds one Dockerfile that fits."""
    if not served:
        return Fit(
            epochs=(), reason="no Dockerfile of the contract leads to an entry script that can be read"
        )
    against = {epoch: list(_against_all(epoch, served)) for epoch in EPOCHS}
    fitting = tuple(epoch for epoch in EPOCHS if not against[epoch])
    if fitting == ("E1",):
        licence = "it has a licence" if has_licence else "no licence, as in E1"
        return Fit(epochs=fitting, reason=f"{licence}; {'; '.join(against['E4'][:1])}")
    told = [f"not {epoch}: {against[epoch][0]}" for epoch in EPOCHS if against[epoch]]
    return Fit(epochs=fitting, reason="; ".join(told))


def _against_all(epoch: str, served: tuple[EpochFacts, ...]) -> Iterator[str]:
    for kind in sorted({facts.kind for facts in served}):
        reasons = [list(_against(epoch, facts)) for facts in served if facts.kind == kind]
        if all(reasons):
            yield reasons[0][0]


def _against(epoch: str, facts: EpochFacts) -> Iterator[str]:
    """Reasons why what `facts` tells does not fit `epoch`."""
    if facts.dockerfile.startswith("ops/") and epoch != "E4":
        yield f"{facts.dockerfile} is looked for since E4"
    if facts.kind == "image":
        yield from _against_image(epoch, facts)
        return
    writes_old = _writes_old(facts)
    if writes_old is None:
        yield "where it writes its result could not be read"
    elif writes_old and epoch != "E1":
        yield f"it writes to /{OLD_OUTPUT}, as in E1"
    elif not writes_old and epoch == "E1":
        yield f"it writes to /{OUTPUT}"
    if facts.takes_environment:
        wanted = {"E3": "environment_name", "E4": "environment_names"}.get(epoch)
        if wanted is None:
            yield "environment tasks come with E3"
        elif _environment_key(facts.words) not in {"", wanted}:
            yield f"it reads {_environment_key(facts.words)}, the task says {wanted}"


def _against_image(epoch: str, facts: EpochFacts) -> Iterator[str]:
    if epoch == "E1" and "_tourn.zip" in facts.words:
        yield "it reads {task}_tourn.zip"
    elif epoch != "E1" and "_tourn.zip" not in facts.words and OLD_OUTPUT in facts.words:
        yield "it reads {task}.zip, as in E1"
    if facts.image_types is not None and not facts.image_types & IMAGE_TYPES[epoch]:
        yield f"it takes none of the types {', '.join(sorted(IMAGE_TYPES[epoch]))}"
    is_toolkit = facts.dockerfile.endswith("-toolkit-trainer.dockerfile")
    if is_toolkit and epoch in {"E1", "E2"}:
        yield f"{facts.dockerfile} is looked for since E3"


def _writes_old(facts: EpochFacts) -> bool | None:
    """Whether the result goes where E1 wants it; the entry script's own words count before those it imports."""
    for words in (facts.near_words, facts.words):
        if OUTPUT in words:
            return False
        if OLD_OUTPUT in words:
            return True
    return None


def _environment_key(words: frozenset[str]) -> str:
    # The longer word holds the shorter one, so its text is in both.
    if "environment_names" in words:
        return "environment_names"
    return "environment_name" if "environment_name" in words else ""
