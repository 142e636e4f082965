//! What a worker says: who it is, that it lives, how its runs ended.

use tokio::time::Instant;

use super::{Lease, Session};
use crate::v1::work_request::Frame as Say;
use crate::v1::{Goodbye, Heartbeat, Hello, LeaseRef, PoolCapacity, TaskDefinition, WorkerDrain};
use crate::worker::columns::{report, Ended};
use crate::worker::link::Link;
use crate::worker::Worker;

const REPORT_RUNS: usize = 1000;

impl Session {
    pub(super) fn hello(&self) -> Hello {
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

    pub(super) fn drain(&mut self, reason: &str) {
        if !self.draining {
            self.draining = true;
            self.release_at = self.worker.drain_timeout.map(|timeout| Instant::now() + timeout);
            self.say(Say::Drain(WorkerDrain { reason: reason.to_owned() }));
        }
    }

    /// Proof of life.
    pub(super) fn beat(&mut self) {
        let interval = self.lease_part(&self.welcome.heartbeat_interval);
        self.last_beat += 1;
        self.next_beat = Instant::now() + interval;
        self.beats.push_back((self.last_beat, Instant::now()));
        let held_tokens = self.held.keys().copied().collect();
        let (sequence, received_through) = (self.last_beat, self.received_through);
        self.say(Say::Heartbeat(Heartbeat { sequence, held_tokens, received_through, progress: Vec::new() }));
    }

    /// Reports what has ended; parts when a drain has nothing left to wait for.
    pub(super) fn tell(&mut self) {
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

    pub(super) fn say(&self, frame: Say) {
        if let Link::Open(open) = &self.link {
            open.send(frame);
        }
    }
}
