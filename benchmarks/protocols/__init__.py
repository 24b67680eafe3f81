"""How the protocols are tried: real peers, killed and restarted at random; fuzzed messages; the latency they add.

Each module has functions ``campaign``, ``fuzz`` and ``latency`` for one protocol; ``protocols.everything`` runs them.
"""
