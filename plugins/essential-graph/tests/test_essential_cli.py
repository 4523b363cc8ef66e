"""The commands as a person calls them, on what the runner left: what they print and write, and one line for errors."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import parse

import pytest
import torch
from safetensors.torch import load_file, save_file

import unlearnbench
from unlearnbench_essential_graph.cli import main
from unlearnbench_essential_graph.folders import read_graph, read_pictures

EXPERIMENT = {
    "dataset": {"name": "shapes", "params": {"train_rows": 120, "test_rows": 60}},
    "model": {"name": "scene-labels", "params": {"channels": [6, 8, 8], "pool_after": [1, 2]}},
    "recipe": {"epochs": 1, "batch_size": 32, "lr": 0.002},
    "validation": 0.1,
    "requests": [{"kind": "target", "targets": ["cross"]}],
}


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of a tiny network on a few scenes."""
    folder = tmp_path_factory.mktemp("graphs")
    (record,) = unlearnbench.run(
        "essential-graph",
        experiment=EXPERIMENT,
        measures=["target-inversion"],
        parameters={"essential-graph.sigma": 2, "essential-graph.delta": 0.3, "target-inversion.steps": 3},
        out=folder / "out",
        store=folder / "store",
    )
    assert record.folder is not None
    return Path(record.folder)


@pytest.fixture
def run(left: Path, tmp_path: Path) -> Path:
    """A copy of the folder, to be damaged."""
    for name in ("record.json", "artifacts.safetensors"):
        (tmp_path / "run").mkdir(exist_ok=True)
        shutil.copy(left / name, tmp_path / "run" / name)
    return tmp_path / "run"


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Exit code and what was printed."""

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main([str(each) for each in arguments])
        printed = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return left.value.code, printed.out, printed.err

    return call


def refused(call: Call, *arguments: object) -> tuple[int, str]:
    """Exit code and the one line of an error."""
    code, out, err = call(*arguments)
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("error: [")
    return code, err


def rewrite(run: Path, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> None:
    """Change tensors and JSON of the artifacts."""
    path = run / "artifacts.safetensors"
    told, tensors = metadata(path), load_file(path)
    change(tensors, told)
    save_file(tensors, path, {"artifacts": json.dumps(told)})


def metadata(path: Path) -> dict[str, Any]:
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    found: dict[str, Any] = json.loads(header["__metadata__"]["artifacts"])
    return found


def test_show_has_a_row_for_each_layer_and_counts_what_the_artifacts_hold(left: Path, call: Call) -> None:
    code, out, _ = call("show", left)
    lines = [line.split() for line in out.splitlines()]
    tensors = load_file(left / "artifacts.safetensors")
    pruned = {layer: int(tensors[f"graph/pruned/{layer}"].sum()) for layer in ("body.conv2", "body.conv3")}
    assert code == 0
    assert out.startswith(f"forgets cross; {sum(pruned.values())} of 16 channels are pruned")
    for line, layer in zip(lines[-2:], pruned, strict=True):
        selected = tensors[f"graph/selected/{layer}"].sum(1).tolist()
        assert line[:6] == [layer, "8", *map(str, selected)]
        assert line[-1] == str(pruned[layer])


def test_show_as_json_has_the_same(left: Path, call: Call) -> None:
    code, out, _ = call("show", left / "record.json", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["forgotten"] == ["cross"]
    assert (found["settings"]["sigma"], found["settings"]["delta"]) == (2, 0.3)
    assert [layer["name"] for layer in found["layers"]] == ["body.conv2", "body.conv3"]


def test_export_writes_nodes_and_edges_and_draw_the_same_graph(left: Path, tmp_path: Path, call: Call) -> None:
    code, out, _ = call("export", left, "--out", tmp_path / "graph.json")
    found = json.loads((tmp_path / "graph.json").read_text("utf-8"))
    graph = read_graph(left)
    assert code == 0
    assert out == f"{tmp_path / 'graph.json'}: {len(found['nodes'])} nodes, {len(found['edges'])} edges\n"
    assert len(found["edges"]) == len(list(graph.edges())) > 0
    assert call("export", left, "--out", tmp_path / "graph.json", "--no-edges")[1].endswith("nodes, no edges\n")
    assert json.loads((tmp_path / "graph.json").read_text("utf-8")) == found | {"edges": []}
    assert call("draw", left, "--out", tmp_path / "graph.svg")[0] == 0
    dots = [e for e in parse(tmp_path / "graph.svg").iter() if "node" in e.get("class", "").split()]
    assert len(dots) == 16
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graph.json", "graph.svg"]


def test_pictures_are_drawn_with_the_scores_of_the_record(left: Path, tmp_path: Path, call: Call) -> None:
    (pictures,) = read_pictures(left).values()
    assert set(pictures.recovered) == {"original", "gold", "unlearned"}
    record = json.loads((left / "record.json").read_text("utf-8"))
    stated = {r["subject"]: r["value"] for r in record["readings"] if r["name"] == "target-inversion-reached"}
    assert {s: scores["target-inversion-reached"] for s, scores in pictures.scores.items()} == stated
    assert call("pictures", left, "--out", tmp_path / "p.svg")[:2] == (0, f"{tmp_path / 'p.svg'}: pictures of cross\n")
    assert call("pictures", left, "--out", tmp_path / "p.PNG")[0] == 0
    assert (tmp_path / "p.PNG").read_bytes().startswith(b"\x89PNG")
    parse(tmp_path / "p.svg")


def test_it_is_a_command_that_ends_with_the_documented_code(left: Path) -> None:
    program = [sys.executable, "-m", "unlearnbench_essential_graph.cli"]
    done = subprocess.run([*program, "show", str(left)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "body.conv3" in done.stdout
    failed = subprocess.run([*program, "shew"], capture_output=True, text=True, check=False)
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.startswith("error: [usage]")
    assert failed.stderr.count("\n") == 1


def test_help_says_what_the_commands_do_without_loading_torch() -> None:
    program = (
        "import sys; from unlearnbench_essential_graph import cli; cli._run(['--help']); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("False")
    assert all(word in done.stdout for word in ("show", "export", "draw", "pictures", "Exit codes:"))


def no_graph(tensors: dict[str, Any], told: dict[str, Any]) -> None:
    told.clear()


def other_layer(tensors: dict[str, Any], told: dict[str, Any]) -> None:
    tensors["graph/pruned/body.conv2"] = torch.zeros(3, dtype=torch.bool)


def strange_name(tensors: dict[str, Any], told: dict[str, Any]) -> None:
    told["graph"]["targets"] = ["a\x1b[31m\n", "b", "c", "d"]
    told["graph"]["forgotten"] = [0]


def cut(run: Path) -> None:
    path = run / "artifacts.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda run: (run / "artifacts.safetensors").unlink(), 5, "kept neither graphs nor pictures"),
        (lambda run: (run / "record.json").unlink(), 5, "record.json"),
        (lambda run: (run / "record.json").write_text("[1", "utf-8"), 5, "[bad-json]"),
        (lambda run: (run / "record.json").write_text("[" * 100_000, "utf-8"), 5, "[bad-json]"),
        (lambda run: (run / "record.json").write_bytes(b"\xff"), 5, "[bad-json]"),
        (lambda run: rewrite(run, no_graph), 3, "[no-graph]"),
        (lambda run: rewrite(run, other_layer), 5, "which of its 8 channels are pruned"),
        (cut, 5, "cannot be read as safetensors"),
    ],
    ids=range(8),
)
def test_a_folder_without_a_graph_or_a_damaged_one_is_one_line(
    run: Path, tmp_path: Path, call: Call, change: Callable[[Path], object], code: int, words: str
) -> None:
    change(run)
    commands = (("show", run), ("export", run, "-o", tmp_path / "g.json"), ("draw", run, "-o", tmp_path / "g.svg"))
    for arguments in commands:
        found, line = refused(call, *arguments)
        assert (found, words in line) == (code, True), line
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_names_cannot_rewrite_a_terminal(run: Path, call: Call) -> None:
    rewrite(run, strange_name)
    code, out, _ = call("show", run)
    assert code == 0
    assert "\x1b" not in out


def drop_pictures(tensors: dict[str, Any], told: dict[str, Any]) -> None:
    for name in [name for name in tensors if name.startswith("measures/")]:
        del tensors[name]


def flat_picture(tensors: dict[str, Any], told: dict[str, Any]) -> None:
    tensors["measures/target-inversion/gold/picture/cross"] = torch.zeros(5)


def endless_picture(tensors: dict[str, Any], told: dict[str, Any]) -> None:
    tensors["measures/target-inversion/gold/picture/cross"][0, 0, 0] = torch.inf


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [(drop_pictures, 3, "[no-pictures]"), (flat_picture, 5, "is no image"), (endless_picture, 5, "is no image")],
)
def test_pictures_that_are_none_are_one_line(
    run: Path, tmp_path: Path, call: Call, change: Callable[[dict[str, Any], dict[str, Any]], object], code: int,
    words: str,
) -> None:  # fmt: skip
    rewrite(run, change)
    found, line = refused(call, "pictures", run, "-o", tmp_path / "p.png")
    assert (found, words in line) == (code, True), line


def test_readings_that_cannot_be_understood_are_one_line(run: Path, tmp_path: Path, call: Call) -> None:
    for readings in ([{"at": 3}], ["x"], [{"at": {"target": ["cross"]}, "measure": "target-inversion"}]):
        (run / "record.json").write_text(json.dumps({"readings": readings}), "utf-8")
        assert refused(call, "pictures", run, "-o", tmp_path / "p.png")[0] == 5


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["shew"], 2, "No such command 'shew'"),
        (["export", "run"], 2, "Missing option '-o' / '--out'"),
        (["draw", "run", "-o", "graph.png"], 2, "name it graph.svg"),
        (["pictures", "run", "-o", "graph.gif"], 2, "does not end in .png or .svg"),
        (["show", "nowhere"], 5, "is not there"),
    ],
)
def test_a_wrong_command_line_is_one_line(call: Call, arguments: list[str], code: int, words: str) -> None:
    found, line = refused(call, *arguments)
    assert (found, words in line) == (code, True), line


def test_a_place_that_cannot_be_written_is_one_line(left: Path, tmp_path: Path, call: Call) -> None:
    for command, name in (("export", "g.json"), ("draw", "g.svg"), ("pictures", "g.png")):
        code, line = refused(call, command, left, "-o", tmp_path / "no" / name)
        assert (code, "[cannot-write]" in line) == (5, True), line
