//! Groups of runs on the wire: columns to runs, and ends of runs to a report.

use std::collections::HashMap;

use prost::Message;
use uuid::Uuid;

use crate::v1::run_report::Outcome;
use crate::v1::{AssignmentGroup, CompletedRuns, NodeRun, Report, RunReport};

const ID_BYTES: usize = 16;
/// What a run that returned takes in a report beside its result.
const COLUMNS_BYTES: usize = 40;

/// One run to execute, with its lease.
#[derive(Clone, Debug, Default)]
pub(crate) struct Assignment {
    pub task_id: String,
    pub token: i64,
    pub name: String,
    pub queue: String,
    pub payload: Vec<u8>,
    pub codec: String,
    pub run_number: i32,
    pub attempt_number: i32,
    pub max_retries: i32,
    pub timeout: Option<prost_types::Duration>,
    pub parent_id: String,
    pub root_id: String,
    pub headers: HashMap<String, String>,
    pub alone: bool,
    pub node: Option<NodeRun>,
}

/// The runs of a group; none where its columns do not fit each other. A column has no value (all have the
/// default), one (all share it), or one for each.
pub(crate) fn runs(group: AssignmentGroup) -> Option<Vec<Assignment>> {
    let count = group.tokens.len();
    let (ids, parents) = (unpacked(&group.task_ids), unpacked(&group.parent_ids));
    let roots = unpacked(&group.root_ids);
    let columns = [group.run_numbers.len(), group.attempt_numbers.len(), parents.len(), roots.len()];
    let fits = |length: usize| length <= 1 || length == count;
    if ids.len() != count || group.payloads.len() != count {
        return None;
    }
    if !columns.into_iter().chain([group.headers.len(), group.nodes.len()]).all(fits) {
        return None;
    }
    let mut made = Vec::with_capacity(count);
    for (place, payload) in group.payloads.into_iter().enumerate() {
        let task_id = ids[place].clone();
        let root_id: String = value(&roots, place);
        let root_id = if root_id.is_empty() { task_id.clone() } else { root_id };
        made.push(Assignment {
            task_id,
            token: group.tokens[place],
            name: group.name.clone(),
            queue: group.queue.clone(),
            payload,
            codec: group.codec.clone(),
            run_number: value(&group.run_numbers, place),
            attempt_number: value(&group.attempt_numbers, place),
            max_retries: group.max_retries,
            timeout: group.timeout,
            parent_id: value(&parents, place),
            root_id,
            headers: value(&group.headers, place).headers,
            alone: group.alone,
            node: Some(value::<NodeRun>(&group.nodes, place)).filter(|node| !node.node.is_empty()),
        });
    }
    Some(made)
}

fn value<T: Clone + Default>(column: &[T], place: usize) -> T {
    if column.len() == 1 {
        return column[0].clone();
    }
    column.get(place).cloned().unwrap_or_default()
}

fn unpacked(packed: &[u8]) -> Vec<String> {
    let text = |id: &[u8]| {
        let id = Uuid::from_slice(id).expect("16 bytes");
        if id.is_nil() {
            String::new()
        } else {
            id.to_string()
        }
    };
    packed.chunks_exact(ID_BYTES).map(text).collect()
}

/// How one run ended.
pub(crate) enum End {
    /// It returned this.
    Returned(Vec<u8>),
    Other(Outcome),
}

/// One run and how it ended.
pub(crate) struct Ended {
    pub task_id: String,
    pub token: i64,
    pub elapsed: Option<prost_types::Duration>,
    pub end: End,
}

impl Ended {
    /// Bytes that it takes in a report, or a little less.
    pub fn size(&self) -> usize {
        match &self.end {
            End::Returned(result) => result.len() + COLUMNS_BYTES,
            End::Other(outcome) => self.report(outcome.clone()).encoded_len() + 8,
        }
    }

    fn report(&self, outcome: Outcome) -> RunReport {
        let (task_id, token, elapsed) = (self.task_id.clone(), self.token, self.elapsed);
        RunReport { task_id, token, elapsed, outcome: Some(outcome) }
    }
}

/// A report: runs that returned as columns, the others one by one.
pub(crate) fn report(report_id: i64, ends: impl IntoIterator<Item = Ended>) -> Report {
    let mut runs = Vec::new();
    let mut returned = CompletedRuns::default();
    for ended in ends {
        match ended.end {
            End::Other(ref outcome) => runs.push(ended.report(outcome.clone())),
            End::Returned(result) => {
                let id = Uuid::parse_str(&ended.task_id).unwrap_or_default();
                returned.task_ids.extend_from_slice(id.as_bytes());
                returned.tokens.push(ended.token);
                returned.elapsed_us.push(microseconds(ended.elapsed));
                returned.results.push(result);
            }
        }
    }
    let completed = if returned.tokens.is_empty() { Vec::new() } else { vec![returned] };
    Report { report_id, runs, completed }
}

fn microseconds(elapsed: Option<prost_types::Duration>) -> u64 {
    let elapsed = elapsed.and_then(|elapsed| std::time::Duration::try_from(elapsed).ok());
    elapsed.map_or(0, |elapsed| elapsed.as_micros() as u64)
}

/// The tokens of all runs of a report.
pub(crate) fn tokens(report: &Report) -> Vec<i64> {
    let others = report.runs.iter().map(|run| run.token);
    others.chain(report.completed.iter().flat_map(|group| group.tokens.iter().copied())).collect()
}
