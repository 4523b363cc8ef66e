"""The command: one line for every claim, an exit code that scripts can rely on, and never a traceback."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from patched_models import Made, canonical, certificate, outputs_of, patched, sha, written

import unlearnbench_verifier
from unlearnbench_verifier.command import main

POINTS = ((0.3, -0.2, 0.5), (-0.6, 0.4, 0.1))
SOURCE = Path(unlearnbench_verifier.__file__).parent


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A model with two members, its file and their certificates in the folder."""
    made = patched(1, POINTS, radius=0.1)
    written(tmp_path / "first.json", certificate(made))
    written(tmp_path / "second.json", certificate(made, 1))
    written(tmp_path / "public.json", certificate(made, owner=False))
    written(tmp_path / "wrong.json", certificate(made, margin=5.0))
    np.save(tmp_path / "first.npy", made.points[0])
    np.save(tmp_path / "second.npy", made.points[1])
    made.save(tmp_path / "model.safetensors")
    return made


class Said:
    """What a command printed, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        assert "Traceback" not in out + err
        assert err.count("\n") == (err != "")
        self.code, self.out, self.err = code, out, err
        self.lines = out.splitlines()


@pytest.fixture
def verify(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command in the folder of the model."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, model: str | None = "model.safetensors") -> Said:
        code = main([*arguments, *([] if model is None else ["--model", model])])
        return Said(code, *capsys.readouterr())

    return run


# -- what it says ------------------------------------------------------------------------------------------------------


def test_every_claim_has_a_line_and_the_last_one_counts(verify: Any) -> None:
    done = verify("first.json")
    assert (done.code, done.err) == (0, "")
    assert len(done.lines) == 15
    assert done.lines[0] == "fine   form: a certificate of redirection"
    assert done.lines[8].startswith("fine   redirect: output ")
    assert done.lines[13] == "-      signature: not signed"
    assert done.lines[14] == "1 of 1 certificate verified"


def test_a_wrong_claim_ends_with_1(verify: Any) -> None:
    done = verify("wrong.json")
    assert done.code == 1
    assert [line.split(":")[0] for line in done.lines if line.startswith("WRONG")] == ["WRONG  redirect"]
    assert done.lines[-1] == "0 of 1 certificate verified; 1 wrong"


def test_several_certificates_are_named_and_the_model_is_read_once(
    verify: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    open_file = Path.open

    def watched(self: Path, *arguments: Any, **options: Any) -> Any:
        opened.append(self.name)
        return open_file(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", watched)
    done = verify("first.json", "wrong.json", "second.json", "missing.json")
    assert opened.count("model.safetensors") == 1
    assert [line for line in done.lines if line.endswith(".json")] == [
        "first.json", "wrong.json", "second.json", "missing.json",
    ]  # fmt: skip
    assert done.err.startswith("error: [no-file] missing.json: ")
    assert done.lines[-1] == "2 of 4 certificates verified; 1 wrong; 1 not checked"
    assert done.code == 1  # what is wrong weighs more than what is missing


def test_json_has_the_same_findings(verify: Any) -> None:
    done = verify("first.json", "wrong.json", "missing.json", "--json")
    first, wrong, missing = json.loads(done.out)
    assert (done.code, done.err) == (1, "")
    assert (first["path"], first["verified"], first["error"]) == ("first.json", True, None)
    assert first["findings"][0] == {"what": "form", "said": "a certificate of redirection", "fine": True}
    assert first["findings"][13]["fine"] is None
    assert wrong["verified"] is False
    assert missing["error"]["code"] == "no-file"


def test_exact_numbers_come_to_the_same(verify: Any) -> None:
    assert verify("first.json", "--exact").lines == verify("first.json").lines


def test_sample_label_and_the_step_before_are_taken_from_the_options(verify: Any, made: Made, tmp_path: Path) -> None:
    without = verify("public.json")
    assert without.code == 0
    assert "-      sample: not looked at: it stands in the owner's copy alone" in without.lines
    given = verify("public.json", "--sample", "first.npy", "--label", str(made.labels[0]))
    assert given.code == 0
    assert "fine   sample: is in the box and in the region" in given.lines
    assert verify("public.json", "--sample", "second.npy").code == 1
    assert verify("public.json", "--label", str(made.targets[0])).code == 1
    before = {"step": 0, "base": made.base, "patched": "ab" * 32, "requests": [], "previous": None}
    written(tmp_path / "issue.json", before)
    chained = certificate(made, chain={"step": 1, "previous": sha(canonical(before))})
    written(tmp_path / "chained.json", chained)
    done = verify("chained.json", "--previous", "issue.json")
    assert done.code == 0
    assert "fine   chain: step 1 goes on from the issue of step 0" in done.lines
    assert verify("first.json", "--previous", "issue.json").code == 1
    written(tmp_path / "issue.json", [])
    bad = verify("first.json", "--previous", "issue.json")
    assert (bad.code, bad.err.startswith("error: [bad-issue] $: ")) == (2, True)


def test_a_claim_that_could_not_be_looked_at_is_no_success(verify: Any, tmp_path: Path) -> None:
    made = patched(1, POINTS, gate="committed")
    written(tmp_path / "committed.json", certificate(made, owner=False))
    made.save(tmp_path / "committed.safetensors")
    done = verify("committed.json", model="committed.safetensors")
    assert (done.code, done.lines[-1]) == (1, "0 of 1 certificate verified; 1 not proved")
    assert not any(line.startswith("WRONG") for line in done.lines)
    assert verify("committed.json", "--sample", "first.npy", model="committed.safetensors").code == 0


def test_help_says_what_is_proved_and_what_is_not_and_lists_the_exit_codes(verify: Any) -> None:
    done = verify("--help", model=None)
    assert (done.code, done.err) == (0, "")
    proved, rest = done.out.split("not proved:")
    assert "redirection    of every input in the region" in proved
    assert "that the model is like one that never saw the data" in rest
    for code in (0, 1, 2, 5, 6):
        assert f"\n  {code}  " in rest


# -- what it refuses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        ([], 2, "[usage] the following arguments are required"),
        (["first.json", "--modle", "x"], 2, "[usage] unrecognized arguments: --modle"),
        (["first.json", "--label", "x"], 2, "[usage] argument --label: invalid int value"),
        (["first.json", "--points", "0"], 2, "[usage] --points must be 1 to 100000"),
        (["first.json", "--seed", "-1"], 2, "[usage] --seed must be 0 or more"),
        (["first.json", "--seed", "1"], 2, "[usage] --seed needs --challenge or --draw"),
        (["first.json", "--challenge", "answers.json"], 2, "[usage] answers in a file need the --seed"),
        (["first.json", "second.json", "--sample", "first.npy"], 2, "[usage] --sample belongs to one certificate"),
        (["first.json", "--sample", "missing.npy"], 5, "[no-file] missing.npy"),
        (["first.json", "--sample", "first.json"], 5, "[bad-sample] first.json"),
        (["first.json", "--previous", "missing.json"], 5, "[no-file] missing.json"),
        (["missing.json"], 5, "[no-file] missing.json"),
        (["."], 5, "[no-file] ."),
        (["first.npy"], 5, "[bad-json] first.npy"),
    ],
)
def test_what_cannot_be_done_is_one_line_with_a_code(arguments: list[str], code: int, error: str, verify: Any) -> None:
    done = verify(*arguments)
    assert (done.code, done.err[: len(f"error: {error}")]) == (code, f"error: {error}")


def test_a_model_is_needed_and_must_be_one(verify: Any, tmp_path: Path) -> None:
    assert verify("first.json", model=None).err.startswith("error: [usage] ")
    assert verify("first.json", model="missing.safetensors").code == 5
    assert verify("first.json", model="first.json").err.startswith("error: [bad-tensors] first.json")
    content = (tmp_path / "model.safetensors").read_bytes()
    for cut in (0, 7, 100, len(content) - 1):
        (tmp_path / "cut.safetensors").write_bytes(content[:cut])
        assert verify("first.json", model="cut.safetensors").code == 5


def test_a_certificate_that_is_cut_off_anywhere_is_refused(verify: Any, tmp_path: Path) -> None:
    content = (tmp_path / "first.json").read_text()
    for length in range(0, len(content), 97):
        (tmp_path / "cut.json").write_text(content[:length])
        done = verify("cut.json")
        assert (done.code, done.err[:17]) == (5, "error: [bad-json]")


def test_a_huge_certificate_is_refused_before_it_is_read(verify: Any, tmp_path: Path) -> None:
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(2**40)
    assert verify("huge.json").err.startswith("error: [too-large] huge.json")


def test_text_of_a_certificate_cannot_rewrite_a_terminal(verify: Any, made: Made, tmp_path: Path) -> None:
    written(tmp_path / "odd.json", {**certificate(made), "\x1b[2Jfine\n": 1})
    done = verify("odd.json")
    assert done.code == 1
    assert done.lines[0].startswith("WRONG  form: ")
    assert "\x1b" not in done.out
    assert len(done.lines) == 2


# -- challenges --------------------------------------------------------------------------------------------------------


class Server(BaseHTTPRequestHandler):
    """Answers as the model in ``made`` does."""

    made: Made

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answers = outputs_of(self.made, np.array(asked["inputs"]))
        body = json.dumps({"outputs": answers.tolist()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[type[Server], str]]:
    """A server, to be told which model it serves, and its address."""
    served = HTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    yield Server, f"http://127.0.0.1:{served.server_port}/predict"
    served.shutdown()
    thread.join()
    served.server_close()


def test_a_server_is_asked_and_one_that_serves_another_model_is_caught(verify: Any, server: Any, made: Made) -> None:
    handler, address = server
    handler.made = made
    honest = verify("first.json", "second.json", "--challenge", address, "--points", "40")
    assert honest.code == 0
    lines = [line for line in honest.lines if "challenge" in line]
    assert len(lines) == 2
    assert lines[0].startswith("fine   challenge: 40 points of the region: 0 violations; ")
    handler.made = patched(1, [])  # the model before the request
    lying = verify("first.json", "--challenge", address, "--points", "40")
    assert lying.code == 1
    assert any(line.startswith("WRONG  challenge: 40 points of the region: 40 violations") for line in lying.lines)


def test_points_are_written_and_their_answers_read_later(verify: Any, made: Made, tmp_path: Path) -> None:
    drawn = verify("first.json", "--draw", "points.npy", "--points", "30")
    assert drawn.code == 0
    (line,) = (line for line in drawn.lines if line.startswith("-      challenge: 30 points are in points.npy; "))
    seed = line.split("--seed=")[1].split()[0]
    points = np.load(tmp_path / "points.npy")
    assert points.shape == (30, 3)
    written(tmp_path / "answers.json", {"labels": outputs_of(made, points).argmax(axis=1).tolist()})
    done = verify("first.json", "--challenge", "answers.json", "--seed", seed, "--points", "30")
    assert done.code == 0
    np.save(tmp_path / "answers.npy", outputs_of(patched(1, []), points))
    assert verify("first.json", "--challenge", "answers.npy", "--seed", seed, "--points", "30").code == 1
    again = verify("first.json", "--draw", "again.npy", "--points", "30")
    assert again.code == 0
    assert not np.array_equal(np.load(tmp_path / "again.npy"), points)  # nobody knows the next ones


def test_nobody_is_asked_about_a_certificate_that_does_not_hold(verify: Any) -> None:
    done = verify("wrong.json", "--challenge", "http://127.0.0.1:1/")
    assert done.code == 1
    assert "-      challenge: nobody was asked: the certificate does not hold" in done.lines


def test_a_server_that_is_not_there_leaves_the_other_findings(verify: Any) -> None:
    done = verify("first.json", "--challenge", "http://127.0.0.1:1/")
    assert done.code == 2
    assert done.err.startswith("error: [no-answer] http://127.0.0.1:1/")
    assert any(line.startswith("fine   redirect") for line in done.lines)
    assert done.lines[-1] == "0 of 1 certificate verified; 1 not checked"


# -- as a process of its own -------------------------------------------------------------------------------------------


def process(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "unlearnbench_verifier", *arguments], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_it_runs_as_a_module_and_leaves_quietly_when_its_reader_does(made: Made, tmp_path: Path) -> None:
    with process(tmp_path, "first.json", "--model", "model.safetensors") as whole:
        out, err = whole.communicate(timeout=60)
    assert (whole.returncode, err) == (0, "")
    assert out.endswith("1 of 1 certificate verified\n")
    with process(tmp_path, *["first.json"] * 2000, "--model", "model.safetensors") as left:
        assert left.stdout is not None
        assert left.stderr is not None
        left.stdout.close()
        assert left.wait(timeout=60) == 141
        assert left.stderr.read() == ""


def test_it_says_that_it_was_interrupted(verify: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("unlearnbench_verifier.checks.check", stop)
    done = verify("first.json")
    assert (done.code, done.out) == (6, "")
    assert done.err.startswith("error: [interrupted] ")


def test_nothing_is_imported_but_numpy_and_the_standard_library(made: Made, tmp_path: Path) -> None:
    program = (
        "import sys, numpy.random\n"
        "before = set(sys.modules)\n"
        "from unlearnbench_verifier.command import main\n"
        "code = main(['first.json', '--model', 'model.safetensors', '--exact', '--draw', 'points.npy'])\n"
        "tops = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(code, sorted(tops - set(sys.stdlib_module_names)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    code, names = done.stdout.splitlines()[-1].split(" ", 1)
    assert code == "0"
    assert set(ast.literal_eval(names)) - {"numpy"} == {"unlearnbench_verifier"}


def test_modules_name_nothing_but_numpy_and_the_standard_library() -> None:
    allowed = {"numpy", "unlearnbench_verifier", *sys.stdlib_module_names}
    files = sorted(SOURCE.rglob("*.py"))
    assert len(files) > 10
    for file in files:
        tree = ast.parse(file.read_text("utf-8"))
        inside = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
                assert node.level == 0, file
            else:
                names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            for name in {name.partition(".")[0] for name in names} - allowed:
                typing_only = any(
                    isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING" and node in branch.body
                    for branch in tree.body
                )
                assert name == "cryptography", (file, name)
                assert id(node) in inside or typing_only, (file, name)
