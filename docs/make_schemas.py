"""Write the JSON Schemas of what other systems receive, and of what commands print: ``python docs/make_schemas.py``."""

from __future__ import annotations

import json
from pathlib import Path

from gonogo.cli.schema import commands_with_schema, schema_file, schema_text
from gonogo.results.document import json_schema

SCHEMAS = Path(__file__).parent / "schemas"


def schemas() -> dict[str, str]:
    """Return the text of each schema by the name of its file."""
    results = {"result.schema.json": json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"}
    return results | {f"cli/{schema_file(command)}": schema_text(command) for command in commands_with_schema()}


if __name__ == "__main__":
    (SCHEMAS / "cli").mkdir(parents=True, exist_ok=True)
    for name, text in schemas().items():
        (SCHEMAS / name).write_text(text, encoding="utf-8")
