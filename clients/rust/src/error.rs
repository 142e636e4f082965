//! Why a call or an item was refused: the broker's typed reason, never to be guessed from texts.

use std::collections::HashMap;
use std::fmt;

use prost::Message;
use tonic::{Code, Status};

use crate::v1::{ErrorReason, ItemError};

/// A refused or failed call, or a refused item of one.
#[derive(Clone, Debug)]
pub struct Error {
    /// The status.
    pub code: Code,
    /// The broker's reason without its prefix, as it came; empty where no broker answered.
    pub reason: String,
    /// For people.
    pub message: String,
    /// Details by reason, see [`ErrorReason`].
    pub metadata: HashMap<String, String>,
}

impl Error {
    /// The reason as one that this client knows.
    pub fn reason(&self) -> ErrorReason {
        let name = format!("ERROR_REASON_{}", self.reason);
        ErrorReason::from_str_name(&name).unwrap_or(ErrorReason::Unspecified)
    }

    pub(crate) fn invalid(field: &str, why: &str) -> Self {
        Status::invalid_argument(format!("{field}: {why}")).into()
    }

    /// Whether the same call may be made again, at another broker or later: one that answered has lost its
    /// database or goes away, or none answered. gRPC tells the latter as UNAVAILABLE, for some broken
    /// connections as UNKNOWN, INTERNAL or CANCELLED, and never with a reason.
    pub fn may_pass(&self) -> bool {
        use Code::*;
        let cut = [Unavailable, Unknown, Internal, Cancelled].contains(&self.code);
        matches!(self.reason(), ErrorReason::StorageUnavailable | ErrorReason::Draining)
            || self.reason.is_empty() && cut
    }

    /// Whether the session that a worker names is none any more.
    pub(crate) fn is_end_of_session(&self) -> bool {
        use ErrorReason::*;
        matches!(self.reason(), SessionEnded | SessionTakenOver | SessionSecretInvalid)
    }

    /// Whether a worker that meets it must not try again: a broker says so, and all would refuse it alike.
    pub(crate) fn is_fatal(&self) -> bool {
        use Code::*;
        let refused = [InvalidArgument, Unauthenticated, PermissionDenied, FailedPrecondition, Unimplemented];
        refused.contains(&self.code) && !self.reason.is_empty() && !self.is_end_of_session()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}: {}", self.code, self.reason, self.message)
    }
}

impl std::error::Error for Error {}

impl From<ItemError> for Error {
    fn from(item: ItemError) -> Self {
        let ItemError { code, reason, message, metadata, retry_delay: _ } = item;
        Self { code: Code::from(code), reason, message, metadata }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let details = RpcStatus::decode(status.details()).unwrap_or_default().details;
        let info = details.iter().find(|any| any.type_url.ends_with("/google.rpc.ErrorInfo"));
        let info = info.and_then(|any| ErrorInfo::decode(&*any.value).ok()).unwrap_or_default();
        let message = status.message().to_owned();
        let code = if is_torn(&status) { Code::Unavailable } else { status.code() };
        Self { code, reason: info.reason, message, metadata: info.metadata }
    }
}

/// Whether the connection broke, which tonic tells by many codes, with a source.
fn is_torn(status: &Status) -> bool {
    use std::error::Error;
    status.code() != Code::DeadlineExceeded && status.source().is_some()
}

/// google.rpc.Status, as far as it is read here.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// google.rpc.ErrorInfo.
#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(map = "string, string", tag = "3")]
    metadata: HashMap<String, String>,
}
