//! A task sent, executed and waited for in one program. `cargo run --example greet`
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<(), hyrex::Error> {
    let url = std::env::var("HYREX_BROKER_URL").unwrap_or("grpc://127.0.0.1:50051".to_owned());
    let greet = |name: String, _: hyrex::Run| async move { Ok(format!("Hello {name}")) };
    let worker = hyrex::Worker::new(&url, "", "w1", 10).task("greet", greet).start().await?;

    let client = hyrex::Client::new(&url, "")?;
    let sent = client.submit(hyrex::new_task("greet", "default", &"Ann")?).await?;
    let task = client.wait(&[sent.task_id], Duration::from_secs(10)).await?.remove(0);
    println!("{:?}: {}", task.status(), String::from_utf8_lossy(&task.runs[0].result));
    worker.drain().await
}
