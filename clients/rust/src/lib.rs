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

/// Refuses to send a token over a network unencrypted, unless HYREX_INSECURE=1 allows it; this client has no TLS.
fn protect(brokers: &str, token: &str) -> Result<(), Error> {
    let allowed = std::env::var("HYREX_INSECURE").is_ok_and(|value| value == "1");
    let outside = |each: &&str| {
        let address = each.trim().trim_start_matches("grpc://").trim_end_matches('/');
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        // As an address: 127.example.org and 127.0.0.1:1@example.org only begin like one.
        let here = host.parse::<std::net::Ipv4Addr>().is_ok_and(|found| found.is_loopback());
        host != "localhost" && host != "[::1]" && !here
    };
    match brokers.split(',').find(outside) {
        Some(broker) if !token.is_empty() && !allowed => {
            Err(Error::invalid("token", &format!("it would cross the network unencrypted to {broker}")))
        }
        _ => Ok(()),
    }
}

/// Brokers from "grpc://host:port,grpc://host:port": any of them serves any call.
fn endpoints(brokers: &str) -> Result<Vec<Endpoint>, Error> {
    let addresses = brokers.split(',').map(|each| each.trim().replacen("grpc://", "http://", 1));
    addresses
        .map(|each| Endpoint::from_shared(each).map_err(|e| Error::invalid("brokers", &e.to_string())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::protect;

    #[test]
    fn a_token_goes_to_this_machine_only() {
        for inside in ["grpc://localhost:1", "grpc://127.0.0.9:1/", "grpc://[::1]:1, grpc://127.0.0.1:2"] {
            assert!(protect(inside, "secret").is_ok(), "{inside}");
        }
        for outside in ["grpc://127.a.org:1", "grpc://127.0.0.1:1@a.org:1", "grpc://localhost:1,grpc://a:1"] {
            assert!(protect(outside, "secret").is_err(), "{outside}");
            assert!(protect(outside, "").is_ok(), "{outside}");
        }
    }
}
