//! What a run went through.

use std::ops::AddAssign;

/// Counters of one run, or of many added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub tasks: u64,
    pub crashes: u64,
    pub resets: u64,
    pub disk_faults: u64,
    pub blocks_torn: u64,
    /// Commits that were done before an older one.
    pub overtakings: u64,
    pub recycled_segments: u64,
    /// Records that retention took before a reader had them.
    pub missed_records: u64,
    /// Producers that began anew, because retention took all that the broker knew of them.
    pub forgotten_producers: u64,
    pub acknowledged_batches: u64,
    pub duplicates: u64,
    pub acked_chunks: u64,
    pub redelivered: u64,
    /// Equal for equal seeds; of many runs, the sum.
    pub trace_hash: u64,
}

impl AddAssign<&Report> for Report {
    fn add_assign(&mut self, other: &Report) {
        self.tasks += other.tasks;
        self.crashes += other.crashes;
        self.resets += other.resets;
        self.disk_faults += other.disk_faults;
        self.blocks_torn += other.blocks_torn;
        self.overtakings += other.overtakings;
        self.recycled_segments += other.recycled_segments;
        self.missed_records += other.missed_records;
        self.forgotten_producers += other.forgotten_producers;
        self.acknowledged_batches += other.acknowledged_batches;
        self.duplicates += other.duplicates;
        self.acked_chunks += other.acked_chunks;
        self.redelivered += other.redelivered;
        self.trace_hash = self.trace_hash.wrapping_add(other.trace_hash);
    }
}
