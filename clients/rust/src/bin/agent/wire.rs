//! What the agent reads and says, as messages of the wire.

use std::collections::HashMap;
use std::time::Duration;

use hyrex::v1::*;
use hyrex::{new_task_id, Error};
use serde_json::{json, Map, Value};

pub fn task_from(task: &Value) -> NewTask {
    let text_or = |key: &str, default: &str| task[key].as_str().unwrap_or(default).to_owned();
    let span = |key: &str| millis(&task[key]).map(|span| span.try_into().expect("a duration"));
    NewTask {
        task_id: task["task_id"].as_str().map_or_else(new_task_id, str::to_owned),
        name: text_or("name", ""),
        queue: text_or("queue", "default"),
        payload: match task["payload_base64"].as_str() {
            Some(encoded) => from_base64(encoded),
            None => task.get("payload").unwrap_or(&json!({})).to_string().into_bytes(),
        },
        content_type: text_or("content_type", ""),
        priority: number(&task["priority"]),
        max_retries: number(&task["max_retries"]),
        timeout: span("timeout_ms"),
        start: span("delay_ms").map(new_task::Start::Delay),
        retry_delay: span("retry_delay_ms"),
        idempotency_key: text_or("idempotency_key", ""),
        parent_id: text_or("parent_id", ""),
        root_id: text_or("root_id", ""),
        headers: map(&task["headers"]),
        labels: map(&task["labels"]),
        expires_in: span("expires_in_ms"),
        debounce_key: text_or("debounce_key", ""),
        debounce_max_wait: span("debounce_max_wait_ms"),
        concurrency_key: text_or("concurrency_key", ""),
        max_per_key: number(&task["max_per_key"]),
        fair_key: text_or("fair_key", ""),
        outside: task["outside"] == json!(true),
        on_full: if task["refuses"] == json!(true) { OnFull::Refuse.into() } else { 0 },
        ..Default::default()
    }
}

pub fn node_from(node: &Value) -> WorkflowNode {
    let upstream = |told: &Value| Upstream {
        node: number(&told["node"]),
        parameter: text(&told["parameter"]).to_owned(),
        runs_anyway: told["runs_anyway"] == json!(true),
    };
    WorkflowNode {
        task: Some(task_from(&node["task"])),
        name: text(&node["name"]).to_owned(),
        upstreams: node["upstreams"].as_array().into_iter().flatten().map(upstream).collect(),
        approval: node["approval"] == json!(true),
    }
}

pub fn node_json(node: WorkflowNodeState) -> Value {
    let upstream = |told: Upstream| json!({"node": told.node, "parameter": told.parameter, "runs_anyway": told.runs_anyway});
    let upstreams: Vec<Value> = node.upstreams.into_iter().map(upstream).collect();
    json!({"task": node.task.map(task_json), "name": node.name, "upstreams": upstreams, "approval": node.approval})
}

pub fn task_json(task: Task) -> Value {
    let status = short(task.status().as_str_name(), "TASK_STATUS_");
    json!({
        "task_id": task.task_id, "name": task.name, "queue": task.queue, "priority": task.priority,
        "max_retries": task.max_retries, "status": status, "parent_id": task.parent_id,
        "root_id": task.root_id, "payload": from_json(&task.payload), "content_type": task.content_type,
        "idempotency_key": task.idempotency_key, "headers": task.headers, "labels": task.labels,
        "cancel_requested": task.cancel_requested, "waiting_for": task.waiting_for,
        "runs": task.runs.into_iter().map(run_json).collect::<Vec<_>>(),
    })
}

pub fn run_json(run: TaskRun) -> Value {
    let status = short(run.status().as_str_name(), "RUN_STATUS_");
    let error = run
        .error
        .map(|error| json!({"type": error.r#type, "message": error.message, "traceback": error.traceback}));
    json!({
        "run_number": run.run_number, "attempt_number": run.attempt_number, "status": status,
        "result": from_json(&run.result), "error": error, "reason": run.reason, "worker": run.worker,
    })
}

pub fn error_json(error: Error) -> Value {
    let camel = format!("{:?}", error.code);
    let code = camel.char_indices().flat_map(|(at, letter)| {
        let gap = (at > 0 && letter.is_uppercase()).then_some('_');
        gap.into_iter().chain([letter.to_ascii_uppercase()])
    });
    json!({
        "code": code.collect::<String>(), "reason": error.reason, "message": error.message,
        "metadata": error.metadata,
    })
}

pub fn submitted_json(result: SubmitResult) -> Value {
    let outcome = short(result.outcome().as_str_name(), "SUBMIT_OUTCOME_");
    let error = result.error.map(|error| error_json(error.into()));
    json!({"task_id": result.task_id, "outcome": outcome, "error": error})
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|each| text(each).to_owned()).collect()
}

pub fn number(value: &Value) -> i32 {
    value.as_i64().unwrap_or_default() as i32
}

pub fn millis(value: &Value) -> Option<Duration> {
    value.as_f64().map(|ms| Duration::from_secs_f64(ms / 1000.0))
}

pub fn map(value: &Value) -> HashMap<String, String> {
    let empty = Map::new();
    let entries = value.as_object().unwrap_or(&empty);
    entries.iter().map(|(key, value)| (key.clone(), text(value).to_owned())).collect()
}

pub fn from_json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or(Value::Null)
}

pub fn short(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_owned()
}

pub fn from_base64(encoded: &str) -> Vec<u8> {
    const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::with_capacity(encoded.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0);
    for digit in encoded.chars().filter_map(|letter| LETTERS.find(letter)) {
        (bits, count) = ((bits << 6) | digit as u32, count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    bytes
}
