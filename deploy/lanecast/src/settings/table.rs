//! Every setting of every role, once.

/// How a setting stands on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `--flag VALUE`
    Value,
    /// `--flag VALUE`, any number of times; elsewhere one value a line.
    List,
    /// `--flag`
    Switch,
    /// The command's argument without a flag.
    Positional,
}

/// One setting.
#[derive(Debug)]
pub(crate) struct Setting {
    /// `section.key` in the settings file.
    pub(crate) key: &'static str,
    pub(crate) flag: &'static str,
    /// Environment names, the first that is set wins.
    pub(crate) env: &'static [&'static str],
    pub(crate) default: Option<&'static str>,
    pub(crate) value_name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) kind: Kind,
    pub(crate) secret: bool,
}

macro_rules! settings {
    ($($name:ident: $kind:ident $key:literal, $flag:literal, [$($env:literal),*],
       $default:expr, $value:literal, $help:literal $(, $secret:ident)?;)*) => {
        $(pub(crate) static $name: Setting = Setting {
            key: $key,
            flag: $flag,
            env: &[$($env),*],
            default: $default,
            value_name: $value,
            help: $help,
            kind: Kind::$kind,
            secret: false $(|| stringify!($secret).len() > 0)?,
        };)*

        pub(crate) static ALL: &[&Setting] = &[$(&$name),*];
    };
}

settings! {
    LOG_LEVEL: Value "log.level", "log-level", ["LOG_LEVEL"], Some("info"), "LEVEL",
        "error, warn, info, debug or trace, or a tracing filter such as info,lanecast_broker=debug";
    LOG_FORMAT: Value "log.format", "log-format", ["LANECAST_LOG_FORMAT"], Some("text"), "FORMAT",
        "text, or json for one object a line";
    READY_FILE: Value "ready_file", "ready-file", ["LANECAST_READY_FILE"], None, "FILE",
        "Write the process id and bound addresses there as JSON once ready";
    DATA_DIR: Value "data_dir", "data-dir", ["LANECAST_DATA_DIR"], None, "DIR",
        "Where this role keeps its data; default: lanecast-data or clickhouse-data in the working directory";

    BROKER_HOST: Value "broker.host", "host", ["LANECAST_BROKER_HOST"], Some("127.0.0.1"), "IP",
        "Address to listen on";
    BROKER_PORT: Value "broker.port", "port", ["TCP_PORT"], Some("9080"), "PORT",
        "Port of the broker protocol; 0 picks a free one";
    BROKER_ADMIN_PORT: Value "broker.admin_port", "admin-port", ["HTTP_PORT"], Some("9081"), "PORT",
        "Port of health, statistics and metrics; 0 picks a free one";
    BROKER_SHARDS: Value "broker.shards", "shards", ["LANECAST_SHARDS"], Some("0"), "N",
        "Shards, one per core; 0 takes every core the process may use";
    BROKER_MODE: Value "broker.delivery_mode", "delivery-mode", ["DELIVERY_MODE"],
        Some("broadcast"), "MODE",
        "broadcast or queue, for subscribers that name no mode";
    BROKER_MAX_CONSUMERS: Value "broker.max_consumers", "max-consumers", ["MAX_CONSUMERS"],
        Some("1000"), "N",
        "Subscriptions that the broker serves at a time";
    BROKER_GROUP_CHUNKS: Value "broker.group_chunks_in_flight", "group-chunks-in-flight",
        ["LANECAST_GROUP_CHUNKS_IN_FLIGHT"], Some("512"), "N",
        "Chunks of one consumer group that its members may hold on lease at a time in each partition, 1 to 2048; more wait";
    BROKER_MEMORY: Value "broker.memory", "memory", ["LANECAST_BROKER_MEMORY"], Some("0"), "SIZE",
        "Memory for what clients make the broker hold: cache, catch-up reads, outgoing bytes, batches not yet on disk, frames under way; 0: 256MiB a shard, at least 1GiB. Least: 64MiB a shard. Topics with durability memory come on top, and so do about 2 KiB a connection and up to 4 MiB a partition";
    BROKER_CLIENT_BYTES: Value "broker.client_bytes_per_second", "client-bytes-per-second",
        ["LANECAST_CLIENT_BYTES_PER_SECOND"], Some("0"), "SIZE",
        "What a client (by name) may send, and be sent, per second on each shard; more waits; at least 64KiB; 0: no limit";
    BROKER_CLIENT_RECORDS: Value "broker.client_records_per_second", "client-records-per-second",
        ["LANECAST_CLIENT_RECORDS_PER_SECOND"], Some("0"), "N",
        "The same in records; at least 4096; 0: no limit";
    BROKER_CREDIT: Value "broker.consumer_buffer", "consumer-buffer",
        ["CONSUMER_CHANNEL_BUFFER_SIZE"], Some("4MiB"), "SIZE",
        "Credit of subscribers that name none, per partition: bytes with a unit (4MiB), or a plain number of records of 1 KiB each";
    BROKER_SEGMENT: Value "broker.segment_size", "segment-size", ["LANECAST_SEGMENT_SIZE"],
        Some("64MiB"), "SIZE",
        "Size of a log segment file";

    BROKER_ADDR: Value "client.broker_addr", "broker", ["BROKER_ADDR"], Some("127.0.0.1:9080"),
        "HOST:PORT[,...]",
        "Brokers to connect to, tried in turn";
    TOPIC: Value "client.topic", "topic", ["LANECAST_TOPIC"], Some("gpu-telemetry"), "NAME",
        "Topic";
    TOPIC_NAME: Positional "topic.name", "name", [], None, "NAME",
        "Topic";
    TOPIC_PARTITIONS: Value "topic.partitions", "partitions", ["LANECAST_PARTITIONS"], Some("0"),
        "N",
        "Partitions of a topic that is made; 0: one per shard";
    TOPIC_DURABILITY: Value "topic.durability", "durability", ["LANECAST_DURABILITY"],
        Some("fsync"), "LEVEL",
        "What an acknowledgement promises: fsync (survives power loss), written (survives a crash of the broker) or memory (survives nothing)";
    TOPIC_RETENTION_BYTES: Value "topic.retention_bytes", "retention-bytes",
        ["LANECAST_TOPIC_RETENTION_BYTES"], Some("8GiB"), "SIZE",
        "Log kept per partition of a topic that is made; 0: no limit";
    TOPIC_RETENTION: Value "topic.retention", "retention", ["LANECAST_TOPIC_RETENTION"],
        Some("7d"), "TIME",
        "Time that records stay in the log of a topic that is made; 0: for ever";
    TOPIC_TTL: Value "topic.record_ttl", "record-ttl", ["LANECAST_TOPIC_RECORD_TTL"], Some("0"),
        "TIME",
        "Records older than this are not delivered any more; 0: they never expire";
    TOPIC_ON_FULL: Value "topic.on_full", "on-full", ["LANECAST_TOPIC_ON_FULL"], Some("block"),
        "WHAT",
        "When a partition has no room: block (producers wait), drop_new (the batch is dropped and counted) or drop_old (the oldest segments go)";
    TOPIC_BREAKS_LEASES: Switch "topic.retention_breaks_leases", "retention-breaks-leases", [],
        None, "",
        "Retention may take chunks that a group's member holds on lease";
    TOPIC_MAX_ATTEMPTS: Value "topic.max_attempts", "max-attempts", [], Some("3"), "N",
        "A chunk handed out this often without an ack goes to the dead-letter topic; 0: never, as for \
         what goes to ClickHouse";

    ALTER_RETENTION_BYTES: Value "alter.retention_bytes", "retention-bytes", [], None, "SIZE",
        "Log kept per partition; 0: no limit";
    ALTER_RETENTION: Value "alter.retention", "retention", [], None, "TIME",
        "Time that records stay in the log; 0: for ever";
    ALTER_TTL: Value "alter.record_ttl", "record-ttl", [], None, "TIME",
        "Records older than this are not delivered any more; 0: they never expire";
    ALTER_MAX_ATTEMPTS: Value "alter.max_attempts", "max-attempts", [], None, "N",
        "A chunk handed out this often without an ack goes to the dead-letter topic; 0: never";
    ALTER_ON_FULL: Value "alter.on_full", "on-full", [], None, "WHAT",
        "When a partition has no room: block, drop_new or drop_old";
    ALTER_BREAKS_LEASES: Value "alter.retention_breaks_leases", "retention-breaks-leases", [],
        None, "YES/NO",
        "Retention may take chunks that a group's member holds on lease: true or false";

    BENCH_SCENARIOS: Positional "bench.scenarios", "scenarios", [], Some("all"), "NAME[,...]",
        "Scenarios, as `lanecast bench list` names them, or all";
    BENCH_CASE: Value "bench.case", "case", [], None, "TEXT",
        "Measures only cases whose names have this in them, such as 'memory, 512 x'";
    BENCH_CASES: Switch "bench.cases", "cases", [], None, "",
        "Name the cases of each scenario, as a run with default settings has them";
    BENCH_EVERY_SIZE: Switch "bench.every_size", "every-size", [], None, "",
        "Also sizes and durabilities that scenarios leave out for the sake of time";
    BENCH_FOLDER: Value "bench.folder", "folder", ["LANECAST_BENCH_FOLDER"],
        Some("lanecast-bench"), "DIR",
        "Where reports go, and systems keep their data while they run; its disk is what is measured";
    BENCH_ROUNDS: Value "bench.rounds", "rounds", ["LANECAST_BENCH_ROUNDS"], Some("5"), "N",
        "Runs of each system in each case; results are medians";
    BENCH_DURATION: Value "bench.duration", "duration", ["LANECAST_BENCH_DURATION"], Some("3s"),
        "TIME",
        "Time that is counted in each run";
    BENCH_ROWS: Value "bench.rows", "rows", ["LANECAST_BENCH_ROWS"], Some("10000000"), "N",
        "Telemetry rows of the query scenario; pipeline takes half of them, and a fifth as CSV";
    BENCH_WARMUP: Value "bench.warmup", "warmup", ["LANECAST_BENCH_WARMUP"], Some("1s"), "TIME",
        "Time before that, which is not";
    BENCH_PEERS: Value "bench.peers", "peers", ["LANECAST_BENCH_PEERS"], None, "DIR",
        "A folder with programs of peers that are not installed, such as iggy-server and iggy-bench";
    BENCH_BEFORE: Positional "bench.before", "before", [], None, "BEFORE",
        "Report of `lanecast bench run`, as JSON";
    BENCH_AFTER: Positional "bench.after", "after", [], None, "AFTER",
        "Report that is compared with it, as JSON";
    BENCH_ALL: Switch "bench.all", "all", [], None, "",
        "Show every figure, also those that did not change";
    BENCH_LEAST_CHANGE: Value "bench.least_change", "least-change", [], Some("5"), "PERCENT",
        "Smaller changes are noise: two runs of the same program differ by as much";
    BENCH_FAIL: Switch "bench.fail_on_regression", "fail-on-regression", [], None, "",
        "Exit with 3 if Lanecast or a goal is worse beyond noise";
    BENCH_REPORT: Positional "bench.report", "report", [], None, "FILE",
        "Report of `lanecast bench run`, as JSON";
    BENCH_FORMAT: Value "bench.format", "format", [], Some("markdown"), "FORMAT",
        "markdown, html or text";
    BENCH_INTO: Value "bench.into", "into", [], None, "FILE",
        "Put it between the lines `<!-- bench -->` and `<!-- /bench -->` of this file instead of showing it";

    ANSWER_JSON: Switch "answer.json", "json", [], None, "",
        "Answer as JSON, for programs";
    ANSWER_YES: Switch "answer.yes", "yes", [], None, "",
        "Do it without asking";
    BROKER_ADMIN_ADDR: Value "client.admin_addr", "admin", ["LANECAST_BROKER_ADMIN"], None,
        "HOST:PORT",
        "The broker's admin port, for sizes and states; default: port 9081 of a broker on port 9080";

    GROUP_NAME: Positional "group.name", "name", [], None, "NAME",
        "Consumer group";
    GROUP_TOPIC: Value "group.topic", "topic", ["LANECAST_TOPIC"], None, "NAME",
        "Only this topic; default: all of them";
    GROUP_PARTITION: Value "group.partition", "partition", [], None, "N",
        "Only this partition; default: all of them";
    GROUP_TO: Value "group.to", "to", [], None, "WHERE",
        "Where the group goes on: earliest, latest, an offset, a time (RFC 3339), or an age such as 15m";

    FILTER_GPU: List "filter.gpu", "gpu", [], None, "UUID",
        "Only records of this GPU; with other keys: of any of them. Repeatable";
    FILTER_HOST: List "filter.host", "host", [], None, "NAME",
        "Only records of this host. Repeatable";
    FILTER_KEY: List "filter.key", "key", [], None, "KEY",
        "Only messages with this key. Repeatable";
    TAIL_FROM: Value "tail.from", "from", [], Some("last:10"), "WHERE",
        "earliest, latest, last:N (of each partition), an offset, a time (RFC 3339), or an age such as 15m";
    DLQ_FROM: Value "dlq.from", "from", [], Some("earliest"), "WHERE",
        "earliest, latest, last:N (of each partition), an offset, a time (RFC 3339), or an age such as 15m";
    DLQ_RECORDS: Switch "dlq.records", "records", [], None, "",
        "Print the dead records under each letter";
    TAIL_FOLLOW: Switch "tail.follow", "follow", [], None, "",
        "Go on with what is produced from now on, until stopped";

    CSV_PATH: Positional "produce.csv_path", "csv", ["CSV_PATH"], None, "FILE",
        "CSV file, plain or gzip";
    CSV_LOOP: Switch "produce.loop", "loop", ["LANECAST_LOOP"], None, "",
        "Start over at the end of the file, until stopped";
    CSV_STRICT: Switch "produce.strict", "strict", ["LANECAST_STRICT"], None, "",
        "Stop at the first bad row";
    CSV_REJECTS: Value "produce.rejects", "rejects", ["LANECAST_REJECTS"], None, "FILE",
        "Write bad rows there, each with line and reason";
    CSV_TIMESTAMPS: Value "produce.timestamps", "timestamps", ["LANECAST_TIMESTAMPS"], Some("now"),
        "MODE",
        "now (time of processing), original, or shift (spacing kept, first row now); the source's time is kept beside it";
    CSV_SHARD: Value "produce.shard", "shard", ["LANECAST_CSV_SHARD"], Some("0/1"), "I/N",
        "Take only the I-th of N parts of the file, split by GPU; for several producers on one file";
    RATE: Value "produce.rate", "rate", ["LANECAST_RATE"], Some("0"), "ROWS/S",
        "Rows per second; 0: as fast as the broker takes them";
    LINGER: Value "produce.linger", "linger", ["LANECAST_LINGER"], Some("20ms"), "TIME",
        "Longest that a row waits for its batch to fill";
    REPORT_JSON: Switch "produce.json", "json", [], None, "",
        "Print the summary as one line of JSON";

    GEN_HOSTS: Value "generate.hosts", "hosts", ["LANECAST_HOSTS"], Some("31"), "N",
        "Hosts of the generated fleet";
    GEN_GPUS: Value "generate.gpus_per_host", "gpus-per-host", ["LANECAST_GPUS_PER_HOST"],
        Some("8"), "N",
        "GPUs of each host";
    GEN_SEED: Value "generate.seed", "seed", ["LANECAST_SEED"], Some("1"), "N",
        "Same seed, same fleet and values";
    GEN_INTERVAL: Value "generate.interval", "interval", ["LANECAST_INTERVAL"], Some("1s"), "TIME",
        "Time between samples of a GPU";
    GEN_ROWS: Value "generate.rows", "rows", ["LANECAST_ROWS"], Some("0"), "N",
        "Stop after this many rows; 0: never";
    GEN_FLAT_OUT: Switch "generate.flat_out", "flat-out", ["LANECAST_FLAT_OUT"], None, "",
        "Do not wait for the interval: as fast as the broker takes them";
    GEN_MISSING: Value "generate.missing_gpus", "missing-gpus", ["LANECAST_MISSING_GPUS"],
        Some("1"), "N",
        "GPUs that are out for repair";
    GEN_METRICS: Value "generate.metrics", "metrics", ["LANECAST_METRICS"], Some("10"), "N",
        "Metrics of each GPU; the first ten are a default dcgm-exporter's";
    GEN_DURATION: Value "generate.duration", "duration", ["LANECAST_DURATION"], Some("0"), "TIME",
        "Stop after this much of the fleet's time; 0: never";
    GEN_START: Value "generate.start", "start", [], None, "TIME",
        "When the fleet's time begins (RFC 3339); default: now";
    GEN_CSV_LAYOUT: Value "generate.csv_layout", "csv-layout", [], Some("long"), "LAYOUT",
        "long (a row per value, as dcgm-exporter dumps are) or wide (a column per metric)";
    GEN_CSV_SPOIL: Value "generate.csv_spoil_every", "spoil-every", [], None, "N",
        "Make every N-th row of the file a bad one, for trying --rejects";
    GEN_CSV: Value "generate.csv_out", "csv-out", [], None, "FILE",
        "Write CSV there instead of publishing; - is the standard output";

    CLICKHOUSE_URL: Value "clickhouse.url", "clickhouse-url", ["CLICKHOUSE_URL"],
        Some("http://127.0.0.1:8123"), "URL",
        "HTTP interface of the ClickHouse server";
    CLICKHOUSE_USER: Value "clickhouse.user", "clickhouse-user", ["CLICKHOUSE_USER"],
        Some("default"), "NAME",
        "ClickHouse user";
    CLICKHOUSE_PASSWORD: Value "clickhouse.password", "clickhouse-password",
        ["CLICKHOUSE_PASSWORD"], None, "TEXT",
        "ClickHouse password; better given by the environment than by the flag", secret;
    CLICKHOUSE_DATABASE: Value "clickhouse.database", "clickhouse-database",
        ["CLICKHOUSE_DATABASE"], Some("lanecast"), "NAME",
        "Database, made if missing";
    RETENTION_RAW: Value "clickhouse.retention_days", "retention-days",
        ["LANECAST_RETENTION_DAYS"], Some("30"), "DAYS",
        "Days that raw telemetry is kept in ClickHouse; 0: for ever";
    RETENTION_ROLLUP: Value "clickhouse.rollup_retention_days", "rollup-retention-days",
        ["LANECAST_ROLLUP_RETENTION_DAYS"], Some("400"), "DAYS",
        "Days that 1-minute and 1-hour roll-ups are kept; 0: for ever";

    CONSUME_GROUP: Value "consume.group", "group", ["LANECAST_GROUP"], Some("clickhouse"), "NAME",
        "Consumer group; its members share the work";
    CONSUME_HOST: Value "consume.admin_host", "admin-host", ["LANECAST_CONSUMER_ADMIN_HOST"],
        Some("127.0.0.1"), "IP",
        "Address of the consumer's health and metrics port";
    CONSUME_ADMIN_PORT: Value "consume.admin_port", "admin-port",
        ["LANECAST_CONSUMER_ADMIN_PORT"], Some("9082"), "PORT",
        "Port of health, statistics and metrics; 0 picks a free one";
    CONSUME_LEASE: Value "consume.lease_seconds", "lease-seconds", ["LEASE_SECONDS"], Some("30"),
        "SECONDS",
        "Time to store a chunk before another consumer gets it";
    CONSUME_LEASE_MAX: Value "consume.lease_max", "lease-max", ["LEASE_MAX"], Some("800000"),
        "RECORDS",
        "Records of a chunk, the unit of one INSERT";
    CONSUME_LINGER: Value "consume.linger", "linger", ["LANECAST_CHUNK_LINGER"], Some("500ms"),
        "TIME",
        "Longest that a record waits for its chunk to fill";
    CONSUME_INSERT_TIMEOUT: Value "consume.insert_timeout", "insert-timeout",
        ["LANECAST_INSERT_TIMEOUT"], Some("120s"), "TIME",
        "Longest wait for ClickHouse to answer an INSERT; after that it is sent again, to the same effect";
    PRINT_FORMAT: Value "print.format", "format", [], Some("text"), "FORMAT",
        "text, or ndjson for one JSON object a record";
    PRINT_FROM: Value "print.from", "from", [], Some("latest"), "WHERE",
        "earliest, latest, last:N (of each partition), an offset, a time (RFC 3339), or an age such as 15m";
    PRINT_LIMIT: Value "print.limit", "limit", [], Some("0"), "N",
        "Stop after this many records; 0: go on until stopped";

    QUERY_HOST: Value "query.host", "host", ["LANECAST_QUERY_HOST"], Some("127.0.0.1"), "IP",
        "Address to listen on";
    QUERY_PORT: Value "query.port", "port", ["METRICS_PORT"], Some("8080"), "PORT",
        "Port of the REST service; 0 picks a free one";
    QUERY_AUTH_TOKEN: Value "query.auth_token", "auth-token", ["AUTH_TOKEN"], None, "TEXT",
        "Bearer token that requests must carry; none: no authentication, loopback only", secret;
    QUERY_NO_AUTH: Switch "query.insecure_no_auth", "insecure-no-auth",
        ["LANECAST_INSECURE_NO_AUTH"], None, "",
        "Serve other machines without a token";
    QUERY_PAGE_SIZE: Value "query.default_page_size", "page-size", ["DEFAULT_PAGE_SIZE"],
        Some("100"), "ROWS",
        "Rows of a page when the request names no limit";

    LOCAL_HOST: Value "local_clickhouse.host", "host", ["LANECAST_LOCAL_CLICKHOUSE_HOST"],
        Some("127.0.0.1"), "IP",
        "Address to listen on";
    LOCAL_PORT: Value "local_clickhouse.port", "port", ["LANECAST_LOCAL_CLICKHOUSE_PORT"],
        Some("8123"), "PORT",
        "Port to listen on; 0 picks a free one";
    LOCAL_USER: Value "local_clickhouse.user", "user", ["LANECAST_LOCAL_CLICKHOUSE_USER"],
        Some("default"), "NAME",
        "User that clients give";
    LOCAL_PASSWORD: Value "local_clickhouse.password", "password",
        ["LANECAST_LOCAL_CLICKHOUSE_PASSWORD"], None, "TEXT",
        "Password that clients give; none: no authentication, loopback only", secret;
    LOCAL_NO_AUTH: Switch "local_clickhouse.insecure_no_auth", "insecure-no-auth", [], None, "",
        "Serve other machines without a password";
    LOCAL_MEMORY: Value "local_clickhouse.memory", "memory", ["LANECAST_LOCAL_CLICKHOUSE_MEMORY"],
        Some("2GiB"), "SIZE",
        "Memory that the engine may use";
    LOCAL_LIBRARY: Value "local_clickhouse.library", "library", ["LANECAST_CHDB_LIB"], None, "FILE",
        "Use this libchdb.so instead of the downloaded one";

    LOG_PATH: Positional "log_files.path", "path", [], None, "DIR|FILE",
        "A broker's data directory, a folder in it, or one segment file";
    LOG_TOPIC: Value "log_files.topic", "topic", [], None, "NAME|NUMBER",
        "Only the logs of this topic";
    LOG_PARTITION: Value "log_files.partition", "partition", [], None, "N",
        "Only the logs of this partition";

    HEALTHCHECK_URL: Positional "healthcheck.url", "url", [], None, "HOST:PORT/PATH",
        "What to ask, such as 127.0.0.1:9081/readyz";

    UP_CSV: Value "up.csv", "csv", ["LANECAST_UP_CSV"], None, "FILE",
        "Replay this CSV file instead of generating a fleet";
    UP_ONCE: Switch "up.once", "once", [], None, "",
        "Stop when the source is at its end and every row is queryable, and print a summary";
    UP_KEEP: Switch "up.keep", "keep", [], None, "",
        "With --once: keep the services up after the summary, until stopped";
    UP_QUERY_PORT: Value "up.query_port", "query-port", ["METRICS_PORT"], Some("8080"), "PORT",
        "Port of the REST service; 0 picks a free one";
    UP_BROKER_PORT: Value "up.broker_port", "broker-port", ["TCP_PORT"], Some("9080"), "PORT",
        "Port of the broker protocol; 0 picks a free one";
    UP_BROKER_ADMIN_PORT: Value "up.broker_admin_port", "broker-admin-port", ["HTTP_PORT"],
        Some("9081"), "PORT",
        "Port of the broker's health and metrics; 0 picks a free one";
    UP_CONSUMER_ADMIN_PORT: Value "up.consumer_admin_port", "consumer-admin-port",
        ["LANECAST_CONSUMER_ADMIN_PORT"], Some("9082"), "PORT",
        "Port of the consumer's health and metrics; 0 picks a free one";
    UP_CLICKHOUSE_PORT: Value "up.clickhouse_port", "clickhouse-port",
        ["LANECAST_LOCAL_CLICKHOUSE_PORT"], Some("8123"), "PORT",
        "Port of the local ClickHouse; 0 picks a free one";
    UP_CLICKHOUSE_URL: Value "up.clickhouse_url", "clickhouse-url", ["CLICKHOUSE_URL"], None, "URL",
        "Use this ClickHouse server and start none";
    UP_DATA_DIR: Value "up.data_dir", "data-dir", ["LANECAST_DATA_DIR"], None, "DIR",
        "Where everything is kept; default: lanecast in the user's data folder ($XDG_DATA_HOME or ~/.local/share)";
    UP_RETENTION_RAW: Value "up.retention_days", "retention-days", ["LANECAST_RETENTION_DAYS"],
        None, "DAYS",
        "Days that raw telemetry is kept; default 30, or for ever (0) with --timestamps original";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_unique_and_lower_case() {
        for (i, setting) in ALL.iter().enumerate() {
            assert!(ALL[i + 1..].iter().all(|other| other.key != setting.key), "{}", setting.key);
            assert!(
                setting.key.chars().all(|c| c.is_ascii_lowercase() || "._".contains(c)),
                "{}",
                setting.key
            );
        }
    }

    #[test]
    fn new_environment_names_carry_a_prefix() {
        const INHERITED: &[&str] = &[
            "AUTH_TOKEN",
            "BROKER_ADDR",
            "CONSUMER_CHANNEL_BUFFER_SIZE",
            "CSV_PATH",
            "DEFAULT_PAGE_SIZE",
            "DELIVERY_MODE",
            "HTTP_PORT",
            "LEASE_MAX",
            "LEASE_SECONDS",
            "LOG_LEVEL",
            "MAX_CONSUMERS",
            "METRICS_PORT",
            "TCP_PORT",
        ];
        for name in ALL.iter().flat_map(|setting| setting.env) {
            assert!(
                INHERITED.contains(name)
                    || name.starts_with("LANECAST_")
                    || name.starts_with("CLICKHOUSE_"),
                "{name}"
            );
        }
        for name in INHERITED {
            assert!(ALL.iter().any(|setting| setting.env.contains(name)), "{name}");
        }
    }
}
