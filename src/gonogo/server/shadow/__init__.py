"""Shadow mode on the pages: a candidate judges silently beside the inspector in use, or beside people."""

from gonogo.server.shadow.trials import LOCAL, Shadows, Trial

__all__ = ["LOCAL", "Shadows", "Trial"]
