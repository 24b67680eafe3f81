"""OPC UA: a server with the machine-vision model of OPC 40100-1, and a client that serves the tags of a PLC."""
