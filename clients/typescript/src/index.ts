export * from "./client.js";
export { final, type Handler, retryAfter, type Run, Stop } from "./runs.js";
export { type Brokers, HyrexError, newId } from "./wire.js";
export { Worker, type WorkerOptions } from "./worker.js";
export { NewTask, OnFull, RunStatus, Task, TaskRun, TaskStatus } from "../gen/hyrex/v1/task.js";
export { CancelOutcome, CompleteOutcome, DismissOutcome, RetryOutcome, SubmitOutcome, SubmitResult } from "../gen/hyrex/v1/task_service.js";
