# An MQTT client made of the Eclipse Paho client for Python (1.6), told by lines
# of JSON on standard input what to do; see clients_test.go for the lines.
import json
import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

lock = threading.Lock()


def say(**fields):
    with lock:
        print(json.dumps(fields), flush=True)


client = None
v5 = False


def on_connect(c, userdata, flags, code, properties=None):
    say(done="connect", session=bool(flags["session present"]), code=getattr(code, "value", code))


def on_subscribe(c, userdata, mid, codes, properties=None):
    say(done="subscribe", codes=[getattr(x, "value", x) for x in codes])


def on_message(c, userdata, m):
    out = dict(topic=m.topic, payload=m.payload.decode(), qos=m.qos, retain=bool(m.retain))
    p = getattr(m, "properties", None)
    if p is not None:
        out["response"] = getattr(p, "ResponseTopic", "")
        out["correlation"] = getattr(p, "CorrelationData", b"").decode()
        out["user"] = [list(kv) for kv in getattr(p, "UserProperty", [])]
    say(**out)


def connect(o):
    global client, v5
    v5 = o["version"] == 5
    if v5:
        client = mqtt.Client(o["id"], protocol=mqtt.MQTTv5)
    else:
        client = mqtt.Client(o["id"], clean_session=o["clean"], protocol=mqtt.MQTTv311)
    client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
    client.max_inflight_messages_set(10)
    if o.get("will"):
        client.will_set(o["will"], "gone", qos=1)
    if v5:
        p = Properties(PacketTypes.CONNECT)
        p.SessionExpiryInterval = o["expiry"]
        client.connect(o["host"], o["port"], clean_start=o["clean"], properties=p)
    else:
        client.connect(o["host"], o["port"])
    client.loop_start()


def publish(o):
    p = None
    if v5:
        p = Properties(PacketTypes.PUBLISH)
        if o.get("response"):
            p.ResponseTopic = o["response"]
        if o.get("correlation"):
            p.CorrelationData = o["correlation"].encode()
        for kv in o.get("user") or []:
            p.UserProperty = tuple(kv)
    waits = [client.publish(o["topic"], x, qos=o["qos"], retain=o.get("retain", False), properties=p) for x in o["payloads"]]
    for w in waits:
        w.wait_for_publish(60)
    say(done="publish", codes=[0 if w.is_published() else 1 for w in waits])


for line in sys.stdin:
    o = json.loads(line)
    try:
        if o["do"] == "connect":
            connect(o)
        elif o["do"] == "subscribe":
            client.subscribe(o["filter"], o["qos"])
        elif o["do"] == "publish":
            publish(o)
        elif o["do"] == "disconnect":
            client.disconnect()
            client.loop_stop()
            say(done="disconnect")
    except Exception as e:  # the test prints it
        say(error=repr(e))
