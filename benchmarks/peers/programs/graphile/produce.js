// graphile-worker's producer: add_jobs in batches; obeys {"count": N} as benchmarks/actors/orders.py says.
const readline = require("node:readline");
const { Pool } = require("pg");
const { makeWorkerUtils, Logger } = require("graphile-worker");

const BATCH = 1000;
const pool = new Pool({ connectionString: process.env.BENCH_DATABASE_URL });
const order = (number) => ({
  order_id: number, customer: "customer-0123456789@example.com", amount: 99.95, express: true,
});
const monotonic = () => Number(process.hrtime.bigint()) / 1e9;

async function send({ count }) {
  const began = monotonic();
  for (let first = 0; first < count; first += BATCH) {
    const jobs = [];
    for (let n = first; n < Math.min(first + BATCH, count); n++) {
      jobs.push({ identifier: "handle", payload: { order: order(n) } });
    }
    await pool.query(
      "select 1 from graphile_worker.add_jobs(array(select json_populate_recordset(null::graphile_worker.job_spec, $1::json)))",
      [JSON.stringify(jobs)],
    );
  }
  for (;;) {
    const { rows } = await pool.query("select exists (select from graphile_worker._private_jobs) as open");
    if (!rows[0].open) return { began, ended: monotonic() };
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

async function main() {
  const utils = await makeWorkerUtils({ pgPool: pool, logger: new Logger(() => () => {}) });
  await utils.migrate();
  console.log("actor ready");
  for await (const line of readline.createInterface({ input: process.stdin })) {
    try {
      console.log(JSON.stringify(await send(JSON.parse(line))));
    } catch (error) {
      console.log(JSON.stringify({ failed: String(error.stack) }));
    }
  }
  process.exit(0);
}

main();
