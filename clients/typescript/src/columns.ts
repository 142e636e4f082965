// Groups of runs on the wire: columns to runs, and ends of runs to a report.
import { type AssignmentGroup, CompletedRuns, type NodeRun, type Report, RunReport } from "../gen/hyrex/v1/worker_service.js";
import { milliseconds } from "./wire.js";

const ID_BYTES = 16;

/** One run to execute, with its lease. */
export interface Assignment {
  taskId: string;
  token: bigint;
  name: string;
  queue: string;
  payload: Uint8Array;
  /** Empty means application/json. */
  contentType: string;
  /** Empty means none. */
  codec: string;
  /** Counts every run of the task from 0. */
  runNumber: number;
  /** Counts failed and timed-out runs before this one. */
  attemptNumber: number;
  maxRetries: number;
  priority: number;
  /** Absent means no limit. */
  timeoutMs: number | undefined;
  /** Empty at the root. */
  parentId: string;
  rootId: string;
  submittedAt: Date;
  headers: Readonly<Record<string, string>>;
  /** Run it with nothing beside it. */
  alone: boolean;
  /** Of a workflow's node: which one it is, and the results that it is given; a handler has them among its arguments. */
  node: NodeRun | undefined;
}

/** The runs of a group. A column has no value (all have the default), one (all share it), or one for each. */
export function runsOf(group: AssignmentGroup): Assignment[] {
  const count = group.tokens.length;
  const ids = unpacked(group.taskIds);
  if (ids.length !== count || group.payloads.length !== count) throw new RangeError(`columns that do not fit ${count} runs`);
  const runNumbers = column(group.runNumbers, count, 0);
  const attemptNumbers = column(group.attemptNumbers, count, 0);
  const parents = column(unpacked(group.parentIds), count, "");
  const roots = column(unpacked(group.rootIds), count, "");
  const times = column(group.submittedAtUs, count, 0n);
  const headers = column(group.headers.map((one) => one.headers), count, {});
  const nodes = column<NodeRun | undefined>(group.nodes.map((one) => (one.node ? one : undefined)), count, undefined);
  return group.tokens.map((token, place) => ({
    taskId: ids[place]!, token, name: group.name, queue: group.queue, payload: group.payloads[place]!,
    contentType: group.contentType, codec: group.codec, runNumber: runNumbers(place), attemptNumber: attemptNumbers(place),
    maxRetries: group.maxRetries, priority: group.priority, timeoutMs: group.timeout && milliseconds(group.timeout),
    parentId: parents(place), rootId: roots(place) || ids[place]!, submittedAt: new Date(Number(times(place) / 1000n)),
    headers: headers(place), alone: group.alone, node: nodes(place),
  }));
}

function column<T>(values: T[], count: number, usual: T): (place: number) => T {
  if (values.length > 1 && values.length !== count) throw new RangeError(`a column of ${values.length} values for ${count} runs`);
  return values.length > 1 ? (place) => values[place]! : () => values[0] ?? usual;
}

function unpacked(packed: Uint8Array): string[] {
  const digits = Buffer.from(packed).toString("hex");
  const ids: string[] = [];
  for (let at = 0; at < digits.length; at += 2 * ID_BYTES) {
    const id = digits.slice(at, at + 2 * ID_BYTES);
    ids.push(/^0*$/.test(id) ? "" : id.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-"));
  }
  return ids;
}

/** What a run returned, in bytes, or how else it ended. */
export type Outcome = NonNullable<RunReport["outcome"]> | { $case: "completed"; value: Buffer };

/** How one run ended. */
export interface Ending extends Pick<RunReport, "taskId" | "token" | "elapsed"> {
  outcome: Outcome;
}

/** Bytes that an ending takes in a report, or a little less. */
export function sizeOf(ending: Ending): number {
  const { outcome } = ending;
  return outcome.$case === "completed" ? outcome.value.length + 40 : RunReport.encode({ ...ending, outcome }).finish().length + 8;
}

/** A report: runs that returned as columns, the others one by one. */
export function reportOf(reportId: bigint, ends: Ending[]): Report {
  const report: Report = { reportId, runs: [], completed: [] };
  const completed = CompletedRuns.fromPartial({});
  const ids: string[] = [];
  for (const { taskId, token, elapsed, outcome } of ends) {
    if (outcome.$case !== "completed") {
      report.runs.push({ taskId, token, elapsed, outcome });
      continue;
    }
    ids.push(taskId.replaceAll("-", ""));
    completed.tokens.push(token);
    completed.elapsedUs.push(BigInt(Math.max(0, Math.round(elapsed ? milliseconds(elapsed) * 1000 : 0))));
    completed.results.push(outcome.value);
  }
  completed.taskIds = Buffer.from(ids.join(""), "hex");
  if (ids.length > 0) report.completed.push(completed);
  return report;
}

/** The tokens of all runs of a report. */
export function tokensOf({ runs, completed }: Report): bigint[] {
  return [...runs.map(({ token }) => token), ...completed.flatMap(({ tokens }) => tokens)];
}
