//! A broker in this process: its start, its drain, its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use lanecast_core::{Budget, ShardConfig, ShardId, limits as core};
use tracing::{info, warn};

use crate::admin::{Admin, AdminListener, AdminView};
use crate::config::BrokerConfig;
use crate::data_dir::DataDir;
use crate::entropy::entropy;
use crate::error::{StartError, StopError};
use crate::executor::{self, ExecutorHandle, ExecutorParts};
use crate::limits::{DISK_ALIGN, SHARDS_MAX};
use crate::probe::{self, Finding};
use crate::pulse::{Clock, Lifecycle, Post};
use crate::snapshot::Snapshots;
use crate::{listen, ring, watchdog};

/// How often [`Broker::wait_until_ready`] looks.
const READY_INTERVAL: Duration = Duration::from_millis(1);

/// A running broker. Dropping it without [`Broker::join`] drains it too, and waits.
#[derive(Debug)]
pub struct Broker {
    addr: SocketAddr,
    admin_addr: SocketAddr,
    running: Option<Running>,
    lifecycle: Arc<Lifecycle>,
    clock: Clock,
    drain_grace: Duration,
}

#[derive(Debug)]
struct Running {
    executors: Vec<ExecutorHandle>,
    watchdog: Option<thread::JoinHandle<()>>,
    admin: Admin,
    /// Held until nothing writes any more.
    _data_dir: DataDir,
}

impl Broker {
    /// Probes the machine, takes the data directory and starts the executors. Returns once they
    /// run; recovery goes on behind it, see [`Broker::is_ready`].
    pub fn start(config: BrokerConfig) -> Result<Broker, StartError> {
        let clock = Clock::start();
        check(&config)?;
        let cpus = allowed_cpus();
        let shards = shard_count(&config, cpus.len())?;
        report(probe::io_uring())?;
        let data_dir = DataDir::open(&config.data_dir)?;
        report(probe::data_dir(data_dir.path()))?;
        let (io_memory, findings) = probe::memlock(usize::from(shards));
        report(findings)?;
        report(probe::open_files(usize::from(shards)))?;

        let listeners = listen::bind_all(config.bind, usize::from(shards))?;
        let listen_failed =
            |source| StartError::Listen { what: "clients", addr: config.bind, source };
        let addr = listeners[0].local_addr().map_err(listen_failed)?;

        let posts: Vec<Arc<Post>> = (0..shards).map(|_| Arc::new(Post::default())).collect();
        let bells: Vec<_> = posts.iter().map(|post| Arc::clone(&post.bell)).collect();
        let links = ring::mesh(&bells);
        let (snapshot_producers, snapshots) = Snapshots::new(&posts);
        let lifecycle = Arc::new(Lifecycle::new(posts));
        let budget = budget(&config, shards);
        let admin = Admin::bind(config.admin_bind)?;
        let admin_addr = admin.addr();

        let parts = (0..shards).zip(listeners).zip(links).zip(snapshot_producers);
        let parts = parts.map(|(((shard, listener), links), snapshots)| ExecutorParts {
            config: ShardConfig {
                directory: data_dir.id(),
                ..shard_config(&config, &budget, ShardId(shard), shards)
            },
            cpu: cpus[usize::from(shard) % cpus.len()],
            io_memory,
            listener,
            links,
            snapshots,
            data_dir: data_dir.path().to_owned(),
            clock,
            lifecycle: Arc::clone(&lifecycle),
            tick: config.tick,
        });
        let executors = executor::start_all(parts.collect(), &lifecycle)?;
        let view = AdminView { clock, lifecycle: Arc::clone(&lifecycle), budget };
        let helpers = start_helpers(config.watchdog, admin, view, snapshots);
        let (watchdog, admin) = match helpers {
            Ok(helpers) => helpers,
            Err(error) => {
                lifecycle.stop();
                for handle in executors {
                    // Told to stop before it did anything; the first error is the one to tell.
                    let _ended = executor::join(handle);
                }
                return Err(error);
            }
        };
        info!(%addr, %admin_addr, shards, data_dir = %data_dir.path().display(), "broker started");
        Ok(Broker {
            addr,
            admin_addr,
            running: Some(Running { executors, watchdog, admin, _data_dir: data_dir }),
            lifecycle,
            clock,
            drain_grace: config.drain_grace,
        })
    }

    /// Where clients connect.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where probes, statistics and metrics are served.
    #[must_use]
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin_addr
    }

    /// Every partition has been recovered, and no drain has begun.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.lifecycle.is_draining() && self.lifecycle.posts().iter().all(|post| post.is_ready())
    }

    /// Blocks until [`Broker::is_ready`], or until the time is up; says which.
    #[must_use]
    pub fn wait_until_ready(&self, at_most: Duration) -> bool {
        let deadline = Instant::now() + at_most;
        while !self.is_ready() {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(READY_INTERVAL);
        }
        true
    }

    /// Turns of each executor's loop so far: a sign of life that costs nobody anything.
    #[must_use]
    pub fn turns(&self) -> Vec<u64> {
        self.lifecycle.posts().iter().map(|post| post.beats()).collect()
    }

    /// Begins to drain, and returns at once: no new connections, requests in flight are answered,
    /// connections are closed in good order. [`Broker::join`] waits for the end of it.
    pub fn drain(&self) {
        let deadline_us = self.clock.mono_us() + self.drain_grace.as_micros() as u64;
        if self.lifecycle.drain(deadline_us) {
            info!("broker drains");
        }
    }

    /// Blocks until the broker has ended: after [`Broker::drain`], or because an executor failed.
    pub fn join(mut self) -> Result<(), StopError> {
        self.wait()
    }

    fn wait(&mut self) -> Result<(), StopError> {
        let Some(running) = self.running.take() else { return Ok(()) };
        let mut result = Ok(());
        for (shard, handle) in running.executors.into_iter().enumerate() {
            if let Err(detail) = executor::join(handle) {
                result = result.and(Err(StopError::Executor { shard: shard as u16, detail }));
                self.lifecycle.stop();
            }
        }
        let silent = self.lifecycle.posts().len() - self.lifecycle.drained();
        if result.is_ok() && silent > 0 {
            result = Err(StopError::NotDrained { shards: silent });
        }
        self.lifecycle.stop();
        running.admin.stop();
        if let Some(watchdog) = running.watchdog {
            // A watchdog that panicked has nothing left to say: the executors have ended.
            let _ended = watchdog.join();
        }
        info!("broker ended");
        result
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.running.is_some() {
            self.drain();
            if let Err(error) = self.wait() {
                warn!(%error, "broker did not end well");
            }
        }
    }
}

/// The threads besides the executors.
fn start_helpers(
    with_watchdog: bool,
    admin: AdminListener,
    view: AdminView,
    snapshots: Snapshots,
) -> Result<(Option<thread::JoinHandle<()>>, Admin), StartError> {
    let failed = |name| move |source| StartError::Thread { name, source };
    let (clock, lifecycle) = (view.clock, Arc::clone(&view.lifecycle));
    let admin = admin.serve(view, snapshots).map_err(failed("lanecast-admin"))?;
    if !with_watchdog {
        return Ok((None, admin));
    }
    let watchdog = watchdog::spawn(clock, lifecycle).map_err(failed("lanecast-watch"))?;
    Ok((Some(watchdog), admin))
}

fn check(config: &BrokerConfig) -> Result<(), StartError> {
    let sizes = [
        ("segment_bytes", config.segment_bytes),
        ("groups_segment_bytes", config.groups_segment_bytes),
    ];
    let least = lanecast_core::limits::BLOCK_BYTES_MAX as u64;
    for (name, bytes) in sizes {
        if !bytes.is_multiple_of(DISK_ALIGN) || bytes < least {
            return Err(StartError::Config(format!(
                "{name} is {bytes}; it must be a multiple of {DISK_ALIGN} and at least {least}"
            )));
        }
    }
    let least = core::CLIENT_BYTES_PER_SECOND_MIN;
    if (1..least).contains(&config.client_bytes_per_second) {
        return Err(StartError::Config(format!(
            "client_bytes_per_second is {}; it must be 0, for no limit, or at least {least}",
            config.client_bytes_per_second
        )));
    }
    let least = core::CLIENT_RECORDS_PER_SECOND_MIN;
    if (1..least).contains(&config.client_records_per_second) {
        return Err(StartError::Config(format!(
            "client_records_per_second is {}; it must be 0, for no limit, or at least {least}",
            config.client_records_per_second
        )));
    }
    let most = lanecast_wire::limits::CREDIT_BYTES_MAX;
    if config.default_credit_bytes == 0 || config.default_credit_bytes > most {
        return Err(StartError::Config(format!(
            "default_credit_bytes is {}; it must be between 1 and {most}",
            config.default_credit_bytes
        )));
    }
    Ok(())
}

fn shard_count(config: &BrokerConfig, cpus: usize) -> Result<u16, StartError> {
    let Some(shards) = config.shards else {
        // A container may have fewer CPUs' worth of time than it has CPUs.
        let quota = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        return Ok(cpus.min(quota).clamp(1, usize::from(SHARDS_MAX)) as u16);
    };
    if shards == 0 || shards > SHARDS_MAX {
        return Err(StartError::Config(format!(
            "{shards} shards; it must be between 1 and {SHARDS_MAX}"
        )));
    }
    if usize::from(shards) > cpus {
        warn!(shards, cpus, "more shards than CPUs: they share cores, and wait for each other");
    }
    Ok(shards)
}

/// The CPUs that this process may run on, in order.
fn allowed_cpus() -> Vec<usize> {
    let cpus: Vec<usize> = match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect(),
        Err(errno) => {
            warn!(%errno, "cannot tell which CPUs are allowed: using the first");
            Vec::new()
        }
    };
    if cpus.is_empty() { vec![0] } else { cpus }
}

fn budget(config: &BrokerConfig, shards: u16) -> Arc<Budget> {
    let memory_bytes = match config.memory_bytes {
        0 => (core::MEMORY_BYTES_PER_SHARD_DEFAULT * u64::from(shards))
            .max(core::MEMORY_BYTES_DEFAULT),
        given => given,
    };
    let budget = Budget::new(memory_bytes, shards);
    if budget.memory_bytes() > memory_bytes {
        warn!(
            asked = memory_bytes,
            used = budget.memory_bytes(),
            "the memory budget is too small for so many shards"
        );
    }
    Arc::new(budget)
}

fn shard_config(
    config: &BrokerConfig,
    budget: &Arc<Budget>,
    shard: ShardId,
    shards: u16,
) -> ShardConfig {
    ShardConfig {
        budget: Arc::clone(budget),
        client_bytes_per_second: config.client_bytes_per_second,
        client_records_per_second: config.client_records_per_second,
        max_consumers: config.max_consumers,
        group_chunks_out: config.group_chunks_out,
        broker_version: env!("CARGO_PKG_VERSION").to_owned(),
        default_mode: config.default_mode,
        default_credit_bytes: config.default_credit_bytes,
        segment_bytes: config.segment_bytes,
        groups_segment_bytes: config.groups_segment_bytes,
        cache_bytes: budget.shares().cache / u64::from(shards),
        undurable_bytes: core::UNDURABLE_BYTES_DEFAULT.min(budget.shares().undurable),
        ..ShardConfig::new(shard, shards, entropy())
    }
}

fn report(findings: Vec<Finding>) -> Result<(), StartError> {
    let (fatal, warnings): (Vec<_>, Vec<_>) =
        findings.into_iter().partition(|finding| finding.fatal);
    for finding in warnings {
        warn!(what = finding.what, change = finding.change, "this machine falls short");
    }
    if fatal.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = fatal.iter().map(ToString::to_string).collect();
    Err(StartError::Probe(lines.join("\n")))
}
