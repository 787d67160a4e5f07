//! A store behind the members of groups, as ClickHouse is behind the consumers.
//!
//! It takes one insert per chunk. An insert whose token it has seen before changes nothing, whoever
//! sends it, and whatever its sender was told the first time. Every row may come under one token
//! only: a row that comes under another one is stored twice.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::oracle::GroupKey;

/// What the consumer names its insert by, besides the topic and its own table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Token {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// When the broker appended the newest batch.
    pub(crate) appended_ms: i64,
}

/// The rows of one chunk on their way.
#[derive(Clone, Debug)]
pub(crate) struct Insert {
    pub(crate) group: GroupKey,
    pub(crate) token: Token,
    /// How often all promises had become void when the rows were read.
    pub(crate) era: u64,
    /// Rising, without overlap.
    pub(crate) rows: Vec<(u64, u64)>,
    /// Not all records of the chunk are in it.
    pub(crate) in_part: bool,
    /// A sum over what the rows hold.
    pub(crate) sum: u64,
}

/// What becomes of an insert and of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Answered,
    /// The connection breaks before the store has read it all.
    Lost,
    /// The connection breaks, and the store stores it all the same, perhaps later.
    AnswerLost,
}

/// An insert as its member sends it; the answer names the member's job.
#[derive(Clone, Debug)]
pub(crate) struct SentInsert {
    pub(crate) insert: Insert,
    pub(crate) job: u64,
    pub(crate) fate: Fate,
}

#[derive(Debug, Default)]
pub(crate) struct Store {
    tables: BTreeMap<GroupKey, Table>,
    pub(crate) inserts: u64,
    pub(crate) repeats: u64,
    pub(crate) answers_lost: u64,
    /// Something that was stored may not be there for the next attempt any more.
    pub(crate) damaged: bool,
}

#[derive(Debug, Default)]
struct Table {
    era: u64,
    tokens: BTreeMap<Token, (Vec<(u64, u64)>, u64)>,
    /// Those whose rows were not all of the chunk.
    in_part: BTreeSet<Token>,
    /// Last rows of stored stretches, by first.
    stored: BTreeMap<u64, u64>,
}

impl Store {
    pub(crate) fn insert(&mut self, insert: Insert) {
        let Insert { group, token, era, rows, in_part, sum } = insert;
        let table = self.tables.entry(group).or_default();
        if era < table.era {
            // Rows of before the promises became void: nothing is promised of them.
            return;
        }
        if era > table.era {
            *table = Table { era, ..Table::default() };
        }
        if let Some((known, known_sum)) = table.tokens.get(&token) {
            self.repeats += 1;
            assert!(
                in_part
                    || table.in_part.contains(&token)
                    || self.damaged
                    || (*known == rows && *known_sum == sum),
                "{group:?}: {token:?} names {rows:?}, and named {known:?} before"
            );
            return;
        }
        self.inserts += 1;
        for (first, last) in &rows {
            let before = table.stored.range(..=last).next_back();
            if let Some((from, upto)) = before {
                assert!(
                    upto < first,
                    "{group:?}: rows {first}-{last} are stored twice, by {token:?}; \
                     {from}-{upto} were there"
                );
            }
            table.stored.insert(*first, *last);
        }
        if in_part {
            table.in_part.insert(token);
        }
        table.tokens.insert(token, (rows, sum));
    }

    /// Rows of `from..end` that are not in the store.
    pub(crate) fn missing(
        &self,
        group: GroupKey,
        era: u64,
        from: u64,
        end: u64,
    ) -> Vec<(u64, u64)> {
        let empty = BTreeMap::new();
        let table = self.tables.get(&group).filter(|table| table.era == era);
        let stored = table.map_or(&empty, |table| &table.stored);
        let mut next = from;
        let mut missing = Vec::new();
        for (first, last) in stored {
            assert!(*last < end, "{group:?}: row {last} is stored, the log ends at {end}");
            if *first > next {
                missing.push((next, first - 1));
            }
            next = next.max(last + 1);
        }
        if next < end {
            missing.push((next, end - 1));
        }
        missing
    }

    pub(crate) fn rows(&self) -> u64 {
        let stretches = self.tables.values().flat_map(|table| table.stored.iter());
        stretches.map(|(first, last)| last + 1 - first).sum()
    }
}

/// A sum over bytes, so that rows under one token can be compared.
pub(crate) fn sum(before: u64, bytes: &Bytes) -> u64 {
    let mut sum = before ^ bytes.len() as u64;
    for eight in bytes.chunks_exact(8) {
        let word = u64::from_le_bytes(eight.try_into().expect("eight bytes"));
        sum = (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17);
    }
    sum
}
