"""Does a model's configuration mean what its base model's means?

What only a known default of the library or another spelling tells apart is equal; any other field that differs is
refused by its name. The evaluator compares once more, with the library itself. Multimodal configurations, whose models
lie inside, must be literally equal.
"""

from collections.abc import Mapping
from reprlib import repr as short
from typing import Any

# Fields of a configuration without effect on what the model computes. The evaluator has the same list.
HARMLESS = frozenset({
    "_attn_implementation_autoset", "_name_or_path", "attention_dropout", "attn_pdrop", "bos_token_id",
    "classifier_dropout", "dtype", "embd_pdrop", "eos_token_id", "hidden_dropout", "initializer_range",
    "pad_token_id", "resid_pdrop", "torch_dtype", "transformers_version", "unsloth_fixed", "unsloth_version",
    "use_cache",
})  # fmt: skip
# What a library takes a field for that an older one did not write (transformers 5.23), in general and by type.
DEFAULTS: Mapping[str, Any] = {
    "attention_bias": False, "is_decoder": False, "mlp_bias": False, "pretraining_tp": 1,
    "sliding_window": None, "use_bidirectional_attention": None, "use_sliding_window": False,
}  # fmt: skip
DEFAULTS_OF_TYPE: Mapping[str, Mapping[str, Any]] = {
    "gemma": {"tie_word_embeddings": True},
    "gemma2": {"tie_word_embeddings": True, "sliding_window": 4096},
    "gpt_neox": {"attention_bias": True},
    "mistral": {"sliding_window": 4096},
}
MAX_LAYERS = 10_000
# Older spellings of what stands in `rope_parameters` today.
_ROPE = {
    "rope_theta": "rope_theta", "rotary_emb_base": "rope_theta",
    "rotary_pct": "partial_rotary_factor", "partial_rotary_factor": "partial_rotary_factor",
}  # fmt: skip
_NOTHING = object()


def equals_base(config: Mapping[str, Any], base: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether a configuration means what the base model's means, and what was found."""
    ours, theirs = _meaning(base, base), _meaning(config, base)
    for key in sorted(ours.keys() | theirs.keys()):
        wanted, found = ours.get(key, _NOTHING), theirs.get(key, _NOTHING)
        # More positions are legal; more token rows if the tensors agree, which the next rule tells.
        match key:
            case "max_position_embeddings" if type(found) is int and type(wanted) is int:
                holds = found >= wanted
            case "vocab_size" if type(found) is int and type(wanted) is int:
                holds = found > 0
            case _:
                holds = found == wanted
        if not holds:
            return False, f"config.json: {key} is {_short(found)}, the base model has {_short(wanted)}"
    return True, f"{_short(base.get('model_type'))}: configuration equals the base model's"


def _short(value: object) -> str:
    return "nothing" if value is _NOTHING else short(value)


def _meaning(config: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that decide what the model computes, defaults filled in, each in its newest spelling."""
    told = {k: v for k, v in config.items() if k not in HARMLESS and not (k == "head_dim" and v is None)}
    fields = {**_defaults(base), **told}
    if str(base.get("model_type")).startswith(("qwen2", "qwen3")) and fields["use_sliding_window"] is False:
        del fields["sliding_window"]  # of no effect, and newer libraries empty it
    return _with_rope(fields)


def _defaults(base: Mapping[str, Any]) -> dict[str, Any]:
    model_type, layers = base.get("model_type"), base.get("num_hidden_layers")
    defaults = {**DEFAULTS, **DEFAULTS_OF_TYPE.get(str(model_type), {})}
    width, heads = base.get("hidden_size"), base.get("num_attention_heads")
    if type(width) is int and type(heads) is int and heads > 0:
        defaults["head_dim"] = width // heads
    if type(layers) is int and 0 < layers <= MAX_LAYERS:
        kinds = ("sliding_attention" if model_type == "gemma2" else "full_attention", "full_attention")
        defaults["layer_types"] = [kinds[number % 2] for number in range(layers)]
    return defaults


def _with_rope(fields: dict[str, Any]) -> dict[str, Any]:
    """`fields` with all about rotary positions in `rope_parameters`; as they are if they contradict themselves."""
    parts = [fields.get("rope_parameters") or {}, fields.get("rope_scaling") or {}]
    parts += [{_ROPE[key]: fields[key]} for key in _ROPE if fields.get(key) is not None]
    merged: dict[str, Any] = {}
    for part in parts:
        if not isinstance(part, dict) or any(isinstance(value, dict) for value in part.values()):
            return fields
        for key, value in part.items():
            if merged.setdefault("rope_type" if key == "type" else key, value) != value:
                return fields
    rest = {key: value for key, value in fields.items() if key not in {*_ROPE, "rope_scaling"}}
    return rest | {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default", **merged}}
