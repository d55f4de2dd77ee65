"""Does the model differ from its base as training would make it? From its tensors, never from an exit code.

A champion that fails may still exit 0, leaving the base model with noise on its input embeddings, half a
copy, or an adapter that changes nothing. The rules are tried in order; the first that breaks decides.

What is covered: whole files and no others of their kind, configuration, shapes and types, NaN and infinity,
equality with the base model.
What is not covered: whether the training was any good (the evaluation tells); weights that were changed by other
means than training, of which one flipped bit is the smallest: no tensor tells that apart; files that are no
weights, such as tokenizers and templates; constants that a library may save (BUFFERS).

A configuration must mean what the base model's means: what only a known default of the library or another
spelling tells apart is equal, any other field that differs is refused by its name. The evaluator compares once
more, with the library itself. Multimodal configurations, whose models lie inside, must be literally equal.

Rules of the Gradients champion contract. Gradients.io (https://gradients.io).
"""

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from reprlib import repr as short
from typing import Any

from runner.adapter import adapter_changes_nothing, misfit_of_adapter
from runner.errors import RunnerError
from runner.safetensors import FLOATS, SafetensorsError, Tensor, is_finite, same_values
from runner.weights import ADAPTER, INDEX, WHOLE, Weights, WeightsError, open_adapter, open_weights, read_json

PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})
MAX_NAMES_TOLD = 8
MAX_DETAIL = 500  # characters
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
HEADS = ("lm_head.weight", "embed_out.weight")
# Constants that some versions of a library save and others do not.
BUFFERS = (".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".position_ids")
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
# What a champion can cause with a name or a kind of file. All else is the operator's to see.
_GUESTS_DOING = frozenset({
    errno.EACCES, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENODEV, errno.ENOENT,
    errno.ENOTDIR, errno.ENXIO, errno.EPERM,
})  # fmt: skip


class NoModelError(RunnerError):
    """There is no model to judge: nothing was written, or nothing that may be loaded."""


class Verdict(StrEnum):
    """What the tensors say. Only `trained` is a model that may be kept."""

    TRAINED = "trained"  # differs from the base model, beyond its embeddings
    UNCHANGED = "unchanged"  # the base model again, or an adapter that changes nothing
    NOISE_FALLBACK = "noise-fallback"  # the base model with noise on its input embeddings
    PARTIAL = "partial"  # half a copy, or not a model of the base model's kind


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleResult:
    """One rule as tried; `detail` is a sentence for a person and part of the signed claim."""

    rule: str
    holds: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictReport:
    """The verdict and every rule tried for it, in order; the last is the broken one unless trained."""

    verdict: Verdict
    rules: tuple[RuleResult, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """`check` answers (whether it holds, what was found); a file that is not whole breaks the rule."""

    name: str
    otherwise: Verdict
    check: Callable[[], tuple[bool, str]]


def decide_verdict(output: Path, base_model: Path) -> VerdictReport:
    """Judge the model in the folder `output` against the base model it was trained from.

    Reads every byte of the output at least once, and parses each header once; pickles are never opened.
    Raises NoModelError if there is no model, WeightsError or SafetensorsError if the base model itself is
    unusable, OSError for a fault of this machine, never for one that a champion can cause.
    """
    _require_model(output)
    if (output / "adapter_config.json").is_file():
        rules = _adapter_rules(output, base_model)
    else:
        rules = _full_rules(output, base_model)
    tried: list[RuleResult] = []
    for rule in rules:
        otherwise = rule.otherwise
        try:
            holds, detail = rule.check()
        except (WeightsError, SafetensorsError) as error:
            holds, detail, otherwise = False, str(error), Verdict.PARTIAL
        except OSError as error:
            holds, detail, otherwise = False, _blame(error, output), Verdict.PARTIAL
        tried.append(RuleResult(rule=rule.name, holds=holds, detail=_printable(detail)))
        if not holds:
            return VerdictReport(verdict=otherwise, rules=tuple(tried))
    return VerdictReport(verdict=Verdict.TRAINED, rules=tuple(tried))


def _blame(error: OSError, output: Path) -> str:
    """A sentence about the champion's file, if it is one and the champion can have caused this; else raises."""
    path = Path(str(error.filename))
    if error.errno not in _GUESTS_DOING or output not in path.parents:
        raise error
    return f"{path.name[:255]}: {error.strerror}"


def _printable(detail: str) -> str:
    """Tensor names come from the guest: no control characters, no novels, in what is signed and shown."""
    return "".join(c if c.isprintable() else "\ufffd" for c in detail[:MAX_DETAIL])


def _require_model(output: Path) -> None:
    looked_for = f"looked for {WHOLE}, {INDEX} and {ADAPTER}"
    if not output.is_dir():
        raise NoModelError(f"the champion wrote no model: its output folder is missing; {looked_for}")
    names = sorted(p.name for p in output.iterdir() if p.is_file())
    if any((output / name).is_file() for name in (WHOLE, INDEX, ADAPTER)):
        return
    pickles = [name for name in names if Path(name).suffix in PICKLES]
    never = f"; {_told(pickles)}: pickles are never loaded" if pickles else ""
    raise NoModelError(f"the champion wrote no model: {looked_for}, found {_told(names) or 'nothing'}{never}")


def _full_rules(output: Path, base_model: Path) -> tuple[_Rule, ...]:
    base_config = read_json(base_model / "config.json")
    base = open_weights(base_model)

    @cache
    def weights() -> Weights:
        return open_weights(output)

    @cache
    def config() -> Mapping[str, Any]:
        return read_json(output / "config.json")

    def own() -> Mapping[str, Tensor]:
        return weights().tensors

    return (
        _Rule(name="files-whole", otherwise=Verdict.PARTIAL, check=lambda: _whole(output, weights())),
        _Rule(
            name="architecture-equals-base",
            otherwise=Verdict.PARTIAL,
            check=lambda: _architecture(config(), base_config),
        ),
        _Rule(
            name="tensors-match-base",
            otherwise=Verdict.PARTIAL,
            check=lambda: _same_tensors(own(), base.tensors, config=config(), base_config=base_config),
        ),
        _Rule(name="values-finite", otherwise=Verdict.PARTIAL, check=lambda: _finite(own())),
        _Rule(
            name="weights-changed", otherwise=Verdict.UNCHANGED, check=lambda: _changed(own(), base.tensors)
        ),
        _Rule(
            name="more-than-embeddings-changed",
            otherwise=Verdict.NOISE_FALLBACK,
            check=lambda: _beyond_embeddings(own(), base.tensors),
        ),
    )


def _adapter_rules(output: Path, base_model: Path) -> tuple[_Rule, ...]:
    base = open_weights(base_model).tensors

    @cache
    def weights() -> Weights:
        return open_adapter(output)

    @cache
    def config() -> Mapping[str, Any]:
        return read_json(output / "adapter_config.json")

    def own() -> Mapping[str, Tensor]:
        return weights().tensors

    def fits() -> tuple[bool, str]:
        misfit = misfit_of_adapter(config(), own(), base)
        return misfit is None, misfit or f"{len(own())} tensors fit the base model"

    def changes() -> tuple[bool, str]:
        nothing = adapter_changes_nothing(config(), own(), base)
        return not nothing, nothing or "at least one adapted module differs from the base model"

    return (
        _Rule(name="files-whole", otherwise=Verdict.PARTIAL, check=lambda: _whole(output, weights())),
        _Rule(name="adapter-fits-base", otherwise=Verdict.PARTIAL, check=fits),
        _Rule(name="values-finite", otherwise=Verdict.PARTIAL, check=lambda: _finite(own())),
        _Rule(name="adapter-changes-model", otherwise=Verdict.UNCHANGED, check=changes),
    )


def _whole(output: Path, weights: Weights) -> tuple[bool, str]:
    """No other weights beside those judged: whoever loads the folder must get what was judged."""
    for name in sorted(path.name for path in output.iterdir()):
        if name.casefold().endswith(".safetensors") and name not in weights.files:
            return False, f"{name} lies beside the weights that are judged"
    return True, f"{len(weights.tensors)} tensors in {_told(list(weights.files))}"


def _architecture(config: Mapping[str, Any], base: Mapping[str, Any]) -> tuple[bool, str]:
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


def _same_tensors(
    own: Mapping[str, Tensor],
    base: Mapping[str, Tensor],
    *,
    config: Mapping[str, Any],
    base_config: Mapping[str, Any],
) -> tuple[bool, str]:
    strange = sorted(n for n in own.keys() - base.keys() if not n.endswith(BUFFERS) and n not in HEADS)
    missing = sorted(n for n in base.keys() - own.keys() if not n.endswith(BUFFERS + HEADS))
    if strange or missing:
        return False, f"{(strange or missing)[0]} is missing in the {'base model' if strange else 'output'}"
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


def _finite(own: Mapping[str, Tensor]) -> tuple[bool, str]:
    for name in sorted(own):
        if not is_finite(own[name]):
            return False, f"{name} holds NaN or infinity"
    return True, "no NaN, no infinity"


def _changed(own: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> tuple[bool, str]:
    for name in _comparable(own, base):
        if not same_values(own[name], base[name]):
            return True, f"{name} differs from the base model"
    return False, f"all {len(own)} tensors equal the base model's"


def _beyond_embeddings(own: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> tuple[bool, str]:
    allowed = [n for n in own if n.endswith(EMBEDDINGS) or _is_tied_head(n, own)]
    for name in _comparable(own, base):
        if name not in allowed and not same_values(own[name], base[name]):
            return True, f"{name} differs from the base model, beyond its embeddings"
    told = _told(sorted(allowed))
    return False, f"nothing but {told} differs from the base model: what a champion does when training failed"


def _comparable(own: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> list[str]:
    """The names of what training can change in both: no constants."""
    return sorted(name for name in own.keys() & base.keys() if not name.endswith(BUFFERS))


def _told(names: list[str]) -> str:
    more = len(names) - MAX_NAMES_TOLD
    return ", ".join(names[:MAX_NAMES_TOLD]) + (f" and {more} more" if more > 0 else "")
