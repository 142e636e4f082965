//! The session: what is held, what is reported, until when it may be trusted; over any number of streams.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, Instant};
use tonic::transport::Endpoint;

use super::columns::{report, runs, tokens, Assignment, End, Ended};
use super::link::{Event, Link, Open};
use super::run::{execute, Stop};
use super::Worker;
use crate::client::jittered;
use crate::v1::run_report::Outcome as Ending;
use crate::v1::work_request::Frame as Say;
use crate::v1::work_response::Frame as Hear;
use crate::v1::*;
use crate::{Bearer, Error};

const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const FIRST_PATIENCE: Duration = Duration::from_secs(10);
const REPORT_RUNS: usize = 1000;
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

    fn hello(&self) -> Hello {
        let Worker { name, queues, functions, .. } = &self.worker;
        let task = |name: &String| TaskDefinition { name: name.clone(), ..Default::default() };
        let lease =
            |(token, lease): (&i64, &Lease)| LeaseRef { task_id: lease.task_id.clone(), token: *token };
        let maximum = if self.draining { 0 } else { self.worker.capacity.into() };
        Hello {
            worker_name: name.clone(),
            host: std::env::var("HOSTNAME").unwrap_or_default(),
            pid: std::process::id() as i32,
            session_id: self.welcome.session_id.clone(),
            session_secret: self.welcome.session_secret.clone(),
            sdk: concat!("hyrex-rust/", env!("CARGO_PKG_VERSION")).to_owned(),
            protocol_version: 1,
            queue_patterns: queues.clone(),
            tasks: functions.keys().map(task).collect(),
            held: self.held.iter().map(lease).collect(),
            received_through: self.received_through,
            capacity: vec![PoolCapacity { maximum, ..Default::default() }],
            ..Default::default()
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

    fn hear(&mut self, frame: Hear) {
        self.heard_at = Instant::now();
        match frame {
            Hear::Assignments(assignments) => {
                self.received_through = self.received_through.max(assignments.sequence);
                for run in assignments.groups.into_iter().filter_map(runs).flatten() {
                    self.start(run);
                }
            }
            Hear::ReportAck(ack) => {
                // Accepted, duplicate or stale: settled in every case.
                for token in tokens(&self.reports.remove(&ack.report_id).unwrap_or_default()) {
                    self.held.remove(&token);
                }
            }
            Hear::HeartbeatAck(ack) => {
                while self.beats.front().is_some_and(|(sequence, _)| *sequence <= ack.sequence) {
                    let (_, sent) = self.beats.pop_front().expect("looked at");
                    self.trust(sent);
                }
                self.failures = 0;
                ack.revoked.iter().for_each(|lease| self.revoke(lease.token));
                ack.cancels.into_iter().for_each(|run| self.stop(run.token, Stop::Cancel(run.reason)));
            }
            Hear::Cancel(cancel) => {
                cancel.runs.into_iter().for_each(|run| self.stop(run.token, Stop::Cancel(run.reason)));
            }
            Hear::Drain(drain) => {
                let span = |d: Option<prost_types::Duration>| d.and_then(|d| Duration::try_from(d).ok());
                let deadline = span(drain.deadline).unwrap_or_default() / 2;
                let jitter = span(drain.reconnect_jitter).unwrap_or_default().min(deadline);
                self.move_on_at = Some(Instant::now() + jitter.mul_f64(fastrand::f64()));
            }
            Hear::Leave(leave) => self.drain(&leave.reason),
            Hear::Welcome(_) => {}
        }
    }

    fn start(&mut self, run: Assignment) {
        let function = self.worker.functions.get(&run.name).cloned();
        let wanted = if run.alone { self.worker.capacity.into() } else { 1 };
        let (stop, stopped) = oneshot::channel();
        self.held.insert(run.token, Lease { task_id: run.task_id.clone(), stop: Some(stop) });
        self.runs.spawn(execute(function, run, self.slots.clone(), wanted, stopped));
    }

    fn stop(&mut self, token: i64, why: Stop) {
        if let Some(stop) = self.held.get_mut(&token).and_then(|lease| lease.stop.take()) {
            let _ = stop.send(why);
        }
    }

    fn stop_all(&mut self, reason: &str) {
        for token in self.held.keys().copied().collect::<Vec<_>>() {
            self.stop(token, Stop::Release(reason.to_owned()));
        }
    }

    /// The lease is void: its run is stopped. Only one that had ended by itself is still reported.
    fn revoke(&mut self, token: i64) {
        self.stop(token, Stop::Void);
        self.held.remove(&token);
        self.finished.retain(|run| run.token != token || !matches!(run.end, End::Other(Ending::Released(_))));
    }

    fn note(&mut self, run: Ended) {
        if self.held.contains_key(&run.token) {
            self.finished.push(run);
        }
    }

    fn drain(&mut self, reason: &str) {
        if !self.draining {
            self.draining = true;
            self.release_at = self.worker.drain_timeout.map(|timeout| Instant::now() + timeout);
            self.say(Say::Drain(WorkerDrain { reason: reason.to_owned() }));
        }
    }

    /// When a broker that says nothing any more is left.
    fn silent_at(&self) -> Instant {
        self.heard_at + self.lease_part(&self.welcome.heartbeat_interval).mul_f64(2.5)
    }

    /// Proof of life.
    fn beat(&mut self) {
        let interval = self.lease_part(&self.welcome.heartbeat_interval);
        self.last_beat += 1;
        self.next_beat = Instant::now() + interval;
        self.beats.push_back((self.last_beat, Instant::now()));
        let held_tokens = self.held.keys().copied().collect();
        let (sequence, received_through) = (self.last_beat, self.received_through);
        self.say(Say::Heartbeat(Heartbeat { sequence, held_tokens, received_through, progress: Vec::new() }));
    }

    /// What was sent at that moment is acknowledged: leases hold from then on, less a margin.
    fn trust(&mut self, sent: Instant) {
        self.trusted_until = sent + self.lease().mul_f64(0.9);
    }

    /// Nobody has acknowledged us for too long: others may hold these leases now.
    fn distrust(&mut self) {
        self.trusted_until = Instant::now() + FAR;
        self.stop_all("its lease could not be renewed");
        if let Link::Open(_) = self.link {
            self.reconnect();
        }
    }

    /// Reports what has ended; parts when a drain has nothing left to wait for.
    fn tell(&mut self) {
        if !matches!(self.link, Link::Open(_)) {
            return;
        }
        let most = self.welcome.max_frame_bytes as usize;
        while !self.finished.is_empty() {
            let mut size = 64;
            let fits = |run: &&Ended| {
                size += run.size();
                size <= most
            };
            let count = self.finished.iter().take(REPORT_RUNS).take_while(fits).count().max(1);
            self.last_report += 1;
            let report = report(self.last_report, self.finished.drain(..count));
            self.say(Say::Report(report.clone()));
            self.reports.insert(self.last_report, report);
        }
        if self.draining && !self.parted && self.held.is_empty() && self.reports.is_empty() {
            self.parted = true;
            self.say(Say::Goodbye(Goodbye {}));
        }
    }

    fn say(&self, frame: Say) {
        if let Link::Open(open) = &self.link {
            open.send(frame);
        }
    }

    fn lease(&self) -> Duration {
        self.lease_part(&self.welcome.lease_duration)
    }

    fn lease_part(&self, part: &Option<prost_types::Duration>) -> Duration {
        part.and_then(|part| Duration::try_from(part).ok()).unwrap_or_default()
    }
}
