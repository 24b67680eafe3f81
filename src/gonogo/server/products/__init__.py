"""The page Products: what the stations of a workspace make, with inspector, zones, codes, sizes and PLC number."""
