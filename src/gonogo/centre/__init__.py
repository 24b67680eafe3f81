"""The centre: the ledgers of many stations in one PostgreSQL database, and their frames in one store.

Each station keeps its local ledger and forwards its rows and frames; the centre holds one chain for each, row by row as
the station hashed it. The database itself refuses a row that does not continue its chain. From Python::

    centre = Centre.connect("@centre.url")              # a file with postgresql://user:password@host/database
    centre.chains()                                     # one entry for each station
    with centre.ledger("line-1") as ledger:             # the same questions as for a local ledger
        ledger.tally((By.DAY, By.STATE))

Needs the extra ``scale``. Stations import nothing of this room; their forwarder is a process of its own.
"""

from gonogo.centre.chains import Chain, ChainForked
from gonogo.centre.database import Centre
from gonogo.centre.forwarding import Forwarder, Link
from gonogo.centre.frames import open_frames, prepare_frames
from gonogo.centre.moving import Moved, move
from gonogo.centre.verifying import verify_chain

__all__ = [
    "Centre",
    "Chain",
    "ChainForked",
    "Forwarder",
    "Link",
    "Moved",
    "move",
    "open_frames",
    "prepare_frames",
    "verify_chain",
]
