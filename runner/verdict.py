"""Was the model trained? Decided from its tensors, never from an exit code.

A champion that fails may still exit 0, leaving the base model with noise on its input embeddings, half a
copy, or an adapter that changes nothing. The rules are tried in order; the first that breaks decides.

What is covered: whole files, configuration, shapes, NaN and infinity, equality with the base model.
What is not covered: whether the training was any good (the evaluation tells), and full weights that a
champion changed by other means than training.

Rules of the Gradients champion contract. Gradients.io (https://gradients.io).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from runner.adapter import adapter_changes_nothing, misfit_of_adapter
from runner.errors import RunnerError
from runner.safetensors import SafetensorsError, Tensor, is_finite, read_header, same_values
from runner.weights import ADAPTER, INDEX, WHOLE, Weights, WeightsError, open_adapter, open_weights, read_json

PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})
MAX_NAMES_TOLD = 8
MAX_DETAIL = 500  # characters
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
HEADS = ("lm_head.weight", "embed_out.weight")
# Constants that some versions of a library save and others do not.
BUFFERS = (".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".position_ids")
# Must equal the base model's where both configurations tell them (contract, validity gate `is_finetune`).
ARCHITECTURE = (
    "architectures", "hidden_size", "n_layer", "intermediate_size", "head_dim", "hidden_act", "model_type",
    "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
)  # fmt: skip
MUST_BE_TOLD = ("architectures", "model_type")


class NoModelError(RunnerError):
    """There is no model to judge: nothing was written, or nothing that may be loaded."""


class Verdict(StrEnum):
    """What the tensors say. Only `trained` is a model that may be kept."""

    TRAINED = "trained"
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
    """`check` answers (what was found, whether it holds); a file that is not whole breaks the rule."""

    name: str
    otherwise: Verdict
    check: Callable[[], tuple[bool, str]]


def decide_verdict(output: Path, base_model: Path) -> VerdictReport:
    """Judge the model in the folder `output` against the base model it was trained from.

    Reads every byte of the output at least once; pickles are never opened. Raises NoModelError if there is
    no model, WeightsError or SafetensorsError if the base model itself is unusable.
    """
    _require_model(output)
    if (output / "adapter_config.json").is_file():
        rules = _adapter_rules(output, base_model)
    else:
        rules = _full_rules(output, base_model)
    tried: list[RuleResult] = []
    for rule in rules:
        try:
            holds, detail = rule.check()
        except (WeightsError, SafetensorsError) as error:
            holds, detail = False, str(error)
        tried.append(RuleResult(rule=rule.name, holds=holds, detail=_printable(detail)))
        if not holds:
            return VerdictReport(verdict=rule.otherwise, rules=tuple(tried))
    return VerdictReport(verdict=Verdict.TRAINED, rules=tuple(tried))


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

    def own() -> Mapping[str, Tensor]:
        return open_weights(output).tensors

    return (
        _Rule(name="files-whole", otherwise=Verdict.PARTIAL, check=lambda: _whole(output, open_weights)),
        _Rule(
            name="architecture-equals-base",
            otherwise=Verdict.PARTIAL,
            check=lambda: _architecture(read_json(output / "config.json"), base_config),
        ),
        _Rule(
            name="tensors-match-base",
            otherwise=Verdict.PARTIAL,
            check=lambda: _same_tensors(own(), base.tensors),
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

    def config() -> dict[str, Any]:
        return read_json(output / "adapter_config.json")

    def own() -> Mapping[str, Tensor]:
        return open_adapter(output).tensors

    def fits() -> tuple[bool, str]:
        misfit = misfit_of_adapter(config(), own(), base)
        return misfit is None, misfit or f"{len(own())} tensors fit the base model"

    def changes() -> tuple[bool, str]:
        nothing = adapter_changes_nothing(config(), own(), base)
        return not nothing, nothing or "at least one adapted module differs from the base model"

    return (
        _Rule(name="files-whole", otherwise=Verdict.PARTIAL, check=lambda: _whole(output, open_adapter)),
        _Rule(name="adapter-fits-base", otherwise=Verdict.PARTIAL, check=fits),
        _Rule(name="values-finite", otherwise=Verdict.PARTIAL, check=lambda: _finite(own())),
        _Rule(name="adapter-changes-model", otherwise=Verdict.UNCHANGED, check=changes),
    )


def _whole(output: Path, opened: Callable[[Path], Weights]) -> tuple[bool, str]:
    """Every safetensors file beside the model too: a half copy of anything is a half copy."""
    weights = opened(output)
    for path in sorted(output.glob("*.safetensors")):
        read_header(path)
    return True, f"{len(weights.tensors)} tensors in {_told(list(weights.files))}"


def _architecture(config: Mapping[str, Any], base: Mapping[str, Any]) -> tuple[bool, str]:
    for key in ARCHITECTURE:
        told_twice = key in config and key in base
        if (told_twice or key in MUST_BE_TOLD) and config.get(key) != base.get(key):
            return False, f"config.json: {key} is {config.get(key)!r}, the base model has {base.get(key)!r}"
    longest, wanted = config.get("max_position_embeddings"), base.get("max_position_embeddings")
    if isinstance(longest, int) and isinstance(wanted, int) and longest < wanted:
        return False, f"config.json: max_position_embeddings {longest} is below the base model's {wanted}"
    return True, f"{base.get('model_type')}: configuration equals the base model's"


def _same_tensors(own: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> tuple[bool, str]:
    for name in sorted(own.keys() ^ base.keys()):
        here, there = (own, "base model") if name in own else (base, "output")
        if not name.endswith(BUFFERS) and not _is_tied_head(name, here):
            return False, f"{name} is missing in the {there}"
    for name in sorted(own.keys() & base.keys()):
        found, wanted = own[name].shape, base[name].shape
        # More or fewer token rows are legal; a model's width is not a champion's to change.
        resized = name.endswith(EMBEDDINGS + HEADS) and found[1:] == wanted[1:]
        if found != wanted and not resized:
            return False, f"{name} has shape {list(found)}, the base model's {list(wanted)}"
    return True, f"{len(base)} tensors as in the base model"


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
    for name in sorted(own.keys() & base.keys()):
        if not same_values(own[name], base[name]):
            return True, f"{name} differs from the base model"
    return False, f"all {len(own)} tensors equal the base model's"


def _beyond_embeddings(own: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> tuple[bool, str]:
    allowed = [n for n in own if n.endswith(EMBEDDINGS) or _is_tied_head(n, own)]
    for name in sorted((own.keys() & base.keys()) - set(allowed)):
        if not same_values(own[name], base[name]):
            return True, f"{name} differs from the base model"
    told = _told(sorted(allowed))
    return False, f"nothing but {told} differs from the base model: what a champion does when training failed"


def _told(names: list[str]) -> str:
    more = len(names) - MAX_NAMES_TOLD
    return ", ".join(names[:MAX_NAMES_TOLD]) + (f" and {more} more" if more > 0 else "")
