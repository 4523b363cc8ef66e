"""What plugins and the verifier may import, and what may import them."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parent.parent
HOST = "unlearnbench"
PLUGINS = sorted(path.parent.name for path in ROOT.glob("plugins/*/src/unlearnbench_*/__init__.py"))
VERIFIER = "unlearnbench_verifier"
HEAVY = {
    "unlearnbench.api.runtime",
    "datasets",
    "lightning_fabric",
    "mlflow",
    "numpy",
    "pandas",
    "PIL",
    "pydantic",
    "scipy",
    "sklearn",
    "torch",
    "torch_geometric",
    "torchvision",
    "transformers",
}


@cache
def imports() -> grimp.ImportGraph:
    return grimp.build_graph(HOST, VERIFIER, *PLUGINS, include_external_packages=True)


def imported_by(package: str) -> set[str]:
    """Every module that a module of the package imports, also inside a function."""
    inside = {package, *imports().find_descendants(package)}
    return {found for module in inside for found in imports().find_modules_directly_imported_by(module)}


def test_every_plugin_of_the_repository_is_looked_at() -> None:
    assert len(PLUGINS) == len(list(ROOT.glob("plugins/*/pyproject.toml"))) >= 3


def test_the_host_imports_neither_a_plugin_nor_the_verifier() -> None:
    others = {VERIFIER, *PLUGINS}
    assert not {module for module in imported_by(HOST) if module.partition(".")[0] in others}
    assert "unlearnbench.api" in imported_by(PLUGINS[0])  # the graph does see imports between packages


@pytest.mark.parametrize("package", PLUGINS)
def test_a_plugin_imports_the_api_and_the_verifier_and_nothing_else_of_the_host_or_of_other_plugins(
    package: str,
) -> None:
    ours = {module for module in imported_by(package) if module.partition(".")[0].startswith(HOST)}
    allowed = {m for m in ours if m.startswith("unlearnbench.api") or m.partition(".")[0] in (package, VERIFIER)}
    assert ours == allowed


def test_the_verifier_imports_numpy_and_the_standard_library_and_nothing_of_ours() -> None:
    packages = {module.partition(".")[0] for module in imported_by(VERIFIER)} - {VERIFIER}
    assert packages - sys.stdlib_module_names == {"numpy", "cryptography"}
    # The one thing that it can do without is imported where it is used, by nobody who does not sign.
    users = imports().find_modules_that_directly_import("cryptography")
    assert users & set(imports().find_descendants(VERIFIER)) == {f"{VERIFIER}.signatures"}


def test_the_verifier_runs_where_nothing_but_numpy_can_be_imported() -> None:
    blocked = ["torch", "scipy", "unlearnbench", "cryptography", "safetensors", *PLUGINS]
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked!r})); from {VERIFIER}.command import main; "
        "sys.exit(main(['--help']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--model" in done.stdout


@pytest.mark.parametrize("package", PLUGINS)
def test_what_a_plugin_declares_is_light(package: str) -> None:
    assert f"{package}.plugin" in imports().modules
    for heavy in HEAVY & imports().modules:
        assert imports().find_shortest_chain(importer=f"{package}.plugin", imported=heavy) is None


@pytest.mark.parametrize("package", [VERIFIER, *PLUGINS])
def test_imports_within_a_distribution_go_round_in_no_circle(package: str) -> None:
    if len(imports().find_descendants(package)) > 1:
        assert imports().nominate_cycle_breakers(package) == set()


def test_the_heavy_packages_are_really_known_to_the_graph() -> None:
    assert {"torch", "unlearnbench.api.runtime"} <= imports().modules
