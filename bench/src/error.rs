//! Why a measurement failed.

use std::io;

use lanecast_wire::ProtocolError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was being done, and what the system said.
    #[error("{what}")]
    Io { what: String, source: io::Error },
    #[error("{system} broke its protocol: {detail}")]
    Protocol { system: &'static str, detail: String },
    #[error("{system} refused: {detail}")]
    Refused { system: &'static str, detail: String },
    /// A system that does not start, answer or stop.
    #[error("{system} {detail}")]
    Server { system: String, detail: String },
    /// Somebody ended the run.
    #[error("was cut short by signal {signal}")]
    Cut { signal: i32 },
    /// What was asked for cannot be measured, and what to do.
    #[error("{0}")]
    Usage(String),
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

impl From<ProtocolError> for Error {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol { system: "lanecast", detail: error.to_string() }
    }
}
