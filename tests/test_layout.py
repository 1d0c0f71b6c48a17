"""The architecture, enforced by reading the source: nothing here imports a module of unmask.

Each check is a function of a root that returns its problems as sentences. The tests run every
check on this repository, and on a small made tree into which one mistake at a time is planted.
"""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PACKAGE = "src/unmask"
DOORS = ("stages", "containers", "federated")  # folders of scripts, on the top layer beside cli

# From top to bottom; a module imports only from layers strictly below its own. Some layers of
# ARCHITECTURE.md are split here, since a layer's modules don't import each other: cli stands
# above doors, disk and errors below records and params.
LAYERS = (
    ("__main__",),
    ("cli", *DOORS),
    ("federated_cli", "gate_cli", "predict_cli", "serve_cli"),
    ("doors",),
    ("serve",),
    ("serve_page",),
    ("serve_draw", "serve_jobs"),
    ("serve_work",),
    ("model_source", "answers_file", "serve_gate"),
    ("federated_runs", "federated_results", "federated_remote", "federated_remote_watch"),
    ("federated_remote_wanted", "federated_remote_client"),
    ("federated_tasks", "federated_local", "split_study"),
    ("sagemaker_local",),
    ("sagemaker",),
    ("sagemaker_jobs",),
    ("sagemaker_fetch", "sagemaker_data"),
    ("sagemaker_checks",),
    ("sagemaker_wishes",),
    ("robustness",),
    ("train", "evaluate", "pretrain", "mlflow_model", "raw"),
    ("case_report",),
    ("annotate", "timeline", "verify", "wording"),
    ("analysis", "sound"),
    (
        "predict",
        "report",
        "card",
        "custody",
        "evidence",
        "track_mlflow",
        "track_wandb",
        "federated_specs",
    ),
    (
        "classifier",
        "checkpoint",
        "cropping",
        "degrade",
        "resume",
        "sample",
        "fake",
        "journal",
        "mlflow_client",
        "federated_archives",
        "federated_board",
        "federated_remote_config",
        "federated_remote_keys",
    ),
    (
        "faces",
        "clips",
        "follow",
        "splits",
        "fingerprints",
        "spool",
        "federated_paint",
        "federated_plans",
        "federated_scores",
        "federated_state",
    ),
    ("search", "shared_detector"),
    ("detector",),
    ("cascade",),
    (
        "datasets",
        "leakage",
        "video",
        "drawing",
        "blend",
        "backbones",
        "metrics",
        "tracks",
        "ledger",
        "tracking",
        "job",
        "federated_samples",
        "inputs",
        "gate",
    ),
    ("archive", "records", "params", "scores", "stretches", "processes", "provenance", "verdicts"),
    ("disk", "digests", "groups"),
    ("errors", "geometry"),
)
DEPTHS = {name: depth for depth, names in enumerate(LAYERS) for name in names}

# Outside libraries that only their owners import, here and in the doors' folders.
OWNERS = {
    "gradio": {"serve_page"},
    "fastapi": {"serve", "serve_page"},
    "starlette": {"serve", "serve_gate"},
    "uvicorn": {"serve"},
    "av": {"video", "sound"},
    "jinja2": {"case_report"},
    "facenet_pytorch": {"cascade"},
    "fvcore": {"backbones", "pretrain"},  # X3D's squeeze-and-excitation is fvcore's
    "pytorchvideo": {"backbones"},
    "timm": {"backbones"},
    "mlflow": {"mlflow_client", "track_mlflow", "mlflow_model"},
    "wandb": {"track_wandb"},
    "sagemaker": {"sagemaker", "sagemaker_local"},
    "boto3": {"sagemaker_checks", "mlflow_client"},  # mlflow_client knows its errors
    "botocore": {  # model_source and mlflow_client know its errors
        "sagemaker",
        "sagemaker_checks",
        "sagemaker_jobs",
        "mlflow_client",
        "model_source",
    },
    "dvc": {"sagemaker_data", "model_source"},
    "dvc_data": {"model_source"},
    "docker": {"federated_local"},
    "substra": {
        "federated_specs",
        "federated_local",
        "federated_remote",
        "federated_remote_client",
        "federated_remote_watch",
    },
    "substratools": {"federated"},  # the functions and the opener, which it runs
    "sklearn": set(),  # the tests check our metrics against it
}

# Not deps of a stage. params has no defaults: it can refuse a run, never change one. doors only
# says where words and runs go, and trainings: what comes back from elsewhere has the key of what
# was asked for. So that nothing hides behind them, they import only HARMLESS ones.
APART = {"__init__", "params", "doors"}
GATE = "stages/params.py"  # the stage that checks all of params.yaml: to it the schema is a dep
HARMLESS = {
    "errors", "geometry", "mlflow_client", "provenance", "sagemaker", "sagemaker_checks",
    "sagemaker_jobs", "sagemaker_local", "sagemaker_wishes", "spool", "track_mlflow", "track_wandb",
    "tracking",
}  # fmt: skip

# Who imports such a module runs the scripts in that folder too, in processes of their own: they and
# what they import are deps. Not submit.py, which is a door.
RUNS_SCRIPTS = {"federated_archives": "federated/*/*.py"}

# Modules without a test file of their own.
UNTESTED = {
    "__init__",  # a docstring
    "__main__",  # a call of cli; the pipeline's test runs it
    "errors",  # names without code; each is raised in the test of the module that raises it
    "federated_remote_client",  # test_federated_remote asks these of a server
    "federated_remote_config",
    "federated_remote_keys",
    "federated_remote_wanted",
    "federated_remote_watch",
    "gate_cli",  # test_gate runs it
    "sagemaker_checks",  # test_sagemaker asks these two of a server
    "sagemaker_jobs",
    "serve_cli",  # test_serve asks a server that has all of these
    "serve_draw",
    "serve_gate",
    "serve_jobs",
    "serve_page",
    "serve_work",
    "mlflow_model",  # MLflow copies and runs it; the pipeline's test asks it for answers
}

# Modules with commands in them.
SPEAKERS = {
    f"{PACKAGE}/{name}.py"
    for name in ("cli", "federated_cli", "gate_cli", "predict_cli", "serve_cli")
}

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
    """Return the files of the package by module name, dotted below a subfolder."""
    package = root / PACKAGE
    return {
        ".".join(path.relative_to(package).with_suffix("").parts): path
        for path in sorted(package.rglob("*.py"))
    }


def scripts(root: Path) -> list[Path]:
    """Return the Python files in the doors' folders."""
    return [path for folder in DOORS for path in sorted((root / folder).rglob("*.py"))]


def sources(root: Path) -> dict[str, Path]:
    """Return every file the rules hold for, by its path from the root."""
    paths = [*modules(root).values(), *scripts(root)]
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


def unmask_imports(tree: ast.Module) -> set[str]:
    """Return the modules of unmask that the file imports; "" where it imports the bare package."""
    dotted = [name.split(".") for _, name in imports(tree)]
    return {"".join(parts[1:2]) for parts in dotted if parts[0] == "unmask"}


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


# ---------------------------------------------------------------- (a) layers


def layer_problems(root: Path) -> list[str]:
    """Say which modules stand in no layer, and which imports don't go down."""
    problems = []
    known = modules(root)
    for name, path in known.items():
        if name != "__init__" and name not in DEPTHS:
            problems.append(
                f"{PACKAGE}/{path.relative_to(root / PACKAGE).as_posix()} is in no layer: add it "
                "to LAYERS in tests/test_layout.py and say in ARCHITECTURE.md why it is there"
            )
    for file, path in sources(root).items():
        tree = parse(path)
        importer = path.stem if file.startswith(PACKAGE) else file.split("/")[0]
        for target in sorted(unmask_imports(tree)):
            if target not in known:
                asked = f"unmask.{target}" if target else "the bare package"
                problems.append(
                    f"{file} imports {asked}, which is no module: name one of {PACKAGE}"
                )
            elif importer == "__init__":
                problems.append(f"{file} imports {target}: it must import nothing of unmask")
            elif {importer, target} <= set(DEPTHS) and DEPTHS[target] <= DEPTHS[importer]:
                problems.append(
                    f"{file} imports unmask.{target}, which is not in a layer below: move what "
                    "it needs down, or hand it in as an argument"
                )
        # stages/ is on sys.path while a stage runs, so its scripts could import each other.
        beside = {other.stem for other in path.parent.glob("*.py")} if "stages/" in file else set()
        for name in set(libraries(tree)) & {*DOORS, "tests", *beside}:
            problems.append(f"{file} imports {name}, a script: move what both need to {PACKAGE}")
    return problems


def stale_rows(root: Path) -> list[str]:
    """Say which rows of the tables above name modules that are gone."""
    tables = {"LAYERS": set(DEPTHS), "OWNERS": set().union(*OWNERS.values()), "UNTESTED": UNTESTED}
    return [
        f"{table} names {name}; {PACKAGE}/{name}.py is gone: take it out"
        for table, names in tables.items()
        for name in sorted(names - set(modules(root)) - set(DOORS))
    ]


# ---------------------------------------------------------------- (b) owners


def owner_problems(root: Path) -> list[str]:
    """Say which files import an outside library that belongs to another module."""
    problems = []
    for file, path in sources(root).items():
        owner = path.stem if file.startswith(PACKAGE) else file.split("/")[0]
        for library in libraries(parse(path)):
            if library in OWNERS and owner not in OWNERS[library]:
                owners = " and ".join(sorted(OWNERS[library])) or "the tests"
                problems.append(f"{file} imports {library}: only {owners} may")
    return problems


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
    waiting = unmask_imports(parse(script))
    while waiting:
        name = waiting.pop()
        if name in known and name not in found | apart:
            found.add(name)
            waiting |= unmask_imports(parse(known[name]))
    return found


def code_of(root: Path, script: Path) -> set[str]:
    """Return the files that decide what the script does: itself, its closure, what those run."""
    closure = import_closure(root, script)
    run = [path for name in closure & set(RUNS_SCRIPTS) for path in root.glob(RUNS_SCRIPTS[name])]
    for path in run:
        closure |= import_closure(root, path)
    files = {path.relative_to(root).as_posix() for path in (script, *run)}
    return files | {f"{PACKAGE}/{module}.py" for module in closure}


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
    for module in sorted(APART & set(modules(root))):
        for target in sorted(unmask_imports(parse(modules(root)[module])) - APART - HARMLESS):
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


def sections_read(tree: ast.Module) -> tuple[set[str], list[str]]:
    """Return the attributes read off params.load(), and the places that use it in any other way.

    Seen are `settings = params.load()` with `settings.faces` later, and `params.load().faces`.
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
    read, strays = set(), []
    for whole in wholes:
        parent = parents[whole]
        if isinstance(parent, ast.Attribute):
            read.add(parent.attr)
        else:
            strays.append(f"line {whole.lineno}: {ast.unparse(whole)}")
    return read, strays


def section_problems(root: Path) -> list[str]:
    """Say which lines to add to or remove from the stages' params."""
    problems = []
    for name, stage in stages(root).items():
        for used in stage_scripts(stage):
            if not (root / used).is_file():
                continue  # dependency_problems says so
            read, strays = sections_read(parse(root / used))
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


def mirror_problems(root: Path) -> list[str]:
    """Say which modules have no test and which stage scripts no stage."""
    problems = [
        f"{PACKAGE}/{name}.py has no tests/test_{name}.py"
        for name in modules(root)
        if name not in UNTESTED and not (root / f"tests/test_{name}.py").is_file()
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
    layer_problems,
    owner_problems,
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
              - src/unmask/datasets.py
              - src/unmask/records.py
              - src/unmask/errors.py
            params: [raw]
            outs: ["raw/${item.chunk}"]
          faces:
            foreach: ${chunks}
            do:
              cmd: [mkdir -p faces, "python stages/faces.py ${item}"]
              deps: [{stages/faces.py: {}}, src/unmask/faces.py, src/unmask/video.py]
              params: [faces, {params.yaml: [raw]}]
        """,
    "stages/raw.py": """
        from unmask import datasets, doors, params

        def main():
            settings = params.load()
            datasets.read(settings.raw)

        doors.run_stage(main)
        """,
    "stages/faces.py": """
        from unmask.params import load as load_params

        def main():
            from unmask.faces import crop
            crop(load_params().faces.crf, load_params().raw.seed)
        """,
    "src/unmask/__init__.py": '"""A docstring."""',
    "src/unmask/cli.py": "import click\nfrom unmask import doors\nclick.echo('words')",
    "src/unmask/datasets.py": "from unmask.records import VideoRecord",
    "src/unmask/doors.py": "from .errors import UnmaskError",
    "src/unmask/errors.py": "",
    "src/unmask/faces.py": "from . import video",
    "src/unmask/metrics.py": "import numpy as np\nrng = np.random.default_rng(3)",
    "src/unmask/params.py": "class Params(Section):\n    raw: Raw\n    faces: Faces",
    "src/unmask/records.py": "import unmask.errors",
    "src/unmask/video.py": "def read():\n    import av\n",
    **{
        f"tests/test_{name}.py": ""
        for name in ("cli", "datasets", "doors", "faces", "metrics", "params", "records", "video")
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


RAW = "from unmask import datasets, params\n"
MISTAKES: list[tuple[Check, dict[str, str], str]] = [
    (layer_problems, {"src/unmask/novel.py": ""}, "src/unmask/novel.py is in no layer"),
    (layer_problems, {"src/unmask/deep/video.py": ""}, "src/unmask/deep/video.py is in no layer"),
    (layer_problems, {"src/unmask/errors.py": "import unmask.records"}, "imports unmask.records"),
    (layer_problems, {"src/unmask/records.py": "from . import params"}, "imports unmask.params"),
    (
        layer_problems,
        {"src/unmask/video.py": "def f():\n    from unmask.faces import crop"},
        "src/unmask/video.py imports unmask.faces, which is not in a layer below",
    ),
    (layer_problems, {"containers/entry.py": "from unmask import cli"}, "imports unmask.cli"),
    (layer_problems, {"stages/raw.py": "from unmask.gone import x"}, "imports unmask.gone"),
    (layer_problems, {"stages/raw.py": "import unmask"}, "imports the bare package"),
    (layer_problems, {"stages/raw.py": "import faces"}, "stages/raw.py imports faces, a script"),
    (layer_problems, {"src/unmask/cli.py": "import stages.raw"}, "imports stages, a script"),
    (layer_problems, {"src/unmask/__init__.py": "from unmask import errors"}, "nothing of unmask"),
    (
        owner_problems,
        {"src/unmask/faces.py": "import timm.models"},
        "faces.py imports timm: only backbones",
    ),
    (owner_problems, {"federated/functions.py": "from mlflow import log_metric"}, "imports mlflow"),
    (owner_problems, {"src/unmask/metrics.py": "import sklearn.metrics"}, "only the tests may"),
    (
        dependency_problems,
        dvc_yaml("              - src/unmask/errors.py\n", ""),
        "stage raw: add to its deps:\n      - src/unmask/errors.py",
    ),
    (
        dependency_problems,
        dvc_yaml("src/unmask/faces.py,", "src/unmask/faces.py, src/unmask/metrics.py,"),
        "stage faces: remove from its deps:\n      - src/unmask/metrics.py",
    ),
    (
        dependency_problems,
        dvc_yaml("- data/chunks/${item.chunk}", "- src/unmask"),
        "stage raw: remove from its deps:\n      - src/unmask",
    ),
    (
        dependency_problems,
        {"src/unmask/video.py": "def f():\n    from unmask import errors"},
        "stage faces: add to its deps:\n      - src/unmask/errors.py",
    ),
    (  # what the stage packs is run by others: their imports are its deps too
        dependency_problems,
        {
            "src/unmask/video.py": "from unmask import federated_archives",
            "src/unmask/federated_archives.py": "",
            "federated/train/function.py": "from unmask import metrics",
        },
        "      - federated/train/function.py\n      - src/unmask/federated_archives.py\n"
        "      - src/unmask/metrics.py",
    ),
    (dependency_problems, dvc_yaml("python stages/raw.py", "unmask raw"), "should run one script"),
    (dependency_problems, dvc_yaml("stages/raw.py", "stages/lost.py"), "found stages/lost.py"),
    (dependency_problems, dvc_yaml("params: [raw]", "wdir: stages"), "and a wdir"),
    (
        dependency_problems,
        {"src/unmask/doors.py": "from unmask import datasets"},
        "doors is no dep of any stage, so it may not import datasets",
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
        "as a whole (line 4: settings)",
    ),
    (
        section_problems,
        {"stages/raw.py": RAW + "settings = params.load()\nother = settings\nother.raw"},
        "as a whole (line 3: settings)",
    ),
    (
        section_problems,
        {"stages/raw.py": RAW + "datasets.read(params.load())"},
        "as a whole (line 2: params.load())",
    ),
    (
        section_problems,
        {"stages/raw.py": RAW + "datasets.read(params.load)"},
        "as a whole (line 2: params.load)",
    ),
    (
        section_problems,
        {"stages/raw.py": RAW + "params.load().model_dump()"},
        "reads model_dump off the params",
    ),
    (mirror_problems, {"src/unmask/tracks.py": ""}, "tracks.py has no tests/test_tracks.py"),
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
    (forbidden_problems, {"src/unmask/video.py": "print(1)"}, "video.py, line 1: print: log it"),
    (
        forbidden_problems,
        {"src/unmask/video.py": "import click\nclick.echo('')"},
        "only cli speaks to the user",
    ),
    (
        forbidden_problems,
        {"src/unmask/metrics.py": "import numpy as np\nnp.random.seed(1)"},
        "numpy.random.seed: a global generator",
    ),
    (
        forbidden_problems,
        {"src/unmask/metrics.py": "def f():\n    from random import shuffle\n    shuffle([])"},
        "line 3: random.shuffle: a global generator",
    ),
    (
        forbidden_problems,
        {"src/unmask/metrics.py": "from numpy import random\nrandom.default_rng()"},
        "differs on every run",
    ),
    (
        forbidden_problems,
        {"src/unmask/metrics.py": "import importlib\nimportlib.import_module('unmask.cli')"},
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
    plant(tmp_path, TREE | {"src/unmask/metrics.py": text})
    assert forbidden_problems(tmp_path) == []


def test_a_row_for_a_module_that_is_gone_is_found(tmp_path: Path) -> None:
    plant(tmp_path, TREE)
    assert "LAYERS names train; src/unmask/train.py is gone: take it out" in stale_rows(tmp_path)
    assert not any(" errors;" in problem for problem in stale_rows(tmp_path))
