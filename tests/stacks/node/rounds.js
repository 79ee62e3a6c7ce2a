// Runs rounds of one stack for the tests: a line with the number of the thread and of the round comes in, and "ok" or the
// error goes out. `node rounds.js STACK PORT`
const assert = require("node:assert/strict");
const readline = require("node:readline");

const stacks = {
  // Plain commands, a pipeline, a transaction, a script, and messages.
  ioredis(port) {
    const Redis = require("ioredis");
    const client = new Redis(port, "127.0.0.1");
    const subscriber = new Redis(port, "127.0.0.1");
    client.defineCommand("addTwice", { numberOfKeys: 1, lua: "return redis.call('INCRBY', KEYS[1], 2 * ARGV[1])" });
    return async (thread, number) => {
      const key = `ioredis:${thread}:${number}`;
      assert.equal(await client.set(key, "one", "EX", 100), "OK");
      assert.equal(await client.get(key), "one");
      const replies = await client.pipeline().hset(`${key}:h`, "a", 1).hgetall(`${key}:h`).exec();
      for (const [error] of replies) if (error) throw error;
      assert.deepEqual(replies[1][1], { a: "1" });
      const told = await client.multi().set(`${key}:n`, 5).incr(`${key}:n`).exec();
      for (const [error] of told) if (error) throw error;
      assert.deepEqual(told.map(([, reply]) => reply), ["OK", 6]);
      assert.equal(await client.addTwice(`${key}:n`, 3), 12);
      await subscriber.subscribe(key);
      const message = new Promise((resolve) => subscriber.once("message", (channel, text) => resolve(text)));
      await client.publish(key, "hello");
      assert.equal(await message, "hello");
      await subscriber.unsubscribe(key);
    };
  },

  // The same with node-redis, which speaks RESP3, and its iterators.
  async "node-redis"(port) {
    const { createClient } = require("redis");
    const client = await createClient({ url: `redis://127.0.0.1:${port}` }).on("error", () => {}).connect();
    const subscriber = await client.duplicate().on("error", () => {}).connect();
    return async (thread, number) => {
      const key = `node-redis:${thread}:${number}`;
      await client.set(key, "one", { EX: 100 });
      assert.equal(await client.get(key), "one");
      await client.hSet(`${key}:h`, { a: "1", b: "2" });
      assert.deepEqual({ ...(await client.hGetAll(`${key}:h`)) }, { a: "1", b: "2" });
      assert.deepEqual(await client.multi().set(`${key}:n`, 5).incr(`${key}:n`).exec(), ["OK", 6]);
      assert.equal(await client.eval("return redis.call('INCR', KEYS[1])", { keys: [`${key}:n`] }), 7);
      await client.zAdd(`${key}:z`, [{ score: 1, value: "a" }, { score: 2, value: "b" }]);
      assert.deepEqual(await client.zRange(`${key}:z`, 0, -1), ["a", "b"]);
      const message = new Promise((resolve) => subscriber.subscribe(key, resolve).then(() => client.publish(key, "hello")));
      assert.equal(await message, "hello");
      await subscriber.unsubscribe(key);
    };
  },

  // express-session on connect-redis, through whole requests.
  async "connect-redis"(port) {
    const express = require("express");
    const session = require("express-session");
    const { RedisStore } = require("connect-redis");
    const { createClient } = require("redis");
    const client = await createClient({ url: `redis://127.0.0.1:${port}` }).on("error", () => {}).connect();
    const app = express();
    app.use(session({ store: new RedisStore({ client }), secret: "k", resave: false, saveUninitialized: false }));
    app.get("/visit", (request, response) => {
      request.session.visits = (request.session.visits || 0) + 1;
      response.send(String(request.session.visits));
    });
    app.get("/leave", (request, response, next) => {
      request.session.destroy((error) => (error ? next(error) : response.send("gone")));
    });
    app.use((error, request, response, next) => response.status(500).send(`error: ${error.message}`));
    const server = await new Promise((resolve) => { const it = app.listen(0, "127.0.0.1", () => resolve(it)); });
    return async () => {
      let cookie = "";
      const visit = async (path) => {
        const response = await fetch(`http://127.0.0.1:${server.address().port}${path}`, { headers: { cookie } });
        cookie = response.headers.get("set-cookie")?.split(";")[0] ?? cookie;
        const text = await response.text();
        if (response.status !== 200) throw new Error(text);
        return text;
      };
      assert.deepEqual([await visit("/visit"), await visit("/visit"), await visit("/visit")], ["1", "2", "3"]);
      assert.equal(await visit("/leave"), "gone");
      assert.equal(await visit("/visit"), "1");
    };
  },

  // A limit of points, through both clients.
  async "rate-limiter-flexible"(port) {
    const { RateLimiterRedis } = require("rate-limiter-flexible");
    const Redis = require("ioredis");
    const { createClient } = require("redis");
    const other = await createClient({ url: `redis://127.0.0.1:${port}` }).on("error", () => {}).connect();
    const limiters = [
      new RateLimiterRedis({ storeClient: new Redis(port, "127.0.0.1"), points: 3, duration: 600, keyPrefix: "a" }),
      new RateLimiterRedis({ storeClient: other, useRedisPackage: true, points: 3, duration: 600, keyPrefix: "b" }),
    ];
    return async (thread, number) => {
      for (const limiter of limiters) {
        const user = `${thread}:${number}`;
        const left = [];
        for (let request = 0; request < 3; request++) left.push((await limiter.consume(user)).remainingPoints);
        assert.deepEqual(left, [2, 1, 0]);
        const refused = await limiter.consume(user).then(() => null, (reason) => reason);
        if (refused instanceof Error) throw refused;
        assert.equal(refused?.remainingPoints, 0);
        assert.equal((await limiter.get(user)).consumedPoints, 4);
        await limiter.delete(user);
      }
    };
  },
};

async function main() {
  const round = await stacks[process.argv[2]](Number(process.argv[3]));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [thread, number] = line.split(" ");
    try {
      await round(thread, number);
      console.log("ok");
    } catch (error) {
      console.log(`${error.name}: ${error.message}`.replace(/\s+/g, " "));
    }
  }
  process.exit(0);
}

main();
