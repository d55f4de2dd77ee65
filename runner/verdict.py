"""Does the model differ from its base as training would make it? From its tensors, never from an exit code.

A champion that fails may still exit 0, leaving the base model with noise on its input embeddings, half a
copy, or an adapter that changes nothing. The rules are tried in order; the first that breaks decides.

What is covered: whole files and no others of their kind, configuration, shapes and types, NaN and infinity,
equality with the base model; full weights and adapters of text models, LoRA files of image models. What the
champion's log and `loss.txt` say stands beside the rules and decides nothing.
What is not covered: whether the training was any good (the evaluation tells); weights that were changed by other
means than training, of which one flipped bit is the smallest: no tensor tells that apart; files that are no
weights, such as tokenizers and templates; constants that a library may save (BUFFERS).

Rules of the Gradients champion contract. Gradients.io (https://gradients.io).
"""

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from runner.adapter import adapter_changes_nothing, misfit_of_adapter
from runner.architecture import HARMLESS, equals_base
from runner.contract.tasks import TaskType
from runner.diffusion_base import open_diffusion_base
from runner.errors import RunnerError
from runner.full_weights import (
    BUFFERS,
    EMBEDDINGS,
    HEADS,
    all_finite,
    changed,
    changed_beyond_embeddings,
    listed,
    same_tensors,
)
from runner.image_adapter import (
    fit,
    lora_changes_nothing,
    lora_files,
    misfit_of_base,
    misfit_of_lora,
    newest,
)
from runner.pickles import is_pickle_name
from runner.safetensors import SafetensorsError, Tensor, read_header
from runner.traces import Trace, TraceName, log_traces, loss_trace
from runner.weights import ADAPTER, INDEX, WHOLE, Weights, WeightsError, open_adapter, open_weights, read_json

__all__ = [
    "BUFFERS", "EMBEDDINGS", "HARMLESS", "HEADS",  # the evaluator has the same lists
    "NoModelError", "RuleResult", "Trained", "Verdict", "VerdictReport", "decide_verdict",
]  # fmt: skip

MAX_DETAIL = 500  # characters
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


class Trained(StrEnum):
    """The verdict in the contract's words."""

    VERIFIED = "verified"
    UNVERIFIED = "unverified"
    NOISE_FALLBACK = "noise_fallback"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleResult:
    """One rule as tried, or a trace as looked for, which always holds.

    `detail` is a sentence for a person and part of the signed claim.
    """

    rule: str
    holds: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictReport:
    """The verdict; the traces that were seen, then every rule tried; the last is the broken one unless trained."""

    verdict: Verdict
    rules: tuple[RuleResult, ...]
    # What the champion itself said against its training. Changes no verdict, but then nothing is verified.
    doubts: tuple[str, ...] = ()

    @property
    def trained(self) -> Trained:
        """See Trained."""
        if self.verdict is Verdict.NOISE_FALLBACK:
            return Trained.NOISE_FALLBACK
        is_verified = self.verdict is Verdict.TRAINED and not self.doubts
        return Trained.VERIFIED if is_verified else Trained.UNVERIFIED


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """`check` answers (whether it holds, what was found); a file that is not whole breaks the rule."""

    name: str
    otherwise: Verdict
    check: Callable[[], tuple[bool, str]]


def decide_verdict(
    output: Path,
    base_model: Path,
    *,
    task: TaskType | None = None,
    log: Path | None = None,
    wants_loss_file: bool = False,
    left_out: Mapping[str, str] | None = None,
) -> VerdictReport:
    """Judge the model in the folder `output` against the base model it was trained from.

    `base_model` is a folder, for image tasks also a single file. `log` is the champion's output, if it is to be looked
    at; `wants_loss_file` is for champions that write `loss.txt`; `left_out` are the paths that the harvest did not
    take, with the reasons.

    Reads every byte of the output at least once, and parses each header once; pickles are never opened.
    Raises NoModelError if there is no model, WeightsError or SafetensorsError if the base model itself is
    unusable, OSError for a fault of this machine, never for one that a champion can cause.
    """
    rules = _rules(output, base_model, task=task, left_out=left_out or {})
    seen = _traces(output, log=log, wants_loss_file=wants_loss_file)
    tried = [RuleResult(rule=trace.name, holds=True, detail=_printable(trace.detail)) for trace in seen]
    doubts = tuple(_printable(trace.detail) for trace in seen if trace.is_doubt)
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
            return VerdictReport(verdict=otherwise, rules=tuple(tried), doubts=doubts)
    return VerdictReport(verdict=Verdict.TRAINED, rules=tuple(tried), doubts=doubts)


def _rules(
    output: Path, base_model: Path, *, task: TaskType | None, left_out: Mapping[str, str]
) -> tuple[_Rule, ...]:
    if not output.is_dir():
        raise _no_model("its output folder is missing", task=task, left_out=left_out)
    if task is TaskType.IMAGE:
        files = lora_files(output)
        if not files:
            raise _no_model(_found(output), task=task, left_out=left_out)
        return _image_rules(output, base_model, files=files)
    if not any((output / name).is_file() for name in (WHOLE, INDEX, ADAPTER)):
        raise _no_model(_found(output), task=task, left_out=left_out)
    if (output / "adapter_config.json").is_file():
        return _adapter_rules(output, base_model)
    return _full_rules(output, base_model)


def _traces(output: Path, *, log: Path | None, wants_loss_file: bool) -> tuple[Trace, ...]:
    try:
        loss = loss_trace(output, is_wanted=wants_loss_file)
    except OSError as error:
        loss = Trace(name=TraceName.LOSS_FILE, is_doubt=True, detail=_blame(error, output))
    return (*(() if loss is None else (loss,)), *(() if log is None else log_traces(log)))


def _blame(error: OSError, output: Path) -> str:
    """A sentence about the champion's file, if it is one and the champion can have caused this; else raises."""
    path = Path(str(error.filename))
    if error.errno not in _GUESTS_DOING or output not in path.parents:
        raise error
    return f"{path.name[:255]}: {error.strerror}"


def _printable(detail: str) -> str:
    """Tensor names come from the guest: no control characters, no novels, in what is signed and shown."""
    return "".join(c if c.isprintable() else "\ufffd" for c in detail[:MAX_DETAIL])


def _found(output: Path) -> str:
    names = sorted(p.name for p in output.iterdir() if p.is_file())
    pickles = [name for name in names if is_pickle_name(name)]
    never = f"; {listed(pickles)}: pickles are never loaded" if pickles else ""
    return f"found {listed(names) or 'nothing'}{never}"


def _no_model(found: str, *, task: TaskType | None, left_out: Mapping[str, str]) -> NoModelError:
    wanted = "a LoRA file, .safetensors" if task is TaskType.IMAGE else f"{WHOLE}, {INDEX} and {ADAPTER}"
    reasons = [f"{path} ({reason})" for path, reason in sorted(left_out.items())]
    behind = f"; left in the sandbox: {listed(reasons)}" if reasons else ""
    if found.startswith("found"):
        return NoModelError(f"the champion wrote no model: looked for {wanted}, {found}{behind}")
    return NoModelError(f"the champion wrote no model: {found}; looked for {wanted}{behind}")


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
            check=lambda: equals_base(config(), base_config),
        ),
        _Rule(
            name="tensors-match-base",
            otherwise=Verdict.PARTIAL,
            check=lambda: same_tensors(own(), base.tensors, config=config(), base_config=base_config),
        ),
        _Rule(name="values-finite", otherwise=Verdict.PARTIAL, check=lambda: all_finite(own())),
        _Rule(
            name="weights-changed", otherwise=Verdict.UNCHANGED, check=lambda: changed(own(), base.tensors)
        ),
        _Rule(
            name="more-than-embeddings-changed",
            otherwise=Verdict.NOISE_FALLBACK,
            check=lambda: changed_beyond_embeddings(own(), base.tensors),
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
        _Rule(name="values-finite", otherwise=Verdict.PARTIAL, check=lambda: all_finite(own())),
        _Rule(name="adapter-changes-model", otherwise=Verdict.UNCHANGED, check=changes),
    )


def _image_rules(output: Path, base_model: Path, *, files: list[Path]) -> tuple[_Rule, ...]:
    base = open_diffusion_base(base_model)
    names = [file.relative_to(output).as_posix() for file in files]
    judged = newest(names) or names[0]

    @cache
    def own() -> Mapping[str, Tensor]:
        return {tensor.name: tensor for tensor in read_header(output / judged)}

    def whole() -> tuple[bool, str]:
        others = [name for name in names if name != judged]
        if others:
            return False, f"{others[0]} lies beside the weights that are judged, {judged}"
        return True, f"{len(own())} tensors in {judged}"

    def fits() -> tuple[bool, str]:
        misfit = misfit_of_lora(own()) or misfit_of_base(own(), base)
        return misfit is None, misfit or fit(own(), base)

    def changes() -> tuple[bool, str]:
        nothing = lora_changes_nothing(own())
        return not nothing, nothing or "at least one LoRA product is not zero"

    return (
        _Rule(name="files-whole", otherwise=Verdict.PARTIAL, check=whole),
        _Rule(name="adapter-fits-base", otherwise=Verdict.PARTIAL, check=fits),
        _Rule(name="values-finite", otherwise=Verdict.PARTIAL, check=lambda: all_finite(own())),
        _Rule(name="adapter-changes-model", otherwise=Verdict.UNCHANGED, check=changes),
    )


def _whole(output: Path, weights: Weights) -> tuple[bool, str]:
    """No other weights beside those judged: whoever loads the folder must get what was judged."""
    for name in sorted(path.name for path in output.iterdir()):
        if name.casefold().endswith(".safetensors") and name not in weights.files:
            return False, f"{name} lies beside the weights that are judged"
    return True, f"{len(weights.tensors)} tensors in {listed(list(weights.files))}"
