// The worker: one session, from stream to stream and broker to broker, until it has left.
import { hostname } from "node:os";
import { type ChannelCredentials, type Metadata, type StatusObject } from "@grpc/grpc-js";
import {
  type CancelRun, type HeartbeatAck, type Report, type ReportAck, type Welcome, WorkerServiceClient, WorkRequest,
  type WorkResponse,
} from "../gen/hyrex/v1/worker_service.js";
import { type Assignment, type Ending, reportOf, runsOf, sizeOf, tokensOf } from "./columns.js";
import { execute, type Handler, Stop, stopped } from "./runs.js";
import {
  addresses, backoff, bearer, type Brokers, CHANNEL_OPTIONS, HyrexError, milliseconds, MOST_ITEMS, pause, refusal, VERSION,
} from "./wire.js";

const WELCOME_WITHIN_MS = 10_000;
const LEAST_MARGIN_MS = 100;
const HOPELESS = ["PROTOCOL_UNSUPPORTED", "TOKEN_INVALID", "INVALID_FIELD", "TOO_MANY_ITEMS"];
const SESSION_OVER = ["SESSION_ENDED", "SESSION_TAKEN_OVER", "SESSION_SECRET_INVALID"];

export interface WorkerOptions extends Brokers {
  handlers: Record<string, Handler>;
  /** For people; the host's name by default. */
  name?: string;
  /** Names or patterns; all by default. */
  queues?: string[];
  /** Runs at once, 10 by default. */
  capacity?: number;
  /** A stream was accepted; sessionId is known. */
  onWelcome?: () => void;
  log?: (text: string) => void;
}

/** The right to one run. */
interface Lease {
  run: Assignment;
  control?: AbortController; // once it has started
  ended: boolean; // its report is on its way
}

type Frame = NonNullable<WorkRequest["frame"]>;
type Call = ReturnType<WorkerServiceClient["work"]>;

export class Worker {
  sessionId = "";
  #secret: Buffer = Buffer.alloc(0);
  #terms?: Welcome;
  #receivedThrough = 0n;
  #beats = 0n;
  #beatSent = new Map<bigint, number>();
  #trustUntil = 0; // by performance.now(), which is monotonic
  #trustTimer?: NodeJS.Timeout;
  #held = new Map<bigint, Lease>(); // received and not yet acknowledged as reported
  #waiting: Lease[] = []; // not started: no trust just now, or a run that wants to be alone
  #running = 0;
  #alone = false;
  #ended: Ending[] = []; // to be framed
  #reports: Report[] = []; // unacknowledged
  #lastReport = 0n;
  #capacity: number;
  #draining = false;
  #left = false;
  // Of the stream that lives now:
  #call?: Call;
  #sent = 0; // how many of the reports it has carried
  #nextBeat = 0;
  #lastRead = 0;
  #capacitySaid = true;
  #drainSaid = false;
  #writable = false; // welcomed, and not full just now
  #cut: (why: string) => void = () => {};

  constructor(readonly options: WorkerOptions) {
    this.#capacity = options.capacity ?? 10;
  }

  /** Serve until the worker has left, after drain() or because a broker asked. Rejects with the HyrexError
   * that no retry can mend, or with the signal's reason: then it stops at once and without a word, as a
   * crash would, and its leases expire. */
  async run({ signal }: { signal?: AbortSignal } = {}): Promise<void> {
    const brokers = addresses(this.options);
    const metadata = bearer(this.options);
    try {
      for (let place = 0, failures = 0; ; place++) {
        const { end, welcomed } = await this.#serve(brokers[place % brokers.length]!, metadata, signal);
        if (this.#left) return;
        signal?.throwIfAborted();
        if (HOPELESS.includes(end.reason)) throw end;
        if (SESSION_OVER.includes(end.reason)) this.#forget();
        this.options.log?.(`stream ended: ${end.message}`);
        failures = welcomed ? 0 : failures + 1;
        await pause(backoff(failures), signal);
      }
    } finally {
      this.#left = true;
      this.#stopAll(new Stop("TaskRevoked", "the worker has stopped"));
      clearTimeout(this.#trustTimer);
    }
  }

  /** Take no new work, finish and report what runs, and leave; run() returns then. At the signal, what
   * still runs is stopped and given back at no cost. */
  drain({ signal }: { signal?: AbortSignal } = {}): void {
    this.#draining = true;
    for (const lease of this.#waiting.splice(0)) this.#end(lease, { outcome: stopped(new Stop("TaskReleased", "the worker leaves"), false) });
    const stop = () => {
      this.#stopAll(new Stop("TaskReleased", "the worker leaves"));
      this.#write();
    };
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
    this.#write();
  }

  /** Change how many runs it takes at once; 0 pauses it. */
  set capacity(runs: number) {
    this.#capacity = runs;
    this.#capacitySaid = false;
    this.#write();
  }

  /** One stream's life. */
  async #serve(broker: readonly [string, ChannelCredentials], metadata: Metadata, signal?: AbortSignal) {
    const client = new WorkerServiceClient(...broker, CHANNEL_OPTIONS);
    const call = (this.#call = client.work(metadata));
    let why = "";
    let welcomed = false;
    this.#writable = false;
    this.#cut = (text) => {
      why ||= text;
      call.cancel();
    };
    const abort = () => this.#cut("stopped");
    signal?.addEventListener("abort", abort);
    const late = setTimeout(() => this.#cut("no answer to Hello"), WELCOME_WITHIN_MS);
    let pulse: NodeJS.Timeout | undefined;
    const sentAt = performance.now();
    const end = await new Promise<StatusObject>((resolve) => {
      call.on("error", () => {}); // told by the status
      call.on("status", resolve);
      call.on("data", ({ frame }: WorkResponse) => {
        if (call !== this.#call) return;
        this.#lastRead = performance.now();
        if (frame?.$case !== "welcome") return this.#take(frame);
        if (welcomed) return;
        welcomed = true;
        clearTimeout(late);
        this.#begin(frame.value, sentAt);
        pulse = setInterval(() => this.#beat(), milliseconds(frame.value.heartbeatInterval) / 5);
      });
      call.write({ frame: this.#hello() });
      if (signal?.aborted) abort();
    });
    this.#call = undefined;
    this.#writable = false;
    clearTimeout(late);
    clearInterval(pulse);
    signal?.removeEventListener("abort", abort);
    client.close();
    return { end: why ? new HyrexError(end.code, why) : refusal(end), welcomed };
  }

  #hello(): Frame {
    this.#capacitySaid = true;
    const { frame } = WorkRequest.fromPartial({
      frame: {
        $case: "hello",
        value: {
          workerName: this.options.name ?? hostname(), host: hostname(), pid: process.pid, sdk: VERSION, protocolVersion: 1,
          queuePatterns: this.options.queues ?? ["*"], tasks: Object.keys(this.options.handlers).map((name) => ({ name })),
          capacity: this.#pools(), sessionId: this.sessionId, sessionSecret: this.#secret,
          receivedThrough: this.#receivedThrough,
          held: [...this.#held.values()].map(({ run: { taskId, token } }) => ({ taskId, token })),
        },
      },
    });
    return frame!;
  }

  #pools() {
    const maximum = this.#draining ? 0 : this.#capacity;
    return [{ pool: "", maximum, slots: maximum }];
  }

  /** What Welcome says. What is not resumed is void. */
  #begin(welcome: Welcome, sentAt: number): void {
    const resumed = welcome.resumed && welcome.sessionId === this.sessionId;
    if (!resumed) this.#forget();
    this.sessionId = welcome.sessionId;
    this.#secret = welcome.sessionSecret;
    this.#terms = welcome;
    this.#sent = 0;
    this.#drainSaid = false;
    this.#beatSent.clear();
    for (const { token } of welcome.revoked) this.#stop(token, new Stop("TaskRevoked", "the lease is void"));
    this.#trust(sentAt);
    this.#nextBeat = 0;
    this.#writable = true;
    this.#write();
    this.options.onWelcome?.();
  }

  /** The session is over, and with it every lease. */
  #forget(): void {
    this.sessionId = "";
    this.#secret = Buffer.alloc(0);
    this.#receivedThrough = this.#beats = 0n;
    this.#trustUntil = 0;
    this.#stopAll(new Stop("TaskRevoked", "the session is over"));
  }

  /** What it does not know, it ignores. */
  #take(frame: WorkResponse["frame"]): void {
    switch (frame?.$case) {
      case "assignments":
        this.#receive(frame.value.groups.flatMap(runsOf));
        if (frame.value.sequence > this.#receivedThrough) this.#receivedThrough = frame.value.sequence;
        break;
      case "reportAck":
        this.#settle(frame.value);
        break;
      case "heartbeatAck":
        this.#acknowledged(frame.value);
        break;
      case "cancel":
        this.#cancel(frame.value.runs);
        break;
      case "drain": {
        const cut = this.#cut;
        setTimeout(() => cut("the broker drains"), Math.random() * milliseconds(frame.value.reconnectJitter));
        break;
      }
      case "leave":
        this.drain();
    }
    this.#write();
  }

  #receive(runs: Assignment[]): void {
    for (const run of runs) {
      const lease = { run, ended: false };
      this.#held.set(run.token, lease);
      if (this.#draining) this.#end(lease, { outcome: stopped(new Stop("TaskReleased", "the worker leaves"), false) });
      else this.#waiting.push(lease);
    }
    this.#start();
  }

  #settle({ reportId }: ReportAck): void {
    const place = this.#reports.findIndex((report) => report.reportId === reportId);
    if (place < 0) return;
    const [report] = this.#reports.splice(place, 1);
    if (place < this.#sent) this.#sent--;
    for (const token of tokensOf(report!)) this.#held.delete(token);
  }

  #acknowledged({ sequence, revoked, cancels }: HeartbeatAck): void {
    for (const { token } of revoked) this.#stop(token, new Stop("TaskRevoked", "the lease is void"));
    this.#cancel(cancels);
    const sentAt = this.#beatSent.get(sequence);
    if (sentAt !== undefined) this.#trust(sentAt);
    for (const earlier of this.#beatSent.keys()) if (earlier <= sequence) this.#beatSent.delete(earlier);
  }

  #cancel(runs: CancelRun[]): void {
    for (const { token, reason } of runs) this.#stop(token, new Stop("TaskCancelled", reason));
  }

  get #trusted() {
    return performance.now() < this.#trustUntil;
  }

  /** A Hello or heartbeat sent then was acknowledged: all leases may be trusted for longer. */
  #trust(sentAt: number): void {
    const lease = milliseconds(this.#terms!.leaseDuration);
    this.#trustUntil = Math.max(this.#trustUntil, sentAt + lease - Math.max(lease / 10, LEAST_MARGIN_MS));
    clearTimeout(this.#trustTimer);
    this.#trustTimer = setTimeout(() => {
      this.#stopAll(new Stop("TaskReleased", "no heartbeat was acknowledged in time"));
    }, this.#trustUntil - performance.now());
    this.#start();
  }

  /** Starts what may run now: nothing that is not trusted. */
  #start(): void {
    while (this.#waiting[0] && this.#trusted && !this.#alone && !(this.#waiting[0].run.alone && this.#running > 0)) {
      const lease = this.#waiting.shift()!;
      lease.control = new AbortController();
      this.#running++;
      this.#alone = lease.run.alone;
      void execute(lease.run, this.options.handlers[lease.run.name], lease.control).then((report) => {
        this.#running--;
        this.#alone = false;
        this.#end(lease, report);
        this.#start();
        this.#write();
      });
    }
  }

  /** A report is due, unless the lease is void. */
  #end(lease: Lease, end: Pick<Ending, "outcome"> & Partial<Ending>): void {
    const { taskId, token } = lease.run;
    if (this.#held.get(token) !== lease) return;
    lease.ended = true;
    this.#ended.push({ elapsed: undefined, ...end, taskId, token });
  }

  /** Asks a run to stop; one that has not started is over at once. */
  #stop(token: bigint, why: Stop): void {
    const lease = this.#held.get(token);
    if (!lease || lease.ended) return;
    if (why.name === "TaskRevoked") this.#held.delete(token);
    if (lease.control) return lease.control.abort(why);
    this.#waiting = this.#waiting.filter((other) => other !== lease);
    this.#end(lease, { outcome: stopped(why, false) });
  }

  #stopAll(why: Stop): void {
    for (const [token, lease] of [...this.#held]) if (lease.control || why.name === "TaskRevoked") this.#stop(token, why);
  }

  /** Sends the heartbeat that is due, and leaves a broker that is silent. */
  #beat(): void {
    const patience = Math.max(1000, 2.5 * milliseconds(this.#terms!.heartbeatInterval));
    if (performance.now() - this.#lastRead > patience) this.#cut(`the broker was silent for ${patience} ms`);
    else this.#write();
  }

  /** The only place that writes: whatever is due, as long as the stream takes it. */
  #write(): void {
    const call = this.#call;
    for (let frame; call && this.#writable && (frame = this.#next()); ) {
      this.#writable = call.write({ frame });
      if (!this.#writable) call.once("drain", () => this.#resume(call));
      if (frame.$case === "goodbye") call.end();
    }
  }

  #resume(call: Call): void {
    if (call !== this.#call) return;
    this.#writable = true;
    this.#write();
  }

  /** The frame to send now, if any. */
  #next(): Frame | undefined {
    const now = performance.now();
    if (this.#left) return undefined;
    if (now >= this.#nextBeat) {
      this.#beatSent.set(++this.#beats, now);
      this.#nextBeat = now + milliseconds(this.#terms!.heartbeatInterval) * 0.95;
      const heldTokens = [...this.#held.keys()];
      return { $case: "heartbeat", value: { sequence: this.#beats, heldTokens, receivedThrough: this.#receivedThrough, progress: [] } };
    }
    if (this.#draining && !this.#drainSaid) {
      this.#drainSaid = true;
      return { $case: "drain", value: { reason: "the worker leaves" } };
    }
    if (!this.#capacitySaid) {
      this.#capacitySaid = true;
      return { $case: "capacity", value: { pools: this.#pools() } };
    }
    if (this.#reportIsDue()) return { $case: "report", value: this.#reports[this.#sent++]! };
    if (this.#draining && this.#held.size === 0 && this.#reports.length === 0) {
      this.#left = true;
      return { $case: "goodbye", value: {} };
    }
    return undefined;
  }

  /** Frames what has ended, within the broker's limits; whether #reports[#sent] may be sent now. */
  #reportIsDue(): boolean {
    const { maxFrameBytes, maxUnacknowledgedReports } = this.#terms!;
    if (this.#sent === this.#reports.length && this.#ended.length > 0) {
      let count = 0;
      for (let bytes = 0; count < Math.min(this.#ended.length, MOST_ITEMS); count++) {
        bytes += sizeOf(this.#ended[count]!);
        if (count > 0 && bytes > maxFrameBytes) break;
      }
      this.#reports.push(reportOf(++this.#lastReport, this.#ended.splice(0, count)));
    }
    const unacknowledged = this.#reports.slice(0, this.#sent + 1).reduce((sum, report) => sum + tokensOf(report).length, 0);
    return this.#sent < this.#reports.length && unacknowledged <= maxUnacknowledgedReports;
  }
}
