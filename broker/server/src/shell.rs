//! The loop of one executor: the only code that touches its [`Shard`].
//!
//! ```text
//!   turn:  disk completions ─▶ rings ─▶ sockets ─▶ clock        (each a bounded number of events)
//!          └────────────▶ Shard::handle ─▶ Shard::poll_action ─▶ disk, rings, sockets
//!   rest:  go on at once, give way to the reactor, or park until something happens
//! ```
//!
//! A turn is synchronous; only the rest between two turns awaits, and it holds nothing of the
//! shard. glommio's reactor runs only when every task waits, so a loop that stays busy awaits a
//! timer of a microsecond now and then: that is when disk operations are submitted and completed.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use glommio::timer::Timer;
use lanecast_core::{Action, ConnectionId, Event, Migrant, Now, Shard, ShardId};
use tracing::{info, warn};

use crate::data_dir::{log_folder, segment_name};
use crate::files::Files;
use crate::limits::{
    ACTIONS_PER_ROUND, CLOSE_LINGER_MAX, PARK_MAX, ROUNDS_PER_TURN, SPIN_MAX, YIELD_INTERVAL,
    YIELD_INTERVAL_WITHOUT_DISK,
};
use crate::message::{Message, Moving};
use crate::pace::Pace;
use crate::park::{Nudge, Park};
use crate::pulse::{Clock, Lifecycle, Post};
use crate::readiness::Readiness;
use crate::ring::Links;
use crate::snapshot::{Snapshot, SnapshotProducer};
use crate::sockets::Sockets;

/// How often a shard that is still recovering is asked whether it is ready.
const READY_INTERVAL_US: u64 = 5_000;

pub(crate) struct Shell {
    shard: Shard,
    links: Links<Message>,
    sockets: Sockets,
    files: Files,
    nudge: Rc<Nudge>,
    clock: Clock,
    shard_number: u16,
    post: Arc<Post>,
    lifecycle: Arc<Lifecycle>,
    snapshots: SnapshotProducer,
    tick: Duration,
    pace: Pace,
    last_yield: Instant,
    /// Disk operations were submitted that the reactor does not know of yet.
    unsubmitted: bool,
    /// The shard may have actions that were not polled.
    actions_left: bool,
    /// Not all actions were performed since something was last received.
    unperformed: bool,
    ready: bool,
    ready_ask_us: u64,
    offline: usize,
    draining: bool,
    drained: bool,
    /// Set once all shards are drained: the last connections close until then.
    closing_until: Option<Instant>,
}

/// What a shell is made of.
pub(crate) struct ShellParts {
    pub(crate) shard: Shard,
    pub(crate) links: Links<Message>,
    pub(crate) sockets: Sockets,
    pub(crate) files: Files,
    pub(crate) nudge: Rc<Nudge>,
    pub(crate) clock: Clock,
    pub(crate) shard_number: u16,
    pub(crate) post: Arc<Post>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) snapshots: SnapshotProducer,
    pub(crate) tick: Option<Duration>,
}

impl Shell {
    pub(crate) fn new(parts: ShellParts) -> Self {
        let now = Instant::now();
        Shell {
            shard: parts.shard,
            links: parts.links,
            sockets: parts.sockets,
            files: parts.files,
            nudge: parts.nudge,
            clock: parts.clock,
            shard_number: parts.shard_number,
            post: parts.post,
            lifecycle: parts.lifecycle,
            snapshots: parts.snapshots,
            tick: parts.tick.unwrap_or(PARK_MAX).min(PARK_MAX),
            pace: Pace::new(now),
            last_yield: now,
            unsubmitted: false,
            actions_left: true,
            unperformed: false,
            ready: false,
            ready_ask_us: 0,
            offline: 0,
            draining: false,
            drained: false,
            closing_until: None,
        }
    }

    /// Turns until the broker is drained or stops.
    pub(crate) async fn run(mut self) {
        let mut readiness = Readiness::new();
        loop {
            let now = self.clock.now();
            let worked = self.turn(now);
            if self.is_over() {
                return;
            }
            self.rest(now, worked, &mut readiness).await;
        }
    }

    /// Takes what has happened, and does what the shard wants done. True if there was anything.
    fn turn(&mut self, now: Now) -> bool {
        self.post.beat(now.mono_us);
        let mut worked = self.actions_left;
        worked |= self.take_control(now);
        worked |= self.take_disk(now);
        worked |= self.take_rings(now);
        worked |= self.take_sockets(now);
        if self.shard.poll_timeout().is_some_and(|due_us| due_us <= now.mono_us) {
            self.shard.handle_timeout(now);
            self.actions_left = true;
            worked = true;
        }
        for _ in 0..ROUNDS_PER_TURN {
            self.perform();
            self.links.publish();
            self.flush(now);
            if !self.actions_left && !self.sockets.has_to_write() {
                break;
            }
        }
        self.watch_offline();
        self.publish();
        worked
    }

    /// Tells the probes, and whoever reads the log, when partitions go offline or come back.
    fn watch_offline(&mut self) {
        let offline = self.shard.offline_partitions();
        if offline == self.offline {
            return;
        }
        let shard = self.shard_number;
        if offline > self.offline {
            warn!(shard, partitions = offline, "partitions are offline, see /readyz");
        } else {
            info!(shard, partitions = offline, "partitions have recovered; these are left offline");
        }
        self.offline = offline;
        self.post.set_offline(u32::try_from(offline).unwrap_or(u32::MAX));
    }

    fn take_control(&mut self, now: Now) -> bool {
        self.watch_readiness(now);
        if self.draining || !self.lifecycle.is_draining() {
            return false;
        }
        self.draining = true;
        let shard = &mut self.shard;
        self.sockets.stop_accepting(|event| shard.handle(now, event));
        self.shard.handle(now, Event::Drain);
        self.actions_left = true;
        true
    }

    fn watch_readiness(&mut self, now: Now) {
        if !self.ready && now.mono_us >= self.ready_ask_us {
            self.ready = self.shard.stats().ready;
            // Asking takes time with very many partitions; most of it is for recovering them.
            let took_us = self.clock.mono_us() - now.mono_us;
            self.ready_ask_us = now.mono_us + READY_INTERVAL_US + 20 * took_us;
            if self.ready {
                self.post.set_ready();
            }
        }
    }

    fn take_disk(&mut self, now: Now) -> bool {
        let mut any = false;
        while let Some((operation, outcome)) = self.files.next_done() {
            if let Err(error) = &outcome {
                warn!(shard = self.shard_number, %error, "disk operation failed");
            }
            self.shard.handle(now, Event::Disk { operation, outcome });
            any = true;
        }
        self.actions_left |= any;
        any
    }

    fn take_rings(&mut self, now: Now) -> bool {
        let (shard, sockets) = (&mut self.shard, &mut self.sockets);
        let unperformed = &mut self.unperformed;
        let any = self.links.receive(|from, message| match message {
            Message::Core(message) => shard.handle(now, Event::Ring { from, message }),
            Message::Connection(moving) => {
                let Moving { connection, migrant } = *moving;
                // Its client connects again.
                let Some((connection, outbound_bytes)) = sockets.adopt(connection) else { return };
                shard.handle(now, Event::Arrived { connection, outbound_bytes, migrant });
                *unperformed = true;
            }
        });
        self.actions_left |= any;
        any
    }

    fn take_sockets(&mut self, now: Now) -> bool {
        let mut any = false;
        let shard = &mut self.shard;
        if self.sockets.sweep_at().is_some() {
            self.sockets.sweep(self.clock.instant(now.mono_us), |event| {
                shard.handle(now, event);
                any = true;
            });
        }
        // Other shards cannot keep up with what this one has sent them already: the peers wait. And only
        // when all is performed that came of the last bytes is it known where the next ones go.
        if !self.links.is_congested() && !self.unperformed {
            self.unperformed = self.sockets.poll(|event| shard.handle(now, event));
            any |= self.unperformed;
        }
        self.actions_left |= any;
        any
    }

    fn perform(&mut self) {
        for _ in 0..ACTIONS_PER_ROUND {
            let Some(action) = self.shard.poll_action() else {
                (self.actions_left, self.unperformed) = (false, false);
                return;
            };
            match action {
                Action::Send { connection, buffers, patient } => {
                    self.sockets.send(connection, buffers, patient);
                }
                Action::SetReading { connection, on } => self.sockets.set_reading(connection, on),
                Action::Expect { connection, bytes } => self.sockets.expect(connection, bytes),
                Action::Gather { connection, begun } => self.sockets.gather(connection, begun),
                Action::Close { connection } => self.sockets.close(connection),
                Action::Expel { connection, client, offence, detail } => {
                    self.sockets.expel(connection, offence, &client, &detail);
                }
                Action::Migrate { connection, to, migrant } => {
                    self.migrate(connection, to, migrant)
                }
                Action::Ring { to, message } => self.links.send(to, Message::Core(message)),
                Action::Disk { operation, request } => {
                    self.files.submit(operation, request);
                    self.unsubmitted = true;
                }
                Action::Damaged { log, damage } => {
                    let folder = log_folder(log);
                    let file = folder.join(segment_name(damage.place.segment));
                    let (file, position) = (file.display(), damage.place.position);
                    warn!(shard = self.shard_number, %file, position, %damage, "log is damaged");
                }
                Action::Drained => {
                    if !self.drained {
                        self.drained = true;
                        self.lifecycle.shard_drained();
                    }
                }
            }
        }
    }

    fn migrate(&mut self, id: ConnectionId, to: ShardId, migrant: Box<Migrant>) {
        // One that is closing has nothing more to ask.
        if let Some(connection) = self.sockets.release(id) {
            let moving = Box::new(Moving { connection, migrant });
            self.links.send(to, Message::Connection(moving));
        }
    }

    fn flush(&mut self, now: Now) {
        let instant = self.clock.instant(now.mono_us);
        let (shard, actions_left) = (&mut self.shard, &mut self.actions_left);
        self.sockets.flush(instant, |event| {
            shard.handle(now, event);
            *actions_left = true;
        });
    }

    /// Publishes a snapshot if one is wanted. A full ring means that the admin thread has
    /// snapshots it did not take yet: this one is dropped.
    fn publish(&mut self) {
        if !self.post.snapshot_wanted.load(Ordering::Relaxed)
            || !self.post.snapshot_wanted.swap(false, Ordering::AcqRel)
            || self.snapshots.is_full()
        {
            return;
        }
        let snapshot = Snapshot {
            taken: Instant::now(),
            stats: self.shard.stats(),
            sockets: self.sockets.counters,
            outbound_bytes: self.sockets.outbound_bytes(),
            commit_bytes: self.files.commit_bytes(),
            disk_operations: self.files.pending(),
            ring_backlog: self.links.backlog(),
            turns: self.post.beats(),
        };
        let pushed = self.snapshots.push(Box::new(snapshot));
        debug_assert!(pushed.is_ok(), "it had room a moment ago, and nobody else fills it");
    }

    /// Between two turns.
    async fn rest(&mut self, now: Now, worked: bool, readiness: &mut Readiness) {
        let instant = self.clock.instant(now.mono_us);
        if worked {
            self.pace.worked(instant);
        }
        let busy =
            worked || self.actions_left || self.sockets.has_to_write() || self.sockets.is_patient();
        // Polling here keeps the reactor, and so the disk, waiting: with operations under way
        // glommio does the polling, before it parks. Without any, the reactor has nothing to complete.
        let on_disk = self.files.pending() > 0;
        if busy || (!on_disk && self.pace.polls_on(instant)) {
            let interval = if on_disk { YIELD_INTERVAL } else { YIELD_INTERVAL_WITHOUT_DISK };
            if self.unsubmitted || instant.duration_since(self.last_yield) >= interval {
                self.unsubmitted = false;
                Timer::new(Duration::from_micros(1)).await;
                self.last_yield = Instant::now();
            }
            return;
        }
        let at_most = self.wait_at_most(now, instant);
        self.post.set_due(now.mono_us.saturating_add(at_most.as_micros() as u64));
        let doorbell = self.post.bell.doorbell();
        doorbell.raise();
        if !self.has_news() {
            let epoll = self.sockets.epoll();
            Park::new(readiness, epoll, &self.post.bell, &self.nudge, at_most).await;
            self.last_yield = Instant::now();
        }
        self.post.bell.doorbell().lower();
        self.post.set_due(u64::MAX);
    }

    /// The second look of the wake protocol: everything that others publish and then ring for.
    fn has_news(&self) -> bool {
        self.links.has_inbound()
            || self.files.has_done()
            || self.post.snapshot_wanted.load(Ordering::Relaxed)
            || self.lifecycle.is_stopping()
            || (self.lifecycle.is_draining() && (!self.draining || self.lifecycle.all_drained()))
    }

    fn wait_at_most(&self, now: Now, instant: Instant) -> Duration {
        let mut at_most = self.tick;
        if let Some(due_us) = self.shard.poll_timeout() {
            at_most = at_most.min(Duration::from_micros(due_us.saturating_sub(now.mono_us)));
        }
        let ends = self.sockets.sweep_at().into_iter().chain(self.closing_until);
        for end in ends {
            at_most = at_most.min(end.saturating_duration_since(instant));
        }
        if self.draining {
            let left_us = self.lifecycle.deadline_us().saturating_sub(now.mono_us);
            at_most = at_most.min(Duration::from_micros(left_us));
        }
        if !self.ready {
            at_most = at_most.min(Duration::from_micros(READY_INTERVAL_US));
        }
        // The receivers of full rings do not ring back: look again soon.
        if self.links.backlog() > 0 { at_most.min(SPIN_MAX) } else { at_most }
    }

    /// All shards are drained and the last connections closed, or there is no more time.
    fn is_over(&mut self) -> bool {
        if self.lifecycle.is_stopping() {
            return true;
        }
        if !self.draining {
            return false;
        }
        if self.clock.mono_us() >= self.lifecycle.deadline_us() {
            return true;
        }
        if !self.lifecycle.all_drained() || self.links.backlog() > 0 || self.files.pending() > 0 {
            return false;
        }
        let until = match self.closing_until {
            Some(until) => until,
            None => {
                let until = Instant::now() + CLOSE_LINGER_MAX;
                self.closing_until = Some(until);
                self.sockets.close_all();
                until
            }
        };
        self.sockets.open() == 0 || Instant::now() >= until
    }
}
