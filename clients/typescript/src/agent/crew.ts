// The agent's one worker, what its functions do, and what it has executed.
import { setTimeout as sleep } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import { type Brokers, final, type Handler, HyrexError, retryAfter, Worker } from "../index.js";

class ConformanceError extends Error {
  override name = "ConformanceError";
}

const behaviours: Record<string, Handler> = {
  echo: ({ value }) => value,
  pair: ({ a, b }) => [a, b],
  fail({ message, retry_delay_ms }) {
    const error = new ConformanceError(message);
    throw retry_delay_ms === undefined ? error : retryAfter(error, retry_delay_ms);
  },
  fail_final({ message }) {
    throw final(new ConformanceError(message));
  },
  retry_after({ delay_ms }, { attemptNumber }) {
    if (attemptNumber === 0) throw retryAfter(new ConformanceError("not yet"), delay_ms);
    return { attempt_number: attemptNumber };
  },
  async sleep({ ms }, { signal }) {
    await sleep(ms, undefined, { signal });
    return { slept: ms };
  },
  attempt: (_, run) => ({ task_id: run.taskId, run_number: run.runNumber, attempt_number: run.attemptNumber }),
  headers: (_, { headers }) => headers,
};

export class Crew {
  #executed: string[] = [];
  #worker?: Worker;
  #running = false;
  #stop = new AbortController();
  #left: Promise<unknown> = Promise.resolve();

  constructor(readonly brokers: Brokers) {}

  async start(told: { name: string; queues: string[]; capacity: number; tasks: Record<string, string> }) {
    const handlers = Object.entries(told.tasks).map(([name, behaviour]) => [name, this.#recording(behaviour)] as const);
    const { promise: welcomed, worker } = this.#make(told, Object.fromEntries(handlers));
    this.#worker = worker;
    this.#stop = new AbortController();
    this.#running = true;
    const left = worker.run({ signal: this.#stop.signal });
    this.#left = left.catch((error) => error).finally(() => (this.#running = false));
    await Promise.race([welcomed, left, sleep(10_000, undefined, { ref: false })]);
    if (worker.sessionId) return { session_id: worker.sessionId };
    this.#stop.abort();
    throw new HyrexError(status.DEADLINE_EXCEEDED, "no Welcome");
  }

  #make({ name, queues, capacity }: { name: string; queues: string[]; capacity: number }, handlers: Record<string, Handler>) {
    let onWelcome = () => {};
    const promise = new Promise<void>((resolve) => (onWelcome = resolve));
    const log = (text: string) => process.stderr.write(`${text}\n`);
    return { promise, worker: new Worker({ ...this.brokers, name, queues, capacity, handlers, onWelcome, log }) };
  }

  #recording(name: string): Handler {
    const behaviour = behaviours[name];
    if (!behaviour) throw new HyrexError(status.UNIMPLEMENTED, `no behaviour ${name}`, "UNKNOWN_OP");
    return (args, run) => {
      this.#executed.push(run.taskId);
      return behaviour(args, run);
    };
  }

  stats() {
    return { executed: this.#executed, running: this.#running };
  }

  async drain() {
    this.#worker?.drain();
    const error = await this.#left;
    if (error) throw error;
    return {};
  }

  async stop() {
    this.#stop.abort();
    await this.#left;
    return {};
  }
}
