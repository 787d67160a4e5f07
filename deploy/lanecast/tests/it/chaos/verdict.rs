//! What a round has to be like at its end: rows in ClickHouse against rows acknowledged.

use std::collections::BTreeMap;
use std::net::SocketAddr;

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
    /// Rows in ClickHouse whose acknowledgement did not reach the producer.
    pub(super) in_doubt: u64,
    pub(super) lost: u64,
    pub(super) doubled: u64,
    pub(super) wrong: Vec<String>,
}

/// How many rows or groups of rows an account of a failure shows.
const SHOWN: usize = 20;

/// Looks at a ClickHouse at rest. `logged` is the high watermark of each partition.
pub(super) fn verdict(
    clickhouse: SocketAddr,
    lives: &[Life],
    logged: &BTreeMap<u64, u64>,
) -> Verdict {
    let mut check = Check { clickhouse, verdict: Verdict::default() };
    check.rows(lives);
    check.offsets(logged);
    check.order();
    for (table, raw, derived) in DERIVED {
        check.derived(table, raw, derived);
    }
    check.verdict
}

struct Check {
    clickhouse: SocketAddr,
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
    /// The rows of each producer's life: acknowledged ones once, others at most once.
    fn rows(&mut self, lives: &[Life]) {
        for Life { name, acknowledged, rows } in lives {
            let found = self.numbers(&format!(
                "SELECT count(), uniqExact(value), uniqExactIf(value, value < {acknowledged}), \
                 countIf(value >= {rows} OR value != floor(value)) \
                 FROM lanecast.telemetry WHERE hostname = '{name}'"
            ));
            let [count, distinct, kept, alien] = found[..] else { return };
            self.verdict.acknowledged += acknowledged;
            self.verdict.in_doubt += distinct - kept;
            self.verdict.lost += acknowledged - kept;
            self.verdict.doubled += count - distinct;
            if alien > 0 {
                self.wrong(format!("{name}: {alien} rows that nobody pushed"));
            }
            if kept < *acknowledged {
                let lost = self.lines(&format!(
                    "SELECT number FROM numbers({acknowledged}) WHERE number NOT IN \
                     (SELECT toUInt64(value) FROM lanecast.telemetry WHERE hostname = '{name}') \
                     LIMIT {SHOWN}"
                ));
                let missing = acknowledged - kept;
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

    /// Each offset of each partition's log once.
    fn offsets(&mut self, logged: &BTreeMap<u64, u64>) {
        for (partition, upto) in logged {
            let found = self.numbers(&format!(
                "SELECT count(), uniqExact(topic_offset), max(topic_offset) + (count() > 0) \
                 FROM lanecast.telemetry WHERE topic_partition = {partition}"
            ));
            let [count, distinct, end] = found[..] else { return };
            if (count, distinct, end) == (*upto, *upto, *upto) {
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
                "partition {partition}: {count} rows with {distinct} offsets below {end}, the log \
                 has {upto}; missing from-to: {gaps:?}; doubled from-to and parts: {doubled:?}"
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
