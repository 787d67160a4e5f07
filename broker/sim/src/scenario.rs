//! What one seed is about: sizes, rates of faults, patience.

use lanecast_core::{Budget, ShardConfig, ShardId, Shares};
use lanecast_wire::message::{DeliveryMode, Durability, GroupOptions, TopicSettings};

use crate::disk::{Crash, DiskFaults};
use crate::rng::Rng;

pub(crate) const TOPIC: &str = "telemetry";
/// Where the topic's dead records go.
pub(crate) const LETTERS: &str = "telemetry.dlq";

/// The number of a group by its name.
pub(crate) fn group_number(name: &str) -> Option<usize> {
    name.strip_prefix("group-")?.parse().ok()
}

/// Of each client on each shard, where clients are slowed down.
const SCARCE_BYTES_PER_SECOND: u64 = 4 * 1024 * 1024;
const SCARCE_RECORDS_PER_SECOND: u64 = 50_000;

/// Drawn once from the seed; the run draws from the rest of the same sequence.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) shards: u16,
    /// Crashes may change the number of shards.
    pub(crate) shards_vary: bool,
    pub(crate) partitions: u32,
    pub(crate) producers: usize,
    pub(crate) batches_per_producer: u64,
    pub(crate) batch_bytes_max: u64,
    /// Pause between two batches of a producer.
    pub(crate) produce_pause_us: u64,
    pub(crate) window: u32,
    pub(crate) broadcasts: usize,
    pub(crate) groups: usize,
    pub(crate) members_per_group: usize,
    pub(crate) crashes: u64,
    /// Crashes take the machine with them once in so many; 1 is always.
    pub(crate) power_one_in: u64,
    pub(crate) chaos_us: u64,
    pub(crate) resets: u64,
    /// Links whose route vanishes.
    pub(crate) holes: u64,
    /// Shards that are not scheduled for a while, each at most so long.
    pub(crate) stalls: u64,
    pub(crate) stall_us_max: u64,
    /// Clients that are stopped for a while.
    pub(crate) freezes: u64,
    /// Times without any room on the disk, each at most half a second long.
    pub(crate) disk_full: u64,
    /// Blocks that rot on the medium.
    pub(crate) rots: u64,
    /// Jumps of the wall clock, forwards and backwards.
    pub(crate) clock_jumps: u64,
    /// An insert's connection breaks once in so many; 0 is never.
    pub(crate) insert_trouble_one_in: u64,
    pub(crate) disk_faults: DiskFaults,
    pub(crate) disk_us: (u64, u64),
    pub(crate) net_us: (u64, u64),
    pub(crate) ring_us: (u64, u64),
    /// A member does something else with a chunk than to ack it, once in so many.
    pub(crate) trouble_one_in: u64,
    /// What the topic keeps of each partition; 0 is everything.
    pub(crate) retention_bytes: u64,
    pub(crate) durability: Durability,
    /// One more client, that sends nonsense.
    pub(crate) vandal: bool,
    /// Credit of a broadcast subscriber: the largest batch fits.
    pub(crate) credit_bytes: (u64, u64),
    /// How long a subscriber takes for what it was sent, at most.
    pub(crate) slow_us: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) groups_segment_bytes: u64,
    /// Memory so small, and clients so slowed down, that both are felt.
    pub(crate) scarce: bool,
    /// Hand-outs after which records are dead; 0 is without limit.
    pub(crate) max_attempts: u32,
    /// Of so many records one can be handled by nobody; 0 is none.
    pub(crate) poison_one_in: u64,
    /// How long records live; 0 is for ever.
    pub(crate) record_ttl_ms: u64,
    pub(crate) retention_breaks_leases: bool,
    /// A group is moved about.
    pub(crate) has_mover: bool,
    /// Another topic comes and goes.
    pub(crate) has_clerk: bool,
    /// Producers that go on as if nothing had happened while a newer program, in their name and with
    /// a higher epoch, produces as well.
    pub(crate) succeeded: bool,
    /// Bit n: the members of group n settle their chunks piece by piece, and store nothing.
    pub(crate) piecemeal: u64,
    /// Clients ask to be served by another shard.
    pub(crate) migrants: bool,
}

impl Scenario {
    #[must_use]
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let disk_faults = if rng.one_in(3) {
            DiskFaults {
                write_one_in: rng.between(20, 200),
                sync_one_in: rng.between(20, 200),
                read_one_in: rng.between(20, 200),
                no_space_one_in: rng.between(5, 50),
                flip_one_in: rng.between(10, 200),
                full: false,
            }
        } else {
            DiskFaults::default()
        };
        let slow_disk = *rng.pick(&[500, 3_000, 20_000, 60_000]);
        let mut scenario = Self {
            shards: rng.between(1, 4) as u16,
            shards_vary: rng.one_in(2),
            partitions: rng.between(1, 5) as u32,
            producers: rng.between(1, 3) as usize,
            batches_per_producer: rng.between(10, 60),
            batch_bytes_max: *rng.pick(&[300, 2_000, 6_000, 40_000]),
            produce_pause_us: *rng.pick(&[500, 5_000, 40_000]),
            window: rng.between(1, 16) as u32,
            broadcasts: rng.between(0, 2) as usize,
            groups: rng.between(0, 2) as usize,
            members_per_group: rng.between(1, 3) as usize,
            crashes: *rng.pick(&[0, 1, 1, 2, 3, 5]),
            power_one_in: rng.between(1, 3),
            chaos_us: rng.between(500_000, 4_000_000),
            resets: *rng.pick(&[0, 0, 2, 10]),
            holes: *rng.pick(&[0, 0, 1, 4]),
            stalls: *rng.pick(&[0, 0, 0, 1, 4]),
            stall_us_max: *rng.pick(&[50_000, 400_000, 1_500_000]),
            freezes: *rng.pick(&[0, 0, 1, 3]),
            disk_full: *rng.pick(&[0, 0, 0, 0, 1, 2]),
            rots: 0,
            clock_jumps: *rng.pick(&[0, 0, 0, 1, 5]),
            insert_trouble_one_in: *rng.pick(&[0, 4, 12]),
            disk_faults,
            disk_us: (50, slow_disk),
            net_us: (20, *rng.pick(&[200, 2_000, 30_000])),
            ring_us: (1, *rng.pick(&[10, 500, 5_000])),
            trouble_one_in: *rng.pick(&[0, 3, 10]),
            retention_bytes: 0,
            durability: Durability::Fsync,
            vandal: rng.one_in(4),
            credit_bytes: (256 * 1024, 1024 * 1024),
            slow_us: 0,
            segment_bytes: *rng.pick(&[64, 128, 1024]) * 1024,
            groups_segment_bytes: *rng.pick(&[64, 1024]) * 1024,
            // From a copy: what is drawn after this stays what it was.
            scarce: rng.clone().one_in(3),
            max_attempts: 0,
            poison_one_in: 0,
            record_ttl_ms: 0,
            retention_breaks_leases: false,
            has_mover: false,
            has_clerk: false,
            succeeded: false,
            piecemeal: 0,
            migrants: false,
        };
        let mut more = Rng::new(rng.clone().next());
        match rng.below(16) {
            0 | 1 => scenario.be_bulky(),
            2 | 3 => scenario.forget_old_segments(rng),
            4 => scenario.flush_nothing(),
            6 | 7 => scenario.rot(rng),
            5 => scenario.durability = Durability::Memory,
            _ => {}
        }
        scenario.have_letters(&mut more);
        scenario.age(&mut more);
        scenario.migrants = scenario.shards > 1 && more.one_in(3);
        scenario
    }

    /// Records may die.
    fn have_letters(&mut self, rng: &mut Rng) {
        if self.durability == Durability::Fsync {
            self.max_attempts = *rng.pick(&[0, 0, 1, 2, 3, 5]);
            self.poison_one_in = *rng.pick(&[0, 0, 7, 40, 300]);
        }
        self.piecemeal = rng.below(4);
    }

    /// Records outlive their time, producers are fenced off, retention ends leases.
    fn age(&mut self, rng: &mut Rng) {
        let firm = self.durability == Durability::Fsync && self.rots == 0;
        if firm && self.retention_bytes == 0 {
            self.record_ttl_ms = *rng.pick(&[0, 0, 0, 0, 0, 300, 1_500]);
            self.succeeded = rng.one_in(4);
        }
        self.retention_breaks_leases = rng.one_in(3);
        self.has_clerk = rng.one_in(3);
        // Its own records must not die: nobody waits for their letters.
        let firm = firm && self.max_attempts == 0;
        self.has_mover = firm && rng.one_in(2);
    }

    /// Is there anybody who could write a dead letter?
    pub(crate) fn has_letters(&self) -> bool {
        let any = self.max_attempts > 0 || self.poison_one_in > 0;
        any && self.groups > 0 && self.durability == Durability::Fsync
    }

    /// Does the group settle its chunks piece by piece?
    pub(crate) fn is_piecemeal(&self, group: usize) -> bool {
        self.piecemeal >> group & 1 == 1
    }

    /// Can this record be handled by nobody?
    pub(crate) fn is_poison(&self, partition: u32, offset: u64) -> bool {
        let mixed = (offset << 8 | u64::from(partition)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        mixed.checked_rem(self.poison_one_in) == Some(0)
    }

    /// So much at once that a log has several commits in flight.
    fn be_bulky(&mut self) {
        self.partitions = self.partitions.min(2);
        self.producers = 3;
        self.window = 16;
        self.batch_bytes_max = 120_000;
        self.produce_pause_us = 200;
        self.disk_us.1 = 60_000;
        self.net_us.1 = 200;
        self.crashes = self.crashes.max(3);
        self.power_one_in = 1;
        self.batches_per_producer = 80;
        self.chaos_us = self.chaos_us.min(400_000);
        self.segment_bytes = 2 * 1024 * 1024;
    }

    /// Retention takes segments while they are read, and the log recycles them; readers and groups
    /// are slower than it.
    fn forget_old_segments(&mut self, rng: &mut Rng) {
        self.partitions = self.partitions.min(2);
        self.batches_per_producer = rng.between(80, 200);
        self.produce_pause_us = self.produce_pause_us.min(5_000);
        self.batch_bytes_max = 12_000;
        self.segment_bytes = 64 * 1024;
        self.retention_bytes = rng.between(16, 160) * 1024;
        self.broadcasts = self.broadcasts.max(1);
        self.groups = self.groups.max(1);
        self.freezes = self.freezes.max(2);
        self.credit_bytes = (16 * 1024, 64 * 1024);
        self.slow_us = *rng.pick(&[0, 20_000, 200_000]);
    }

    /// Blocks that were whole are not any more; there are many, and little is kept in memory.
    fn rot(&mut self, rng: &mut Rng) {
        self.partitions = self.partitions.min(2);
        self.rots = rng.between(1, 6);
        self.batch_bytes_max = 6_000;
        self.batches_per_producer = rng.between(60, 150);
        self.produce_pause_us = 5_000;
        self.slow_us = *rng.pick(&[0, 200_000]);
    }

    /// A topic that survives the broker's crash, but not the machine's.
    fn flush_nothing(&mut self) {
        self.durability = Durability::Written;
        self.segment_bytes = 64 * 1024;
        self.disk_faults = DiskFaults::default();
    }

    /// Does this end what the topic promised?
    pub(crate) fn voids_promises(&self, crash: Crash) -> bool {
        match self.durability {
            Durability::Fsync => false,
            Durability::Written => crash == Crash::Power,
            Durability::Memory => true,
        }
    }

    /// May the broker have forgotten a producer that it answered?
    pub(crate) fn may_forget(&self) -> bool {
        self.durability != Durability::Fsync || self.rots > 0
    }

    /// Clients that take nothing hold memory that others wait for.
    pub(crate) fn frames_may_wait(&self) -> bool {
        self.scarce && (self.freezes > 0 || self.holes > 0)
    }

    /// How long after its lease began a chunk's frame may be sent: rings, polls, catch-up reads,
    /// and shards that stand still.
    pub(crate) fn hand_out_lag_us(&self) -> u64 {
        let stalled_us = if self.stalls > 0 { 2 * self.stall_us_max } else { 0 };
        400_000 + stalled_us
    }

    pub(crate) fn shard_config(&self, shard: u16, shards: u16, seed: u64) -> ShardConfig {
        ShardConfig {
            segment_bytes: self.segment_bytes,
            groups_segment_bytes: self.groups_segment_bytes,
            default_mode: DeliveryMode::Queue,
            cache_bytes: 64 * 1024,
            // What is large elsewhere: clients here send little.
            large_frame_bytes: 256,
            expected_bytes_max: 2048,
            adopted_bytes_min: 1024,
            client_bytes_per_second: if self.scarce { SCARCE_BYTES_PER_SECOND } else { 0 },
            client_records_per_second: if self.scarce { SCARCE_RECORDS_PER_SECOND } else { 0 },
            ..ShardConfig::new(ShardId(shard), shards, seed)
        }
    }

    pub(crate) fn budget(&self, shards: u16) -> Budget {
        if !self.scarce {
            return Budget::new(0, shards);
        }
        Budget::of(Shares {
            cache: 64 * 1024,
            reads_per_shard: 64 * 1024,
            outbound: 64 * 1024,
            undurable: 512 * 1024,
            received: 256 * 1024,
        })
    }

    pub(crate) fn topic_settings(&self) -> TopicSettings {
        TopicSettings {
            durability: self.durability,
            retention_bytes: self.retention_bytes,
            max_attempts: self.max_attempts,
            record_ttl_ms: self.record_ttl_ms,
            retention_breaks_leases: self.retention_breaks_leases,
            ..TopicSettings::default()
        }
    }

    pub(crate) fn group_options(&self, group: usize, client: usize, rng: &mut Rng) -> GroupOptions {
        GroupOptions {
            group: format!("group-{group}"),
            member: format!("member-{client}"),
            chunk_records: rng.between(5, 100) as u32,
            chunk_bytes: rng.between(1_000, 30_000) as u32,
            // Without any, chunks are often blocks.
            chunk_linger_ms: rng.between(0, 60).saturating_sub(20) as u32,
            lease_ms: rng.between(800, 3_000) as u32,
            chunks_in_flight: rng.between(1, 4) as u32,
        }
    }
}
