"""For any order that passes: the arguments' order, no argument too many, no secret, no input of another job."""

import json
from dataclasses import replace
from pathlib import PurePosixPath

from hypothesis import given, settings
from hypothesis import strategies as st

from runner.contract.arguments import arguments
from runner.contract.cache import cache_mounts
from runner.contract.check import check
from runner.contract.environment import SECRETS, environment
from runner.contract.epochs import EPOCHS
from runner.contract.order import TrainingInputs, TrainingOrder
from runner.contract.output import OUTPUT_TARGET, output_leaf
from runner.contract.tasks import (
    ENVIRONMENTS,
    ChatTask,
    DpoTask,
    EnvironmentTask,
    GrpoTask,
    ImageTask,
    InstructTask,
    KlPenalty,
    RewardFunction,
    Task,
    TaskType,
)
from tests.runner.contract_orders import IMAGE_INPUTS, STORE, TEXT_INPUTS, order

TEXT_OPTIONS = [
    "--task-id", "--model", "--dataset", "--dataset-type", "--task-type", "--file-format",
    "--expected-repo-name", "--hours-to-complete",
]  # fmt: skip
IMAGE_OPTIONS = [
    "--task-id", "--model", "--dataset-zip", "--model-type", "--expected-repo-name", "--hours-to-complete",
]  # fmt: skip
KEYS = {
    TaskType.INSTRUCT: [
        "system_prompt", "system_format", "field_system", "field_instruction", "field_input", "field_output",
        "format", "no_input_format", "field",
    ],
    TaskType.CHAT: [
        "chat_template", "chat_column", "chat_role_field", "chat_content_field", "chat_user_reference",
        "chat_assistant_reference",
    ],
    TaskType.DPO: [
        "field_prompt", "field_system", "field_chosen", "field_rejected", "prompt_format", "chosen_format",
        "rejected_format",
    ],
    TaskType.GRPO: ["field_prompt", "reward_functions", "extra_column"],
}  # fmt: skip
REWARD_KEYS = ["reward_id", "reward_func", "reward_weight", "func_hash", "is_generic", "is_manual"]
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
hub_ids = st.one_of(names, st.builds("{}/{}".format, names, names))
weights = st.floats(min_value=0, max_value=1e6)
words = st.text(min_size=1, max_size=20)
optional = st.none() | words
rewards = st.builds(
    RewardFunction,
    source=words.filter(str.strip),
    weight=weights,
    reward_id=optional,
    func_hash=optional,
    is_generic=st.none() | st.booleans(),
    is_manual=st.none() | st.booleans(),
)


def some(needed: tuple[str, ...], *others: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(others), unique=True).map(lambda more: (*needed, *more))


@st.composite
def tasks(draw: st.DrawFn, task_type: TaskType, *, has_kl: bool, has_one_environment: bool) -> Task:
    match task_type:
        case TaskType.INSTRUCT:
            kl = st.none() | st.builds(KlPenalty, coefficient=st.none() | weights)
            return InstructTask(
                columns=draw(some(("instruct", "output"), "input", "system")),
                kl=draw(kl) if has_kl else None,
            )
        case TaskType.CHAT:
            role, content, user, assistant = draw(st.lists(words, min_size=4, max_size=4, unique=True))
            return ChatTask(
                template=draw(words),
                role_field=role,
                content_field=content,
                user_reference=user,
                assistant_reference=assistant,
            )
        case TaskType.DPO:
            return DpoTask(columns=draw(some(("prompt", "chosen", "rejected"), "system")))
        case TaskType.GRPO:
            return GrpoTask(
                columns=draw(some(("prompt",), "extra_data")),
                rewards=tuple(draw(st.lists(rewards, min_size=1, max_size=5))),
            )
        case TaskType.ENVIRONMENT:
            most = 1 if has_one_environment else None
            named = st.lists(st.sampled_from(ENVIRONMENTS), min_size=1, max_size=most, unique=True)
            return EnvironmentTask(environments=tuple(draw(named)))
        case TaskType.IMAGE:
            raise AssertionError("see orders")


@st.composite
def orders(draw: st.DrawFn) -> tuple[TrainingOrder, TrainingInputs]:
    epoch, facts = draw(st.sampled_from(sorted(EPOCHS.items())))
    task_type = draw(st.sampled_from(sorted(facts.task_types)))
    inputs = TEXT_INPUTS
    if task_type is TaskType.IMAGE:
        inputs = IMAGE_INPUTS
        word = draw(st.none() | names) if facts.has_trigger_word else None
        task: Task = ImageTask(
            model_type=draw(st.sampled_from(sorted(facts.image_entries))), trigger_word=word
        )
    else:
        one = facts.environment_key == "environment_name"
        task = draw(tasks(task_type, has_kl=facts.has_kl, has_one_environment=one))
        if facts.has_requested_datasets:
            more = draw(st.dictionaries(hub_ids, st.just(STORE / "x"), max_size=1))
            inputs = replace(inputs, requested_datasets=more)
    if facts.has_baseline_statistics and draw(st.booleans()):
        inputs = replace(inputs, baseline_statistics=STORE / "statistics")
    made = replace(
        order(task, epoch),
        task_id=draw(names),
        model=draw(hub_ids),
        expected_repo_name=draw(names),
        participant=draw(names),
        hours_to_complete=draw(st.floats(min_value=0.001, max_value=72) | st.integers(1, 72)),
    )
    check(made, inputs=inputs)
    return made, inputs


@given(orders())
@settings(max_examples=150, deadline=None)
def test_arguments_are_the_contracts_in_its_order_and_no_others(
    ordered: tuple[TrainingOrder, TrainingInputs],
) -> None:
    made, _ = ordered
    told = arguments(made)
    wanted = TEXT_OPTIONS
    if isinstance(made.task, ImageTask):
        wanted = IMAGE_OPTIONS + (["--trigger-word"] if made.task.trigger_word is not None else [])
    assert list(told[::2]) == wanted
    assert not any(value.startswith("-") for value in told[1::2])
    by_option = dict(zip(told[::2], told[1::2], strict=True))
    assert by_option["--hours-to-complete"] == repr(float(made.hours_to_complete))
    assert by_option["--model"] == made.model


@given(orders())
@settings(max_examples=150, deadline=None)
def test_dataset_type_has_every_key_in_order(ordered: tuple[TrainingOrder, TrainingInputs]) -> None:
    made, _ = ordered
    if isinstance(made.task, ImageTask):
        return
    told = arguments(made)
    kind = json.loads(told[told.index("--dataset-type") + 1])
    if isinstance(made.task, EnvironmentTask):
        assert list(kind) == [EPOCHS[made.epoch].environment_key]
        return
    assert list(kind) == KEYS[made.task.type]
    for reward in kind.get("reward_functions", []):
        assert list(reward) == REWARD_KEYS
        assert isinstance(reward["reward_weight"], float)


@given(orders(), st.dictionaries(st.sampled_from([*sorted(SECRETS), "HF_HOME", "FINE"]), words))
@settings(max_examples=150, deadline=None)
def test_no_champion_is_given_a_secret(
    ordered: tuple[TrainingOrder, TrainingInputs], image: dict[str, str]
) -> None:
    made, inputs = ordered
    told = environment(made, inputs=inputs, image=image)
    assert not SECRETS & set(told)
    assert not [name for name in told if name.endswith(("TOKEN", "USERNAME", "API_KEY", "PASSWORD"))]
    assert told.get("FINE") == image.get("FINE")
    offline = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
    assert [told[name] for name in offline] == ["1", "1", "1"]
    assert (told["WANDB_MODE"], told["TZ"]) == ("offline", "UTC")


@given(orders())
@settings(max_examples=150, deadline=None)
def test_mounts_are_apart_below_the_cache_and_hold_this_job_alone(
    ordered: tuple[TrainingOrder, TrainingInputs],
) -> None:
    made, inputs = ordered
    targets = [PurePosixPath(m.target) for m in cache_mounts(made, inputs=inputs)]
    assert all(target.is_relative_to("/cache") and ".." not in target.parts for target in targets)
    assert not any(a.is_relative_to(b) for a in targets for b in targets if a is not b)
    leaf = PurePosixPath(OUTPUT_TARGET, output_leaf(made))
    assert not any(leaf.is_relative_to(target) for target in targets)
    variables = environment(made, inputs=inputs, image={})
    if (where := variables.get("BASELINE_STATS_PATH")) is not None:
        assert PurePosixPath(where) in targets
    for name in filter(None, variables.get("MINER_DATASETS", "").split(",")):
        assert PurePosixPath(variables["MINER_DATASETS_DIR"], name) in targets
