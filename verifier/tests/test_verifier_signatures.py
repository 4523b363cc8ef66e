"""A signature is over all of a certificate, and without the package for it nothing is claimed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from unlearnbench_verifier.files import canonical, load_json
from unlearnbench_verifier.findings import Refusal, Unreadable
from unlearnbench_verifier.form import parse_signature
from unlearnbench_verifier.signatures import check_signature, sign

DOCUMENT = {"claim": "redirect", "margin": 0.1, "created": "2026-01-31T12:00:00Z", "duals": {"1": [[0, 0.5]]}}


def write_key(path: Path, key: Any, encryption: KeySerializationEncryption | None = None) -> Path:
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()))
    return path


@pytest.fixture
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


@pytest.fixture
def signed(tmp_path: Path, key: Ed25519PrivateKey) -> dict[str, Any]:
    return sign({**DOCUMENT, "signature": None}, write_key(tmp_path / "key.pem", key))


def test_what_was_signed_holds_and_names_the_key(signed: dict[str, Any], key: Ed25519PrivateKey) -> None:
    found = check_signature(signed)
    assert found.what == "signature"
    assert found.fine is True
    assert key.public_key().public_bytes_raw().hex() in found.said
    assert check_signature(load_json(json.dumps(signed, indent=2))).fine is True
    signature = parse_signature(signed["signature"])
    assert signature is not None
    key.public_key().verify(signature.value, canonical(DOCUMENT))


def test_signing_changes_nothing_else_and_replaces_an_older_signature(tmp_path: Path, signed: dict[str, Any]) -> None:
    assert {name: value for name, value in signed.items() if name != "signature"} == DOCUMENT
    other = write_key(tmp_path / "other.pem", Ed25519PrivateKey.generate())
    again = sign(signed, other)
    assert check_signature(again).fine is True
    assert again["signature"]["public_key"] != signed["signature"]["public_key"]
    assert sign(again, tmp_path / "key.pem") == signed


@pytest.mark.parametrize(
    "change",
    [{"margin": 0.2}, {"created": "2026-01-31T12:00:01Z"}, {"duals": {"1": [[0, 0.5], [1, 0.0]]}}, {"also": 1}],
)
def test_a_change_after_signing_is_found(signed: dict[str, Any], change: dict[str, Any]) -> None:
    found = check_signature({**signed, **change})
    assert (found.what, found.fine) == ("signature", False)
    assert "did not sign this" in found.said


def test_a_flipped_bit_or_another_key_is_found(signed: dict[str, Any]) -> None:
    signature = signed["signature"]
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex()
    for broken in (
        {**signature, "value": f"{int(signature['value'][0], 16) ^ 1:x}" + signature["value"][1:]},
        {**signature, "public_key": other},
        {**signature, "public_key": "ff" * 32},
    ):
        assert check_signature({**signed, "signature": broken}).fine is False


def test_a_certificate_without_a_signature_is_not_called_wrong() -> None:
    found = check_signature({**DOCUMENT, "signature": None})
    assert (found.what, found.said, found.fine) == ("signature", "not signed", None)


def test_a_signature_in_a_wrong_form_is_refused_with_its_path(signed: dict[str, Any]) -> None:
    short = {**signed["signature"], "value": "ab"}
    with pytest.raises(Refusal, match=r"^\[bad-certificate\] \$\.signature\.value:"):
        check_signature({**signed, "signature": short})


def test_a_file_that_holds_no_such_key_is_refused(tmp_path: Path, key: Ed25519PrivateKey) -> None:
    (tmp_path / "text.pem").write_text("no key")
    (tmp_path / "big.pem").write_bytes(bytes(2**17))
    wrong = {
        write_key(tmp_path / "locked.pem", key, BestAvailableEncryption(b"secret")): "bad-key",
        write_key(tmp_path / "curve.pem", ec.generate_private_key(ec.SECP256R1())): "bad-key",
        tmp_path / "text.pem": "bad-key",
        tmp_path / "big.pem": "too-large",
        tmp_path / "missing.pem": "no-file",
    }
    for path, code in wrong.items():
        with pytest.raises(Unreadable, match=rf"^\[{code}\]") as caught:
            sign(DOCUMENT, path)
        assert caught.value.where == str(path)


def test_without_the_package_nothing_is_claimed_and_nothing_is_signed(tmp_path: Path, signed: dict[str, Any]) -> None:
    (tmp_path / "signed.json").write_text(json.dumps(signed))
    program = """
import sys
sys.modules["cryptography"] = None  # as where it is not installed
from unlearnbench_verifier.files import read_json
from unlearnbench_verifier.findings import Refusal
from unlearnbench_verifier.signatures import check_signature, sign
document = read_json(sys.argv[1] + "/signed.json")
print(check_signature(document))
try:
    sign(document, sys.argv[1] + "/key.pem")
except Refusal as problem:
    print(problem)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    checked, refused = done.stdout.splitlines()
    assert checked == "Finding(what='signature', said='not looked at: install cryptography', fine=None)"
    assert refused == "[missing-package] signing needs the package cryptography; install cryptography"


def test_the_package_itself_needs_nothing_but_numpy() -> None:
    program = """
import sys
import unlearnbench_verifier.files, unlearnbench_verifier.form, unlearnbench_verifier.signatures
heavy = {"torch", "scipy", "unlearnbench", "safetensors", "cryptography", "jsonschema"} & set(sys.modules)
print(sorted(heavy))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
