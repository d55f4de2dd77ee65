"""What becomes of champions: `assay champions adopt`, `hold`, `unhold`, `revoke`; local on the home."""

from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.options import ActorOption, ChampionArgument, HomeOption, OutputOption, read_settings
from appliance.cli.output import Format, print_json, print_table, talk

if TYPE_CHECKING:
    from appliance.assembly import Appliance
    from appliance.stopping import Stopped
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
        for reason in reasons:
            talk(f"refused  {_shortened(reason)}")
        rules = "1 rule" if len(reasons) == 1 else f"{len(reasons)} rules"
        raise AdmissionError(f"{name} is refused by {rules}", reasons=reasons)
    talk(f"{name} is adopted under policy sha256:{decision.policy_sha256}")


def hold(
    name: ChampionArgument,
    actor: ActorOption,
    reason: ReasonOption,
    home: HomeOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Let no new run start with the champion until `unhold`; runs that wait fail, runs that train go on."""
    from appliance import adoption

    appliance, champion = _opened(name, home)
    stopped = adoption.hold(appliance, champion, actor=actor, reason=reason)
    if output is Format.JSON:
        print_json({**_plain(champion, "held"), **_plain_runs(stopped)})
    talk(f"{name} is held")
    _tell_runs(stopped)


def unhold(
    name: ChampionArgument,
    actor: ActorOption,
    reason: ReasonOption,
    home: HomeOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """End a hold; the last decision before or during it counts again."""
    from appliance import adoption
    from appliance.store.engine import reading

    appliance, champion = _opened(name, home)
    adoption.release_hold(appliance, champion, actor=actor, reason=reason)
    if output is Format.JSON:
        with reading(appliance.engine) as connection:
            status = adoption.status_of(connection, champion, trust=appliance.home.trust())
        print_json(_plain(champion, status.state.value))
    talk(f"{name} is held no more")


def revoke(
    name: ChampionArgument,
    actor: ActorOption,
    reason: ReasonOption,
    home: HomeOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Never run this tree again, whatever it is called; ends its runs and names the models it trained."""
    from appliance import adoption
    from appliance.store.decisions import models_trained_with
    from appliance.store.engine import reading

    appliance, champion = _opened(name, home)
    stopped = adoption.revoke(appliance, champion, actor=actor, reason=reason)
    with reading(appliance.engine) as connection:
        models = models_trained_with(connection, champion.manifest_sha256)
    if output is Format.JSON:
        trained = [{"run": model.run_id, "model": model.model} for model in models]
        print_json({**_plain(champion, "revoked"), **_plain_runs(stopped), "models": trained})
    talk(f"{name} is revoked, under whatever name its tree comes back")
    _tell_runs(stopped)
    if models and output is Format.TEXT:
        talk("models that it trained:")
        print_table(("run", "model"), [(model.run_id, model.model) for model in models])


def _opened(name: str, home: str | None) -> "tuple[Appliance, ChampionRow]":
    from appliance.assembly import open_appliance
    from appliance.dossier import find_champion
    from appliance.store.engine import reading

    appliance = open_appliance(read_settings(home=home))
    with reading(appliance.engine) as connection:
        return appliance, find_champion(connection, name)


def _shortened(reason: str) -> str:
    """A reason that names the rules of all findings, with those of high severity and worse only; JSON has all."""
    from tournament_sync.inspection.report import Severity
    from tournament_sync.inspection.rules import RULES as INSPECTION_RULES
    from tournament_sync.tournament.rules import RULES as TOURNAMENT_RULES

    severities = {name: rule.severity for name, rule in INSPECTION_RULES.items()}
    severities |= {name: severity for name, (severity, _) in TOURNAMENT_RULES.items()}
    before, named, behind = reason.partition(", findings = ")
    if not named:
        return reason
    rules, semicolon, wanted = behind.partition(";")
    bad = [r for r in rules.split() if severities.get(r, Severity.CRITICAL).rank >= Severity.HIGH.rank]
    return f"{before}{named}{' '.join(bad)}{semicolon}{wanted}"


def _plain(champion: "ChampionRow", state: str) -> dict[str, object]:
    return {"champion": champion.name, "manifest_sha256": champion.manifest_sha256, "state": state}


def _plain_runs(stopped: "Stopped") -> dict[str, object]:
    return {"will_not_start": list(stopped.failed), "being_ended": list(stopped.cancelling)}


def _tell_runs(stopped: "Stopped") -> None:
    for run_id in stopped.failed:
        talk(f"run {run_id} will not start")
    for run_id in stopped.cancelling:
        talk(f"run {run_id} is being ended by the worker")
