//! What a process has used so far, from Linux' `/proc`.

use serde::{Deserialize, Serialize};

/// One process' share of the machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub(crate) role: String,
    pub(crate) peak_rss_bytes: u64,
    /// User and system time of all its threads.
    pub(crate) cpu_seconds: f64,
}

/// Reads `/proc/PID`; `None` when the process is gone.
pub(crate) fn read(role: &str, pid: u32) -> Option<Usage> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(Usage {
        role: role.to_owned(),
        peak_rss_bytes: peak_rss_bytes(&status)?,
        cpu_seconds: cpu_ticks(&stat)? as f64 / rustix::param::clock_ticks_per_second() as f64,
    })
}

/// `VmHWM`, the high-water mark of resident memory (proc_pid_status(5)).
fn peak_rss_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

/// User plus system time: fields 14 and 15 of proc_pid_stat(5). The name in field 2 may hold spaces
/// and parentheses, so counting starts behind its last one.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) (b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 5 1000 10";
        assert_eq!(cpu_ticks(stat), Some(300));
    }

    #[test]
    fn this_process_has_a_peak() {
        let usage = read("test", std::process::id()).unwrap();
        assert!(usage.peak_rss_bytes > 100_000, "{usage:?}");
    }
}
