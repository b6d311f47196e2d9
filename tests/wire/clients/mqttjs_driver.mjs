// MQTT.js at the other end of `driven.py`: calls come as lines of JSON on standard input, answers go to standard output.
// Knows MQTT.js and the JSON of `adapter.py`; nothing of what the calls are for.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import mqtt from "mqtt";

const PROTOCOLS = { tcp: "mqtt", tls: "mqtts", "tls+cert": "mqtts", ws: "ws", wss: "wss", unix: "mqtt" };
const WORDS = {
  content_type: "contentType",
  response_topic: "responseTopic",
  expiry_s: "messageExpiryInterval",
  topic_alias: "topicAlias",
};
const connections = new Map();

function toTheirs(ours) {
  const made = {};
  for (const [word, theirs] of Object.entries(WORDS)) if (ours[word] !== null) made[theirs] = ours[word];
  if (ours.correlation_data !== null) made.correlationData = Buffer.from(ours.correlation_data, "latin1");
  for (const [key, value] of ours.user) {
    made.userProperties ??= {};
    (made.userProperties[key] ??= []).push(value);
  }
  return made;
}

function fromTheirs(theirs = {}) {
  const made = {};
  for (const [word, name] of Object.entries(WORDS)) made[word] = theirs[name] ?? null;
  made.correlation_data = theirs.correlationData?.toString("latin1") ?? null;
  made.user = Object.entries(theirs.userProperties ?? {}).flatMap(([key, values]) =>
    [values].flat().map((value) => [key, value]),
  );
  made.subscription_ids = [theirs.subscriptionIdentifier ?? []].flat();
  return made;
}

function optionsOf(door, version, opening) {
  const options = {
    protocol: PROTOCOLS[door.transport],
    protocolVersion: version,
    protocolId: version === 3 ? "MQIsdp" : "MQTT",
    clientId: opening.client_id,
    clean: opening.clean,
    reconnectPeriod: 0,
    connectTimeout: 10_000,
    host: door.host,
    port: door.port,
  };
  if (door.place) Object.assign(options, { unixSocket: true, path: door.place });
  else if (door.transport.startsWith("ws")) options.path = "/mqtt";
  if (door.ca) options.ca = readFileSync(door.ca);
  if (door.cert) Object.assign(options, { cert: readFileSync(door.cert), key: readFileSync(door.key) });
  if (version === 5) options.properties = { sessionExpiryInterval: opening.session_expiry_s };
  if (opening.alias_max) options.properties.topicAliasMaximum = opening.alias_max;
  if (opening.will) {
    const { topic, payload, qos, retain, properties } = opening.will;
    options.will = { topic, payload: Buffer.from(payload, "latin1"), qos, retain };
    if (version === 5) options.will.properties = toTheirs(properties);
  }
  return options;
}

class Connection {
  constructor() {
    this.messages = [];
    this.waiting = null;
  }

  open({ door, version, opening }) {
    this.version = version;
    this.client = mqtt.connect(optionsOf(door, version, opening));
    this.client.on("message", (topic, payload, packet) => {
      const { qos, retain, properties } = packet;
      this.messages.push({ topic, payload: payload.toString("latin1"), qos, retain, properties: fromTheirs(properties) });
      this.waiting?.();
    });
    return new Promise((resolve, reject) => {
      this.client.once("connect", (connack) => resolve(connack.sessionPresent));
      this.client.once("error", reject);
      this.client.once("close", () => reject(new Error("closed before CONNACK")));
    });
  }

  async subscribe({ filter, qos, identifier }) {
    const more = identifier ? { properties: { subscriptionIdentifier: identifier } } : {};
    const [granted] = await this.client.subscribeAsync(filter, { qos, ...more });
    return granted.qos;
  }

  async publish({ message }) {
    const { topic, payload, qos, retain, properties } = message;
    const more = this.version === 5 ? { properties: toTheirs(properties) } : {};
    await this.client.publishAsync(topic, Buffer.from(payload, "latin1"), { qos, retain, ...more });
  }

  async receive() {
    if (this.messages.length === 0) await new Promise((resolve) => (this.waiting = resolve));
    this.waiting = null;
    return this.messages.shift();
  }

  async close() {
    await this.client.endAsync();
  }

  async drop() {
    this.client.on("error", () => {}); // It sees the end as one, which is what was asked for.
    this.client.stream.destroy();
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const { do: word, number, ...call } = JSON.parse(line);
  if (!connections.has(number)) connections.set(number, new Connection());
  let answer;
  try {
    answer = { ok: (await connections.get(number)[word](call)) ?? null };
  } catch (error) {
    answer = { error: String(error) };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
process.exit(0);
