-- One row per series and minute. `ts` is the start of the minute. The hour stands before the GPU in the
-- order: one metric over the whole fleet for minutes and one GPU over days both read few rows.
CREATE TABLE IF NOT EXISTS {database}.telemetry_1m {on_cluster}
(
    metric   LowCardinality(String),
    gpu_uuid LowCardinality(String),
    ts       DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    min      SimpleAggregateFunction(min, Float64) CODEC(ZSTD(1)),
    max      SimpleAggregateFunction(max, Float64) CODEC(ZSTD(1)),
    sum      SimpleAggregateFunction(sum, Float64) CODEC(ZSTD(1)),
    count    SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    first    AggregateFunction(argMin, Float64, DateTime64(3, 'UTC')) CODEC(ZSTD(1)),
    last     AggregateFunction(argMax, Float64, DateTime64(3, 'UTC')) CODEC(ZSTD(1))
)
ENGINE = {replicated}AggregatingMergeTree
PARTITION BY toDate(ts)
ORDER BY (metric, toStartOfHour(ts), gpu_uuid, ts)
SETTINGS non_replicated_deduplication_window = 10000,
         replicated_deduplication_window = 10000,
         replicated_deduplication_window_seconds = 604800,
         ttl_only_drop_parts = 1,
         fsync_after_insert = 1,
         fsync_part_directory = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.telemetry_1m_view {on_cluster}
TO {database}.telemetry_1m
AS SELECT
    metric,
    gpu_uuid,
    toStartOfMinute(sample_ts) AS ts,
    min(sample) AS min,
    max(sample) AS max,
    sum(sample) AS sum,
    count() AS count,
    argMinState(sample, sample_ts) AS first,
    argMaxState(sample, sample_ts) AS last
FROM (SELECT metric, gpu_uuid, ts AS sample_ts, value AS sample FROM {database}.telemetry)
GROUP BY metric, gpu_uuid, ts;
