"""Connecting to a Ray cluster, or starting one on this machine, always with token authentication."""

from __future__ import annotations

import functools
import importlib
import logging
import os
import re
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from gonogo.devices import own_cores
from gonogo.errors import InputError, MissingExtraError

_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<host>[A-Za-z0-9.-]+)):(?P<port>\d{1,5})")
_WAIT_S = 5.0
_ATTEMPTS = 6
_STORE_BYTES = 200_000_000
"""Object store of a cluster that is started here; it holds bundles and the lists of jobs."""
_ALWAYS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the future default; without it, Ray warns
}
_OWN_CLUSTER = {
    "RAY_worker_register_timeout_seconds": "600",  # a busy machine is slow, not broken
    "RAY_health_check_failure_threshold": "60",
    "RAY_worker_niceness": "0",  # Ray's 15 would give every other program the machine
}
_OWN_BEFORE_IMPORT = {
    "RAY_AUTH_MODE": "token",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # despite its name: everything listens on the loopback interface
}
_QUIET = {"log_to_driver": False, "logging_level": logging.ERROR}


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A connected cluster."""

    name: str
    """Where it is, for messages."""
    cpus: int
    """Processors that may be used."""
    nodes: int


@contextmanager
def connected(address: str | None = None, *, cpus: int | None = None) -> Iterator[Cluster]:
    """Connect to a cluster for the duration of the block; a connection that this process has already is used.

    Args:
        address: ``HOST:PORT`` of a running cluster, or ``auto`` for the one that this machine belongs to; ``None``
            starts one on this machine, which listens on the loopback interface alone and ends with the block.
        cpus: Number of processors to use; by default all.

    Raises:
        MissingExtraError: Ray is not installed.
        InputError: The cluster cannot be reached, refuses the token, or has other versions of Ray or Python.
    """
    ray = _ray(new_cluster=address is None)
    if ray.is_initialized():
        yield _described(ray, "the cluster of this process", cpus)
        return
    if address is not None:
        _require_reachable(address)
        with _explained(address, ray):
            ray.init(address=address, **_QUIET)
            found = _described(ray, address, cpus)
        try:
            yield found
        finally:
            ray.shutdown()
        return
    folder = tempfile.mkdtemp(prefix="gonogo-ray-", dir="/tmp")  # short, since it holds sockets
    try:
        with _explained("this machine", ray):
            _start(ray, folder, cpus or len(own_cores()))
        yield _described(ray, "this machine", cpus)
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _start(ray: Any, folder: str, cpus: int) -> None:
    """Start a cluster on this machine; Ray itself gives up after 30 seconds, too early for a busy machine.

    Raises:
        RuntimeError: It did not start in several attempts.
    """
    for attempt in range(_ATTEMPTS):
        try:
            ray.init(
                address="local",
                num_cpus=cpus,
                object_store_memory=_STORE_BYTES,
                include_dashboard=False,
                _temp_dir=f"{folder}/{attempt}",  # Ray opens this one to everybody; the one above is this user's alone
                **_QUIET,
            )
        except Exception as error:  # BLE001: Ray raises a bare one, told apart by its text
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
        else:
            return
    raise RuntimeError(f"it did not answer in {_ATTEMPTS} attempts of half a minute; the machine is too busy")


def ray_module() -> Any:
    """Import Ray.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise MissingExtraError(
            "--engine ray: needs ray, which is not installed. Install it: pip install 'gonogo[ray]'"
        ) from error


@functools.cache
def _ray(*, new_cluster: bool) -> Any:
    """Import Ray, with the variables that it reads while it is imported and started.

    A program that imported Ray before has its own; Ray 2.59 and newer ask for a token by default then.
    """
    os.environ.update(_ALWAYS | (_OWN_CLUSTER if new_cluster else {}))
    if "ray" in sys.modules:
        return ray_module()
    if new_cluster:
        os.environ.update(_OWN_BEFORE_IMPORT, RAY_AUTH_TOKEN=secrets.token_hex(32))
        os.environ.pop("RAY_AUTH_TOKEN_PATH", None)
    ray = ray_module()
    _off_standard_output(ray)
    return ray


def _off_standard_output(ray: Any) -> None:
    """Print what Ray says about dead workers on standard error; it would come between the rows."""
    worker = ray._private.worker  # there is no public way
    plain = worker.print_to_stdstream
    worker.print_to_stdstream = lambda data, **options: plain({**data, "is_err": True}, **options)


def _described(ray: Any, name: str, cpus: int | None) -> Cluster:
    found = int(ray.cluster_resources().get("CPU", 0))
    if found < 1:
        raise InputError(
            f"--ray-address {name}: expected a cluster with processors, found none. Start its nodes first."
        )
    return Cluster(name=name, cpus=min(found, cpus or found), nodes=sum(each["Alive"] for each in ray.nodes()))


def _require_reachable(address: str) -> None:
    """Refuse an address at once, instead of after Ray's own minute.

    Raises:
        InputError: It is none, or nothing answers there.
    """
    if address == "auto":
        return
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found["port"]) < 65536:
        raise InputError(
            f"--ray-address: expected HOST:PORT of a cluster's head, such as 10.0.0.1:6379, or auto, found "
            f"{address!r}. From outside the cluster, use: ray job submit"
        )
    try:
        socket.create_connection((found["six"] or found["host"], int(found["port"])), timeout=_WAIT_S).close()
    except OSError as error:
        raise InputError(
            f"--ray-address {address}: the cluster cannot be reached ({error.strerror or error}). Check that its head "
            "runs and that the port is open."
        ) from error


@contextmanager
def _explained(place: str, ray: Any) -> Iterator[None]:
    """Turn the errors of Ray's start into an `InputError`."""
    try:
        yield
    except (ray.exceptions.AuthenticationError, ConnectionError) as error:
        raise InputError(
            f"--ray-address {place}: the cluster does not accept this machine ({_shortened(error)}). Check that it is "
            "the head of a running cluster, and give its token in RAY_AUTH_TOKEN, or the file with it in "
            "RAY_AUTH_TOKEN_PATH, together with RAY_AUTH_MODE=token."
        ) from error
    except (RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        raise InputError(f"--engine ray: Ray does not start on {place} ({_shortened(error)}).") from error


def _shortened(error: Exception) -> str:
    return " ".join(str(error).split())[:400]
