// What an application does with ioredis: by options and by a rediss:// URL, with a user, in a cluster, and refused.
const assert = require("node:assert");
const fs = require("node:fs");
const Redis = require("ioredis");

const [ca, user, password, ...ports] = process.argv.slice(2);
const tls = { ca: fs.readFileSync(ca) };
const quiet = { retryStrategy: () => null, maxRetriesPerRequest: 0 };

async function refusal(options, command) {
  const client = new Redis({ ...quiet, ...options });
  const told = new Promise((resolve) => client.on("error", resolve));
  try {
    await command(client);
  } catch (error) {
    return (error.message.includes("Connection is closed") ? await told : error).message;
  } finally {
    client.disconnect();
  }
  return "";
}

async function use(client, subscriber) {
  assert.strictEqual(await client.set("app:js", "v", "EX", 100), "OK");
  assert.strictEqual(await client.get("app:js"), "v");
  assert.deepStrictEqual(await client.pipeline().incr("app:n").incr("app:n").exec(), [[null, 1], [null, 2]]);
  assert.deepStrictEqual(await client.multi().set("app:n", 5).incr("app:n").exec(), [[null, "OK"], [null, 6]]);
  client.defineCommand("twice", { numberOfKeys: 1, lua: "return redis.call('GET', KEYS[1]) * 2" });
  assert.strictEqual(await client.twice("app:n"), 12);
  await client.hset("app:h", { a: "1", b: "2" });
  assert.deepStrictEqual(await client.hgetall("app:h"), { a: "1", b: "2" });
  const large = Buffer.alloc(3 << 20, "x");
  await client.set("app:large", large);
  assert.ok(large.equals(await client.getBuffer("app:large")));
  const heard = new Promise((resolve) => subscriber.on("message", (...words) => resolve(words)));
  await subscriber.subscribe("app:news");
  await client.publish("app:news", "hello");
  assert.deepStrictEqual(await heard, ["app:news", "hello"]);
  await assert.rejects(client.get("other"), /NOPERM/);
  await assert.rejects(client.config("GET", "*"), /NOPERM/);
  await client.del("app:n", "app:h", "app:large");
}

(async () => {
  const login = { username: user, password };
  const url = `rediss://${user}:${password}@localhost:${ports[0]}`;
  for (const make of [() => new Redis({ host: "localhost", port: ports[0], tls, ...login }), () => new Redis(url, { tls })]) {
    const [client, subscriber] = [make(), make()];
    await use(client, subscriber);
    client.disconnect();
    subscriber.disconnect();
  }
  const cluster = new Redis.Cluster(ports.map((port) => ({ host: "localhost", port })), { redisOptions: { tls, ...login } });
  for (let number = 0; number < 100; number++) await cluster.set(`app:${number}`, number);
  for (let number = 0; number < 100; number++) assert.strictEqual(await cluster.get(`app:${number}`), `${number}`);
  cluster.disconnect();

  const there = { host: "localhost", port: ports[0] };
  assert.match(await refusal({ ...there, tls, username: user, password: "wrong" }, (c) => c.get("app:js")), /WRONGPASS/);
  assert.match(await refusal({ ...there, ...login, tls: {} }, (c) => c.get("app:js")), /self-signed|unable to (get|verify)/);
  assert.notStrictEqual(await refusal({ ...there, ...login }, (c) => c.get("app:js")), "", "without TLS");
  console.log("ioredis is content");
})();
