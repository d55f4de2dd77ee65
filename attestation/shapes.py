"""Shapes of plain JSON, put together like the JSON itself; each refusal names the path and what was expected there."""

from collections.abc import Callable, Mapping

from attestation.digest import parse_sha256_hex
from attestation.errors import AttestationError, MalformedError
from attestation.times import parse_time

MAX_TEXT_CHARS = 4096  # names, reasons, details: for people, and bounded

Check = Callable[[object, str], None]  # value, and its path for the message


def fail(path: str, wanted: str) -> MalformedError:
    """The error for a value at `path` that is not what was `wanted`."""
    return MalformedError(f"{path}: expected {wanted}")


def text(value: object, path: str) -> None:
    """A text that is not empty."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT_CHARS:
        raise fail(path, f"a text of 1 to {MAX_TEXT_CHARS} characters")


def any_text(value: object, path: str) -> None:
    """A text, also an empty one."""
    if not isinstance(value, str) or len(value) > MAX_TEXT_CHARS:
        raise fail(path, f"a text of at most {MAX_TEXT_CHARS} characters")


def integer(value: object, path: str) -> None:
    """A whole number; true and false are none."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise fail(path, "an integer")


def count(value: object, path: str) -> None:
    """A whole number that is not negative."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise fail(path, "an integer of at least 0")


def truth(value: object, path: str) -> None:
    """true or false."""
    if not isinstance(value, bool):
        raise fail(path, "true or false")


def parsed_by(parse: Callable[[object], object]) -> Check:
    """Whatever `parse` takes without an error of ours."""

    def check(value: object, path: str) -> None:
        try:
            parse(value)
        except AttestationError as error:
            raise MalformedError(f"{path}: {error.message}") from error

    return check


def one_of(*values: str) -> Check:
    """One of these texts."""

    def check(value: object, path: str) -> None:
        if not isinstance(value, str) or value not in values:
            raise fail(path, f"one of {', '.join(values)}")

    return check


def either(*kinds: Check, wanted: str) -> Check:
    """What at least one of `kinds` takes."""

    def check(value: object, path: str) -> None:
        for kind in kinds:
            try:
                kind(value, path)
            except MalformedError:
                continue
            return
        raise fail(path, wanted)

    return check


def or_null(inner: Check) -> Check:
    """null, or what `inner` takes."""

    def check(value: object, path: str) -> None:
        if value is not None:
            inner(value, path)

    return check


def list_of(inner: Check) -> Check:
    """A list, also an empty one."""

    def check(value: object, path: str) -> None:
        if not isinstance(value, list | tuple):
            raise fail(path, "a list")
        for index, item in enumerate(value):
            inner(item, f"{path}[{index}]")

    return check


def map_of(inner: Check) -> Check:
    """An object with any keys."""

    def check(value: object, path: str) -> None:
        if not isinstance(value, Mapping):
            raise fail(path, "an object")
        for key, item in value.items():
            inner(item, f"{path}.{key}")

    return check


def exactly(**fields: Check) -> Check:
    """An object with these fields and no others."""
    required = at_least(**fields)

    def check(value: object, path: str) -> None:
        required(value, path)
        assert isinstance(value, Mapping)  # `required` saw to it
        if unknown := value.keys() - fields.keys():
            raise MalformedError(f"{path}: unknown fields {sorted(unknown)}")

    return check


def at_least(**fields: Check) -> Check:
    """An object with these fields; others are skipped, as in-toto demands of readers."""

    def check(value: object, path: str) -> None:
        if not isinstance(value, Mapping):
            raise fail(path, "an object")
        if missing := fields.keys() - value.keys():
            raise MalformedError(f"{path}: lacks {sorted(missing)}")
        for name, inner in fields.items():
            inner(value[name], f"{path}.{name}")

    return check


def bounded(inner: Check, *, values: int) -> Check:
    """What `inner` takes, as long as there are at most so many `values` in it and no text is too long."""

    def check(value: object, path: str) -> None:
        inner(value, path)
        left, waiting = values, [(value, path)]
        while waiting:
            found, where = waiting.pop()
            left -= 1
            if left < 0:
                raise fail(path, f"at most {values} values")
            if isinstance(found, str):
                any_text(found, where)
            elif isinstance(found, Mapping):
                for name in found:
                    any_text(name, where)
                waiting += [(item, f"{where}.{name}") for name, item in found.items()]
            elif isinstance(found, list | tuple):
                waiting += [(item, f"{where}[{index}]") for index, item in enumerate(found)]

    return check


sha256 = parsed_by(parse_sha256_hex)
time = parsed_by(parse_time)
digest = exactly(sha256=sha256)
