"""The contract of every component, whatever its kind: what a spec must say and how light it must be."""

from __future__ import annotations

import functools
import importlib
import json
import subprocess
import sys

from unlearnbench.api.params import param_fields
from unlearnbench.parameters import parameters_json, parameters_schema, resolve_parameters
from unlearnbench.plugins import BUILTIN, HEAVY, SUPPORTED_API
from unlearnbench.schemas import validate
from unlearnbench.testing.bench import Bench
from unlearnbench.testing.contract import Check, NotApplicable, require


def supports_this_api(bench: Bench) -> None:
    """The plugin's module states an API version that this host supports."""
    module = importlib.import_module(bench.component.plugin.module)
    stated = getattr(module, "UNLEARNBENCH_API", None)
    require(stated in SUPPORTED_API, f"UNLEARNBENCH_API is {stated!r}; this host supports {list(SUPPORTED_API)}")


def loads_light(bench: Bench) -> None:
    """Loading the plugin's module imports none of the heavy libraries."""
    found = _heavy_imports(bench.component.plugin.module)
    require(found is not None, "it does not import in a fresh process")
    require(not found, f"it imports {', '.join(found or ())}")


@functools.cache
def _heavy_imports(module: str) -> tuple[str, ...] | None:
    """Heavy libraries that a fresh process has after importing a module; None if that fails."""
    program = f"import {module}, sys; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    return None if done.returncode else tuple(done.stdout.split())


def code_is_there(bench: Bench) -> None:
    """The spec's target names a class that can be imported."""
    require(isinstance(bench.component.cls, type), f"{bench.spec.target} is not a class")


def spec_is_a_document(bench: Bench) -> None:
    """The spec is valid JSON by the published schema."""
    document = json.loads(json.dumps(bench.spec.to_json(), allow_nan=False))
    validate(document, "component", where=bench.spec.name)


def defaults_are_allowed(bench: Bench) -> None:
    """The defaults of all parameters lie within their own bounds, and go to JSON and back."""
    params = resolve_parameters(bench.spec.params, {}, where=bench.spec.name)
    again = resolve_parameters(bench.spec.params, parameters_json(params), where=bench.spec.name)
    require(again == params, "JSON changes them")
    parameters_schema(bench.spec.params)


def parameters_are_explained(bench: Bench) -> None:
    """Every parameter says in a sentence what it does."""
    fields = param_fields(bench.spec.params)
    if not fields:
        raise NotApplicable("has no parameters")
    silent = [field.name for field in fields if len(field.param.help) < 5]
    require(not silent, f"{', '.join(silent)} say nothing")


def names_its_paper(bench: Bench) -> None:
    """An unlearner or a measure names its paper, with BibTeX to cite it by."""
    if type(bench.spec).kind not in ("unlearner", "measure") or bench.component.plugin.name == BUILTIN:
        raise NotApplicable("data sets, models and the host's own basics need no paper")
    paper = bench.spec.paper
    require(paper is not None, "no paper")
    require(paper is not None and paper.bibtex.lstrip().startswith("@"), "the paper has no BibTeX")


CHECKS: tuple[Check, ...] = (
    supports_this_api,
    loads_light,
    code_is_there,
    spec_is_a_document,
    defaults_are_allowed,
    parameters_are_explained,
    names_its_paper,
)
