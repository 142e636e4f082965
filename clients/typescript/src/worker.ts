// The worker: one session, from stream to stream and broker to broker, until it has left.
import { hostname } from "node:os";
import { type ChannelCredentials, type Metadata, type StatusObject } from "@grpc/grpc-js";
import {
  type CancelRun, type HeartbeatAck, type Welcome, WorkerServiceClient, WorkRequest, type WorkResponse,
} from "../gen/hyrex/v1/worker_service.js";
import { runsOf } from "./columns.js";
import { Leases } from "./leases.js";
import { Reports } from "./reports.js";
import { type Handler, Stop } from "./runs.js";
import {
  addresses, backoff, bearer, type Brokers, CHANNEL_OPTIONS, HyrexError, milliseconds, pause, refusal, VERSION,
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
  #leases: Leases;
  #reports = new Reports();
  #capacity: number;
  #draining = false;
  #left = false;
  // Of the stream that lives now:
  #call?: Call;
  #nextBeat = 0;
  #lastRead = 0;
  #capacitySaid = true;
  #drainSaid = false;
  #writable = false; // welcomed, and not full just now
  #cut: (why: string) => void = () => {};

  constructor(readonly options: WorkerOptions) {
    this.#capacity = options.capacity ?? 10;
    const report = this.#reports.add.bind(this.#reports);
    this.#leases = new Leases(options.handlers, { isTrusted: () => this.#trusted, report, write: () => this.#write() });
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
      this.#leases.stopAll(new Stop("TaskRevoked", "the worker has stopped"));
      clearTimeout(this.#trustTimer);
    }
  }

  /** Take no new work, finish and report what runs, and leave; run() returns then. At the signal, what
   * still runs is stopped and given back at no cost. */
  drain({ signal }: { signal?: AbortSignal } = {}): void {
    this.#draining = true;
    this.#leases.releaseWaiting();
    const stop = () => {
      this.#leases.stopAll(new Stop("TaskReleased", "the worker leaves"));
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
          held: this.#leases.refs,
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
    this.#reports.beginAnew();
    this.#drainSaid = false;
    this.#beatSent.clear();
    for (const { token } of welcome.revoked) this.#leases.stop(token, new Stop("TaskRevoked", "the lease is void"));
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
    this.#leases.stopAll(new Stop("TaskRevoked", "the session is over"));
  }

  /** What it does not know, it ignores. */
  #take(frame: WorkResponse["frame"]): void {
    switch (frame?.$case) {
      case "assignments":
        this.#leases.receive(frame.value.groups.flatMap(runsOf), this.#draining);
        if (frame.value.sequence > this.#receivedThrough) this.#receivedThrough = frame.value.sequence;
        break;
      case "reportAck":
        this.#leases.settle(this.#reports.settle(frame.value.reportId));
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

  #acknowledged({ sequence, revoked, cancels }: HeartbeatAck): void {
    for (const { token } of revoked) this.#leases.stop(token, new Stop("TaskRevoked", "the lease is void"));
    this.#cancel(cancels);
    const sentAt = this.#beatSent.get(sequence);
    if (sentAt !== undefined) this.#trust(sentAt);
    for (const earlier of this.#beatSent.keys()) if (earlier <= sequence) this.#beatSent.delete(earlier);
  }

  #cancel(runs: CancelRun[]): void {
    for (const { token, reason } of runs) this.#leases.stop(token, new Stop("TaskCancelled", reason));
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
      this.#leases.stopAll(new Stop("TaskReleased", "no heartbeat was acknowledged in time"));
    }, this.#trustUntil - performance.now());
    this.#leases.start();
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
      const heldTokens = this.#leases.tokens;
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
    const report = this.#reports.next(this.#terms!);
    if (report) return { $case: "report", value: report };
    if (this.#draining && this.#leases.tokens.length === 0 && this.#reports.isEmpty) {
      this.#left = true;
      return { $case: "goodbye", value: {} };
    }
    return undefined;
  }
}
