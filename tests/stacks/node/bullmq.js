// BullMQ. `node bullmq.js worker` works; `node bullmq.js client` adds the jobs whose numbers it reads, and tells results.
// Every tenth job is delayed, and every tenth fails the first time. STACK_URL is the address; a job leaves its number in STACK_DONE.
const { appendFileSync } = require("node:fs");
const readline = require("node:readline");
const { Queue, QueueEvents, Worker } = require("bullmq");

const url = new URL(process.env.STACK_URL);
const connection = { host: url.hostname, port: Number(url.port), maxRetriesPerRequest: null };

function work() {
  const worker = new Worker(
    "stacks",
    async (job) => {
      if (job.data.number % 10 === 3 && job.attemptsMade === 0) throw new Error("the first time it fails");
      appendFileSync(process.env.STACK_DONE, `${job.data.number}\n`);
      return 2 * job.data.number;
    },
    { connection },
  );
  worker.on("error", (error) => console.error(error.message));
}

async function serve() {
  const queue = new Queue("stacks", { connection });
  const events = new QueueEvents("stacks", { connection });
  for (const each of [queue, events]) each.on("error", (error) => console.error(error.message));
  const jobs = new Map();
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [word, text] = line.split(" ");
    const number = Number(text);
    try {
      if (word === "enqueue") {
        const delay = number % 10 === 7 ? 200 : 0;
        jobs.set(number, await queue.add("record", { number }, { delay, attempts: 5, backoff: { type: "fixed", delay: 100 } }));
        console.log("ok");
      } else {
        console.log("ok", await jobs.get(number).waitUntilFinished(events, 60000));
      }
    } catch (error) {
      console.log(`${error.name}: ${error.message}`.replace(/\s+/g, " "));
    }
  }
  process.exit(0);
}

if (process.argv[2] === "worker") work();
else serve();
