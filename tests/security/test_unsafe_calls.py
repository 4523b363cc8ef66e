"""No call in the host or a plugin turns data into code: read from the syntax tree, whatever a name was imported as."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("unlearnbench", "plugins", "tools", "verifier")
NEVER = {
    *("eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "_pickle.load", "_pickle.loads", "_pickle.Unpickler"),
    *("dill.load", "dill.loads", "cloudpickle.load", "cloudpickle.loads", "marshal.load", "marshal.loads"),
    *("shelve.open", "joblib.load", "pandas.read_pickle", "pandas.read_hdf", "numpy.lib.format.read_array"),
    *("torch.jit.load", "torch.hub.load", "torch.package.PackageImporter", "torch.utils.model_zoo.load_url"),
    *("yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load", "yaml.full_load_all", "yaml.load_all"),
    *("os.system", "os.popen", "pty.spawn", "subprocess.getoutput", "subprocess.getstatusoutput"),
    "shutil.unpack_archive",
}
METHODS = frozenset({"extractall", "extract", "read_pickle"})
"""Methods of archives and frames, whatever object they are called on."""


def unsafe_calls(text: str) -> list[tuple[int, str]]:
    """Lines and names of the calls in a module that could run what they read."""
    tree = ast.parse(text)
    names = dict(_imported(tree))
    safe = {c.name for c in ast.walk(tree) if isinstance(c, ast.ClassDef) and any(_is_safe(b, names) for b in c.bases)}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return sorted((call.lineno, name) for call in calls for name in _unsafe(call, names, safe))


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for found in node.names:
                yield (
                    (found.asname or found.name.split(".")[0]),
                    (found.name if found.asname else found.name.split(".")[0]),
                )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for found in node.names:
                yield found.asname or found.name, f"{node.module}.{found.name}"


def _name(node: ast.expr, names: dict[str, str]) -> str:
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value, names)}.{node.attr}"
    return "?"


def _is_safe(node: ast.expr, names: dict[str, str]) -> bool:
    return _name(node, names) in ("yaml.SafeLoader", "yaml.CSafeLoader", "yaml.BaseLoader")


def _constant(call: ast.Call, name: str) -> object:
    """A keyword of a call: its value, ``...`` where it is not there, None where it is not known."""
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value.value if isinstance(keyword.value, ast.Constant) else None
        if keyword.arg is None:
            return None
    return ...


def _unsafe(call: ast.Call, names: dict[str, str], safe: set[str]) -> Iterator[str]:
    name = _name(call.func, names)
    if name in NEVER:
        yield name
    elif isinstance(call.func, ast.Attribute) and call.func.attr in METHODS and not name.startswith("re."):
        yield f".{call.func.attr}"
    elif name == "torch.load" and _constant(call, "weights_only") is not True:
        yield "torch.load without weights_only=True"
    elif name in ("numpy.load", "numpy.lib.npyio.NpzFile") and _constant(call, "allow_pickle") not in (..., False):
        yield "numpy.load with allow_pickle"
    elif name == "yaml.load":
        loaders = [*call.args[1:], *(k.value for k in call.keywords if k.arg == "Loader")]
        if not loaders or not all(
            _is_safe(one, names) or (isinstance(one, ast.Name) and one.id in safe) for one in loaders
        ):
            yield "yaml.load without a safe loader"
    if _constant(call, "shell") not in (..., False) and name.startswith(("subprocess.", "asyncio.")):
        yield f"{name} with a shell"


@cache
def modules() -> tuple[Path, ...]:
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    return tuple(p for p in sorted(found) if not {"build", "node_modules", "tests"} & set(p.relative_to(ROOT).parts))


def test_the_host_and_every_plugin_are_looked_at() -> None:
    found = {path.relative_to(ROOT).parts[:2] for path in modules()}
    plugins = [path.parent.name for path in (ROOT / "plugins").glob("*/pyproject.toml")]
    assert len(plugins) > 20
    assert {("plugins", name) for name in plugins} <= found
    assert ("unlearnbench", "leaderboard") in found


def test_nothing_in_the_host_or_a_plugin_runs_what_it_reads() -> None:
    found = {
        f"{p.relative_to(ROOT)}:{line}": name for p in modules() for line, name in unsafe_calls(p.read_text("utf-8"))
    }
    assert not found


@pytest.mark.parametrize(
    "code",
    [
        "eval(text)",
        "exec(text)",
        "import pickle\npickle.loads(data)",
        "import pickle as p\np.Unpickler(file).load()",
        "from pickle import loads as read\nread(data)",
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "import torch as t\nt.load(path, weights_only=choice)",
        "from torch import load\nload(path, **options)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import joblib\njoblib.load(path)",
        "import pandas as pd\npd.read_pickle(path)",
        "archive.extractall(folder)",
        "import zipfile\nzipfile.ZipFile(p).extract(name)",
        "import yaml\nyaml.load(text, Loader=yaml.Loader)",
        "import yaml\nyaml.load(text, yaml.UnsafeLoader)",
        "import yaml\nclass Own(yaml.Loader): pass\nyaml.load(text, Loader=Own)",
        "import subprocess\nsubprocess.run(line, shell=True)",
        "import subprocess\nsubprocess.Popen(line, shell=choice)",
        "import os\nos.system(line)",
        "def late():\n    import marshal\n    return marshal.loads(data)",
    ],
)
def test_an_unsafe_call_is_found(code: str) -> None:
    assert unsafe_calls(code)


@pytest.mark.parametrize(
    "code",
    [
        "model.eval()",
        "import torch\ntorch.load(path, weights_only=True)",
        "import numpy as np\nnp.load(path, allow_pickle=False)",
        "import numpy as np\nnp.load(path)",
        "import yaml\nyaml.load(text, Loader=yaml.SafeLoader)",
        "import yaml\nclass Own(yaml.SafeLoader): pass\nyaml.load(text, Loader=Own)",
        "import yaml\nyaml.safe_load(text)",
        "import json\njson.loads(text)",
        "import subprocess\nsubprocess.run(['ls'], shell=False)",
        "import re\nre.compile(text)",
    ],
)
def test_a_safe_call_is_not_found(code: str) -> None:
    assert not unsafe_calls(code)
