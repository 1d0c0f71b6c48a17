"""The architecture, enforced by reading the source: nothing here imports a module of unmask.

Each check is a function of a root that returns its problems as sentences. The tests run every
check on this repository, and on a small made tree into which one mistake at a time is planted.
"""

import ast
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PACKAGE = "src/unmask"
DOORS = ("stages", "containers", "federated")  # folders of scripts, on the top layer beside cli

# The wings of the package, from top to bottom: a module imports from its own wing, without going
# in a circle, and from wings on lines below its own. Wings on one line don't know each other. What
# every room speaks is files, at the bottom, which may know each other.
WINGS = (
    ("cli",),
    ("serve",),
    ("answers", "evaluation", "federated", "sagemaker", "cluster"),
    ("models",),
    ("forgeries",),
    ("data", "faces"),
    ("video",),
    ("tracking", "engine", "storage", "hub"),
    ("runtime", "scoring"),
    ("errors", "extras", "geometry", "params", "records", "timm_facts"),
)
FILES = set(WINGS[-1])
DEPTHS = {wing: depth for depth, wings in enumerate(WINGS) for wing in wings}

# Outside libraries that only their owners import, here and in the doors' folders.
OWNERS = {
    "gradio": {"serve.page"},
    "fastapi": {"serve.app", "serve.bare", "serve.page"},
    "starlette": {
        "serve.app",
        "serve.connections",
        "serve.door",
        "serve.intake",
        "serve.request_filter",
    },
    "uvicorn": {"serve.connections", "serve.door"},
    "h11": {"serve.connections"},
    "prometheus_client": {"serve.metrics"},
    "python_multipart": {"serve.forms"},
    "httpx": {"serve.page"},  # asks Gradio's app for its page
    "av": {
        "video.ahead",
        "video.codec_pass",
        "video.coded",
        "video.colour",
        "video.decode",
        "video.encode",
        "video.frame",
        "video.pictures",
        "video.scale",
        "video.sound",
        "video.streams",
        "video.transport",
        "video.endings",
    },
    "PIL": {"video.still", "evaluation.plots"},  # plots: reduces their colours
    "pi_heif": {"video.still"},
    "jinja2": {"runtime.templates"},
    "markupsafe": {"runtime.templates"},
    "facenet_pytorch": {"faces.torch_cascade", "faces.mtcnn_source"},
    "onnxruntime": {"engine.onnxruntime_net"},
    "openvino": {"engine.openvino_net"},
    "fvcore": {"models.backbones", "models.image_net"},  # X3D's squeeze-and-excitation is fvcore's
    "pytorchvideo": {"models.backbones"},
    "timm": {"models.frame_net", "models.adopt.nets", "timm_facts"},
    "huggingface_hub": {"hub.client", "hub.refusals", "models.adopt.source"},
    "mlflow": {"tracking.mlflow_client", "tracking.mlflow_tracker", "answers.pyfunc"},
    "wandb": {"tracking.wandb_tracker"},
    "sagemaker": {"sagemaker.submit", "sagemaker.local"},
    "boto3": {"sagemaker.checks", "storage.s3", "tracking.mlflow_client"},  # the last: its errors
    "botocore": {  # model_source and mlflow_client know its errors
        "sagemaker.submit",
        "sagemaker.checks",
        "sagemaker.crop_jobs",
        "sagemaker.jobs",
        "storage.s3",
        "tracking.mlflow_client",
        "answers.model_source",
    },
    "dvc": {"storage.dvc_files", "answers.model_source"},
    "c2pa": {"answers.credentials"},
    "cryptography": {"answers.certificates", "answers.signatures"},
    "dulwich": {"runtime.checkout"},
    "dvc_data": {"answers.model_source"},
    "docker": {"federated.local"},
    "ray": {"cluster.ray_cluster"},
    "substra": {
        "federated.specs",
        "federated.local",
        "federated.remote.submit",
        "federated.remote.client",
        "federated.remote.watch",
    },
    "substratools": {"federated"},  # the functions and the opener, which it runs
    "sklearn": set(),  # the tests check our metrics against it
}

# What would stay if the benchmark moved to another framework (docs/federated.md): neither they nor
# what they import, at whatever depth, know Substra.
FREE_OF_SUBSTRA = {
    "federated.leaderboard", "federated.plans", "federated.predictions", "federated.samples",
    "federated.state", "federated.synthetic_samples", "federated.tasks",
}  # fmt: skip
SUBSTRA = {"substra", "substratools", "docker"}

# Not deps of a stage. params has no defaults: it can refuse a run, never change one. doors only
# says where words and runs go, and trainings: what comes back from elsewhere has the key of what
# was asked for. So that nothing hides behind them, they import only HARMLESS ones.
APART = {"params", "cli.common"}
GATE = "stages/params.py"  # the stage that checks all of params.yaml: to it the schema is a dep
HARMLESS = {
    "engine.cores", "errors", "extras", "geometry", "runtime.addresses", "runtime.checkout",
    "runtime.code", "runtime.plain_text", "runtime.system", "runtime.terminal", "sagemaker.checks",
    "sagemaker.config", "sagemaker.jobs", "sagemaker.local", "sagemaker.submit", "timm_facts",
    "tracking.mlflow_client", "tracking.mlflow_tracker", "tracking.offline_queue",
    "tracking.provenance", "tracking.tracker", "tracking.wandb_tracker",
}  # fmt: skip

# Who imports such a module runs the scripts in that folder too, in processes of their own: they and
# what they import are deps. Not submit.py, which is a door.
RUNS_SCRIPTS = {"federated.archives": "federated/*/*.py"}

# What `pip install unmask` brings: pyproject.toml's dependencies, by the names they are imported
# by; pydantic_core comes with pydantic, anyio with starlette, markupsafe with jinja2.
BASE = {
    "anyio", "av", "click", "cv2", "dulwich", "fastapi", "h11", "jinja2", "markupsafe",
    "numpy",
    "openvino", "prometheus_client", "pydantic", "pydantic_core", "python_multipart", "safetensors",
    "starlette",
    "tqdm", "uvicorn", "yaml",
}  # fmt: skip
# What a library of those imports that has parts for others.
NOT_BASE = ("safetensors.torch",)
# Modules all of whose commands have `needs`, or whose callers ask extras.check first.
OF_EXTRAS = {
    "cli.adopt", "cli.crop_on_sagemaker", "cli.federated", "cli.sagemaker", "cli.training",
    "cluster.ray_cluster",
}  # fmt: skip
NO_COMMANDS = {"cli.common", "cli.command_group"}  # functions that commands of both kinds call

# Modules without a test file of their own.
UNTESTED = {
    "__main__",  # a call of cli; the pipeline's test runs it
    "engine.net",  # a protocol; test_openvino_net and test_torch_net run what has it
    "records",  # rows; test_record_files writes and reads them, and asks their few methods
    "errors",  # names without code; each is raised in the test of the module that raises it
    "data.layouts.celeb_df",  # test_layouts reads a chunk of each layout
    "data.layouts.deeperforensics",
    "data.layouts.deepfake_eval",
    "data.layouts.deepfakebench",
    "data.layouts.df_timit",
    "data.layouts.dfdc",  # test_datasets too
    "data.layouts.dfdc_test",
    "data.layouts.entry",
    "data.layouts.faceforensics",
    "data.layouts.fakeavceleb",
    "data.layouts.folders",
    "data.layouts.frames",
    "data.layouts.manifest",
    "data.layouts.rows",
    "data.layouts.tables",
    "data.layouts.wilddeepfake",
    "data.protocols.protocol",  # test_protocols reads all of these
    "data.protocols.rules",
    "data.protocols.selection",
    "data.protocols.verify",  # test_benchmark_verify runs it
    "faces.cropper",  # test_crops cuts by it
    "federated.remote.client",  # test_federated_remote asks these of a server
    "federated.remote.config",
    "federated.remote.keys",
    "federated.remote.assets",
    "federated.remote.watch",
    "cli.adopt",  # test_adoption runs it
    "cli.crop_folders",  # test_crop of both folders runs these three
    "cli.crop_on_sagemaker",
    "cli.job_options",
    "cli.gate",  # test_gate runs it
    "cli.notice",  # test_main reads what it prints
    "cli.push",  # test_push runs it
    "hub.client",  # test_hub_model and test_push ask a Hub on loopback by these
    "hub.refusals",
    "cli.sagemaker",  # test_submit runs it
    "cli.training",  # test_split_study and test_pretrain run what it calls
    "forgeries.footage",  # test_fake hands it in
    "models.adopt.adapter",  # test_adoption adopts by each of these
    "models.adopt.adapters.community_forensics",
    "models.adopt.adapters.deepfakebench",
    "models.adopt.adapters.gend",
    "models.adopt.adapters.sbi",
    "models.adopt.adapters.siglip",
    "models.adopt.adapters.x3d",  # test_start
    "models.adopt.card",
    "models.adopt.check",
    "models.adopt.names",
    "models.adopt.padding",  # test_nets
    "models.adopt.published_file",
    "models.adopt.record",
    "models.adopt.registry",
    "models.adopt.source",  # test_adoption fetches by it, from a Hub on loopback
    "models.adopt.spec",
    "evaluation.benchmarks.score_table",  # test_imported reads by it
    "runtime.child",  # test_processes starts and ends it
    "sagemaker.checks",  # test_sagemaker asks these two of a server
    "sagemaker.jobs",
    "sagemaker.crop_jobs",  # test_crop asks these of a server, and runs the last in a process
    "sagemaker.crop_request",
    "sagemaker.crop_work",
    "video.ahead",  # test_decode reads by way of these, and writes with encode
    "video.coded",  # test_fingerprints digests what it gives
    "video.encode",
    "video.failures",
    "video.frame",
    "video.streams",
    "cli.places",  # test_predict asks it about each place
    "cli.serve",  # test_app asks a server that has all of these
    "serve.draw",
    "serve.request_filter",
    "serve.queue",
    "serve.worker",
    "serve.page",
    "serve.inference",
    "answers.file_says",  # records; test_credentials fills them, test_ask_files checks them
    "answers.hub_files",  # test_hub_model fetches these, and test_push sends them
    "answers.calibrated_folder",  # test_calibration writes and undoes it
    "answers.pyfunc",  # MLflow copies and runs it; the pipeline's test asks it for answers
}

# Modules with commands in them.
SPEAKERS = {
    f"{PACKAGE}/{name}.py"
    for name in (
        "cli/main", "cli/adopt", "cli/crop", "cli/crop_on_sagemaker", "cli/federated", "cli/gate",
        "cli/notice", "cli/predict", "cli/push", "cli/sagemaker", "cli/serve", "cli/training",
        "cli/verify",
        "runtime/terminal",
    )
}  # fmt: skip

# How a stage's params list all of a file: `- params.yaml:`, without keys.
ALL = "all of params.yaml"

# These unpickle, which runs whatever a file says, unless told weights_only=True.
UNPICKLERS = {"torch.load", "torch.serialization.load", "torch.hub.load_state_dict_from_url"}
GENERATORS = {"random.Random", "random.SystemRandom"} | {
    f"numpy.random.{name}"
    for name in ("default_rng", "Generator", "BitGenerator", "PCG64", "Philox", "SeedSequence")
}

# ---------------------------------------------------------------- reading source


def modules(root: Path) -> dict[str, Path]:
    """Return the files of the package by module name, dotted below a wing: `video.sound`."""
    package = root / PACKAGE
    return {
        ".".join(path.relative_to(package).with_suffix("").parts): path
        for path in sorted(package.rglob("*.py"))
        if path.name != "__init__.py"
    }


def packages(root: Path) -> list[Path]:
    """Return the `__init__.py` of the package and of each wing."""
    return sorted((root / PACKAGE).rglob("__init__.py"))


def scripts(root: Path) -> list[Path]:
    """Return the Python files in the doors' folders."""
    return [path for folder in DOORS for path in sorted((root / folder).rglob("*.py"))]


def sources(root: Path) -> dict[str, Path]:
    """Return every file the rules hold for, by its path from the root."""
    paths = [*modules(root).values(), *packages(root), *scripts(root)]
    return {path.relative_to(root).as_posix(): path for path in paths}


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports(tree: ast.Module) -> list[tuple[str, str]]:
    """Return what the file imports anywhere in it: the name it binds, and that name's long form.

    `import a.b` binds a, but its long form is a.b. A relative import is one from unmask.
    """
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(item.asname or item.name.split(".")[0], item.name) for item in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = ["unmask"] * bool(node.level) + [node.module] * bool(node.module)
            for item in node.names:
                found.append((item.asname or item.name, ".".join([*parts, item.name])))
    return found


def libraries(tree: ast.Module) -> list[str]:
    """Return the top-level names that the file imports from."""
    return sorted({name.split(".")[0] for _, name in imports(tree)})


def unmask_imports(tree: ast.Module, known: Collection[str]) -> set[str]:
    """Return the modules of unmask that the file imports, among the known ones.

    An import of what is none of them is returned as it is written: "" for the bare package.
    """
    found = set()
    for _, name in imports(tree):
        parts = name.split(".")
        if parts[0] != "unmask":
            continue
        dotted = [".".join(parts[1:end]) for end in range(len(parts), 1, -1)]
        found.add(next((part for part in dotted if part in known), ".".join(parts[1:])))
    return found


def references(tree: ast.Module) -> Iterator[tuple[ast.expr, str]]:
    """Yield each use of an imported name or a forbidden builtin with its long form.

    After `import numpy as np`, np.random.seed yields numpy.random.seed, numpy.random and numpy.
    """
    meanings: dict[str, set[str]] = {name: {name} for name in ("print", "__import__")}
    for bound, name in imports(tree):
        # Two functions may give one name to two things: all are yielded.
        meanings.setdefault(bound, set()).add(bound if name.startswith(f"{bound}.") else name)
    for node in ast.walk(tree):
        inner, tail = node, ""
        while isinstance(inner, ast.Attribute):
            inner, tail = inner.value, f".{inner.attr}{tail}"
        if isinstance(inner, ast.Name) and isinstance(node, ast.expr):
            for meaning in sorted(meanings.get(inner.id, ())):
                yield node, meaning + tail


# ---------------------------------------------------------------- (a) wings


def wing_of(module: str) -> str:
    return module.split(".")[0]


def wing_problems(root: Path) -> list[str]:
    """Say which modules stand in no wing, and which imports don't go down."""
    known = modules(root)
    problems = [
        f"{path.relative_to(root).as_posix()} is in no wing: add its folder to WINGS in "
        "tests/test_layout.py and say in ARCHITECTURE.md what it is for"
        for name, path in known.items()
        if name != "__main__" and wing_of(name) not in DEPTHS
    ]
    for file, path in sources(root).items():
        tree = parse(path)
        wing = PurePosixPath(file).relative_to(PACKAGE).parts[0] if is_ours(file) else ""
        depth = DEPTHS.get(wing.removesuffix(".py"), -1)
        for target in sorted(unmask_imports(tree, known)):
            if target not in known:
                asked = f"unmask.{target}" if target else "the bare package"
                problems.append(
                    f"{file} imports {asked}, which is no module: name one of {PACKAGE}"
                )
            elif path.name == "__init__.py":
                problems.append(f"{file} imports {target}: it must import nothing of unmask")
            elif {target, wing.removesuffix(".py")} <= FILES:
                continue
            elif wing_of(target) != wing and DEPTHS.get(wing_of(target), -1) <= depth:
                problems.append(
                    f"{file} imports unmask.{target}, which is in no wing below: move what it "
                    "needs down, or hand it in as an argument"
                )
        # stages/ is on sys.path while a stage runs, so its scripts could import each other.
        beside = {other.stem for other in path.parent.glob("*.py")} if "stages/" in file else set()
        for name in set(libraries(tree)) & {*DOORS, "tests", *beside}:
            problems.append(f"{file} imports {name}, a script: move what both need to {PACKAGE}")
    return problems


def is_ours(file: str) -> bool:
    return file.startswith(f"{PACKAGE}/")


def circle_problems(root: Path) -> list[str]:
    """Say which modules import each other in a circle."""
    known = modules(root)
    below = {name: unmask_imports(parse(path), known) & set(known) for name, path in known.items()}
    done: set[str] = set()
    problems = []

    def walk(name: str, way: tuple[str, ...]) -> None:
        if name in way:
            circle = " -> ".join([*way[way.index(name) :], name])
            problems.append(f"a circle of imports: {circle}. Take one of them apart")
        elif name not in done:
            for target in sorted(below[name]):
                walk(target, (*way, name))
            done.add(name)

    for name in known:
        walk(name, ())
    return problems


def stale_rows(root: Path) -> list[str]:
    """Say which rows of the tables above name what is gone."""
    owners = set().union(*OWNERS.values())
    tables = {
        "OWNERS": owners, "UNTESTED": UNTESTED, "HARMLESS": HARMLESS, "APART": APART,
        "FREE_OF_SUBSTRA": FREE_OF_SUBSTRA,
    }  # fmt: skip
    wings = {wing_of(name) for name in modules(root)}
    return [
        f"{table} names {name}; it is gone: take it out"
        for table, names in (*tables.items(), ("WINGS", set(DEPTHS)))
        for name in sorted(names - set(modules(root)) - set(DOORS) - wings)
    ]


# ---------------------------------------------------------------- (b) owners


def owner_problems(root: Path) -> list[str]:
    """Say which files import an outside library that belongs to another module."""
    problems = []
    for file, path in sources(root).items():
        parts = PurePosixPath(file).with_suffix("").parts
        owner = ".".join(parts[2:]) if is_ours(file) else parts[0]
        for library in libraries(parse(path)):
            if library in OWNERS and owner not in OWNERS[library]:
                owners = " and ".join(sorted(OWNERS[library])) or "the tests"
                problems.append(f"{file} imports {library}: only {owners} may")
    return problems


def framework_problems(root: Path) -> list[str]:
    """Say which modules that should outlive Substra import it, by whichever way."""
    known = modules(root)
    problems = []
    for name in sorted(FREE_OF_SUBSTRA & set(known)):
        for reached in sorted({name} | import_closure(root, known[name])):
            for library in sorted(SUBSTRA & set(libraries(parse(known[reached])))):
                problems.append(
                    f"{name} should not know Substra, but {reached} imports {library}: hand in "
                    "what it needs as an argument"
                )
    return problems


# ---------------------------------------------------------------- without extras


def started(body: Iterable[ast.AST]) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports that run when a module is imported: those in no function, and no types'."""
    for node in body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        elif not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            yield from started(ast.iter_child_nodes(node))


def asked(tree: ast.Module) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports of a door and of its functions, apart from those that `needs` decorates."""
    yield from started(tree.body)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and not any(
            isinstance(each, ast.Call) and ast.unparse(each.func) == "needs"
            for each in node.decorator_list
        ):
            yield from started(node.body)


def base_problems(root: Path) -> list[str]:
    """Say which commands without `needs` import what a plain `pip install unmask` does not bring.

    What they import themselves counts, wherever it stands in them; of what that imports, only what
    is imported at once.
    """
    known = modules(root)

    def names(nodes: Iterable[ast.Import | ast.ImportFrom]) -> list[str]:
        return [name for _, name in imports(ast.Module(list(nodes), []))]

    first = {name: names(started(parse(path).body)) for name, path in known.items()}
    problems = []
    for door in sorted(name for name in known if wing_of(name) == "cli"):
        if door in OF_EXTRAS | NO_COMMANDS:
            continue
        waiting = [((door,), name) for name in names(asked(parse(known[door])))]
        seen: set[str] = set()
        while waiting:
            way, name = waiting.pop()
            library = name.split(".")[0]
            if library == "unmask":
                parts = name.split(".")
                dotted = [".".join(parts[1:end]) for end in range(len(parts), 1, -1)]
                target = next((part for part in dotted if part in known), None)
                if target and target not in seen | OF_EXTRAS:
                    seen.add(target)
                    waiting += [((*way, target), more) for more in first[target]]
            elif library in sys.stdlib_module_names:
                continue
            elif library not in BASE or name.startswith(NOT_BASE):
                problems.append(
                    f"{' -> '.join(way)} imports {name}, which comes with an extra: import it "
                    "where it is used, or give the command `needs`"
                )
    return sorted(set(problems))


# Standard modules that one kind of system alone has.
OF_ONE_SYSTEM = {"fcntl", "grp", "msvcrt", "pwd", "resource", "termios", "_winapi", "winreg"}


def system_problems(root: Path) -> list[str]:
    """Say which modules can't even be imported on Windows, or elsewhere."""

    def unasked(body: Iterable[ast.AST]) -> Iterator[ast.Import | ast.ImportFrom]:
        kept = [
            node
            for node in body
            if not (isinstance(node, ast.If) and "sys.platform" in ast.unparse(node.test))
        ]
        return started(kept)

    return [
        f"{name} imports {library} at once: ask sys.platform first, or use runtime.system"
        for name, path in modules(root).items()
        for library in libraries(ast.Module(list(unasked(parse(path).body)), []))
        if library in OF_ONE_SYSTEM
    ]


# ---------------------------------------------------------------- (c), (d) dvc.yaml


def stages(root: Path) -> dict[str, dict[str, Any]]:
    """Return the stages of dvc.yaml; of a foreach stage what it does."""
    text = (root / "dvc.yaml").read_text(encoding="utf-8")
    return {name: stage.get("do", stage) for name, stage in yaml.safe_load(text)["stages"].items()}


def stage_scripts(stage: dict[str, Any]) -> list[str]:
    """Return the scripts below stages/ that the stage's commands run."""
    cmd = stage.get("cmd", "")
    lines = cmd if isinstance(cmd, list) else [cmd]
    return sorted({script for line in lines for script in re.findall(r"\bstages/[\w/]+\.py", line)})


def import_closure(root: Path, script: Path) -> set[str]:
    """Return the modules that the script imports, those they import, and so on; APART apart."""
    known = modules(root)
    apart = APART - ({"params"} if script == root / GATE else set())
    found: set[str] = set()
    waiting = unmask_imports(parse(script), known)
    while waiting:
        name = waiting.pop()
        if name in known and name not in found | apart:
            found.add(name)
            waiting |= unmask_imports(parse(known[name]), known)
    return found


def code_of(root: Path, script: Path) -> set[str]:
    """Return the files that decide what the script does: itself, its closure, what those run."""
    closure = import_closure(root, script)
    run = [path for name in closure & set(RUNS_SCRIPTS) for path in root.glob(RUNS_SCRIPTS[name])]
    for path in run:
        closure |= import_closure(root, path)
    files = {path.relative_to(root).as_posix() for path in (script, *run)}
    return files | {f"{PACKAGE}/{module.replace('.', '/')}.py" for module in closure}


def dependency_problems(root: Path) -> list[str]:
    """Say which lines to add to or remove from the stages' deps."""
    problems = []
    for name, stage in stages(root).items():
        used = stage_scripts(stage)
        if "wdir" in stage or len(used) != 1 or not (root / used[0]).is_file():
            problems.append(
                f"dvc.yaml, stage {name}: its cmd should run one script, stages/<name>.py, from "
                f"the root; found {', '.join(used) or 'none'}{' and a wdir' * ('wdir' in stage)}"
            )
            continue
        wanted = code_of(root, root / used[0])
        given = {_entry_name(dep) for dep in stage.get("deps", [])}
        code = {dep for dep in given if dep.endswith(".py") or _holds_code(root, dep)}
        problems += _differences(name, "deps", wanted=wanted, given=code)
    known = modules(root)
    for module in sorted(APART & set(known)):
        for target in sorted(unmask_imports(parse(known[module]), known) - APART - HARMLESS):
            problems.append(
                f"{module} is no dep of any stage, so it may not import {target}: a change there "
                "would leave stale results"
            )
    return problems


def _entry_name(entry: Any) -> str:
    """Return the path of a dep, which may carry options: `- path: {...}`."""
    return str(PurePosixPath(next(iter(entry)) if isinstance(entry, dict) else entry))


def _holds_code(root: Path, dep: str) -> bool:
    """Say whether a dep is a folder with code in it, which would rerun too much."""
    return any(PurePosixPath(dep) in PurePosixPath(file).parents for file in sources(root))


def _differences(stage: str, key: str, *, wanted: set[str], given: set[str]) -> list[str]:
    problems = []
    for verb, lines in (("add to", wanted - given), ("remove from", given - wanted)):
        if lines:
            listed = "".join(f"\n      - {line}" for line in sorted(lines))
            problems.append(f"dvc.yaml, stage {stage}: {verb} its {key}:{listed}")
    return problems


def param_sections(root: Path) -> set[str]:
    """Return the fields of the class Params: the sections of params.yaml."""
    for node in parse(root / PACKAGE / "params.py").body:
        if isinstance(node, ast.ClassDef) and node.name == "Params":
            targets = [item.target for item in node.body if isinstance(item, ast.AnnAssign)]
            return {target.id for target in targets if isinstance(target, ast.Name)}
    raise AssertionError(f"{PACKAGE}/params.py has no class Params")


def sections_taken(root: Path) -> dict[str, set[str]]:
    """Return what each `of` of a class reads off its argument, by the method's long name.

    Left out are those that use the argument in any other way, such as handing it on.
    """
    taken = {}
    for module, path in modules(root).items():
        for node in parse(path).body:
            for method in node.body if isinstance(node, ast.ClassDef) else []:
                if not isinstance(method, ast.FunctionDef) or method.name != "of":
                    continue
                [_, *arguments] = [argument.arg for argument in method.args.args]
                uses = [n for n in ast.walk(method) if isinstance(n, ast.Name)]
                reads = [
                    n
                    for n in ast.walk(method)
                    if isinstance(n, ast.Attribute)
                    and isinstance(n.value, ast.Name)
                    and n.value.id in arguments
                ]
                if len(reads) == sum(use.id in arguments for use in uses):
                    assert isinstance(node, ast.ClassDef)
                    taken[f"unmask.{module}.{node.name}.of"] = {read.attr for read in reads}
    return taken


def sections_read(tree: ast.Module, taken: Mapping[str, set[str]]) -> tuple[set[str], list[str]]:
    """Return the attributes read off params.load(), and the places that use it in any other way.

    Seen are `settings = params.load()` with `settings.faces` later, `params.load().faces`, and
    calls of the functions in taken, each of which reads these sections: `Settings.of(settings)`.
    """
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    wholes: list[ast.expr] = []  # expressions whose value is the Params as a whole
    bound: set[str] = set()
    for load in [node for node, name in references(tree) if name == "unmask.params.load"]:
        call = parents[load]
        if not (isinstance(call, ast.Call) and call.func is load):
            wholes.append(load)
            continue
        match parents[call]:
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                bound.add(name)
            case _:
                wholes.append(call)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in bound:
            wholes.append(node)
    takers = {node: taken[name] for node, name in references(tree) if name in taken}
    read, strays = set(), []
    for whole in wholes:
        parent = parents[whole]
        if isinstance(parent, ast.Attribute):
            read.add(parent.attr)
        elif isinstance(parent, ast.Call) and parent.func in takers:
            read |= takers[parent.func]
        else:
            strays.append(f"line {whole.lineno}: {ast.unparse(whole)}")
    return read, strays


def section_problems(root: Path) -> list[str]:
    """Say which lines to add to or remove from the stages' params."""
    problems = []
    taken = sections_taken(root)
    for name, stage in stages(root).items():
        for used in stage_scripts(stage):
            if not (root / used).is_file():
                continue  # dependency_problems says so
            read, strays = sections_read(parse(root / used), taken)
            if strays:
                problems.append(
                    f"{used} hands the params on as a whole ({'; '.join(strays)}): read its "
                    "sections off it there, so that dvc.yaml can be checked"
                )
            for odd in sorted(read - param_sections(root)):
                problems.append(f"{used} reads {odd} off the params: that is not a section")
            given: set[str] = set()
            for entry in stage.get("params", []):
                files = entry if isinstance(entry, dict) else {"params.yaml": [entry]}
                for file, keys in files.items():
                    prefix = "" if file == "params.yaml" else f"{file}: "
                    given |= {prefix + key for key in keys or [f"all of {file}"]}
            wanted = {ALL} if used == GATE else read & param_sections(root)
            problems += _differences(name, "params", wanted=wanted, given=given)
    return problems


# ---------------------------------------------------------------- (e) tests, (f) forbidden calls


def _test_of(module: str) -> str:
    *folders, name = module.split(".")
    return "/".join(["tests", *folders, f"test_{name}.py"])


def mirror_problems(root: Path) -> list[str]:
    """Say which modules have no test and which stage scripts no stage."""
    problems = [
        f"{path.relative_to(root).as_posix()} has no {_test_of(name)}"
        for name, path in modules(root).items()
        if name not in UNTESTED and not (root / _test_of(name)).is_file()
    ]
    run = {script for stage in stages(root).values() for script in stage_scripts(stage)}
    for path in sorted((root / "stages").rglob("*.py")):
        script = path.relative_to(root).as_posix()
        if script not in run:
            problems.append(f"{script} is run by no stage of dvc.yaml")
    return problems


def forbidden_problems(root: Path) -> list[str]:
    """Say where code unpickles, prints, draws from a global generator or hides an import."""
    problems = []
    for file, path in sources(root).items():
        tree = parse(path)
        calls = {node.func: node for node in ast.walk(tree) if isinstance(node, ast.Call)}
        for node, name in references(tree):
            if advice := _advice(file, name, calls.get(node)):
                problems.append(f"{file}, line {node.lineno}: {name}: {advice}")
        for _, name in imports(tree):
            if name.endswith(".*"):  # what it binds can't be seen
                problems.append(f"{file} imports {name}: import the names it uses")
    return problems


def _advice(file: str, name: str, call: ast.Call | None) -> str | None:
    """Return what to do instead of a reference to the name; None where it is allowed."""
    in_package = file.startswith(PACKAGE)
    if name in UNPICKLERS and not (call and _passes_true(call, "weights_only")):
        return "call it with weights_only=True; a pickle runs whatever it says"
    if name == "print" and in_package:
        return "log it, or return it to the door"
    if name in {"click.echo", "click.secho"} and in_package and file not in SPEAKERS:
        return "only cli speaks to the user; log it"
    if re.fullmatch(r"(numpy\.random|random)\.\w+", name) and name not in GENERATORS:
        return "a global generator; draw from one that is passed in"
    if name == "numpy.random.default_rng" and call and not (call.args or call.keywords):
        return "differs on every run; give it a seed from the params"
    if name in {"importlib.import_module", "__import__", "runpy.run_path", "runpy.run_module"}:
        return "an import this test can't see; write an import statement"
    return None


def _passes_true(call: ast.Call, keyword: str) -> bool:
    return any(
        k.arg == keyword and isinstance(k.value, ast.Constant) and k.value.value is True
        for k in call.keywords
    )


# ---------------------------------------------------------------- this repository

Check = Callable[[Path], list[str]]
CHECKS: list[Check] = [
    wing_problems,
    circle_problems,
    owner_problems,
    framework_problems,
    base_problems,
    system_problems,
    dependency_problems,
    section_problems,
    mirror_problems,
    forbidden_problems,
]


@pytest.mark.parametrize("check", [*CHECKS, stale_rows], ids=lambda check: check.__name__)
def test_this_repository_keeps_its_architecture(check: Check) -> None:
    problems = check(ROOT)
    assert not problems, "\n" + "\n".join(problems)


# ---------------------------------------------------------------- a made tree

TREE = {
    "dvc.yaml": """
        stages:
          raw:
            matrix: {chunk: "${chunks}"}
            cmd: python stages/raw.py ${item.chunk}
            deps:
              - data/chunks/${item.chunk}
              - stages/raw.py
              - src/unmask/data/datasets.py
              - src/unmask/records.py
              - src/unmask/errors.py
            params: [raw]
            outs: ["raw/${item.chunk}"]
          faces:
            foreach: ${chunks}
            do:
              cmd: [mkdir -p faces, "python stages/faces.py ${item}"]
              deps: [{stages/faces.py: {}}, src/unmask/faces/crops.py, src/unmask/video/decode.py]
              params: [faces, {params.yaml: [raw]}]
        """,
    "stages/raw.py": """
        from unmask import params
        from unmask.cli import common
        from unmask.data import datasets

        def main():
            settings = params.load()
            datasets.read(settings.raw)

        common.run_stage(main)
        """,
    "stages/faces.py": """
        from unmask.params import load as load_params

        def main():
            from unmask.faces.crops import crop
            crop(load_params().faces.crf, load_params().raw.seed)
        """,
    "src/unmask/__init__.py": '"""A docstring."""',
    "src/unmask/cli/main.py": "import click\nfrom unmask.cli import common\nclick.echo('words')",
    "src/unmask/data/datasets.py": "from unmask.records import VideoRecord",
    "src/unmask/cli/common.py": "from unmask.errors import UnmaskError",
    "src/unmask/errors.py": "",
    "src/unmask/faces/crops.py": "from unmask.video import decode",
    "src/unmask/scoring/metrics.py": "import numpy as np\nrng = np.random.default_rng(3)",
    "src/unmask/params.py": "class Params(Section):\n    raw: Raw\n    faces: Faces",
    "src/unmask/records.py": "import unmask.errors",
    "src/unmask/video/decode.py": "def read():\n    import av\n",
    **{
        f"src/unmask/{wing}/__init__.py": '"""A wing."""'
        for wing in ("cli", "data", "faces", "scoring", "video")
    },
    **{
        f"tests/{name}.py": ""
        for name in (
            "cli/test_main",
            "cli/test_common",
            "data/test_datasets",
            "faces/test_crops",
            "scoring/test_metrics",
            "test_params",
            "test_records",
            "video/test_decode",
        )
    },
}


def plant(root: Path, tree: dict[str, str]) -> None:
    for file, text in tree.items():
        lines = text.strip("\n").splitlines()
        indent = min((len(s) - len(s.lstrip()) for s in lines if s.strip()), default=0)
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(line[indent:] for line in lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_tree_that_keeps_the_rules_has_no_problem(check: Check, tmp_path: Path) -> None:
    plant(tmp_path, TREE)
    assert check(tmp_path) == []


def dvc_yaml(old: str, new: str) -> dict[str, str]:
    """Return dvc.yaml of the made tree with one thing changed."""
    assert old in TREE["dvc.yaml"]
    return {"dvc.yaml": TREE["dvc.yaml"].replace(old, new, 1)}


METRICS = "src/unmask/scoring/metrics.py"
RAW = "from unmask import params\nfrom unmask.data import datasets\n"
TAKES_SECTIONS = RAW + "from unmask.data.datasets import Some\nSome.of(params.load())"
SECTIONS = """
class Some:
    @classmethod
    def of(cls, params):
        return cls({given})
"""
MISTAKES: list[tuple[Check, dict[str, str], str]] = [
    (system_problems, {METRICS: "import fcntl"}, "scoring.metrics imports fcntl at once"),
    (
        system_problems,
        {METRICS: "import sys\nif sys.version_info > (3, 12):\n    from resource import getrlimit"},
        "imports resource at once",
    ),
    (
        base_problems,
        {
            "src/unmask/cli/main.py": "def predict():\n    from unmask.cli import common",
            "src/unmask/cli/common.py": "from unmask.data import datasets",
            "src/unmask/data/datasets.py": "try:\n    import torch\nexcept ImportError:\n    pass",
        },
        "cli.main -> cli.common -> data.datasets imports torch",
    ),
    (
        base_problems,
        {"src/unmask/cli/main.py": "@other('train')\ndef fit():\n    import timm"},
        "cli.main imports timm, which comes with an extra",
    ),
    (
        base_problems,
        {"src/unmask/cli/main.py": "def score():\n    from safetensors.torch import load"},
        "imports safetensors.torch.load",
    ),
    (
        framework_problems,
        {
            "src/unmask/federated/plans.py": "def check():\n    from unmask.federated import specs",
            "src/unmask/federated/specs.py": "from substra.sdk import schemas",
        },
        "federated.plans should not know Substra, but federated.specs imports substra",
    ),
    (
        framework_problems,
        {"src/unmask/federated/state.py": "import docker"},
        "federated.state should not know Substra, but federated.state imports docker",
    ),
    (wing_problems, {"src/unmask/novel.py": ""}, "src/unmask/novel.py is in no wing"),
    (wing_problems, {"src/unmask/deep/video.py": ""}, "src/unmask/deep/video.py is in no wing"),
    (
        wing_problems,
        {"src/unmask/errors.py": "import unmask.data.datasets"},
        "imports unmask.data.data",
    ),
    (
        wing_problems,
        {"src/unmask/records.py": "from unmask.video import decode"},
        "unmask.video.decode, which is in",
    ),
    (
        wing_problems,
        {"src/unmask/video/decode.py": "def f():\n    from unmask.faces import crops"},
        "src/unmask/video/decode.py imports unmask.faces.crops, which is in no wing below",
    ),
    (  # beside each other
        wing_problems,
        {"src/unmask/data/datasets.py": "from unmask.faces import crops"},
        "src/unmask/data/datasets.py imports unmask.faces.crops, which is in no wing below",
    ),
    (
        circle_problems,
        {
            "src/unmask/faces/crops.py": "from unmask.faces import tracks",
            "src/unmask/faces/tracks.py": "def f():\n    from unmask.faces.crops import crop",
        },
        "a circle of imports: faces.crops -> faces.tracks -> faces.crops",
    ),
    (
        wing_problems,
        {"containers/entry.py": "from unmask import cli"},
        "imports unmask.cli, which is no",
    ),
    (wing_problems, {"stages/raw.py": "from unmask.gone import x"}, "imports unmask.gone"),
    (wing_problems, {"stages/raw.py": "import unmask"}, "imports the bare package"),
    (wing_problems, {"stages/raw.py": "import faces"}, "stages/raw.py imports faces, a script"),
    (wing_problems, {"src/unmask/cli/main.py": "import stages.raw"}, "imports stages, a script"),
    (wing_problems, {"src/unmask/__init__.py": "from unmask import errors"}, "nothing of unmask"),
    (
        owner_problems,
        {"src/unmask/faces/crops.py": "import timm.models"},
        "crops.py imports timm: only models.adopt.nets and models.frame_net and timm_facts",
    ),
    (owner_problems, {"federated/functions.py": "from mlflow import log_metric"}, "imports mlflow"),
    (
        owner_problems,
        {METRICS: "import sklearn.metrics"},
        "only the tests may",
    ),
    (
        dependency_problems,
        dvc_yaml("              - src/unmask/errors.py\n", ""),
        "stage raw: add to its deps:\n      - src/unmask/errors.py",
    ),
    (
        dependency_problems,
        dvc_yaml(
            "src/unmask/faces/crops.py,",
            "src/unmask/faces/crops.py, src/unmask/scoring/metrics.py,",
        ),
        "stage faces: remove from its deps:\n      - src/unmask/scoring/metrics.py",
    ),
    (
        dependency_problems,
        dvc_yaml("- data/chunks/${item.chunk}", "- src/unmask"),
        "stage raw: remove from its deps:\n      - src/unmask",
    ),
    (
        dependency_problems,
        {"src/unmask/video/decode.py": "def f():\n    from unmask import errors"},
        "stage faces: add to its deps:\n      - src/unmask/errors.py",
    ),
    (  # what the stage packs is run by others: their imports are its deps too
        dependency_problems,
        {
            "src/unmask/video/decode.py": "from unmask.federated import archives",
            "src/unmask/federated/archives.py": "",
            "federated/train/function.py": "from unmask.scoring import metrics",
        },
        "      - federated/train/function.py\n      - src/unmask/federated/archives.py\n"
        "      - src/unmask/scoring/metrics.py",
    ),
    (dependency_problems, dvc_yaml("python stages/raw.py", "unmask raw"), "should run one script"),
    (dependency_problems, dvc_yaml("stages/raw.py", "stages/lost.py"), "found stages/lost.py"),
    (dependency_problems, dvc_yaml("params: [raw]", "wdir: stages"), "and a wdir"),
    (
        dependency_problems,
        {"src/unmask/cli/common.py": "from unmask.data import datasets"},
        "cli.common is no dep of any stage, so it may not import data.datasets",
    ),
    (
        section_problems,
        dvc_yaml("params: [raw]", "params: [faces]"),
        "stage raw: add to its params:\n      - raw",
    ),
    (
        section_problems,
        dvc_yaml("params: [faces, ", "params: [chunks, faces, "),
        "stage faces: remove from its params:\n      - chunks",
    ),
    (
        section_problems,
        dvc_yaml("params: [raw]", "params: [raw, {other.yaml: [raw]}]"),
        "remove from its params:\n      - other.yaml: raw",
    ),
    (section_problems, dvc_yaml("params: [raw]", "params: [params.yaml: ]"), "all of params.yaml"),
    (
        section_problems,
        {"stages/raw.py": RAW + "settings: params.Params = params.load()\nsettings.faces"},
        "stage raw: add to its params:\n      - faces",
    ),
    (
        section_problems,
        {"stages/raw.py": RAW + "settings = params.load()\nsettings.raw\nprint(settings)"},
        "as a whole (line 5: settings)",
    ),
    (
        section_problems,
        {"stages/raw.py": RAW + "settings = params.load()\nother = settings\nother.raw"},
        "as a whole (line 4: settings)",
    ),
    (
        section_problems,
        {"stages/raw.py": RAW + "datasets.read(params.load())"},
        "as a whole (line 3: params.load())",
    ),
    (
        section_problems,
        {"stages/raw.py": RAW + "datasets.read(params.load)"},
        "as a whole (line 3: params.load)",
    ),
    (
        section_problems,
        {"stages/raw.py": RAW + "params.load().model_dump()"},
        "reads model_dump off the params",
    ),
    (
        section_problems,
        {
            "stages/raw.py": TAKES_SECTIONS,
            "src/unmask/data/datasets.py": SECTIONS.format(given="params.raw, params.faces"),
        },
        "stage raw: add to its params:\n      - faces",
    ),
    (
        section_problems,
        {
            "stages/raw.py": TAKES_SECTIONS,
            "src/unmask/data/datasets.py": SECTIONS.format(given="params.raw, params"),
        },
        "as a whole (line 4: params.load())",
    ),
    (mirror_problems, {"src/unmask/faces/tracks.py": ""}, "has no tests/faces/test_tracks.py"),
    (mirror_problems, {"stages/idle.py": ""}, "stages/idle.py is run by no stage"),
    (
        forbidden_problems,
        {"federated/functions.py": "import torch\ntorch.load('x')"},
        "federated/functions.py, line 2: torch.load: call it with weights_only=True",
    ),
    (
        forbidden_problems,
        {"stages/raw.py": "from torch import load as l\nl('x', weights_only=False)"},
        "torch.load",
    ),
    (
        forbidden_problems,
        {"stages/raw.py": "import functools, torch\nf = functools.partial(torch.load, 'x')"},
        "torch.load",
    ),
    (
        forbidden_problems,
        {"src/unmask/video/decode.py": "print(1)"},
        "decode.py, line 1: print: log it",
    ),
    (
        forbidden_problems,
        {"src/unmask/video/decode.py": "import click\nclick.echo('')"},
        "only cli speaks to the user",
    ),
    (
        forbidden_problems,
        {METRICS: "import numpy as np\nnp.random.seed(1)"},
        "numpy.random.seed: a global generator",
    ),
    (
        forbidden_problems,
        {METRICS: "def f():\n    from random import shuffle\n    shuffle([])"},
        "line 3: random.shuffle: a global generator",
    ),
    (
        forbidden_problems,
        {METRICS: "from numpy import random\nrandom.default_rng()"},
        "differs on every run",
    ),
    (
        forbidden_problems,
        {METRICS: "import importlib\nimportlib.import_module('unmask.cli.main')"},
        "an import this test can't see",
    ),
    (forbidden_problems, {"stages/raw.py": "from random import *"}, "import the names it uses"),
]


@pytest.mark.parametrize(("check", "mistake", "said"), MISTAKES)
def test_a_mistake_is_found(
    check: Check, mistake: dict[str, str], said: str, tmp_path: Path
) -> None:
    plant(tmp_path, TREE | mistake)
    assert said in "\n".join(check(tmp_path))


def test_what_a_system_alone_has_is_imported_where_that_is_asked(tmp_path: Path) -> None:
    asked_first = "import sys\nif sys.platform != 'win32':\n    import fcntl"
    plant(
        tmp_path, TREE | {METRICS: asked_first, "src/unmask/video/decode.py": "def f(): import pwd"}
    )
    assert system_problems(tmp_path) == []


def test_what_runs_later_needs_no_extra_at_once(tmp_path: Path) -> None:
    later = {
        "src/unmask/cli/main.py": """
            from typing import TYPE_CHECKING
            from unmask.cli import common
            if TYPE_CHECKING:
                import torch

            @click.command()
            @needs("train")
            def fit():
                import timm

            def predict():
                from unmask.data import datasets
            """,
        "src/unmask/data/datasets.py": "def train():\n    import torch",
    }
    plant(tmp_path, TREE | later)
    assert base_problems(tmp_path) == []


@pytest.mark.parametrize("check", [dependency_problems, section_problems, mirror_problems])
def test_a_missing_dvc_yaml_is_no_pass(check: Check, tmp_path: Path) -> None:
    plant(tmp_path, {file: text for file, text in TREE.items() if file != "dvc.yaml"})
    with pytest.raises(FileNotFoundError):
        check(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "import torch\ntorch.load('x', weights_only=True)",
        "import random\nrandom.Random(3).shuffle([])",
        "import numpy as np\ndef f(rng: np.random.Generator): rng.random()",
        "import torch\nmodel = None\nmodel.load('x')",
        "from random import Random\ndef f(random: Random): random.shuffle([])",
    ],
)
def test_what_looks_like_a_forbidden_call_passes(text: str, tmp_path: Path) -> None:
    plant(tmp_path, TREE | {METRICS: text})
    assert forbidden_problems(tmp_path) == []


def test_a_row_for_a_module_that_is_gone_is_found(tmp_path: Path) -> None:
    plant(tmp_path, TREE)
    assert "UNTESTED names cli.gate; it is gone: take it out" in stale_rows(tmp_path)
    assert not any(" errors;" in problem for problem in stale_rows(tmp_path))
