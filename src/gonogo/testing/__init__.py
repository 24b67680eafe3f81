"""Fakes for your own tests: a camera, a PLC, a model, and a bundle without training.

They behave like the real objects and fail on demand. `gonogo.testing.station` runs a whole station in a folder::

    plc = FakePlc()
    camera = FakeCamera.of([fake_frame(1), fake_frame(2, bad=True)], [Mishap.NONE, Mishap.DARK])
    bundle = write_fake_bundle(Path("fake.inspector"))

    with bench(settings_for(Path("line"))) as line:
        line.ready()
        line.plc.fire(line.supervisor.submit, "part-1")
        assert line.plc.wait("part-1").state is State.GO

Requires the packages of a station: ``pip install 'gonogo[line]'``.
"""

from gonogo.testing.bundle import write_fake_bundle
from gonogo.testing.camera import FakeCamera, Mishap, spoil
from gonogo.testing.model import fake_frame, fake_model
from gonogo.testing.plc import FakePlc

__all__ = ["FakeCamera", "FakePlc", "Mishap", "fake_frame", "fake_model", "spoil", "write_fake_bundle"]
