//! What a round has to be like at its end: rows in ClickHouse and in dead letters against rows
//! acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::ledger::{is_unfit, unfit_sql};
use super::letters::Letters;
use crate::support;

/// Rows of one life of a producer.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) name: String,
    /// Its rows 0 to here were acknowledged ...
    pub(super) acknowledged: u64,
    /// ... and those up to here may have been sent.
    pub(super) rows: u64,
}

/// The numbers of a round, and everything that is wrong with it.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) acknowledged: u64,
    /// Rows in ClickHouse or dead letters whose acknowledgement did not reach the producer.
    pub(super) in_doubt: u64,
    pub(super) lost: u64,
    pub(super) doubled: u64,
    /// Rows in dead letters, as they have to be.
    pub(super) dead: u64,
    pub(super) wrong: Vec<String>,
}

/// How many rows or groups of rows an account of a failure shows.
const SHOWN: usize = 20;

/// Looks at a ClickHouse at rest. `logged` is the high watermark of each partition.
pub(super) fn verdict(
    clickhouse: SocketAddr,
    lives: &[Life],
    unfit: u64,
    logged: &BTreeMap<u64, u64>,
    letters: &Letters,
) -> Verdict {
    let mut check = Check { clickhouse, unfit, verdict: Verdict::default() };
    check.rows(lives);
    check.letters(lives, letters);
    check.offsets(logged, letters);
    check.order();
    for (table, raw, derived) in DERIVED {
        check.derived(table, raw, derived);
    }
    check.verdict
}

struct Check {
    clickhouse: SocketAddr,
    unfit: u64,
    verdict: Verdict,
}

/// Each derived table as the raw table says it must be, and as it is. Every value is a whole number
/// below 2^53, also in sums, so equal means equal.
const DERIVED: [(&str, &str, &str); 4] = [
    (
        "gpus",
        "SELECT gpu_uuid, argMax(CAST(hostname, 'String'), telemetry.ts), \
         argMax(gpu_index, telemetry.ts), min(ts), max(ts) FROM lanecast.telemetry GROUP BY gpu_uuid",
        "SELECT gpu_uuid, argMaxMerge(hostname), argMaxMerge(gpu_index), min(first_seen), \
         max(last_seen) FROM lanecast.gpus GROUP BY gpu_uuid",
    ),
    (
        "latest",
        "SELECT gpu_uuid, metric, argMax(value, ts), max(ts) FROM lanecast.telemetry \
         GROUP BY gpu_uuid, metric",
        "SELECT gpu_uuid, metric, argMaxMerge(value), max(ts) FROM lanecast.latest \
         GROUP BY gpu_uuid, metric",
    ),
    (
        "telemetry_1m",
        "SELECT metric, gpu_uuid, toStartOfMinute(ts) AS bucket, min(value), max(value), sum(value), \
         count(), argMin(value, ts), argMax(value, ts) FROM lanecast.telemetry \
         GROUP BY metric, gpu_uuid, bucket",
        "SELECT metric, gpu_uuid, ts AS bucket, min(min), max(max), sum(sum), \
         sum(count), argMinMerge(first), argMaxMerge(last) FROM lanecast.telemetry_1m \
         GROUP BY metric, gpu_uuid, bucket",
    ),
    (
        "telemetry_1h",
        "SELECT metric, gpu_uuid, toStartOfHour(ts) AS bucket, min(value), max(value), sum(value), \
         count(), argMin(value, ts), argMax(value, ts) FROM lanecast.telemetry \
         GROUP BY metric, gpu_uuid, bucket",
        "SELECT metric, gpu_uuid, ts AS bucket, min(min), max(max), sum(sum), \
         sum(count), argMinMerge(first), argMaxMerge(last) FROM lanecast.telemetry_1h \
         GROUP BY metric, gpu_uuid, bucket",
    ),
];

impl Check {
    /// The rows of each producer's life that are fit: acknowledged ones once, others at most once.
    fn rows(&mut self, lives: &[Life]) {
        for Life { name, acknowledged, rows } in lives {
            let unfit = unfit_sql("value", self.unfit);
            let found = self.numbers(&format!(
                "SELECT count(), uniqExact(value), uniqExactIf(value, value < {acknowledged}), \
                 countIf(value >= {rows} OR value != floor(value) OR {unfit}) \
                 FROM lanecast.telemetry WHERE hostname = '{name}'"
            ));
            let [count, distinct, kept, alien] = found[..] else { return };
            self.verdict.acknowledged += acknowledged;
            self.verdict.in_doubt += distinct - kept;
            let fit = (0..*acknowledged).filter(|number| !is_unfit(*number, self.unfit));
            let fit = fit.count() as u64;
            self.verdict.lost += fit.saturating_sub(kept);
            self.verdict.doubled += count - distinct;
            if alien > 0 {
                self.wrong(format!("{name}: {alien} rows that nobody pushed"));
            }
            if kept < fit {
                let unfit = unfit_sql("number", self.unfit);
                let lost = self.lines(&format!(
                    "SELECT number FROM numbers({acknowledged}) WHERE NOT ({unfit}) AND number NOT IN \
                     (SELECT toUInt64(value) FROM lanecast.telemetry WHERE hostname = '{name}') \
                     LIMIT {SHOWN}"
                ));
                let missing = fit - kept;
                self.wrong(format!("{name}: {missing} acknowledged rows lost: {lost:?} ..."));
            }
            if count > distinct {
                let doubled = self.lines(&format!(
                    "SELECT toUInt64(value), groupArray((topic_partition, topic_offset, _part)) \
                     FROM lanecast.telemetry WHERE hostname = '{name}' GROUP BY value \
                     HAVING count() > 1 ORDER BY value LIMIT {SHOWN}"
                ));
                let extra = count - distinct;
                self.wrong(format!(
                    "{name}: {extra} rows too many; row, [(partition, offset, part)]: {doubled:#?}"
                ));
            }
        }
        let names: Vec<String> = lives.iter().map(|life| format!("'{}'", life.name)).collect();
        let strangers = self.lines(&format!(
            "SELECT hostname, count() FROM lanecast.telemetry WHERE hostname NOT IN ({}) \
             GROUP BY hostname",
            names.join(", ")
        ));
        if !strangers.is_empty() {
            self.wrong(format!("rows of nobody's: {strangers:?}"));
        }
    }

    /// The rows of each producer's life that are unfit: acknowledged ones in one letter, others in
    /// one at most.
    fn letters(&mut self, lives: &[Life], letters: &Letters) {
        self.verdict.wrong.extend(letters.wrong.iter().cloned());
        let known = |reason: &&String| ["too_new", "too_old"].contains(&reason.as_str());
        if !letters.reasons.keys().all(|reason| known(&reason)) {
            self.wrong(format!("dead letters for other reasons: {:?}", letters.reasons));
        }
        if letters.rows.keys().any(|name| lives.iter().all(|life| life.name != *name)) {
            self.wrong("dead letters of nobody's".to_owned());
        }
        for Life { name, acknowledged, rows } in lives {
            let found = letters.rows.get(name).map_or(&[][..], Vec::as_slice);
            let distinct: BTreeSet<u64> = found.iter().copied().collect();
            let unfit = (0..*acknowledged).filter(|number| is_unfit(*number, self.unfit));
            let lost: Vec<u64> = unfit.filter(|number| !distinct.contains(number)).collect();
            let alien = distinct.iter().filter(|at| **at >= *rows || !is_unfit(**at, self.unfit));
            let alien: Vec<u64> = alien.copied().collect();
            self.verdict.dead += distinct.len() as u64;
            self.verdict.in_doubt += distinct.range(acknowledged..).count() as u64;
            self.verdict.lost += lost.len() as u64;
            self.verdict.doubled += (found.len() - distinct.len()) as u64;
            for (what, which) in [("lost", &lost), ("there by mistake", &alien)] {
                if !which.is_empty() {
                    let (count, some) = (which.len(), &which[..which.len().min(SHOWN)]);
                    self.wrong(format!("{name}: {count} dead letters {what}: {some:?} ..."));
                }
            }
            if found.len() > distinct.len() {
                let extra = found.len() - distinct.len();
                self.wrong(format!("{name}: {extra} rows dead-lettered more than once"));
            }
        }
    }

    /// Each offset of each partition's log once, in ClickHouse or in a dead letter.
    fn offsets(&mut self, logged: &BTreeMap<u64, u64>, letters: &Letters) {
        for (partition, upto) in logged {
            let dead = letters.offsets.get(partition).map_or(&[][..], Vec::as_slice);
            let dead_end = dead.iter().max().map_or(0, |last| last + 1);
            let dead = dead.len() as u64;
            let found = self.numbers(&format!(
                "SELECT count(), uniqExact(topic_offset), max(topic_offset) + (count() > 0) \
                 FROM lanecast.telemetry WHERE topic_partition = {partition}"
            ));
            let [count, distinct, end] = found[..] else { return };
            let end = end.max(dead_end);
            // Rows of one kind are in one place and of the other in the other: no offset is in both.
            if (count + dead, distinct + dead, end) == (*upto, *upto, *upto) {
                continue;
            }
            // Missing offsets in runs: a chunk's bounds, and so its token, show in them.
            let gaps = self.lines(&format!(
                "SELECT min(number), max(number) FROM (SELECT number, number - row_number() OVER \
                 (ORDER BY number) AS run FROM numbers({upto}) WHERE number NOT IN (SELECT \
                 topic_offset FROM lanecast.telemetry WHERE topic_partition = {partition})) \
                 GROUP BY run ORDER BY 1 LIMIT {SHOWN}"
            ));
            let doubled = self.lines(&format!(
                "SELECT min(topic_offset), max(topic_offset), parts FROM (SELECT topic_offset, \
                 arraySort(groupArray(_part)) AS parts FROM lanecast.telemetry WHERE \
                 topic_partition = {partition} GROUP BY topic_offset HAVING count() > 1) \
                 GROUP BY parts ORDER BY 1 LIMIT {SHOWN}"
            ));
            self.wrong(format!(
                "partition {partition}: {count} rows with {distinct} offsets and {dead} dead letters \
                 below {end}, the log has {upto}; missing from-to: {gaps:?}; doubled from-to and parts: {doubled:?}"
            ));
        }
    }

    /// One GPU's rows of one producer stand in the log in the order they were pushed in.
    fn order(&mut self) {
        let turned = self.lines(&format!(
            "SELECT gpu_uuid, topic_offset FROM (SELECT gpu_uuid, value, topic_offset, \
             lagInFrame(topic_offset, 1, 0) OVER (PARTITION BY gpu_uuid ORDER BY value) AS before \
             FROM lanecast.telemetry) WHERE topic_offset < before LIMIT {SHOWN}"
        ));
        if !turned.is_empty() {
            self.wrong(format!("offsets out of order: {turned:?}"));
        }
    }

    fn derived(&mut self, table: &str, raw: &str, derived: &str) {
        for (what, one, other) in
            [("missing or other than", raw, derived), ("more than", derived, raw)]
        {
            let odd = self.lines(&format!("SELECT * FROM ({one} EXCEPT {other}) LIMIT {SHOWN}"));
            if !odd.is_empty() {
                self.wrong(format!("{table}: {what} in the raw table: {odd:#?}"));
            }
        }
    }

    fn wrong(&mut self, what: String) {
        self.verdict.wrong.push(what);
    }

    fn lines(&mut self, sql: &str) -> Vec<String> {
        match support::clickhouse(self.clickhouse, sql) {
            Ok(answer) => answer.lines().map(str::to_owned).collect(),
            Err(error) => {
                self.wrong(format!("{sql}: {error}"));
                Vec::new()
            }
        }
    }

    /// The one line of an answer.
    fn numbers(&mut self, sql: &str) -> Vec<u64> {
        let lines = self.lines(sql);
        let line = lines.first().map_or("", String::as_str);
        line.split('\t').filter_map(|field| field.parse().ok()).collect()
    }
}
