//! The worker: one session that outlives its streams, told to the broker truthfully.
//!
//! Held leases are what Hello and every heartbeat tell; they end when their report is acknowledged or
//! the broker revokes them. A stream that breaks ends nothing but itself.

mod columns;
mod link;
mod run;
mod session;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::{endpoints, protect, Bearer, Error};
use columns::Assignment;
use session::Session;

pub use run::{Failure, Run};

type Outcome = Result<Vec<u8>, Failure>;
type Function = Arc<dyn Fn(Assignment) -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync>;

/// A worker to be: where it connects to, what it serves, which functions it has.
pub struct Worker {
    brokers: String,
    token: String,
    name: String,
    queues: Vec<String>,
    capacity: u16,
    drain_timeout: Option<Duration>,
    functions: HashMap<String, Function>,
}

impl Worker {
    /// A worker for "grpc://host:port" (several with commas) that runs up to `capacity` tasks at once.
    pub fn new(brokers: &str, token: &str, name: &str, capacity: u16) -> Self {
        Self {
            brokers: brokers.to_owned(),
            token: token.to_owned(),
            name: name.to_owned(),
            queues: vec!["*".to_owned()],
            capacity,
            drain_timeout: None,
            functions: HashMap::new(),
        }
    }

    /// The queues to serve, names or patterns, instead of all.
    pub fn queues(mut self, queues: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.queues = queues.into_iter().map(Into::into).collect();
        self
    }

    /// Runs that still go on so long after the beginning of a drain are stopped and given back.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = Some(timeout);
        self
    }

    /// Registers a function. It is stopped (cancel, timeout, lost lease) at its next await.
    pub fn task<A, R, F, Fut>(mut self, name: &str, function: F) -> Self
    where
        A: DeserializeOwned,
        R: Serialize,
        F: Fn(A, Run) -> Fut + Send + Sync + Clone + 'static,
        Fut: Future<Output = Result<R, Failure>> + Send,
        A: Send,
    {
        let function: Function = Arc::new(move |assignment| {
            let function = function.clone();
            Box::pin(async move {
                let (arguments, run) = run::decode(assignment)?;
                let result = function(arguments, run).await?;
                serde_json::to_vec(&result).map_err(|e| Failure::new("ResultNotJson", &e.to_string()).last())
            })
        });
        self.functions.insert(name.to_owned(), function);
        self
    }

    /// Connects; returns after the first Welcome. Errors: what the broker refuses for good.
    pub async fn start(self) -> Result<RunningWorker, Error> {
        protect(&self.brokers, &self.token)?;
        let (endpoints, bearer) = (endpoints(&self.brokers)?, Bearer::new(&self.token)?);
        let (drain, orders) = mpsc::channel(1);
        let (told, mut session_id) = watch::channel(String::new());
        let mut life = tokio::spawn(Session::new(self, endpoints, bearer).live(orders, told));
        tokio::select! {
            end = &mut life => end.expect("a session does not panic").map(|()| unreachable!("never drained")),
            Ok(()) = session_id.changed() => Ok(RunningWorker { drain, session_id, life }),
        }
    }
}

/// A worker at work. Dropping it leaves it alone.
pub struct RunningWorker {
    drain: mpsc::Sender<()>,
    session_id: watch::Receiver<String>,
    life: JoinHandle<Result<(), Error>>,
}

impl RunningWorker {
    /// The session's id now.
    pub fn session_id(&self) -> String {
        self.session_id.borrow().clone()
    }

    /// Whether it has not left yet.
    pub fn is_running(&self) -> bool {
        !self.life.is_finished()
    }

    /// Takes no new work, finishes and reports what runs, says Goodbye; returns when the session has ended.
    pub async fn drain(self) -> Result<(), Error> {
        let _ = self.drain.send(()).await;
        self.join().await
    }

    /// Waits until it has left, as when an operator asked it to.
    pub async fn join(self) -> Result<(), Error> {
        self.life.await.expect("a session does not panic")
    }

    /// Stops at once, as a crash would: runs are dropped, nothing is reported.
    pub fn abort(self) {
        self.life.abort();
    }
}
