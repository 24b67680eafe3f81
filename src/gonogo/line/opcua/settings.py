"""The settings of the OPC UA adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from gonogo.capture.settings import Port
from gonogo.config import Strict

Name: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")]
Node: TypeAlias = Annotated[str, Field(pattern=r"^(ns=\d{1,5};)?[isgb]=.{1,200}$")]
"""Id of a node in OPC UA's notation, such as ``ns=3;s="Vision"."Trigger"``."""
Url: TypeAlias = Annotated[str, Field(pattern=r"^opc\.tcp://[^\s/@]+(/\S*)?$")]


class OpcuaServer(Strict):
    """An OPC UA server with the machine-vision model of OPC 40100-1."""

    kind: Literal["opcua_server"]
    name: Name = "opcua"
    host: str = "127.0.0.1"
    """Address that the server listens on; ``0.0.0.0`` for every network of this machine."""
    port: Port = 4840
    nodeset: Path | None = None
    """The official file ``Opc.Ua.MachineVision.NodeSet2.xml``. Without, the same names stand in a namespace of their
    own."""
    pki: Path = Path("opcua-pki")
    """Folder of the certificates: ``own`` (created at the first start), ``trusted``, and ``rejected``."""
    users_file: Path | None = None
    """File with names, roles and hashed passwords; one line of `gonogo.line.opcua.security.account` each."""
    allow_without_security: bool = False
    """Also accept clients without certificate, encryption and password; each of them may start jobs."""
    clients: int = Field(default=8, ge=1, le=100)
    """Largest number of clients at a time."""
    results: int = Field(default=200, ge=1, le=10_000)
    """Number of the last results that clients can ask for."""


class Tags(Strict):
    """The nodes of the PLC that the client reads and writes."""

    trigger: Node
    """Boolean: a rising edge triggers. Or an unsigned number: each change triggers."""
    acknowledge: Node | None = None
    """Boolean, set by the PLC when it has taken the answer. Without, the fall of the trigger acknowledges."""
    id: Node | None = None
    """String: the unique id of the trigger. Without, the station makes one."""
    part: Node | None = None
    lot: Node | None = None
    product: Node | None = None
    ready: Node
    """Boolean: a part that arrives now would be judged."""
    busy: Node | None = None
    """Boolean: the station judges."""
    valid: Node
    """Boolean: the answer is complete; written last, cleared first."""
    verdict: Node
    """Number (Byte, Int16, ...): 0 none, 1 go, 2 no-go, 3 review, 4 fault."""
    fault: Node | None = None
    """String: the cause of a fault."""
    score: Node | None = None
    """Float or Double."""
    result_id: Node | None = None
    """String: the trigger's id, with the answer."""
    heartbeat: Node | None = None
    """Number that counts up every half second."""


class OpcuaClient(Strict):
    """An OPC UA client that reads the triggers of a PLC from its tags, and writes the answers back."""

    kind: Literal["opcua_client"]
    name: Name = "opcua-plc"
    url: Url
    """Address of the PLC's server, such as ``opc.tcp://10.0.0.5:4840``."""
    tags: Tags
    poll_s: float = Field(default=0.05, ge=0.005, le=5)
    """Interval at which the tags are read."""
    hold_s: float = Field(default=2.0, gt=0, le=60)
    """Longest time that an answer stays valid without acknowledgement."""
    security: Literal["Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"] = "Basic256Sha256"
    pki: Path = Path("opcua-pki")
    """Folder of the certificates: ``own`` (created at the first start)."""
    server_certificate: Path | None = None
    """Certificate of the PLC's server, PEM or DER; no other server is accepted."""
    user: str | None = Field(default=None, min_length=1, max_length=100)
    password_file: Path | None = None
    """File with the password of ``user`` in its first line."""
    allow_without_security: bool = False
    """Connect without certificate and encryption."""

    @model_validator(mode="after")
    def _is_secured(self) -> OpcuaClient:
        if self.server_certificate is None and not self.allow_without_security:
            raise ValueError(
                "opcua_client needs security: expected server_certificate, the certificate of the PLC's server, or "
                "allow_without_security = true"
            )
        if (self.user is None) != (self.password_file is None):
            raise ValueError("expected user and password_file together, found one of them")
        if self.user is not None and self.server_certificate is None:
            raise ValueError("a password needs an encrypted connection: expected server_certificate, found none")
        return self
