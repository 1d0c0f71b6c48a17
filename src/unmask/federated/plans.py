"""Who computes what on whose videos: plans as data, and the check before anything is sent.

Nothing here knows Substra: a plan can be checked, shown and compared without it.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from unmask.federated.samples import FederatedError, Sample, Side

MAX_NAMED = 5  # problems of one plan that a message names
AS_IT_IS = "as-it-is"  # the plan that trains nothing
METRICS = ("log_loss", "auc", "coverage")


@dataclass(frozen=True)
class Function:
    """What a function of the benchmark takes and gives."""

    output: str
    model: str | None = None  # the input that takes a task's output; None: it takes none
    many: bool = False  # whether that input takes several
    optional: bool = False
    reads: Side | None = None  # the side of an organisation's videos that it may see
    is_metric: bool = False


FUNCTIONS: Mapping[str, Function] = {
    "train": Function("model", model="start", optional=True, reads="train"),
    "publish": Function("model"),
    "aggregate": Function("model", model="models", many=True),
    "predict": Function("predictions", model="model", reads="test"),
    **{
        name: Function("performance", model="predictions", reads="test", is_metric=True)
        for name in METRICS
    },
}


@dataclass(frozen=True)
class Task:
    """A function, the organisation that runs it, and what it is given."""

    name: str
    function: str
    organisation: str
    reads: Side | None = None  # its organisation's train or test videos
    takes: tuple[str, ...] = ()  # tasks whose output it is given
    shared_with: tuple[str, ...] = ()  # who else may be given its output
    round: int = 0


@dataclass(frozen=True)
class Plan:
    """A submission: its tasks, each after those it takes from."""

    name: str
    train_on: tuple[str, ...]
    tasks: tuple[Task, ...] = field(repr=False)

    @property
    def model_task(self) -> str:
        """Return the name of the task that makes the plan's model."""
        return [task.name for task in self.tasks if FUNCTIONS[task.function].output == "model"][-1]

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the plan."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Organisation:
    """Who takes part, and who may compute on its videos beside itself."""

    name: str
    samples: tuple[Sample, ...]
    open_to: tuple[str, ...] = ()


def read_plan(values: Mapping[str, Any]) -> Plan:
    """Return the plan that asdict made values of."""
    tasks = tuple(
        Task(**task | {"takes": tuple(task["takes"]), "shared_with": tuple(task["shared_with"])})
        for task in values["tasks"]
    )
    return Plan(values["name"], tuple(values["train_on"]), tasks)


# ---------------------------------------------------------------- plans


def single(train_on: str, test_on: Sequence[str]) -> Plan:
    """Return the plan to train on one organisation's videos and test on everybody's."""
    train = _train(train_on, 1, (), test_on)
    return Plan(f"single-{train_on}", (train_on,), (train, *_tests(train, test_on)))


def sequence(train_on: Sequence[str], test_on: Sequence[str]) -> Plan:
    """Return the plan to train on one after the other, each from the last one's weights."""
    tasks: list[Task] = []
    for place, organisation in enumerate(train_on):
        then = test_on if place == len(train_on) - 1 else train_on[place + 1 : place + 2]
        before = (tasks[-1].name,) if tasks else ()
        tasks.append(_train(organisation, place + 1, before, then))
    return Plan("sequence", tuple(train_on), (*tasks, *_tests(tasks[-1], test_on)))


def fedavg(train_on: Sequence[str], test_on: Sequence[str], *, rounds: int) -> Plan:
    """Return the plan of federated averaging; the first organisation makes the means.

    In each round all train from the last mean, at first from the archive's own weights.
    """
    if rounds < 1:
        raise FederatedError(f"Asked for {rounds} rounds of averaging. Ask for 1 at least.")
    averager = train_on[0]
    tasks: list[Task] = []
    mean: Task | None = None
    for number in range(1, rounds + 1):
        before = (mean.name,) if mean else ()
        trained = [_train(org, number, before, (averager,)) for org in train_on]
        then = test_on if number == rounds else train_on
        mean = Task(
            f"mean-{number}", "aggregate", averager, takes=tuple(task.name for task in trained),
            shared_with=_others(then, averager), round=number,
        )  # fmt: skip
        tasks += [*trained, mean]
    assert mean is not None
    return Plan(f"fedavg-{rounds}", tuple(train_on), (*tasks, *_tests(mean, test_on)))


def pooled(pool: str, train_on: Sequence[str], test_on: Sequence[str]) -> Plan:
    """Return the plan that federation is compared with: all videos in one organisation, pool.

    It can run where the videos are all on one machine; it is what a network is there to avoid.
    """
    train = _train(pool, 1, (), test_on)
    return Plan("pooled", tuple(train_on), (train, *_tests(train, test_on)))


def as_it_is(owner: str, test_on: Sequence[str]) -> Plan:
    """Return the plan to test on everybody's videos a model that owner has, without training it."""
    model = Task("publish", "publish", owner, shared_with=_others(test_on, owner))
    return Plan(AS_IT_IS, (), (model, *_tests(model, test_on)))


def _train(organisation: str, number: int, before: tuple[str, ...], then: Sequence[str]) -> Task:
    return Task(
        f"train-{number}-{organisation}", "train", organisation, reads="train", takes=before,
        shared_with=_others(then, organisation), round=number,
    )  # fmt: skip


def _tests(model: Task, test_on: Sequence[str]) -> Iterator[Task]:
    for organisation in test_on:
        # What each video scores stays with its owner: only the metrics are everybody's.
        predict = Task(
            f"predict-{organisation}", "predict", organisation, reads="test", takes=(model.name,),
            round=model.round,
        )  # fmt: skip
        yield predict
        for metric in METRICS:
            yield Task(
                f"{metric}-{organisation}", metric, organisation, reads="test",
                takes=(predict.name,), round=model.round,
            )  # fmt: skip


def _others(organisations: Sequence[str], but: str) -> tuple[str, ...]:
    return tuple(name for name in organisations if name != but)


# ---------------------------------------------------------------- the check


def check(
    plan: Plan,
    organisations: Sequence[Organisation],
    *,
    submitter: str,
    functions_open_to: Mapping[str, Collection[str]],
) -> None:
    """Pass if the plan may be sent: Substra's local mode checks none of this, a network some.

    functions_open_to says of each function, by name, which organisations may run it.

    Raises:
        FederatedError: it may not; the message names the first five reasons.
    """
    by_name = {organisation.name: organisation for organisation in organisations}
    problems = list(_order_problems(plan, by_name))
    if not problems:
        problems += _permission_problems(plan, by_name, submitter, functions_open_to)
        problems += _leak_problems(plan, by_name)
    if problems:
        named = "\n".join(f"  {problem}" for problem in problems[:MAX_NAMED])
        more = f"\n  and {len(problems) - MAX_NAMED} more" if len(problems) > MAX_NAMED else ""
        raise FederatedError(
            f"Plan {plan.name} was not sent; found {len(problems)} thing(s) that it may not do:\n"
            f"{named}{more}\nChange the plan, the samples or who may use what."
        )


def _order_problems(plan: Plan, organisations: Mapping[str, Organisation]) -> Iterator[str]:
    done: dict[str, Task] = {}
    for task in plan.tasks:
        function = FUNCTIONS.get(task.function)
        if task.name in done:
            yield f"{task.name}: two tasks have this name"
        if function is None:
            yield f"{task.name}: {task.function} is no function; known are {', '.join(FUNCTIONS)}"
            continue
        if task.organisation not in organisations:
            yield f"{task.name}: there is no organisation {task.organisation}"
        if strange := [name for name in task.takes if name not in done]:
            yield f"{task.name}: takes what {strange[0]} makes, which no task before it does"
        least = 0 if function.model is None or function.optional else 1
        most = 0 if function.model is None else len(task.takes) if function.many else 1
        if not least <= len(task.takes) <= most:
            yield f"{task.name}: {task.function} is not run on {len(task.takes)} outputs"
        for name in set(task.takes) & set(done):
            given, wanted = FUNCTIONS[done[name].function].output, taken_kind(task.function)
            if given != wanted:
                yield f"{task.name}: takes {wanted}, {name} makes {given}"
        if task.reads != function.reads:
            what = f"{function.reads} videos" if function.reads else "no videos"
            yield f"{task.name}: {task.function} reads {what}, the plan gives it {task.reads}"
        done[task.name] = task


def taken_kind(function: str) -> str:
    """Return what the output is called that a function takes from other tasks."""
    return "predictions" if FUNCTIONS[function].is_metric else "model"


def _permission_problems(
    plan: Plan, organisations: Mapping[str, Organisation], submitter: str,
    functions_open_to: Mapping[str, Collection[str]],
) -> Iterator[str]:  # fmt: skip
    done = {task.name: task for task in plan.tasks}
    for task in plan.tasks:
        if task.organisation not in functions_open_to.get(task.function, ()):
            yield f"{task.name}: {task.organisation} may not run {task.function}"
        owner = organisations[task.organisation]
        if task.reads and submitter not in (owner.name, *owner.open_to):
            yield f"{task.name}: {owner.name} does not let {submitter} compute on its videos"
        for name in task.takes:
            maker = done[name]
            if task.organisation not in (maker.organisation, *maker.shared_with):
                yield (
                    f"{task.name}: {task.organisation} may not have what {name} makes at "
                    f"{maker.organisation}"
                )


def _leak_problems(plan: Plan, organisations: Mapping[str, Organisation]) -> Iterator[str]:
    sides: dict[Side, list[tuple[str, Sample]]] = {"train": [], "test": []}
    for reads, name in sorted({(t.reads, t.organisation) for t in plan.tasks if t.reads}):
        own = [sample for sample in organisations[name].samples if sample.side == reads]
        if not own:
            yield f"{name} has no {reads} samples"
        sides[reads] += [(name, sample) for sample in own]
    trained = list(sides["train"])
    names = {sample.name: who for who, sample in trained}
    files = {content: (who, s.name) for who, s in trained for content in s.contents}
    people = {person: (who, s.name) for who, s in trained for person in s.identities}
    for who, sample in sides["test"]:
        if sample.name in names:
            yield f"{who}'s test sample {sample.name} is used for training by {names[sample.name]}"
        elif shared := [files[content] for content in sample.contents if content in files]:
            yield f"{who}'s test sample {sample.name} shares a file with {_at(*shared[0])}"
        elif shared := [people[person] for person in sample.identities if person in people]:
            yield f"{who}'s test sample {sample.name} shows a source of {_at(*shared[0])}"


def _at(organisation: str, sample: str) -> str:
    return f"{sample}, which {organisation} trains on"
