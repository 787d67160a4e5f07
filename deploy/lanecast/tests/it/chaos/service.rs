//! One role of a round over all its lives.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::plan::Role;

/// A role: a process that lives now, or none, and those that were told to leave and have not yet.
pub(super) struct Service {
    pub(super) role: Role,
    folder: PathBuf,
    lives: u32,
    life: Option<Life>,
    leaving: Vec<Life>,
}

/// One process.
struct Life {
    child: Child,
    ready_file: PathBuf,
    ready: Option<Ready>,
    log: PathBuf,
}

/// Where a process serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ready {
    /// The broker's protocol, ClickHouse's HTTP.
    pub(super) addr: Option<SocketAddr>,
    pub(super) admin_addr: Option<SocketAddr>,
}

/// A process that ended without being told to, or not as it was told to.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) role: Role,
    pub(super) status: ExitStatus,
    pub(super) log: PathBuf,
}

impl Service {
    pub(super) fn new(role: Role, folder: &Path) -> Self {
        Self { role, folder: folder.to_owned(), lives: 0, life: None, leaving: Vec::new() }
    }

    pub(super) fn lives(&self) -> u32 {
        self.lives
    }

    /// A process is there and has not been told to leave; it may be frozen.
    pub(super) fn is_up(&self) -> bool {
        self.life.is_some()
    }

    pub(super) fn is_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    pub(super) fn start(&mut self, mut command: Command) {
        assert!(self.life.is_none(), "{} runs already", self.role);
        self.lives += 1;
        let name = format!("{}.{}", self.role, self.lives);
        let ready_file = self.folder.join(format!("{name}.ready.json"));
        let log = self.folder.join(format!("{name}.log"));
        let output = File::create(&log).unwrap();
        command.env("LANECAST_READY_FILE", &ready_file);
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let child = command.spawn().unwrap();
        self.life = Some(Life { child, ready_file, ready: None, log });
    }

    /// Where it serves, once it does.
    pub(super) fn ready(&mut self) -> Option<Ready> {
        self.life.as_mut()?.ready()
    }

    /// Kills the process, frozen or not; false if there is none.
    pub(super) fn kill(&mut self) -> bool {
        let Some(mut life) = self.life.take() else { return false };
        life.kill();
        true
    }

    /// Tells the process to finish what it has and go.
    pub(super) fn leave(&mut self) -> bool {
        let Some(life) = self.life.take() else { return false };
        life.signal(Signal::TERM);
        self.leaving.push(life);
        true
    }

    pub(super) fn signal(&self, signal: Signal) -> bool {
        let Some(life) = &self.life else { return false };
        life.signal(signal);
        true
    }

    /// Thaws whatever of it was frozen.
    pub(super) fn thaw(&self) {
        for life in self.life.iter().chain(&self.leaving) {
            life.signal(Signal::CONT);
        }
    }

    /// Looks for processes that have ended by themselves. `may_finish` is for one that has an end.
    pub(super) fn look(&mut self, may_finish: bool) -> Vec<Ended> {
        let mut ended = Vec::new();
        if let Some(life) = &mut self.life
            && let Some(status) = life.child.try_wait().unwrap()
        {
            if !(may_finish && status.success()) {
                ended.push(Ended { role: self.role, status, log: life.log.clone() });
            }
            self.life = None;
        }
        self.leaving.retain_mut(|life| match life.child.try_wait().unwrap() {
            Some(status) if status.success() || life.was_cut_short(status) => false,
            Some(status) => {
                ended.push(Ended { role: self.role, status, log: life.log.clone() });
                false
            }
            None => true,
        });
        ended
    }
}

impl Life {
    fn ready(&mut self) -> Option<Ready> {
        if self.ready.is_none() {
            let bytes = std::fs::read(&self.ready_file).ok()?;
            let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            let addr = |key: &str| json[key].as_str().map(|text| text.parse().unwrap());
            self.ready = Some(Ready { addr: addr("addr"), admin_addr: addr("admin_addr") });
        }
        self.ready
    }

    /// The signal came before the process could say what it does about signals.
    fn was_cut_short(&mut self, status: ExitStatus) -> bool {
        status.signal() == Some(Signal::TERM.as_raw()) && self.ready().is_none()
    }

    fn signal(&self, signal: Signal) {
        // It may have ended by itself in this moment, but nobody has waited for it yet.
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}
