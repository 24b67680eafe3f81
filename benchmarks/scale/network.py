"""A network of two ends on this machine, one of them in a network namespace, which can be cut."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Network:
    """A pair of virtual interfaces. Create it with `network`."""

    namespace: str
    here: str
    """The interface at this end."""
    address: str
    """The address of this end."""
    subnet: str

    def prefix(self) -> list[str]:
        """Return the words before a command that runs at the other end."""
        return ["ip", "netns", "exec", self.namespace]

    def cut(self) -> None:
        """Lose every packet, without a word to either end."""
        _ip("link", "set", self.here, "down")

    def mend(self) -> None:
        """Let packets through again."""
        _ip("link", "set", self.here, "up")

    def sent_bytes(self) -> int:
        """Return the number of bytes that crossed the network, in both directions."""
        folder = Path("/sys/class/net") / self.here / "statistics"
        return sum(int((folder / name).read_text()) for name in ("rx_bytes", "tx_bytes"))


def missing() -> str:
    """Return why there can be no such network here; empty if there can."""
    if shutil.which("ip") is None:
        return "network namespaces need the program ip (Debian: apt-get install iproute2)"
    if os.geteuid() != 0:
        return "network namespaces need root here"
    try:
        with network():
            return ""
    except RuntimeError as error:
        return f"network namespaces are not allowed here ({error})"


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """Provide a network until the block ends.

    Raises:
        RuntimeError: this machine does not allow it.
    """
    tag, third = secrets.token_hex(3), secrets.randbelow(250)
    made = Network(
        namespace=f"gonogo-{tag}", here=f"gg{tag}a", address=f"10.213.{third}.1", subnet=f"10.213.{third}.0/24"
    )
    there = f"gg{tag}b"
    try:
        _ip("netns", "add", made.namespace)
        _ip("link", "add", made.here, "type", "veth", "peer", "name", there)
        _ip("link", "set", there, "netns", made.namespace)
        _ip("address", "add", f"{made.address}/24", "dev", made.here)
        _ip("link", "set", made.here, "up")
        inside = ("-n", made.namespace)
        _ip(*inside, "address", "add", f"10.213.{third}.2/24", "dev", there)
        _ip(*inside, "link", "set", there, "up")
        _ip(*inside, "link", "set", "lo", "up")
        yield made
    finally:
        for words in (("link", "delete", made.here), ("netns", "delete", made.namespace)):
            with contextlib.suppress(RuntimeError):
                _ip(*words)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
