"""The kinds of training task that the tournament has, and what each needs to be told."""

from dataclasses import dataclass
from enum import StrEnum

# Columns of a prepared dataset, under the names that champions hard-code.
INSTRUCT_COLUMNS = ("instruct", "input", "output", "system")
DPO_COLUMNS = ("prompt", "chosen", "rejected", "system")
GRPO_COLUMNS = ("prompt", "extra_data")
CHAT_COLUMN = "conversations"
ENVIRONMENTS = (
    "gin_rummy", "liars_dice", "leduc_poker", "othello", "clobber", "goofspiel", "intercode", "swe_infinite",
)  # fmt: skip


class TaskType(StrEnum):
    """The task types by the names that champions are told."""

    INSTRUCT = "InstructTextTask"
    CHAT = "ChatTask"
    DPO = "DpoTask"
    GRPO = "GrpoTask"
    ENVIRONMENT = "EnvTask"
    IMAGE = "ImageTask"


class ImageModel(StrEnum):
    """The families of image models, as `--model-type` names them."""

    SDXL = "sdxl"
    FLUX = "flux"
    Z_IMAGE = "z-image"
    QWEN_IMAGE = "qwen-image"
    IDEOGRAM4 = "ideogram4"
    KREA2 = "krea2"


@dataclass(frozen=True, slots=True, kw_only=True)
class KlPenalty:
    """The loss adds the divergence from the base model; without `coefficient` the champion chooses one."""

    coefficient: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardFunction:
    """One reward of a GRPO task: Python source, which the champion executes in its own process."""

    source: str
    weight: float
    reward_id: str | None = None
    func_hash: str | None = None
    is_generic: bool | None = None
    is_manual: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructTask:
    """Supervised training on instructions; `columns` are those of INSTRUCT_COLUMNS that the file has."""

    columns: tuple[str, ...]
    kl: KlPenalty | None = None

    @property
    def type(self) -> TaskType:
        """See TaskType."""
        return TaskType.INSTRUCT


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatTask:
    """Supervised training on conversations, which are in CHAT_COLUMN."""

    template: str = "chatml"
    role_field: str = "from"
    content_field: str = "value"
    user_reference: str = "user"
    assistant_reference: str = "assistant"

    @property
    def type(self) -> TaskType:
        """See TaskType."""
        return TaskType.CHAT


@dataclass(frozen=True, slots=True, kw_only=True)
class DpoTask:
    """Preference training; `columns` are those of DPO_COLUMNS that the file has."""

    columns: tuple[str, ...]

    @property
    def type(self) -> TaskType:
        """See TaskType."""
        return TaskType.DPO


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpoTask:
    """Training on rewards; `columns` are those of GRPO_COLUMNS that the file has."""

    columns: tuple[str, ...]
    rewards: tuple[RewardFunction, ...]

    @property
    def type(self) -> TaskType:
        """See TaskType."""
        return TaskType.GRPO


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentTask:
    """Training against game or tool servers, named as in ENVIRONMENTS."""

    environments: tuple[str, ...]

    @property
    def type(self) -> TaskType:
        """See TaskType."""
        return TaskType.ENVIRONMENT


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTask:
    """Training of a diffusion model on pairs of picture and caption."""

    model_type: ImageModel
    trigger_word: str | None = None

    @property
    def type(self) -> TaskType:
        """See TaskType."""
        return TaskType.IMAGE


TextTask = InstructTask | ChatTask | DpoTask | GrpoTask | EnvironmentTask
Task = TextTask | ImageTask
