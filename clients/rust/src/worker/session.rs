//! The session: what is held, what is reported, until when it may be trusted; over any number of streams.

mod hear;
mod say;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, Instant};
use tonic::transport::Endpoint;

use super::columns::Ended;
use super::link::{Event, Link, Open};
use super::run::Stop;
use super::Worker;
use crate::client::jittered;
use crate::v1::work_request::Frame as Say;
use crate::v1::{Report, Welcome, WorkerDrain};
use crate::{Bearer, Error};

const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const FIRST_PATIENCE: Duration = Duration::from_secs(10);
const FAR: Duration = Duration::from_secs(86_400 * 365);

struct Lease {
    task_id: String,
    stop: Option<oneshot::Sender<Stop>>,
}

pub(super) struct Session {
    worker: Worker,
    brokers: Vec<Endpoint>,
    bearer: Bearer,
    link: Link,
    failures: u32,
    welcome: Welcome,
    received_through: i64,
    /// Received and neither acknowledged as reported nor revoked, by token.
    held: HashMap<i64, Lease>,
    runs: JoinSet<Ended>,
    slots: Arc<Semaphore>,
    finished: Vec<Ended>,
    /// Sent and not acknowledged, by report id.
    reports: BTreeMap<i64, Report>,
    last_report: i64,
    last_beat: i64,
    /// Sent and not acknowledged: sequence and moment of sending.
    beats: VecDeque<(i64, Instant)>,
    next_beat: Instant,
    heard_at: Instant,
    trusted_until: Instant,
    move_on_at: Option<Instant>,
    draining: bool,
    release_at: Option<Instant>,
    parted: bool,
}

impl Session {
    pub fn new(worker: Worker, brokers: Vec<Endpoint>, bearer: Bearer) -> Self {
        let now = Instant::now();
        let mut session = Self {
            link: Link::Opening(Box::pin(std::future::pending())),
            slots: Arc::new(Semaphore::new(worker.capacity.into())),
            worker,
            brokers,
            bearer,
            failures: 0,
            welcome: Welcome::default(),
            received_through: 0,
            held: HashMap::new(),
            runs: JoinSet::new(),
            finished: Vec::new(),
            reports: BTreeMap::new(),
            last_report: 0,
            last_beat: 0,
            beats: VecDeque::new(),
            next_beat: now,
            heard_at: now,
            trusted_until: now + FAR,
            move_on_at: None,
            draining: false,
            release_at: None,
            parted: false,
        };
        session.connect(Duration::ZERO);
        session
    }

    /// Lives until drained or refused for good. Dropping it stops every run.
    pub async fn live(
        mut self,
        mut orders: mpsc::Receiver<()>,
        told: watch::Sender<String>,
    ) -> Result<(), Error> {
        loop {
            let far = Instant::now() + FAR;
            let silent_at = self.silent_at();
            tokio::select! {
                event = self.link.next() => match event {
                    Ok(Event::Welcomed(open, welcome, sent)) => {
                        self.begin(open, *welcome, sent);
                        told.send_replace(self.welcome.session_id.clone());
                    }
                    Ok(Event::Frame(frame)) => self.hear(frame),
                    Ok(Event::Closed) if self.parted => return Ok(()),
                    Ok(Event::Closed) => self.reconnect(),
                    Err(status) => self.survive(status.into())?,
                },
                Some(done) = self.runs.join_next() => {
                    self.note(done.expect("a run's keeper does not panic"));
                    while let Some(Ok(done)) = self.runs.try_join_next() {
                        self.note(done);
                    }
                }
                Some(()) = orders.recv() => self.drain("asked to"),
                _ = sleep_until(self.next_beat) => self.beat(),
                _ = sleep_until(silent_at) => self.reconnect(),
                _ = sleep_until(self.trusted_until) => self.distrust(),
                _ = sleep_until(self.move_on_at.unwrap_or(far)) => self.reconnect(),
                _ = sleep_until(self.release_at.unwrap_or(far)) => {
                    self.release_at = None;
                    self.stop_all("its worker was drained and waited no longer");
                }
            }
            self.tell();
        }
    }

    fn connect(&mut self, pause: Duration) {
        let broker = self.brokers[0].clone();
        let patience = if self.lease().is_zero() { FIRST_PATIENCE } else { self.lease() / 3 };
        self.link = Link::open(broker, self.bearer.clone(), self.hello(), pause, patience);
        self.beats.clear();
        self.next_beat = Instant::now() + FAR;
        self.heard_at = Instant::now() + FAR;
        self.move_on_at = None;
        self.parted = false;
    }

    /// Leaves the stream for another: at once the first time, then ever more slowly.
    fn reconnect(&mut self) {
        let first = Duration::from_millis(50).mul_f64(fastrand::f64());
        let later = jittered(LONGEST_PAUSE.min(Duration::from_millis(50 << self.failures.min(10))));
        let pause = if self.failures == 0 { first } else { later };
        self.failures += 1;
        self.brokers.rotate_left(1);
        self.connect(pause);
    }

    fn survive(&mut self, error: Error) -> Result<(), Error> {
        if error.is_fatal() {
            return Err(error);
        }
        if error.is_end_of_session() {
            self.forget();
        }
        self.reconnect();
        Ok(())
    }

    /// The session is over, and so is every lease of it.
    fn forget(&mut self) {
        self.welcome.session_id.clear();
        self.welcome.session_secret.clear();
        self.received_through = 0;
        for token in self.held.keys().copied().collect::<Vec<_>>() {
            self.revoke(token);
        }
    }

    fn begin(&mut self, open: Open, welcome: Welcome, sent: Instant) {
        if welcome.session_id != self.welcome.session_id {
            self.forget();
        }
        welcome.revoked.iter().for_each(|lease| self.revoke(lease.token));
        self.welcome = welcome;
        self.heard_at = Instant::now();
        self.trust(sent);
        if self.draining {
            open.send(Say::Drain(WorkerDrain { reason: "it was draining before".to_owned() }));
        }
        self.link = Link::Open(open);
        self.beat();
        self.reports.values().for_each(|report| self.say(Say::Report(report.clone())));
    }

    fn note(&mut self, run: Ended) {
        if self.held.contains_key(&run.token) {
            self.finished.push(run);
        }
    }

    fn lease(&self) -> Duration {
        self.lease_part(&self.welcome.lease_duration)
    }

    fn lease_part(&self, part: &Option<prost_types::Duration>) -> Duration {
        part.and_then(|part| Duration::try_from(part).ok()).unwrap_or_default()
    }
}
