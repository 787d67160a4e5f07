//! Why a broker does not start, or did not end well.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Every variant says what to change.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("a setting is wrong: {0}")]
    Config(String),
    #[error("this machine cannot run the broker:\n{0}")]
    Probe(String),
    #[error(
        "{path} is in use by another broker (process {holder}); stop that one, or give this one a \
         data directory of its own",
        path = path.display()
    )]
    DataDirLocked { path: PathBuf, holder: String },
    #[error(
        "{path} holds data of another format ({found:?}; this build reads {expected:?}); use the \
         build that wrote it, or another directory",
        path = path.display()
    )]
    DataFormat { path: PathBuf, found: String, expected: &'static str },
    #[error("{operation} {path}", path = path.display())]
    DataDir { operation: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "cannot listen on {addr} for {what}; choose another address or stop what listens there"
    )]
    Listen { what: &'static str, addr: SocketAddr, source: io::Error },
    #[error("cannot start the executor of shard {shard}: {detail}")]
    Executor { shard: u16, detail: String },
    #[error("cannot start the thread {name}")]
    Thread { name: &'static str, source: io::Error },
}

/// How a broker ended, if not well.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    #[error("the executor of shard {shard} ended early: {detail}")]
    Executor { shard: u16, detail: String },
    #[error(
        "{shards} of the shards were not drained within the grace; nothing acknowledged is lost, \
         but requests in flight got no answer"
    )]
    NotDrained { shards: usize },
}
