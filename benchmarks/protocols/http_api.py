"""``POST /api/inspect``: a client with idempotency keys, a server that is killed at random."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from gonogo.images import encode_png
from gonogo.inspector import Inspector
from gonogo.ledger import Ledger, Where
from gonogo.testing import fake_frame
from protocols.kit import killing
from protocols.serving import added, prepared, serving

_PNG = {"content-type": "image/png"}


def campaign(*, triggers: int, seed: int, folder: Path) -> dict[str, object]:
    """Send pictures, a fifth of them of bad parts; an unanswered request is sent again with its key."""
    workspace, key = prepared(folder)
    draw = random.Random(seed)
    bad = [draw.random() < 0.2 for _ in range(triggers)]
    pictures = {each: encode_png(fake_frame(seed, bad=each)) for each in (False, True)}
    states, rows = list[str](), list[int]()
    with (
        serving(workspace) as server,
        killing([server], seed, triggers=triggers, answered=lambda: len(states)),
        httpx.Client(timeout=10.0) as client,
    ):
        client.headers["authorization"] = f"Bearer {key}"
        url = f"http://127.0.0.1:{server.port}/api/inspect"
        for number, is_bad in enumerate(bad):
            found = _asked(client, url, pictures[is_bad], f"t{number}")
            states.append(found["state"])
            rows.append(found["row"])
    recorded = Counter[str]()
    with Ledger.open(workspace / "ledger" / "line.ledger", read_only=True) as ledger:
        for row in ledger.verdicts(Where(station="api")):
            recorded[row.record.trigger_id.rpartition("/")[2]] += 1
    return {
        "protocol": "http_api",
        "peer": "httpx",
        "triggers": triggers,
        "delivered": len(states),
        "lost": sum(not recorded[f"t{number}"] for number in range(triggers)),
        "doubled": sum(recorded[f"t{number}"] > 1 for number in range(triggers)),
        "out_of_order": sum(later <= earlier for earlier, later in itertools.pairwise(rows)),
        "escapes": sum(state == "go" and is_bad for state, is_bad in zip(states, bad, strict=True)),
        "kills": server.kills,
    }


def _asked(client: httpx.Client, url: str, picture: bytes, key: str) -> dict[str, Any]:
    while True:
        try:
            answer = client.post(url, content=picture, headers={**_PNG, "idempotency-key": key})
            if answer.status_code == 200:
                found: dict[str, Any] = answer.json()
                return found
        except httpx.HTTPError:
            pass
        time.sleep(0.02)


def fuzz(*, messages: int, seed: int, folder: Path) -> dict[str, object]:
    """Send random bytes and damaged pictures; none may be answered go, and the process must live."""
    workspace, key = prepared(folder)
    draw, good = random.Random(seed), encode_png(fake_frame(1))
    counts = Counter[str]()
    with serving(workspace) as server, httpx.Client(timeout=30.0) as client:
        client.headers["authorization"] = f"Bearer {key}"
        url = f"http://127.0.0.1:{server.port}/api/inspect"
        for _ in range(messages):
            kind = draw.choice(("image/png", "application/octet-stream", "multipart/form-data; boundary=x", "text/x"))
            body = draw.randbytes(draw.randrange(400)) if draw.random() < 0.5 else good[: draw.randrange(len(good) - 8)]
            answer = client.post(url, content=body, headers={"content-type": kind})
            counts["accepted" if answer.status_code == 200 else "refused"] += 1
            counts["errors"] += answer.status_code >= 500
            counts["escapes"] += answer.status_code == 200 and answer.json()["state"] == "go"
        died = int(not server.alive())
    found = {name: counts[name] for name in ("refused", "accepted", "errors", "escapes")}
    return {"protocol": "http_api", "messages": messages, "died": died, **found}


def latency(*, count: int, folder: Path) -> dict[str, object]:
    """Compare the round trip with the bare judgement of the same encoded picture."""
    workspace, key = prepared(folder)
    picture, judge = encode_png(fake_frame(1)), Inspector.load(workspace / "bundles" / "red.inspector")
    with serving(workspace) as server, httpx.Client(timeout=30.0) as client:
        client.headers["authorization"] = f"Bearer {key}"
        url = f"http://127.0.0.1:{server.port}/api/inspect"

        def ask() -> None:
            client.post(url, content=picture, headers=_PNG).raise_for_status()

        ask()
        p50_ms, p99_ms = added(ask, lambda: judge.inspect_encoded(picture), count)
    return {"protocol": "http_api", "count": count, "added_p50_ms": p50_ms, "added_p99_ms": p99_ms}
