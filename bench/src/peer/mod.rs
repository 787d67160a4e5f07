//! Other systems of the kind, measured next to Lanecast: started from what the machine has installed,
//! spoken to by clients as thin as Lanecast's own here, and stopped.
//!
//! Every peer gets records of as many bytes as a message of Lanecast carries (key and payload), as many
//! at a time, and a batch is done when the last of its records is. What its acknowledgement promises is
//! each system's own choice, and is said in the report.
//!
//! A peer that is not installed, or does not do what a case asks, is a failure in the report.

pub mod iggy;
mod kept;
pub mod nats;
pub mod rabbitmq;
pub mod redis;
mod repeated;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Error;
use crate::load::{Publisher, Subscriber};

pub use repeated::{Payload, Repeated};

/// A connection and its protocol.
pub type Publishing = (TcpStream, Box<dyn Publisher>);
pub type Subscribing = (TcpStream, Box<dyn Subscriber>);

/// A running peer with an empty stream in it.
pub trait Peer {
    /// A connection that publishes `records` at a time, as publisher `number`.
    ///
    /// # Errors
    /// The peer does not answer, or refuses.
    fn publisher(&self, number: u32, records: u32, payload: &Payload) -> Result<Publishing, Error>;

    /// A connection that gets every record from the first on.
    ///
    /// # Errors
    /// As for [`Self::publisher`].
    fn subscriber(&self) -> Result<Subscribing, Error>;

    /// CPU time so far, by stage.
    fn stages(&self) -> Vec<(String, Duration)>;

    /// # Errors
    /// It does not end in time.
    fn stop(self: Box<Self>) -> Result<(), Error>;
}

/// How safe records are when a peer acknowledges them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safety {
    /// Never on a disk.
    Memory,
    /// On its way to the disk, flushed when the peer likes.
    File,
    /// Flushed.
    Fsync,
}

/// Finds a program: in `first`, in the folders of `PATH`, and where servers are installed.
///
/// # Errors
/// It is nowhere.
pub fn program(name: &str, first: Option<&Path>) -> Result<PathBuf, Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/sbin", "/usr/local/bin"].map(PathBuf::from);
    let folders = first.map(Path::to_owned).into_iter();
    let mut folders = folders.chain(std::env::split_paths(&path)).chain(usual);
    folders.find_map(|folder| Some(folder.join(name)).filter(|file| file.is_file())).ok_or_else(
        || Error::Server {
            system: name.to_owned(),
            detail: "is not installed: install its package, or name the folder that has it with \
                     --peers"
                .to_owned(),
        },
    )
}

/// A free port, for servers that cannot choose one and say so.
fn free_port() -> Result<SocketAddr, Error> {
    free_ports().map(|[addr]| addr)
}

/// Free ports, all of them different.
fn free_ports<const N: usize>() -> Result<[SocketAddr; N], Error> {
    let failed = || Error::io("looking for a free port");
    let mut held = Vec::new();
    let mut addrs = [SocketAddr::from(([127, 0, 0, 1], 0)); N];
    for addr in &mut addrs {
        let listener = TcpListener::bind(*addr).map_err(failed())?;
        *addr = listener.local_addr().map_err(failed())?;
        // Until all are found, or it would be found again.
        held.push(listener);
    }
    Ok(addrs)
}

/// Paths go into configuration files as they are.
fn text(path: &Path) -> Result<&str, Error> {
    path.to_str().ok_or_else(|| {
        Error::Usage(format!("the folder {} has a name that is no UTF-8", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_nowhere_is_said_to_be_missing() {
        let folder = tempfile::tempdir().unwrap();
        let error = program("no-such-server", Some(folder.path())).unwrap_err().to_string();
        assert!(error.contains("no-such-server is not installed"), "{error}");
        std::fs::write(folder.path().join("no-such-server"), "").unwrap();
        assert!(program("no-such-server", Some(folder.path())).is_ok());
    }
}
