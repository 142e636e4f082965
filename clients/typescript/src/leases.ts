// The leases of a session: received, started once they are trusted, held until they are acknowledged as reported.
import { type Assignment, type Ending } from "./columns.js";
import { execute, type Handler, Stop, stopped } from "./runs.js";

/** The right to one run. */
interface Lease {
  run: Assignment;
  control?: AbortController; // once it has started
  ended: boolean; // its report is on its way
}

/** The worker that has them. */
export interface Owner {
  isTrusted(): boolean;
  report(end: Ending): void;
  write(): void;
}

export class Leases {
  #held = new Map<bigint, Lease>(); // received and not yet acknowledged as reported
  #waiting: Lease[] = []; // not started: no trust just now, or a run that wants to be alone
  #running = 0;
  #alone = false;

  constructor(readonly handlers: Record<string, Handler>, readonly owner: Owner) {}

  get tokens(): bigint[] {
    return [...this.#held.keys()];
  }

  /** As Hello names them. */
  get refs() {
    return [...this.#held.values()].map(({ run: { taskId, token } }) => ({ taskId, token }));
  }

  /** Takes new ones; a worker that leaves gives them back. */
  receive(runs: Assignment[], isLeaving: boolean): void {
    for (const run of runs) {
      const lease = { run, ended: false };
      this.#held.set(run.token, lease);
      if (isLeaving) this.#release(lease);
      else this.#waiting.push(lease);
    }
    this.start();
  }

  /** Their reports were acknowledged. */
  settle(tokens: bigint[]): void {
    for (const token of tokens) this.#held.delete(token);
  }

  /** Starts what may run now: nothing that is not trusted. */
  start(): void {
    while (this.#waiting[0] && this.owner.isTrusted() && !this.#alone && !(this.#waiting[0].run.alone && this.#running > 0)) {
      const lease = this.#waiting.shift()!;
      lease.control = new AbortController();
      this.#running++;
      this.#alone = lease.run.alone;
      void execute(lease.run, this.handlers[lease.run.name], lease.control).then((report) => {
        this.#running--;
        this.#alone = false;
        this.#end(lease, report);
        this.start();
        this.owner.write();
      });
    }
  }

  /** Gives back what has not started. */
  releaseWaiting(): void {
    for (const lease of this.#waiting.splice(0)) this.#release(lease);
  }

  /** Asks a run to stop; one that has not started is over at once. */
  stop(token: bigint, why: Stop): void {
    const lease = this.#held.get(token);
    if (!lease || lease.ended) return;
    if (why.name === "TaskRevoked") this.#held.delete(token);
    if (lease.control) return lease.control.abort(why);
    this.#waiting = this.#waiting.filter((other) => other !== lease);
    this.#end(lease, { outcome: stopped(why, false) });
  }

  stopAll(why: Stop): void {
    for (const [token, lease] of [...this.#held]) if (lease.control || why.name === "TaskRevoked") this.stop(token, why);
  }

  #release(lease: Lease): void {
    this.#end(lease, { outcome: stopped(new Stop("TaskReleased", "the worker leaves"), false) });
  }

  /** A report is due, unless the lease is void. */
  #end(lease: Lease, end: Pick<Ending, "outcome"> & Partial<Ending>): void {
    const { taskId, token } = lease.run;
    if (this.#held.get(token) !== lease) return;
    lease.ended = true;
    this.owner.report({ elapsed: undefined, ...end, taskId, token });
  }
}
