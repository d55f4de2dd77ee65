"""A model card names the real base model, and nothing else of it changes."""

import pytest

from appliance.model_card import with_base_model


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
        (b"base_model_relation: adapter\n", b"base_model_relation: adapter\n"),
        (b"\xff\xfe\nbase_model:", b"\xff\xfe\nbase_model: org/base\n"),
    ],
)
def test_the_base_model_is_rewritten_wherever_it_is_named(before: bytes, after: bytes) -> None:
    assert with_base_model(before, "org/base") == after
    assert with_base_model(after, "org/base") == after
