// `node libraries.js LIBRARY plain|cluster PORT PREFIX`: a client library in JavaScript does SET, GET, INCR, HSET, HGET, a pipeline.
//
// Each function of `libraries` connects with the library's defaults, and returns how a command is called, by the library's
// own methods where it has them, and how ten INCRs of a key are sent as one pipeline (null without pipelines).
const assert = require("node:assert/strict");

const PIPED = 10;
const host = "127.0.0.1";

// A method that takes a callback, as one that returns a promise.
const promised = (client, method) => (...words) =>
  new Promise((resolve, reject) => client[method](...words, (error, answer) => (error ? reject(error) : resolve(answer))));

const byName = (client) => (name, ...words) => client[name.toLowerCase()](...words);
const byCallback = (client) => (name, ...words) => promised(client, name.toLowerCase())(...words);
const batched = (batch, run, key) => {
  for (let sent = 0; sent < PIPED; sent++) batch.incr(key);
  return run(batch);
};
const each = (make) => Promise.all(Array.from({ length: PIPED }, make)); // sent at once, without waiting for answers

const ofIoredis = (module) => (port, cluster) => {
  const Redis = require(module);
  const client = cluster ? new Redis.Cluster([{ host, port }]) : new Redis(port);
  const pipe = async (key) => {
    const answers = await batched(client.pipeline(), (batch) => batch.exec(), key);
    return answers.map(([error, answer]) => error ?? answer);
  };
  return [byName(client), pipe];
};

const libraries = {
  ioredis: ofIoredis("ioredis"),

  iovalkey: ofIoredis("iovalkey"),

  async redis(port, cluster) {
    const { createClient, createCluster } = require("redis");
    const url = `redis://${host}:${port}`;
    const client = cluster ? createCluster({ rootNodes: [{ url }] }) : createClient({ url });
    await client.connect();
    const names = { HSET: "hSet", HGET: "hGet" };
    const call = (name, ...words) => client[names[name] ?? name.toLowerCase()](...words);
    return [call, (key) => batched(client.multi(), (batch) => batch.execAsPipeline(), key)];
  },

  "redis-3"(port) {
    const client = require("redis-3").createClient(port);
    return [byCallback(client), (key) => batched(client.batch(), (batch) => promised(batch, "exec")(), key)];
  },

  async "@valkey/valkey-glide"(port, cluster) {
    const glide = require("@valkey/valkey-glide");
    const client = await (cluster ? glide.GlideClusterClient : glide.GlideClient).createClient({ addresses: [{ host, port }] });
    const call = (name, key, ...words) =>
      name === "HSET" ? client.hset(key, { [words[0]]: words[1] }) : byName(client)(name, key, ...words);
    const Batch = cluster ? glide.ClusterBatch : glide.Batch;
    return [call, (key) => batched(new Batch(false), (batch) => client.exec(batch, true), key)];
  },

  async bun(port) {
    const client = new Bun.RedisClient(`redis://${host}:${port}`);
    return [byName(client), (key) => each(() => client.incr(key))]; // it pipelines by itself
  },

  tedis(port) {
    const { Tedis } = require("tedis");
    return [byName(new Tedis({ host, port })), null];
  },

  "thunk-redis"(port) {
    const client = require("thunk-redis").createClient(port, { usePromise: true });
    return [byName(client), (key) => each(() => client.incr(key))];
  },

  "redis-fast-driver"(port) {
    const Redis = require("redis-fast-driver");
    const client = new Redis({ host, port });
    const call = (...words) => client.rawCallAsync(words);
    return [call, (key) => each(() => call("INCR", key))];
  },

  async "@litert/redis"(port) {
    const client = require("@litert/redis").createCommandClient({ host, port });
    await client.connect();
    const call = (name, ...words) => client[{ HSET: "hSet", HGET: "hGet" }[name] ?? name.toLowerCase()](...words);
    const pipe = async (key) => {
      const pipeline = await client.pipeline();
      for (let sent = 0; sent < PIPED; sent++) await pipeline.incr(key);
      return pipeline.exec();
    };
    return [call, pipe];
  },
};

async function main([name, mode, port, prefix]) {
  const [call, pipe] = await libraries[name](Number(port), mode === "cluster");
  const text = async (...words) => {
    const answer = await call(...words);
    return Buffer.isBuffer(answer) ? answer.toString() : answer;
  };
  await call("SET", `${prefix}:string`, "value");
  assert.equal(await text("GET", `${prefix}:string`), "value");
  assert.equal(await text("INCR", `${prefix}:counter`), 1);
  assert.equal(await text("INCR", `${prefix}:counter`), 2);
  await call("HSET", `${prefix}:hash`, "field", "value");
  assert.equal(await text("HGET", `${prefix}:hash`, "field"), "value");
  if (pipe) assert.deepEqual((await pipe(`${prefix}:piped`)).map(Number), Array.from({ length: PIPED }, (_, at) => at + 1));
  console.log(pipe ? "ok piped" : "ok");
}

main(process.argv.slice(2)).then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
