-- What is known of each GPU: identity as of its newest sample, and when it was first and last seen.
CREATE TABLE IF NOT EXISTS {database}.gpus {on_cluster}
(
    gpu_uuid   LowCardinality(String),
    hostname   AggregateFunction(argMax, String, DateTime64(3, 'UTC')),
    gpu_index  AggregateFunction(argMax, UInt32, DateTime64(3, 'UTC')),
    device     AggregateFunction(argMax, String, DateTime64(3, 'UTC')),
    model      AggregateFunction(argMax, String, DateTime64(3, 'UTC')),
    namespace  AggregateFunction(argMax, String, DateTime64(3, 'UTC')),
    pod        AggregateFunction(argMax, String, DateTime64(3, 'UTC')),
    container  AggregateFunction(argMax, String, DateTime64(3, 'UTC')),
    first_seen SimpleAggregateFunction(min, DateTime64(3, 'UTC')),
    last_seen  SimpleAggregateFunction(max, DateTime64(3, 'UTC'))
)
ENGINE = {replicated}AggregatingMergeTree
ORDER BY gpu_uuid
SETTINGS non_replicated_deduplication_window = 10000,
         replicated_deduplication_window = 10000,
         replicated_deduplication_window_seconds = 604800,
         fsync_after_insert = 1,
         fsync_part_directory = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.gpus_view {on_cluster}
TO {database}.gpus
AS SELECT
    gpu_uuid,
    argMaxState(CAST(hostname, 'String'), ts) AS hostname,
    argMaxState(gpu_index, ts) AS gpu_index,
    argMaxState(CAST(device, 'String'), ts) AS device,
    argMaxState(CAST(model, 'String'), ts) AS model,
    argMaxState(CAST(namespace, 'String'), ts) AS namespace,
    argMaxState(CAST(pod, 'String'), ts) AS pod,
    argMaxState(CAST(container, 'String'), ts) AS container,
    min(ts) AS first_seen,
    max(ts) AS last_seen
FROM {database}.telemetry
GROUP BY gpu_uuid;
