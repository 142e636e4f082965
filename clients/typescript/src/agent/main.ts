// The conformance agent of this client: tests/conformance/AGENT.md is its contract.
import { createInterface } from "node:readline";
import { status } from "@grpc/grpc-js";
import { CancelOutcome, Client, CompleteOutcome, DismissOutcome, HyrexError, isFinal, itemError, RetryOutcome, SubmitOutcome, type SubmitResult, type Task, TaskStatus } from "../index.js";
import { VERSION } from "../wire.js";
import { Crew } from "./crew.js";
import { taskFrom, taskObject } from "./wire.js";

const brokers = { url: process.env.HYREX_BROKER_URL ?? "grpc://127.0.0.1:50051", token: process.env.HYREX_TOKEN };
const client = new Client(brokers);
const crew = new Crew(brokers);

const operations: Record<string, (told: any) => Promise<object>> = {
  async submit({ tasks, stream }) {
    const results = await (stream ? submitStreamed : submitBatch)(tasks.map(taskFrom));
    return { results: results.map(submitted) };
  },
  async get({ task_id }) {
    return { task: taskObject(await client.get(task_id)) };
  },
  async list({ queue, name, statuses = [], page_size, page_token }) {
    const wanted = statuses.map((one: keyof typeof TaskStatus) => TaskStatus[one]);
    const page = await client.list({ queue, name, statuses: wanted, pageSize: page_size, pageToken: page_token });
    return { tasks: page.tasks.map(taskObject), next_page_token: page.nextPageToken };
  },
  async wait({ task_ids, timeout_ms }) {
    const signal = AbortSignal.timeout(timeout_ms);
    const known = new Map<string, Task>();
    try {
      for await (const task of client.watch(task_ids, { signal })) known.set(task.taskId, task);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
    const tasks = (task_ids as string[]).flatMap((id) => known.get(id) ?? []);
    return { done: tasks.length === task_ids.length && tasks.every(isFinal), tasks: tasks.map(taskObject) };
  },
  async cancel({ task_ids, reason }) {
    const results = await client.cancel(task_ids, reason);
    return { results: results.map(({ taskId, outcome }) => ({ task_id: taskId, outcome: CancelOutcome[outcome] })) };
  },
  async retry({ task_ids }) {
    const results = await client.retry(task_ids);
    return { results: results.map(({ taskId, outcome }) => ({ task_id: taskId, outcome: RetryOutcome[outcome] })) };
  },
  async dismiss({ task_ids }) {
    const results = await client.dismiss(task_ids);
    return { results: results.map(({ taskId, outcome }) => ({ task_id: taskId, outcome: DismissOutcome[outcome] })) };
  },
  async complete({ task_ids, result, error, reason }) {
    const end = error
      ? ({ $case: "error", value: error } as const)
      : ({ $case: "result", value: { result: Buffer.from(JSON.stringify(result)) } } as const);
    const results = await client.complete({ taskIds: task_ids, reason, end });
    return { results: results.map(({ taskId, outcome }) => ({ task_id: taskId, outcome: CompleteOutcome[outcome] })) };
  },
  async submit_workflow({ root, nodes, fail_fast }) {
    const sent = nodes.map((node: any) => ({
      name: node.name, task: taskFrom(node.task), approval: node.approval,
      upstreams: (node.upstreams ?? []).map((one: any) => ({ node: one.node, parameter: one.parameter, runsAnyway: one.runs_anyway })),
    }));
    return { result: submitted(await client.submitWorkflow({ root: taskFrom(root), nodes: sent, failFast: fail_fast })) };
  },
  async get_workflow({ task_id }) {
    const found = await client.getWorkflow(task_id);
    const nodes = found.nodes.map(({ task, name, upstreams, approval }) => ({
      task: taskObject(task!), name, approval,
      upstreams: upstreams.map(({ node, parameter, runsAnyway }) => ({ node, parameter, runs_anyway: runsAnyway })),
    }));
    return { root: taskObject(found.root!), nodes, fail_fast: found.failFast };
  },
  async replay({ task_id, new_task_id, payload }) {
    const edited = payload === undefined ? undefined : Buffer.from(JSON.stringify(payload));
    const changes = { ...(new_task_id && { newTaskId: new_task_id }), ...(edited && { payload: edited }) };
    return { result: submitted(await client.replay(task_id, changes)) };
  },
  worker_start: (told) => crew.start(told),
  worker_stats: async () => crew.stats(),
  worker_drain: () => crew.drain(),
  worker_stop: () => crew.stop(),
};

function submitted(result: SubmitResult) {
  const error = itemError(result);
  return { task_id: result.taskId, outcome: SubmitOutcome[result.outcome], error: error ? refused(error) : null };
}

const submitBatch = (tasks: Parameters<Client["submitBatch"]>[0]) => client.submitBatch(tasks);

/** Sends tasks over a stream, and all of them over another where it breaks. */
async function submitStreamed(tasks: Parameters<Client["submitBatch"]>[0], left = 5): ReturnType<typeof submitStream> {
  try {
    return await submitStream(tasks);
  } catch (error) {
    if (left === 0 || !(error instanceof HyrexError) || !error.mayPass) throw error;
    return submitStreamed(tasks, left - 1);
  }
}

async function submitStream(tasks: Parameters<Client["submitBatch"]>[0]) {
  const stream = client.openStream();
  const answers = [];
  for (let start = 0; start < tasks.length; start += 100) answers.push(stream.send(tasks.slice(start, start + 100)));
  stream.close();
  return (await Promise.all(answers)).flat();
}

function refused(error: unknown) {
  const { code, reason, message, metadata } =
    error instanceof HyrexError ? error : new HyrexError(status.UNKNOWN, error instanceof Error ? (error.stack ?? "") : String(error));
  return { code: status[code], reason, message, metadata };
}

const say = (answer: object) => process.stdout.write(`${JSON.stringify(answer)}\n`);

say({ ready: true, language: "ts", client: VERSION });
for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  const { id, op, ...told } = JSON.parse(line);
  try {
    const operation = operations[op];
    if (!operation) throw new HyrexError(status.UNIMPLEMENTED, `no op ${op}`, "UNKNOWN_OP");
    say({ id, ok: await operation(told) });
  } catch (error) {
    say({ id, error: refused(error) });
  }
}
process.exit(0);
