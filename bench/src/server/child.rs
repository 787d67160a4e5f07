//! A server process: started, asked for its CPU time, stopped; killed if nobody stops it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Error;
use crate::limits::SERVER_STOP_MAX;

pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(5);

pub struct Child {
    name: String,
    child: std::process::Child,
    log: PathBuf,
}

impl Child {
    /// Starts `command`; what it prints goes into `log`.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self, Error> {
        let failed = || Error::io(format!("starting {name}"));
        let file = File::create(log).map_err(failed())?;
        let other = file.try_clone().map_err(failed())?;
        command.stdin(Stdio::null()).stdout(file).stderr(other);
        let child = command.spawn().map_err(failed())?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time so far.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        crate::cpu::of_process(self.pid()).unwrap_or_default()
    }

    /// The same as stages of `name`.
    #[must_use]
    pub fn stages(&self, name: &str) -> Vec<(String, Duration)> {
        crate::cpu::stages_of_process(name, self.pid())
    }

    /// Bytes of its memory that are in use now.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }

    /// Waits until `ready` says so.
    ///
    /// # Errors
    /// The process ended or is not ready after `at_most`; with what it has printed.
    pub fn wait_until<T>(
        &mut self,
        what: &str,
        at_most: Duration,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + at_most;
        loop {
            if let Some(found) = ready() {
                return Ok(found);
            }
            let ended = self.child.try_wait().map_err(Error::io("looking after a server"))?;
            if let Some(status) = ended {
                return Err(self.failure(&format!("ended ({status}) before it was {what}")));
            }
            if Instant::now() >= deadline {
                return Err(self.failure(&format!("is not {what} after {at_most:?}")));
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Asks it to end, and waits for that.
    ///
    /// # Errors
    /// It does not end in time: then it is killed.
    pub fn stop(mut self) -> Result<(), Error> {
        if let Ok(pid) = i32::try_from(self.child.id())
            && let Some(pid) = Pid::from_raw(pid)
        {
            kill_process(pid, Signal::TERM)
                .map_err(|errno| Error::io("stopping a server")(errno.into()))?;
        }
        let deadline = Instant::now() + SERVER_STOP_MAX;
        while Instant::now() < deadline {
            if self.child.try_wait().map_err(Error::io("stopping a server"))?.is_some() {
                return Ok(());
            }
            thread::sleep(LOOK_INTERVAL);
        }
        Err(self.failure(&format!("did not stop within {SERVER_STOP_MAX:?}")))
    }

    fn failure(&self, detail: &str) -> Error {
        let printed = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = printed.lines().rev().take(5).collect();
        let last: Vec<&str> = lines.into_iter().rev().collect();
        let said = if last.is_empty() { String::new() } else { format!(": {}", last.join("; ")) };
        Error::Server { system: self.name.clone(), detail: format!("{detail}{said}") }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_ends_early_is_reported_with_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no disk >&2; exit 3"]);
        let mut child = Child::start("sham", &mut command, &folder.path().join("log")).unwrap();
        let ready = child.wait_until("listening", Duration::from_secs(600), || None::<()>);
        let error = ready.unwrap_err().to_string();
        assert!(error.contains("sham ended") && error.contains("no disk"), "{error}");
    }

    #[test]
    fn time_in_the_kernel_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        // It has next to nothing to do itself.
        let mut command = Command::new("dd");
        command.args(["if=/dev/zero", "of=/dev/null", "bs=1M"]);
        let mut child = Child::start("dd", &mut command, &folder.path().join("log")).unwrap();
        let pid = child.pid();
        let busy = || {
            let stages = crate::cpu::stages_of_process("dd", pid);
            let [(user, own), (kernel, for_it)] = &stages[..] else { panic!("{stages:?}") };
            assert_eq!((&**user, &**kernel), ("dd user", "dd kernel"));
            (*own + *for_it >= Duration::from_millis(100)).then_some((*own, *for_it))
        };
        let (own, for_it) = child.wait_until("busy", Duration::from_secs(600), busy).unwrap();
        assert!(for_it > own, "{for_it:?} in the kernel, {own:?} by itself");
    }
}
