// Tasks between the agent's JSON and the library.
import { type NewTask, newTask, OnFull, RunStatus, type Task, type TaskRun, TaskStatus } from "../index.js";
import { duration } from "../wire.js";

const duration_or = (ms?: number) => (ms === undefined ? undefined : duration(ms));

export function taskFrom(told: any): NewTask {
  return newTask(told.name, told.payload, {
    ...(told.task_id !== undefined && { taskId: told.task_id }),
    ...(told.queue !== undefined && { queue: told.queue }),
    ...(told.payload_base64 !== undefined && { payload: Buffer.from(told.payload_base64, "base64") }),
    ...(told.delay_ms !== undefined && { start: { $case: "delay", value: duration(told.delay_ms) } as const }),
    contentType: told.content_type,
    priority: told.priority,
    maxRetries: told.max_retries,
    timeout: duration_or(told.timeout_ms),
    retryDelay: duration_or(told.retry_delay_ms),
    idempotencyKey: told.idempotency_key,
    parentId: told.parent_id,
    rootId: told.root_id,
    headers: told.headers,
    labels: told.labels,
    expiresIn: duration_or(told.expires_in_ms),
    debounceKey: told.debounce_key,
    debounceMaxWait: duration_or(told.debounce_max_wait_ms),
    concurrencyKey: told.concurrency_key,
    maxPerKey: told.max_per_key,
    fairKey: told.fair_key,
    outside: told.outside,
    onFull: told.refuses ? OnFull.REFUSE : undefined,
  });
}

function parsed(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return null;
  }
}

export function taskObject(task: Task) {
  return {
    task_id: task.taskId,
    name: task.name,
    queue: task.queue,
    priority: task.priority,
    max_retries: task.maxRetries,
    status: TaskStatus[task.status],
    parent_id: task.parentId,
    root_id: task.rootId,
    payload: parsed(task.payload),
    content_type: task.contentType,
    idempotency_key: task.idempotencyKey,
    headers: task.headers,
    labels: task.labels,
    cancel_requested: task.cancelRequested,
    waiting_for: task.waitingFor,
    runs: task.runs.map(runObject),
  };
}

function runObject(run: TaskRun) {
  const { error } = run;
  return {
    run_number: run.runNumber,
    attempt_number: run.attemptNumber,
    status: RunStatus[run.status],
    result: run.status === RunStatus.COMPLETED ? parsed(run.result) : null,
    error: error ? { type: error.type, message: error.message, traceback: error.traceback } : null,
    reason: run.reason,
    worker: run.worker,
  };
}
