"""Champions come in whole or not at all, once, with all that is known of them; what is revoked stays out."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import delete, text
from sqlalchemy.exc import IntegrityError

from appliance.adoption import adopt, revoke, revoke_tree
from appliance.artifacts import FolderStore
from appliance.assembly import Appliance
from appliance.champion_report import crosscheck_findings, inspect_champion, kept_report
from appliance.errors import AdmissionError, HomeError
from appliance.facts import gather_facts
from appliance.feeds import sync_by_hand
from appliance.settings import Settings
from appliance.store import champions, inspections, tables
from appliance.store.engine import reading
from appliance.store.inspections import OriginKind
from appliance.syncing import (
    champion_named,
    import_archive,
    import_git,
    record_break_glass,
    sync_source,
)
from attestation.oms import Manifest
from attestation.statement import Subject
from attestation.trust import Role
from audit.event import Event
from audit.store import events_of
from tests.appliance.archives import FIRST, SECOND, Stall, failing, inspects, release
from tests.appliance.vetting import NAME, approved_by, tournament
from tests.appliance.world import APPROVER, PROPOSER, PUBLISHER, REFERENCE, START, FixedClock, finding
from tests.tournament_sync.private_sigstore import IDENTITY, ISSUER, PrivateSigstore
from tournament_sync.champion import Channel, ContractEpoch
from tournament_sync.errors import PublishError, ReportError, SourceUnavailableError, TreeError
from tournament_sync.feed.publish_tree import publish_tree
from tournament_sync.inspection.report import Severity
from tournament_sync.release import ReleaseFacts
from tournament_sync.sync import SyncReport


def sync(appliance: Appliance, stall: Stall, **options: object) -> SyncReport:
    given: dict[str, object] = {"actor": PROPOSER, "inspect": inspects, **options}
    return sync_source(appliance, stall, **given)  # type: ignore[arg-type]  # as the test says


def events(appliance: Appliance, subject: str) -> list[Event]:
    with reading(appliance.engine) as conn:
        return [logged.event for logged in events_of(conn, subject)]


def names(appliance: Appliance) -> list[str]:
    with reading(appliance.engine) as conn:
        return [champion.name for champion in champions.list_champions(conn)]


# What is new.


def test_a_new_champion_is_proposed_with_its_origin_and_report(appliance: Appliance) -> None:
    released = release(appliance)
    report = sync(appliance, Stall((released,)), location="https://feed.example.org")
    assert [snapshot.champion.name for snapshot in report.new] == [FIRST]
    champion = champion_named(appliance, FIRST)
    assert champion.manifest_sha256 == released.taken.manifest.root_sha256
    assert (champion.proposed_by, champion.tree) == (PROPOSER, released.taken.tree)
    with reading(appliance.engine) as conn:
        origin = inspections.origin_of(conn, champion.manifest_sha256)
        assert kept_report(conn, champion.manifest_sha256, trust=appliance.home.trust()) is not None
    assert origin is not None
    assert (origin.kind, origin.location) == (OriginKind.FEED, "https://feed.example.org")
    assert [event.kind.value for event in events(appliance, champion.manifest_sha256)] == [
        "champion:synced",
        "champion:inspected",
    ]


def test_a_synced_champion_can_be_approved_and_adopted(appliance: Appliance) -> None:
    sync(appliance, Stall((release(appliance),)))
    champion = champion_named(appliance, FIRST)
    approved_by(appliance, champion, APPROVER)
    assert adopt(appliance, champion, actor=PROPOSER).allowed


def test_a_second_pass_finds_nothing_new_and_fetches_nothing(appliance: Appliance) -> None:
    stall = Stall((release(appliance), release(appliance, SECOND)))
    sync(appliance, stall)
    before = appliance.home.db_path.read_bytes()
    again = sync(appliance, stall, inspect=failing(AssertionError("inspected twice")))
    assert (again.new, again.known, again.refused) == ((), (FIRST, SECOND), ())
    assert stall.fetched == [FIRST, SECOND]
    assert stall.looks == 2
    assert appliance.home.db_path.read_bytes() == before
    assert list(appliance.home.quarantine_dir.iterdir()) == []


def test_the_champion_of_a_signed_feed_can_be_adopted(appliance: Appliance, tmp_path: Path) -> None:
    """With the real inspection, from a folder that a publisher made."""
    publish_tree(
        REFERENCE,
        tmp_path / "feed",
        keys=tmp_path / "keys",
        facts=ReleaseFacts(name=FIRST, channel=Channel.TEXT, contract_epoch=ContractEpoch.E4),
        signer=appliance.home.person_signer(PUBLISHER),
        now=START,
    )
    root = (tmp_path / "keys" / "root.json").read_bytes()
    report = sync_by_hand(appliance, str(tmp_path / "feed"), actor=PROPOSER, root=root)
    assert [snapshot.champion.name for snapshot in report.new] == [FIRST]
    champion = champion_named(appliance, FIRST)
    facts = gather_facts(appliance, champion, policy=appliance.admission_policy()).facts
    assert facts["inspected"]
    approved_by(appliance, champion, APPROVER)
    decision = adopt(appliance, champion, actor=PROPOSER)
    assert decision.allowed, decision.reasons


def test_an_archive_is_imported_by_the_same_rules(appliance: Appliance) -> None:
    released = release(appliance)
    import_archive(appliance, released.path, actor=PROPOSER, inspect=inspects)
    with reading(appliance.engine) as conn:
        origin = inspections.origin_of(conn, released.taken.manifest.root_sha256)
    assert origin is not None
    assert (origin.kind, origin.location) == (OriginKind.ARCHIVE, str(released.path))


def test_a_champion_of_that_name_must_have_been_synced(appliance: Appliance) -> None:
    with pytest.raises(AdmissionError, match="no champion god-text-first was synced"):
        champion_named(appliance, FIRST)


# What is refused.


def test_a_release_that_nobody_trusted_signed_is_refused_and_keeps_no_other_out(appliance: Appliance) -> None:
    stall = Stall((release(appliance, signer=APPROVER), release(appliance, SECOND)))
    report = sync(appliance, stall)
    assert [refusal.name for refusal in report.refused] == [FIRST]
    assert names(appliance) == [SECOND]


def test_a_refusal_is_logged_once_while_its_reason_is_the_same(appliance: Appliance) -> None:
    stall = Stall((release(appliance, signer=APPROVER),))
    for _ in range(3):
        assert len(sync(appliance, stall).refused) == 1
    (event,) = events(appliance, FIRST)
    assert event.kind.value == "champion:refused"
    assert "may not sign releases" in str(event.detail["reason"])


def test_the_same_tree_under_another_name_is_refused(appliance: Appliance) -> None:
    stall = Stall((release(appliance), release(appliance, SECOND, of=FIRST)))
    report = sync(appliance, stall)
    assert [str(refusal.reason) for refusal in report.refused] == [f"its tree is here already, as {FIRST}"]
    assert names(appliance) == [FIRST]


def test_what_the_store_cannot_take_is_refused_and_keeps_no_other_out(appliance: Appliance) -> None:
    """The same contents under another file name: one digest cannot stand for both."""
    third = release(appliance, "god-text-third")
    stall = Stall((release(appliance), release(appliance, SECOND, of=FIRST, note="notf.txt"), third))
    report = sync(appliance, stall)
    assert [refusal.name for refusal in report.refused] == [SECOND]
    assert "one digest cannot stand for both" in report.refused[0].reason
    assert names(appliance) == [FIRST, "god-text-third"]


def test_files_that_change_between_check_and_copy_are_refused(appliance: Appliance) -> None:
    class Racing(FolderStore):
        def put(self, folder: Path) -> Manifest:
            (folder / "note.txt").chmod(0o644)
            (folder / "note.txt").write_text("another line\n")
            return super().put(folder)

    racing = replace(appliance, store=Racing(appliance.home.store_dir))
    report = sync(racing, Stall((release(appliance),)))
    assert "its files changed while they were taken" in report.refused[0].reason
    assert names(appliance) == []


def test_a_dead_source_is_told_and_changes_nothing(appliance: Appliance) -> None:
    with pytest.raises(SourceUnavailableError, match="no route to host"):
        sync(appliance, Stall(is_dead=True))
    assert names(appliance) == []


def test_one_pass_at_a_time(appliance: Appliance) -> None:
    with (
        appliance.home.sync_lock(),
        pytest.raises(HomeError, match="being synced or imported by another process"),
    ):
        sync(appliance, Stall())


def test_nobody_in_particular_syncs_nothing(appliance: Appliance) -> None:
    with pytest.raises(HomeError, match="wanted up to 40 lower-case letters"):
        sync(appliance, Stall(), actor="Ada Lovelace")


# A crash leaves the state before, or the one after.


def test_what_could_not_be_inspected_for_a_fault_of_ours_is_taken_another_time(appliance: Appliance) -> None:
    stall = Stall((release(appliance),))
    report = sync(appliance, stall, inspect=failing(ReportError("no child can be started")))
    assert [refusal.reason for refusal in report.refused] == [
        "it could not be inspected: no child can be started"
    ]
    assert names(appliance) == []
    assert len(sync(appliance, stall).new) == 1
    assert stall.fetched == [FIRST]  # the quarantined copy was enough


def test_a_crash_in_the_inspection_leaves_nothing_visible(appliance: Appliance) -> None:
    stall = Stall((release(appliance),))
    with pytest.raises(KeyboardInterrupt):
        sync(appliance, stall, inspect=failing(KeyboardInterrupt()))
    assert names(appliance) == []
    assert len(sync(appliance, stall).new) == 1


@pytest.mark.parametrize("table", ["log_outbox", "inspection", "champion_origin"])
def test_champion_origin_report_and_events_are_written_together(appliance: Appliance, table: str) -> None:
    stall = Stall((release(appliance),))
    trigger = f"CREATE TRIGGER full BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'no room'); END"
    with appliance.engine.begin() as conn:
        conn.execute(text(trigger))
    with pytest.raises(IntegrityError, match="no room"):
        sync(appliance, stall)
    assert names(appliance) == []
    with appliance.engine.begin() as conn:
        conn.execute(text("DROP TRIGGER full"))
    assert len(sync(appliance, stall).new) == 1
    assert len(events(appliance, champion_named(appliance, FIRST).manifest_sha256)) == 2


def test_a_champion_that_an_older_assay_took_gets_its_report(appliance: Appliance) -> None:
    stall = Stall((release(appliance),))
    sync(appliance, stall)
    champion = champion_named(appliance, FIRST)
    with appliance.engine.begin() as conn:
        conn.execute(delete(tables.inspection))
    sync(appliance, stall)
    with reading(appliance.engine) as conn:
        assert kept_report(conn, champion.manifest_sha256, trust=appliance.home.trust()) is not None


def test_an_inspection_that_never_succeeds_is_not_repeated_with_every_pass(appliance: Appliance) -> None:
    seen = []

    def inspect(tree: Path, *, manifest_sha256: str) -> object:
        seen.append(tree)
        clean = inspects(tree, manifest_sha256=manifest_sha256)
        return replace(clean, findings=(finding("could-not-inspect", Severity.CRITICAL),))

    stall = Stall((release(appliance),))
    for _ in range(2):
        sync(appliance, stall, inspect=inspect)
    assert len(seen) == 1
    champion = champion_named(appliance, FIRST)
    approved_by(appliance, champion, APPROVER)
    refused = adopt(appliance, champion, actor=PROPOSER)
    assert [reason.rule for reason in refused.reasons] == ["inspected", "no-critical-findings"]
    # A person may have it tried again.
    report = inspect_champion(appliance, champion, actor=PROPOSER, inspect=inspects)
    assert report.findings == ()
    assert adopt(appliance, champion, actor=PROPOSER).allowed


# Revocations.


def test_a_revoked_tree_is_not_taken_under_another_name(appliance: Appliance) -> None:
    sync(appliance, Stall((release(appliance),)))
    revoke(appliance, champion_named(appliance, FIRST), actor="cleo", reason="it phones home")
    again = sync(appliance, Stall((release(appliance, SECOND, of=FIRST),)))
    (refusal,) = again.refused
    assert refusal.name == SECOND
    assert "its tree was revoked by cleo at 2026-11-21T02:00:00Z: it phones home" in refusal.reason
    assert names(appliance) == [FIRST]


def test_a_revocation_in_the_same_look_comes_first(appliance: Appliance) -> None:
    released = release(appliance)
    sync(appliance, Stall((released,), revoked=(released.revocation(START),)))
    assert names(appliance) == []


# What a pass leaves in quarantine.


def left(appliance: Appliance) -> list[str]:
    return sorted(path.name for path in appliance.home.quarantine_dir.iterdir())


def test_what_is_refused_is_not_left_in_quarantine(appliance: Appliance) -> None:
    """One that the store cannot take, beside one that is known under another name and one that was revoked."""
    clash = release(appliance, SECOND, of=FIRST, note="notf.txt")
    revoked = release(appliance, "god-text-third")
    revoke_tree(
        appliance, Subject(name="x", sha256="9" * 64), tree=revoked.taken.tree, actor="cleo", reason="x"
    )
    stall = Stall((release(appliance), clash, release(appliance, "god-text-fourth", of=FIRST), revoked))
    assert len(sync(appliance, stall).refused) == 3
    assert left(appliance) == []


def test_what_is_known_or_revoked_under_another_name_is_not_fetched_at_each_pass(
    appliance: Appliance,
) -> None:
    sync(appliance, Stall((release(appliance),)))
    revoked = release(appliance, "god-text-third")
    revoke_tree(
        appliance, Subject(name="x", sha256="9" * 64), tree=revoked.taken.tree, actor="cleo", reason="x"
    )
    stall = Stall((release(appliance, SECOND, of=FIRST), revoked))
    assert [refusal.reason.split(" by ")[0] for refusal in sync(appliance, stall).refused] == [
        f"its tree is here already, as {FIRST}",
        "its tree was revoked",
    ]
    assert (stall.fetched, left(appliance)) == ([], [])


def test_what_could_not_be_inspected_for_a_fault_of_ours_waits_for_the_next_pass(
    appliance: Appliance,
) -> None:
    released = release(appliance)
    sync(appliance, Stall((released,)), inspect=failing(ReportError("no child can be started")))
    assert left(appliance) == [released.taken.commit]


def test_what_a_killed_pass_left_half_written_is_gone_even_if_no_pass_ends_well(appliance: Appliance) -> None:
    for name in (f".{'a' * 40}.part/tree", "b" * 40):
        (appliance.home.quarantine_dir / name).mkdir(parents=True)
    with pytest.raises(SourceUnavailableError):
        sync(appliance, Stall(is_dead=True))
    assert left(appliance) == ["b" * 40]  # whole, and maybe taken by the next pass
    sync(appliance, Stall())
    assert left(appliance) == []


# From git.


@pytest.fixture
def repository(tmp_path: Path) -> tuple[str, str]:
    """A repository as upstream publishes one; its URL and its commit."""
    folder = tmp_path / NAME
    shutil.copytree(REFERENCE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "note.txt").write_text("from git\n")

    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        command = ["git", "-C", str(folder), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q", "-b", "main")
    git("add", ".")
    git("commit", "-q", "-m", "Tournament winner repository - Commit: 88888888")
    return str(folder), git("rev-parse", "HEAD")


def take(appliance: Appliance, repository: tuple[str, str], **options: object) -> SyncReport:
    url, commit = repository
    given: dict[str, object] = {
        "name": NAME,
        "channel": Channel.TEXT,
        "contract_epoch": ContractEpoch.E4,
        "actor": PROPOSER,
        "details": None,
        "inspect": inspects,
        **options,
    }
    return import_git(appliance, url, commit, **given)  # type: ignore[arg-type]  # as the test says


def test_a_commit_is_released_by_the_sites_own_key_and_needs_two(
    appliance: Appliance, repository: tuple[str, str]
) -> None:
    assert len(take(appliance, repository).new) == 1
    champion = champion_named(appliance, NAME)
    assert champion.commit == repository[1]
    facts = gather_facts(appliance, champion, policy=appliance.admission_policy()).facts
    assert (facts["publisher"], facts["origin"], facts["release_signed"]) == ("intake", "git", True)
    approved_by(appliance, champion, APPROVER)
    refused = adopt(appliance, champion, actor=PROPOSER)
    assert [reason.rule for reason in refused.reasons] == ["git-import-needs-two"]


def test_importing_again_is_no_change(appliance: Appliance, repository: tuple[str, str]) -> None:
    take(appliance, repository)
    before = champion_named(appliance, NAME)
    clock = appliance.clock
    assert isinstance(clock, FixedClock)
    clock.pass_s(60)
    assert take(appliance, repository).known == (NAME,)
    assert champion_named(appliance, NAME) == before


def test_the_sites_key_is_trusted_and_logged_once(appliance: Appliance, repository: tuple[str, str]) -> None:
    for _ in range(2):
        take(appliance, repository)
    (event,) = events(appliance, "intake")
    key = appliance.home.trust().key(str(event.detail["key"]))
    assert (key.name, key.role, event.actor) == ("intake", Role.PUBLISHER, PROPOSER)


def test_a_key_whose_trust_was_not_logged_for_a_crash_is_logged_with_the_next_use(
    appliance: Appliance, repository: tuple[str, str]
) -> None:
    appliance.home.intake_signer(now=START)
    take(appliance, repository)
    assert len(events(appliance, "intake")) == 1


def test_agreement_with_the_tournament_becomes_part_of_the_release(
    appliance: Appliance, repository: tuple[str, str]
) -> None:
    take(appliance, repository, details=tournament())
    champion = champion_named(appliance, NAME)
    with reading(appliance.engine) as conn:
        rules = {found.rule for found in crosscheck_findings(conn, champion.manifest_sha256)}
    assert rules == {"tournament-origin"}  # taken from a copy, not from where it was published
    assert b'"payload"' in champion.release_bundle


def test_disagreement_with_the_tournament_is_kept_and_counts(
    appliance: Appliance, repository: tuple[str, str]
) -> None:
    take(appliance, repository, details=tournament(commit="7" * 40))
    facts = gather_facts(
        appliance, champion_named(appliance, NAME), policy=appliance.admission_policy()
    ).facts
    assert "tournament-commit" in facts["findings"]
    assert facts["high_findings"] == 1


def test_what_the_tournament_said_later_is_compared_with_what_is_here(
    appliance: Appliance, repository: tuple[str, str]
) -> None:
    take(appliance, repository)
    take(appliance, repository, details=tournament(commit="7" * 40))
    with reading(appliance.engine) as conn:
        manifest = champion_named(appliance, NAME).manifest_sha256
        assert "tournament-commit" in {found.rule for found in crosscheck_findings(conn, manifest)}


def test_what_is_refused_after_it_was_taken_from_git_is_not_left(
    appliance: Appliance, repository: tuple[str, str]
) -> None:
    with pytest.raises(PublishError, match="is not lower case"):
        take(appliance, repository, name="No Name")
    assert left(appliance) == []


def test_another_answer_takes_back_no_disagreement_and_the_log_has_where_both_are_from(
    appliance: Appliance, repository: tuple[str, str]
) -> None:
    """Importing again with a doctored file, or asking nobody at all, hides nothing."""

    def rules() -> set[str]:
        with reading(appliance.engine) as conn:
            manifest = champion_named(appliance, NAME).manifest_sha256
            return {found.rule for found in crosscheck_findings(conn, manifest)}

    take(appliance, repository)
    assert rules() == {"tournament-not-compared"}
    take(
        appliance,
        repository,
        details=tournament(commit="7" * 40),
        details_source="https://ada:secret@api.example.org",
    )
    take(appliance, repository, details=tournament(), details_source="doctored.json")
    assert "tournament-commit" in rules()
    logged = events(appliance, champion_named(appliance, NAME).manifest_sha256)
    assert [event.detail["source"] for event in logged if "source" in event.detail] == [
        "https://api.example.org",
        "doctored.json",
    ]


def test_a_branch_is_no_commit(appliance: Appliance, repository: tuple[str, str]) -> None:
    with pytest.raises(TreeError):
        take(appliance, (repository[0], "main"))
    assert names(appliance) == []


# Keyless signatures.


@pytest.fixture(scope="module")
def sigstore() -> PrivateSigstore:
    return PrivateSigstore()


@pytest.fixture
def demanding(appliance: Appliance, sigstore: PrivateSigstore, tmp_path: Path) -> Appliance:
    """A site that says whose keyless signatures it expects."""
    trust = tmp_path / "sigstore.json"
    trust.write_bytes(sigstore.trust())
    settings = Settings(
        home=appliance.home.root, keyless_trust=trust, keyless_identity=IDENTITY, keyless_issuer=ISSUER
    )
    return replace(appliance, settings=settings)


def keyless_identity(appliance: Appliance) -> object:
    champion = champion_named(appliance, FIRST)
    return gather_facts(appliance, champion, policy=appliance.admission_policy()).facts["keyless_identity"]


def test_who_made_an_archive_is_verified_when_it_is_taken(
    demanding: Appliance, sigstore: PrivateSigstore
) -> None:
    released = release(demanding)
    bundle = json.dumps(sigstore.bundle(released.path.read_bytes())).encode()
    assert len(sync(demanding, Stall((released,), keyless_bundles={FIRST: bundle})).new) == 1
    assert keyless_identity(demanding) == IDENTITY


def test_a_keyless_signature_over_something_else_is_refused(
    demanding: Appliance, sigstore: PrivateSigstore
) -> None:
    bundle = json.dumps(sigstore.bundle(b"something else")).encode()
    report = sync(demanding, Stall((release(demanding),), keyless_bundles={FIRST: bundle}))
    assert "keyless bundle" in report.refused[0].reason
    assert names(demanding) == []


def test_an_archive_without_a_keyless_signature_has_no_such_identity(demanding: Appliance) -> None:
    sync(demanding, Stall((release(demanding),)))
    assert keyless_identity(demanding) == ""


def test_a_site_that_expects_nobody_has_no_such_identity(appliance: Appliance) -> None:
    sync(appliance, Stall((release(appliance),), keyless_bundles={FIRST: b"anything"}))
    assert keyless_identity(appliance) == ""


def test_a_root_for_keyless_signatures_that_is_gone_is_told(demanding: Appliance) -> None:
    assert demanding.settings.keyless_trust is not None
    demanding.settings.keyless_trust.unlink()
    with pytest.raises(HomeError, match="the root for keyless signatures cannot be read"):
        sync(demanding, Stall((release(demanding),), keyless_bundles={FIRST: b"anything"}))


# Breaking the glass.


def test_an_expired_feed_that_is_made_to_count_is_logged_with_the_reason(appliance: Appliance) -> None:
    record_break_glass(
        appliance, "/media/stick", reference_time=START, actor="cleo", reason="no courier for a month"
    )
    (event,) = events(appliance, "/media/stick")
    assert (event.kind.value, event.actor) == ("source:break-glass", "cleo")
    assert event.detail == {"as_of": "2026-11-21T02:00:00Z", "reason": "no courier for a month"}
