"""A Sparkplug host written on pysparkplug, for an environment of its own: ``PORT GROUP NODE DEVICE``.

Asks for a rebirth by name, then for a part by the alias from the birth; prints what it decodes, a line of JSON each.
"""

from __future__ import annotations

import json
import sys
import threading

import paho.mqtt.client as paho
from pysparkplug import DataType, DBirth, DCmd, Message, Metric, NCmd, get_current_timestamp

PORT, GROUP, NODE, DEVICE = int(sys.argv[1]), *sys.argv[2:]
births: dict[str, DBirth] = {}
ended = threading.Event()


def command(verb: str, payload: NCmd | DCmd) -> None:
    end = f"/{DEVICE}" if verb == "DCMD" else ""
    client.publish(f"spBv1.0/{GROUP}/{verb}/{NODE}{end}", payload.encode(), qos=0)


def on_connect(client: paho.Client, *_: object) -> None:
    client.subscribe(f"spBv1.0/{GROUP}/+/{NODE}/#", qos=1)


def on_subscribe(*_: object) -> None:
    now = get_current_timestamp()
    rebirth = Metric(timestamp=now, name="Node Control/Rebirth", datatype=DataType.BOOLEAN, value=True)
    command("NCMD", NCmd(timestamp=now, metrics=(rebirth,)))


def on_message(client: paho.Client, _data: object, received: paho.MQTTMessage) -> None:
    verb = received.topic.split("/")[2]
    if verb.endswith("CMD"):
        return
    message = Message.from_mqtt_message(received, birth=births.get("device") if verb == "DDATA" else None)
    payload = message.payload
    metrics = {each.name: str(each.value) for each in payload.metrics}
    found = {"verb": verb, "seq": payload.seq, "qos": int(message.qos), "metrics": metrics}
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    if verb == "DBIRTH" and not births:
        births["device"] = payload
        aliases = {each.name: each.alias for each in payload.metrics}
        now = get_current_timestamp()
        values = {"Trigger/id": "A17", "Trigger/part": "housing 17"}
        triggers = tuple(
            Metric(timestamp=now, name=None, alias=aliases[name], datatype=DataType.STRING, value=value)
            for name, value in values.items()
        )
        command("DCMD", DCmd(timestamp=now, metrics=triggers))
    if metrics.get("Verdict/trigger_id") == "A17":
        ended.set()


client = paho.Client()
client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
client.connect("127.0.0.1", PORT)
client.loop_start()
sys.exit(0 if ended.wait(60) else 1)
