//! One run: waits for its slot, executes the function, is stopped from outside, says how it ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::sync::{oneshot, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, Instant};

use super::columns::{Assignment, End, Ended};
use super::{Function, Outcome};
use crate::v1::run_report::Outcome as Ending;
use crate::v1::{Cancelled, Failed, NodeRun, Released, RunError, TimedOut, UpstreamResult};

/// What a function may know of its run.
#[derive(Clone, Debug)]
pub struct Run {
    pub task_id: String,
    pub name: String,
    pub queue: String,
    pub run_number: i32,
    /// Failed and timed-out runs before this one.
    pub attempt_number: i32,
    pub max_retries: i32,
    pub parent_id: String,
    pub root_id: String,
    pub headers: HashMap<String, String>,
    /// Of a workflow's node: which one it is, and the results that are among its arguments.
    pub node: Option<NodeRun>,
}

/// Why a run failed. Any error becomes one with `?`, and is retried while retries remain.
#[derive(Debug)]
pub struct Failure {
    kind: String,
    message: String,
    retryable: bool,
    retry_delay: Option<Duration>,
}

impl Failure {
    /// A failure with the name of its type and a text.
    pub fn new(kind: &str, message: &str) -> Self {
        Self { kind: kind.to_owned(), message: message.to_owned(), retryable: true, retry_delay: None }
    }

    /// Not to be retried.
    pub fn last(mut self) -> Self {
        self.retryable = false;
        self
    }

    /// To be retried after this long.
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_delay = Some(delay);
        self
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(std::any::type_name::<E>(), &error.to_string())
    }
}

/// Why a run is stopped.
pub(super) enum Stop {
    Cancel(String),
    Release(String),
    /// Its lease is void: whatever it does, nobody wants to know.
    Void,
}

pub(super) fn decode<A: DeserializeOwned>(assignment: Assignment) -> Result<(A, Run), Failure> {
    let refuse = |kind, why: &str| Failure::new(kind, why).last();
    if !assignment.codec.is_empty() {
        return Err(refuse("UnknownCodec", &assignment.codec));
    }
    let results = assignment.node.as_ref().map_or(&[][..], |node| &node.results);
    let arguments = match results {
        [] => serde_json::from_slice(&assignment.payload).map_err(|e| e.to_string()),
        _ => bound(&assignment.payload, results),
    };
    let arguments = arguments.map_err(|why| refuse("ArgumentsInvalid", &why))?;
    let Assignment { task_id, name, queue, run_number, attempt_number, max_retries, .. } = assignment;
    let Assignment { parent_id, root_id, headers, node, .. } = assignment;
    let run = Run {
        task_id,
        name,
        queue,
        run_number,
        attempt_number,
        max_retries,
        parent_id,
        root_id,
        headers,
        node,
    };
    Ok((arguments, run))
}

/// The payload with the results that a workflow's node is given among its members.
fn bound<A: DeserializeOwned>(payload: &[u8], results: &[UpstreamResult]) -> Result<A, String> {
    let mut members: Map<String, Value> = serde_json::from_slice(payload).map_err(|e| e.to_string())?;
    let mut lists: HashMap<&str, Vec<Value>> = HashMap::new();
    for UpstreamResult { parameter, result, content_type, task_name } in results {
        if !["", "application/json"].contains(&content_type.as_str()) {
            return Err(format!("a result of {task_name} is {content_type}"));
        }
        let value = serde_json::from_slice(result).map_err(|e| format!("a result of {task_name}: {e}"))?;
        match parameter.strip_suffix("[]") {
            Some(name) => lists.entry(name).or_default().push(value),
            None => drop(members.insert(parameter.clone(), value)),
        }
    }
    members.extend(lists.into_iter().map(|(name, values)| (name.to_owned(), values.into())));
    serde_json::from_value(members.into()).map_err(|e| e.to_string())
}

/// Executes a run; returns its report when nothing of it is left running.
pub(super) async fn execute(
    function: Option<Function>,
    assignment: Assignment,
    slots: Arc<Semaphore>,
    wanted: u32,
    mut stop: oneshot::Receiver<Stop>,
) -> Ended {
    let (task_id, token) = (assignment.task_id.clone(), assignment.token);
    let report = |elapsed, end| Ended { task_id, token, elapsed, end };
    let _slots = tokio::select! {
        biased;
        why = &mut stop => return report(None, End::Other(stopped(why.unwrap_or(Stop::Void), false))),
        slots = slots.acquire_many_owned(wanted) => slots,
    };
    let Some(function) = function else {
        let unknown = Failure::new("TaskNotRegistered", &assignment.name).last();
        return report(None, End::Other(failed(unknown)));
    };
    let timeout = assignment.timeout.and_then(|limit| Duration::try_from(limit).ok());
    let began = Instant::now();
    let mut work = JoinSet::new();
    work.spawn(function(assignment));
    let ending = tokio::select! {
        done = work.join_next() => ended(done.expect("one was spawned")),
        why = stop => {
            work.shutdown().await;
            End::Other(stopped(why.unwrap_or(Stop::Void), true))
        }
        _ = sleep(timeout.unwrap_or_default()), if timeout.is_some() => {
            work.shutdown().await;
            End::Other(Ending::TimedOut(TimedOut::default()))
        }
    };
    report(began.elapsed().try_into().ok(), ending)
}

fn ended(done: Result<Outcome, JoinError>) -> End {
    match done {
        Ok(Ok(result)) => End::Returned(result),
        Ok(Err(failure)) => End::Other(failed(failure)),
        Err(panic) => End::Other(failed(Failure::new("Panic", &panic.to_string()))),
    }
}

fn failed(failure: Failure) -> Ending {
    let Failure { kind, message, retryable, retry_delay } = failure;
    let error = Some(RunError { r#type: kind, message, ..Default::default() });
    Ending::Failed(Failed { error, retryable, retry_delay: retry_delay.and_then(|d| d.try_into().ok()) })
}

fn stopped(why: Stop, started: bool) -> Ending {
    match why {
        Stop::Cancel(reason) => Ending::Cancelled(Cancelled { reason }),
        Stop::Release(reason) => Ending::Released(Released { started, reason, ..Default::default() }),
        Stop::Void => Ending::Released(Released {
            started,
            reason: "its lease is void".to_owned(),
            ..Default::default()
        }),
    }
}
