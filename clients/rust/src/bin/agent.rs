//! The conformance agent: obeys commands on stdin with the client library, see tests/conformance/AGENT.md.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyrex::v1::*;
use hyrex::{is_final, new_task_id, Client, Error, Failure, Run, RunningWorker, Worker};
use serde_json::{json, Map, Value};

type Answer = Result<Value, Error>;
type Executed = Arc<Mutex<Vec<String>>>;

struct Agent {
    brokers: String,
    token: String,
    client: Client,
    worker: Option<RunningWorker>,
    executed: Executed,
}

#[tokio::main]
async fn main() {
    let brokers = std::env::var("HYREX_BROKER_URL").expect("HYREX_BROKER_URL");
    let token = std::env::var("HYREX_TOKEN").unwrap_or_default();
    let client = Client::new(&brokers, &token).expect("HYREX_BROKER_URL");
    let mut agent = Agent { brokers, token, client, worker: None, executed: Executed::default() };
    print(json!({"ready": true, "language": "rust", "client": "hyrex-rust/0.1.0"}));
    for line in std::io::stdin().lock().lines() {
        let command: Value = serde_json::from_str(&line.expect("stdin")).expect("JSON");
        print(
            match tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(agent.obey(&command))
            }) {
                Ok(answer) => json!({"id": command["id"], "ok": answer}),
                Err(error) => json!({"id": command["id"], "error": error_json(error)}),
            },
        );
    }
    std::process::exit(0);
}

fn print(line: Value) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("stdout");
}

impl Agent {
    async fn obey(&mut self, command: &Value) -> Answer {
        let ids = || strings(&command["task_ids"]);
        match text(&command["op"]) {
            "submit" => self.submit(command).await,
            "get" => Ok(json!({"task": task_json(self.client.get(text(&command["task_id"])).await?)})),
            "list" => self.list(command).await,
            "wait" => {
                self.wait(ids(), millis(&command["timeout_ms"]).unwrap_or(Duration::from_secs(10))).await
            }
            "cancel" => {
                let results = self.client.cancel(&ids(), text(&command["reason"])).await?;
                outcomes(results.into_iter().map(|each| {
                    let outcome = short(each.outcome().as_str_name(), "CANCEL_OUTCOME_");
                    (each.task_id, outcome)
                }))
            }
            "retry" => {
                let results = self.client.retry(&ids()).await?;
                outcomes(results.into_iter().map(|each| {
                    let outcome = short(each.outcome().as_str_name(), "RETRY_OUTCOME_");
                    (each.task_id, outcome)
                }))
            }
            "dismiss" => {
                let results = self.client.dismiss(&ids()).await?;
                outcomes(results.into_iter().map(|each| {
                    let outcome = short(each.outcome().as_str_name(), "DISMISS_OUTCOME_");
                    (each.task_id, outcome)
                }))
            }
            "complete" => self.complete(ids(), command).await,
            "submit_workflow" => self.submit_workflow(command).await,
            "get_workflow" => {
                let found = self.client.get_workflow(text(&command["task_id"])).await?;
                let nodes: Vec<Value> = found.nodes.into_iter().map(node_json).collect();
                let root = found.root.map(task_json);
                Ok(json!({"root": root, "nodes": nodes, "fail_fast": found.fail_fast}))
            }
            "replay" => self.replay(command).await,
            "worker_start" => self.start(command).await,
            "worker_stats" => {
                let running = self.worker.as_ref().is_some_and(RunningWorker::is_running);
                Ok(json!({"executed": *self.executed.lock().unwrap(), "running": running}))
            }
            "worker_drain" => {
                if let Some(worker) = self.worker.take() {
                    worker.drain().await?;
                }
                Ok(json!({}))
            }
            "worker_stop" => {
                self.worker.take().into_iter().for_each(RunningWorker::abort);
                Ok(json!({}))
            }
            op => Err(Error {
                code: tonic::Code::Unimplemented,
                reason: "UNKNOWN_OP".to_owned(),
                message: format!("no operation {op}"),
                metadata: HashMap::new(),
            }),
        }
    }

    async fn submit(&self, command: &Value) -> Answer {
        let tasks: Vec<NewTask> = command["tasks"].as_array().into_iter().flatten().map(task_from).collect();
        let results = match command["stream"].as_bool() {
            Some(true) => self.client.submit_stream(tasks).await?,
            _ => self.client.submit_batch(tasks).await?,
        };
        Ok(json!({"results": results.into_iter().map(submitted_json).collect::<Vec<_>>()}))
    }

    async fn complete(&self, task_ids: Vec<String>, command: &Value) -> Answer {
        let error = |told: &Value| RunError {
            r#type: text(&told["type"]).to_owned(),
            message: text(&told["message"]).to_owned(),
            ..Default::default()
        };
        let result =
            |told: &Value| OutsideResult { result: told.to_string().into_bytes(), ..Default::default() };
        let end = Some(match command.get("error") {
            Some(told) => complete_tasks_request::End::Error(error(told)),
            None => complete_tasks_request::End::Result(result(&command["result"])),
        });
        let reason = text(&command["reason"]).to_owned();
        let results = self.client.complete(CompleteTasksRequest { task_ids, end, reason }).await?;
        outcomes(results.into_iter().map(|each| {
            let outcome = short(each.outcome().as_str_name(), "COMPLETE_OUTCOME_");
            (each.task_id, outcome)
        }))
    }

    async fn submit_workflow(&self, command: &Value) -> Answer {
        let request = SubmitWorkflowRequest {
            root: Some(task_from(&command["root"])),
            nodes: command["nodes"].as_array().into_iter().flatten().map(node_from).collect(),
            fail_fast: command["fail_fast"] == json!(true),
            ..Default::default()
        };
        Ok(json!({"result": submitted_json(self.client.submit_workflow(request).await?)}))
    }

    async fn replay(&self, command: &Value) -> Answer {
        let request = ReplayTaskRequest {
            task_id: text(&command["task_id"]).to_owned(),
            new_task_id: command["new_task_id"].as_str().map_or_else(new_task_id, str::to_owned),
            payload: command.get("payload").map(|payload| payload.to_string().into_bytes()),
        };
        Ok(json!({"result": submitted_json(self.client.replay(request).await?)}))
    }

    async fn list(&self, command: &Value) -> Answer {
        let status = |name: String| TaskStatus::from_str_name(&format!("TASK_STATUS_{name}"));
        let request = ListTasksRequest {
            queue: text(&command["queue"]).to_owned(),
            name: text(&command["name"]).to_owned(),
            statuses: strings(&command["statuses"]).into_iter().filter_map(status).map(i32::from).collect(),
            page_size: number(&command["page_size"]),
            page_token: text(&command["page_token"]).to_owned(),
            ..Default::default()
        };
        let page = self.client.list(request).await?;
        let tasks: Vec<Value> = page.tasks.into_iter().map(task_json).collect();
        Ok(json!({"tasks": tasks, "next_page_token": page.next_page_token}))
    }

    async fn wait(&self, ids: Vec<String>, patience: Duration) -> Answer {
        let tasks = self.client.wait(&ids, patience).await?;
        let done = tasks.iter().all(is_final);
        Ok(json!({"done": done, "tasks": tasks.into_iter().map(task_json).collect::<Vec<_>>()}))
    }

    async fn start(&mut self, command: &Value) -> Answer {
        let capacity = number(&command["capacity"]) as u16;
        let mut worker = Worker::new(&self.brokers, &self.token, text(&command["name"]), capacity)
            .queues(strings(&command["queues"]));
        for (name, behaviour) in command["tasks"].as_object().into_iter().flatten() {
            let (behaviour, executed) = (text(behaviour).to_owned(), self.executed.clone());
            worker = worker.task(name, move |payload: Value, run: Run| {
                executed.lock().unwrap().push(run.task_id.clone());
                behave(behaviour.clone(), payload, run)
            });
        }
        let running = worker.start().await?;
        let session_id = running.session_id();
        self.worker = Some(running);
        Ok(json!({"session_id": session_id}))
    }
}

async fn behave(behaviour: String, payload: Value, run: Run) -> Result<Value, Failure> {
    let failure = |text: &str, delay: &Value| {
        let failure = Failure::new("ConformanceError", text);
        millis(delay).into_iter().fold(failure, Failure::retry_after)
    };
    match behaviour.as_str() {
        "echo" => Ok(payload["value"].clone()),
        "pair" => Ok(json!([payload["a"], payload["b"]])),
        "fail" => Err(failure(text(&payload["message"]), &payload["retry_delay_ms"])),
        "fail_final" => Err(failure(text(&payload["message"]), &payload["retry_delay_ms"]).last()),
        "retry_after" if run.attempt_number == 0 => Err(failure("not yet", &payload["delay_ms"])),
        "retry_after" => Ok(json!({"attempt_number": run.attempt_number})),
        "sleep" => {
            tokio::time::sleep(millis(&payload["ms"]).unwrap_or_default()).await;
            Ok(json!({"slept": payload["ms"]}))
        }
        "attempt" => Ok(json!({
            "task_id": run.task_id, "run_number": run.run_number, "attempt_number": run.attempt_number,
        })),
        "headers" => Ok(json!(run.headers)),
        _ => Err(Failure::new("UnknownBehaviour", &behaviour).last()),
    }
}

fn task_from(task: &Value) -> NewTask {
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

fn node_from(node: &Value) -> WorkflowNode {
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

fn node_json(node: WorkflowNodeState) -> Value {
    let upstream = |told: Upstream| json!({"node": told.node, "parameter": told.parameter, "runs_anyway": told.runs_anyway});
    let upstreams: Vec<Value> = node.upstreams.into_iter().map(upstream).collect();
    json!({"task": node.task.map(task_json), "name": node.name, "upstreams": upstreams, "approval": node.approval})
}

fn task_json(task: Task) -> Value {
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

fn run_json(run: TaskRun) -> Value {
    let status = short(run.status().as_str_name(), "RUN_STATUS_");
    let error = run
        .error
        .map(|error| json!({"type": error.r#type, "message": error.message, "traceback": error.traceback}));
    json!({
        "run_number": run.run_number, "attempt_number": run.attempt_number, "status": status,
        "result": from_json(&run.result), "error": error, "reason": run.reason, "worker": run.worker,
    })
}

fn error_json(error: Error) -> Value {
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

fn submitted_json(result: SubmitResult) -> Value {
    let outcome = short(result.outcome().as_str_name(), "SUBMIT_OUTCOME_");
    let error = result.error.map(|error| error_json(error.into()));
    json!({"task_id": result.task_id, "outcome": outcome, "error": error})
}

fn outcomes(results: impl Iterator<Item = (String, String)>) -> Answer {
    let results = results.map(|(id, outcome)| json!({"task_id": id, "outcome": outcome}));
    Ok(json!({"results": results.collect::<Vec<_>>()}))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|each| text(each).to_owned()).collect()
}

fn number(value: &Value) -> i32 {
    value.as_i64().unwrap_or_default() as i32
}

fn millis(value: &Value) -> Option<Duration> {
    value.as_f64().map(|ms| Duration::from_secs_f64(ms / 1000.0))
}

fn map(value: &Value) -> HashMap<String, String> {
    let empty = Map::new();
    let entries = value.as_object().unwrap_or(&empty);
    entries.iter().map(|(key, value)| (key.clone(), text(value).to_owned())).collect()
}

fn from_json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or(Value::Null)
}

fn short(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_owned()
}

fn from_base64(encoded: &str) -> Vec<u8> {
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
