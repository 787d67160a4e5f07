//! Lanecast's broker: a process of the program that runs the bench.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::child::LOOK_INTERVAL;
use super::{Child, Stats};
use crate::Error;
use crate::limits::{ANSWER_MAX, PLACING_TRIES_MAX, SERVER_START_MAX};

/// Where a role listens, as its ready file says.
#[derive(Deserialize)]
pub(super) struct Ready {
    pub(super) addr: Option<SocketAddr>,
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

    /// The same as stages of `name`.
    #[must_use]
    pub fn stages(&self, name: &str) -> Vec<(String, Duration)> {
        self.child.stages(name)
    }

    /// Bytes of its memory that are in use now.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        self.child.resident_bytes()
    }

    /// Connects until a connection is one of `shard`: the kernel spreads them over all. The others stay
    /// open until then.
    ///
    /// # Errors
    /// As `connect`; or the kernel never chooses that shard.
    pub fn connect_to_shard<T>(
        &self,
        shard: usize,
        mut connect: impl FnMut(SocketAddr) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut others = Vec::new();
        let mut before = Stats::ask(self.admin)?.accepted();
        for _ in 0..PLACING_TRIES_MAX {
            let connection = connect(self.addr)?;
            let after = self.accepted_one_more(&before)?;
            if after.get(shard) > before.get(shard) {
                return Ok(connection);
            }
            others.push(connection);
            before = after;
        }
        let detail = format!("took none of {PLACING_TRIES_MAX} connections on shard {shard}");
        Err(Error::Server { system: "lanecast broker".to_owned(), detail })
    }

    /// Shards tell their figures now and then: asks until another connection shows.
    fn accepted_one_more(&self, before: &[u64]) -> Result<Vec<u64>, Error> {
        let deadline = Instant::now() + ANSWER_MAX;
        loop {
            let after = Stats::ask(self.admin)?.accepted();
            if after.iter().sum::<u64>() > before.iter().sum::<u64>() {
                return Ok(after);
            }
            if Instant::now() >= deadline {
                let detail = "does not count a connection that it answered".to_owned();
                return Err(Error::Server { system: "lanecast broker".to_owned(), detail });
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// # Errors
    /// It does not end in time.
    pub fn stop(self) -> Result<(), Error> {
        self.child.stop()
    }
}

pub(super) fn read_ready(file: &Path) -> Option<Ready> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}
