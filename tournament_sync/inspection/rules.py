"""Every rule of the inspection: its name, how bad it is and why it matters; docs/findings.md lists them."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tournament_sync.inspection.report import MAX_FOUND_CHARS, Finding, Severity

_INFO, _LOW, _MEDIUM = Severity.INFO, Severity.LOW, Severity.MEDIUM
_HIGH, _CRITICAL = Severity.HIGH, Severity.CRITICAL


@dataclass(frozen=True, slots=True)
class Rule:
    """How bad what it finds is, and why that matters to whoever runs the champion."""

    severity: Severity
    why: str


_INSPECTION = {
    "could-not-inspect": Rule(
        _CRITICAL, "nothing is known about this champion: what could not be read did not pass"
    ),
    "too-many-findings": Rule(
        _HIGH, "only the worst findings are kept; the tree has more than a report may hold"
    ),
    "too-many-facts": Rule(
        _HIGH, "downloads, tables or other facts were cut; the lists of the report are not whole"
    ),
}

_PYTHON = {
    "python-unreadable": Rule(
        _CRITICAL, "its bytes are no Python text that can be read, so what it does is unknown"
    ),
    "python-unparsable": Rule(
        _HIGH, "it was not inspected: the parser refuses it, another Python may run it"
    ),
    "python-2": Rule(_HIGH, "it was not inspected: it is Python 2, which only another interpreter runs"),
    "python-obfuscated": Rule(_CRITICAL, "it runs code that it decodes first: nobody can read what it does"),
    "python-remote-exec": Rule(
        _CRITICAL, "it runs code that it fetches first: this release does not say what runs"
    ),
    "python-exec": Rule(_HIGH, "it runs code that is made at run time and cannot be read here"),
    "python-opaque-literal": Rule(_HIGH, "a long literal of random-looking text can hide code or data"),
    "python-builtins": Rule(
        _HIGH, "it reaches Python's own functions by a detour, which hides which of them it calls"
    ),
    "python-odd-script": Rule(_HIGH, "it runs a file as a program whose name says that it is something else"),
    "python-marshal": Rule(_HIGH, "it loads compiled code that cannot be read here"),
    "python-native": Rule(_HIGH, "it calls native code past Python; what that does cannot be read here"),
    "python-libc": Rule(_LOW, "it calls the C library that is loaded already"),
    "python-dynamic-import": Rule(_LOW, "which module it imports is decided at run time"),
    "python-pickle": Rule(_LOW, "whoever writes the file that it loads runs code in the sandbox"),
    "python-trust-remote-code": Rule(
        _MEDIUM, "it runs code that comes with the base model, not with this release"
    ),
    "python-runtime-install": Rule(
        _MEDIUM, "it installs packages while it runs: fails without a network, unpinned"
    ),
    "python-download": Rule(
        _MEDIUM, "it fetches something while it runs: fails or differs without a network"
    ),
    "python-network": Rule(_MEDIUM, "it speaks to the network while it runs: fails or differs without one"),
    "python-upload": Rule(_MEDIUM, "it sends something out while it runs: fails without a network"),
    "python-token": Rule(_LOW, "it reads credentials from the environment; a run is given none"),
    "python-shell": Rule(_LOW, "it starts a shell, so the words of the command are programs too"),
    "python-hook": Rule(_LOW, "it hooks into the interpreter, so code elsewhere may do other than it says"),
    "python-noise": Rule(
        _MEDIUM, "it puts random noise into weights; an untrained model may pass for trained"
    ),
    "python-redis": Rule(_INFO, "it needs a redis server on the loopback of its own network namespace"),
    "python-absolute-write": Rule(_INFO, "it writes at a fixed place, so that place must be writable"),
}

_FILES = {
    "file-binary": Rule(_HIGH, "machine code or bytecode: what it does cannot be read here"),
    "file-weights": Rule(_HIGH, "weights in the repository: a model can be delivered instead of trained"),
    "file-archive": Rule(_HIGH, "an archive: what is inside was not inspected"),
    "file-lfs-pointer": Rule(_HIGH, "a pointer to a file that is not here and was not inspected"),
    "file-auto-run": Rule(_HIGH, "Python runs this file unasked at every start"),
    "file-test-hook": Rule(_INFO, "the test runner runs this file unasked"),
    "file-notebook": Rule(_INFO, "a notebook; its cells were not inspected"),
    "file-hidden": Rule(_INFO, "a hidden file that is not one of git's or an editor's"),
    "file-executable": Rule(_LOW, "executable, but no script"),
    "link-left-out": Rule(
        _MEDIUM,
        "a symbolic link of the repository; it is not among the files, and what reads it finds nothing",
    ),
    "file-special": Rule(_MEDIUM, "a link or another special file; it was neither followed nor read"),
    "file-opaque": Rule(_HIGH, "binary data of a kind that is not known here"),
    "file-unread": Rule(_HIGH, "only its beginning was read, because it is too long"),
    "file-too-large": Rule(_CRITICAL, "source over the size that is parsed, so what it does is unknown"),
    "source-bidi": Rule(_CRITICAL, "direction controls make source read otherwise than it runs"),
    "source-invisible": Rule(_HIGH, "invisible characters in source hide names or text from a reader"),
    "source-long-line": Rule(_LOW, "a line so long that nobody reads it"),
}

_SECRETS = {
    "secret-private-key": Rule(_HIGH, "a private key, which by now is public; say so to whoever owns it"),
    "secret-token": Rule(_HIGH, "an access token, which by now is public; it may reach somebody's account"),
    "secret-assignment": Rule(_MEDIUM, "a random-looking value under a secret's name; perhaps a credential"),
}

_LICENCES = {
    "licence-missing": Rule(_HIGH, "without a licence nobody may use it; the default policy refuses it"),
    "licence-changed": Rule(_HIGH, "its licence is not the text that champions are published under"),
    "notice-missing": Rule(_HIGH, "without the notice the attribution that the licence asks for is unknown"),
    "notice-changed": Rule(_HIGH, "its notice is not the text that champions are published under"),
    "licence-copyleft": Rule(_MEDIUM, "a part is under a copyleft licence, which binds whoever passes it on"),
    "licence-restricted": Rule(_MEDIUM, "a part is under a licence that limits what it may be used for"),
    "licence-unknown": Rule(_LOW, "a part carries a licence that was not recognised; read it"),
}

_CONTRACT = {
    "contract-no-dockerfile": Rule(_HIGH, "no Dockerfile of the contract is here, so nothing can be run"),
    "contract-epoch-mismatch": Rule(_HIGH, "released for a contract epoch that its files do not fit"),
    "contract-channel-mismatch": Rule(_HIGH, "released for a tournament whose tasks its files do not serve"),
    "contract-no-epoch": Rule(_HIGH, "it fits no epoch of the contract, so how to run it is not known"),
    "contract-no-parser": Rule(_MEDIUM, "which arguments its entry script takes could not be read"),
    "table-of-models": Rule(
        _LOW, "models are known to it by name: one that is not in the table is treated otherwise"
    ),
}

# Rules of dockerfiles.py.
_DOCKER: dict[str, Rule] = {
    "docker-unparsable": Rule(_CRITICAL, "a Dockerfile that cannot be read; what it would build is unknown"),
    "docker-ambiguous": Rule(
        _HIGH, "builders read these lines in different ways, so what it does depends on which"
    ),
    "docker-frontend": Rule(
        _CRITICAL, "another image decides what this file means, so reading it here proves nothing"
    ),
    "docker-syntax": Rule(_LOW, "the builder fetches the reader of this file before it reads it"),
    "docker-heredoc": Rule(_LOW, "older builders take the lines of a here-document for instructions"),
    "docker-foreign-shell": Rule(
        _HIGH, "run by something else than a shell that is read here: unknown what it does"
    ),
    "docker-latest-base": Rule(_HIGH, "builds on whatever the image is that day"),
    "docker-unpinned-base": Rule(_MEDIUM, "a tag may name another image tomorrow; only a digest does not"),
    "docker-open-argument": Rule(_MEDIUM, "needs a build argument, and the tournament gives none"),
    "docker-add-url": Rule(_MEDIUM, "what is at an address may be another thing tomorrow"),
    "docker-missing-source": Rule(_MEDIUM, "copies what is not in the repository: the build fails"),
    "docker-privileged": Rule(_CRITICAL, "wants to build with the host's rights"),
    "docker-host-network": Rule(_HIGH, "wants to build in the host's network"),
    "docker-mount": Rule(
        _HIGH, "mounts while it builds: can reach what is outside the image; such a build is refused here"
    ),
    "docker-startup-file": Rule(
        _HIGH, "puts a file where every program, shell or Python looks before it starts"
    ),
    "docker-search-path": Rule(
        _LOW, "has programs look for libraries or modules in places of its own choice"
    ),
    "docker-other-index": Rule(_MEDIUM, "has packages taken from a place of its own choice"),
    "docker-secret-mount": Rule(_MEDIUM, "wants a secret or a key of whoever builds it"),
    "docker-secret-env": Rule(_HIGH, "a credential in a Dockerfile is in the image for everybody"),
    "docker-preload": Rule(_HIGH, "has every program of the image load code first"),
    "docker-user": Rule(_LOW, "runs as another user than root, who may not be able to write its output"),
    "docker-volume": Rule(_LOW, "declares a place whose content is not kept with the image"),
    "docker-onbuild": Rule(_MEDIUM, "acts only when another image is built on this one; not read here"),
    "docker-no-entrypoint": Rule(_MEDIUM, "without an ENTRYPOINT the arguments of a run replace the program"),
    "docker-shell-entrypoint": Rule(_MEDIUM, "an ENTRYPOINT in shell form never gets the arguments of a run"),
    "docker-shadowed": Rule(_INFO, "another Dockerfile of the contract comes first; this one is not used"),
}

# Rules of shell.py.
_SHELL: dict[str, Rule] = {
    "shell-unparsable": Rule(_HIGH, "a part that the parser could not read, so what it does is unknown"),
    "shell-pipe-to-shell": Rule(
        _HIGH, "it runs what a server sends at that moment; nobody can read it before"
    ),
    "shell-download-and-run": Rule(_HIGH, "it runs a file that it fetched and that is not in the repository"),
    "shell-decode-and-run": Rule(
        _CRITICAL, "it runs code that it decodes first: nobody can read what it does"
    ),
    "shell-dynamic-code": Rule(
        _HIGH, "it runs code that is put together at run time and cannot be read here"
    ),
    "shell-computed-command": Rule(_HIGH, "which program it starts is the output of another one"),
    "shell-variable-command": Rule(_LOW, "which program it starts depends on a variable"),
    "shell-runs-arguments": Rule(_INFO, "it runs the arguments that it is given"),
    "shell-inline-code": Rule(_LOW, "code of another language within a shell command, easily overlooked"),
    "shell-code-in-argument": Rule(
        _HIGH, "code for a shell or compiler in an argument that is not read here"
    ),
    "shell-odd-script": Rule(_HIGH, "runs a file as a program whose name says that it is something else"),
    "shell-startup-file": Rule(
        _HIGH, "writes a file that every program, shell or Python reads before it starts"
    ),
    "shell-network-tool": Rule(_HIGH, "it opens connections of its own, in or out"),
    "shell-privileged": Rule(_HIGH, "it changes mounts, namespaces, the kernel or other containers"),
    "shell-container": Rule(_LOW, "it drives a container engine; a run has none and reaches none"),
    "shell-credential-file": Rule(_HIGH, "it touches a file where credentials are kept"),
    "shell-credential-sent": Rule(_HIGH, "it sends a credential out"),
    "shell-credential-use": Rule(_LOW, "it reads credentials from the environment; a run is given none"),
    "shell-preload": Rule(_HIGH, "it has other programs load code first, so they may do other than they say"),
    "shell-redis": Rule(_INFO, "it starts a redis server on the loopback of its own network namespace"),
    "shell-background": Rule(_LOW, "it leaves a program running beside the training"),
    "shell-scheduled": Rule(_MEDIUM, "it has something run later, after what can be seen here"),
    "shell-sudo": Rule(_LOW, "it asks for more rights, which a run does not have"),
    "shell-setuid": Rule(_MEDIUM, "whoever runs the file gets its owner's rights"),
    "shell-open-permissions": Rule(_LOW, "everybody in the container may change the file"),
    "shell-unverified-download": Rule(
        _HIGH, "it fetches without checking whom from: anybody in between may answer"
    ),
    "shell-unpinned-download": Rule(_MEDIUM, "what it fetches may be another thing tomorrow"),
    "shell-unpinned-system": Rule(
        _LOW, "system packages of no certain version; rebuilding gives another image"
    ),
    "shell-other-index": Rule(_MEDIUM, "it takes packages from a place of its own choice"),
    "shell-download-at-run": Rule(
        _MEDIUM, "it fetches something while it runs: fails or differs without a network"
    ),
    "shell-uninstall": Rule(
        _MEDIUM, "it removes packages while it runs, which leaves it broken without a network"
    ),
    "shell-absolute-write": Rule(_INFO, "it writes at a fixed place, so that place must be writable"),
}


RULES: Mapping[str, Rule] = MappingProxyType(
    _INSPECTION | _PYTHON | _FILES | _SECRETS | _LICENCES | _CONTRACT | _DOCKER | _SHELL
)


def finding(rule: str, *, file: str, line: int, found: str) -> Finding:
    """A finding of `rule`. `found`, the champion's own words, is escaped and cut here. KeyError for no rule of ours."""
    known = RULES[rule]
    return Finding(
        rule=rule, severity=known.severity, file=file, line=line, found=shown(found), why=known.why
    )


def shown(text: str) -> str:
    """`text` of a champion, control and other unprintable characters escaped, cut to MAX_FOUND_CHARS."""
    if len(text) <= MAX_FOUND_CHARS and text.isprintable():  # as most is
        return text
    escaped = "".join(map(_shown_char, text[: MAX_FOUND_CHARS + 1]))
    return escaped if len(escaped) <= MAX_FOUND_CHARS else f"{escaped[: MAX_FOUND_CHARS - 1]}…"


def _shown_char(char: str) -> str:
    if char.isprintable():
        return char
    return char.encode("unicode_escape").decode("ascii")
