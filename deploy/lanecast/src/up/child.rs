//! A role as a child process: start, wait until it serves, stop.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Instant;

use tokio::process::{Child, ChildStdout, Command};

use super::limits;
use crate::ready::Ready;

/// The environment name by which a child learns that it must not outlive its parent.
pub(crate) const PARENT_PID: &str = "LANECAST_PARENT_PID";

/// What a role is started with.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// For people, the log's name and the ready file's name.
    pub(super) name: &'static str,
    pub(super) arguments: Vec<String>,
    /// Secrets go by the environment: arguments can be read by every user of the machine.
    pub(super) environment: Vec<(&'static str, String)>,
    /// It writes a ready file.
    pub(super) serves: bool,
    /// Flags of the ports that clients and admins connect to.
    pub(super) ports: Vec<(&'static str, String)>,
}

impl Plan {
    /// A later start uses the ports that this one got, so that peers find it again.
    pub(super) fn keep_ports(&mut self, ready: &Ready) {
        for (flag, port) in &mut self.ports {
            let addr = if *flag == "admin-port" { ready.admin_addr } else { ready.addr };
            if let Some(addr) = addr {
                *port = addr.port().to_string();
            }
        }
    }
}

/// A running role.
pub(super) struct Role {
    pub(super) plan: Plan,
    pub(super) process: Child,
    pub(super) started: Instant,
    pub(super) log: PathBuf,
    /// Where this process' part of the log begins.
    log_from: u64,
    ready_file: PathBuf,
}

impl Role {
    /// Starts the role. Its log goes to `DATA/log/NAME.log`.
    ///
    /// It gets a process group of its own, so that Ctrl-C reaches `up` alone, which then stops the
    /// roles in the order that loses nothing.
    pub(super) fn start(plan: Plan, data_dir: &Path) -> Result<Self, String> {
        let failed = |what: &str, error: std::io::Error| {
            format!("cannot start {}: {what}: {error}", plan.name)
        };
        let log = data_dir.join("log").join(format!("{}.log", plan.name));
        let ready_file = data_dir.join("run").join(format!("{}.json", plan.name));
        for folder in [log.parent(), ready_file.parent()].into_iter().flatten() {
            std::fs::create_dir_all(folder)
                .map_err(|error| failed(&folder.display().to_string(), error))?;
        }
        put_aside_if_large(&log).map_err(|error| failed(&log.display().to_string(), error))?;
        match std::fs::remove_file(&ready_file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(&ready_file.display().to_string(), error));
            }
            Ok(()) | Err(_) => {}
        }
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(|error| failed(&log.display().to_string(), error))?;
        let log_from =
            output.metadata().map_err(|error| failed(&log.display().to_string(), error))?.len();
        let program =
            std::env::current_exe().map_err(|error| failed("finding this program", error))?;
        let mut command = Command::new(program);
        command
            .args(&plan.arguments)
            .envs(plan.environment.iter().map(|(name, value)| (*name, value)))
            .env(PARENT_PID, std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(if plan.serves { Stdio::null() } else { Stdio::piped() })
            .stderr(output)
            .process_group(0)
            .kill_on_drop(true);
        for (flag, port) in &plan.ports {
            command.arg(format!("--{flag}")).arg(port);
        }
        if plan.serves {
            command.arg("--ready-file").arg(&ready_file);
        }
        let process = command.spawn().map_err(|error| failed("spawning", error))?;
        Ok(Self { plan, process, started: Instant::now(), log, log_from, ready_file })
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    pub(super) fn take_output(&mut self) -> Option<ChildStdout> {
        self.process.stdout.take()
    }

    /// Waits until the role serves.
    ///
    /// # Errors
    /// It died, with the end of its log, or did not serve in time.
    pub(super) async fn ready(&mut self) -> Result<Ready, String> {
        while self.started.elapsed() < limits::READY_TIMEOUT {
            if let Some(ready) = Ready::read(&self.ready_file)? {
                return Ok(ready);
            }
            tokio::select! {
                status = self.process.wait() => return Err(self.died(status).to_string()),
                () = tokio::time::sleep(limits::READY_POLL) => {}
            }
        }
        Err(format!(
            "{} does not serve after {:?}; its log: {}",
            self.plan.name,
            limits::READY_TIMEOUT,
            self.log.display()
        ))
    }

    /// Waits until the process ends by itself.
    pub(super) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.process.wait().await
    }

    /// What to tell about a process that ended when it should not have.
    pub(super) fn died(&self, status: std::io::Result<ExitStatus>) -> Death {
        let how = match status {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        Death { name: self.plan.name, how, log: self.log.clone(), log_from: self.log_from }
    }

    /// Asks the role to drain and waits until it has ended.
    ///
    /// # Errors
    /// It ended with a failure, or had to be killed.
    pub(super) async fn stop(&mut self) -> Result<(), String> {
        let Some(pid) = self.pid() else { return Ok(()) };
        if let Some(pid) = rustix::process::Pid::from_raw(pid.cast_signed()) {
            // An error means that it is gone already; the wait below tells.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        match tokio::time::timeout(limits::STOP_TIMEOUT, self.process.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(status) => Err(self.died(status).to_string()),
            Err(_) => {
                self.process.kill().await.map_err(|error| error.to_string())?;
                Err(format!(
                    "{} did not end {:?} after SIGTERM and was killed; its log: {}",
                    self.plan.name,
                    limits::STOP_TIMEOUT,
                    self.log.display()
                ))
            }
        }
    }
}

/// A role ended when it should not have.
#[derive(Debug, thiserror::Error)]
#[error("{name} ended ({how}); the end of {}:\n{}", log.display(), tail(log, *log_from).unwrap_or_default())]
pub(super) struct Death {
    pub(super) name: &'static str,
    pub(super) how: String,
    pub(super) log: PathBuf,
    log_from: u64,
}

/// Called by every role at its start: ends with the `up` that started it, also when that is killed.
pub(crate) fn follow_parent() {
    let Some(parent) = std::env::var(PARENT_PID).ok().and_then(|text| text.parse::<i32>().ok())
    else {
        return;
    };
    // Refusal is harmless: the process then merely outlives a killed parent.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
    // The parent may have died before the line above.
    if rustix::process::getppid().map(rustix::process::Pid::as_raw_nonzero).map(i32::from)
        != Some(parent)
    {
        std::process::exit(1);
    }
}

fn put_aside_if_large(log: &Path) -> std::io::Result<()> {
    match std::fs::metadata(log) {
        Ok(metadata) if metadata.len() > limits::LOG_BYTES_MAX => {
            std::fs::rename(log, log.with_extension("log.old"))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

fn tail(log: &Path, from: u64) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(limits::LOG_TAIL_BYTES).max(from)))?;
    let mut bytes = Vec::new();
    file.take(limits::LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(limits::LOG_TAIL_LINES);
    Ok(lines[from..].iter().map(|line| format!("    {line}\n")).collect())
}
