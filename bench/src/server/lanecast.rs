//! Lanecast's broker: a process of the program that runs the bench.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;

use super::Child;
use crate::Error;
use crate::limits::SERVER_START_MAX;

/// Where a role listens, as its ready file says.
#[derive(Deserialize)]
struct Ready {
    addr: Option<SocketAddr>,
    admin_addr: Option<SocketAddr>,
}

pub struct Broker {
    child: Child,
    addr: SocketAddr,
    admin: SocketAddr,
}

impl Broker {
    /// Starts `program broker` with its data in `folder`, which may have data of an earlier one.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(program: &Path, folder: &Path, shards: usize) -> Result<Self, Error> {
        let ready_file = folder.join("broker.ready");
        // Of an earlier one.
        let _ = std::fs::remove_file(&ready_file);
        let mut command = Command::new(program);
        command.arg("broker").arg("--data-dir").arg(folder.join("broker"));
        command.args(["--port", "0", "--admin-port", "0", "--log-level", "warn"]);
        command.arg("--shards").arg(shards.to_string());
        command.arg("--ready-file").arg(&ready_file);
        let mut child = Child::start("lanecast broker", &mut command, &folder.join("broker.log"))?;
        let ready = child.wait_until("ready", SERVER_START_MAX, || read_ready(&ready_file))?;
        let (Some(addr), Some(admin)) = (ready.addr, ready.admin_addr) else {
            let detail = format!("wrote {} without its addresses", ready_file.display());
            return Err(Error::Server { system: "lanecast broker".to_owned(), detail });
        };
        Ok(Self { child, addr, admin })
    }

    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Of its health, statistics and metrics.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    #[must_use]
    pub fn cpu(&self) -> Duration {
        self.child.cpu()
    }

    /// # Errors
    /// It does not end in time.
    pub fn stop(self) -> Result<(), Error> {
        self.child.stop()
    }
}

fn read_ready(file: &PathBuf) -> Option<Ready> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}
