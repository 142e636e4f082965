// Runs: user code under an AbortSignal, and its end in words of the protocol.
import type { NodeRun } from "../gen/hyrex/v1/worker_service.js";
import type { Assignment, Outcome } from "./columns.js";
import { duration, MESSAGE_BYTES } from "./wire.js";

/** What a handler learns of its run. The signal says when to stop: cancelled, timed out, revoked, not trusted. */
export interface Run extends Assignment {
  signal: AbortSignal;
}

/** Executes one run: the payload's JSON in, a JSON value out. One that ignores its signal keeps its slot. */
export type Handler<A = any, R = unknown> = (args: A, run: Run) => Promise<R> | R;

class Verdict {
  constructor(readonly error: unknown, readonly isFinal: boolean, readonly delayMs?: number) {}
}

/** throw final(error): fails for good, whatever retries the task allows. */
export const final = (error: unknown) => new Verdict(error, true);

/** throw retryAfter(error, ms): fails, and says when to try again if a retry remains. */
export const retryAfter = (error: unknown, delayMs: number) => new Verdict(error, false, delayMs);

/** Why a run is stopped: the reason of its signal. */
export class Stop extends Error {
  constructor(override readonly name: "TaskCancelled" | "TaskTimeout" | "TaskReleased" | "TaskRevoked", message: string) {
    super(message);
  }
}

/** Runs user code to its end, which it never throws. */
export async function execute(assignment: Assignment, handler: Handler | undefined, control: AbortController) {
  const { signal } = control;
  const limit = assignment.timeoutMs && Math.min(assignment.timeoutMs, 2 ** 31 - 1);
  const began = performance.now();
  const timer = limit && setTimeout(() => control.abort(new Stop("TaskTimeout", `${limit} ms have passed`)), limit);
  let outcome: Outcome;
  try {
    outcome = completed(await call(assignment, handler, signal));
  } catch (error) {
    outcome = signal.aborted ? stopped(signal.reason as Stop, true) : failed(error);
  }
  clearTimeout(timer);
  return { outcome, elapsed: duration(performance.now() - began) };
}

async function call(assignment: Assignment, handler: Handler | undefined, signal: AbortSignal): Promise<unknown> {
  if (!handler) throw final(new Error(`this worker has no task ${assignment.name}`));
  const { contentType, codec } = assignment;
  if (codec || !["", "application/json"].includes(contentType)) throw final(new TypeError(`a payload of ${contentType} ${codec}`));
  let args: unknown;
  try {
    args = bound(parsed(assignment.payload), assignment.node);
  } catch (error) {
    throw final(error);
  }
  return handler(args, { ...assignment, signal });
}

const parsed = (json: Uint8Array): unknown => JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(json));

/** The arguments with the results that a node is given. Throws where there are some and the payload is no object. */
function bound(args: unknown, node: NodeRun | undefined): unknown {
  if (!node?.results.length) return args;
  if (typeof args !== "object" || args === null || Array.isArray(args)) throw new TypeError("the payload of a node must be a JSON object");
  const given = new Map<string, unknown>();
  for (const { parameter, result, contentType, taskName } of node.results) {
    if (!["", "application/json"].includes(contentType)) throw new TypeError(`a result of ${taskName} of ${contentType}`);
    const name = parameter.replace(/\[\]$/, "");
    if (name === parameter) given.set(name, parsed(result));
    else given.set(name, [...((given.get(name) as unknown[]) ?? []), parsed(result)]);
  }
  return { ...args, ...Object.fromEntries(given) };
}

/** A returned value counts, whatever was asked meanwhile. */
function completed(value: unknown): Outcome {
  let result: Buffer;
  try {
    result = Buffer.from(JSON.stringify(value) ?? "null");
  } catch (error) {
    return failed(final(error));
  }
  if (result.length > MESSAGE_BYTES - 2 ** 20) return failed(final(new RangeError(`a result of ${result.length} bytes`)));
  return { $case: "completed", value: result };
}

function failed(thrown: unknown): Outcome {
  const { error, isFinal, delayMs } = thrown instanceof Verdict ? thrown : new Verdict(thrown, false);
  const retryDelay = delayMs === undefined ? undefined : duration(delayMs);
  return { $case: "failed", value: { error: runError(error), retryable: !isFinal, retryDelay } };
}

function runError(error: unknown) {
  if (!(error instanceof Error)) return { type: typeof error, message: String(error), traceback: "", place: "" };
  return { type: error.name, message: error.message, traceback: error.stack ?? "", place: "" };
}

/** The end of a run that obeyed, or never began. */
export function stopped(why: Stop, started: boolean): Outcome {
  if (why.name === "TaskCancelled") return { $case: "cancelled", value: { reason: why.message } };
  if (why.name === "TaskTimeout") return { $case: "timedOut", value: { error: runError(why), retryDelay: undefined } };
  return { $case: "released", value: { started, reason: why.message, retryDelay: undefined } };
}
