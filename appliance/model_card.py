"""The base model that a model card names: rewritten, since a champion knows only a path in its sandbox."""

import re
from typing import Final

MAX_CARD_BYTES: Final = 1 << 20  # real ones have some kB
_FIELD: Final = re.compile(rb"\s*base_model:")
_ITEM: Final = re.compile(rb"\s*-\s")
_TAG: Final = re.compile(
    rb"(\s*-\s+[\"']?base_model:(?:adapter|finetune|merge|quantized):)[^\"'\r\n]*([\"']?\s*)"
)


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
        elif tag := _TAG.fullmatch(line):
            lines.append(tag[1] + name.encode() + tag[2])
        else:
            lines.append(line)
    return b"".join(lines)
