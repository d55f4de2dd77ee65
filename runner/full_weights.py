"""Full weights of a text model held against its base model's, tensor by tensor.

What is covered: names, shapes and types; a number of token rows that the configuration tells; output layers that are
copies of the input embeddings; NaN and infinity; equality of values, as a whole and beyond the embeddings.
What is not covered: whether a difference is one that training makes.
"""

from collections.abc import Mapping
from typing import Any

from runner.safetensors import FLOATS, Tensor, is_finite, same_values, told

MAX_NAMES_TOLD = 8
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
HEADS = ("lm_head.weight", "embed_out.weight")
# Constants that some versions of a library save and others do not.
BUFFERS = (".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".position_ids")


def same_tensors(
    own: Mapping[str, Tensor],
    base: Mapping[str, Tensor],
    *,
    config: Mapping[str, Any],
    base_config: Mapping[str, Any],
) -> tuple[bool, str]:
    """Whether both models have the same tensors, values apart, and what was found."""
    strange = sorted(n for n in own.keys() - base.keys() if not n.endswith(BUFFERS) and n not in HEADS)
    missing = sorted(n for n in base.keys() - own.keys() if not n.endswith(BUFFERS + HEADS))
    if strange or missing:
        return (
            False,
            f"{told((strange or missing)[0])} is missing in the {'base model' if strange else 'output'}",
        )
    # Only now is it known that the input embeddings are as many as the base model's.
    if (head := _wrong_head(own, base, ties=config.get("tie_word_embeddings"))) is not None:
        return False, head
    rows = config.get("vocab_size")
    is_resized = rows != base_config.get("vocab_size")
    for name in sorted(own.keys() & base.keys()):
        found, wanted = own[name], base[name]
        if found.dtype != wanted.dtype and not {found.dtype, wanted.dtype} <= FLOATS:
            return False, f"{name} is of type {found.dtype}, the base model's {wanted.dtype}"
        # More or fewer token rows are legal; a model's width is not a champion's to change.
        if is_resized and name.endswith(EMBEDDINGS + HEADS) and found.shape[1:] == wanted.shape[1:]:
            if found.shape[:1] != (rows,):
                return False, f"vocab_size is {rows}, but {name} has {found.shape[0]} rows"
        elif found.shape != wanted.shape:
            return False, f"{name} has shape {list(found.shape)}, the base model's {list(wanted.shape)}"
    return True, f"{len(base)} tensors as in the base model"


def all_finite(own: Mapping[str, Tensor]) -> tuple[bool, str]:
    """Whether no value is NaN or infinite, and which tensor has one."""
    for name in sorted(own):
        if not is_finite(own[name]):
            return False, f"{name} holds NaN or infinity"
    return True, "no NaN, no infinity"


def changed(own: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> tuple[bool, str]:
    """Whether a tensor differs from the base model's, and which."""
    for name in _comparable(own, base):
        if not same_values(own[name], base[name]):
            return True, f"{name} differs from the base model"
    return False, f"all {len(own)} tensors equal the base model's"


def changed_beyond_embeddings(own: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> tuple[bool, str]:
    """Whether a tensor differs that is no input embedding and no copy of one, and which."""
    allowed = [n for n in own if n.endswith(EMBEDDINGS) or _is_tied_head(n, own)]
    for name in _comparable(own, base):
        if name not in allowed and not same_values(own[name], base[name]):
            return True, f"{name} differs from the base model, beyond its embeddings"
    return (
        False,
        f"nothing but {listed(sorted(allowed))} differs from the base model: what a champion does when training failed",
    )


def listed(names: list[str]) -> str:
    """The first of the names, and how many more there are."""
    more = len(names) - MAX_NAMES_TOLD
    return ", ".join(names[:MAX_NAMES_TOLD]) + (f" and {more} more" if more > 0 else "")


def _wrong_head(own: Mapping[str, Tensor], base: Mapping[str, Tensor], *, ties: object) -> str | None:
    """What is wrong with an output layer that is there in one model only, or that its model ties; or None."""
    for name in sorted(n for n in own.keys() | base.keys() if n.endswith(HEADS)):
        if name not in own and (ties is False or not _is_tied_head(name, base)):
            return f"{name} is missing in the output"
        if name not in base and not _is_tied_head(name, own):
            return f"{name} is missing in the base model"
        if name in own and ties is True and not _is_tied_head(name, own):
            return f"{name} differs from the input embeddings, with which the configuration ties it"
    return None


def _is_tied_head(name: str, tensors: Mapping[str, Tensor]) -> bool:
    """Whether this output layer is a copy of its model's input embeddings, so that it may be left out."""
    if not name.endswith(HEADS):
        return False
    embeddings = [t for n, t in tensors.items() if n.endswith(EMBEDDINGS)]
    return any(same_values(tensors[name], embedding) for embedding in embeddings)


def _comparable(own: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> list[str]:
    """The names of what training can change in both: no constants."""
    return sorted(name for name in own.keys() & base.keys() if not name.endswith(BUFFERS))
