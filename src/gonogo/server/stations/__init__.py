"""The stations of a workspace: set up, tried, started and watched from the pages.

Each has a folder ``stations/NAME``, see `gonogo.station.place`. A station is a process of its own that outlives the
server: it runs as long as people want it to. ``stations/keeper.lock`` is held by the one server that starts them.
"""
