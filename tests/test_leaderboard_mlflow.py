"""Records from MLflow: from a real server on SQLite and on PostgreSQL, and from servers that mean harm."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient
from records import run_document, write
from support import call, spawn

from unlearnbench.api.errors import CheckFailed, DataError
from unlearnbench.leaderboard import collect as module
from unlearnbench.leaderboard.collect import collect
from unlearnbench.record import RECORD, read_record
from unlearnbench.tracking.mlflow_sink import connect

CHOICES = ("salun", "finetune")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of two scenarios, one of a run that failed."""
    folder = tmp_path_factory.mktemp("logged") / "runs"
    for name in CHOICES:
        for seed in (0, 1):
            write(folder, run_document(unlearner={"name": name, "params": {}}, seeds=(seed, seed, seed)))
    write(folder, run_document(scenario="mine/v1", status="failed"))
    return folder


@contextmanager
def served(store: str, folder: Path) -> Iterator[str]:
    """A real server with its artifacts below a folder; the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir(parents=True, exist_ok=True)
    words = ["--backend-store-uri", store, "--artifacts-destination", str(folder / "artifacts"), "--workers", "1"]
    switches = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "OMP_NUM_THREADS": "1"}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), *words],
            cwd=folder, env={**os.environ, **switches}, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        address, end = f"http://127.0.0.1:{port}", time.monotonic() + 240
        while not answers(f"{address}/health"):
            assert server.poll() is None, (folder / "server.log").read_text()[-2000:]
            assert time.monotonic() < end, "the server did not start"
            time.sleep(0.5)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def log(runs: Path, uri: str) -> None:
    """Log runs with the command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(runs)
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        done = call("tracking", "sync", runs)
    assert done.rc == 0, done.stderr
    assert "5 runs added" in done.stdout


@pytest.fixture(scope="module")
def sqlite(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("sqlite")
    with served(f"sqlite:///{folder}/mlflow.db", folder / "server") as address:
        log(runs, address)
        yield address


def documents(folder: Path) -> dict[str, Any]:
    return {path.parent.name: read_record(path).document for path in folder.glob(f"*/{RECORD}")}


def test_all_records_of_a_server_come_back_as_they_were(sqlite: str, runs: Path, tmp_path: Path) -> None:
    found = collect(sqlite, tmp_path)
    assert found.problems == ()
    assert documents(tmp_path) == documents(runs)
    assert [path.name for path in found.records] == sorted(path.name for path in runs.iterdir() if path.is_dir())


def test_runs_come_in_pages(sqlite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 1)
    assert len(collect(sqlite, tmp_path).records) == 5


def test_the_board_of_a_server_is_that_of_its_records(sqlite: str, runs: Path, tmp_path: Path) -> None:
    plain = call("leaderboard", "show", runs, "--json")
    collected = spawn("leaderboard", "show", "--from-mlflow", sqlite, "--json", cwd=tmp_path)
    assert (plain.rc, collected.rc) == (0, 0), collected.stderr
    assert plain.stdout == collected.stdout
    assert "finetune" in plain.stdout


def test_what_is_not_a_valid_record_is_left_out_and_told(sqlite: str, runs: Path, tmp_path: Path) -> None:
    client = connect(sqlite)
    experiment = client.create_experiment("hostile")
    forged = run_document(seeds=(7, 7, 7))
    forged["readings"][6]["value"] = 0.99
    named = {"id": "../../escaped", **{k: v for k, v in run_document(seeds=(8, 8, 8)).items() if k != "id"}}
    made = {
        "wrong-digest": (forged["id"], json.dumps(forged)),
        "bad-json": ("nan", '{"a": NaN}'),
        "bad-value": ("short", "{}"),
        "missing-file": ("empty", None),
        "path": ("../../escaped", json.dumps(named)),
        "wrong-id": ("another", json.dumps(run_document())),
    }
    try:
        for name, text in made.values():
            log_text(client, experiment, name, text, tmp_path)
        found = collect(sqlite, tmp_path / "out")
    finally:
        client.delete_experiment(experiment)
    assert len(found.records) == 5
    codes = sorted(problem.code for problem in found.problems)
    assert codes == ["bad-json", "bad-value", "bad-value", "missing-file", "wrong-digest", "wrong-id"]
    assert not list(tmp_path.rglob("escaped*"))
    assert {path.parent for path in found.records} == {tmp_path / "out"}
    assert runs.is_dir()


def log_text(client: MlflowClient, experiment: str, name: str, text: str | None, folder: Path) -> str:
    run = client.create_run(experiment, tags={"ub.run": name})
    if text is not None:
        (folder / RECORD).write_text(text)
        client.log_artifact(run.info.run_id, str(folder / RECORD))
    return str(run.info.run_id)


def test_a_record_beyond_the_limit_is_left_out(sqlite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    found = collect(sqlite, tmp_path)
    assert (found.records, {problem.code for problem in found.problems}) == ((), {"bad-json"})


def test_a_database_whose_artifacts_are_folders_is_read_directly(runs: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/own.db"
    log(runs, uri)
    found = collect(uri, tmp_path / "out")
    assert len(found.records) == 5
    assert documents(tmp_path / "out") == documents(runs)
    # A link in the place of an artifact is not followed.
    stolen = tmp_path / "secret.json"
    [victim, *_] = sorted((runs / "mlartifacts").rglob(RECORD))
    shutil.copy(victim, stolen)
    kept = victim.read_bytes()
    victim.unlink()
    victim.symlink_to(stolen)
    try:
        again = collect(uri, tmp_path / "again")
    finally:
        victim.unlink()
        victim.write_bytes(kept)
    assert (len(again.records), [problem.code for problem in again.problems]) == (4, ["missing-file"])


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match="MLflow failed") as caught:
        collect("http://somebody:password@127.0.0.1:9", tmp_path)
    assert "password" not in str(caught.value)


@contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: Any) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def fetched(address: str) -> bytes:
    info = SimpleNamespace(run_id="0" * 32)
    return module._artifact(address, SimpleNamespace(info=info), "run 0")  # type: ignore[arg-type]


def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("{}")

    def redirect(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", f"file://{tmp_path}/secret")
        handler.end_headers()

    with answering(redirect) as address, pytest.raises(DataError, match="302"):
        fetched(address)


def test_an_endless_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 100_000)
    sent = []

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        with suppress(OSError):  # the reader hangs up
            while sum(sent) < 2**30:
                handler.wfile.write(b" " * 65_536)
                sent.append(65_536)

    with answering(endless) as address, pytest.raises(DataError, match="larger"):
        fetched(address)
    assert sum(sent) < 64 * 2**20


def test_an_answer_that_only_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEADLINE", 0.5)

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(20):
            try:
                handler.wfile.write(b" ")
            except OSError:
                return
            time.sleep(0.1)

    begun = time.monotonic()
    with answering(drip) as address, pytest.raises(DataError, match="did not come"):
        fetched(address)
    assert time.monotonic() - begun < 5


# --- PostgreSQL --------------------------------------------------------------------------------------------------


def postgres_tool(name: str) -> str | None:
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(places[-1]) if places else shutil.which(name)


@pytest.fixture
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database server of the test's own; PostgreSQL refuses to run as root, so that root hands it to another."""
    import pwd
    import tempfile

    initdb, pg_ctl = postgres_tool("initdb"), postgres_tool("pg_ctl")
    if initdb is None or pg_ctl is None:
        pytest.skip("PostgreSQL is not installed")
    user: str | None = None
    if os.geteuid() == 0:
        names = {each.pw_name for each in pwd.getpwall()}
        user = next((name for name in ("postgres", "nobody") if name in names), None)
        if user is None:
            pytest.skip("PostgreSQL does not run as root, and there is nobody else")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Folders of pytest are closed to others than root.
    folder = Path(tempfile.mkdtemp(prefix="unlearnbench-postgres-"))
    if user:
        shutil.chown(folder, user)
    options = {"user": user, "cwd": folder, "check": True, "capture_output": True, "timeout": 120}
    try:
        subprocess.run([initdb, "-D", folder / "data", "-U", "tester", "-A", "trust", "--no-sync"], **options)  # type: ignore[call-overload]
        words = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        start = [pg_ctl, "-D", folder / "data", "-o", words, "-w", "-l", folder / "log", "start"]
        options["capture_output"] = False  # the server would keep the pipe open
        subprocess.run(start, **options, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # type: ignore[call-overload]
        try:
            yield f"postgresql+psycopg://tester@127.0.0.1:{port}/postgres"
        finally:
            stop = [pg_ctl, "-D", folder / "data", "-m", "immediate", "-w", "stop"]
            subprocess.run(stop, **options, stdout=subprocess.DEVNULL)  # type: ignore[call-overload]
    finally:
        shutil.rmtree(folder)


def test_records_come_back_from_a_server_on_postgresql(postgres: str, runs: Path, tmp_path: Path) -> None:
    with served(postgres, tmp_path / "server") as address:
        log(runs, address)
        found = collect(address, tmp_path / "out")
        assert found.problems == ()
        assert documents(tmp_path / "out") == documents(runs)
        direct = collect(postgres, tmp_path / "direct")
    # The database alone does not have the artifacts, which the server keeps.
    assert (direct.records, len(direct.problems)) == ((), 5)
    assert "name the server" in str(direct.problems[0])
