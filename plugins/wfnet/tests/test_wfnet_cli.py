"""The commands as a person calls them: what they print, what they write, and one line for every error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from unlearnbench_wfnet.artifact import describe, save
from unlearnbench_wfnet.cli import main
from unlearnbench_wfnet.network import WFNet
from unlearnbench_wfnet.targets import find_targets

CLASSES = ["cat", "dog", "sea\x1b[31m horse"]


def base_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(216, 3)).eval()


@pytest.fixture
def net(tmp_path: Path) -> WFNet:
    """A WF-Net whose files are in the folder: ``gates.safetensors`` and ``base.safetensors``."""
    base = base_net()
    net = WFNet(base, find_targets(base, (1, 8, 8)), len(CLASSES))
    with torch.no_grad():
        net.alpha_weight[0][0, :2], net.alpha_bias[0][1, 0] = -6.0, -0.5
    parameters, log = {"lr": 100.0}, [{"step": 3, "loss": 2.0}, {"step": 6, "loss": 1.5}, {"step": 9}]
    save(
        tmp_path / "gates.safetensors",
        describe(net, CLASSES, rows=[2], harden=0.25, parameters=parameters, log=log),
    )
    save_file(base.state_dict(), tmp_path / "base.safetensors")
    return net


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code and what was printed."""
    with pytest.raises(SystemExit) as left:
        main([str(each) for each in arguments])
    printed = capsys.readouterr()
    assert isinstance(left.value.code, int)
    return left.value.code, printed.out, printed.err


@pytest.mark.usefixtures("net")
def test_show_says_what_the_gates_are_for_and_how_many_are_closed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = call(capsys, "show", tmp_path / "gates.safetensors")
    assert code == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == "wf-net/1: 12 gates for each of 3 classes"
    assert "forgets sea [31m horse; gates below 0.25 are 0, mask_bn false" in lines
    assert "untrained 3 looks at the validation loss, the least 1.5" in lines
    assert "0 convolution, 6 8.3 % 5.6 %" in lines  # 3 and 2 of 36
    assert "cat 16.7 % 16.7 %" in lines
    assert "dog 8.3 % 0.0 %" in lines
    assert "\x1b" not in out


@pytest.mark.usefixtures("net")
def test_show_as_json_has_the_same_and_the_names_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = call(capsys, "show", tmp_path / "gates.safetensors", "--json")
    found = json.loads(out)
    assert [each["name"] for each in found["classes"]] == CLASSES
    assert found["classes"][0]["closed"] == {"0.5": pytest.approx(2 / 12), "0.1": pytest.approx(2 / 12)}
    assert found["rows"] == [{"row": 2, "name": CLASSES[2]}]
    assert found["layers"][0]["closed"]["0.5"] == pytest.approx(3 / 36)
    assert found["parameters"] == {"lr": 100.0}
    assert len(found["log"]) == 3


@pytest.mark.parametrize("harden", [None, "0", "0.4"])
def test_baking_from_files_writes_what_the_network_bakes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], net: WFNet, harden: str | None
) -> None:
    files = [tmp_path / "gates.safetensors", tmp_path / "base.safetensors"]
    given = [] if harden is None else ["--harden", harden]
    out = tmp_path / "baked.safetensors"
    code, printed, _ = call(capsys, "bake", *files, "--class", "cat", "--class", "dog", *given, "-o", out)
    assert code == 0
    expected = net.bake([0, 1], harden=0.5 if harden is None else float(harden)).state_dict()
    written = load_file(out)
    assert set(written) == set(expected)
    assert all(torch.equal(written[name], expected[name]) for name in expected)
    zeros = {None: 3, "0": 0, "0.4": 3}[harden]
    assert printed == f"{out}: without cat, dog; {zeros} of 12 gates are exactly 0\n"
    assert int((written["0.weight"].flatten(1) == 0).all(1).sum()) == {None: 2, "0": 0, "0.4": 2}[harden]
    base_net().load_state_dict(written)


def test_baking_keeps_the_types_of_the_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = base_net().half()
    net = WFNet(base, find_targets(base_net(), (1, 8, 8)), 3)
    save(tmp_path / "g.safetensors", describe(net, CLASSES, rows=[], harden=0.0, parameters={}, log=[]))
    save_file(base.state_dict(), tmp_path / "b.safetensors")
    out = tmp_path / "o.safetensors"
    assert (
        call(capsys, "bake", tmp_path / "g.safetensors", tmp_path / "b.safetensors", "--class", "cat", "-o", out)[0]
        == 0
    )
    assert {name: value.dtype for name, value in load_file(out).items()} == {
        name: value.dtype for name, value in base.state_dict().items()
    }


@pytest.mark.usefixtures("net")
def test_figure_draws_all_classes_or_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gates, one, two = tmp_path / "gates.safetensors", tmp_path / "one.svg", tmp_path / "two.svg"
    assert call(capsys, "figure", gates, "-o", one)[:2] == (0, f"{one}\n")
    assert call(capsys, "figure", gates, "-o", two, "--class", "dog")[0] == 0
    assert one.read_bytes().startswith(b"<?xml")
    assert one.read_bytes() != two.read_bytes()


BAKE = ("bake", "gates.safetensors", "base.safetensors")
REFUSED: dict[str, tuple[tuple[str, ...], int, str]] = {
    "a file that is not there": (("show", "gone.safetensors"), 5, "[missing-file] gone.safetensors"),
    "the base in place of the gates": (("show", "base.safetensors"), 5, "[wrong-artifact]"),
    "a text file": (("show", "note.txt"), 5, "[unreadable-file]"),
    "a folder": (("figure", ".", "-o", "f.svg"), 5, "[missing-file]"),
    "a class that is not there": ((*BAKE, "--class", "cta", "-o", "o"), 2, "did you mean cat?"),
    "a class of a figure": (("figure", "gates.safetensors", "-o", "f.svg", "--class", "9"), 2, "[unknown-class]"),
    "another kind of figure": (("figure", "gates.safetensors", "-o", "f.gif"), 2, "[bad-parameter]"),
    "no class": ((*BAKE, "-o", "o"), 2, "[usage]"),
    "harden above 1": ((*BAKE, "--class", "cat", "--harden", "2", "-o", "o"), 2, "[usage]"),
    "the base as output": ((*BAKE, "--class", "cat", "-o", "base.safetensors"), 2, "[bad-output]"),
    "no folder": ((*BAKE, "--class", "cat", "-o", "nowhere/o.safetensors"), 5, "[cannot-write]"),
    "another base": (
        ("bake", "gates.safetensors", "gates.safetensors", "--class", "cat", "-o", "o"), 5,
        "[wrong-base] gates.safetensors: this is not the network that the gates were made for",
    ),
    "a base that is text": (
        ("bake", "gates.safetensors", "note.txt", "--class", "cat", "-o", "o"), 5, "[unreadable-file] note.txt",
    ),
    "an unknown command": (("bakes",), 2, "[usage]"),
}  # fmt: skip


@pytest.mark.usefixtures("net")
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_done_is_one_line_with_an_exit_code_and_leaves_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    arguments, expected, said = REFUSED[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "note.txt").write_text("hello")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    code, out, err = call(capsys, *arguments)
    assert code == expected
    assert out == ""
    assert err.startswith("error: [")
    assert said in err
    assert err.count("\n") == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_without_a_command_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys)
    assert code == 2
    assert "bake" in out
    assert "figure" in out


def test_the_help_of_bake_says_that_gates_do_not_delete(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "bake", "--help")
    assert code == 0
    assert "Gates filter, they do not delete" in " ".join(out.split())


@pytest.mark.usefixtures("net")
def test_the_command_runs_as_a_program_and_its_errors_are_no_tracebacks(tmp_path: Path) -> None:
    def program(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "unlearnbench_wfnet.cli", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    good = program("show", "gates.safetensors", "--json")
    assert (good.returncode, good.stderr) == (0, "")
    assert json.loads(good.stdout)["format"] == "wf-net/1"
    (tmp_path / "gates.safetensors").write_bytes((tmp_path / "gates.safetensors").read_bytes()[:-1])
    bad = program("show", "gates.safetensors")
    assert bad.returncode == 5
    assert bad.stderr.startswith("error: [unreadable-file] gates.safetensors")
    assert bad.stderr.count("\n") == 1
    assert bad.stdout == ""


def test_the_help_imports_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys\nfrom unlearnbench_wfnet.cli import main\n"
        "try:\n    main(['bake', '--help'])\nexcept SystemExit as left:\n    assert left.code == 0\n"
        "print(sorted({'torch', 'matplotlib', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
