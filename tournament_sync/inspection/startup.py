"""What has programs load or run other code before their own: variables and files that they read when they start."""

import re

_LOADED = frozenset(
    {"LD_PRELOAD", "LD_AUDIT", "BASH_ENV", "PROMPT_COMMAND", "PYTHONSTARTUP", "PYTHONHOME"}
    | {"PERL5OPT", "NODE_OPTIONS", "RUBYOPT", "GCONV_PATH"}
)
_SEARCHED = frozenset({"LD_LIBRARY_PATH", "PYTHONPATH", "PERL5LIB", "NODE_PATH"})
_INDEX = re.compile(
    r"(?:PIP|UV)_(?:(?:EXTRA_|DEFAULT_)?INDEX(?:_URL)?|FIND_LINKS|TRUSTED_HOST|CONFIG_FILE)"
    r"|NPM_CONFIG_REGISTRY|CONDA_CHANNELS",
    re.IGNORECASE,
)
# Where a run finds what did not come with the image: data, the base model, what was written before.
_FOREIGN_PLACE = re.compile(r"(?:^|:)/(?:cache|tmp|app/checkpoints|dev)(?:[/:]|$)")
_FILE = re.compile(
    r"(?:^|/)(?:ld\.so\.(?:preload|conf)|sitecustomize\.py|usercustomize\.py|\.bashrc|\.bash_profile|\.profile"
    r"|profile|bash\.bashrc|zshenv|\.zshenv|\.pythonrc|pip\.conf|\.pip/pip\.conf|\.npmrc|[^/]+\.pth)$"
    r"|/(?:etc/profile\.d|etc/ld\.so\.conf\.d|etc/cron[^/]*)/"
)


def environment_rule(name: str, value: str) -> str:
    """The Dockerfile rule for setting the variable, "" if there is none."""
    if not value:
        return ""
    if name in _LOADED or (name in _SEARCHED and _FOREIGN_PLACE.search(value)):
        return "docker-preload"
    if name in _SEARCHED:
        return "docker-search-path"
    return "docker-other-index" if _INDEX.fullmatch(name) else ""


def is_startup_file(path: str) -> bool:
    """Whether shells, Python or the loader read a file of that path without being asked."""
    return _FILE.search(path) is not None
