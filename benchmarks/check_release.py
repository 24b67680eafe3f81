"""Build the release as it would be published, install it with each extra, try it, and say what it consists of.

``make release``; ``QUICK=1`` installs the base and the line only. Everything lies in ``dist`` then: wheel and source
archive, built twice with the same bytes; for each extra the packages that come with it as CycloneDX (``sbom-*.json``);
``licences.md``. A package under the GPL or AGPL in the base, train or server extra is a failure, and so is a package
whose licence is not known. The last line holds the figures as JSON.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from command import print_figures, run
from gonogo.errors import InputError, UnfitError
from gonogo.images import encode_png
from gonogo.testing import fake_frame, write_fake_bundle

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ("build", "setuptools", "twine", "cyclonedx-bom")
EXTRAS = ("", "line", "video", "codes", "heif", "train", "server", "scale", "ray", "finetune")
FREE_OF_GPL = ("", "line", "train", "server")
"""Extras without anything under the GPL or AGPL, what their wheels bundle included."""

_TRY: dict[str, str] = {
    "": "gonogo.inspector",
    "line": "gonogo.station, asyncua, aiomqtt, pymodbus, pycomm3",
    "video": "av",
    "codes": "gonogo.codes, zxingcpp",
    "heif": "pillow_heif",
    "train": "gonogo.workflow, sklearn, nncf",
    "server": "gonogo.server, fastapi, grpc",
    "scale": "gonogo.centre, psycopg, s3fs",
    "ray": "gonogo.cluster, ray",
    "finetune": "torch, torchvision, safetensors",
}
"""What an installation with an extra must be able to import, beside judging a picture."""

_GPL = re.compile(r"(?<![L])(AGPL|GPL|Affero|GNU General Public)", re.IGNORECASE)
_LISTED = """
import json
from importlib.metadata import distributions
found = []
for each in distributions():
    told = each.metadata
    classifiers = [one.rpartition(" :: ")[2] for one in told.get_all("Classifier", []) if one.startswith("License")]
    names = [str(one) for one in each.files or ()]
    bundled = sorted({one.rpartition("/")[2] for one in names if ".libs/" in one or ".dylibs/" in one})
    free = (told.get("License") or "").strip().splitlines()[:1]
    licence = told.get("License-Expression") or "; ".join(classifiers) or "".join(free)
    found.append({"name": told["Name"], "version": told["Version"], "licence": licence, "bundled": bundled})
print(json.dumps(sorted(found, key=lambda one: one["name"].lower())))
"""
_BUNDLED_GPL = ("libx264", "libx265", "libpostproc", "libxvidcore")
"""Libraries under the GPL that wheels of this field bundle, whatever the wheel's own licence says."""
_KNOWN = {"axe-playwright-python": "MIT", "cuda-toolkit": "LicenseRef-NVIDIA-Proprietary"}
"""Licences of packages whose metadata name none."""


def main() -> None:
    """Build, check, install, try, list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the base and the line only")
    parser.add_argument("--only", choices=EXTRAS[1:], action="append", help="one extra alone; may be repeated")
    parser.add_argument("--out", type=Path, default=Path("dist"))
    given = parser.parse_args()
    uv = shutil.which("uv") or ".uv/bin/uv"
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        tools = environment(uv, work / "tools", [*TOOLS])
        files = built(tools, work, given.out)
        done(tools, "-m", "twine", "check", "--strict", *map(str, files))
        wheel = next(file for file in files if file.suffix == ".whl")
        write_fake_bundle(work / "part.inspector")
        (work / "part.png").write_bytes(encode_png(fake_frame(1, size_wh=(64, 64))))
        extras = given.only or (EXTRAS[:2] if given.quick else EXTRAS)
        parts = {extra: tried(uv, wheel, extra, work, tools, given.out) for extra in extras}
    (given.out / "licences.md").write_text(table(parts), "utf-8")
    faults = [fault for extra, listed in parts.items() for fault in faults_of(extra, listed)]
    print_figures(
        {
            "files": {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files},
            "packages": {extra or "base": len(listed) for extra, listed in parts.items()},
            "faults": faults,
        }
    )
    if faults:
        raise UnfitError("expected a release without faults, found:\n" + "\n".join(faults))


def built(tools: Path, work: Path, out: Path) -> list[Path]:
    """Build wheel and source archive twice from what is committed, and return them in the folder ``out``.

    Raises:
        UnfitError: the two builds differ.
    """
    when = done(Path("git"), "log", "-1", "--format=%ct").strip()
    first, second = (_build(tools, work / f"build-{number}", when) for number in (1, 2))
    if [file.read_bytes() for file in first] != [file.read_bytes() for file in second]:
        raise UnfitError("expected two builds with the same bytes, found different ones.")
    out.mkdir(parents=True, exist_ok=True)
    for old in [*out.glob("gonogo-*"), *out.glob("sbom-*.json")]:
        old.unlink()
    return [Path(shutil.copy2(file, out)) for file in first]


def _build(tools: Path, folder: Path, when: str) -> list[Path]:
    source, to = folder / "source", folder / "to"
    source.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", source], input=archive, check=True)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": when, "PYTHONHASHSEED": "0"}
    done(tools, "-m", "build", "--no-isolation", "--outdir", str(to), str(source), environment=environment)
    _normalize(next(to.glob("*.tar.gz")), int(when))
    return sorted(to.iterdir())


def _normalize(file: Path, when: int) -> None:
    """Write a source archive again with the times of the commit, which setuptools leaves as they were."""
    with tarfile.open(file) as tar:
        members = [(each, tar.extractfile(each) if each.isreg() else None) for each in tar]
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as again:
            for entry, content in sorted(members, key=lambda pair: pair[0].name):
                entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname, entry.pax_headers = when, 0, 0, "", "", {}
                again.addfile(entry, content)
    with gzip.GzipFile(filename="", mode="wb", fileobj=file.open("wb"), mtime=when) as out:
        out.write(packed.getvalue())


def environment(uv: str, folder: Path, packages: Sequence[str], constraints: Path | None = None) -> Path:
    """Make an environment with packages; return its Python."""
    done(Path(uv), "venv", "--quiet", "--python", sys.executable, str(folder))
    limits = ["--constraint", str(constraints)] if constraints else []
    done(Path(uv), "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), *limits, *packages)
    return folder / "bin" / "python"


def tried(uv: str, wheel: Path, extra: str, work: Path, tools: Path, out: Path) -> list[dict[str, Any]]:
    """Install the wheel with an extra into a fresh environment, judge a picture, write the SBOM, list the packages."""
    folder = work / f"with-{extra or 'base'}"
    name = f"{wheel}[{extra}]" if extra else str(wheel)
    print(f"--- gonogo{f'[{extra}]' if extra else ''}", flush=True)  # noqa: T201
    python = environment(uv, folder, [name], ROOT / "constraints.txt")
    program = python.parent / "gonogo"
    done(program, "--version")
    done(python, "-c", f"import {_TRY[extra]}", cwd=work)
    done(program, "inspect", str(work / "part.inspector"), str(work / "part.png"), "--json", cwd=work)
    bill = out / f"sbom-{extra or 'base'}.json"
    done(tools, "-m", "cyclonedx_py", "environment", "--output-reproducible", "--output-file", str(bill), str(python))
    listed: list[dict[str, Any]] = json.loads(done(python, "-c", _LISTED))
    shutil.rmtree(folder)
    return listed


def faults_of(extra: str, listed: Sequence[dict[str, Any]]) -> list[str]:
    """Return the packages that an extra must not bring."""
    found = []
    for each in listed:
        name = f"{extra or 'base'}: {each['name']} {each['version']}"
        licence = each["licence"] or _KNOWN.get(each["name"], "")
        if not licence:
            found.append(f"{name} names no licence")
        if extra not in FREE_OF_GPL:
            continue
        if _GPL.search(licence):
            found.append(f"{name} is under {licence}")
        found += [f"{name} bundles {file}" for file in each["bundled"] if file.startswith(_BUNDLED_GPL)]
    return found


def table(parts: dict[str, list[dict[str, Any]]]) -> str:
    """Write packages, licences and bundled libraries as a table."""
    extras: dict[str, list[str]] = {}
    every = {each["name"]: each for listed in parts.values() for each in listed}
    for extra, listed in parts.items():
        for each in listed:
            extras.setdefault(each["name"], []).append(extra or "base")
    lines = ["| package | version | licence | comes with | bundled libraries |", "|---|---|---|---|---|"]
    for name in sorted(every, key=str.lower):
        each = every[name]
        bundled = ", ".join(sorted({re.split(r"[-.]", file)[0] for file in each["bundled"]}))
        licence = each["licence"] or _KNOWN.get(name, "not named")
        lines.append(f"| {name} | {each['version']} | {licence} | {', '.join(extras[name])} | {bundled} |")
    return "\n".join(lines) + "\n"


def done(program: Path, *arguments: str, cwd: Path = ROOT, environment: dict[str, str] | None = None) -> str:
    """Run a program and return what it printed.

    Raises:
        InputError: it failed.
    """
    own = {name: value for name, value in (environment or os.environ).items() if name != "PYTHONPATH"}
    ended = subprocess.run([str(program), *arguments], cwd=cwd, env=own, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise InputError(
            f"{program.name} {' '.join(arguments[:3])} failed: {(ended.stderr or ended.stdout).strip()[-1500:]}"
        )
    return ended.stdout


if __name__ == "__main__":
    run(main)
