"""The commands, end to end, and the Python API beside them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from jsonschema import Draft202012Validator
from support import WINE, call, spawn, tree

import unlearnbench
from unlearnbench.api.runtime import SUBJECTS
from unlearnbench.cli import app
from unlearnbench.config import scenario_names
from unlearnbench.record import read_record
from unlearnbench.registry import registry

GRID = ("-u", "salun", "-u", "finetune", "--seed", "0", "--seed", "1")
DATA = Path(os.environ.get("UNLEARNBENCH_DATA", "/nowhere"))
TIMED = "run-cost"
Made = tuple[Path, list[dict[str, Any]]]
"""The folder of a call and the records that it printed."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Two unlearners on two seeds in a process of its own, with MLflow; its folder and the records that it printed."""
    folder = tmp_path_factory.mktemp("cli")
    done = spawn("run", *WINE, *GRID, "--json", "--out", "runs", "--store", "store", cwd=folder)
    assert (done.rc, done.stderr) == (0, "")
    return folder, done.json()


def values(document: dict[str, Any]) -> list[tuple[Any, ...]]:
    """All readings but those of the clock."""
    return [
        (r["measure"], r["subject"], r["key"], r["value"], r["gap"], r["n"])
        for r in document["readings"]
        if r["measure"] != TIMED
    ]


def weights(document: dict[str, Any]) -> dict[str, list[str]]:
    return {subject: [m["sha256"] for m in found] for subject, found in document["models"].items()}


def placed(document: dict[str, Any]) -> tuple[str, int]:
    return document["spec"]["unlearner"]["name"], document["spec"]["seeds"]["train"]


def commands(group: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command and group by its words."""
    yield path
    if isinstance(group, click.Group):
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            yield from commands(command, (*path, name))


# -- run --------------------------------------------------------------------------------------------------------------


def test_several_unlearners_and_seeds_are_one_record_each(made: Made) -> None:
    folder, documents = made
    assert [placed(d) for d in documents] == [("salun", 0), ("salun", 1), ("finetune", 0), ("finetune", 1)]
    assert {d["status"] for d in documents} == {"complete"}
    assert len({d["invocation"] for d in documents}) == 1
    for document in documents:
        assert read_record(folder / "runs" / document["id"]).document == document
        assert {r["subject"] for r in document["readings"]} == set(SUBJECTS)
    # Original and gold depend on the seed alone.
    models = {placed(d): weights(d) for d in documents}
    for seed in (0, 1):
        assert models["salun", seed]["original"] == models["finetune", seed]["original"]
        assert models["salun", seed]["gold"] == models["finetune", seed]["gold"]
        assert models["salun", seed]["unlearned"] != models["finetune", seed]["unlearned"]
    assert models["salun", 0]["original"] != models["salun", 1]["original"]


def test_the_store_holds_each_model_once(made: Made) -> None:
    folder, _ = made
    info = call("store", "info", "--store", folder / "store", "--json").json()
    assert info["entries"] == {"train": 4, "unlearn": 4}
    assert info["bytes"] == sum(len(content) for content in tree(folder / "store").values())
    assert not (folder / "runs" / "store").exists()


def test_a_cache_hit_changes_nothing(made: Made, tmp_path: Path) -> None:
    folder, documents = made
    again = call("run", *WINE, *GRID, "--json", "--no-tracking", "--out", tmp_path, "--store", folder / "store").json()
    for first, second in zip(documents, again, strict=True):
        assert second["digest"] == first["digest"]
        assert values(second) == values(first)
        assert weights(second) == weights(first)
        assert second["predictions"] == first["predictions"]
        assert second["costs"] == first["costs"], "a model that is reused costs what it cost when it was made"


def test_two_fresh_stores_give_the_same_bits(made: Made, tmp_path: Path) -> None:
    """In another process, in another order, one unlearner at a time."""
    _, documents = made
    found = {}
    for unlearner, seed in (("finetune", 1), ("salun", 0)):
        arguments = ("-u", unlearner, "--seed", str(seed), "--no-tracking", "--json")
        (document,) = call("run", *WINE, *arguments, "--out", tmp_path, "--store", tmp_path / f"{unlearner}").json()
        found[placed(document)] = document
    for document in documents:
        same = found.get(placed(document), document)
        assert weights(same) == weights(document)
        assert values(same) == values(document)
        assert same["digest"] == document["digest"]
    assert len(found) == 2


def test_the_order_of_unlearners_changes_nothing(made: Made, tmp_path: Path) -> None:
    _, documents = made
    wanted = ("-u", "identity", "-u", "finetune", "-u", "salun", "--seed", "0", "--no-tracking", "--json")
    mixed = {placed(d): d["digest"] for d in call("run", *WINE, *wanted, "--out", tmp_path).json()}
    assert mixed["salun", 0] == documents[0]["digest"]
    assert mixed["finetune", 0] == documents[2]["digest"]
    assert mixed["identity", 0] not in (mixed["salun", 0], mixed["finetune", 0])


def test_python_and_the_command_line_are_the_same(made: Made, tmp_path: Path) -> None:
    folder, documents = made
    records = unlearnbench.run(
        ["salun", "finetune"], dataset="wine", model="logistic", seed=[0, 1], out=tmp_path, store=folder / "store"
    )
    assert [r.document["digest"] for r in records] == [d["digest"] for d in documents]
    frame = unlearnbench.records_to_frame(records)
    assert len(frame) == sum(len(d["readings"]) for d in documents)
    forget = frame[(frame["key"] == "accuracy.forget") & (frame["subject"] == "unlearned")]
    assert forget["value"].tolist() == [r.value("accuracy.forget") for r in records]
    assert forget["unlearner"].tolist() == ["salun", "salun", "finetune", "finetune"]


def test_a_parameter_changes_the_run_that_it_belongs_to(made: Made, tmp_path: Path) -> None:
    _, documents = made
    wanted = ("-u", "salun", "-u", "finetune", "--set", "salun.epochs=2", "--no-tracking", "--json")
    salun, finetune = call("run", *WINE, *wanted, "--out", tmp_path).json()
    assert salun["spec"]["unlearner"]["params"]["epochs"] == 2
    assert salun["digest"] != documents[0]["digest"]
    assert weights(salun)["gold"] == weights(documents[0])["gold"]
    assert finetune["digest"] == documents[2]["digest"]


def test_dry_run_says_what_would_run_and_runs_nothing(made: Made, tmp_path: Path) -> None:
    _, documents = made
    plans = call("run", *WINE, *GRID, "--dry-run", "--json", "--out", tmp_path / "runs").json()
    assert [plan["id"] for plan in plans] == [d["id"] for d in documents]
    text = call("run", *WINE, *GRID, "--dry-run", "--out", tmp_path / "runs")
    assert (text.rc, text.stdout.splitlines()[-1]) == (0, "4 runs planned; nothing was run")
    assert not (tmp_path / "runs").exists()


EXPERIMENT = {
    "dataset": "wine",
    "model": {"name": "logistic"},
    "unlearners": ["salun", {"name": "finetune"}],
    "seeds": [0, 1],
}
TOML = """
dataset = "wine"
unlearners = ["salun", {name = "finetune"}]
seeds = [0, 1]

[model]
name = "logistic"
"""


@pytest.mark.parametrize("ending", ["yaml", "json", "toml"])
def test_an_experiment_file_says_the_same_as_flags(made: Made, tmp_path: Path, ending: str) -> None:
    folder, documents = made
    file = tmp_path / f"own.{ending}"
    file.write_text({"yaml": yaml.safe_dump(EXPERIMENT), "json": json.dumps(EXPERIMENT), "toml": TOML}[ending])
    assert call("validate", file).stdout == "1 valid, 0 invalid\n"
    found = call("run", file, "--no-tracking", "--json", "--out", tmp_path, "--store", folder / "store").json()
    assert [d["digest"] for d in found] == [d["digest"] for d in documents]
    (one,) = call("run", file, "-u", "finetune", "--seed", "1", "--dry-run", "--json").json()
    assert one["id"] == documents[3]["id"], "flags win over the file"


def test_files_are_found_beside_the_experiment(made: Made, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("1\n2\n4\n")
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump({**EXPERIMENT, "seeds": [0], "forget": [{"kind": "samples", "file": "ids.txt"}]}))
    (document, _) = call("run", file, "--no-tracking", "--json", "--out", tmp_path / "runs").json()
    assert document["requests"][0]["forget"] == 3


def test_the_table_has_every_subject_and_says_where_the_record_is(made: Made, tmp_path: Path) -> None:
    folder, documents = made
    done = call("run", *WINE, "-u", "salun", "--no-tracking", "--out", tmp_path, "--store", folder / "store")
    rows = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines() if line[1:2].isalpha()}
    for subject, name in (("original", "original"), ("gold", "gold"), ("unlearned", "salun")):
        (value,) = [
            v for m, s, k, v, *_ in values(documents[0]) if (m, s, k) == ("accuracy", subject, "accuracy.forget")
        ]
        assert rows[name] == f"{value:.3f}"
    assert f"record  {tmp_path / documents[0]['id'] / 'record.json'}" in done.stdout
    assert "everything came from the store" in done.stdout
    assert "mlflow" not in done.stdout


def test_quiet_is_quiet(made: Made, tmp_path: Path) -> None:
    folder, _ = made
    done = call("run", *WINE, "-u", "salun", "--no-tracking", "-q", "--out", tmp_path, "--store", folder / "store")
    assert (done.rc, done.stdout, done.stderr) == (0, "", "")
    assert len(list(tmp_path.glob("*/record.json"))) == 1


def test_images_and_a_network_run_from_the_command_line(tmp_path: Path) -> None:
    done = call(
        "run", "--dataset", "digits", "--model", "mlp", "--forget", "class=3", "--set", "recipe.epochs=1",
        "-u", "retrain", "--no-tracking", "--json", "--out", tmp_path,
    )  # fmt: skip
    (document,) = done.json()
    assert document["requests"][0] | {"digest": "", "holdout_digest": ""} == {
        "kind": "class", "digest": "", "holdout_digest": "", "forget": 146, "retain": 1291, "holdout": 37,
    }  # fmt: skip
    assert weights(document)["unlearned"] != weights(document)["original"]
    found = {(s, k): v for m, s, k, v, *_ in values(document) if m == "accuracy"}
    assert found["gold", "accuracy.forget"] == found["unlearned", "accuracy.forget"] == 0
    assert found["original", "accuracy.forget"] > 0


# -- what reads -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", list(commands(app)), ids=lambda words: " ".join(words) or "unlearnbench")
def test_every_command_has_help(words: tuple[str, ...]) -> None:
    done = call(*words, "--help")
    assert (done.rc, done.stderr) == (0, "")
    usage, *rest = done.stdout.splitlines()
    assert usage.startswith(f"Usage: {' '.join(('unlearnbench', *words))} ")
    assert any(line.strip() and not line.startswith("Options") for line in rest)
    assert all(len(line) <= 100 for line in rest)


def test_version_and_both_ways_to_start(tmp_path: Path) -> None:
    done = spawn("--version", cwd=tmp_path)
    assert (done.rc, done.stdout) == (0, f"unlearnbench {unlearnbench.__version__}\n")
    assert call("--version") == done
    assert call().rc == 2
    assert "Usage: unlearnbench" in call().stdout


@pytest.mark.parametrize("kind", ["datasets", "models", "unlearners", "measures"])
def test_list_names_everything(kind: str) -> None:
    names = registry().names(kind.removesuffix("s"))
    assert [entry["name"] for entry in call("list", kind, "--json").json()] == names
    lines = call("list", kind).stdout.splitlines()
    assert [line.split()[0] for line in lines] == names


def test_list_scenarios_and_show_one() -> None:
    assert [scene["name"] for scene in call("list", "scenarios", "--json").json()] == scenario_names()
    shown = call("show", "digits-cnn-class3/v1")
    assert shown.rc == 0
    assert "recipe: " in shown.stdout
    assert call("show", "digits-cnn-class3/v1", "--json").json()["name"] == "digits-cnn-class3/v1"


def test_show_and_the_json_schema_come_from_the_same_parameters() -> None:
    document = call("show", "salun", "--json").json()
    names = set(document["parameters"]["properties"])
    shown = call("show", "salun").stdout
    assert {"epochs", "lr", "density"} <= names
    assert all(f"\n  {name} = " in shown for name in names)
    Draft202012Validator.check_schema(document["parameters"])


def test_schema_prints_every_schema() -> None:
    names = call("schema").stdout.split()
    assert {"run-spec", "request", "component", "run-record"} <= set(names)
    for name in names:
        document = call("schema", name).json()
        Draft202012Validator.check_schema(document)
        assert document["$id"].endswith(".json")
    assert call("schema", "run-recrd").rc == 2


def test_plugins_names_every_distribution() -> None:
    done = call("plugins", "--json")
    assert done.rc == 0, done.stdout
    found = {plugin["distribution"] for plugin in done.json()["plugins"]}
    assert {"unlearnbench", "unlearnbench-salun", "unlearnbench-baselines"} <= found
    assert all(name in call("plugins").stdout for name in found)


def test_a_list_cites_papers_and_tells_what_each_component_can_do() -> None:
    lines = {line.split()[0]: line for line in call("list", "unlearners").stdout.splitlines()}
    assert "  Fan et al. 2024  " in lines["salun"]
    assert "  classification,multi-label,node-classification | samples,class,group,nodes | all  " in lines["salun"]
    assert "  -  " in lines["identity"]
    assert "  all | all | all  " in lines["identity"]


def test_cite_prints_bibtex_or_says_what_to_cite() -> None:
    assert "@" in call("cite", "salun").stdout
    assert call("cite", "identity").stdout == "% identity: no paper; cite unlearnbench\n"
    assert call("cite").stdout.count("@") >= 1
    assert call("cite", "nothing").rc == 2


def test_doctor_checks_what_a_run_needs(tmp_path: Path) -> None:
    done = call("doctor", "--out", tmp_path, "--json")
    checks = {entry["check"]: entry["status"] for entry in done.json()}
    assert set(checks) == {"python", "torch", "plugins", "data", "output", "mlflow"}
    assert set(checks.values()) == {"ok"}
    assert done.rc == 0


# -- what keeps house -------------------------------------------------------------------------------------------------


def test_validate_takes_records_and_finds_changed_ones(made: Made, tmp_path: Path) -> None:
    folder, documents = made
    runs = Path(shutil.copytree(folder / "runs", tmp_path / "runs"))
    assert call("validate", runs).stdout == "4 valid, 0 invalid\n"
    file = runs / documents[0]["id"] / "record.json"
    file.write_text(file.read_text("utf-8").replace('"forget": 14', '"forget": 15'), "utf-8")
    (runs / documents[1]["id"] / "predictions.npz").write_bytes(b"")
    done = call("validate", runs, "--json")
    assert done.rc == 1
    wrong = {Path(r["path"]).parent.name: r["error"] for r in done.json() if r["status"] == "invalid"}
    assert list(wrong) == sorted([documents[0]["id"], documents[1]["id"]])
    assert "[wrong-digest]" in wrong[documents[0]["id"]]
    assert "[unreadable-file]" in wrong[documents[1]["id"]]
    assert call("validate", tmp_path / "runs" / "nowhere").rc != 0


def test_store_verify_and_prune(made: Made, tmp_path: Path) -> None:
    folder, _ = made
    store = Path(shutil.copytree(folder / "store", tmp_path / "store"))
    assert call("store", "verify", "--store", store).stdout == "8 entries, 0 damaged\n"
    next(store.glob("train/*/*/model.safetensors")).write_bytes(b"")
    done = call("store", "verify", "--store", store)
    assert done.rc == 1
    assert done.stdout.splitlines()[-1] == "8 entries, 1 damaged"
    assert call("store", "prune", "--store", store, "--keep", "100").stdout == "0 entries removed\n"
    assert call("store", "prune", "--store", store).stdout == "8 entries removed\n"
    assert tree(store) == {}


def logged(database: Path) -> dict[str, tuple[dict[str, float], dict[str, str]]]:
    """Metrics and parameters of every logged record."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{database}")
    experiments = [e.experiment_id for e in client.search_experiments()]
    runs = client.search_runs(experiments)
    return {r.data.tags["ub.run"]: (r.data.metrics, r.data.params) for r in runs if "ub.run" in r.data.tags}


def test_a_second_sync_into_an_empty_database_gives_the_same(made: Made, tmp_path: Path) -> None:
    folder, documents = made
    runs = Path(shutil.copytree(folder / "runs", tmp_path / "runs", ignore=shutil.ignore_patterns("ml*")))
    added = "4 runs added, 0 were there already, 0 records are not valid\n"
    assert call("tracking", "sync", runs).stdout == added
    assert call("tracking", "sync", runs).stdout == "0 runs added, 4 were there already, 0 records are not valid\n"
    rebuilt = logged(runs / "mlflow.db")
    assert set(rebuilt) == {d["id"] for d in documents}
    assert rebuilt == logged(folder / "runs" / "mlflow.db")


def test_data_fetch_leaves_what_is_there_and_prints_its_digests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = Path("fashion-mnist/FashionMNIST/raw")
    if not (DATA / raw).is_dir():
        pytest.skip("no Fashion-MNIST: UNLEARNBENCH_DATA does not name a folder with it")
    (tmp_path / raw).mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3-ubyte.gz", "labels-idx1-ubyte.gz"):
            shutil.copyfile(DATA / raw / f"t10k-{kind}", tmp_path / raw / f"{part}-{kind}")
    monkeypatch.setenv("UNLEARNBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = tree(tmp_path / "fashion-mnist")
    done = call("data", "fetch", "fashion-mnist", "--set", "rows=50")
    assert (done.rc, done.stderr) == (0, "")
    *files, summary = done.stdout.splitlines()
    assert summary == f"fashion-mnist: 50 training rows, 10,000 test rows in {tmp_path}"
    assert len(files) == 4
    assert all(len(line.split()[0]) == 64 for line in files)
    assert tree(tmp_path / "fashion-mnist") == before
    assert call("data", "fetch", "fashion-mnist", "--set", "fashion-mnist.rows=50").stdout == done.stdout
    assert call("data", "fetch", "wine").rc == 3
