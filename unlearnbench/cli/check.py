"""Commands that check: validate and doctor."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from unlearnbench.api.errors import UnlearnBenchError, UsageError
from unlearnbench.cli.browse import echo_json


@click.command("validate")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def validate_command(paths: tuple[Path, ...], as_json: bool) -> int:
    """Check records (files, or folders of runs) and experiment files against their schemas and digests."""
    results = []
    for path in paths:
        for file in _files(path):
            try:
                kind = _validate(file)
                results.append({"path": str(file), "kind": kind, "status": "ok", "error": ""})
            except UnlearnBenchError as problem:
                results.append({"path": str(file), "kind": "", "status": "invalid", "error": str(problem)})
    bad = [r for r in results if r["status"] != "ok"]
    if as_json:
        echo_json(results)
    else:
        for result in bad:
            click.echo(f"invalid  {result['path']}\n    {result['error']}")
        click.echo(f"{len(results) - len(bad)} valid, {len(bad)} invalid")
    return 1 if bad else 0


def _files(path: Path) -> Iterator[Path]:
    from unlearnbench.record import records_at

    found = records_at(path)
    if not found:
        raise UsageError("nothing-to-validate", "no record.json below this folder", where=str(path))
    yield from found


def _validate(path: Path) -> str:
    from unlearnbench.config import read_experiment, resolve_experiment
    from unlearnbench.record import read_record, verify_record
    from unlearnbench.registry import registry

    if path.name == "record.json":
        verify_record(read_record(path))
        return "run-record"
    document = read_experiment(path)
    if document.get("unlearners"):
        resolve_experiment(document, registry(), path.parent)
    return "experiment"


@click.command("doctor")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Folder of records."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor_command(out: Path, as_json: bool) -> int:
    """Check this installation: versions, plugins, data, devices, disk and MLflow."""
    checks: dict[str, Callable[[], str]] = {
        "python": lambda: _require(sys.version_info >= (3, 11), sys.version.split()[0], "needs 3.11 or newer"),
        "torch": _torch,
        "plugins": _plugins,
        "data": _data,
        "output": lambda: _writable(out),
        "mlflow": lambda: _mlflow(out),
    }
    results = []
    for name, check in checks.items():
        try:
            results.append({"check": name, "status": "ok", "detail": check()})
        except Exception as problem:
            results.append({"check": name, "status": "failed", "detail": " ".join(str(problem).split())[:300]})
    if as_json:
        echo_json(results)
    else:
        for result in results:
            click.echo(f"{result['status']:<7} {result['check']:<8} {result['detail']}")
    return int(any(result["status"] != "ok" for result in results))


def _require(fine: bool, detail: str, otherwise: str) -> str:
    if not fine:
        raise UsageError("unsupported", f"{detail}: {otherwise}")
    return detail


def _torch() -> str:
    import torch

    devices = ["cpu"]
    if torch.cuda.is_available():
        devices.append(f"cuda ({torch.cuda.get_device_name()})")
    if torch.backends.mps.is_available():
        devices.append("mps")
    detail = f"{torch.__version__}, {torch.get_num_threads()} threads, {', '.join(devices)}"
    try:
        import torchvision
    except ModuleNotFoundError:
        return f"{detail}; torchvision is not installed"
    except Exception as problem:
        raise UsageError("mismatch", "torchvision does not match torch", hint="install both by name") from problem
    return f"{detail}; torchvision {torchvision.__version__}"


def _plugins() -> str:
    from unlearnbench.api.specs import SPEC_TYPES
    from unlearnbench.plugins import load_plugins
    from unlearnbench.registry import registry

    problems = registry().problems()
    for component in (c for kind in SPEC_TYPES for c in registry().components(kind)):
        try:
            _ = component.cls  # listings never import the code behind a spec
        except UnlearnBenchError as problem:
            problems.append(str(problem))
    if problems:
        raise UsageError("broken-plugins", "; ".join(problems))
    return f"{len(load_plugins())} loaded, none broken"


def _data() -> str:
    from unlearnbench.scenes import DATA_VARIABLE, data_root

    root = data_root()
    found = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
    return (
        f"{DATA_VARIABLE} {'holds ' + ', '.join(found[:8]) if found else 'is empty; built-in data sets need nothing'}"
    )


def _writable(out: Path) -> str:
    import shutil

    folder = next(p for p in (out.absolute(), *out.absolute().parents) if p.exists())
    if not os.access(folder, os.W_OK):
        raise UsageError("cannot-write", f"{out} cannot be written", hint="choose another with --out")
    return f"{out} is writable, {shutil.disk_usage(folder).free / 2**30:.0f} GiB free"


def _mlflow(out: Path) -> str:
    from importlib.metadata import version

    from unlearnbench.tracking.mlflow_sink import tracking_uri

    return f"{version('mlflow')}, logs to {tracking_uri(out)}"
