"""A model card names the real base model, and nothing else of it changes."""

import time

import pytest

from appliance.model_card import MAX_CARD_BYTES, MAX_TAG_BYTES, with_base_model


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b""),
        (b"# Card\nno field\n", b"# Card\nno field\n"),
        (b"base_model: /cache/models/a--b\n", b"base_model: org/base\n"),
        (b"  base_model: a\r\nx\r\n", b"base_model: org/base\nx\r\n"),
        (
            b"---\nbase_model:\n- a\n- b\ntags:\n- lora\n---\n",
            b"---\nbase_model: org/base\ntags:\n- lora\n---\n",
        ),
        (b"base_model:\n  - a\nlicense: mit", b"base_model: org/base\nlicense: mit"),
        (b"base_model: a\n- kept\n", b"base_model: org/base\n- kept\n"),
        (b"tags:\n- base_model:adapter:/cache/x\n", b"tags:\n- base_model:adapter:org/base\n"),
        (b"- 'base_model:finetune:/cache/x'\n- lora", b"- 'base_model:finetune:org/base'\n- lora"),
        (b'  -\t"base_model:merge:a" \r\n', b'  -\t"base_model:merge:org/base" \r\n'),
        (b"-base_model:merge:a\n", b"-base_model:merge:a\n"),
        (b"- x base_model:merge:a\n", b"- x base_model:merge:a\n"),
        (b"- base_model:other:a\n", b"- base_model:other:a\n"),
        (b"- base_model:merge\n", b"- base_model:merge\n"),
        (b'- base_model:merge:a"b\n', b'- base_model:merge:a"b\n'),
        (b"base_model_relation: adapter\n", b"base_model_relation: adapter\n"),
        (b"\xff\xfe\nbase_model:", b"\xff\xfe\nbase_model: org/base\n"),
    ],
)
def test_the_base_model_is_rewritten_wherever_it_is_named(before: bytes, after: bytes) -> None:
    assert with_base_model(before, "org/base") == after
    assert with_base_model(after, "org/base") == after


def test_a_line_that_is_too_long_for_a_tag_is_kept() -> None:
    start = b"- base_model:adapter:"
    assert with_base_model(start.ljust(MAX_TAG_BYTES, b"x"), "org/base") == start + b"org/base"
    long = start.ljust(MAX_TAG_BYTES + 1, b"x")
    assert with_base_model(long, "org/base") == long


def hostile(size_bytes: int) -> bytes:
    return b"- base_model:adapter:".ljust(size_bytes - 2) + b'"x'


@pytest.mark.parametrize(
    "card",
    [
        hostile(MAX_CARD_BYTES),
        (hostile(MAX_TAG_BYTES - 1) + b"\n") * (MAX_CARD_BYTES // MAX_TAG_BYTES),
        b" " * MAX_CARD_BYTES,
        b"base_model:\n" + b" " * MAX_CARD_BYTES + b"-",
    ],
    ids=["one line", "many lines", "blanks", "blanks in the list"],
)
def test_a_hostile_card_takes_no_time(card: bytes) -> None:
    began = time.monotonic()
    with_base_model(card, "org/base")
    assert time.monotonic() - began < 2.0
