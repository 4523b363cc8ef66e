"""The conformance kit bites: each mutant has one real bug, and the check named beside it catches it.

``pytest tests/test_mutants.py --capture=no`` prints the table of bugs and the checks that caught them.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from unlearnbench.plugins import GROUP, _load, load_plugins
from unlearnbench.testing.kit import Outcome, checks_of_plugin

FOLDER = Path(__file__).parent / "fixtures" / "mutants"
CAUGHT_BY = {
    "optimises-the-teacher": "optimisers-own-the-returned-model",
    "shallow-teacher": "comes-nearer-to-gold",
    "mask-under-decay": "holds-its-own-mask",
    "trains-a-copy": "holds-masked-weights",
    "freeze-leaks": "leaves-the-model-ready",
    "forgets-eval-mode": "leaves-the-model-ready",
    "leaves-a-hook": "leaves-the-model-ready",
    "drops-the-last-batch": "serves-any-size",
    "one-epoch-too-many": "zero-epochs-change-nothing",
    "one-epoch-too-few": "each-epoch-reads-the-same",
    "statistics-drift": "zero-epochs-change-nothing",
    "seeds-the-world": "weights-change",
    "ignores-the-seed": "other-seed-other-result",
    "draws-from-the-world": "same-seed-same-result",
    "adds-a-logit": "keeps-the-output-interface",
    "reads-past-the-view": "weights-change",
    "swallows-the-deadline": "ends-when-its-time-is-over",
    "changes-the-graph": "writes-into-nothing-shared",
    "reads-undeclared": "weights-change",
    "never-forgets": "comes-nearer-to-gold",
    "wrong-loss-for-labels": "serves-every-declared-combination",
    "zero-for-nothing": "no-rows-is-a-status",
    "argmax-of-nan": "diverged-outputs-are-a-status",
    "distance-to-itself": "gold-is-ideal",
    "says-it-twice": "readings-say-what-they-are",
    "hidden-state": "survives-the-store",
    "always-drops": "evaluation-mode-is-repeatable",
    "misses-a-class": "annotations-are-in-range",
    "not-finite": "inputs-are-finite",
}
NAMED = {
    "seeds-the-world": "changed torch's global random state",
    "reads-past-the-view": "reads View._data",
    "reads-undeclared": "the retain view is not declared in reads",
}
"""What the kit says where the check's own sentence is about something else."""


@cache
def outcomes() -> dict[tuple[str, str], Outcome]:
    sys.path.insert(0, str(FOLDER))
    plugin = _load(EntryPoint("mutants", "unlearnbench_mutants.plugin", GROUP), "unlearnbench-mutants", "0")
    assert not plugin.error, plugin.error
    bound = checks_of_plugin(plugin, [load_plugins()[0], plugin])
    found = [one.outcome() for one in bound if one.id != "loads-light"]
    return {(outcome.component, outcome.check): outcome for outcome in found}


def test_the_correct_method_passes_everything() -> None:
    bad = [o for (name, check), o in outcomes().items() if name == "correct" and o.status == "failed"]
    # The mutants are not installed, so a fresh process cannot import them.
    assert [o.check for o in bad] == ["loads-light"], bad


@pytest.mark.parametrize(("mutant", "check"), CAUGHT_BY.items())
def test_the_kit_catches(mutant: str, check: str) -> None:
    outcome = outcomes()[mutant, check]
    assert outcome.status == "failed", outcome
    assert NAMED.get(mutant, "") in outcome.message
    assert outcome.message


def test_every_mutant_has_its_check_and_the_table_is_printed() -> None:
    names = {name for name, _ in outcomes()}
    assert names == {"correct", *CAUGHT_BY}
    width = max(map(len, CAUGHT_BY))
    for mutant, check in CAUGHT_BY.items():
        print(f"{mutant:<{width}}  {check}: {outcomes()[mutant, check].message[:90]}")  # noqa: T201


def test_the_table_in_the_documents_is_this_one() -> None:
    from unlearnbench_mutants import plugin

    hooks = (plugin.unlearnbench_unlearners, plugin.unlearnbench_measures)
    hooks += (plugin.unlearnbench_models, plugin.unlearnbench_datasets)
    bugs = {spec.name: spec.summary for hook in hooks for spec in hook()}
    page = Path(__file__).parent.parent / "docs" / "how-to" / "check-a-plugin.md"
    shown = [line for line in page.read_text("utf-8").splitlines() if line.startswith("| ")][1:]
    assert shown == [f"| {bugs[mutant]} | `{check}` |" for mutant, check in CAUGHT_BY.items()]
