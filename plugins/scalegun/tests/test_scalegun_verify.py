"""``unlearnbench verify-certificate`` on a real stream over Cora: what was written holds, what was changed is found."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import warm
from forging import copied, edit, forge, forge_tensors, read, tensors_of
from torch import Tensor

from unlearnbench.record import PROOFS
from unlearnbench.registry import registry
from unlearnbench.scenes import load_dataset, make_scene, prepare
from unlearnbench.spec import RunSpec
from unlearnbench_scalegun.linear import gradient
from unlearnbench_scalegun.propagation import propagate

REQUESTS = 3
CORA = "cora/cora.npz"


def command(*arguments: str | Path, data: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, with another data folder if one is given."""
    more = {} if data is None else {"UNLEARNBENCH_DATA": str(data)}
    done = subprocess.run(
        [warm.command(), *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=500, env={**os.environ, "OMP_NUM_THREADS": "1", **more},
    )  # fmt: skip
    assert "Traceback" not in done.stdout + done.stderr
    return done


def data_folder() -> Path:
    folder = Path(os.environ.get("UNLEARNBENCH_DATA", ""))
    if not (folder / CORA).is_file():
        pytest.skip(f"{CORA} is not below UNLEARNBENCH_DATA")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a stream of single edges."""
    data_folder()
    out = tmp_path_factory.mktemp("cora")
    done = command(
        "run", "--dataset", "graph-file", "--set", f"graph-file.file={CORA}", "--model", "sgc",
        "--forget", '{"kind": "edges", "count": 1}', "--requests", f"{REQUESTS}x1", "--unlearner", "scalegun",
        "--measure", "accuracy", "--no-tracking", "--quiet", "--out", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (found,) = out.glob("*.scalegun.*")
    return found


def one_byte(run: Path) -> None:
    content = bytearray((run / PROOFS).read_bytes())
    content[len(content) // 2] ^= 1
    (run / PROOFS).write_bytes(content)


def swap_models(run: Path) -> None:
    """The models of the first two requests, with all that names them."""
    tensors = tensors_of(run)
    for name in [name for name in tensors if name.startswith("0/model/")]:
        other = name.replace("0/", "1/", 1)
        tensors[name], tensors[other] = tensors[other], tensors[name]
    forge_tensors(run, tensors)


def state(**values: Any) -> Callable[[dict[str, Any]], None]:
    """Another word of the last certificate, in both places."""

    def change(document: dict[str, Any]) -> None:
        document["certificate"] |= values
        document["stream"][-1]["certificate"] |= values

    return change


def state_terms(document: dict[str, Any]) -> None:
    """A bound half as large, with all that follows from it."""
    for certificate in (document["certificate"], document["stream"][-1]["certificate"]):
        certificate["terms"]["gradient"] = [x / 2 for x in certificate["terms"]["gradient"]]


def more_noise(document: dict[str, Any]) -> None:
    """Ten times the noise in the spec and in every budget: as if ten times the gradient could be hidden."""
    document["spec"]["unlearner"]["params"]["alpha"] *= 10
    spec = RunSpec.from_json(document["spec"])
    document |= {"spec_id": spec.id, "id": spec.run_id()}
    for request in document["stream"]:
        request["certificate"] |= {name: 10 * request["certificate"][name] for name in ("alpha", "budget")}
    document["certificate"] = document["stream"][-1]["certificate"]


def gradients(document: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """The gradient of the original after each request, with the noise of the proof, on exact features."""
    spec = RunSpec.from_json(document["spec"])
    splits, files = load_dataset(registry(), spec.dataset)
    scene = make_scene(spec, prepare(spec, splits), files, torch.device("cpu"), None)
    (w,) = (weight.double().numpy() for name, weight in tensors.items() if name.startswith("original/"))
    certificate = document["certificate"]
    found = []
    for step, part in enumerate(scene.parts):
        batch = part.retain.view("retain").tensors()
        assert batch.edges is not None
        assert batch.rows is not None
        z = propagate(batch.x.double().numpy(), batch.edges.numpy(), tuple(certificate["level_weights"]))
        noise = tensors[f"{step}/proof/noise"].numpy()
        slope = gradient(w, z[batch.rows.numpy()], batch.y.numpy(), noise, certificate["ridge"])
        found.append(torch.from_numpy(slope))
    return found


def original_with_chosen_noise(run: Path) -> None:
    """Nothing is unlearned: noise is chosen so that the original is the optimum on what every request left."""
    document, tensors = read(run), tensors_of(run)
    alpha = document["certificate"]["alpha"]
    for step, slope in enumerate(gradients(document, tensors)):
        chosen = tensors[f"{step}/proof/noise"] - slope
        assert abs(float(chosen.std()) / alpha - 1) < 0.05  # nobody sees from the numbers that they were chosen
        (weight,) = (v for k, v in tensors.items() if k.startswith("original/"))
        (model,) = (k for k in tensors if k.startswith(f"{step}/model/"))
        tensors |= {f"{step}/proof/noise": chosen, model: weight.clone()}
    forge_tensors(run, tensors)


FORM = f"form of the certificate after request {REQUESTS - 1}"

TAMPERING: dict[str, tuple[Callable[[Path], object], str]] = {
    "byte": (one_byte, PROOFS),
    "number": (lambda run: edit(run, state(value=0.0)), "seal of the record"),
    "number-digested": (lambda run: forge(run, state(value=0.0)), "budget"),
    "term-digested": (lambda run: forge(run, state_terms), "terms: gradient"),
    "epsilon": (lambda run: forge(run, state(epsilon=0.5)), "settings"),
    "holds": (lambda run: forge(run, state(holds=False)), "budget"),
    "another-request": (lambda run: forge(run, state(served=REQUESTS + 1)), FORM),
    "shorter": (lambda run: forge(run, lambda d: d["stream"].pop()), "certificates"),
    "swapped": (swap_models, "terms: gradient"),
    "more-noise": (lambda run: forge(run, more_noise), "noise in the objective"),
    "chosen-noise": (original_with_chosen_noise, "noise in the objective"),
}  # fmt: skip


def test_a_stream_over_cora_is_verified(run: Path) -> None:
    done = command("verify-certificate", run)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[-1] == f"{REQUESTS} certificates verified"
    assert all(line.startswith("fine ") for line in lines[:-1])
    for what in (
        "terms: gradient",
        "budget",
        "propagation state",
        "noise in the objective",
        "true residual within direct",
    ):
        assert any(line.startswith(f"fine   {what}: ") for line in lines), what


def test_every_tampering_with_it_is_found(run: Path, tmp_path: Path) -> None:
    for name, (tamper, _) in TAMPERING.items():
        tamper(copied(run, tmp_path / name / run.name))
    done = command("verify-certificate", "--json", tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    results = {Path(result["path"]).parts[-3]: result for result in json.loads(done.stdout)}
    assert sorted(results) == sorted(TAMPERING)
    for name, (_, what) in TAMPERING.items():
        wrong = [finding["what"] for finding in results[name]["findings"] if not finding["fine"]]
        assert what in wrong, (name, wrong)
        assert not results[name]["verified"]
        assert results[name]["error"] is None


def test_another_graph_in_its_place_is_found(run: Path, tmp_path: Path) -> None:
    with np.load(data_folder() / CORA) as kept:
        arrays = dict(kept)
    name = next(name for name in arrays if "edge" in name)
    cut = arrays[name][:, 1:] if arrays[name].shape[0] == 2 else arrays[name][1:]
    (tmp_path / "cora").mkdir()
    np.savez(tmp_path / CORA, **{**arrays, name: cut})
    done = command("verify-certificate", run, data=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert any(line.startswith("WRONG  train rows: ") for line in done.stdout.splitlines())
    assert done.stdout.splitlines()[-1] == "0 certificates verified; 1 record not verified"


def test_without_the_data_nothing_is_said_about_the_certificates(run: Path, tmp_path: Path) -> None:
    done = command("verify-certificate", run, data=tmp_path)
    assert done.returncode == 5
    assert done.stderr.startswith("error: [missing-file] ")
    assert done.stderr.count("\n") == 1
