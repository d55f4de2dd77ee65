"""Settings: parsed once, in `main`, from the environment and the command line into one frozen value."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from appliance.errors import SettingsError
from runner.isolation_demand import TIERS

ENV_PREFIX: Final = "ASSAY_"
SOURCE: Final = Path(__file__).parents[1]  # the tree this program runs from
# Read by the client commands, so they are no typing errors.
CLIENT_VARIABLES: Final = frozenset({"ASSAY_URL", "ASSAY_TOKEN"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an operator can set. Units are in the names."""

    home: Path = Path("/var/lib/assay")
    policies_dir: Path = SOURCE / "policies"
    evaluators_dir: Path = SOURCE / "deploy" / "evaluators"
    listen_host: str = "127.0.0.1"
    listen_port: int = 8470
    max_parallel_runs: int = 1
    output_mib: int = 1024
    needed_free_mib: int = 2048
    gpus_per_run: int | None = None
    poll_interval_s: float = 0.1
    driver: str = "bubblewrap"
    evaluation_driver: str = "bubblewrap"
    keyless_trust: Path | None = None
    keyless_identity: str = ""
    keyless_issuer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setting:
    meaning: str
    parse: Callable[[str], Any]  # Any: the field's own type
    wanted: str


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = int(text)
        # int() alone takes " 1_0 ": the text must be how the number is written.
        if str(number) != text or not low <= number <= high:
            raise ValueError(text)
        return number

    return parse


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.05 <= seconds <= 60:
        raise ValueError(text)
    return seconds


def _driver(text: str) -> str:
    if text not in TIERS:
        raise ValueError(text)
    return text


def _path(text: str) -> Path:
    if not text:
        raise ValueError(text)
    return Path(text).expanduser().absolute()


def _host(text: str) -> str:
    if not text or any(c.isspace() or c == "/" for c in text):
        raise ValueError(text)
    return text


def _text(text: str) -> str:
    if not 0 < len(text) <= 1000 or not text.isprintable():
        raise ValueError(text)
    return text


_SETTINGS: Final[Mapping[str, _Setting]] = {
    "home": _Setting(
        meaning="folder with database, keys, store and evidence", parse=_path, wanted="a folder"
    ),
    "policies_dir": _Setting(
        meaning="folder with the policy sets, `admission/` among them", parse=_path, wanted="a folder"
    ),
    "evaluators_dir": _Setting(
        meaning="folder with the evaluators, `instruct_text/` among them", parse=_path, wanted="a folder"
    ),
    "listen_host": _Setting(
        meaning="address the API listens on", parse=_host, wanted="a host name or address"
    ),
    "listen_port": _Setting(
        meaning="port the API listens on; 0 takes a free one", parse=_integer(0, 65535), wanted="0…65535"
    ),
    "max_parallel_runs": _Setting(
        meaning="runs that train or are evaluated at once", parse=_integer(1, 64), wanted="1…64"
    ),
    "output_mib": _Setting(
        meaning="MiB that a champion may write; five times as much must be free, since it is copied",
        parse=_integer(1, 1 << 24),
        wanted="a number of MiB",
    ),
    "needed_free_mib": _Setting(
        meaning="free MiB on the home's disk below which no run starts",
        parse=_integer(0, 1 << 30),
        wanted="a number of MiB",
    ),
    "gpus_per_run": _Setting(
        meaning="GPUs of every run, 0 for none; unset: by the tournament's rule, from model and task",
        parse=_integer(0, 64),
        wanted="0…64",
    ),
    "poll_interval_s": _Setting(
        meaning="seconds the worker waits when nothing moved", parse=_seconds, wanted="0.05…60 seconds"
    ),
    "driver": _Setting(
        meaning="what puts up the walls of runs that ask for nothing else; raised to what the isolation policy demands",
        parse=_driver,
        wanted=" or ".join(TIERS),
    ),
    "evaluation_driver": _Setting(
        meaning="the same for evaluations, which never have weaker walls than their run's training; `gvisor` where it"
        " is installed and CPU time is not short",
        parse=_driver,
        wanted=" or ".join(TIERS),
    ),
    "keyless_trust": _Setting(
        meaning="sigstore trusted root or client trust configuration; with it keyless signatures are verified",
        parse=_path,
        wanted="a file",
    ),
    "keyless_identity": _Setting(
        meaning="who must have made a champion's archive, as the certificate names them",
        parse=_text,
        wanted="an identity",
    ),
    "keyless_issuer": _Setting(
        meaning="who must have said so: the issuer of the certificate's identity",
        parse=_text,
        wanted="a URL",
    ),
}


def parse_settings(environ: Mapping[str, str], **flags: str | None) -> Settings:
    """Settings from `ASSAY_*` variables; flags that are not None win. Defaults fill the rest.

    Raises SettingsError for unknown `ASSAY_*` variables and malformed values.
    """
    texts: dict[str, tuple[str, str]] = {}
    for variable, text in environ.items():
        if variable.startswith(ENV_PREFIX) and variable not in CLIENT_VARIABLES:
            texts[_field_of(variable)] = (variable, text)
    for name, flag in flags.items():
        if flag is not None:
            texts[name] = (f"--{name.replace('_', '-')}", flag)
    settings = Settings(**{name: _parse(name, source, text) for name, (source, text) in texts.items()})
    if settings.keyless_trust is not None and not (settings.keyless_identity and settings.keyless_issuer):
        # Anybody has some identity: a signature by nobody in particular says nothing.
        raise SettingsError(
            "ASSAY_KEYLESS_TRUST is set, ASSAY_KEYLESS_IDENTITY or ASSAY_KEYLESS_ISSUER is not: wanted all three",
            checked="environment",
            wanted="all three, or none",
        )
    return settings


def settings_table() -> str:
    """The settings as a Markdown table, for the operator's guide; a test compares the two."""
    defaults = Settings()
    rows = [
        (f"`{ENV_PREFIX}{name.upper()}`", f"`{_shown(getattr(defaults, name))}`", one.wanted, one.meaning)
        for name, one in _SETTINGS.items()
    ]
    head = [("Variable", "Default", "Wanted", "Meaning"), ("---",) * 4]
    return "".join(f"| {' | '.join(row)} |\n" for row in [*head, *rows])


def _shown(default: object) -> str:
    if default is None or default == "":
        return "unset"
    if isinstance(default, Path) and default.is_relative_to(SOURCE):
        return f"SOURCE/{default.relative_to(SOURCE)}"
    return str(default)


def _field_of(variable: str) -> str:
    name = variable.removeprefix(ENV_PREFIX).lower()
    if name in _SETTINGS:
        return name
    known = [f"{ENV_PREFIX}{n.upper()}" for n in _SETTINGS]
    close = get_close_matches(variable, known, n=1)
    hint = f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"
    raise SettingsError(f"unknown setting {variable}{hint}", checked="environment", found=variable)


def _parse(name: str, source: str, text: str) -> Any:
    setting = _SETTINGS[name]
    try:
        return setting.parse(text)
    except ValueError as error:
        raise SettingsError(
            f"{source} is {text!r}, wanted {setting.wanted}",
            checked=source,
            found=text,
            wanted=setting.wanted,
        ) from error
