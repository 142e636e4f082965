//! One stream to one broker: being opened, or open.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout, Instant};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Status, Streaming};

use crate::v1::worker_service_client::WorkerServiceClient;
use crate::v1::{work_request, work_response, Hello, Welcome, WorkRequest, WorkResponse};
use crate::{Bearer, MESSAGE_BYTES};

/// A welcomed stream.
pub(super) struct Open {
    frames: mpsc::UnboundedSender<WorkRequest>,
    answers: Streaming<WorkResponse>,
}

impl Open {
    /// Sends a frame. It never waits and the queue cannot swell: reports are bounded by the leases held,
    /// and a stream whose heartbeats are not acknowledged is left. An ended stream swallows it.
    pub fn send(&self, frame: work_request::Frame) {
        let _ = self.frames.send(WorkRequest { frame: Some(frame) });
    }
}

#[allow(clippy::large_enum_variant)] // there is one of it
pub(super) enum Link {
    Opening(Pin<Box<dyn Future<Output = Result<Event, Status>> + Send>>),
    Open(Open),
}

pub(super) enum Event {
    /// The stream is open; its Hello was sent at this moment.
    Welcomed(Open, Box<Welcome>, Instant),
    Frame(work_response::Frame),
    /// It has ended with OK.
    Closed,
}

impl Link {
    pub fn open(broker: Endpoint, bearer: Bearer, hello: Hello, pause: Duration, patience: Duration) -> Self {
        Self::Opening(Box::pin(async move {
            sleep(pause).await;
            let late = |_| Status::unavailable("no Welcome in time");
            timeout(patience, greet(broker, bearer, hello)).await.map_err(late)?
        }))
    }

    /// The next thing that happens. Safe to drop and call again.
    pub async fn next(&mut self) -> Result<Event, Status> {
        match self {
            Self::Opening(opening) => opening.await,
            Self::Open(open) => loop {
                match open.answers.message().await? {
                    None => return Ok(Event::Closed),
                    Some(WorkResponse { frame: Some(frame) }) => return Ok(Event::Frame(frame)),
                    Some(_) => {} // a frame of a later version
                }
            },
        }
    }
}

async fn greet(broker: Endpoint, bearer: Bearer, hello: Hello) -> Result<Event, Status> {
    let channel = broker.connect().await.map_err(|e| Status::unavailable(format!("{e:?}")))?;
    let (frames, outgoing) = mpsc::unbounded_channel();
    let sent = Instant::now();
    let _ = frames.send(WorkRequest { frame: Some(work_request::Frame::Hello(hello)) });
    let mut stub =
        WorkerServiceClient::with_interceptor(channel, bearer).max_decoding_message_size(MESSAGE_BYTES);
    let mut answers = stub.work(UnboundedReceiverStream::new(outgoing)).await?.into_inner();
    loop {
        let answer = answers.message().await?;
        match answer.ok_or_else(|| Status::unavailable("the stream ended before Welcome"))?.frame {
            Some(work_response::Frame::Welcome(welcome)) => {
                return Ok(Event::Welcomed(Open { frames, answers }, Box::new(welcome), sent));
            }
            _ => continue,
        }
    }
}
