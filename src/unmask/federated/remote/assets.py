"""What a plan needs on a real network: each asset with a digest of all that it is.

Whoever has the same files works out the same digest, so what somebody else registered is found.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unmask.federated import leaderboard, specs
from unmask.federated import plans as federated_plans
from unmask.federated.archives import Asset, Assets
from unmask.federated.plans import FUNCTIONS, Organisation, Plan
from unmask.federated.remote.config import Network
from unmask.federated.samples import SIDES, FederatedError, Side
from unmask.runtime.disk import content_digest

KINDS = ("single", "sequence", "fedavg")  # pooled would move the videos


@dataclass(frozen=True)
class Wanted:
    """An asset that a plan needs on the network."""

    owner: str
    name: str
    digest: str
    spec: Any = None  # Substra's description; None of a sample, which has a folder
    folder: Path | None = None
    dataset: str = ""  # the digest of a sample's dataset


def plans_of(
    kinds: Sequence[str], members: Mapping[str, Organisation], rounds: int, *, submitter: str
) -> list[Plan]:
    """Return the plans of these kinds: trained where there are train samples, tested likewise.

    What is scored as it is comes from the submitter.
    """
    sides = {side: [n for n, m in members.items() if _has(m, side)] for side in SIDES}
    train_on, test_on = sides["train"], sides["test"]
    trains = any(kind != federated_plans.AS_IT_IS for kind in kinds)
    if (trains and not train_on) or not test_on:
        raise FederatedError(
            f"Asked for plans; {len(train_on)} organisations have train samples and {len(test_on)} "
            "test samples. Say where they are: samples in organisations.yaml."
        )
    plans: list[Plan] = []
    if federated_plans.AS_IT_IS in kinds:
        plans.append(federated_plans.as_it_is(submitter, test_on))
    if "single" in kinds:
        plans += [federated_plans.single(name, test_on) for name in train_on]
    if "sequence" in kinds:
        plans.append(federated_plans.sequence(train_on, test_on))
    if "fedavg" in kinds:
        plans.append(federated_plans.fedavg(train_on, test_on, rounds=rounds))
    return plans


def _has(member: Organisation, side: Side) -> bool:
    return any(sample.side == side for sample in member.samples)


def check(plans: Sequence[Plan], network: Network, members: Mapping[str, Organisation]) -> None:
    """Pass if all plans may be sent.

    Raises:
        FederatedError: one may not.
    """
    for plan in plans:
        federated_plans.check(
            plan, list(members.values()), submitter=network.submitter,
            functions_open_to=dict.fromkeys(FUNCTIONS, network.functions_open_to),
        )  # fmt: skip


# ---------------------------------------------------------------- what a plan needs


def wanted_data(
    network: Network, member: Organisation, opener: Asset, sides: Sequence[Side] = SIDES
) -> list[Wanted]:
    """Return an organisation's datasets and samples."""
    own, found = network.organisations[member.name], []
    ids = network.ids([member.name, *member.open_to])
    about = [opener.sha256, content_digest(opener.description), ids]
    for side in sides:
        samples = [sample for sample in member.samples if sample.side == side]
        if own.samples is None or not samples:
            continue
        digest = _digest(["dataset", own.id, own.url, side, *about])
        spec = specs.dataset_spec(member.name, side, opener, ids)
        name = f"dataset {member.name} {side}"
        found.append(Wanted(member.name, name, digest, _marked(spec, digest)))
        for sample in samples:
            found.append(
                Wanted(
                    member.name, f"sample {side}/{sample.name}",
                    _digest(["sample", digest, sample.name]),
                    folder=own.samples / side / sample.name, dataset=digest,
                )
            )  # fmt: skip
    return found


def wanted_functions(network: Network, plans: Sequence[Plan], assets: Assets) -> list[Wanted]:
    """Return the functions that the plans run; the submitter registers them."""
    own = network.organisations[network.submitter]
    ids = network.ids([network.submitter, *network.functions_open_to])
    found = []
    for name in sorted({task.function for plan in plans for task in plan.tasks}):
        asset = assets.functions[name]
        about = [asset.sha256, content_digest(asset.description), ids, asdict(FUNCTIONS[name])]
        digest = _digest(["function", own.id, own.url, name, *about])
        spec = specs.function_spec(name, asset, ids)
        found.append(Wanted(network.submitter, f"function {name}", digest, _marked(spec, digest)))
    return found


def wanted_by(
    network: Network, plans: Sequence[Plan], members: Mapping[str, Organisation], assets: Assets
) -> list[Wanted]:
    """Return all that the plans need, in the order in which it is registered."""
    reads = {(task.organisation, task.reads) for plan in plans for task in plan.tasks}
    data = [
        each
        for name, member in members.items()
        for each in wanted_data(
            network, member, assets.opener, [side for side in SIDES if (name, side) in reads]
        )
    ]
    return [*data, *wanted_functions(network, plans, assets)]


def _marked(spec: Any, digest: str) -> Any:
    """Return the spec with the digest that it is found again by."""
    return spec.model_copy(update={"metadata": spec.metadata | {"asset": digest}})


def _digest(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def plan_digest(
    network: Network, plan: Plan, members: Mapping[str, Organisation], assets: Assets
) -> str:
    """Return the digest of all that decides what a plan scores on this network."""
    used = {task.organisation for task in plan.tasks}
    return leaderboard.submission_key(
        plan, assets.digests_for(plan),
        assets.opener.sha256, {name: [s.name for s in members[name].samples] for name in used},
        backend=f"remote {node_of(network)}",
    )  # fmt: skip


def node_of(network: Network) -> str:
    """Return what tells the submitter's node from others."""
    own = network.organisations[network.submitter]
    return f"{own.id} {own.url}"
