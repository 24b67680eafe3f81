"""A station's worker with failures that the trigger ids select.

Examples: ``camera-dark-7``, ``model-raise-7``, ``disk-full-7``, ``process-exit-7``. Any other id is an ordinary part.
All parts are good.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from gonogo.capture import HealthLimits
from gonogo.images import Photograph
from gonogo.line.messages import Answer, Trigger
from gonogo.schema import Frame, Verdict
from gonogo.station.cameras import CameraParts
from gonogo.station.judging import Station
from gonogo.station.models import LoadedBundle, ModelSlot, load_model
from gonogo.station.settings import StationSettings, read_settings
from gonogo.station.worker import build_station as build_from_settings
from gonogo.station.worker import worker_main
from gonogo.testing.camera import FakeCamera, Mishap
from gonogo.testing.model import fake_frame, fake_model

HEALTH = HealthLimits(darkest=40.0, sharpness=0.38, size_wh=(160, 120))
_SMALL_FILE = 2_048
_HANG_S = 30.0


def frame_of(trigger_id: str) -> Frame:
    """Return the picture of a trigger's part, which is good."""
    return fake_frame(zlib.crc32(trigger_id.encode()))


def mishap_of(trigger_id: str) -> Mishap:
    """Return the camera's mishap for a trigger."""
    group, _, rest = trigger_id.partition("-")
    name = rest.partition("-")[0]
    return Mishap(name) if group == "camera" else Mishap.NONE


class TormentedStation(Station):
    """A station that fails as the trigger id demands."""

    current = ""

    def judge(self, trigger: Trigger) -> Answer:
        """Judge a part with the failure of its trigger."""
        self.current = trigger.id
        with _mishap(self, trigger.id):
            return super().judge(trigger)


def build_fake_station(settings: StationSettings, kind: str) -> Station:
    """Build the station: ``real`` has a real bundle, ``cameras`` real cameras, ``fake`` neither (starts faster)."""
    if kind == "cameras":
        return build_from_settings(settings, loader=fake_model)
    camera = FakeCamera(frame_of, mishap_of, delay_s=0.03, hang_s=_HANG_S)
    loader = load_model if kind == "real" else fake_model
    slot = ModelSlot(
        settings.only_bundle, settings.state_dir / "bundles", loader=lambda path: _tormented(loader(path), station)
    )
    view = CameraParts(name="main", open_camera=lambda: camera, health=HEALTH, slot=slot)
    station = TormentedStation(settings, (view,))
    return station


def _tormented(model: LoadedBundle, station: TormentedStation) -> LoadedBundle:
    def inspect(photograph: Photograph) -> Verdict:
        if station.current.startswith("model-raise"):
            raise RuntimeError("the fake network failed")
        if station.current.startswith("model-slow"):
            time.sleep(station.settings.window_s + 0.2)
        if station.current.startswith("process-exit"):
            os._exit(3)
        if station.current.startswith("process-kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        if station.current.startswith("process-hang"):
            os.kill(os.getpid(), signal.SIGSTOP)
        return model.inspect(photograph)

    return replace(model, inspect=inspect)


@contextmanager
def _mishap(station: TormentedStation, trigger_id: str) -> Iterator[None]:
    if trigger_id.startswith("disk-full"):
        # The kernel refuses to write beyond this size in any file, including the ledger's log.
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (_SMALL_FILE, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    elif trigger_id.startswith("model-none"):
        slot = station.slots[0]
        model, slot.model = slot.model, None
        try:
            yield
        finally:
            slot.model = model
    else:
        yield


if __name__ == "__main__":
    worker_main(lambda: build_fake_station(read_settings(Path(sys.argv[1])), sys.argv[2]))
