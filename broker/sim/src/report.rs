//! What a run went through.

use std::ops::AddAssign;

/// Counters of one run, or of many added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub tasks: u64,
    pub crashes: u64,
    pub crashes_of_power: u64,
    pub restarts_with_other_shards: u64,
    pub resets: u64,
    /// Links whose route vanished, without a word to either end.
    pub holes: u64,
    /// Bytes that arrived after their sender had gone.
    pub late_deliveries: u64,
    /// Shards that stood still for a while.
    pub stalls: u64,
    /// Clients that stood still for a while.
    pub freezes: u64,
    pub clock_jumps: u64,
    pub disk_full_windows: u64,
    pub flipped_reads: u64,
    /// Blocks with a bit that was wrong for good, and lost stretches that the broker reported.
    pub rotten_blocks: u64,
    pub damages_reported: u64,
    pub disk_faults: u64,
    pub blocks_torn: u64,
    /// Commits that were done before an older one.
    pub overtakings: u64,
    pub recycled_segments: u64,
    /// Records that retention took before a reader had them.
    pub missed_records: u64,
    /// Producers that began anew, because retention took all that the broker knew of them.
    pub forgotten_producers: u64,
    /// Producers that were fenced off by a newer program of their name.
    pub fenced_producers: u64,
    /// Connections that went to another shard.
    pub migrations: u64,
    /// Moves of a group to another position.
    pub moves: u64,
    /// Records of topics that come and go.
    pub errands: u64,
    /// Records that readers missed because they had outlived their time.
    pub expired_records: u64,
    pub acknowledged_batches: u64,
    pub duplicates: u64,
    pub acked_chunks: u64,
    pub redelivered: u64,
    /// Dead letters that were read, and the records that they are about.
    pub letters: u64,
    pub dead_records: u64,
    /// Inserts that the store took, found that it had, and of which it could not tell its sender.
    pub inserts: u64,
    pub repeated_inserts: u64,
    pub insert_answers_lost: u64,
    pub rows_stored: u64,
    /// Rows that are not in the store, all of them reported as lost to retention.
    pub rows_missing: u64,
    /// Equal for equal seeds; of many runs, the sum.
    pub trace_hash: u64,
}

impl AddAssign<&Report> for Report {
    fn add_assign(&mut self, other: &Report) {
        self.tasks += other.tasks;
        self.crashes += other.crashes;
        self.crashes_of_power += other.crashes_of_power;
        self.restarts_with_other_shards += other.restarts_with_other_shards;
        self.resets += other.resets;
        self.holes += other.holes;
        self.late_deliveries += other.late_deliveries;
        self.stalls += other.stalls;
        self.freezes += other.freezes;
        self.clock_jumps += other.clock_jumps;
        self.disk_full_windows += other.disk_full_windows;
        self.flipped_reads += other.flipped_reads;
        self.rotten_blocks += other.rotten_blocks;
        self.damages_reported += other.damages_reported;
        self.disk_faults += other.disk_faults;
        self.blocks_torn += other.blocks_torn;
        self.overtakings += other.overtakings;
        self.recycled_segments += other.recycled_segments;
        self.missed_records += other.missed_records;
        self.forgotten_producers += other.forgotten_producers;
        self.fenced_producers += other.fenced_producers;
        self.migrations += other.migrations;
        self.moves += other.moves;
        self.errands += other.errands;
        self.expired_records += other.expired_records;
        self.acknowledged_batches += other.acknowledged_batches;
        self.duplicates += other.duplicates;
        self.acked_chunks += other.acked_chunks;
        self.redelivered += other.redelivered;
        self.letters += other.letters;
        self.dead_records += other.dead_records;
        self.inserts += other.inserts;
        self.repeated_inserts += other.repeated_inserts;
        self.insert_answers_lost += other.insert_answers_lost;
        self.rows_stored += other.rows_stored;
        self.rows_missing += other.rows_missing;
        self.trace_hash = self.trace_hash.wrapping_add(other.trace_hash);
    }
}
