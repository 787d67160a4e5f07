//! CPU: who has used how much, and which cores there are.

use std::path::Path;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// CPU time that all threads of a process have used; ended threads are not in it. `None`: it is gone.
#[must_use]
pub fn of_process(pid: u32) -> Option<Duration> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let mut total = Duration::ZERO;
    for task in tasks.flatten() {
        // A thread may end while its process is looked at.
        total += schedstat(&task.path()).unwrap_or_default();
    }
    Some(total)
}

/// CPU time that a process has spent in the kernel, in steps of [`TICK`]. `None`: it is gone.
fn of_process_in_kernel(pid: u32) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses, which may have anything in it; `stime` is the 15th.
    let (_, behind_name) = text.rsplit_once(')')?;
    let ticks: u32 = behind_name.split_whitespace().nth(12)?.parse().ok()?;
    Some(TICK * ticks)
}

/// Of the times in `stat`: Linux counts them in hundredths of a second on every machine that this runs on.
const TICK: Duration = Duration::from_millis(10);

/// CPU time that a process has used so far, as two stages of `name`: its own code, and the kernel for it.
#[must_use]
pub fn stages_of_process(name: &str, pid: u32) -> Vec<(String, Duration)> {
    let (whole, kernel) = (of_process(pid), of_process_in_kernel(pid));
    let (whole, kernel) = (whole.unwrap_or_default(), kernel.unwrap_or_default());
    let user = whole.saturating_sub(kernel);
    vec![(format!("{name} user"), user), (format!("{name} kernel"), kernel)]
}

/// CPU time of the calling thread.
#[must_use]
pub fn of_this_thread() -> Duration {
    schedstat(Path::new("/proc/thread-self")).unwrap_or_default()
}

/// The first number of `schedstat`: nanoseconds on a core.
fn schedstat(folder: &Path) -> Option<Duration> {
    let text = std::fs::read_to_string(folder.join("schedstat")).ok()?;
    let on_core_ns: u64 = text.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(on_core_ns))
}

/// Cores that this process may use, rising.
#[must_use]
pub fn cores() -> Vec<usize> {
    let all = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core)).collect();
    if cores.is_empty() { vec![0] } else { cores }
}

/// Keeps the calling thread, and what it starts, on these cores.
pub fn stay_on(cores: &[usize]) {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    // Where it is not allowed, the scheduler decides: slower and noisier, and nothing else.
    let _ = sched_setaffinity(None, &set);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_shows_as_cpu_time() {
        let (thread, process) = (of_this_thread(), of_process(std::process::id()).unwrap());
        let mut sum = 0_u64;
        while of_this_thread() < thread + Duration::from_millis(20) {
            sum = std::hint::black_box(sum.wrapping_mul(3).wrapping_add(1));
        }
        assert!(of_process(std::process::id()).unwrap() >= process + Duration::from_millis(10));
        assert!(of_process(u32::MAX).is_none());
    }
}
