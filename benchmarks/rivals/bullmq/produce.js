// BullMQ's producer for the benchmarks: the operations of probe/produce.py.
const { Queue } = require('bullmq');

const [operation, ...flags] = process.argv.slice(2);
const given = { task: 'noop', count: '1', page: '100', payload: '0', seconds: '1', interval: '0.01' };
for (let i = 0; i < flags.length; i += 2) given[flags[i].slice(2)] = flags[i + 1];
const [count, page, seconds, interval] = [given.count, given.page, given.seconds, given.interval].map(Number);

const url = new URL(process.env.BENCH_REDIS_URL);
const queue = new Queue('bench', { connection: { host: url.hostname, port: Number(url.port) } });
const opts = { removeOnComplete: process.env.BENCH_RESULTS === '1' ? { age: 3600 } : true };
const payload = Number(given.payload) ? ['x'.repeat(Number(given.payload))] : [];

const send = (args) => queue.add(given.task, { args }, opts);
const bulk = (size) =>
  queue.addBulk(Array.from({ length: size }, () => ({ name: given.task, data: { args: payload }, opts })));
const now = () => Number(process.hrtime.bigint()) / 1e9;
const sleep = (time) => new Promise((resolve) => setTimeout(resolve, time * 1000));

async function timed(step, perStep) {
  await step();
  const begin = now();
  const cpu = process.cpuUsage();
  let done = 0;
  while (now() < begin + seconds) {
    await step();
    done += perStep;
  }
  const { user, system } = process.cpuUsage(cpu);
  return { rate: done / (now() - begin), cpu_us: (user + system) / done };
}

const operations = {
  async fill() {
    for (let left = count; left > 0; left -= page) await bulk(Math.min(page, left));
    return { count };
  },
  single: () => timed(() => send([]), 1),
  bulk: () => timed(() => bulk(page), page),
  async concurrent() {
    await send([]);
    const begin = now();
    const cpu = process.cpuUsage();
    let done = 0;
    const sender = async () => {
      for (; now() < begin + seconds; done += 1) await send([]);
    };
    await Promise.all(Array.from({ length: page }, sender));
    const { user, system } = process.cpuUsage(cpu);
    return { rate: done / (now() - begin), cpu_us: (user + system) / done };
  },
  async paced() {
    const begin = now();
    for (let number = 0; number < count; number += 1) {
      const wait = begin + number * interval - now();
      if (wait > 0) await sleep(wait);
      await send([process.hrtime.bigint().toString()]);
    }
    return { count };
  },
};

(async () => {
  await queue.waitUntilReady();
  const measured = await operations[operation]();
  await queue.close();
  console.log(JSON.stringify(measured));
})();
