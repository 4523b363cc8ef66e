"""What happens around the work: Ctrl-C, a reader that goes away, a narrow terminal, a locale without UTF-8."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import COMMAND, WINE, Done, call, environment, spawn

from unlearnbench.record import read_record, verify_record

LONG = ("--set", "recipe.epochs=1200")
"""Seconds of training, so that there is something to interrupt."""
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run on two seeds and its store."""
    folder = tmp_path_factory.mktemp("made")
    done = call("run", *WINE, "-u", "salun", "--seed", "0", "--seed", "1", "--no-tracking", "--out", folder / "runs")
    assert (done.rc, done.stderr) == (0, "")
    return folder


def interrupted(folder: Path, ready: Callable[[], bool], *arguments: str) -> Done:
    """Start a run, wait for a sign of progress and press Ctrl-C."""

    def listen() -> None:
        # Tests that a shell started in the background ignore Ctrl-C, and so would their children.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    command = subprocess.Popen(
        [*COMMAND, "run", *arguments], preexec_fn=listen,
        cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 90
        while not ready():
            assert command.poll() is None, "it ended before it could be interrupted"
            assert time.monotonic() < deadline, "no sign of progress"
            time.sleep(0.01)
        command.send_signal(signal.SIGINT)
        stdout, stderr = command.communicate(timeout=60)
    finally:
        command.kill()
    return Done(command.returncode, stdout, stderr)


def models(store: Path) -> dict[Path, tuple[int, bytes]]:
    """Stored weights with the time of writing."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in store.glob("*/*/*/model.safetensors")}


def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    arguments = (*WINE, *LONG, "-u", "identity", "--seed", "0", "--seed", "1", "--no-tracking")
    done = interrupted(tmp_path, lambda: bool(list(runs.glob("*/plot.svg"))), *arguments)
    assert done.rc == 6, done.stderr
    assert done.stdout == ""
    assert done.stderr == "error: [interrupted] 1 of 2 runs are finished; the same command goes on from here\n"
    (first,) = runs.glob("*/record.json")
    before = read_record(first)
    verify_record(before)
    assert before.status == "complete"
    kept = models(runs / "store")
    assert len(kept) >= 3
    assert not [path for path in runs.rglob("*") if path.name.startswith(".tmp-")]

    again = spawn("run", *arguments, cwd=tmp_path)
    assert (again.rc, again.stderr) == (0, "")
    assert f"2 runs; models: {6 - len(kept)} stored" in again.stdout
    assert {path: found for path, found in models(runs / "store").items() if path in kept} == kept
    assert read_record(first).document["digest"] == before.document["digest"]
    assert len(list(runs.glob("*/record.json"))) == 2


def test_ctrl_c_during_the_first_training_leaves_nothing_half_written(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    done = interrupted(
        tmp_path, lambda: bool(list(runs.glob("store/train/*/*/entry.json"))), *WINE, *LONG, "-u", "retrain",
        "--no-tracking",
    )  # fmt: skip
    assert done.rc == 6, done.stderr
    assert "Traceback" not in done.stderr
    assert "0 of 1 runs are finished" in done.stderr
    assert not list(runs.glob("*/record.json"))
    assert call("store", "verify", "--store", runs / "store").rc == 0


@pytest.mark.parametrize(
    "arguments", [("list", "unlearners"), ("run", "--help"), ("run", *WINE, "-u", "salun", "--no-tracking")]
)
def test_a_reader_that_goes_away_is_no_error(made: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """As after ``| head``, but sure to happen: nobody reads from the beginning."""
    store = ["--store", str(made / "runs" / "store")] if arguments[1] == "--dataset" else []
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [*COMMAND, *arguments, *store],
            cwd=tmp_path, env=environment(), stdout=writer, stderr=subprocess.PIPE, text=True, check=False, timeout=120,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")
    assert len(list(tmp_path.rglob("record.json"))) == len(store) // 2


def test_head_in_a_shell_shows_its_lines(tmp_path: Path) -> None:
    line = f"{' '.join(COMMAND)} schema run-record | head -n 2"
    done = subprocess.run(
        line, shell=True, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "{"
    assert len(done.stdout.splitlines()) == 2


def shown(made: Path, monkeypatch: pytest.MonkeyPatch, **env: str) -> list[str]:
    """The lines of a run's table."""
    monkeypatch.chdir(made)
    monkeypatch.delenv("COLUMNS", raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    done = call("run", *WINE, "-u", "salun", "-u", "finetune+salun", "--seed", "0", "--seed", "1", "--no-tracking")
    assert (done.rc, done.stderr) == (0, "")
    table, mark, _ = done.stdout.partition("4 runs; models: ")
    assert mark
    return table.splitlines()


@pytest.mark.parametrize("columns", [20, 40, 60])
def test_a_narrow_terminal_gets_all_numbers_and_no_line_too_wide(
    made: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    wide = shown(made, monkeypatch)
    narrow = shown(made, monkeypatch, COLUMNS=str(columns))
    assert max(map(len, wide)) > columns
    assert max(map(len, narrow)) <= columns
    numbers = [word for line in wide[3:] for word in line.split() if word[0].isdigit() or word[0] == "±"]
    found = [word for line in narrow for word in line.split()]
    assert len(numbers) > 40
    # Times differ from run to run only where something ran again, and nothing did.
    assert not [number for number in numbers if number not in found]


def test_a_pipe_has_no_width_and_cuts_nothing(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = shown(made, monkeypatch)
    (heading,) = [line for line in table if "forget acc" in line]
    assert " ".join(heading.split()) == "forget acc retain acc test acc MIA % avg gap JS forget CPU s speed-up"


def test_a_locale_without_utf8_gets_a_readable_table(made: Path) -> None:
    done = spawn("run", *WINE, "-u", "salun", "--no-tracking", cwd=made, env=ASCII)
    assert (done.rc, done.stderr) == (0, "")
    assert done.stdout.isascii()
    record = read_record(next(made.glob("runs/*salun.s0*")))
    (row,) = [line.replace("|", " ").split() for line in done.stdout.splitlines() if "salun " in line and "|" in line]
    assert row[:2] == ["salun", f"{record.value('accuracy.forget'):.3f}"]
    assert "0.929" in done.stdout


def test_a_locale_without_utf8_takes_names_with_umlauts(made: Path, tmp_path: Path) -> None:
    (tmp_path / "ü.yaml").write_text("unlearners: [salun]\ndataset: wine\nmodel: logistic\n", "utf-8")
    store = made / "runs" / "store"
    done = spawn("run", "ü.yaml", "--out", "läufe", "--store", store, "--no-tracking", cwd=tmp_path, env=ASCII)
    assert (done.rc, done.stderr) == (0, "")
    assert len(list((tmp_path / "läufe").glob("*/record.json"))) == 1
    refused = spawn("run", *WINE, "-u", "salün", cwd=tmp_path, env=ASCII)
    assert (refused.rc, refused.stderr.count("\n")) == (2, 1), refused.stderr
    assert refused.stderr.startswith("error: [")
