"""Bad input: one clear line, the documented exit code, and nothing that was written before is lost."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support import WINE, Done, assert_error, assert_one_error, call, spawn, tree

from unlearnbench.api.errors import (
    CheckFailed,
    DataError,
    IncompatibleError,
    Interrupted,
    PluginError,
    UnlearnBenchError,
    UsageError,
)
from unlearnbench.cli import EXIT_CODES
from unlearnbench.record import read_record, verify_record

DATA = Path(os.environ.get("UNLEARNBENCH_DATA", "/nowhere"))
RAW = Path("fashion-mnist/FashionMNIST/raw")
FASHION = ("--dataset", "fashion-mnist", "--model", "logistic", "-u", "identity", "--set", "fashion-mnist.rows=100")
QUIET = ("--no-tracking", "--quiet")
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2
"""Numbers of Linux (prctl.h, capability.h)."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run and its store."""
    out = tmp_path_factory.mktemp("made") / "runs"
    done = call("run", *WINE, "-u", "identity", "--no-tracking", "--out", out)
    assert (done.rc, done.stderr) == (0, "")
    return out


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    """A copy of that folder, to see that it stays as it is or to damage it."""
    return Path(shutil.copytree(made, tmp_path / "runs"))


def test_exit_codes_are_documented_in_the_help() -> None:
    shown = call("--help").stdout
    for code, kind in enumerate([CheckFailed, UsageError, IncompatibleError, PluginError, DataError, Interrupted], 1):
        assert kind.exit_code == code
        assert f"  {code}  " in EXIT_CODES
    assert "Exit codes:" in shown
    assert "6  interrupted" in shown
    assert {kind.exit_code for kind in UnlearnBenchError.__subclasses__()} == {1, 2, 3, 4, 5, 6}


REFUSED: dict[str, tuple[list[str], int, str, list[str]]] = {
    "unlearner": (["-u", "salum"], 2, "unknown-unlearner", ["did you mean salun"]),
    "dataset": (["--dataset", "digit"], 2, "unknown-dataset", ["$.dataset", "did you mean digits"]),
    "model": (["--model", "zzz"], 2, "unknown-model", ["$.model", "available: ", "logistic"]),
    "measure": (["--measure", "acuracy"], 2, "unknown-measure", ["did you mean accuracy"]),
    "scenario": (["--scenario", "digits-cnn-random10/v2"], 2, "unknown-scenario", ["digits-cnn-random10/v1"]),
    "parameter": (["--set", "identity.rate=1"], 2, "unknown-parameter", ["identity", "'rate'"]),
    "parameter of a part": (["--set", "recipe.epoch=3"], 2, "unknown-parameter", ["did you mean epochs"]),
    "part of no run": (["--set", "salun.epochs=3"], 2, "unknown-component", ["salun", "not part of this run"]),
    "setting without a value": (["--set", "recipe.epochs"], 2, "bad-setting", ["--set salun.epochs=5"]),
    "setting without a part": (["--set", "epochs=3"], 2, "bad-setting", ["'epochs'"]),
    "wrong type": (["--set", "recipe.epochs=many"], 2, "bad-parameter", ["recipe.epochs", '"many"']),
    "fraction for a count": (["--set", "recipe.epochs=1.5"], 2, "bad-parameter", ["recipe.epochs", "1.5"]),
    "out of range": (["--set", "recipe.batch_size=0"], 2, "bad-parameter", ["recipe.batch_size", "0"]),
    "not a number": (["--set", "recipe.lr=NaN"], 2, "bad-parameter", ["recipe.lr"]),
    "negative seed": (["--seed", "-1"], 2, "bad-seeds", ["--seed", "'-1'", "write --seed 3 or --seed 0..4"]),
    "seed that is text": (["--seed", "one"], 2, "bad-seeds", ["--seed", "'one'"]),
    "seeds of nothing": (["--seeds", "testing=1"], 2, "bad-seeds", ["testing=1", "train=0,1,2"]),
    "flag": (["--unlerner", "salun"], 2, "usage", ["--unlerner", "--unlearner"]),
    "budget": (["--budget", "0"], 2, "usage", ["--budget"]),
    "validation share": (["--validation", "1"], 2, "usage", ["--validation"]),
    "fraction 0": (["--forget", "random=0"], 2, "bad-value", ["fraction", "more than 0 and less than 1"]),
    "fraction 1": (["--forget", "random=1"], 2, "bad-value", ["fraction", "more than 0 and less than 1"]),
    "fraction 1.0": (["--forget", "random=1.0"], 2, "bad-value", ["fraction", "more than 0 and less than 1"]),
    "fraction below 0": (["--forget", "random=-0.1"], 2, "bad-value", ["-0.1", "more than 0 and less than 1"]),
    "fraction above 1": (["--forget", "random=1.5"], 2, "bad-value", ["1.5", "more than 0 and less than 1"]),
    "fraction that is no number": (["--forget", "random=nan"], 2, "bad-value", ["fraction", "nan"]),
    "fraction that is text": (["--forget", "random=some"], 2, "bad-request", ["some", "random=0.1"]),
    "request": (["--forget", "rows=3"], 2, "bad-request", ["rows=3", "class=3"]),
    "request in broken JSON": (["--forget", '{"kind": "samples",'], 2, "bad-json", ["--forget"]),
    "request with a key twice": (["--forget", '{"kind": "class", "kind": "class"}'], 2, "bad-json", ["kind"]),
    "class": (["--forget", "class=9"], 2, "unknown-class", ["'9'", "class_0, class_1, class_2"]),
    "group column": (["--forget", "group=person:1"], 2, "unknown-column", ["person"]),
    "no rows left": (["--forget", "random=142"], 5, "empty-retain-set", ["nothing to retain", "forget fewer rows"]),
    "more rows than there are": (["--forget", "random=143"], 5, "empty-retain-set", ["143 of 142"]),
    "all classes": (["--forget", "class=class_0,class_1,class_2"], 5, "empty-retain-set", ["nothing to retain"]),
    "ids out of range": (["--forget", "ids=1,999"], 5, "unknown-ids", ["[999]", "test rows"]),
    "ids of test rows": (["--forget", "ids=0"], 5, "unknown-ids", ["[0]", "test rows"]),
    "ids twice": (["--forget", "ids=1,2,1"], 5, "duplicate-ids", ["[1]", "more than once"]),
    "ids twice and out of range": (["--forget", "ids=1,1,999"], 5, "unknown-ids", ["[999]", "[1]", "more than once"]),
    "file of ids": (["--forget", "file=absent.txt"], 5, "missing-file", ["absent.txt"]),
    "experiment file": (["absent.yaml"], 5, "missing-file", ["absent.yaml"]),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_input_is_refused_before_any_work(what: str, out: Path) -> None:
    arguments, rc, code, words = REFUSED[what]
    before = tree(out)
    done = call("run", *WINE, "-u", "identity", *arguments, "--no-tracking", "--out", out)
    assert_one_error(done, rc, code, *words)
    assert done.stdout == ""
    assert tree(out) == before


def test_no_unlearner_and_no_command_are_usage_errors(out: Path) -> None:
    assert_one_error(call("run", *WINE, "--out", out), 2, "no-unlearner", "add --unlearner salun")
    assert_one_error(call("rum"), 2, "unknown-command", "did you mean run")


def test_a_refused_part_refuses_the_whole_call(out: Path) -> None:
    before = tree(out)
    done = call("run", *WINE, "-u", "retrain", "-u", "nope", "--no-tracking", "--out", out)
    assert_one_error(done, 2, "unknown-unlearner")
    assert tree(out) == before


def test_a_model_that_cannot_read_the_data_is_refused(out: Path) -> None:
    before = tree(out)
    done = call("run", *WINE, "--model", "cnn", "-u", "identity", "--no-tracking", "--out", out)
    assert_one_error(done, 2, "bad-model", "$.model.name", "cnn needs images", "use mlp or logistic")
    assert tree(out) == before


@pytest.mark.parametrize("name", ["bad.yaml", "bad.json", "bad.toml", "bad.txt"])
@pytest.mark.parametrize("content", ["unlearners: [", '{"unlearners": ["identity"], "sead": 1}', "sead = 1", "\x00"])
def test_an_experiment_file_that_is_none_is_one_line(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    done = call("run", tmp_path / name, "--no-tracking", "--out", tmp_path / "runs")
    assert (done.rc, done.stderr.count("\n")) == (2, 1), done.stderr
    assert name in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("request_", ["random=1e-9", "random=2", "ids=1"])
def test_a_forget_set_smaller_than_a_batch_simply_works(made: Path, tmp_path: Path, request_: str) -> None:
    done = call(
        "run", *WINE, "-u", "salun", "-u", "finetune", "--forget", request_,
        "--no-tracking", "--json", "--out", tmp_path, "--store", made / "store",
    )  # fmt: skip
    assert (done.rc, done.stderr) == (0, "")
    for document in done.json():
        assert document["status"] == "complete"
        assert document["requests"][0]["forget"] == (2 if request_ == "random=2" else 1)
        assert document["requests"][0]["retain"] == 142 - document["requests"][0]["forget"]


# -- data -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def fashion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of its own with the packed test files in both roles, which is quick to read."""
    if not (DATA / RAW).is_dir():
        pytest.skip("no Fashion-MNIST: UNLEARNBENCH_DATA does not name a folder with it")
    root = tmp_path / "data"
    (root / RAW).mkdir(parents=True)
    for kind in ("images-idx3-ubyte.gz", "labels-idx1-ubyte.gz"):
        for part in ("train", "t10k"):
            shutil.copyfile(DATA / RAW / f"t10k-{kind}", root / RAW / f"{part}-{kind}")
    monkeypatch.setenv("UNLEARNBENCH_DATA", str(root))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return root


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3000])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "code"),
    [(Path.unlink, "missing-file"), (cut, "corrupt-file"), (flip, "corrupt-file")],
    ids=["missing", "truncated", "flipped"],
)
def test_data_files_that_are_missing_or_damaged_are_named(
    fashion: Path, out: Path, damage: Callable[[Path], None], code: str
) -> None:
    damage(fashion / RAW / "train-images-idx3-ubyte.gz")
    before = tree(out)
    done = call("run", *FASHION, *QUIET, "--out", out)
    assert_one_error(done, 5, code, "train-images-idx3-ubyte", "unlearnbench data fetch fashion-mnist")
    assert tree(out) == before


def test_a_data_folder_that_does_not_exist_is_named(out: Path, fashion: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNLEARNBENCH_DATA", str(fashion / "elsewhere"))
    assert_one_error(call("run", *FASHION, *QUIET, "--out", out), 5, "missing-file", "data fetch fashion-mnist")
    assert not (fashion / "elsewhere").exists()


TABLES: dict[str, tuple[str, str, list[str]]] = {
    "is not there": ("", "missing-file", ["own.csv", "UNLEARNBENCH_DATA"]),
    "is cut off in a row": ("a,b,y\n1,2,x\n3,4,z\n5", "missing-values", ["own.csv"]),
    "has text among numbers": ("a,b,y\n1,2,x\n3,many,z\n", "missing-values", ["row 1", "'b'"]),
    "lacks the column": ("a,b,class\n1,2,x\n3,4,z\n", "missing-column", ["'y'", "a, b, class"]),
    "has one class": ("a,b,y\n1,2,x\n3,4,x\n", "one-class", ["'x'"]),
    "has ragged rows": ("a,b,y\n1,2,x\n3,4,z,5,6\n", "unreadable-file", ["own.csv"]),
}


@pytest.mark.parametrize("what", TABLES)
def test_a_table_of_ones_own_that_cannot_be_used_is_named(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, code, words = TABLES[what]
    monkeypatch.setenv("UNLEARNBENCH_DATA", str(tmp_path))
    if content:
        (tmp_path / "own.csv").write_text(content)
    table = ("--dataset", "csv", "--set", "csv.file=own.csv", "--set", "csv.label=y")
    done = call("run", *table, "--model", "logistic", "-u", "identity", *QUIET, "--out", tmp_path / "runs")
    assert_one_error(done, 5, code, *words)
    assert not (tmp_path / "runs").exists()


def test_nothing_is_downloaded_for_what_is_always_there(out: Path) -> None:
    done = call("run", *WINE, "-u", "identity", "--download", *QUIET, "--out", out)
    assert_one_error(done, 3, "not-fetchable", "dataset wine")


# -- the store --------------------------------------------------------------------------------------------------------


def emptied(entry: Path) -> None:
    (entry / "entry.json").write_text("")


def cut_weights(entry: Path) -> None:
    cut_to = (entry / "model.safetensors").read_bytes()[:-10]
    (entry / "model.safetensors").write_bytes(cut_to)


def flipped_weights(entry: Path) -> None:
    flip(entry / "model.safetensors")


def without_weights(entry: Path) -> None:
    (entry / "model.safetensors").unlink()


@pytest.mark.parametrize("damage", [emptied, cut_weights, flipped_weights, without_weights])
def test_a_damaged_store_entry_is_made_again_and_said_so(out: Path, damage: Callable[[Path], None]) -> None:
    (path,) = out.glob("*/record.json")
    before = read_record(path)
    key = before.document["models"]["unlearned"][0]["key"]
    entry = out / "store" / "unlearn" / key[:2] / key
    damage(entry)
    assert call("store", "verify", "--store", out / "store").rc == 1
    done = call("run", *WINE, "-u", "identity", "--no-tracking", "--out", out)
    assert done.rc == 0
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"warning: unlearn entry {entry.name[:12]}: ")
    assert "removed and made again" in done.stderr
    again = read_record(path)
    assert again.document["digest"] == before.document["digest"]
    assert again.document["models"] == before.document["models"]
    assert [(r["key"], r["value"]) for r in again.readings if r["measure"] != "run-cost"] == [
        (r["key"], r["value"]) for r in before.readings if r["measure"] != "run-cost"
    ]
    (event,) = again.document["events"]
    assert "made again" in event
    assert call("store", "verify", "--store", out / "store").rc == 0


# -- disks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["--out", "--store"])
def test_a_file_where_a_folder_should_be_is_one_line(flag: str, out: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    before = tree(tmp_path)
    done = call("run", *WINE, "-u", "retrain", *QUIET, "--out", out, flag, tmp_path / "file")
    assert_one_error(done, 5, "cannot-write", "file", "--out or --store")
    assert tree(tmp_path) == before


def bind_root() -> None:
    """Permissions bind the process that starts next, root's too: it may not override them (Linux only)."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
                raise OSError(ctypes.get_errno(), "prctl")


def test_a_read_only_folder_is_one_line(out: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0 and sys.platform != "linux":
        pytest.skip("permissions do not bind root here")
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    wanted = ("run", *WINE, "-u", "identity", *QUIET, "--out", folder / "runs", "--store", out / "store")
    done = spawn(*wanted, cwd=tmp_path, preexec_fn=bind_root)
    assert_one_error(done, 5, "cannot-write", "locked", "--out or --store")
    assert not list(folder.iterdir())


@pytest.mark.parametrize(("limit", "finished"), [(200, 0), (1_600, 1), (6_000, 3)])
def test_a_full_disk_is_one_line_and_keeps_what_was_finished(tmp_path: Path, limit: int, finished: int) -> None:
    """The kernel refuses to write past the limit, as a full disk does."""

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = spawn("run", *WINE, "-u", "salun", "--no-tracking", cwd=tmp_path, preexec_fn=full)
    assert_one_error(done, 5, "cannot-write", "runs", "File too large", "--out or --store")
    assert len(list((tmp_path / "runs").glob("store/*/*/*/entry.json"))) == finished
    assert not [path for path in (tmp_path / "runs").rglob("*") if path.name.startswith(".tmp-")]
    assert not list(tmp_path.rglob("record.json"))
    again = call("run", *WINE, "-u", "salun", "--no-tracking", "--out", tmp_path / "runs")
    assert again.rc == 0
    assert f"models: {3 - finished} stored" in again.stdout if finished < 3 else "came from the store" in again.stdout


# -- MLflow -----------------------------------------------------------------------------------------------------------


def test_an_mlflow_server_that_is_not_there_costs_no_record_and_no_minutes(made: Path, tmp_path: Path) -> None:
    started = time.perf_counter()
    done = spawn(
        "run", *WINE, "-u", "identity", "--store", made / "store",
        cwd=tmp_path, env={"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"},
    )  # fmt: skip
    assert time.perf_counter() - started < 45
    assert_one_error(done, 1, "tracking-failed", "http://127.0.0.1:9", "record is kept", "unlearnbench tracking sync")
    assert "identity" in done.stdout
    assert "\nmlflow " not in done.stdout
    (path,) = tmp_path.rglob("record.json")
    verify_record(read_record(path))


def test_mlflow_failing_half_way_is_reported_and_sync_completes_it(made: Path, tmp_path: Path) -> None:
    """The numbers are logged; then the place for artifacts turns out to be a file."""
    out = tmp_path / "runs"
    out.mkdir()
    (out / "mlartifacts").write_text("not a folder")
    done = call("run", *WINE, "-u", "identity", "--out", out, "--store", made / "store")
    assert_one_error(done, 1, "tracking-failed", "record is kept", "unlearnbench tracking sync")
    (path,) = out.glob("*/record.json")
    verify_record(read_record(path))
    (out / "mlartifacts").unlink()
    synced = call("tracking", "sync", out)
    assert (synced.rc, synced.stdout) == (0, "1 runs added, 0 were there already, 0 records are not valid\n")
    assert len(list(out.glob("mlartifacts/*/artifacts/record.json"))) == 1


# -- plugins ----------------------------------------------------------------------------------------------------------

HOSTILE: dict[str, tuple[str, str]] = {
    "hostile-raises": ("plugin-raised", "RuntimeError: something"),
    "hostile-exits": ("plugin-raised", "SystemExit"),
    "hostile-nan": ("diverged", "not finite"),
    "hostile-garbage": ("broken-contract", "must return a Result"),
    "hostile-foreign": ("broken-contract", "not built by job.build"),
    "hostile-peeks": ("undeclared-read", "forget"),
    "hostile-writes": ("broken-contract", "changed shared data"),
    "hostile-torch": ("broken-contract", "torch's global random state"),
    "hostile-numpy": ("broken-contract", "numpy's global random state"),
    "hostile-random": ("broken-contract", "random's global state"),
    "hostile-dtype": ("broken-contract", "torch's default dtype"),
    "hostile-busy": ("budget-exceeded", "raise --budget"),
    "hostile-sleeps": ("budget-exceeded", "raise --budget"),
    "hostile-endless": ("budget-exceeded", "raise --budget"),
}


@pytest.fixture(scope="module")
def hostile(site: Path, made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, Path]:
    """One call with every unlearner that misbehaves, and a good one last."""
    folder = tmp_path_factory.mktemp("hostile")
    wanted = [word for name in HOSTILE for word in ("-u", name)]
    done = spawn(
        "run", *WINE, *wanted, "-u", "identity", "--budget", "0.5", "--store", made / "store",
        "--no-tracking", "--json", cwd=folder, env={"PYTHONPATH": str(site)},
    )  # fmt: skip
    return done, folder / "runs"


def test_misbehaving_plugins_have_one_line_each_and_exit_code_4(hostile: tuple[Done, Path]) -> None:
    done, _ = hostile
    assert done.rc == 4
    lines = done.stderr.splitlines()
    assert len(lines) == len(HOSTILE), done.stderr
    for line, (name, (code, words)) in zip(lines, HOSTILE.items(), strict=True):
        assert_error(line, code, name, words)
        assert line.isprintable()


def test_a_misbehaving_plugin_costs_no_other_run(hostile: tuple[Done, Path], made: Path) -> None:
    done, runs = hostile
    documents = {d["spec"]["unlearner"]["name"]: d for d in done.json()}
    assert list(documents) == [*HOSTILE, "identity"]
    for name, (code, _) in HOSTILE.items():
        assert documents[name]["status"] == ("diverged" if code == "diverged" else "failed")
        assert documents[name]["error"]["code"] == code
    (alone,) = made.glob("*/record.json")
    assert documents["identity"]["status"] == "complete"
    # Whatever the others did to data and random state, the same run gives the same record as on its own.
    assert documents["identity"]["digest"] == json.loads(alone.read_text())["digest"]
    checked = call("validate", runs)
    assert (checked.rc, checked.stdout) == (0, f"{len(HOSTILE) + 1} valid, 0 invalid\n")


@pytest.mark.parametrize("name", ["hostile-init", "hostile-stops"])
def test_a_plugin_that_fails_before_any_work_stops_the_call(name: str, site: Path, out: Path, tmp_path: Path) -> None:
    before = tree(out)
    done = spawn(
        "run", *WINE, "-u", "identity", "-u", name, *QUIET, "--out", out, cwd=tmp_path, env={"PYTHONPATH": str(site)}
    )
    assert_one_error(done, 4, "plugin-broken" if name == "hostile-stops" else "plugin-raised", f"unlearner {name}")
    assert tree(out) == before


def test_a_measure_that_raises_costs_no_other_measure(site: Path, made: Path, tmp_path: Path) -> None:
    done = spawn(
        "run", *WINE, "-u", "identity", "--measure", "hostile-measure", "--measure", "accuracy",
        "--store", made / "store", "--no-tracking", "--json", cwd=tmp_path, env={"PYTHONPATH": str(site)},
    )  # fmt: skip
    assert_one_error(done, 4, "plugin-raised", "measure hostile-measure", "this is what it does")
    (document,) = done.json()
    assert {r["measure"] for r in document["readings"]} == {"accuracy"}
    assert [(m["name"], m["status"]) for m in document["measures"]] == [
        ("hostile-measure", "failed"),
        ("accuracy", "ok"),
    ]


def test_readings_that_are_no_numbers_are_a_status(site: Path, made: Path, tmp_path: Path) -> None:
    done = spawn(
        "run", *WINE, "-u", "identity", "--measure", "hostile-measure", "--set", "hostile-measure.how=nan",
        "--store", made / "store", "--no-tracking", "--json", cwd=tmp_path, env={"PYTHONPATH": str(site)},
    )  # fmt: skip
    assert done.rc == 0, done.stderr
    for reading in done.json()[0]["readings"]:
        assert reading["value"] is None
        assert reading["status"] != "ok"


def test_a_data_file_with_another_digest_than_promised_is_named(site: Path, out: Path, tmp_path: Path) -> None:
    (tmp_path / "pinned.bin").write_bytes(b"something else")
    before = tree(out)
    done = spawn(
        "run", "--dataset", "hostile-data", "--set", "hostile-data.how=pinned-file", "--model", "logistic",
        "-u", "identity", *QUIET, "--out", out,
        cwd=tmp_path, env={"PYTHONPATH": str(site), "UNLEARNBENCH_DATA": str(tmp_path)},
    )  # fmt: skip
    assert_one_error(done, 5, "wrong-digest", "pinned.bin", "fetch it again")
    assert tree(out) == before


def test_training_that_diverges_is_a_failed_check_with_a_record(tmp_path: Path) -> None:
    done = call("run", *WINE, "-u", "identity", "--set", "recipe.lr=1e30", *QUIET, "--out", tmp_path)
    assert_one_error(done, 1, "diverged", "not finite", "lower the learning rate")
    (path,) = tmp_path.glob("*/record.json")
    record = read_record(path)
    verify_record(record)
    assert record.status == "diverged"
    assert not any(m["finite"] for m in record.document["models"]["original"])
    assert torch.get_default_dtype() is torch.float32
