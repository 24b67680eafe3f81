"""Render, lint and start everything in deploy/: ``make check-deploy``; ``QUICK=1`` leaves out starting the site.

A check whose tool is missing is skipped with its reason. The last line is the figures, as JSON. ``make manifests``
(``--write``) renders deploy/manifests from the chart.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from check_deploy import chart, host, site
from check_deploy.tools import AbsentError, Tools
from command import print_figures, run
from gonogo.errors import UnfitError
from gonogo.progress import console

CHECKS: dict[str, Callable[[Tools], str]] = {
    "Dockerfile": host.dockerfile,
    "compose": host.compose,
    "secrets": host.secrets,
    "systemd": host.units,
    "image names": host.no_hosts,
    "chart": chart.lint,
    "wrong values": chart.refused,
    "manifests": chart.in_sync,
    "Kubernetes": chart.against_schemas,
    "Pod Security": chart.pod_security,
    "KServe": chart.kserve,
}


def main() -> None:
    """Run every check, then say which failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="Do not start the compose file's services.")
    parser.add_argument("--write", action="store_true", help="Write deploy/manifests and end.")
    given = parser.parse_args()
    tools = Tools.install()
    if given.write:
        chart.write_manifests(tools)
        return
    checks = CHECKS if given.quick else CHECKS | {"site": site.check}
    rows = [_checked(name, check, tools) for name, check in checks.items()]
    print_figures({"checks": rows, **{state: sum(row["state"] == state for row in rows) for state in _STATES}})
    failed = [row["check"] for row in rows if row["state"] == "failed"]
    if failed:
        raise UnfitError(f"failed: {', '.join(failed)}; the reasons are above.")


_STATES = ("passed", "failed", "skipped")


def _checked(name: str, check: Callable[[Tools], str], tools: Tools) -> dict[str, Any]:
    started = time.monotonic()
    try:
        state, detail = "passed", check(tools)
    except AbsentError as error:
        state, detail = "skipped", str(error)
    except UnfitError as error:
        state, detail = "failed", str(error)
    console.print(f"{state:8s}{name}: {detail}", markup=False, highlight=False)
    seconds = round(time.monotonic() - started, 1)
    return {"check": name, "state": state, "detail": detail, "seconds": seconds}


if __name__ == "__main__":
    run(main)
