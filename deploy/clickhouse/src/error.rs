//! Why a server cannot start.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::exception::Exception;
use crate::ffi::LoadError;

/// Why [`crate::Server::start`] failed, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address that others can reach, and no password.
    #[error(
        "{bind} can be reached from other machines and no password is set: set one, bind to \
         127.0.0.1, or allow it explicitly"
    )]
    OpenToOthers {
        /// The address.
        bind: SocketAddr,
    },
    /// The address is taken or not ours.
    #[error("cannot listen on {bind}")]
    Bind {
        /// The address.
        bind: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The directory cannot be made or opened.
    #[error("cannot use the data directory {path}")]
    DataDir {
        /// The directory, or the file in it.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process has it.
    #[error("{path} is in use by another lanecast: stop that one, or choose another directory")]
    DataDirInUse {
        /// The directory.
        path: PathBuf,
    },
    /// A name that cannot be passed on.
    #[error("the data directory's name contains a zero byte")]
    DataDirName,
    /// libchdb has one data directory per process.
    #[error("this process already serves a data directory: libchdb takes one per process")]
    EngineOpen,
    /// libchdb cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// libchdb did not open the directory, and does not say why.
    #[error(
        "libchdb did not open {path}: it may be of a newer version, damaged, or not writable; \
         another directory tells which"
    )]
    EngineRefused {
        /// The directory.
        path: PathBuf,
    },
    /// The first query failed.
    #[error("libchdb started but does not answer: {reason}")]
    EngineSilent {
        /// What it said.
        reason: String,
    },
    /// Opening it panicked.
    #[error("opening libchdb panicked")]
    EnginePanicked,
}

impl ServeError {
    pub(crate) fn engine(exception: Exception) -> ServeError {
        ServeError::EngineSilent { reason: exception.to_string() }
    }
}
