// What an application does with node-redis: by options and by a rediss:// URL, with a user, and refused.
const assert = require("node:assert");
const fs = require("node:fs");
const { createClient } = require("redis");

const [ca, user, password, port] = process.argv.slice(2);
const socket = { host: "localhost", port: Number(port), tls: true, ca: fs.readFileSync(ca), reconnectStrategy: false };

async function refusal(options) {
  const client = createClient(options);
  client.on("error", () => {});
  try {
    await client.connect();
    await client.get("app:js");
  } catch (error) {
    return error.message;
  } finally {
    if (client.isOpen) await client.disconnect();
  }
  return "";
}

async function use(client) {
  assert.strictEqual(await client.set("app:js", "v", { EX: 100 }), "OK");
  assert.strictEqual(await client.get("app:js"), "v");
  assert.deepStrictEqual(await Promise.all([client.incr("app:n"), client.incr("app:n")]), [1, 2]);
  assert.deepStrictEqual(await client.multi().set("app:n", "5").incr("app:n").exec(), ["OK", 6]);
  assert.strictEqual(await client.eval("return redis.call('GET', KEYS[1]) * 2", { keys: ["app:n"] }), 12);
  await client.hSet("app:h", { a: "1", b: "2" });
  assert.deepStrictEqual({ ...(await client.hGetAll("app:h")) }, { a: "1", b: "2" });
  const large = "x".repeat(3 << 20);
  await client.set("app:large", large);
  assert.ok(large === (await client.get("app:large")));
  const subscriber = client.duplicate();
  await subscriber.connect();
  let hear;
  const heard = new Promise((resolve) => (hear = resolve));
  await subscriber.subscribe("app:news", hear);
  await client.publish("app:news", "hello");
  assert.strictEqual(await heard, "hello");
  await subscriber.disconnect();
  await assert.rejects(client.get("other"), /NOPERM/);
  await assert.rejects(client.configGet("*"), /NOPERM/);
  await client.del(["app:n", "app:h", "app:large"]);
}

(async () => {
  const login = { username: user, password };
  const url = `rediss://${user}:${password}@localhost:${port}`;
  for (const options of [{ socket, ...login }, { url, socket: { ca: socket.ca, reconnectStrategy: false } }]) {
    const client = createClient(options);
    client.on("error", (error) => assert.fail(error));
    await client.connect();
    await use(client);
    await client.disconnect();
  }
  assert.match(await refusal({ socket, username: user, password: "wrong" }), /WRONGPASS/);
  assert.match(await refusal({ socket: { ...socket, ca: undefined }, ...login }), /self-signed|unable to (get|verify)/);
  assert.notStrictEqual(await refusal({ socket: { ...socket, tls: false }, ...login }), "", "without TLS");
  console.log("node-redis is content");
})();
