//! The members' way to the store and back.

use super::{Task, World};
use crate::scenario::group_number;
use crate::store::{Fate, SentInsert};

/// How long an insert takes to reach the store and to be stored, and its answer to come back.
const INSERT_US: (u64, u64) = (200, 60_000);
/// An insert whose sender has lost its connection may be stored this much later.
const STRAY_US: (u64, u64) = (200, 1_500_000);

impl World {
    pub(super) fn send_insert(&mut self, client: usize, sent: SentInsert) {
        let way_us = self.rng.delay(INSERT_US.0, INSERT_US.1);
        let job = sent.job;
        match sent.fate {
            Fate::Answered => {
                self.schedule(way_us, Task::Insert { client, sent: Box::new(sent) });
            }
            Fate::Lost => self.schedule(way_us, Task::Inserted { client, job, stored: false }),
            Fate::AnswerLost => {
                let stray_us = self.rng.delay(STRAY_US.0, STRAY_US.1);
                self.schedule(way_us, Task::Inserted { client, job, stored: false });
                self.schedule(stray_us, Task::Insert { client, sent: Box::new(sent) });
            }
        }
    }

    pub(super) fn insert(&mut self, client: usize, sent: SentInsert) {
        let SentInsert { insert, job, fate } = sent;
        self.store.insert(insert);
        if fate == Fate::Answered {
            let back_us = self.rng.delay(INSERT_US.0, INSERT_US.1);
            self.schedule(back_us, Task::Inserted { client, job, stored: true });
        } else {
            self.store.answers_lost += 1;
        }
    }

    /// Takes note of what groups have lost, before their counters are gone.
    pub(super) fn note_skipped(&mut self) {
        let partitions = self.stats().into_iter().flat_map(|shard| shard.partitions);
        for partition in partitions {
            for group in partition.groups {
                let broken = group.leases_broken > 0 && !self.scenario.retention_breaks_leases;
                assert!(!broken, "retention has ended leases: {group:?}");
                let Some(number) = group_number(&group.name) else { continue };
                let key = (number, partition.partition.index);
                let counted = self.skipped.entry(key).or_default();
                if group.skipped_records > *counted {
                    self.oracle.reported_skipped(key, group.skipped_records - *counted);
                }
                // Less: the group was read again from its log, and counts anew.
                *counted = group.skipped_records;
            }
        }
    }

    /// Fills in the report.
    pub(super) fn count(&mut self) {
        let report = &mut self.report;
        report.acknowledged_batches = self.oracle.acknowledged_batches();
        report.duplicates = self.oracle.duplicates;
        report.acked_chunks = self.oracle.acked_chunks();
        report.redelivered = self.oracle.redelivered();
        report.letters = self.oracle.letters.count();
        report.dead_records = self.oracle.dead_records();
        report.disk_faults = self.disk.faults_injected;
        report.rotten_blocks = self.disk.rotten;
        report.flipped_reads = self.disk.flipped_reads;
        report.blocks_torn = self.disk.blocks_torn;
        report.overtakings = self.disk.overtakings;
        report.recycled_segments = self.disk.recycled;
        report.missed_records = self.oracle.missed_records;
        report.forgotten_producers = self.oracle.forgotten_producers;
        report.fenced_producers = self.oracle.fenced_producers;
        report.moves = self.oracle.moves;
        report.errands = self.oracle.errands;
        report.expired_records = self.oracle.expired_records;
        report.resets = self.network.resets;
        report.holes = self.network.holes;
        report.late_deliveries = self.network.late_bytes;
        report.inserts = self.store.inserts;
        report.repeated_inserts = self.store.repeats;
        report.insert_answers_lost = self.store.answers_lost;
        report.rows_stored = self.store.rows();
        report.rows_missing = self.oracle.missing_rows;
        report.trace_hash = self.trace.hash();
    }
}
