from dataclasses import fields
from pathlib import Path

import pytest

from appliance.errors import SettingsError
from appliance.settings import Settings, parse_settings, settings_table

EXAMPLES = {
    "home": ("/srv/assay", Path("/srv/assay")),
    "policies_dir": ("/srv/policies", Path("/srv/policies")),
    "evaluators_dir": ("/srv/evaluators", Path("/srv/evaluators")),
    "listen_host": ("::1", "::1"),
    "listen_port": ("0", 0),
    "max_parallel_runs": ("3", 3),
    "gpus_per_run": ("2", 2),
    "output_mib": ("64", 64),
    "needed_free_mib": ("10", 10),
    "poll_interval_s": ("0.5", 0.5),
    "driver": ("oci", "oci"),
    "evaluation_driver": ("gvisor", "gvisor"),
    "keyless_trust": ("/srv/root.json", Path("/srv/root.json")),
    "keyless_identity": ("release@example.org", "release@example.org"),
    "keyless_issuer": ("https://id.example.org", "https://id.example.org"),
}
KEYLESS = {f"ASSAY_{name.upper()}": EXAMPLES[name][0] for name in EXAMPLES if name.startswith("keyless")}


def test_nothing_set_is_the_defaults() -> None:
    assert parse_settings({"PATH": "/bin", "ASSAY_URL": "http://x", "ASSAY_TOKEN": "t"}) == Settings()


@pytest.mark.parametrize("name", [f.name for f in fields(Settings)])
def test_every_setting_has_its_variable(name: str) -> None:
    text, value = EXAMPLES[name]
    beside = KEYLESS if name.startswith("keyless") else {}
    assert getattr(parse_settings(beside | {f"ASSAY_{name.upper()}": str(text)}), name) == value


@pytest.mark.parametrize("missing", ["ASSAY_KEYLESS_IDENTITY", "ASSAY_KEYLESS_ISSUER"])
def test_keyless_signatures_of_nobody_in_particular_are_refused(missing: str) -> None:
    environ = {name: str(text) for name, text in KEYLESS.items() if name != missing}
    with pytest.raises(SettingsError, match="wanted all three"):
        parse_settings(environ)


def test_flag_wins_over_variable() -> None:
    settings = parse_settings({"ASSAY_LISTEN_PORT": "1"}, listen_port="2", home=None)
    assert settings.listen_port == 2


def test_unknown_variable_is_refused_with_a_hint() -> None:
    with pytest.raises(SettingsError, match="unknown setting ASSAY_HOEM; did you mean ASSAY_HOME"):
        parse_settings({"ASSAY_HOEM": "/x"})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("LISTEN_PORT", "65536"),
        ("LISTEN_PORT", " 80"),
        ("LISTEN_PORT", "8_0"),
        ("LISTEN_PORT", "http"),
        ("MAX_PARALLEL_RUNS", "0"),
        ("NEEDED_FREE_MIB", "-1"),
        ("POLL_INTERVAL_S", "nan"),
        ("POLL_INTERVAL_S", "0"),
        ("LISTEN_HOST", "http://x"),
        ("HOME", ""),
        ("DRIVER", "native"),
        ("EVALUATION_DRIVER", ""),
        ("KEYLESS_IDENTITY", ""),
        ("KEYLESS_ISSUER", "a\nb"),
    ],
)
def test_malformed_value_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(SettingsError, match=f"ASSAY_{name} is .*, wanted"):
        parse_settings({f"ASSAY_{name}": text})


def test_table_has_a_row_for_every_setting() -> None:
    rows = settings_table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == [f"ASSAY_{f.name.upper()}" for f in fields(Settings)]
