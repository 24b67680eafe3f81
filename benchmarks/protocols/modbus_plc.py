"""The PLC of the Modbus campaign, in a process of its own: ``client PORT`` or ``server PORT``."""

from __future__ import annotations

import sys
from pathlib import Path

from gonogo.testing.modbus import ModbusPlc, ModbusPlcServer
from protocols.plc import ask_all


def main() -> None:
    """Ask for all parts."""
    folder, role, port = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    if role == "client":
        ask_all(ModbusPlc(port), folder)
        return
    plc = ModbusPlcServer(port)
    plc.start()
    ask_all(plc, folder)


if __name__ == "__main__":
    main()
