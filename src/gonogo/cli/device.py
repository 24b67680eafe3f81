"""The option ``--device`` of every command that runs a bundle."""

from __future__ import annotations

from typing import Annotated

import typer


def _use(device: str | None) -> str | None:
    """Set the device of this process and of those that it starts; check its name first."""
    if device is None:
        return None
    from gonogo.config import use_setting
    from gonogo.devices import device_name

    name = device_name(device)
    use_setting("device", name)
    return name


DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        callback=_use,
        metavar="DEVICE",
        help="Device to judge on: CPU, GPU, NPU, AUTO or HETERO:GPU,CPU; 'gonogo devices' lists them. "
        "[default: GONOGO_DEVICE, otherwise CPU]",
    ),
]
"""The function need not read it: settings are changed before it runs."""
