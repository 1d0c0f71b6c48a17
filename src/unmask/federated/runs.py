"""The whole benchmark on this machine: which plans, each checked, run and written down."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from unmask.federated import archives, leaderboard, local
from unmask.federated import plans as federated_plans
from unmask.federated import samples as federated_samples
from unmask.federated import tasks as federated_tasks
from unmask.federated.archives import Assets, Recipe
from unmask.federated.leaderboard import Submission
from unmask.federated.local import PREDICTIONS, Backend, Participant
from unmask.federated.plans import FUNCTIONS, Organisation, Plan
from unmask.federated.samples import FederatedError, Material, read_manifest
from unmask.runtime.disk import content_digest, sole_writer

if TYPE_CHECKING:
    from unmask.models.settings import Settings

KINDS = ("single", "sequence", "fedavg", "pooled")
POOL = "pool"  # the organisation that has everybody's train samples: only on one machine
ARCHIVES, SAMPLES = "archives", "samples"
SUBMISSIONS, PLANS, MODEL = "submissions", "plans", "model.zip"


def names_of(count: int) -> list[str]:
    """Return the names of organisations that only this machine knows."""
    return [f"org{number}" for number in range(1, count + 1)]


def deal(materials: Sequence[Material], names: Sequence[str], folder: Path) -> list[Participant]:
    """Deal the chunks' videos to organisations of these names; make samples in folder/samples.

    Raises:
        DatasetError: an organisation lacks a class of a split, or a chunk is not whole.
    """
    samples_dir = folder / SAMPLES
    for name, dealt in federated_samples.deal(materials, names).items():
        federated_samples.make_samples(name, dealt, samples_dir)
    return participants(names, samples_dir)


def pack(
    settings: "Settings", folder: Path, *, weights_cache: Path, model: Path | None = None
) -> Assets:
    """Write the archives of the checkout in the current folder to folder/archives; return them.

    model is the folder of one that a plan scores as it is.

    Raises:
        FederatedError: they can't be made.
        WeightsError: model.weights can't be had.
    """
    made_of = replace(recipe(settings, weights_cache=weights_cache), model=model)
    return archives.pack(Path(), made_of, folder / ARCHIVES)


def recipe(settings: "Settings", *, weights_cache: Path) -> Recipe:
    """Return what `train`'s archive is made of; the weights that it asks for go into it.

    Raises:
        WeightsError: model.weights can't be had.
    """
    from unmask.models import backbones  # with torch, which takes seconds

    model = settings.model
    found = backbones.find_weights(
        model.weights, model.backbone, sha256=model.weights_sha256, cache_dir=weights_cache
    )
    if found is None:
        return Recipe(federated_tasks.settings_text(settings), None, "")
    # A path in this checkout stays as it is: then a training has the key that it has in DVC.
    name = model.weights
    if Path(name).is_absolute() or ".." in Path(name).parts or Path(name) != found.path:
        name = f"weights/{found.path.name}"
        model = model.model_copy(update={"weights": name, "weights_sha256": found.sha256})
    text = federated_tasks.settings_text(replace(settings, model=model))
    return Recipe(text, found.path, name)


def plans_of(kinds: Sequence[str], organisations: Sequence[str], *, rounds: int) -> list[Plan]:
    """Return the plans of these kinds; each is tested on all organisations."""
    everybody = tuple(organisations)
    plans: list[Plan] = []
    if federated_plans.AS_IT_IS in kinds:
        plans.append(federated_plans.as_it_is(everybody[0], everybody))
    if "single" in kinds:
        plans += [federated_plans.single(name, everybody) for name in everybody]
    if "sequence" in kinds:
        plans.append(federated_plans.sequence(everybody, everybody))
    if "fedavg" in kinds:
        plans.append(federated_plans.fedavg(everybody, everybody, rounds=rounds))
    if "pooled" in kinds:
        plans.append(federated_plans.pooled(POOL, everybody, everybody))
    return plans


def participants(names: Sequence[str], samples_dir: Path) -> list[Participant]:
    """Return the organisations whose samples make_samples put into samples_dir.

    Raises:
        DatasetError: one has no manifest there.
    """
    found = []
    for name in names:
        samples = tuple(read_manifest(samples_dir / name))
        folders = {each.name: samples_dir / name / each.side / each.name for each in samples}
        found.append(Participant(name, samples, folders))
    return found


def home_of(folder: Path, plan: str, key: str) -> Path:
    """Return where a plan's model, predictions and logs are, by its name and submission's key."""
    return folder / PLANS / f"{plan}-{key[:16]}"


@dataclass(frozen=True)
class Step:
    """What a benchmark says while it runs: a task that is done, or a whole plan."""

    plan: Plan
    task: str
    submission: Submission | None = None  # with a plan's last step
    is_new: bool = False  # where the submission was not there before


def run(
    plans: Sequence[Plan],
    members: Sequence[Participant],
    assets: Assets,
    folder: Path,
    *,
    environment: Mapping[str, str],
    backend: Backend = "subprocess",
) -> Iterator[Step]:
    """Yield each task of the plans; a plan that was run before, by the same code, is kept.

    Results are in folder/submissions, models and logs in folder/plans/<plan>-<key>.

    Raises:
        FederatedError: a plan is refused, before any is run; no container engine answers where one
            is asked for; or a task failed.
        DiskError: another run writes into folder.
    """
    everybody = [*members, *([_pool(members)] if any(map(_is_pooled, plans)) else [])]
    for plan in plans:
        _check(plan, everybody)
    if backend == "docker":
        local.check_engine(environment)
    with sole_writer(folder):
        for plan in plans:
            yield from _run_plan(plan, everybody, assets, folder, environment, backend)


def _is_pooled(plan: Plan) -> bool:
    return any(task.organisation == POOL for task in plan.tasks)


def _pool(members: Sequence[Participant]) -> Participant:
    """Return an organisation that has the train samples of all, where they lie."""
    if any(member.name == POOL for member in members):
        raise FederatedError(f"Asked for an organisation {POOL}; give it another name.")
    samples = [each for member in members for each in member.samples if each.side == "train"]
    folders = {name: path for member in members for name, path in member.folders.items()}
    return Participant(POOL, tuple(samples), folders)


def _check(plan: Plan, members: Sequence[Participant]) -> None:
    names = [member.name for member in members]
    federated_plans.check(
        plan,
        [Organisation(each.name, each.samples, tuple(names)) for each in members],
        submitter=names[0],
        functions_open_to=dict.fromkeys(FUNCTIONS, names),
    )


def _run_plan(
    plan: Plan, members: Sequence[Participant], assets: Assets, folder: Path,
    environment: Mapping[str, str], backend: Backend,
) -> Iterator[Step]:  # fmt: skip
    used = {task.organisation for task in plan.tasks}
    own = [member for member in members if member.name in used]
    functions = assets.digests_for(plan)
    samples = {member.name: [sample.name for sample in member.samples] for member in own}
    key = leaderboard.submission_key(
        plan, functions, assets.opener.sha256, samples, backend=backend
    )
    submissions, home = folder / SUBMISSIONS, home_of(folder, plan.name, key)
    if leaderboard.path_of(submissions, key).is_file() and (home / PREDICTIONS).is_dir():
        [known] = [each for each in leaderboard.read_all(submissions) if each.key == key]
        yield Step(plan, "kept", known)
        return
    values: dict[str, float] = {}
    with closing(
        local.run(plan, own, assets, home, environment=environment, backend=backend)
    ) as tasks:
        for done in tasks:
            if done.value is not None:
                values[done.task] = done.value
            yield Step(plan, done.task)
    videos = {
        member.name: sum(s.reals + s.fakes for s in member.samples if s.side == "test")
        for member in own
    }
    scores = leaderboard.scores_of(plan, values)
    submission = Submission(
        plan=plan.name, train_on=plan.train_on, scores=scores,
        videos={name: videos[name] for name in scores}, functions=functions,
        samples=leaderboard.samples_digest(each.name for m in members for each in m.samples),
        model=content_digest(home / MODEL), backend=backend, key=key,
    )  # fmt: skip
    leaderboard.write(submissions, submission)
    yield Step(plan, "done", submission, is_new=True)
