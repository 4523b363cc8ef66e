"""What the plugin declares: light, true to the paper, and said in the README."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from unlearnbench.api import API_VERSION, UnlearnerSpec
from unlearnbench.api.params import param_fields
from unlearnbench.api.runtime import Component
from unlearnbench_baselines import plugin

(SPEC,) = plugin.unlearnbench_unlearners()


def test_the_spec_is_json_and_its_target_exists() -> None:
    assert isinstance(SPEC, UnlearnerSpec)
    assert SPEC.name == "finetune"
    assert SPEC.reads == ("retain",)
    assert plugin.UNLEARNBENCH_API == API_VERSION
    json.dumps(SPEC.to_json())
    module, name = SPEC.target.split(":")
    target = getattr(import_module(module), name)
    assert issubclass(target, Component)
    assert callable(target(SPEC.params()).unlearn)


def test_defaults_are_the_papers() -> None:
    p = plugin.FinetuneParams()
    assert (p.optimizer, p.lr, p.momentum, p.weight_decay) == ("sgd", 0.01, 0.9, 5e-4)
    assert (p.epochs, p.batch_size, p.schedule, p.augment) == (10, 256, "constant", ())


def test_the_readme_says_every_default_and_every_deviation() -> None:
    readme = Path(__file__).parents[1].joinpath("README.md").read_text(encoding="utf-8")
    text = " ".join(readme.replace("`", "").split())
    assert SPEC.paper is not None
    assert all(" ".join(sentence.split()) in text for sentence in SPEC.paper.deviations)
    own = {f.name: f.default for f in param_fields(plugin.FinetuneParams)}
    rows = dict(
        line.split(" | ")[:2] for line in readme.splitlines() if line.startswith("| `") and line.count("|") == 4
    )
    table = {name.strip("|` "): value for name, value in rows.items() if name.strip("|` ") in own}
    assert len(table) == 6
    assert table == {name: str(own[name]) for name in table}


@pytest.mark.parametrize("module", ["torch", "numpy", "pydantic"])
def test_the_light_module_imports_nothing_heavy(module: str) -> None:
    code = "import sys; from unlearnbench_baselines import plugin; plugin.unlearnbench_unlearners()"
    code += "; sys.exit(sys.argv[1] in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, module], check=False).returncode == 0
