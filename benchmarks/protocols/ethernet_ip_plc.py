"""The PLC of the EtherNet/IP campaign, in a process of its own: ``ADDRESS`` is that of the simulated controller."""

from __future__ import annotations

import sys
from pathlib import Path

from gonogo.testing.ethernet_ip import LogixPlc
from protocols.plc import ask_all


def main() -> None:
    """Ask for all parts."""
    ask_all(LogixPlc(sys.argv[2], timeout_s=5.0), Path(sys.argv[1]))


if __name__ == "__main__":
    main()
