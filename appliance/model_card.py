"""The base model that a model card names: rewritten, since a champion knows only a path in its sandbox."""

import re
from typing import Final

MAX_CARD_BYTES: Final = 1 << 20  # real ones have some kB
MAX_TAG_BYTES: Final = 4096  # of a line; longer ones are no tags
_FIELD: Final = re.compile(rb"\s*base_model:")
_ITEM: Final = re.compile(rb"\s*-\s")
_TAG: Final = b"base_model:"
_TAG_KINDS: Final = frozenset({b"adapter", b"finetune", b"merge", b"quantized"})
_QUOTES: Final = (b'"', b"'")


def with_base_model(card: bytes, name: str) -> bytes:
    """`card` with `name` for each `base_model`, whatever stood there: one name, a list of them, a tag.

    >>> with_base_model(b"---\\nbase_model:\\n- /cache/models/org--base\\n---\\n", "org/base")
    b'---\\nbase_model: org/base\\n---\\n'
    """
    lines: list[bytes] = []
    is_in_list = False
    for line in card.splitlines(keepends=True):
        if is_in_list and _ITEM.match(line):
            continue
        is_in_list = False
        if _FIELD.match(line):
            lines.append(f"base_model: {name}\n".encode())
            is_in_list = not line.partition(b":")[2].strip()
        else:
            lines.append(_with_tag(line, name))
    return b"".join(lines)


def _with_tag(line: bytes, name: str) -> bytes:
    """`line`, with `name` in it if it is a tag such as `- base_model:adapter:org/base`.

    By hand: each step goes over the line once, which a champion has written.
    """
    if len(line) > MAX_TAG_BYTES:
        return line
    before, field, rest = line.partition(_TAG)
    kind, colon, value = rest.partition(b":")
    if not field or not colon or kind not in _TAG_KINDS:
        return line
    dash = before[:-1] if before.endswith(_QUOTES) else before
    if dash.strip() != b"-" or not dash[-1:].isspace():
        return line
    text = value.rstrip()
    named = text[:-1] if text.endswith(_QUOTES) else text
    if any(quote in named for quote in _QUOTES):
        return line
    return before + field + kind + colon + name.encode() + value[len(named) :]
