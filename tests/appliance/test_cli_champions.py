"""`assay champions` on a home: what is listed and shown, and what people decide there."""

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.cli.output import progress
from appliance.store import champions
from appliance.store.champions import ChampionRow
from appliance.store.engine import reading
from tests.appliance.champion_cli import ATTRIBUTION, Site, make_site
from tests.appliance.world import APPROVER, PROPOSER, World, finding, propose
from tournament_sync.inspection.report import Severity

NAME = "god-text-reference"
SAID = ("--as", APPROVER, "--printed-name", "Olu Approver", "--reason", "read whole")
DECIDED = ("--as", PROPOSER, "--reason", "loss looks odd")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = make_site(tmp_path)
    with made.opened() as appliance:
        propose(appliance, published_at=made.now)
    return made


def row_of(site: Site, name: str = NAME) -> ChampionRow:
    with site.opened() as appliance, reading(appliance.engine) as conn:
        return champions.by_name(conn, name)


def status_of(site: Site, name: str = NAME) -> str:
    shown = site.assay("champions", "show", name, "-o", "json")
    return str(json.loads(shown.stdout)["champion"]["status"])


def adopt(site: Site) -> None:
    assert site.assay("champions", "approve", NAME, *SAID).exit_code == 0
    assert site.assay("champions", "adopt", NAME, "--as", PROPOSER).exit_code == 0


# list, show


def test_list_shows_names_status_and_whose_they_are(site: Site) -> None:
    done = site.assay("champions", "list")
    head, row, whose = done.stdout.splitlines()
    assert head.split() == ["NAME", "CHANNEL", "CONTRACT_EPOCH", "STATUS", "PROPOSED_BY", "MANIFEST_SHA256"]
    assert row.split() == [NAME, "text", "E4", "proposed", PROPOSER, row_of(site).manifest_sha256]
    assert whose == f"champions by courtesy of {ATTRIBUTION}"


def test_list_as_json_is_what_the_api_says(site: Site) -> None:
    listed = json.loads(site.assay("champions", "list", "-o", "json").stdout)
    assert listed["attribution"] == ATTRIBUTION
    (champion,) = listed["champions"]
    assert (champion["name"], champion["status"], champion["attribution"]) == (NAME, "proposed", ATTRIBUTION)


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (("--status", "proposed"), 1),
        (("--status", "adopted"), 0),
        (("--channel", "text"), 1),
        (("--channel", "image"), 0),
    ],
)
def test_list_filters(site: Site, filters: tuple[str, ...], found: int) -> None:
    listed = json.loads(site.assay("champions", "list", *filters, "-o", "json").stdout)
    assert len(listed["champions"]) == found


def test_list_of_a_status_that_there_is_not_is_refused(site: Site) -> None:
    done = site.assay("champions", "list", "--status", "loved")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "no champion ever is 'loved'" in done.stderr


def test_show_has_on_one_screen_what_an_officer_asks(site: Site) -> None:
    shown = site.assay("champions", "show", NAME).stdout
    for wanted in (
        f"{NAME}  PROPOSED",
        ATTRIBUTION,
        "text, contract epoch E4",
        f"sha256:{row_of(site).manifest_sha256}",
        "publisher     feed, key ",
        f"proposed by   {PROPOSER}",
        "InstructTextTask: yes",
        "findings      none",
        "approved by nobody",
    ):
        assert wanted in shown, wanted
    assert len(shown.splitlines()) < 40


def test_show_lets_no_reason_look_like_a_line_of_its_own(site: Site) -> None:
    forged = "wait\n\ngod-text-reference  ADOPTED by olu\n  PUBLISHER gradients-official"
    before = site.assay("champions", "show", NAME).stdout.splitlines()
    assert site.assay("champions", "hold", NAME, "--as", PROPOSER, "--reason", forged).exit_code == 0
    after = site.assay("champions", "show", NAME).stdout.splitlines()
    assert [line for line in after if line.startswith((f"{NAME}  ADOPTED", "  PUBLISHER"))] == []
    assert len(after) == len(before) + 2  # why it is held, and who held it
    assert "  because: wait\\n\\ngod-text-reference  ADOPTED by olu" in "\n".join(after)


def test_a_digest_is_a_champion_of_this_home_wherever_one_is_named(site: Site) -> None:
    digest = json.loads(site.assay("champions", "show", NAME, "-o", "json").stdout)["champion"][
        "manifest_sha256"
    ]
    by_name, by_digest = (site.assay("champions", "inspect", named) for named in (NAME, digest))
    assert by_digest.exit_code == 0, by_digest.stderr
    assert by_digest.stdout == by_name.stdout


def test_show_by_digest_is_the_same(site: Site) -> None:
    by_name = site.assay("champions", "show", NAME, "-o", "json").stdout
    assert site.assay("champions", "show", row_of(site).manifest_sha256, "-o", "json").stdout == by_name


def test_show_tells_what_went_on(site: Site) -> None:
    adopt(site)
    site.assay("champions", "default", NAME, "--as", PROPOSER)
    site.assay("champions", "hold", NAME, *DECIDED)
    shown = site.assay("champions", "show", NAME).stdout
    assert f"{NAME}  HELD by {PROPOSER}" in shown
    assert "because: loss looks odd" in shown
    assert "default for   text/InstructTextTask" in shown
    assert f"approved by {APPROVER} (Olu Approver)" in shown
    assert ": read whole" in shown
    assert f"held by {PROPOSER}" in shown


def test_show_puts_the_worst_findings_first_and_escapes_them(site: Site) -> None:
    hostile = replace(finding("python-exec", Severity.HIGH), found="exec(\x1b[2J)")
    with site.opened() as appliance:
        propose(appliance, name="hostile", note="x", findings=(hostile, finding("secret", Severity.CRITICAL)))
    shown = site.assay("champions", "show", "hostile").stdout
    assert "findings      1 critical, 1 high" in shown
    assert shown.index("secret") < shown.index("python-exec")
    assert "\x1b" not in shown
    assert "exec(\\x1b[2J)" in shown


def test_show_says_that_nothing_is_known_of_files_that_were_not_inspected(site: Site) -> None:
    with site.opened() as appliance:
        propose(appliance, name="unseen", note="x", findings=None)
    assert (
        "inspection    NONE: nothing is known from its files"
        in site.assay("champions", "show", "unseen").stdout
    )


def test_show_flags_a_publisher_that_is_not_trusted(site: Site) -> None:
    with site.opened() as appliance:
        propose(appliance, name="strange", note="x", signer=APPROVER)
    assert "NOT TRUSTED: key " in site.assay("champions", "show", "strange").stdout


def test_unknown_champion_is_refused(site: Site) -> None:
    done = site.assay("champions", "show", "nobody")
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", "assay: no champion named nobody\n")


def test_missing_home_is_exit_3(tmp_path: Path) -> None:
    assert Site(home=tmp_path / "none", now=make_site(tmp_path).now).assay("champions", "list").exit_code == 3


# adopt, hold, unhold, revoke, default, digest


def test_two_people_adopt_a_champion(site: Site) -> None:
    adopt(site)
    assert status_of(site) == "adopted"


def test_adopting_tells_programs_which_policy_allowed_it(site: Site) -> None:
    site.assay("champions", "approve", NAME, *SAID)
    done = site.assay("champions", "adopt", NAME, "--as", PROPOSER, "-o", "json")
    decision = json.loads(done.stdout)
    with site.opened() as appliance:
        policy = appliance.admission_policy().sha256
    assert (decision["adopted"], decision["reasons"], decision["policy_sha256"]) == (True, [], policy)


def test_adopting_without_approval_is_refused_with_the_rule(site: Site) -> None:
    done = site.assay("champions", "adopt", NAME, "--as", PROPOSER, "-o", "json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["adopted"] is False
    assert "refused  four-eyes: found approval_count = 0" in done.stderr
    assert done.stderr.endswith(f"{NAME} is refused by 1 rule\n")
    assert status_of(site) == "refused"


def test_a_refusal_has_a_line_a_rule_and_names_what_is_high_only(site: Site) -> None:
    found = (finding("python-exec", Severity.HIGH), finding("table-of-models", Severity.INFO))
    with site.opened() as appliance:
        propose(appliance, name="risky", note="x", findings=found)
    done = site.assay("champions", "adopt", "risky", "--as", PROPOSER, "-o", "json")
    four_eyes, two, last = done.stderr.splitlines()
    assert four_eyes.startswith("refused  four-eyes: ")
    assert two.startswith("refused  high-findings-need-two: ")
    assert "findings = python-exec; wanted" in two
    assert last == "assay: risky is refused by 2 rules"
    assert any("table-of-models" in reason for reason in json.loads(done.stdout)["reasons"])


def test_what_was_decided_is_told_to_programs(site: Site) -> None:
    manifest = row_of(site).manifest_sha256

    def answer(*words: str) -> Any:
        done = site.assay("champions", *words, "-o", "json")
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)

    assert answer("approve", NAME, *SAID) == {"champion": NAME, "approver": APPROVER, "state": "approved"}
    answer("adopt", NAME, "--as", PROPOSER)
    named = {"champion": NAME, "manifest_sha256": manifest}
    stopped: dict[str, list[str]] = {"will_not_start": [], "being_ended": []}
    assert answer("hold", NAME, *DECIDED) == {**named, "state": "held", **stopped}
    assert answer("unhold", NAME, *DECIDED) == {**named, "state": "adopted"}
    assert answer("revoke", NAME, *DECIDED) == {**named, "state": "revoked", **stopped, "models": []}


def test_an_unknown_task_type_is_told_with_those_that_there_are(site: Site) -> None:
    adopt(site)
    done = site.assay("champions", "default", NAME, "--task-type", "Poetry", "--as", PROPOSER)
    assert (done.exit_code, "; wanted InstructTextTask or DpoTask or " in done.stderr) == (1, True)


def test_defaults_say_whose_work_they_are(site: Site) -> None:
    assert site.assay("champions", "default").stdout.endswith(f"champions by courtesy of {ATTRIBUTION}\n")
    assert json.loads(site.assay("champions", "default", "-o", "json").stdout)["attribution"] == ATTRIBUTION


def test_approving_ones_own_proposal_is_refused(site: Site) -> None:
    done = site.assay(
        "champions", "approve", NAME, "--as", PROPOSER, "--printed-name", "Ada", "--reason", "mine"
    )
    assert done.exit_code == 1
    assert f"{PROPOSER} proposed {NAME}: another person must approve it" in done.stderr


@pytest.mark.parametrize("missing", ["--as", "--printed-name", "--reason"])
def test_approving_without_saying_who_or_why_is_usage(site: Site, missing: str) -> None:
    given = dict(zip(SAID[::2], SAID[1::2], strict=True))
    del given[missing]
    said = [word for pair in given.items() for word in pair]
    done = site.assay("champions", "approve", NAME, *said)
    assert (done.exit_code, f"{missing} is missing" in " ".join(done.stderr.split())) == (2, True)


def test_approving_nothing_is_usage(site: Site) -> None:
    assert site.assay("champions", "approve", *SAID).exit_code == 2


def test_hold_and_unhold(site: Site) -> None:
    adopt(site)
    assert site.assay("champions", "hold", NAME, *DECIDED).exit_code == 0
    assert status_of(site) == "held"
    again = site.assay("champions", "hold", NAME, *DECIDED)
    assert (again.exit_code, "was held by ada" in again.stderr) == (1, True)
    assert site.assay("champions", "unhold", NAME, *DECIDED).exit_code == 0
    assert status_of(site) == "adopted"
    assert site.assay("champions", "unhold", NAME, *DECIDED).exit_code == 1


def test_revoking_is_for_good(site: Site) -> None:
    adopt(site)
    done = site.assay("champions", "revoke", NAME, *DECIDED)
    assert (done.exit_code, done.stdout) == (0, "")
    assert "is revoked, under whatever name its tree comes back" in done.stderr
    assert status_of(site) == "revoked"
    refused = site.assay("champions", "adopt", NAME, "--as", PROPOSER)
    assert (refused.exit_code, "revoked" in refused.stderr) == (1, True)
    assert site.assay("champions", "revoke", NAME, *DECIDED).exit_code == 1


@pytest.mark.parametrize("verb", ["hold", "unhold", "revoke"])
def test_decisions_want_a_reason_and_a_name(site: Site, verb: str) -> None:
    assert site.assay("champions", verb, NAME, "--as", PROPOSER).exit_code == 2
    assert site.assay("champions", verb, NAME, "--reason", "x").exit_code == 2
    assert site.assay("champions", verb, NAME, "--as", PROPOSER, "--reason", " ").exit_code == 1
    assert site.assay("champions", verb, NAME, "--as", "../Ada", "--reason", "x").exit_code == 3


def test_default_is_set_and_listed(site: Site) -> None:
    adopt(site)
    done = site.assay("champions", "default", NAME, "--as", PROPOSER, "-o", "json")
    (line,) = json.loads(done.stdout)["defaults"]
    assert (line["channel"], line["task_type"], line["name"], line["status"]) == (
        "text",
        "InstructTextTask",
        NAME,
        "adopted",
    )
    assert NAME in site.assay("champions", "default").stdout


def test_default_needs_a_name_of_who_sets_it(site: Site) -> None:
    assert site.assay("champions", "default", NAME).exit_code == 2


def test_default_that_is_not_adopted_is_refused(site: Site) -> None:
    done = site.assay("champions", "default", NAME, "--as", PROPOSER)
    assert (done.exit_code, "only an adopted champion can be a default" in done.stderr) == (1, True)


def test_digest_says_what_changed_this_week(site: Site) -> None:
    adopt(site)
    text = site.assay("champions", "digest").stdout
    assert "Adopted (1)" in text
    assert ATTRIBUTION in text
    told: dict[str, Any] = json.loads(site.assay("champions", "digest", "-o", "json").stdout)
    assert [change["name"] for change in told["adopted"]] == [NAME]
    later = json.loads(
        site.assay("champions", "digest", "--since", "2999-01-01T00:00:00Z", "-o", "json").stdout
    )
    assert later["adopted"] == []


def test_digest_since_no_time_is_usage(site: Site) -> None:
    assert site.assay("champions", "digest", "--since", "yesterday").exit_code == 2


def test_show_flags_the_models_of_a_revoked_champion(world: World) -> None:
    world.submit()
    assert world.settle().state == "logged"
    site = Site(home=world.appliance.home.root, now=world.clock.now())
    assert "trained model sha256:" in site.assay("champions", "show", NAME).stdout
    done = site.assay("champions", "revoke", NAME, *DECIDED)
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["RUN", "run-0042"]
    assert "trained SUSPECT model sha256:" in site.assay("champions", "show", NAME).stdout


# What takes long is told.


def test_progress_is_told_only_of_what_takes_long(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("working"):
        pass
    assert capsys.readouterr().err == ""
    with progress("working", quiet_s=0.0):
        for thread in threading.enumerate():
            if isinstance(thread, threading.Timer):
                thread.join()
    assert capsys.readouterr().err == "working …\n"
