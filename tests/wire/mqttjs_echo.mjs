// One MQTT.js client that subscribes, publishes to itself and prints what it got, as one line of JSON.
// Arguments: URL, client id, protocol version (4 or 5), QoS, number of messages. Ends by itself; test_mqttjs starts it.
import mqtt from "mqtt";

const [url, clientId, version, qos, count] = process.argv.slice(2);
const options = { clientId, protocolVersion: Number(version), reconnectPeriod: 0, connectTimeout: 10_000 };
const client = await mqtt.connectAsync(url, options);

const received = [];
const everything = new Promise((resolve) => {
  client.on("message", (topic, payload, packet) => {
    received.push({ topic, payload: payload.toString(), qos: packet.qos });
    if (received.length === Number(count)) resolve();
  });
});

const granted = await client.subscribeAsync(`${clientId}/+`, { qos: Number(qos) });
for (let number = 0; number < Number(count); number++) {
  await client.publishAsync(`${clientId}/${number}`, `message ${number}`, { qos: Number(qos) });
}
await everything;
await client.unsubscribeAsync(`${clientId}/+`);
await client.endAsync();
console.log(JSON.stringify({ granted: granted.map((one) => one.qos), received }));
