"""What became of a plan on a network: its tasks, the log of those that failed, what it scored."""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from substra.sdk import models

from unmask.federated import leaderboard, plans
from unmask.federated import state as federated_state
from unmask.federated.leaderboard import Submission
from unmask.federated.plans import METRICS, Plan
from unmask.federated.remote.client import Node
from unmask.federated.remote.keys import SentPlan
from unmask.federated.samples import FederatedError
from unmask.runtime.disk import content_digest

LOG_LINES = 25  # of a failed task
DONE, FAILED = models.ComputeTaskStatus.done, models.ComputeTaskStatus.failed
ENDED = {models.ComputePlanStatus.failed, models.ComputePlanStatus.canceled}


@dataclass(frozen=True)
class TaskState:
    """A task of a plan, as the network has it."""

    name: str
    organisation: str
    status: str  # Substra's word, in small letters
    log: str = ""  # the end of what a failed one said, or why it can't be had


@dataclass(frozen=True)
class PlanState:
    """A plan, as the network has it, and its tasks in the plan's order."""

    name: str
    status: str
    tasks: tuple[TaskState, ...]


def status(node: Node, sent: SentPlan) -> PlanState:
    """Return how far a plan is; the log of each failed task with it.

    Raises:
        FederatedError: the node does not say.
    """
    plan = plans.read_plan(sent.plan)
    with node.asking(f"show the plan {plan.name}"):
        found = node.client.get_compute_plan(sent.key)
        tasks = {each.key: each for each in node.client.list_task({"compute_plan_key": [sent.key]})}
    states = []
    for task in plan.tasks:
        there = tasks.get(sent.tasks[task.name])
        log = _log(node, task.name, there) if there and there.status == FAILED else ""
        word = _word(there.status.value) if there else "not there: submit again"
        states.append(TaskState(task.name, task.organisation, word, log))
    return PlanState(plan.name, _word(found.status.value), tuple(states))


def _word(status: str) -> str:
    """Return Substra's word without what all have in common: STATUS_DONE is done."""
    return status.removeprefix("PLAN_").removeprefix("STATUS_").lower().replace("_", " ")


def _log(node: Node, name: str, task: models.Task) -> str:
    """Return the end of a failed task's log: only letters, whatever the task wrote."""
    try:
        with node.asking(f"show the log of {name}"):
            text = node.client.get_logs(task.key)
    except FederatedError as error:  # not everybody may read it; that is worth knowing, not fatal
        kind = task.error_type.value if task.error_type else "no reason given"
        return f"{kind}; {error}"
    lines = node.secret.hide(text).splitlines()[-LOG_LINES:]
    return "\n".join("".join(c if c.isprintable() else " " for c in line) for line in lines)


def table(state: PlanState) -> str:
    """Return a plan's tasks by organisation, and the logs of the failed ones, as text."""
    lines = [f"{state.name}: {state.status}"]
    for organisation in sorted({task.organisation for task in state.tasks}):
        own = [task for task in state.tasks if task.organisation == organisation]
        lines.append(f"  {organisation}")
        lines += [f"    {task.name.ljust(28)} {task.status}" for task in own]
        for task in own:
            if task.log:
                lines.append(f"    {task.name} failed at {organisation}; its log ends:")
                lines += [f"      | {line}" for line in task.log.splitlines()]
    return "\n".join(lines)


def fetch(node: Node, sent: SentPlan, key: str, folder: Path) -> Submission:
    """Return what a plan scored; its model is put into folder where the submitter may have it.

    Raises:
        FederatedError: the plan is not done, a number is missing or none, or the model is damaged.
    """
    plan = plans.read_plan(sent.plan)
    with node.asking(f"show the plan {plan.name}"):
        found = node.client.get_compute_plan(sent.key)
    if found.status != models.ComputePlanStatus.done:
        remedy = "Mend what failed and submit again" if found.status in ENDED else "Wait"
        raise FederatedError(
            f"Asked for the results of {plan.name}; it is {_word(found.status.value)}, "
            f"{found.done_count} of {len(plan.tasks)} tasks done. {remedy}; `unmask federated "
            "status` says more."
        )
    values = _values(node, plan, sent)
    model = _fetch_model(node, plan, sent, folder)
    return Submission(
        plan=plan.name, train_on=plan.train_on, scores=leaderboard.scores_of(plan, values),
        videos=sent.videos, functions=sent.functions, samples=sent.samples,
        model=model, backend="remote", key=key,
    )  # fmt: skip


def _values(node: Node, plan: Plan, sent: SentPlan) -> dict[str, float]:
    """Return what each metric's task gave, by the task's name."""
    with node.asking(f"show what {plan.name} scored"):
        found = node.client.get_performances(sent.key)
    by_key = dict(zip(found.task_key, found.performance, strict=True))
    wanted = [task.name for task in plan.tasks if task.function in METRICS]
    values = {name: by_key.get(sent.tasks[name], math.nan) for name in wanted}
    if strange := [name for name, value in values.items() if not _is_number(value)]:
        raise FederatedError(
            f"Asked {node.name}'s node what {plan.name} scored; of {len(wanted)} numbers "
            f"{len(strange)} are missing or none: {', '.join(strange[:5])}. Nothing was written."
        )
    return values


def _is_number(value: object) -> bool:
    return isinstance(value, float | int) and math.isfinite(value)  # Substra takes NaN


def _fetch_model(node: Node, plan: Plan, sent: SentPlan, folder: Path) -> str | None:
    """Return the digest of the model's zip; None where the submitter may not have it."""
    [task] = [task for task in plan.tasks if task.name == plan.model_task]
    with node.asking("say what may be downloaded"):
        exports = node.client.organization_info().config.model_export_enabled
    if not exports or node.name not in (task.organisation, *task.shared_with):
        return None
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as fetched:
        with node.asking(f"send the model of {plan.name}"):
            path = node.client.download_model_from_task(sent.tasks[task.name], "model", fetched)
        federated_state.read(path)  # refused unless it is weights and settings, whole
        path.replace(folder / "model.zip")
    return content_digest(folder / "model.zip")


def failures(states: Sequence[PlanState]) -> int:
    """Return how many tasks failed."""
    return sum(bool(task.log) for state in states for task in state.tasks)
