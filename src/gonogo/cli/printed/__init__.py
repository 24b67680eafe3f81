"""What every command prints with ``--json``: the types of the documents, one module per group of commands."""
