//! The conformance agent: obeys commands on stdin with the client library, see tests/conformance/AGENT.md.

mod behaviours;
mod wire;

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyrex::v1::*;
use hyrex::{is_final, new_task_id, Client, Error, Run, RunningWorker, Worker};
use serde_json::{json, Value};

use behaviours::behave;
use wire::*;

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

fn outcomes(results: impl Iterator<Item = (String, String)>) -> Answer {
    let results = results.map(|(id, outcome)| json!({"task_id": id, "outcome": outcome}));
    Ok(json!({"results": results.collect::<Vec<_>>()}))
}
