//! Hyrex from Rust: send tasks with [`Client`], execute them with [`Worker`].

mod client;
mod error;
mod worker;

/// The generated messages and stubs of hyrex.v1.
#[allow(clippy::all, missing_docs)]
pub mod v1 {
    tonic::include_proto!("hyrex.v1");
}

pub use client::{is_final, new_task, new_task_id, Client};
pub use error::Error;
pub use worker::{Failure, Run, RunningWorker, Worker};

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::Endpoint;
use tonic::{Request, Status};

/// The largest message either side sends.
const MESSAGE_BYTES: usize = 16 << 20;

/// Puts the bearer token, if there is one, on every call.
#[derive(Clone)]
struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    fn new(token: &str) -> Result<Self, Error> {
        let header = || format!("Bearer {token}").parse().map_err(|_| Error::invalid("token", "not ASCII"));
        Ok(Self(if token.is_empty() { None } else { Some(header()?) }))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(header) = &self.0 {
            request.metadata_mut().insert("authorization", header.clone());
        }
        Ok(request)
    }
}

/// Brokers from "grpc://host:port,grpc://host:port": any of them serves any call.
fn endpoints(brokers: &str) -> Result<Vec<Endpoint>, Error> {
    let addresses = brokers.split(',').map(|each| each.trim().replacen("grpc://", "http://", 1));
    addresses
        .map(|each| Endpoint::from_shared(each).map_err(|e| Error::invalid("brokers", &e.to_string())))
        .collect()
}
