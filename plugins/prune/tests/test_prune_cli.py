"""The commands as a person calls them: what they print, what they write, and one line for every error."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from patched_models import Made, certificate, outputs_of, patched
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unlearnbench_prune.cli import main
from unlearnbench_prune.patched import PatchedNet
from unlearnbench_prune.plugin import PatchedParams
from unlearnbench_prune.rebuilding import rebuilt
from unlearnbench_prune.saving import metadata, tensors
from unlearnbench_verifier import command
from unlearnbench_verifier.files import canonical
from unlearnbench_verifier.form import Issue, digest, issue_digest
from unlearnbench_verifier.signatures import check_signature

POINTS = [(0.3, -0.2, 0.5), (-0.6, 0.4, 0.1)]
UNCERTIFIED = [{"row": 17 + k, "status": "empirical", "reason": f"no\x1b solution {k}"} for k in range(25)]


def stated(made: Made, documents: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """The certificate of a record."""
    issue = issue_of(made, documents)
    return {
        "$schema": "https://unlearnbench.org/schemas/certificate/1.json", "method": "prune", "claim": "redirect",
        "means": documents[0]["means"], "served": 2, "budget": 0, "value": 0, "holds": True, "margin": 0.01,
        "gate": {"kind": made.kind, "sharpness": made.document["gate"]["sharpness"]}, "radius": 0.05, "multi": "each",
        "form": "samples", "rows": len(documents), "certified": len(documents), "empirical": 0, "failed": 0,
        "base": made.base, "patched": made.patched, "split_at": "", "box": made.document["box"],
        "certificates": [digest(document) for document in documents], "issue": issue_digest(issue),
        "previous": issue.previous, "uncertified": [],
    } | changes  # fmt: skip


def issue_of(made: Made, documents: list[dict[str, Any]]) -> Issue:
    requests = tuple(document["request"]["commitment"] for document in documents)
    return Issue(1, made.base, made.patched, requests, "ab" * 32)


def run_folder(folder: Path, gate: str = "exact", **changes: Any) -> Made:
    """What a run leaves after its second request: a record, and the proofs of both."""
    made = patched(3, POINTS, gate=gate, sharpness=1e4)
    documents = [certificate(made, k, chain={"step": 1, "previous": "ab" * 32}, created=None) for k in range(2)]
    papers = {
        "format": "prune/1", "metadata": made.document, "certificates": documents,
        "issue": issue_of(made, documents).document(), "salts": {},
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    record = {"schema": "run-record/1", "certificate": stated(made, documents, **changes)}
    (folder / "record.json").write_text(json.dumps(record), "utf-8")
    model = {f"1/model/{name}": torch.tensor(values) for name, values in made.tensors.items()}
    save_file(
        {
            **model,
            "original/0.weight": torch.zeros(2),
            "0/model/everywhere": torch.ones(3),  # of the first request: none of this
            "0/proof/certificates": torch.zeros(1, dtype=torch.uint8),
            "1/proof/certificates": torch.tensor(list(canonical(papers)), dtype=torch.uint8),
            "1/proof/samples": torch.tensor(made.points),
        },
        folder / "proofs.safetensors",
    )
    return made


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run_folder(tmp_path / "run")
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


# -- show --------------------------------------------------------------------------------------------------------------


def test_show_says_what_is_certified_under_which_gate_and_what_came_before(run: Path, call: Call) -> None:
    code, out, _ = call("show", run)
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert code == 0
    assert lines[0] == ("2 of 2 rows are certified; 0 are redirected without a proof, 0 are predicted as before")
    assert "gate exact; radius 0.05" in lines
    assert "margin 0.01, on inputs from -1.0 to 1.0" in lines
    assert any(line.startswith("issue") and line.endswith(", after request 1") for line in lines)
    assert f"before it {'ab' * 32}" in lines
    assert "output redirection" in lines[-1]  # what it means, and no more


def test_show_names_rows_without_a_certificate_and_why(tmp_path: Path, call: Call) -> None:
    run_folder(
        tmp_path / "run", gate="support", rows=27, empirical=24, failed=1, uncertified=UNCERTIFIED, radius=None,
        previous=None,
    )  # fmt: skip
    _, out, _ = call("show", tmp_path / "run" / "record.json")
    assert "2 of 27 rows are certified; 24 are redirected without a proof, 1 are predicted as before" in out
    assert "support, sharpness 10000; the whole region" in out
    assert "17: empirical, no" in out
    assert "solution 19" in out
    assert "solution 20" not in out
    assert "and 5 more; --json has them all" in out
    assert "nothing was issued" in out
    assert "\x1b" not in out
    _, out, _ = call("show", tmp_path / "run", "--json")
    assert json.loads(out)["uncertified"] == UNCERTIFIED


# -- export ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", ["exact", "committed"])
def test_what_is_exported_is_confirmed_by_the_verifier(
    tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str], gate: str
) -> None:
    made = run_folder(tmp_path / "run", gate)
    out = tmp_path / "new" / "public"
    code, printed, _ = call("export", tmp_path / "run", "--out", out)
    assert (code, printed) == (0, f"{out}: the model and 2 certificates\n")
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert names == ["certificates/0000.json", "certificates/0001.json", "issue.json", "model.safetensors"]
    for k in range(2):
        path = out / "certificates" / f"000{k}.json"
        request = json.loads(path.read_bytes())["request"]
        assert [request[name] for name in ("salt", "sample", "label")] == [None] * 3
        code = command.main([str(path), "--model", str(out / "model.safetensors")])
        said = capsys.readouterr().out
        # A committed region can be looked at only with the row.
        assert code == (1 if gate == "committed" else 0), said
        assert "WRONG" not in said
    loaded = load_file(out / "model.safetensors")
    assert set(loaded) == set(made.tensors)
    assert all(torch.equal(loaded[name], torch.tensor(values)) for name, values in made.tensors.items())


def test_the_owner_gets_row_label_and_salt_in_a_folder_that_nobody_else_reads(
    run: Path, tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()  # an empty folder will do
    code, printed, _ = call("export", run, "--out", out, "--owner", "--created", "2026-02-01T00:00:00Z")
    assert code == 0
    assert printed.endswith("and in owner/ what only the owner of the rows may see\n")
    assert (out / "owner").stat().st_mode & 0o777 == 0o700
    made = patched(3, POINTS)
    for k in range(2):
        document = json.loads((out / "owner" / f"000{k}.json").read_bytes())
        sample = np.load(out / "owner" / f"000{k}.npy")
        assert sample.dtype == np.float32
        assert np.array_equal(sample, made.points[k])
        assert document["request"]["label"] == made.labels[k]
        assert document["created"] == "2026-02-01T00:00:00Z"
        arguments = ["--sample", str(out / "owner" / f"000{k}.npy"), "--label", str(made.labels[k])]
        assert (
            command.main([str(out / "owner" / f"000{k}.json"), "--model", str(out / "model.safetensors"), *arguments])
            == 0
        )
    # The row of one is not that of the other.
    swapped = [str(out / "owner" / "0000.json"), "--sample", str(out / "owner" / "0001.npy")]
    assert command.main([*swapped, "--model", str(out / "model.safetensors")]) == 1
    capsys.readouterr()


def test_a_key_signs_every_copy(run: Path, tmp_path: Path, call: Call) -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    assert call("export", run, "--out", tmp_path / "out", "--owner", "--key", tmp_path / "key.pem")[0] == 0
    signed = [json.loads(path.read_bytes()) for path in sorted((tmp_path / "out").rglob("000*.json"))]
    assert len(signed) == 4
    for document in signed:
        assert check_signature(document).fine is True
        assert document["signature"]["public_key"] == key.public_key().public_bytes_raw().hex()


@pytest.mark.parametrize("content", ["file", "folder"])
def test_nothing_that_is_there_is_overwritten(run: Path, tmp_path: Path, call: Call, content: str) -> None:
    out = tmp_path / "out"
    if content == "folder":
        out.mkdir()
        (out / "mine.txt").write_text("mine", "utf-8")
    else:
        out.write_text("mine", "utf-8")
    code, line = refused(call, "export", run, "--out", out)
    assert (code, "is there already" in line) == (2, True)
    assert (out / "mine.txt" if content == "folder" else out).read_text("utf-8") == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--created", "yesterday"), "$.created"),
        (("--key", "no-such-key.pem"), "no-such-key.pem"),
    ],
)
def test_an_export_that_fails_leaves_nothing(
    run: Path, tmp_path: Path, call: Call, options: tuple[str, ...], words: str
) -> None:
    code, line = refused(call, "export", run, "--out", tmp_path / "out", *options)
    assert code in (2, 5)
    assert words in line
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


# -- what does not belong together -------------------------------------------------------------------------------------


def of_record(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def changed(run: Path) -> None:
        record = json.loads((run / "record.json").read_bytes())
        change(record["certificate"])
        (run / "record.json").write_text(json.dumps(record), "utf-8")

    return changed


def of_proofs(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], None]:
    def changed(run: Path) -> None:
        found = load_file(run / "proofs.safetensors")
        change(found)
        save_file(found, run / "proofs.safetensors")

    return changed


def cut(run: Path) -> None:
    path = run / "proofs.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (of_record(lambda c: c["certificates"].reverse()), 5, "holds other certificates than the record names"),
        (of_record(lambda c: c.update(patched="00" * 32)), 5, "issued for another model than the record names"),
        (of_record(lambda c: c.update(served=1)), 5, "proofs.safetensors"),
        (of_record(lambda c: c.update(served=7)), 5, "holds no model and certificates after request 6"),
        (of_record(lambda c: c.update(rows="two")), 5, "certificate.rows"),
        (of_record(lambda c: c.pop("margin")), 5, "certificate.margin"),
        (of_record(lambda c: c.update(method="scalegun")), 3, "has no certificate of prune"),
        (of_proofs(lambda t: t["1/model/shifts"].mul_(0.5)), 5, "the model is not the one that was certified"),
        (of_proofs(lambda t: t["1/model/base.0.weight"].view(-1)[0].add_(1)), 5, "not the one that was certified"),
        (of_proofs(lambda t: t.pop("1/model/radii")), 2, "radii"),
        (of_proofs(lambda t: t.pop("1/proof/certificates")), 5, "holds no model and certificates after request 1"),
        (of_proofs(lambda t: t["1/proof/certificates"].zero_()), 5, "[bad-json]"),
        (lambda run: (run / "proofs.safetensors").unlink(), 5, "is not there"),
        (lambda run: (run / "record.json").unlink(), 5, "record.json"),
        (lambda run: (run / "record.json").write_text("[1, 2", "utf-8"), 5, "[bad-json]"),
        (lambda run: (run / "record.json").write_text("[]", "utf-8"), 3, "has no certificate of prune"),
        (cut, 5, "cannot be read as safetensors"),
    ],
)
def test_files_that_are_damaged_or_do_not_belong_together_are_one_line(
    run: Path, tmp_path: Path, call: Call, change: Callable[[Path], object], code: int, words: str
) -> None:
    change(run)
    for arguments in (("export", run, "--out", tmp_path / "out"), ("torchscript", run, "--out", tmp_path / "m.pt")):
        found, line = refused(call, *arguments)
        assert (found, words in line) == (code, True), line
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


# -- TorchScript -------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore:.*torch.jit.*:FutureWarning")
@pytest.mark.parametrize("gate", ["exact", "support"])
def test_a_script_answers_as_the_formulas_say(tmp_path: Path, call: Call, gate: str) -> None:
    made = run_folder(tmp_path / "run", gate)
    assert call("torchscript", tmp_path / "run", "--out", tmp_path / "model.pt")[:2] == (
        0,
        f"{tmp_path / 'model.pt'}\n",
    )
    rng = np.random.default_rng(0)
    near = np.repeat(made.points, 20, axis=0) + rng.uniform(-0.04, 0.04, (40, 3))
    points = np.concatenate([near, rng.uniform(-1, 1, (40, 3))]).astype(np.float32)
    expected = outputs_of(made, points)
    assert np.abs(expected - outputs_of(patched(3, []), points)).max(axis=1).astype(bool).sum() > 20  # patches act
    script = torch.jit.load(tmp_path / "model.pt")
    np.testing.assert_allclose(script(torch.tensor(points)).numpy(), expected, atol=1e-3 if gate == "support" else 1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pt", "run"]


def test_a_committed_gate_has_no_script(tmp_path: Path, call: Call) -> None:
    run_folder(tmp_path / "run", "committed")
    code, line = refused(call, "torchscript", tmp_path / "run", "--out", tmp_path / "model.pt")
    assert (code, "cannot-export" in line, "sha256" in line) == (2, True, True)
    assert not (tmp_path / "model.pt").exists()


class Block(nn.Module):
    """Every kind of step that a document knows."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1, stride=(1, 2), groups=2, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.inner = nn.ModuleDict({"more": nn.Conv2d(4, 4, 1), "plain": nn.BatchNorm2d(4, affine=False)})
        self.pools = nn.Sequential(nn.MaxPool2d(2), nn.AvgPool2d((2, 1), padding=(1, 0)))
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(16, 6), nn.BatchNorm1d(6), nn.LeakyReLU(0.125), nn.Linear(6, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        return self.head(self.pools(x + self.inner["plain"](self.inner["more"](x))))


@pytest.mark.parametrize("split_at", ["", "head"])
def test_a_model_built_from_its_file_alone_is_the_same_model(split_at: str) -> None:
    torch.manual_seed(0)
    base = Block()
    base(torch.rand(50, 2, 6, 8))  # so that batch statistics are not 0 and 1
    base.eval()
    p = PatchedParams(split_at=split_at, members=1, groups=1, affine=True)
    model = PatchedNet(base, (2, 6, 8), 3, p).eval()
    x = torch.rand(20, 2, 6, 8)
    with torch.no_grad():
        features = x if not split_at else model._run(x)[1]
        model.everywhere.copy_(torch.tensor([0.5, 0.0, -1.0]))
        model.shifts.fill_(1.0), model.slopes.normal_()
        again = rebuilt(metadata(model), tensors(model))
        model.patterns.copy_(patterns(again, features[:1]))
        again.patterns.copy_(model.patterns)
        assert (model.members_at(x) >= 0).any()  # the patch acts somewhere
        assert torch.equal(again(features), model(x))
    assert again.network.document() == model.network.document()


def patterns(model: PatchedNet, features: Tensor) -> Tensor:
    from unlearnbench_prune.frozen import patterns_at, weights_of

    return patterns_at(model.network, weights_of(model.base, model.network), features.double())


# -- the command line --------------------------------------------------------------------------------------------------


def test_help_says_what_the_commands_do_without_loading_torch() -> None:
    program = "import sys; from unlearnbench_prune.cli import _run; _run(['--help']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("False")
    assert all(word in done.stdout for word in ("show", "export", "torchscript", "Exit codes:"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show"], "see `unlearnbench-prune show --help`"),
        (["export", "run"], "Missing option '-o' / '--out'"),
        (["shew", "run"], "No such command 'shew'"),
    ],
)
def test_a_wrong_command_line_is_one_line(call: Call, arguments: list[str], words: str) -> None:
    code, line = refused(call, *arguments)
    assert (code, words in line) == (2, True), line
