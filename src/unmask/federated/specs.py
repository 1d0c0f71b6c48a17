"""The benchmark's functions, datasets and tasks as Substra wants them described."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from substra.sdk import schemas
from substra.sdk.schemas import AssetKind

from unmask.federated.archives import Asset
from unmask.federated.plans import FUNCTIONS, Task, taken_kind
from unmask.federated.samples import Side

OPENER, SAMPLES = "opener", "datasamples"  # Substra's names of these inputs


@dataclass(frozen=True)
class Keys:
    """What Substra calls what a plan names."""

    organisations: Mapping[str, str]
    functions: Mapping[str, str]
    datasets: Mapping[tuple[str, Side], str]
    samples: Mapping[tuple[str, Side], Sequence[str]]
    tasks: Mapping[str, str]


def permissions(organisations: Sequence[str]) -> schemas.Permissions:
    """Return the permission of those organisations, by Substra's ids; the owner has it anyway."""
    return schemas.Permissions(public=False, authorized_ids=list(organisations))


def function_spec(name: str, asset: Asset, open_to: Sequence[str]) -> schemas.FunctionSpec:
    """Return a function's registration; open_to are Substra's ids of who may run it."""
    function = FUNCTIONS[name]
    inputs = []
    if function.reads:
        inputs += [
            _input(OPENER, AssetKind.data_manager),
            _input(SAMPLES, AssetKind.data_sample, multiple=True),
        ]
    if function.model:
        inputs.append(
            _input(
                function.model, AssetKind.model, multiple=function.many, optional=function.optional
            )
        )
    kind = AssetKind.performance if function.is_metric else AssetKind.model
    output = schemas.FunctionOutputSpec(identifier=function.output, kind=kind, multiple=False)
    return schemas.FunctionSpec(
        name=f"unmask {name}", file=asset.path, description=asset.description, inputs=inputs,
        outputs=[output], permissions=permissions(open_to), metadata={"sha256": asset.sha256},
    )  # fmt: skip


def _input(
    name: str, kind: AssetKind, *, multiple: bool = False, optional: bool = False
) -> schemas.FunctionInputSpec:
    return schemas.FunctionInputSpec(
        identifier=name, kind=kind, multiple=multiple, optional=optional
    )


def dataset_spec(
    organisation: str, side: Side, opener: Asset, open_to: Sequence[str]
) -> schemas.DatasetSpec:
    """Return the registration of one side of an organisation's videos."""
    return schemas.DatasetSpec(
        name=f"{organisation} {side}", data_opener=opener.path, description=opener.description,
        permissions=permissions(open_to), logs_permission=permissions(open_to),
        metadata={"side": side, "sha256": opener.sha256},
    )  # fmt: skip


def task_spec(task: Task, keys: Keys) -> schemas.ComputePlanTaskSpec:
    """Return the registration of a task, by the key that keys.tasks has of it."""
    function = FUNCTIONS[task.function]
    inputs = []
    if task.reads:
        place = task.organisation, task.reads
        inputs.append(schemas.InputRef(identifier=OPENER, asset_key=keys.datasets[place]))
        inputs += [
            schemas.InputRef(identifier=SAMPLES, asset_key=key) for key in keys.samples[place]
        ]
    inputs += [
        schemas.InputRef(
            identifier=function.model, parent_task_key=keys.tasks[name],
            parent_task_output_identifier=taken_kind(task.function),
        )
        for name in task.takes
    ]  # fmt: skip
    allowed = [keys.organisations[name] for name in (task.organisation, *task.shared_with)]
    # A metric is everybody's, which Substra insists on.
    shared = schemas.Permissions(public=function.is_metric, authorized_ids=allowed)
    return schemas.ComputePlanTaskSpec(
        task_id=keys.tasks[task.name], function_key=keys.functions[task.function],
        worker=keys.organisations[task.organisation], inputs=inputs,
        outputs={function.output: schemas.ComputeTaskOutputSpec(permissions=shared)},
        tag=task.name, metadata={"round_idx": str(task.round)},
    )  # fmt: skip
