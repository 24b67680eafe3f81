"""The worker of a campaign's station: fake pictures, good or bad by the trigger's id; see `protocols.kit.is_bad`."""

from __future__ import annotations

import sys
import zlib
from pathlib import Path

from gonogo.capture import HealthLimits
from gonogo.schema import Frame
from gonogo.station.cameras import CameraParts
from gonogo.station.judging import Station
from gonogo.station.models import ModelSlot
from gonogo.station.settings import StationSettings, read_settings
from gonogo.station.worker import worker_main
from gonogo.testing.camera import FakeCamera
from gonogo.testing.model import fake_frame, fake_model


def _frame(trigger_id: str) -> Frame:
    return fake_frame(zlib.crc32(trigger_id.encode()), bad=trigger_id.startswith("bad"), size_wh=(64, 48))


def build(settings: StationSettings) -> Station:
    """Build the station with one camera, for one product or several."""
    camera = FakeCamera(_frame)
    copies = settings.state_dir / "bundles"
    slots = {
        product: tuple(ModelSlot(source, copies / (product or "only"), loader=fake_model) for source in sources)
        for product, sources in settings.sources().items()
    }
    only = slots.pop(None, (None,))[0]
    view = CameraParts(name="main", open_camera=lambda: camera, health=HealthLimits(), slot=only)
    products = {product: found for product, found in slots.items() if product is not None}
    return Station(settings, (view,), products=products)


if __name__ == "__main__":
    worker_main(lambda: build(read_settings(Path(sys.argv[1]))))
