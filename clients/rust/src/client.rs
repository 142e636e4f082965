//! The producer: sends tasks, looks them up, waits for them, cancels them and runs them again.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout_at, Instant};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::v1::task_service_client::TaskServiceClient;
use crate::v1::workflow_service_client::WorkflowServiceClient;
use crate::v1::*;
use crate::{endpoints, protect, Bearer, Error, MESSAGE_BYTES};

type Connection = InterceptedService<Channel, Bearer>;

/// The services of one broker.
#[derive(Clone)]
struct Stub {
    tasks: TaskServiceClient<Connection>,
    workflows: WorkflowServiceClient<Connection>,
}

const CALL_DEADLINE: Duration = Duration::from_secs(10);
const MOST_IDS: usize = 1000;
const FRAME_TASKS: usize = 100;
const FRAME_BYTES: usize = 1 << 20;

/// Talks to the brokers of one cluster. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client {
    stubs: Vec<Stub>,
    current: Arc<AtomicUsize>,
}

/// A new id: a UUID of version 7, as the broker demands.
pub fn new_task_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// A task with a fresh id and a JSON payload; set the other fields as you like.
pub fn new_task(name: &str, queue: &str, payload: &impl serde::Serialize) -> Result<NewTask, Error> {
    let payload = serde_json::to_vec(payload).map_err(|e| Error::invalid("payload", &e.to_string()))?;
    let (task_id, name, queue) = (new_task_id(), name.to_owned(), queue.to_owned());
    Ok(NewTask { task_id, name, queue, payload, ..Default::default() })
}

/// Whether a task has ended for good. A status of a later version counts as not final.
pub fn is_final(task: &Task) -> bool {
    use TaskStatus::*;
    matches!(task.status(), Completed | Failed | TimedOut | Cancelled | Lost)
}

impl Client {
    /// A client of "grpc://host:port" (several with commas). Connects when it is first used.
    pub fn new(brokers: &str, token: &str) -> Result<Self, Error> {
        protect(brokers, token)?;
        let bearer = Bearer::new(token)?;
        let stub = |channel| {
            let connection = InterceptedService::new(channel, bearer.clone());
            Stub {
                tasks: TaskServiceClient::new(connection.clone()).max_decoding_message_size(MESSAGE_BYTES),
                workflows: WorkflowServiceClient::new(connection).max_decoding_message_size(MESSAGE_BYTES),
            }
        };
        let stubs = endpoints(brokers)?.iter().map(|each| stub(each.connect_lazy())).collect();
        Ok(Self { stubs, current: Arc::default() })
    }

    /// Stores one task; returns after the commit. Safe to repeat with the same id.
    pub async fn submit(&self, task: NewTask) -> Result<SubmitResult, Error> {
        let mut result = self.submit_batch(vec![task]).await?.remove(0);
        result.error.take().map_or(Ok(result), |error| Err(error.into()))
    }

    /// Stores up to 1,000 tasks; one result for each, in their order. A bad one harms no other.
    pub async fn submit_batch(&self, tasks: Vec<NewTask>) -> Result<Vec<SubmitResult>, Error> {
        let request = SubmitTasksRequest { tasks };
        let call = |mut stub: Stub, request| async move { stub.tasks.submit_tasks(request).await };
        Ok(self.repeat(request, call).await?.results)
    }

    /// Stores any number of tasks over one stream, in frames that do not wait for each other.
    pub async fn submit_stream(&self, tasks: Vec<NewTask>) -> Result<Vec<SubmitResult>, Error> {
        self.repeat(tasks, streamed).await
    }

    /// One task with its runs and payload.
    pub async fn get(&self, task_id: &str) -> Result<Task, Error> {
        let request = GetTaskRequest { task_id: task_id.to_owned() };
        let call = |mut stub: Stub, request| async move { stub.tasks.get_task(request).await };
        let answer = self.repeat(request, call).await?;
        answer.task.ok_or_else(|| Status::internal("an answer without its task").into())
    }

    /// Tasks, newest first, page by page.
    pub async fn list(&self, request: ListTasksRequest) -> Result<ListTasksResponse, Error> {
        let call = |mut stub: Stub, request| async move { stub.tasks.list_tasks(request).await };
        self.repeat(request, call).await
    }

    /// Asks for tasks to end. Once answered, a cancelled task never runs again.
    pub async fn cancel(&self, task_ids: &[String], reason: &str) -> Result<Vec<CancelResult>, Error> {
        let request = CancelTasksRequest { task_ids: task_ids.to_vec(), reason: reason.to_owned() };
        let call = |mut stub: Stub, request| async move { stub.tasks.cancel_tasks(request).await };
        Ok(self.repeat(request, call).await?.results)
    }

    /// Makes finished tasks run once more. Not repeated by itself: a second one may requeue again.
    pub async fn retry(&self, task_ids: &[String]) -> Result<Vec<RetryResult>, Error> {
        let mut request = Request::new(RetryTasksRequest { task_ids: task_ids.to_vec() });
        request.set_timeout(CALL_DEADLINE);
        Ok(self.stub().tasks.retry_tasks(request).await?.into_inner().results)
    }

    /// Takes dead letters off their list.
    pub async fn dismiss(&self, task_ids: &[String]) -> Result<Vec<DismissResult>, Error> {
        let request = DismissTasksRequest { task_ids: task_ids.to_vec() };
        let call = |mut stub: Stub, request| async move { stub.tasks.dismiss_tasks(request).await };
        Ok(self.repeat(request, call).await?.results)
    }

    /// Ends up to 1,000 tasks that wait for a call from outside, all in the way that the request says.
    pub async fn complete(&self, request: CompleteTasksRequest) -> Result<Vec<CompleteResult>, Error> {
        let call = |mut stub: Stub, request| async move { stub.tasks.complete_tasks(request).await };
        Ok(self.repeat(request, call).await?.results)
    }

    /// Stores a root and its nodes, or nothing; its result may be a refusal, whose metadata name the node.
    pub async fn submit_workflow(&self, request: SubmitWorkflowRequest) -> Result<SubmitResult, Error> {
        let call = |mut stub: Stub, request| async move { stub.workflows.submit_workflow(request).await };
        Ok(self.repeat(request, call).await?.root.unwrap_or_default())
    }

    /// A workflow by the id of its root or of any node: the graph and how each node stands.
    pub async fn get_workflow(&self, task_id: &str) -> Result<GetWorkflowResponse, Error> {
        let request = GetWorkflowRequest { task_id: task_id.to_owned(), ..Default::default() };
        let call = |mut stub: Stub, request| async move { stub.workflows.get_workflow(request).await };
        self.repeat(request, call).await
    }

    /// Stores a new task like an earlier one; its result may be a refusal.
    pub async fn replay(&self, request: ReplayTaskRequest) -> Result<SubmitResult, Error> {
        let call = |mut stub: Stub, request| async move { stub.tasks.replay_task(request).await };
        Ok(self.repeat(request, call).await?.result.unwrap_or_default())
    }

    /// Watches tasks until all are final or time is up; returns them as they stand, in the order asked.
    pub async fn wait(&self, task_ids: &[String], patience: Duration) -> Result<Vec<Task>, Error> {
        let deadline = Instant::now() + patience;
        let mut watches = JoinSet::new();
        for ids in task_ids.chunks(MOST_IDS) {
            watches.spawn(self.clone().watch(ids.to_vec(), deadline));
        }
        let mut seen = HashMap::new();
        while let Some(watched) = watches.join_next().await {
            seen.extend(watched.expect("a watch does not panic")?);
        }
        let mut tasks = Vec::with_capacity(task_ids.len());
        for id in task_ids {
            tasks.push(match seen.get(id) {
                Some(task) => Task::clone(task),
                None => self.get(id).await?,
            });
        }
        Ok(tasks)
    }

    async fn watch(self, ids: Vec<String>, deadline: Instant) -> Result<HashMap<String, Task>, Error> {
        let mut seen = HashMap::new();
        loop {
            let stream = timeout_at(deadline, self.watch_once(&ids, &mut seen)).await;
            if stream.is_err() || (seen.len() == ids.len() && seen.values().all(is_final)) {
                return Ok(seen);
            }
            if let Ok(Err(status)) = stream {
                self.rotate_or_fail(status.into(), true)?;
            }
            sleep(jittered(Duration::from_millis(200))).await;
        }
    }

    async fn watch_once(&self, ids: &[String], seen: &mut HashMap<String, Task>) -> Result<(), Status> {
        let request = WatchTasksRequest { task_ids: ids.to_vec(), ..Default::default() };
        let mut changes = self.stub().tasks.watch_tasks(request).await?.into_inner();
        while let Some(change) = changes.message().await? {
            seen.extend(change.tasks.into_iter().map(|task| (task.task_id.clone(), task)));
        }
        Ok(())
    }

    fn stub(&self) -> Stub {
        self.stubs[self.current.load(Ordering::Relaxed) % self.stubs.len()].clone()
    }

    /// Turns to the next broker, where the failure may pass and there is time.
    fn rotate_or_fail(&self, error: Error, in_time: bool) -> Result<(), Error> {
        if !in_time || !error.may_pass() {
            return Err(error);
        }
        self.current.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Makes a call that may be repeated: until the deadline, on whichever broker answers.
    async fn repeat<Q, A, F, Fut>(&self, message: Q, call: F) -> Result<A, Error>
    where
        Q: Clone,
        F: Fn(Stub, Request<Q>) -> Fut,
        Fut: Future<Output = Result<Response<A>, Status>>,
    {
        let deadline = Instant::now() + CALL_DEADLINE;
        let mut pause = Duration::from_millis(50);
        loop {
            let mut request = Request::new(message.clone());
            request.set_timeout(deadline - Instant::now());
            match timeout_at(deadline, call(self.stub(), request)).await {
                Err(_) => return Err(Status::deadline_exceeded("no answer in time").into()),
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => {
                    self.rotate_or_fail(status.into(), Instant::now() + pause < deadline)?;
                }
            }
            sleep(jittered(pause)).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }
}

/// One attempt to store tasks over a stream.
async fn streamed(
    mut stub: Stub,
    request: Request<Vec<NewTask>>,
) -> Result<Response<Vec<SubmitResult>>, Status> {
    let (metadata, extensions, tasks) = request.into_parts();
    let frames = into_frames(tasks);
    let mut results: Vec<Vec<SubmitResult>> = vec![Vec::new(); frames.len()];
    let (mut requests, mut orders) = (Vec::new(), Vec::new());
    for (sequence, frame) in frames.iter().enumerate() {
        let (groups, order) = into_groups(frame);
        requests.push(StreamSubmitRequest { sequence: sequence as i64, groups });
        orders.push(order);
    }
    let request = Request::from_parts(metadata, extensions, tokio_stream::iter(requests));
    let mut answers = stub.tasks.stream_submit(request).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        let frame = answer.sequence as usize;
        results[frame] = in_place(&frames[frame], &orders[frame], answer);
    }
    if results.iter().any(Vec::is_empty) {
        return Err(Status::unavailable("the broker ended the stream"));
    }
    Ok(Response::new(results.concat()))
}

/// Half of it up to all of it.
pub(crate) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
}

fn into_frames(tasks: Vec<NewTask>) -> Vec<Vec<NewTask>> {
    let mut frames: Vec<Vec<NewTask>> = Vec::new();
    let mut size = 0;
    for task in tasks {
        size += task.encoded_len();
        if frames.last().is_none_or(|frame| frame.len() == FRAME_TASKS || size > FRAME_BYTES) {
            size = task.encoded_len();
            frames.push(Vec::new());
        }
        frames.last_mut().expect("just pushed").push(task);
    }
    frames
}

/// Tasks of equal terms put together, and which task is at each place of the frame.
fn into_groups(tasks: &[NewTask]) -> (Vec<TaskGroup>, Vec<usize>) {
    let mut members: Vec<(NewTask, Vec<usize>)> = Vec::new();
    for (at, task) in tasks.iter().enumerate() {
        let mut terms = task.clone();
        (terms.task_id, terms.payload, terms.idempotency_key) = Default::default();
        terms.headers.clear();
        match members.iter_mut().find(|(known, _)| *known == terms) {
            Some((_, places)) => places.push(at),
            None => members.push((terms, vec![at])),
        }
    }
    let order = members.iter().flat_map(|(_, places)| places.clone()).collect();
    let group = |(terms, places): (NewTask, Vec<usize>)| {
        to_group(terms, places.iter().map(|at| &tasks[*at]).collect())
    };
    (members.into_iter().map(group).collect(), order)
}

/// Columns of what differs; one that no task needs is left out.
fn to_group(terms: NewTask, tasks: Vec<&NewTask>) -> TaskGroup {
    let mut group = TaskGroup { terms: Some(terms), ..Default::default() };
    for task in &tasks {
        // What is no id becomes zeros, which the broker refuses, alone.
        group.task_ids.extend(uuid::Uuid::parse_str(&task.task_id).unwrap_or_default().as_bytes());
        group.payloads.push(task.payload.clone());
    }
    if tasks.iter().any(|task| !task.headers.is_empty()) {
        group.headers = tasks.iter().map(|task| Headers { headers: task.headers.clone() }).collect();
    }
    if tasks.iter().any(|task| !task.idempotency_key.is_empty()) {
        group.idempotency_keys = tasks.iter().map(|task| task.idempotency_key.clone()).collect();
    }
    group
}

/// Tasks that an answer does not name are stored now.
fn in_place(tasks: &[NewTask], order: &[usize], answer: StreamSubmitResponse) -> Vec<SubmitResult> {
    let stored = |task: &NewTask| SubmitResult {
        task_id: task.task_id.clone(),
        outcome: SubmitOutcome::Stored as i32,
        ..Default::default()
    };
    let mut results: Vec<SubmitResult> = tasks.iter().map(stored).collect();
    for placed in answer.results {
        if let Some(result) = placed.result {
            results[order[placed.place as usize]] = result;
        }
    }
    results
}
