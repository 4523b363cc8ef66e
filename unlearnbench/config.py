"""From what a person wrote (flags, an experiment file, a scenario) to resolved run specs."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

from unlearnbench.api.errors import DataError, UsageError
from unlearnbench.api.recipe import Recipe
from unlearnbench.api.specs import UnlearnerSpec
from unlearnbench.identity import file_digest
from unlearnbench.levels import LEVELS
from unlearnbench.measures import expand_shorthands, measures_of
from unlearnbench.parameters import parameters_json, resolve_parameters
from unlearnbench.partitions import resolve_partition
from unlearnbench.preprocessing import resolve_preprocessing
from unlearnbench.registry import Registry, unknown
from unlearnbench.schemas import load_json, load_yaml, validate
from unlearnbench.spec import Choice, RunSpec, Seeds
from unlearnbench.streams import stream_of

DEFAULT_SCENARIO = "digits-cnn-random10/v1"
REQUEST_KEYS = ("requests", "forget", "partition")
"""The forms in which an experiment says what is forgotten, of which it uses one."""
DEFAULT_MEASURES = ("accuracy", "ua-ra-ta-mia", "agreement", "run-cost")


def scenario_names() -> list[str]:
    """Names of the built-in scenarios."""
    return sorted(document["name"] for document in _scenarios())


def scenario(name: str) -> dict[str, Any]:
    """A built-in scenario by name.

    Raises:
        UsageError: unknown name.
    """
    for document in _scenarios():
        if document["name"] == name:
            return document
    raise unknown("scenario", name, scenario_names(), where="$.scenario")


def _scenarios() -> Iterable[dict[str, Any]]:
    for path in sorted(Path(str(files("unlearnbench"))).joinpath("scenarios").glob("*.json")):
        yield load_json(path.read_text("utf-8"), where=path.name)


def read_experiment(path: Path) -> dict[str, Any]:
    """Read an experiment file: YAML, JSON or TOML, by its ending; validated against ``schemas/experiment.json``.

    Raises:
        DataError: the file cannot be read.
        UsageError: its content is not an experiment.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError(
            "missing-file", f"cannot be read: {problem}", where=str(path), hint="check the path"
        ) from problem
    if path.suffix == ".toml":
        try:
            document: Any = tomllib.loads(text)
        except tomllib.TOMLDecodeError as problem:
            raise UsageError("bad-toml", str(problem), where=path.name) from problem
    elif path.suffix in (".yaml", ".yml"):
        document = load_yaml(text, path.name)
    elif path.suffix == ".json":
        document = load_json(text, where=path.name)
    else:
        raise UsageError("bad-file", f"ends in {path.suffix!r}", where=path.name, hint="use .yaml, .json or .toml")
    validate(document, "experiment", where=path.name)
    return dict(document)


@dataclass(frozen=True)
class Overrides:
    """``--set`` assignments, by component and parameter; each must be used by something in the run."""

    values: Mapping[str, Mapping[str, Any]]

    def of(self, *names: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in names:
            found.update(self.values.get(name, {}))
        return found


def parse_overrides(assignments: Mapping[str, Any]) -> Overrides:
    """Split ``salun.epochs`` into component and parameter.

    Raises:
        UsageError: a key without a dot.
    """
    values: dict[str, dict[str, Any]] = {}
    for key, value in assignments.items():
        component, dot, parameter = key.rpartition(".")
        if not dot or not component or not parameter:
            raise UsageError("bad-setting", f"{key!r} is not COMPONENT.PARAMETER", where="--set",
                             hint="write --set salun.epochs=5 or --set recipe.lr=0.01")  # fmt: skip
        values.setdefault(component, {})[parameter] = value
    return Overrides(values)


def resolve_experiment(experiment: Mapping[str, Any], registry: Registry, base: Path | None = None) -> list[RunSpec]:
    """Resolve an experiment to run specs: fan-out of requests x unlearners x seeds, in that order.

    Values come from the scenario, then the experiment, then ``set``. ``base`` is the folder of relative file names.

    Raises:
        UsageError: an unknown name or a value that is not allowed.
    """
    validate(experiment, "experiment", where="$")
    named = experiment.get("scenario")
    if named is None and not {"dataset", "model"} <= set(experiment):
        named = DEFAULT_SCENARIO
    scene = scenario(named) if named else {}
    overrides = parse_overrides(experiment.get("set", {}))
    used = {"recipe"}

    def choose(kind: str, wanted: Any, defaults: Mapping[str, Any] | None = None, stage: int = 0) -> Choice:
        entry = {"name": wanted} if isinstance(wanted, str) else wanted
        name = str(entry["name"])
        marked = f"{name}#{stage}" if stage else name
        used.update((name, marked))
        try:
            component = registry.get(kind, name, where=f"$.{kind if kind in ('dataset', 'model') else f'{kind}s'}")
        except UsageError as problem:
            problem.hint = _plugins_hint(scene, registry) or problem.hint
            raise
        given: Mapping[str, Any] = entry.get("params") or {}  # type: ignore[assignment]
        values = {**(defaults or {}), **given, **overrides.of(name, marked)}
        return Choice(name, parameters_json(resolve_parameters(component.spec.params, values, where=name)))

    changed = {key for key in ("dataset", "model") if key in experiment}
    dataset = choose("dataset", _merged(scene, experiment, "dataset"))
    model = choose("model", _merged(scene, experiment, "model"))
    recipe_values = {**scene.get("recipe", {}), **experiment.get("recipe", {}), **overrides.of("recipe")}
    recipe = resolve_parameters(Recipe, recipe_values, where="recipe")
    own_recipes = {} if experiment.get("paper_parameters") else scene.get("unlearners", {})
    unlearners = [_unlearner(u, choose, own_recipes) for u in _unlearners(experiment)]
    data_spec = registry.get("dataset", dataset.name).spec
    task = str(dataset.params.get("task") or data_spec.tasks[0])  # type: ignore[attr-defined]
    usual = [name for name in DEFAULT_MEASURES if task in registry.get("measure", name).spec.tasks]  # type: ignore[attr-defined]
    wanted_requests = _requests(scene, experiment, base)
    named_profile = experiment.get("profile")
    kinds = {str(request.get("kind")) for requests in wanted_requests for request in requests}
    profiled = measures_of(named_profile, task, kinds, registry) if named_profile else []
    measures = [*profiled, *experiment.get("measures", ())] or scene.get("measures") or usual
    measure_choices = tuple(choose("measure", measure) for measure in expand_shorthands(measures, registry))
    chain = experiment.get("preprocessing", scene.get("preprocessing", ()))
    preprocessing = resolve_preprocessing(chain, overrides.of)
    used.update(step.name for step in preprocessing)
    unused = sorted(set(overrides.values) - used)
    if unused:
        raise unknown("component", unused[0], used, where="--set", hint="it is not part of this run")
    same = (
        not changed
        and not {"recipe", "validation", *(() if named_profile else ("measures",))}
        & {key for key, value in experiment.items() if value not in (None, {}, [])}
        and list(chain) == list(scene.get("preprocessing", ()))
        and not (set(overrides.values) & {"recipe", dataset.name, model.name, *(step.name for step in preprocessing)})
    )
    specs = []
    for requests in wanted_requests:
        resolved = tuple(resolve_request(request) for request in requests)
        as_in_scenario = same and resolved == tuple(resolve_request(r) for r in scene.get("requests", ()))
        for unlearner, seeds in product(unlearners, parse_seeds(experiment.get("seeds", [0]))):
            specs.append(
                RunSpec(
                    scenario=named if as_in_scenario and not experiment.get("checkpoint") else None,
                    task=task,
                    dataset=dataset,
                    model=model,
                    recipe=recipe,
                    requests=resolved,
                    unlearner=unlearner,
                    measures=measure_choices,
                    seeds=seeds,
                    validation=experiment.get("validation", scene.get("validation", 0.0)),
                    preprocessing=preprocessing,
                    checkpoint=_checkpoint(experiment.get("checkpoint"), base),
                    device=experiment.get("device", "cpu"),
                    threads=experiment.get("threads", 1),
                    measure_every=experiment.get("measure_every", 1) if len(resolved) > 1 else 1,
                )
            )
    return specs


@dataclass(frozen=True)
class Experiment:
    """Runs that were asked for, the folder that relative file names start from, and the weights that were brought."""

    specs: list[RunSpec]
    base: Path
    checkpoint: Path | None


def combine(
    experiment: Mapping[str, Any] | Path | None,
    choices: Mapping[str, Any],
    settings: Mapping[str, Any],
    registry: Registry,
) -> Experiment:
    """An experiment (a file or a mapping) under choices made besides it; a choice of None was not made.

    Chosen requests take the place of the experiment's, in whichever form these are said.
    A file's own names are relative to its folder, chosen ones to the working folder.

    Raises:
        UnlearnBenchError: see ``read_experiment`` and ``resolve_experiment``.
    """
    document = read_experiment(experiment) if isinstance(experiment, Path) else dict(experiment or {})
    base = experiment.parent if isinstance(experiment, Path) else Path()
    chosen = {k: list(v) if isinstance(v, tuple) else v for k, v in choices.items() if v is not None}
    if not chosen.keys().isdisjoint(REQUEST_KEYS):
        document = {k: v for k, v in document.items() if k not in REQUEST_KEYS}
    if "checkpoint" in document:
        document["checkpoint"] = str(base / document["checkpoint"])
    document |= chosen
    document["set"] = {**document.get("set", {}), **settings}
    checkpoint = document.get("checkpoint")
    return Experiment(resolve_experiment(document, registry), base, Path(checkpoint) if checkpoint else None)


def _plugins_hint(scene: Mapping[str, Any], registry: Registry) -> str:
    """Which plugins the scenario names that are not there."""
    absent = sorted(set(scene.get("plugins", ())) - {plugin.distribution for plugin in registry.plugins})
    return f"{scene['name']} needs {' and '.join(absent)}: pip install {' '.join(absent)}" if absent else ""


def _merged(scene: Mapping[str, Any], experiment: Mapping[str, Any], key: str) -> Any:
    """The experiment's component; its parameters add to the scenario's when it is the same component."""
    own, base = experiment.get(key), scene.get(key)
    if own is None:
        return base
    own = {"name": own} if isinstance(own, str) else own
    if base and own["name"] == base["name"]:
        return {"name": own["name"], "params": {**base.get("params", {}), **own.get("params", {})}}
    return own


def _unlearners(experiment: Mapping[str, Any]) -> Sequence[Any]:
    found: Sequence[Any] = experiment.get("unlearners", [])
    if not found:
        raise UsageError(
            "no-unlearner",
            "no unlearner is named",
            where="$.unlearners",
            hint="add --unlearner salun, or --all-unlearners",
        )
    return found


def every_unlearner(registry: Registry) -> list[str]:
    """Names of all installed unlearners that make a run of their own, so not of mere links of a chain."""
    specs = [component.spec for component in registry.components("unlearner")]
    return [spec.name for spec in specs if isinstance(spec, UnlearnerSpec) and not spec.stage_only]


def _unlearner(wanted: Any, choose: Any, recipes: Mapping[str, Any], stage: int = 0) -> Choice:
    """One unlearner or a chain ``a+b``; stage ``k`` may be set apart as ``finetune#2``."""
    if isinstance(wanted, str) and "+" in wanted:
        wanted = {"name": wanted, "stages": wanted.split("+")}
    if isinstance(wanted, Mapping) and "stages" in wanted:
        stages = tuple(_unlearner(link, choose, recipes, k) for k, link in enumerate(wanted["stages"], 1))
        return Choice("+".join(link.name for link in stages), stages=stages)
    name = wanted if isinstance(wanted, str) else wanted["name"]
    found: Choice = choose("unlearner", wanted, recipes.get(name, {}).get("params"), stage)
    return found


def _requests(
    scene: Mapping[str, Any], experiment: Mapping[str, Any], base: Path | None
) -> list[list[Mapping[str, Any]]]:
    said = [key for key in REQUEST_KEYS if key in experiment]
    own = list(scene.get("requests", [{"kind": "samples", "fraction": 0.1}]))
    stream = experiment.get("requests")
    if isinstance(stream, str) and len(experiment.get("forget", own)) == 1 and "partition" not in said:
        (like,) = experiment.get("forget", own)
        return [list(stream_of(stream, like, base))]
    if len(said) > 1:
        raise UsageError("bad-request", f"{' and '.join(said)} exclude each other", where="$",
                         hint="requests is a stream, forget a fan-out, partition one request")  # fmt: skip
    if isinstance(stream, str):
        return [list(stream_of(stream, own[0], base))]
    if stream is not None:
        return [list(stream)]
    if "partition" in experiment:
        return [[{"kind": "samples", "partition": experiment["partition"]}]]
    if "forget" in experiment:
        return [[request] for request in experiment["forget"]]
    return [own]


def resolve_request(request: Mapping[str, Any]) -> dict[str, Any]:
    """Validate a request's description by its kind and fill in its defaults.

    Raises:
        UsageError: unknown kind, or a value that is not allowed.
    """
    kind = request.get("kind")
    if kind not in LEVELS:
        raise unknown("request kind", str(kind), LEVELS, where="$.request.kind")
    validate(request, "request", where="$.request")
    found = dict(request)
    if "partition" in found:
        found = resolve_partition(found["partition"])
    if "partition" in found:
        return found
    if found["kind"] == "class":
        found["classes"] = [str(c) for c in found["classes"]]
    if found["kind"] == "group":
        found["values"] = [str(value) for value in found["values"]]
    if ("fraction" in found or "count" in found) and "degree" not in found:
        found.setdefault("seed", 0)
    if found["kind"] == "nodes":
        found.setdefault("features", True)
    if found["kind"] == "samples":
        found.setdefault("seed", 0)
        found.setdefault("stratified", False)
    if found["kind"] == "target":
        found.setdefault("as", "absent")
    return found


def parse_seeds(wanted: Any) -> list[Seeds]:
    """Seeds as a list (each seeds everything), or {train, unlearn, measure} lists, of which all combinations run."""
    if isinstance(wanted, Mapping):
        parts = [wanted.get(part, [0]) for part in ("train", "unlearn", "measure")]
        return [Seeds(*combination) for combination in product(*parts)]
    return [Seeds(seed, seed, seed) for seed in wanted]


def _checkpoint(name: str | None, base: Path | None) -> dict[str, str] | None:
    if name is None:
        return None
    path = (base or Path()) / name
    if not path.is_file():
        raise DataError("missing-file", f"no checkpoint {name}", where="--checkpoint", hint="check the path")
    return {"name": path.name, "sha256": file_digest(path)}
