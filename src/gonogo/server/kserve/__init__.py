"""The open inference protocol (KServe v2), over REST and gRPC: the network of an inspector, without a verdict.

A program that asks in this way prepares the picture itself and gets scores and heat maps, as from any model server. The
checks before and after the network are not in it, nor the record: see `gonogo.model_repository.Served`. A line needs
``POST /api/inspect`` or a station.
"""
