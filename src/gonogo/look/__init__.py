"""What a network sees in a photograph: feature maps stage by stage, class-activation maps, Grad-CAM and LayerCAM.

`look` opens a backbone, `look_with_bundle` an inspector; `draw_seen` draws either as one sheet. torch is needed for
torchvision's networks, Grad-CAM and LayerCAM only.
"""

from gonogo.look.bundle_maps import look_with_bundle
from gonogo.look.crack import render_crack
from gonogo.look.drawing import draw_seen
from gonogo.look.looking import NETWORKS, look
from gonogo.look.seen import PlaceMap, Seen, Stage

__all__ = ["NETWORKS", "PlaceMap", "Seen", "Stage", "draw_seen", "look", "look_with_bundle", "render_crack"]
