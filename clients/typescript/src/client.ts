// The producer: submit tasks, look them up, wait for them, cancel and retry them.
import { type CallOptions as GrpcOptions, type ClientUnaryCall, type Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { Headers, NewTask, type Task, TaskStatus } from "../gen/hyrex/v1/task.js";
import {
  type CancelTasksResponse, CompleteTasksRequest, type CompleteTasksResponse, type DismissTasksResponse, type GetTaskResponse, ListTasksRequest, type ListTasksResponse, ReplayTaskRequest,
  type ReplayTaskResponse, type RetryTasksResponse,
  type PlacedResult, SubmitOutcome, SubmitResult, type SubmitTasksResponse, TaskGroup, TaskServiceClient,
} from "../gen/hyrex/v1/task_service.js";
import { GetWorkflowRequest, type GetWorkflowResponse, SubmitWorkflowRequest, type SubmitWorkflowResponse, WorkflowServiceClient } from "../gen/hyrex/v1/workflow_service.js";
import { addresses, backoff, bearer, type Brokers, CHANNEL_OPTIONS, HyrexError, MOST_ITEMS, newId, pause, refusal } from "./wire.js";

export interface CallOptions {
  signal?: AbortSignal;
  /** 10 s by default; a watch has none. */
  timeoutMs?: number;
}

/** A task that ended otherwise than by completing. */
export class TaskError extends Error {
  override name = "TaskError";
  constructor(readonly task: Task) {
    const last = task.runs.at(-1);
    const why = last?.error ? `${last.error.type}: ${last.error.message}` : (last?.reason ?? "");
    super(`task ${task.taskId} (${task.name}) ${TaskStatus[task.status]}: ${why}`);
  }
}

/** A task with a new id in the queue "default"; the arguments are an object of its parameters. */
export function newTask(name: string, args: object = {}, options: Parameters<typeof NewTask.fromPartial>[0] = {}): NewTask {
  return NewTask.fromPartial({ taskId: newId(), name, queue: "default", payload: Buffer.from(JSON.stringify(args)), ...options });
}

/** Why one item of a batch was refused; undefined where it was not. */
export function itemError({ outcome, error }: SubmitResult): HyrexError | undefined {
  if (outcome !== SubmitOutcome.REJECTED || !error) return undefined;
  return new HyrexError(error.code, error.message, error.reason, error.metadata);
}

const FINAL: ReadonlySet<TaskStatus> = new Set([
  TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.TIMED_OUT, TaskStatus.CANCELLED, TaskStatus.LOST,
]);

/** Whether a task has ended. A status that this version does not know is not final. */
export const isFinal = ({ status }: Task) => FINAL.has(status);

/** What a final task returned. Throws TaskError where it did not complete. */
export function resultOf<R>(task: Task): R {
  if (task.status !== TaskStatus.COMPLETED) throw new TaskError(task);
  return JSON.parse(new TextDecoder().decode(task.runs.at(-1)?.result));
}

type Done<A> = (error: ServiceError | null, response: A) => void;
type Start<A> = (client: TaskServiceClient, metadata: Metadata, options: Partial<GrpcOptions>, done: Done<A>) => ClientUnaryCall;

export interface ClientOptions extends Brokers {
  /** How often a call is tried that no broker answers, within its time; 6 by default. */
  attempts?: number;
}

/** Every error is a HyrexError, or the reason of the caller's signal. */
export class Client {
  #clients: TaskServiceClient[];
  #workflows: WorkflowServiceClient[];
  #metadata: Metadata;
  #current = 0;

  constructor(readonly options: ClientOptions) {
    this.#clients = addresses(options).map((address) => new TaskServiceClient(...address, CHANNEL_OPTIONS));
    this.#workflows = addresses(options).map((address) => new WorkflowServiceClient(...address, CHANNEL_OPTIONS));
    this.#metadata = bearer(options);
  }

  get #client() {
    return this.#clients[this.#current % this.#clients.length]!;
  }

  get #workflowClient() {
    return this.#workflows[this.#current % this.#workflows.length]!;
  }

  close(): void {
    for (const client of [...this.#clients, ...this.#workflows]) client.close();
  }

  /** Store one task durably; its id: that of the first task, where its idempotency key had been used. */
  async submit(task: NewTask, options?: CallOptions): Promise<string> {
    const [result] = await this.submitBatch([task], options);
    const error = itemError(result!);
    if (error) throw error;
    return result!.taskId;
  }

  /** Store up to 1,000 tasks; see itemError for each result. */
  async submitBatch(tasks: NewTask[], options?: CallOptions): Promise<SubmitResult[]> {
    const answer = await this.#call<SubmitTasksResponse>((client, ...rest) => client.submitTasks({ tasks }, ...rest), options);
    return answer.results;
  }

  /** Keep many frames of tasks under way at once, each answered after its commit. */
  openStream(): SubmitStream {
    const call = this.#client.streamSubmit(this.#metadata);
    call.on("status", (end) => {
      if (refusal(end).mayPass) this.#current++;
    });
    return new SubmitStream(call);
  }

  async get(taskId: string, options?: CallOptions): Promise<Task> {
    const answer = await this.#call<GetTaskResponse>((client, ...rest) => client.getTask({ taskId }, ...rest), options);
    return answer.task!;
  }

  async list(request: Parameters<typeof ListTasksRequest.fromPartial>[0], options?: CallOptions): Promise<ListTasksResponse> {
    const full = ListTasksRequest.fromPartial(request);
    return this.#call<ListTasksResponse>((client, ...rest) => client.listTasks(full, ...rest), options);
  }

  async cancel(taskIds: string[], reason = "", options?: CallOptions) {
    return (await this.#call<CancelTasksResponse>((client, ...rest) => client.cancelTasks({ taskIds, reason }, ...rest), options)).results;
  }

  async retry(taskIds: string[], options?: CallOptions) {
    return (await this.#call<RetryTasksResponse>((client, ...rest) => client.retryTasks({ taskIds }, ...rest), options)).results;
  }

  /** Take up to 1,000 dead letters off their list. */
  async dismiss(taskIds: string[], options?: CallOptions) {
    return (await this.#call<DismissTasksResponse>((client, ...rest) => client.dismissTasks({ taskIds }, ...rest), options)).results;
  }

  /** End up to 1,000 tasks that wait for a call from outside, all in the way that the request says. */
  async complete(request: Parameters<typeof CompleteTasksRequest.fromPartial>[0], options?: CallOptions) {
    const full = CompleteTasksRequest.fromPartial(request);
    return (await this.#call<CompleteTasksResponse>((client, ...rest) => client.completeTasks(full, ...rest), options)).results;
  }

  /** Store a root and its nodes, or nothing; see itemError for the result, whose metadata name the node that was refused. */
  async submitWorkflow(request: Parameters<typeof SubmitWorkflowRequest.fromPartial>[0], options?: CallOptions): Promise<SubmitResult> {
    const full = SubmitWorkflowRequest.fromPartial(request);
    const start: Start<SubmitWorkflowResponse> = (_, ...rest) => this.#workflowClient.submitWorkflow(full, ...rest);
    return (await this.#call(start, options)).root!;
  }

  /** A workflow by the id of its root or of any node: the graph and how each node stands. */
  async getWorkflow(taskId: string, options?: CallOptions): Promise<GetWorkflowResponse> {
    return this.#call<GetWorkflowResponse>((_, ...rest) => this.#workflowClient.getWorkflow(GetWorkflowRequest.fromPartial({ taskId }), ...rest), options);
  }

  /** Store a new task like an earlier one; see itemError for the result. */
  async replay(taskId: string, { newTaskId = newId(), payload }: { newTaskId?: string; payload?: Uint8Array } = {}, options?: CallOptions) {
    const request = ReplayTaskRequest.fromPartial({ taskId, newTaskId, ...(payload && { payload: Buffer.from(payload) }) });
    return (await this.#call<ReplayTaskResponse>((client, ...rest) => client.replayTask(request, ...rest), options)).result!;
  }

  /** The task once it is final. Bound it with a signal. */
  async wait(taskId: string, options: { signal?: AbortSignal } = {}): Promise<Task> {
    for await (const task of this.watch([taskId], options)) if (isFinal(task)) return task;
    throw new Error("unreachable: a watch ends when all tasks are final");
  }

  /** Each task as it stands, then at each change, until all are final. Survives brokers. */
  async *watch(taskIds: string[], { signal }: { signal?: AbortSignal } = {}): AsyncGenerator<Task, void> {
    const pending = new Set(taskIds);
    for (let failures = 0; pending.size > 0; failures++) {
      signal?.throwIfAborted();
      const call = this.#client.watchTasks({ taskIds: [...pending].slice(0, MOST_ITEMS), tellMissing: false }, this.#metadata);
      const stop = () => call.cancel();
      call.on("error", () => {}); // a cancelled call still says so after the loop
      signal?.addEventListener("abort", stop);
      try {
        for await (const { tasks } of call as AsyncIterable<{ tasks: Task[] }>) {
          failures = 0;
          for (const task of tasks) {
            if (isFinal(task)) pending.delete(task.taskId);
            yield task;
          }
        }
      } catch (error) {
        signal?.throwIfAborted();
        const refused = refusal(error as ServiceError);
        if (!refused.mayPass) throw refused;
        this.#current++;
      } finally {
        signal?.removeEventListener("abort", stop);
        call.cancel();
      }
      if (pending.size > 0) await pause(backoff(failures), signal);
    }
  }

  /** One call, repeated elsewhere while that may pass: a task id submitted twice is one task. */
  async #call<A>(start: Start<A>, { signal, timeoutMs = 10_000 }: CallOptions = {}): Promise<A> {
    const deadline = Date.now() + timeoutMs;
    for (let failures = 1; ; failures++) {
      try {
        return await this.#once(start, deadline, signal);
      } catch (error) {
        if (signal?.aborted || !(error instanceof HyrexError) || !error.mayPass) throw error;
        this.#current++;
        const wait = backoff(failures);
        if (failures >= (this.options.attempts ?? 6) || Date.now() + wait > deadline) throw error;
        await pause(wait, signal);
      }
    }
  }

  #once<A>(start: Start<A>, deadline: number, signal?: AbortSignal): Promise<A> {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const stop = () => call.cancel();
      const call = start(this.#client, this.#metadata, { deadline }, (error, response) => {
        signal?.removeEventListener("abort", stop);
        if (error) reject(signal?.aborted ? signal.reason : refusal(error));
        else resolve(response);
      });
      signal?.addEventListener("abort", stop);
    });
  }
}

/** A stream of submits. Where it breaks it is unknown what was stored. If the error mayPass, submit the same tasks
 * again, over a new stream. */
export class SubmitStream {
  #waiting = new Map<bigint, { resolve(results: PlacedResult[]): void; reject(error: HyrexError): void }>();
  #last = 0n;
  #ended?: HyrexError;

  constructor(readonly call: ReturnType<TaskServiceClient["streamSubmit"]>) {
    call.on("data", ({ sequence, results }) => {
      this.#waiting.get(sequence)?.resolve(results);
      this.#waiting.delete(sequence);
    });
    call.on("error", () => {}); // told by the status
    call.on("status", (end) => {
      this.#ended = end.code === status.OK ? new HyrexError(status.UNAVAILABLE, "the broker ended the stream") : refusal(end);
      for (const { reject } of this.#waiting.values()) reject(this.#ended);
    });
  }

  /** Send a frame of up to 1,000 tasks; the results come after their commit. */
  send(tasks: NewTask[]): Promise<SubmitResult[]> {
    if (this.#ended) return Promise.reject(this.#ended);
    const { groups, order } = intoGroups(tasks);
    this.call.write({ sequence: ++this.#last, groups });
    return new Promise<PlacedResult[]>((resolve, reject) => this.#waiting.set(this.#last, { resolve, reject })).then((placed) => {
      // Tasks that an answer does not name are stored now.
      const results = tasks.map((task) => SubmitResult.fromPartial({ taskId: task.taskId, outcome: SubmitOutcome.STORED }));
      for (const { place, result } of placed) results[order[place]!] = result!;
      return results;
    });
  }

  /** No more will be sent; what was sent is still answered. */
  close(): void {
    this.call.end();
  }
}

/** Tasks of equal terms put together, and which task is at each place of the frame. */
function intoGroups(tasks: NewTask[]): { groups: TaskGroup[]; order: number[] } {
  const members = new Map<string, { terms: NewTask; places: number[] }>();
  tasks.forEach((task, at) => {
    const terms = { ...task, taskId: "", payload: Buffer.alloc(0), headers: {}, idempotencyKey: "" };
    const key = Buffer.from(NewTask.encode(terms).finish()).toString("latin1");
    if (!members.has(key)) members.set(key, { terms, places: [] });
    members.get(key)!.places.push(at);
  });
  const all = [...members.values()];
  const groups = all.map(({ terms, places }) => intoGroup(terms, places.map((at) => tasks[at]!)));
  return { groups, order: all.flatMap(({ places }) => places) };
}

/** Columns of what differs; one that no task needs is left out. */
function intoGroup(terms: NewTask, tasks: NewTask[]): TaskGroup {
  return TaskGroup.fromPartial({
    terms,
    taskIds: Buffer.concat(tasks.map(({ taskId }) => packedId(taskId))),
    payloads: tasks.map(({ payload }) => payload),
    headers: tasks.some(({ headers }) => Object.keys(headers).length > 0) ? tasks.map(({ headers }) => Headers.fromPartial({ headers })) : [],
    idempotencyKeys: tasks.some(({ idempotencyKey }) => idempotencyKey) ? tasks.map(({ idempotencyKey }) => idempotencyKey) : [],
  });
}

/** What is no id becomes zeros, which the broker refuses, alone. */
function packedId(id: string): Buffer {
  const packed = Buffer.from(id.replaceAll("-", ""), "hex");
  return packed.length === 16 ? packed : Buffer.alloc(16);
}
