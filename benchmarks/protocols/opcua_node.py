"""OPC UA with a client that shares no code with the server: node-opcua, in an environment of its own.

``make check-opcua`` installs it into ``build/node-opcua``, browses the model, calls its methods, subscribes to events
and variables, tries wrong certificates and passwords, and runs the campaign signed and encrypted with a user name.
Without Node.js the result says so.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from gonogo.files import write_beside
from gonogo.line.adapter import Link
from gonogo.line.messages import Answer
from gonogo.line.opcua.model import METHODS, RESULT, VARIABLES
from gonogo.line.opcua.security import Role, account
from gonogo.line.opcua.settings import OpcuaServer
from gonogo.line.opcua.vision import ANSWER
from gonogo.line.opening import open_adapter
from gonogo.schema import State
from gonogo.testing.line import FakeStation, go
from gonogo.testing.station import PATIENCE_S
from protocols.kit import WINDOW_S, free_port, is_bad, write_station
from protocols.opcua import PeerProcess, ask_all
from protocols.plc import started

PINNED = "node-opcua-client@2.182.2"
_ROOT = Path(__file__).parents[2]
ENVIRONMENT = _ROOT / "build" / "node-opcua"
NODESET = _ROOT.parent / "shared" / "opcua" / "Opc.Ua.MachineVision.NodeSet2.xml"
_PROGRAM = _ROOT / "benchmarks" / "peers" / "opcua_client.cjs"
_PASSWORD = "a long password of a PLC"
_POLICIES = ("Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss")
_SECURED = {"security": "SignAndEncrypt", "policy": _POLICIES[0], "user": "plc", "password": _PASSWORD}
_MACHINE = "VisionStateMachine"
_AUTOMATIC = f"{_MACHINE}/AutomaticModeStateMachine"
_LATEST = "ResultManagement/Results/LatestResult"


def absent() -> str:
    """Install node-opcua once; return why it cannot be installed, or nothing."""
    ready = ENVIRONMENT / "ready"
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "Node.js and npm are not installed (Debian: nodejs, npm)"
    if ready.is_file() and ready.read_text("utf-8") == PINNED:
        return ""
    ENVIRONMENT.mkdir(parents=True, exist_ok=True)
    quiet = ("--silent", "--no-audit", "--no-fund", "--ignore-scripts")
    command = ["npm", "install", *quiet, "--prefix", str(ENVIRONMENT), PINNED]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if ended.returncode:
        return f"npm could not install {PINNED}: {(ended.stderr or ended.stdout).strip()[-300:]}"
    ready.write_text(PINNED, "utf-8")
    return ""


class NodeClient(PeerProcess):
    """The client of ``benchmarks/peers/opcua_client.cjs``."""

    def __init__(self, url: str, folder: Path, *, patience_s: float, **options: str) -> None:
        """Store the arguments.

        Args:
            url: Address of the server.
            folder: For its certificates and options; created.
            patience_s: Longest time to wait for an answer.
            options: ``security``, ``policy``, ``user`` and ``password``; none by default.
        """
        self._fixed = {"url": url, "folder": str(folder / "pki"), "patience_ms": int(patience_s * 1e3)}
        folder.mkdir(parents=True, exist_ok=True)
        write_beside(folder / "options.json", json.dumps(self._fixed | options).encode(), mode=0o600)
        paths = {"NODE_PATH": str(ENVIRONMENT / "node_modules")}
        super().__init__(
            "node", str(_PROGRAM), str(folder / "options.json"), environment=paths, silence_s=5 * patience_s
        )

    def do(self, what: str, **values: Any) -> dict[str, Any]:
        """Run a command; the answer holds ``again`` if it failed."""
        return self.say(json.dumps({"do": what, **values}))

    def connect(self, **options: str) -> bool:
        """Connect with other options; return whether the server let it in."""
        return "connected" in self.do("connect", options=self._fixed | options)

    def call(self, path: str, **inputs: Any) -> dict[str, Any]:
        """Call a method; return its outputs, and the status as ``status``."""
        found = self.do("call", path=path, inputs=inputs)
        return {"status": found.get("status", found.get("again")), **found.get("outputs", {})}


@contextmanager
def _connected(url: str, folder: Path, **options: str) -> Iterator[NodeClient]:
    client = NodeClient(url, folder, patience_s=PATIENCE_S, **options)
    client.start()
    try:
        yield client
    finally:
        client.stop()


def campaign(*, triggers: int, seed: int, folder: Path) -> dict[str, Any]:
    """Look at the model with and without the official nodeset, then judge parts while client and station are killed."""
    if why := absent():
        return {"skipped": why}
    found: dict[str, Any] = {}
    if (
        NODESET.exists()
    ):  # first: asyncua keeps the types of a process together, and cannot load the official ones second
        found["official nodeset"] = look(folder / "official", NODESET)
    found["own namespace"] = look(folder / "own", None)
    found["access"] = access(folder / "access")
    found["node-opcua client"] = _campaign(triggers, seed, folder / "campaign")
    return found


def _campaign(triggers: int, seed: int, folder: Path) -> dict[str, Any]:
    port = free_port()
    adapter = f'[[adapters]]\nkind = "opcua_server"\nport = {port}\npki = "pki"\nusers_file = "users"\n'
    toml = write_station(folder, adapter, window_s=WINDOW_S)
    _write_users(folder / "users")
    client = NodeClient(f"opc.tcp://127.0.0.1:{port}/gonogo", folder / "client", patience_s=2 * WINDOW_S, **_SECURED)
    _trust(client, made=folder / "client" / "pki" / "own" / "certs", pki=folder / "pki")
    return ask_all(toml, client, "node-opcua client", triggers, seed)


def _trust(client: NodeClient, *, made: Path, pki: Path) -> None:
    """Let the client make its certificate, and trust it before the server is started."""
    client.start()
    client.do("seen")
    client.stop()
    for folder in (pki, pki / "trusted"):
        folder.mkdir(mode=0o700)
    for each in made.iterdir():
        (pki / "trusted" / each.name).write_bytes(each.read_bytes())


def _write_users(path: Path) -> None:
    accounts = (account("plc", Role.OPERATOR, _PASSWORD), account("scada", Role.OBSERVER, _PASSWORD))
    write_beside(path, "".join(each.to_line() + "\n" for each in accounts).encode(), mode=0o600)


# --- what the model is, and what its methods do


class _Found:
    """What was looked at, and what was not as it should be."""

    def __init__(self) -> None:
        self.checks, self.wrong = 0, list[str]()

    def check(self, name: str, found: object, expected: object) -> None:
        self.checks += 1
        if found != expected:
            self.wrong.append(f"{name}: expected {expected!r}, found {found!r}")

    def to_json(self) -> dict[str, Any]:
        return {"checks": self.checks, "errors": len(self.wrong), "wrong": self.wrong}


def _judged(trigger_id: str) -> Answer:
    if is_bad(trigger_id):
        return Answer(trigger_id=trigger_id, state=State.NO_GO, reason="above the threshold", score=2.5, row=3)
    return go(trigger_id)


@contextmanager
def _serving(folder: Path, nodeset: Path | None = None, **more: Any) -> Iterator[tuple[FakeStation, str, Link]]:
    """Run a server with two products; yield its station, its address, and its link."""
    station, port = FakeStation(answer=_judged, products=("red", "blue")), free_port()
    settings = OpcuaServer(kind="opcua_server", port=port, pki=folder / "pki", nodeset=nodeset, **more)
    with started(open_adapter(settings, station, window_s=PATIENCE_S)) as adapter:
        yield station, f"opc.tcp://127.0.0.1:{port}/gonogo", adapter.link


def look(folder: Path, nodeset: Path | None) -> dict[str, Any]:
    """Browse, call every kind of method, and subscribe.

    Args:
        folder: For certificates.
        nodeset: The official file, or none for the model in our own namespace.
    """
    found = _Found()
    with ExitStack() as stack:
        station, url, _ = stack.enter_context(_serving(folder, nodeset, allow_without_security=True))
        client = stack.enter_context(_connected(url, folder / "client"))
        _look_at_tree(client, found)
        _look_at_jobs(client, station, found)
        _look_at_results(client, found)
        _look_at_products(client, station, found)
        _look_at_states(client, found)
        _look_at_mistakes(client, station, found)
    return found.to_json()


def _look_at_tree(client: NodeClient, found: _Found) -> None:
    tree = client.do("tree").get("tree", {})
    expected = {each.path: "Method" for each in METHODS} | dict.fromkeys(VARIABLES, "Variable")
    expected |= {f"Answer/{each.name}": "Variable" for each in ANSWER}
    expected |= {f"{_LATEST}/{each.name}": "Variable" for each in RESULT}
    for path, kind in expected.items():
        found.check(path, tree.get(path), kind)


def _look_at_jobs(client: NodeClient, station: FakeStation, found: _Found) -> None:
    for trigger_id, verdict, code, score in (("part-1", "go", 1, -1.5), ("bad-1", "no_go", 2, 2.5)):
        came = client.do("ask", id=trigger_id, part="A17", product="red", parameters=["lot 5", 7])
        told = {each: came.get(each) for each in ("verdict", "code", "score", "result_id", "result_state")}
        wanted = {"verdict": verdict, "code": code, "score": score, "result_id": trigger_id, "result_state": 1}
        found.check(trigger_id, told, wanted)
        document = json.loads(came.get("document", "{}"))
        found.check("document", [document.get("part"), document.get("lot")], ["A17", "lot 5"])
        expected = (trigger_id, {"part": "A17", "lot": "lot 5", "product": "red", "count": 7})
        found.check("trigger", station.triggers[-1], expected)
        _look_at_news(client, came.get("job"), code, found)


def _look_at_news(client: NodeClient, job: Any, code: int, found: _Found) -> None:
    """Look at what the subscriptions of one job brought, and in which order."""
    news = client.do("seen")
    kinds = [each["Message"].split()[0] if each["JobId"] else each["Message"] for each in news["events"]]
    found.check("events", kinds[:4], ["Ready to SingleExecution", "job", "result", "SingleExecution to Ready"])
    jobs = {each["JobId"]["id"] for each in news["events"] if each["JobId"]}
    found.check("job of the events", jobs, {job})
    codes = [value for path, value in news["changes"] if path == "Answer/VerdictCode"]
    found.check("codes", codes[-1:], [code])
    states = [value for path, value in news["changes"] if path.endswith("CurrentState")]
    found.check("states", states, ["SingleExecution", "Ready"])


def _look_at_results(client: NodeClient, found: _Found) -> None:
    latest = client.do("read", path=_LATEST).get("value") or {}
    found.check("latest result", latest.get("resultId"), {"id": "bad-1"})
    one = client.call("ResultManagement/GetResultById", ResultId={"id": "part-1"})
    result = one.get("Result") or {}
    found.check("result by id", [result.get("measId"), result.get("partId")], [{"id": "part-1"}, {"id": "A17"}])
    found.check("recipe of the result", result.get("internalRecipeId"), {"id": "red"})
    parts = client.call("ResultManagement/GetResultComponentsById", ResultId={"id": "bad-1"})
    found.check("components", [parts.get("ResultState"), parts.get("ResultContent", [])[:2]], [1, ["no_go", 2]])
    unknown = client.call("ResultManagement/GetResultById", ResultId={"id": "never"})
    found.check("unknown result", unknown.get("Error"), -1)
    listed = client.call("ResultManagement/GetResultListFiltered", PartId={"id": "A17"}, MaxResults=1)
    ids = [each["resultId"]["id"] for each in listed.get("ResultList") or []]
    found.check("listed", [ids, listed.get("IsComplete")], [["bad-1"], False])


def _look_at_products(client: NodeClient, station: FakeStation, found: _Found) -> None:
    asked = client.call("RecipeManagement/GetRecipeListFiltered", IsPrepared=2)
    found.check("recipes", asked.get("RecipeList"), [{"id": "red"}, {"id": "blue"}])
    changed = client.call("RecipeManagement/PrepareProduct", ProductId={"id": "blue"})
    found.check("prepared", [changed.get("Error"), changed.get("InternalId")], [0, {"id": "blue"}])
    found.check("product of the station", station.product, "blue")
    back = client.call("RecipeManagement/PrepareRecipe", ExternalId={"id": "red"})
    found.check("back", [back.get("Error"), back.get("IsCompleted"), station.product], [0, True, "red"])
    unknown = client.call("RecipeManagement/PrepareProduct", ProductId={"id": "green"})
    found.check("unknown product", unknown.get("Error"), -1)
    one = client.call("ConfigurationManagement/GetConfigurationList")
    names = [each["internalId"]["id"] for each in one.get("ConfigurationList") or []]
    found.check("configurations", names, ["fake"])


def _look_at_states(client: NodeClient, found: _Found) -> None:
    def state(path: str = _MACHINE) -> Any:
        return client.do("read", path=f"{path}/CurrentState").get("value")

    found.check("ready", [state(), state(_AUTOMATIC)], ["Operational", "Ready"])
    found.check("continuous", client.call(f"{_AUTOMATIC}/StartContinuous").get("Error"), 0)
    found.check("state of a continuous job", state(_AUTOMATIC), "ContinuousExecution")
    found.check("single job meanwhile", client.call(f"{_AUTOMATIC}/StartSingleJob")["status"], "BadInvalidState")
    found.check("stop", client.call(f"{_AUTOMATIC}/Stop", Cause=1, CauseDescription="end").get("Error"), 0)
    found.check("halt", [client.call(f"{_MACHINE}/Halt").get("Error"), state()], [0, "Halted"])
    found.check("job while halted", client.call(f"{_AUTOMATIC}/StartSingleJob")["status"], "BadInvalidState")
    found.check("reset", client.call(f"{_MACHINE}/Reset").get("Error"), 0)
    found.check("after the reset", client.do("ask", id="part-2").get("verdict"), "go")
    safety = "SafetyStateManagement"
    told = client.call(f"{safety}/ReportSafetyState", SafetyTriggered=True, SafetyInformation="door open")
    shown = [
        client.do("read", path=f"{safety}/VisionSafety{each}").get("value") for each in ("Triggered", "Information")
    ]
    found.check("safety", [told.get("Error"), *shown], [0, True, "door open"])


def _look_at_mistakes(client: NodeClient, station: FakeStation, found: _Found) -> None:
    before = len(station.triggers)
    job = f"{_AUTOMATIC}/StartSingleJob"
    found.check("no arguments", client.do("call", path=job, few=True).get("status"), "BadArgumentsMissing")
    found.check("a name that is none", client.call(job, MeasId={"id": "a\nb"}).get("Error"), -2)
    found.check("unknown recipe", client.call(job, RecipeId={"id": "green"}).get("Error"), -1)
    found.check("wrong parameters", client.call(job, Parameters=[1, 2, 3])["status"], "BadTypeMismatch")
    written = client.do("write", path="Answer/Verdict", value="go")
    found.check("a verdict written by the client", "BadUserAccessDenied" in str(written), True)
    found.check("triggers of mistakes", len(station.triggers), before)


# --- who may connect


def access(folder: Path) -> dict[str, Any]:
    """Connect with right and wrong certificates, passwords and roles."""
    found = _Found()
    folder.mkdir(parents=True, exist_ok=True)
    _write_users(folder / "users")
    with ExitStack() as stack:
        station, url, link = stack.enter_context(_serving(folder, users_file=folder / "users"))
        client = stack.enter_context(_connected(url, folder / "client", **_SECURED))
        found.check("unknown certificate", "again" in client.do("ask", id="stranger"), True)
        found.check("why", "unknown certificate" in link.trouble, True)
        for each in (folder / "pki" / "rejected").glob("*.der"):
            each.rename(folder / "pki" / "trusted" / each.name)
        for policy in _POLICIES:
            for security in ("Sign", "SignAndEncrypt"):
                found.check("connected", client.connect(**_SECURED | {"policy": policy, "security": security}), True)
                found.check(f"{policy} {security}", client.do("ask", id=f"{policy}-{security}").get("verdict"), "go")
        _look_at_strangers(client, found)
        client.connect(**_SECURED | {"user": "scada"})
        found.check("observer reads", client.do("read", path=f"{_AUTOMATIC}/CurrentState").get("value"), "Ready")
        denied = client.do("call", path=f"{_AUTOMATIC}/StartSingleJob")
        found.check("observer calls", "BadUserAccessDenied" in str(denied), True)
        found.check("triggers", len(station.triggers), 2 * len(_POLICIES))
    return found.to_json()


def _look_at_strangers(client: NodeClient, found: _Found) -> None:
    strangers = {
        "wrong password": _SECURED | {"password": "hunter2 hunter2"},
        "unknown name": _SECURED | {"user": "nobody"},
        "no name": {"security": "SignAndEncrypt", "policy": _POLICIES[0]},
        "no security": {},
    }
    for name, options in strangers.items():
        found.check(name, client.connect(**options), False)
