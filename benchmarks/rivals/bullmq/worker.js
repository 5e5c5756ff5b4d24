// BullMQ's worker for the benchmarks. It writes the tally as tasks in Python do: see probe/tally.py for the form.
const fs = require('fs');
const { Worker } = require('bullmq');

const url = new URL(process.env.BENCH_REDIS_URL);
const connection = { host: url.hostname, port: Number(url.port), maxRetriesPerRequest: null };
const file = fs.openSync(process.env.BENCH_TALLY, 'r+');
const offset = 64 * (Number(process.env.BENCH_COPY) + 1); // copies have a slot each, nobody else writes this file
const slot = Buffer.alloc(32);
let started = 0;
let ended = 0;
let first = 0n;
let latencies = null;

const taken = Buffer.alloc(8);
taken.writeBigInt64LE(2n);

function start() {
  started += 1;
  if (!first) {
    first = process.hrtime.bigint();
    fs.writeSync(file, taken, 0, 8, 0);
  }
}

function end() {
  ended += 1;
  slot.writeBigInt64LE(BigInt(started), 0);
  slot.writeBigInt64LE(BigInt(ended), 8);
  slot.writeBigInt64LE(first, 16);
  slot.writeBigInt64LE(process.hrtime.bigint(), 24);
  fs.writeSync(file, slot, 0, 32, offset);
  return 1;
}

function hit() {
  start();
  return end();
}

const tasks = {
  noop: async () => hit(),
  payload: async () => hit(),
  stamp: async (job) => {
    const sample = Buffer.alloc(8);
    sample.writeBigInt64LE(process.hrtime.bigint() - BigInt(job.data.args[0]));
    latencies ??= fs.openSync(`${process.env.BENCH_TALLY}.latency`, 'a');
    fs.writeSync(latencies, sample);
    return hit();
  },
  sleep50: async () => {
    start();
    await new Promise((resolve) => setTimeout(resolve, 50));
    return end();
  },
};

const worker = new Worker('bench', async (job) => tasks[job.name](job), { connection, concurrency: 100 });
worker.on('error', console.error);
process.on('SIGTERM', async () => {
  await worker.close();
  process.exit(0);
});
