//! What a worker hears, and until when it may trust in its leases by that.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Lease, Session, FAR};
use crate::v1::run_report::Outcome as Ending;
use crate::v1::work_response::Frame as Hear;
use crate::worker::columns::{runs, tokens, Assignment, End};
use crate::worker::link::Link;
use crate::worker::run::{execute, Stop};

impl Session {
    pub(super) fn hear(&mut self, frame: Hear) {
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

    pub(super) fn stop(&mut self, token: i64, why: Stop) {
        if let Some(stop) = self.held.get_mut(&token).and_then(|lease| lease.stop.take()) {
            let _ = stop.send(why);
        }
    }

    pub(super) fn stop_all(&mut self, reason: &str) {
        for token in self.held.keys().copied().collect::<Vec<_>>() {
            self.stop(token, Stop::Release(reason.to_owned()));
        }
    }

    /// The lease is void: its run is stopped. Only one that had ended by itself is still reported.
    pub(super) fn revoke(&mut self, token: i64) {
        self.stop(token, Stop::Void);
        self.held.remove(&token);
        self.finished.retain(|run| run.token != token || !matches!(run.end, End::Other(Ending::Released(_))));
    }

    /// What was sent at that moment is acknowledged: leases hold from then on, less a margin.
    pub(super) fn trust(&mut self, sent: Instant) {
        self.trusted_until = sent + self.lease().mul_f64(0.9);
    }

    /// Nobody has acknowledged us for too long: others may hold these leases now.
    pub(super) fn distrust(&mut self) {
        self.trusted_until = Instant::now() + FAR;
        self.stop_all("its lease could not be renewed");
        if let Link::Open(_) = self.link {
            self.reconnect();
        }
    }

    /// When a broker that says nothing any more is left.
    pub(super) fn silent_at(&self) -> Instant {
        self.heard_at + self.lease_part(&self.welcome.heartbeat_interval).mul_f64(2.5)
    }
}
