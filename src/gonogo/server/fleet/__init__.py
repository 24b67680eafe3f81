"""The page of all stations and roll-outs."""
