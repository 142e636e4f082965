//! What the functions of the agent's worker do with their payloads.

use hyrex::{Failure, Run};
use serde_json::{json, Value};

use crate::wire::{millis, text};

pub async fn behave(behaviour: String, payload: Value, run: Run) -> Result<Value, Failure> {
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
