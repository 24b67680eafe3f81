"""Certificates for tests: an authority, certificates that it signed, and those of an authority that nobody knows."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest


def make_certificates(folder: Path, names: Sequence[str]) -> Path:
    """Write ``ca.pem``, ``NAME.pem`` and ``NAME.key`` for 127.0.0.1 and localhost; ``stranger`` is of ``other.pem``."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl command")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    for ca, signed in (("ca", names), ("other", ("stranger",))):
        new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30")
        openssl(*new, "-keyout", f"{ca}.key", "-out", f"{ca}.pem", "-subj", f"/CN={ca}")
        for name in signed:
            names_of = "subjectAltName=IP:127.0.0.1,DNS:localhost"
            extra = ("-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-addext", names_of)
            openssl(*new, *extra, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}")
    for key in folder.glob("*.key"):
        key.chmod(0o600)
    return folder
