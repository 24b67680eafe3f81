"""Write the register tables of docs/modbus.md and the timing diagram docs/images/handshake.svg from the code.

The diagram is a run of the real state machine with the PLC's program of `gonogo.testing`.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from gonogo.line.handshake import Handshake, Judge, Result, StationView
from gonogo.line.modbus_server import STATUS_ADDRESS
from gonogo.line.plc_image import (
    CONTROL_MEANING,
    CONTROL_PLACES,
    FAULT_CODES,
    OWN_CODES,
    STATUS_MEANING,
    STATUS_PLACES,
    Control,
    Inputs,
    Outputs,
    Place,
    ResultCode,
    Status,
    control_registers,
    name_of,
    status_registers,
)
from gonogo.testing.plc_program import PlcProgram, Step

ROOT = Path(__file__).resolve().parents[1]
PAGE, PICTURE = ROOT / "docs/modbus.md", ROOT / "docs/images/handshake.svg"
LEFT, CYCLE, ROW, WIDTH = 190, 17, 34, 980
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1d2733}.note{font-size:11px;fill:#5a6b7d}"
    ".plc{stroke:#cfa566;fill:none;stroke-width:2}.station{stroke:#2f6fb0;fill:none;stroke-width:2}"
    ".go{stroke:#2f8f4e;fill:none;stroke-width:2}.fault{stroke:#c0392b;fill:none;stroke-width:2}"
    ".grid{stroke:#e3e8ee}"
)
SIGNALS: tuple[tuple[Control | Status, str], ...] = (
    (Control.TRIGGER, "plc"),
    (Control.INSPECTION_RESULTS_ACK, "plc"),
    (Status.TRIGGER_READY, "station"),
    (Status.TRIGGER_ACK, "station"),
    (Status.SYSTEM_BUSY, "station"),
    (Status.INSPECTION_COMPLETED, "station"),
    (Status.RESULTS_VALID, "station"),
    (Status.JOB_PASS, "go"),
    (Status.FAULT, "fault"),
    (Status.RESULT_TAKEN, "station"),
)
_CYCLE_S, _WINDOW_S = 0.1, 1.0
Sample = tuple[Control, Outputs, str]


def run() -> list[Sample]:
    """Run two parts: one with a go that is taken, one whose go is acknowledged too late."""
    handshake, plc = Handshake(plc_timeout_s=5.0), PlcProgram(timeout_s=9.0)
    station, read, samples = StationView(ready=True, job_id=1), Outputs(), list[Sample]()
    answers: dict[int, tuple[int, float]] = {}
    for cycle in range(46):
        now_s, note = 10.0 + cycle * _CYCLE_S, ""
        if cycle in (2, 17):
            plc.ask("part", now_s)
            note = "in time" if cycle == 2 else "acknowledged too late"
        late = plc.step is Step.RESULT and len(plc.taken) == 1 and cycle < 34
        wrote = (
            Inputs(control=Control.TRIGGER_ENABLE | Control.BUFFER_RESULTS_ENABLE) if late else plc.scan(read, now_s)
        )
        for action in handshake.step(wrote, station, now_s):
            if isinstance(action, Judge):
                answers[action.number] = (cycle + 4, now_s + _WINDOW_S)
        for number, (at, due_s) in list(answers.items()):
            if cycle >= at:
                del answers[number]
                handshake.answered(number, Result(code=ResultCode.GO, due_s=due_s), now_s)
        handshake.tick(station, now_s)
        read = handshake.outputs(now_s)
        if read.fault_code and not any(sample[1].fault_code for sample in samples):
            note = "deadline: go becomes a fault"
        samples.append((wrote.control, read, note))
    return samples


def picture() -> str:
    """Return the timing diagram."""
    samples, height = run(), 44 + len(SIGNALS) * ROW
    shapes = []
    for cycle in range(0, len(samples) + 1, 2):
        x = LEFT + cycle * CYCLE
        shapes.append(f'<path class="grid" d="M{x} 30V{height - 6}"/>')
    for row, (signal, kind) in enumerate(SIGNALS):
        base = 30 + (row + 1) * ROW - 8
        values = [signal in (wrote if isinstance(signal, Control) else read.status) for wrote, read, _ in samples]
        path = f"M{LEFT} {base - 18 * values[0]}"
        for cycle, (before, after) in enumerate(pairwise(values), 1):
            path += f"H{LEFT + cycle * CYCLE}" + (f"V{base - 18 * after}" if before != after else "")
        shapes.append(f'<path class="{kind}" d="{path}H{LEFT + len(values) * CYCLE}"/>')
        shapes.append(f'<text x="0" y="{base - 3}">{name_of(signal)}</text>')
        source = "PLC" if isinstance(signal, Control) else "station"
        shapes.append(f'<text class="note" x="{LEFT - 12}" y="{base - 3}" text-anchor="end">{source[0]}</text>')
    for cycle, (_, _, note) in enumerate(samples):
        if note:
            shapes.append(f'<text class="note" x="{LEFT + cycle * CYCLE + 3}" y="22">{note}</text>')
            shapes.append(
                f'<path d="M{LEFT + cycle * CYCLE} 12V{height - 6}" stroke="#8fa6bf" stroke-dasharray="3 3"/>'
            )
    shapes.append('<text class="note" x="0" y="22">P PLC, s station</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">'
        f'<style>{STYLE}</style><rect width="{WIDTH}" height="{height}" fill="#fff"/>{"".join(shapes)}</svg>\n'
    )


def tables() -> str:
    """Return the tables of bits, registers and codes."""
    lines = ["### Control: written by the PLC, coils 0 to 31 or holding registers", ""]
    lines += _bits(CONTROL_MEANING) + _registers(CONTROL_PLACES, "holding register", 0)
    lines += ["### Status: written by the station, discrete inputs 0 to 31 or input registers", ""]
    lines += _bits(STATUS_MEANING) + _registers(STATUS_PLACES, "input register", None)
    lines += ["### Codes in `FaultCode` and `ErrorCode`", "", "| code | cause |", "|---|---|"]
    lines += [f"| {code} | `{cause.value}` |" for cause, code in FAULT_CODES.items()]
    lines += [f"| {code} | {meaning} |" for code, meaning in OWN_CODES.items()]
    return "\n".join(lines)


def _bits(meanings: dict[Control, str] | dict[Status, str]) -> list[str]:
    rows = [
        f"| {bit.bit_length() - 1} | {(bit.bit_length() - 1) // 16}.{(bit.bit_length() - 1) % 16} "
        f"| `{name_of(bit)}` | {meaning} |"
        for bit, meaning in meanings.items()
    ]
    return ["| bit | register.bit | name | meaning |", "|---|---|---|---|", *rows, ""]


def _registers(places: tuple[Place, ...], title: str, first: int | None) -> list[str]:
    also = "" if first is not None else " | also holding register"
    rows = []
    for each in places:
        span = str(each.first) if each.count == 1 else f"{each.first} to {each.first + each.count - 1}"
        other = f" | {STATUS_ADDRESS + each.first}" if also else ""
        rows.append(f"| {span}{other} | `{each.name}` | {each.kind} | {each.meaning} |")
    return [f"| {title}{also} | name | type | meaning |", "|---" * (5 if also else 4) + "|", *rows, ""]


def capture() -> str:
    """Return the register values of one part, as a Modbus monitor shows them."""
    lines = ["cycle  control 0-2            status 0-6"]
    for cycle, (wrote, read, _) in enumerate(run()[:10]):
        control, status = control_registers(Inputs(control=wrote)), status_registers(read)
        shown = " ".join(f"{each:04x}" for each in control[:3]), " ".join(f"{each:04x}" for each in status[:7])
        lines.append(f"{cycle:5}  {shown[0]}         {shown[1]}")
    return "\n".join(lines)


def filled(page: str) -> str:
    """Return the page with its generated parts."""
    for name, text in (("map", tables()), ("capture", f"```text\n{capture()}\n```")):
        before, _, rest = page.partition(f"<!-- {name} -->\n")
        _, _, after = rest.partition(f"<!-- end of {name} -->")
        page = f"{before}<!-- {name} -->\n\n{text}\n\n<!-- end of {name} -->{after}"
    return page


if __name__ == "__main__":
    PICTURE.write_text(picture(), "utf-8")
    PAGE.write_text(filled(PAGE.read_text("utf-8")), "utf-8")
