"""A procedural renderer of circuit boards with a chip to inspect, with complete ground truth.

A seed and a part number always give the same picture. See ``docs/synthetic.md``.
"""

from gonogo.synthetic.catalogue import BoardType, ChipType, Defect
from gonogo.synthetic.close_ups import write_close_ups
from gonogo.synthetic.scene import Mix, Rendering, render_scene, render_with
from gonogo.synthetic.sheet import contact_sheet
from gonogo.synthetic.writer import write_dataset

__all__ = [
    "BoardType",
    "ChipType",
    "Defect",
    "Mix",
    "Rendering",
    "contact_sheet",
    "render_scene",
    "render_with",
    "write_close_ups",
    "write_dataset",
]
