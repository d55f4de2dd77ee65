"""What becomes of champions: `assay champions adopt`, `hold`, `unhold`, `revoke`; local on the home."""

from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.options import ActorOption, ChampionArgument, HomeOption, OutputOption, read_settings
from appliance.cli.output import Format, print_json, print_table, talk

if TYPE_CHECKING:
    from appliance.assembly import Appliance
    from appliance.store.champions import ChampionRow

ReasonOption = Annotated[str, typer.Option(help="Why; it becomes part of the signed decision.")]


def register(champions: typer.Typer) -> None:
    """Add the verbs to the noun."""
    champions.command("adopt")(adopt)
    champions.command("hold")(hold)
    champions.command("unhold")(unhold)
    champions.command("revoke")(revoke)


def adopt(
    name: ChampionArgument, actor: ActorOption, home: HomeOption = None, output: OutputOption = Format.TEXT
) -> None:
    """Let the policy decide whether the champion may run here; the decision is signed, whichever it is."""
    from appliance import adoption
    from appliance.errors import AdmissionError

    appliance, champion = _opened(name, home)
    decision = adoption.adopt(appliance, champion, actor=actor)
    reasons = [str(reason) for reason in decision.reasons]
    if output is Format.JSON:
        print_json({"adopted": decision.allowed, "reasons": reasons, "policy_sha256": decision.policy_sha256})
    if not decision.allowed:
        raise AdmissionError(f"{name} is refused: {'; '.join(reasons)}", reasons=reasons)
    talk(f"{name} is adopted under policy sha256:{decision.policy_sha256}")


def hold(name: ChampionArgument, actor: ActorOption, reason: ReasonOption, home: HomeOption = None) -> None:
    """Let no new run start with the champion until `unhold`; runs that wait fail, runs that train go on."""
    from appliance import adoption

    appliance, champion = _opened(name, home)
    stopped = adoption.hold(appliance, champion, actor=actor, reason=reason)
    talk(f"{name} is held")
    _tell_runs(stopped.failed, stopped.cancelling)


def unhold(name: ChampionArgument, actor: ActorOption, reason: ReasonOption, home: HomeOption = None) -> None:
    """End a hold; what was decided before it counts again."""
    from appliance import adoption

    appliance, champion = _opened(name, home)
    adoption.release_hold(appliance, champion, actor=actor, reason=reason)
    talk(f"{name} is held no more")


def revoke(name: ChampionArgument, actor: ActorOption, reason: ReasonOption, home: HomeOption = None) -> None:
    """Never run this tree again, whatever it is called; ends its runs and names the models it trained."""
    from appliance import adoption
    from appliance.store.decisions import models_trained_with
    from appliance.store.engine import reading

    appliance, champion = _opened(name, home)
    stopped = adoption.revoke(appliance, champion, actor=actor, reason=reason)
    talk(f"{name} is revoked, under whatever name its tree comes back")
    _tell_runs(stopped.failed, stopped.cancelling)
    with reading(appliance.engine) as connection:
        models = models_trained_with(connection, champion.manifest_sha256)
    if models:
        talk("models that it trained:")
        print_table(("run", "model"), [(model.run_id, model.model) for model in models])


def _opened(name: str, home: str | None) -> "tuple[Appliance, ChampionRow]":
    from appliance.assembly import open_appliance
    from appliance.dossier import find_champion
    from appliance.store.engine import reading

    appliance = open_appliance(read_settings(home=home))
    with reading(appliance.engine) as connection:
        return appliance, find_champion(connection, name)


def _tell_runs(failed: tuple[str, ...], cancelling: tuple[str, ...]) -> None:
    for run_id in failed:
        talk(f"run {run_id} will not start")
    for run_id in cancelling:
        talk(f"run {run_id} is being ended by the worker")
