"""``run --all-unlearners``: everything that is installed and can serve the request, and one line about the rest."""

from __future__ import annotations

from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from support import WINE, assert_one_error, call
from toys_support import toy_registry

from unlearnbench.api.errors import IncompatibleError
from unlearnbench.api.specs import UnlearnerSpec
from unlearnbench.config import every_unlearner, resolve_experiment
from unlearnbench.plan import check, passing
from unlearnbench.plugins import GROUP, _load
from unlearnbench.registry import Registry, registry
from unlearnbench.runner import execute

ALL = ("run", "--all-unlearners")


def planned(*arguments: str) -> tuple[list[str], str]:
    """Names of the unlearners that a dry run plans, and what it says besides."""
    done = call(*ALL, *arguments, "--dry-run", "--json")
    assert done.rc == 0, done.stderr
    return [plan["spec"]["unlearner"]["name"] for plan in done.json()], done.stderr


def test_every_unlearner_that_is_no_mere_link_is_planned_once_for_each_seed() -> None:
    names = every_unlearner(registry())
    specs = [component.spec for component in registry().components("unlearner")]
    assert names == [s.name for s in specs if isinstance(s, UnlearnerSpec) and not s.stage_only]
    assert {"identity", "retrain"} <= set(names)
    found, said = planned("--seed", "0", "--seed", "1")
    able = {
        s.name
        for s in specs
        if isinstance(s, UnlearnerSpec) and {"classification", "samples"} <= {*s.tasks, *s.requests}
    }
    other = [name for name in names if name not in able]
    assert found == [name for name in names if name in able for _ in (0, 1)]
    assert {"scalegun", "wfnet"} <= set(other)  # for graphs, and for classes
    assert said.count("\n") == 1
    assert all(f"{name} (" in said for name in other)


def unable(request: str) -> list[str]:
    """Unlearners that do not declare a kind of request."""
    wanted = set(every_unlearner(registry()))
    specs = [component.spec for component in registry().components("unlearner")]
    return [s.name for s in specs if isinstance(s, UnlearnerSpec) and s.name in wanted and request not in s.requests]


TARGET = {"dataset": "wine", "model": "logistic", "measures": ["run-cost"],
          "forget": [{"kind": "target", "targets": ["class_1"]}]}  # fmt: skip


def test_who_cannot_serve_the_request_is_left_out_in_one_line() -> None:
    names = every_unlearner(registry())
    left_out: dict[str, str] = {}
    specs = resolve_experiment({**TARGET, "unlearners": names}, registry())
    passed = {spec.unlearner.name for spec in passing(specs, [partial(check, registry=registry())], left_out)}
    assert unable("target")
    assert set(unable("target")) <= set(left_out)
    assert passed | set(left_out) == set(names)
    for name in unable("target"):
        assert left_out[name].startswith(f"unlearner {name} cannot handle the ")
    found, said = planned(*WINE, "--measure", "run-cost", "--forget", "target=class_1")
    assert set(found) == passed
    assert said == "left out: " + "; ".join(f"{name} ({why})" for name, why in sorted(left_out.items())) + "\n"


LATE = """
from unlearnbench.api import IncompatibleError, UnlearnerSpec, hookimpl
from unlearnbench.api.params import NoParams

UNLEARNBENCH_API = 1


@hookimpl
def unlearnbench_unlearners():
    return [UnlearnerSpec(name="late", summary="Refuses late.", target="late_plugin:Late", params=NoParams)]


class Late:
    def __init__(self, params):
        pass

    def unlearn(self, job):
        raise IncompatibleError("incompatible", f"{len(job.forget)} rows are too few", hint="forget more")
"""


def test_what_a_method_refuses_only_once_it_has_the_data_costs_the_others_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "late_plugin.py").write_text(LATE)
    monkeypatch.syspath_prepend(tmp_path)
    late = _load(EntryPoint("late", "late_plugin", GROUP), "unlearnbench-late", "0.1.0")
    components = Registry([*toy_registry().plugins, late])
    wanted = {"dataset": "wine", "model": "logistic", "unlearners": ["late", "identity"], "measures": ["accuracy"],
              "forget": [{"kind": "samples", "count": 9}]}  # fmt: skip
    specs = resolve_experiment(wanted, components)
    told: list[dict[str, str]] = []
    outcome = execute(specs, out=tmp_path / "runs", components=components, on_left_out=lambda r: told.append(dict(r)))
    assert [record.unlearner for record in outcome.records] == ["identity"]
    assert outcome.problems == []
    assert told == [{"late": "9 rows are too few"}]
    with pytest.raises(IncompatibleError, match="9 rows are too few"):
        execute(specs, out=tmp_path / "again", components=components)


def test_if_nothing_is_left_the_reason_is_the_error(tmp_path: Path) -> None:
    done = call(*ALL, *WINE, "--preprocess", "resize", "--out", tmp_path)
    assert_one_error(done, 3, "incompatible", "resize needs images")


def test_without_the_option_one_refusal_ends_it() -> None:
    specs = resolve_experiment({**TARGET, "unlearners": ["retrain", unable("target")[0]]}, registry())
    with pytest.raises(IncompatibleError, match="cannot handle the request 'target'"):
        passing(specs, [partial(check, registry=registry())], None)


def test_naming_unlearners_besides_is_refused() -> None:
    assert_one_error(call(*ALL, "-u", "identity"), 2, "conflicting-options", "--all-unlearners", "--unlearner")
