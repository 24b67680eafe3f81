"""The label formats of other tools, one module each: how to read its files, and how to write them."""
