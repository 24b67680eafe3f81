"""Write ``docs/schemas/mqtt-*.json``, and the tables and the capture of docs/mqtt.md, from the messages' models."""

from __future__ import annotations

import json
import re
import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gonogo.line.messages import Answer
from gonogo.line.mqtt_messages import MESSAGES, verdict_message
from gonogo.line.sparkplug_payload import METRICS, DataType, decode, device_metrics, encode, name_of
from gonogo.schema import State

PAGE = Path(__file__).with_name("mqtt.md")
SCHEMAS = Path(__file__).with_name("schemas")
_TYPES: dict[DataType | None, str] = {
    **{each: each.name.title() for each in DataType},
    DataType.DATETIME: "DateTime",
}
_AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
_TABLE = "| field | type | needed |\n|---|---|---|\n"


def page_text(text: str) -> str:
    """Return the page with its tables and its capture made new."""
    for name, content in {"payloads": tables(), "metrics": metrics(), "capture": capture()}.items():
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
        head, _, rest = text.partition(start)
        text = head + start + content + end + rest.partition(end)[2]
    return text


def metrics() -> str:
    """Return the table of the metrics of Sparkplug's device."""
    rows = "".join(f"| {each.alias} | `{name}` | {_TYPES.get(each.datatype, '')} |\n" for name, each in METRICS.items())
    return f"\n| alias | metric | type |\n|---|---|---|\n{rows}\n"


def capture() -> str:
    """Return the bytes of a verdict as Sparkplug data, and what they say."""
    answer = Answer(
        trigger_id="A17", part="housing 17", state=State.NO_GO, reason="above the threshold", score=2.25, row=12
    )
    values = verdict_message(answer, station="line1", remaining_s=1.5).model_dump()
    values["valid_until"] = _AT + timedelta(seconds=1.5)
    content = encode(device_metrics("verdict", values), at=_AT, seq=7)
    found = decode(content)
    lines = [*textwrap.wrap(content.hex(), 112), f"seq {found.seq}, timestamp {found.at}"]
    lines += [
        f"{each.alias:3} {name_of(each)} = {'null' if each.value is None else each.value}" for each in found.metrics
    ]
    return "\n```text\nspBv1.0/plant/DDATA/line1/vision\n" + "\n".join(lines) + "\n```\n\n"


def tables() -> str:
    """Return a table for each message."""
    found = ""
    for name, model in MESSAGES.items():
        schema = model.model_json_schema()
        needed = set(schema.get("required", ()))
        rows = "".join(
            f"| `{field}` | {_kind(values, schema)} | {'yes' if field in needed else 'no'} |\n"
            for field, values in schema["properties"].items()
        )
        summary = re.sub("``", "`", str(model.__doc__).partition("\n")[0])
        found += f"\n**{name}.** {summary} [Schema](schemas/mqtt-{name}.json).\n\n{_TABLE}{rows}"
    return found + "\n"


def _kind(values: dict[str, Any], schema: dict[str, Any]) -> str:
    if "anyOf" in values:
        return ", ".join(_kind(each, schema) for each in values["anyOf"] if each.get("type") != "null")
    if "$ref" in values:
        return _kind(schema["$defs"][values["$ref"].rpartition("/")[2]], schema)
    if "enum" in values:
        return ", ".join(f"`{each}`" for each in values["enum"])
    return {"date-time": "time with zone"}.get(values.get("format", ""), str(values.get("type", "any")))


def main() -> None:
    """Write the files."""
    SCHEMAS.mkdir(exist_ok=True)
    for name, model in MESSAGES.items():
        schema = json.dumps(model.model_json_schema(), indent=2)
        (SCHEMAS / f"mqtt-{name}.json").write_text(schema + "\n", encoding="utf-8")
    PAGE.write_text(page_text(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
