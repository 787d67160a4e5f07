-- The newest value of every series.
CREATE TABLE IF NOT EXISTS {database}.latest {on_cluster}
(
    gpu_uuid LowCardinality(String),
    metric   LowCardinality(String),
    value    AggregateFunction(argMax, Float64, DateTime64(3, 'UTC')),
    ts       SimpleAggregateFunction(max, DateTime64(3, 'UTC'))
)
ENGINE = {replicated}AggregatingMergeTree
ORDER BY (gpu_uuid, metric)
SETTINGS non_replicated_deduplication_window = 10000,
         replicated_deduplication_window = 10000,
         replicated_deduplication_window_seconds = 604800,
         fsync_after_insert = 1,
         fsync_part_directory = 1;

-- The sample's time has another name inside, or `max(ts) AS ts` would be what `argMax` looks at.
CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.latest_view {on_cluster}
TO {database}.latest
AS SELECT
    gpu_uuid,
    metric,
    argMaxState(value, sample_ts) AS value,
    max(sample_ts) AS ts
FROM (SELECT gpu_uuid, metric, value, ts AS sample_ts FROM {database}.telemetry)
GROUP BY gpu_uuid, metric;
