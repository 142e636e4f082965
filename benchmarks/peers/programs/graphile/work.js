// graphile-worker's worker with the settings of its performance page: local queue and batched completion.
const { run, Logger } = require("graphile-worker");

const CONCURRENCY = 24;

run({
  preset: {
    worker: {
      connectionString: process.env.BENCH_DATABASE_URL,
      concurrentJobs: CONCURRENCY,
      maxPoolSize: CONCURRENCY + 1,
      localQueue: { size: 500, refetchDelay: { durationMs: 10 } },
      completeJobBatchDelay: 0,
      failJobBatchDelay: 0,
      logger: new Logger(() => () => {}),
    },
  },
  taskList: { handle: async () => {} },
}).then((runner) => runner.promise);
