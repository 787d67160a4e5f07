//! Executors: one pinned glommio thread per shard, and what happens if one panics.
//!
//! Rules that keep stock glommio 0.9 from losing wakes or leaking, measured for this project:
//! one default task queue and no latency queues; a preemption timer that never fires; a spin
//! before parking; no accept or connect through glommio (the shell's own epoll set has them), so
//! none is ever dropped while pending; a watchdog.

use std::cell::Cell;
use std::collections::VecDeque;
use std::net::TcpListener;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Once;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use lanecast_core::{Shard, ShardConfig};

use crate::StartError;
use crate::files::Files;
use crate::limits::{IO_RING_DEPTH, SPIN_BEFORE_PARK, START_MAX};
use crate::message::Message;
use crate::park::Nudge;
use crate::pulse::{Clock, Lifecycle};
use crate::ring::Links;
use crate::shell::{Shell, ShellParts};
use crate::snapshot::SnapshotProducer;
use crate::sockets::Sockets;

/// Longer than any process lives: glommio's preemption timer is what can park it for good.
const PREEMPT_NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// What an executor is given.
pub(crate) struct ExecutorParts {
    pub(crate) config: ShardConfig,
    pub(crate) cpu: usize,
    pub(crate) io_memory: usize,
    pub(crate) listener: TcpListener,
    pub(crate) links: Links<Message>,
    pub(crate) snapshots: SnapshotProducer,
    pub(crate) data_dir: PathBuf,
    pub(crate) clock: Clock,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) tick: Option<Duration>,
}

pub(crate) type ExecutorHandle = ExecutorJoinHandle<std::io::Result<()>>;

/// Starts all executors and waits until each has begun its loop.
pub(crate) fn start_all(
    parts: Vec<ExecutorParts>,
    lifecycle: &Lifecycle,
) -> Result<Vec<ExecutorHandle>, StartError> {
    abort_on_panic_of_a_shard();
    let count = parts.len();
    let (started, starts) = sync_channel(count);
    let mut handles = VecDeque::with_capacity(count);
    let mut failed = None;
    for part in parts {
        let shard = part.config.shard.0;
        match start(part, started.clone()) {
            Ok(handle) => handles.push_back((shard, handle)),
            Err(detail) => {
                failed = Some(StartError::Executor { shard, detail });
                break;
            }
        }
    }
    drop(started);
    if failed.is_none() {
        match wait_for(&starts, count) {
            Ok(()) => return Ok(handles.into_iter().map(|(_, handle)| handle).collect()),
            Err(silent) => failed = Some(silent),
        }
    }
    // Not all came up: the others end, and who failed says why.
    lifecycle.stop();
    let mut error = failed.expect("there was a failure");
    for (shard, handle) in handles {
        if let Err(detail) = join(handle) {
            error = StartError::Executor { shard, detail };
        }
    }
    Err(error)
}

fn wait_for(starts: &Receiver<()>, count: usize) -> Result<(), StartError> {
    let deadline = Instant::now() + START_MAX;
    for started in 0..count {
        let left = deadline.saturating_duration_since(Instant::now());
        let silent = match starts.recv_timeout(left) {
            Ok(()) => continue,
            Err(RecvTimeoutError::Disconnected) => "it ended while it started".to_owned(),
            Err(RecvTimeoutError::Timeout) => {
                format!("only {started} of {count} started within {START_MAX:?}")
            }
        };
        return Err(StartError::Executor { shard: started as u16, detail: silent });
    }
    Ok(())
}

fn start(parts: ExecutorParts, started: SyncSender<()>) -> Result<ExecutorHandle, String> {
    let name = format!("lanecast-shard-{}", parts.config.shard.0);
    LocalExecutorBuilder::new(Placement::Fixed(parts.cpu))
        .name(&name)
        .preempt_timer(PREEMPT_NEVER)
        .spin_before_park(SPIN_BEFORE_PARK)
        .io_memory(parts.io_memory)
        .ring_depth(IO_RING_DEPTH)
        .spawn(move || async move {
            IS_SHARD.set(true);
            let shard_number = parts.config.shard.0;
            let post = Arc::clone(&parts.lifecycle.posts()[usize::from(shard_number)]);
            let nudge = Rc::new(Nudge::default());
            let shell = Shell::new(ShellParts {
                shard: Shard::new(parts.config),
                links: parts.links,
                sockets: Sockets::new(parts.listener)?,
                files: Files::open(&parts.data_dir, Rc::clone(&nudge)).await?,
                nudge,
                clock: parts.clock,
                shard_number,
                post,
                lifecycle: parts.lifecycle,
                snapshots: parts.snapshots,
                tick: parts.tick,
            });
            // Nobody listens any more if another executor failed; then this one ends soon, too.
            let _heard = started.send(());
            drop(started);
            shell.run().await;
            Ok(())
        })
        .map_err(|error| error.to_string())
}

/// Waits for an executor's end.
pub(crate) fn join(handle: ExecutorHandle) -> Result<(), String> {
    match handle.join() {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

thread_local! {
    static IS_SHARD: Cell<bool> = const { Cell::new(false) };
}

/// A shard that panicked leaves its partitions dark while the others seem fine; and what it held
/// may be half done. The process ends, in every build, and recovery starts from the log.
fn abort_on_panic_of_a_shard() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            report(info);
            if IS_SHARD.get() {
                eprintln!("lanecast: a shard panicked; the process ends (see above)");
                std::process::abort();
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    const ASKED: &str = "LANECAST_TEST_PANIC";

    #[test]
    fn a_panic_in_a_shard_ends_the_process_and_says_so() {
        if std::env::var_os(ASKED).is_some() {
            abort_on_panic_of_a_shard();
            IS_SHARD.set(true);
            panic!("as a fault in the core would");
        }
        let name = "executor::tests::a_panic_in_a_shard_ends_the_process_and_says_so";
        let output = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(ASKED, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.signal().is_some(), "{:?}", output.status);
        assert!(said.contains("as a fault in the core would"), "{said}");
        assert!(said.contains("a shard panicked"), "{said}");
    }

    #[test]
    fn a_panic_elsewhere_stays_where_it_is() {
        abort_on_panic_of_a_shard();
        assert!(std::thread::spawn(|| panic!("on purpose")).join().is_err());
    }
}
