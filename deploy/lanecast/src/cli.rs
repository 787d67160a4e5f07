//! The command tree, made from the settings table.

use clap::{Arg, ArgAction, Command};

use crate::settings::table::{self, Kind, Setting};

/// One command: its words, and the settings that it takes.
pub(crate) struct Role {
    /// `["produce", "csv"]`
    pub(crate) path: &'static [&'static str],
    pub(crate) about: &'static str,
    settings: &'static [&'static [&'static Setting]],
}

impl Role {
    pub(crate) fn settings(&self) -> Vec<&'static Setting> {
        self.settings.concat()
    }
}

/// Settings that belong together, each group taken whole by the roles that need it.
mod group {
    use crate::settings::table::*;

    type Group = &'static [&'static Setting];

    pub(super) static LOG: Group = &[&LOG_LEVEL, &LOG_FORMAT];
    pub(super) static CLIENT: Group = &[&BROKER_ADDR, &TOPIC];
    pub(super) static NEW_TOPIC: Group =
        &[&TOPIC_PARTITIONS, &TOPIC_DURABILITY, &TOPIC_RETENTION_BYTES, &TOPIC_RETENTION];
    pub(super) static TOPIC_RULES: Group =
        &[&TOPIC_TTL, &TOPIC_MAX_ATTEMPTS, &TOPIC_ON_FULL, &TOPIC_BREAKS_LEASES];
    pub(super) static ALTER: Group = &[
        &ALTER_RETENTION_BYTES,
        &ALTER_RETENTION,
        &ALTER_TTL,
        &ALTER_MAX_ATTEMPTS,
        &ALTER_ON_FULL,
        &ALTER_BREAKS_LEASES,
    ];
    pub(super) static FILTER: Group = &[&FILTER_GPU, &FILTER_HOST, &FILTER_KEY];
    pub(super) static CLICKHOUSE: Group =
        &[&CLICKHOUSE_URL, &CLICKHOUSE_USER, &CLICKHOUSE_PASSWORD, &CLICKHOUSE_DATABASE];
    pub(super) static FLEET: Group = &[
        &GEN_HOSTS,
        &GEN_GPUS,
        &GEN_MISSING,
        &GEN_METRICS,
        &GEN_SEED,
        &GEN_INTERVAL,
        &GEN_DURATION,
        &GEN_START,
        &GEN_ROWS,
        &GEN_FLAT_OUT,
    ];
    pub(super) static REPLAY: Group = &[&CSV_LOOP, &CSV_STRICT, &CSV_REJECTS];
    pub(super) static PACE: Group = &[&RATE, &CSV_TIMESTAMPS, &REPORT_JSON];
}

pub(crate) static UP: Role = Role {
    path: &["up"],
    about: "Run everything on this machine: ClickHouse, broker, consumer, query and a source",
    settings: &[
        group::LOG,
        group::FLEET,
        group::REPLAY,
        group::PACE,
        &[
            &table::UP_DATA_DIR,
            &table::UP_CSV,
            &table::UP_ONCE,
            &table::UP_KEEP,
            &table::UP_RETENTION_RAW,
            &table::RETENTION_ROLLUP,
            &table::BROKER_SHARDS,
            &table::TOPIC_DURABILITY,
            &table::UP_BROKER_PORT,
            &table::UP_BROKER_ADMIN_PORT,
            &table::UP_CONSUMER_ADMIN_PORT,
            &table::UP_QUERY_PORT,
            &table::UP_CLICKHOUSE_PORT,
            &table::UP_CLICKHOUSE_URL,
            &table::CLICKHOUSE_USER,
            &table::CLICKHOUSE_PASSWORD,
            &table::CLICKHOUSE_DATABASE,
            &table::QUERY_AUTH_TOKEN,
            &table::LOCAL_MEMORY,
            &table::LOCAL_LIBRARY,
            &table::READY_FILE,
        ],
    ],
};

pub(crate) static BROKER: Role = Role {
    path: &["broker"],
    about: "Run the broker",
    settings: &[
        group::LOG,
        &[
            &table::DATA_DIR,
            &table::BROKER_HOST,
            &table::BROKER_PORT,
            &table::BROKER_ADMIN_PORT,
            &table::BROKER_SHARDS,
            &table::BROKER_MODE,
            &table::BROKER_MEMORY,
            &table::BROKER_MAX_CONSUMERS,
            &table::BROKER_GROUP_CHUNKS,
            &table::BROKER_CLIENT_BYTES,
            &table::BROKER_CLIENT_RECORDS,
            &table::BROKER_CREDIT,
            &table::BROKER_SEGMENT,
            &table::READY_FILE,
        ],
    ],
};

pub(crate) static PRODUCE_CSV: Role = Role {
    path: &["produce", "csv"],
    about: "Replay a CSV file of telemetry into the broker",
    settings: &[
        group::LOG,
        group::CLIENT,
        group::NEW_TOPIC,
        group::REPLAY,
        group::PACE,
        &[&table::CSV_PATH, &table::CSV_SHARD, &table::LINGER],
    ],
};

pub(crate) static PRODUCE_GENERATE: Role = Role {
    path: &["produce", "generate"],
    about: "Play a fleet: publish believable telemetry, or write it as CSV",
    settings: &[
        group::LOG,
        group::CLIENT,
        group::NEW_TOPIC,
        group::FLEET,
        group::PACE,
        &[
            &table::CSV_SHARD,
            &table::GEN_CSV,
            &table::GEN_CSV_LAYOUT,
            &table::GEN_CSV_SPOIL,
            &table::LINGER,
        ],
    ],
};

pub(crate) static CONSUME_CLICKHOUSE: Role = Role {
    path: &["consume", "clickhouse"],
    about: "Move telemetry from the broker into ClickHouse, exactly once",
    settings: &[
        group::LOG,
        group::CLIENT,
        group::NEW_TOPIC,
        group::CLICKHOUSE,
        &[
            &table::CONSUME_GROUP,
            &table::CONSUME_LEASE,
            &table::CONSUME_LEASE_MAX,
            &table::CONSUME_LINGER,
            &table::CONSUME_INSERT_TIMEOUT,
            &table::CONSUME_HOST,
            &table::CONSUME_ADMIN_PORT,
            &table::RETENTION_RAW,
            &table::RETENTION_ROLLUP,
            &table::READY_FILE,
        ],
    ],
};

pub(crate) static CONSUME_PRINT: Role = Role {
    path: &["consume", "print"],
    about: "Print a topic's records as they come",
    settings: &[
        group::LOG,
        group::CLIENT,
        group::FILTER,
        &[&table::PRINT_FORMAT, &table::PRINT_FROM, &table::PRINT_LIMIT],
    ],
};

pub(crate) static QUERY: Role = Role {
    path: &["query"],
    about: "Run the REST service",
    settings: &[
        group::LOG,
        group::CLICKHOUSE,
        &[
            &table::QUERY_HOST,
            &table::QUERY_PORT,
            &table::QUERY_AUTH_TOKEN,
            &table::QUERY_NO_AUTH,
            &table::QUERY_PAGE_SIZE,
            &table::READY_FILE,
        ],
    ],
};

pub(crate) static CLICKHOUSE_SERVE: Role = Role {
    path: &["clickhouse", "serve"],
    about: "Run a local ClickHouse (its HTTP interface over libchdb)",
    settings: &[
        group::LOG,
        &[
            &table::DATA_DIR,
            &table::LOCAL_HOST,
            &table::LOCAL_PORT,
            &table::LOCAL_USER,
            &table::LOCAL_PASSWORD,
            &table::LOCAL_NO_AUTH,
            &table::LOCAL_MEMORY,
            &table::LOCAL_LIBRARY,
            &table::READY_FILE,
        ],
    ],
};

pub(crate) static CLICKHOUSE_INSTALL: Role = Role {
    path: &["clickhouse", "install"],
    about: "Fetch the local ClickHouse library into the user's cache",
    settings: &[group::LOG, &[&table::LOCAL_LIBRARY]],
};

pub(crate) static TOPIC_LIST: Role = Role {
    path: &["topic", "list"],
    about: "List the broker's topics",
    settings: &[group::LOG, &[&table::BROKER_ADDR, &table::ANSWER_JSON]],
};

pub(crate) static TOPIC_CREATE: Role = Role {
    path: &["topic", "create"],
    about: "Make a topic; with equal settings it may exist already",
    settings: &[
        group::LOG,
        group::NEW_TOPIC,
        group::TOPIC_RULES,
        &[&table::TOPIC_NAME, &table::BROKER_ADDR, &table::ANSWER_JSON],
    ],
};

pub(crate) static TOPIC_DESCRIBE: Role = Role {
    path: &["topic", "describe"],
    about: "Show a topic's settings, partitions and consumer groups",
    settings: &[
        group::LOG,
        &[&table::TOPIC_NAME, &table::BROKER_ADDR, &table::BROKER_ADMIN_ADDR, &table::ANSWER_JSON],
    ],
};

pub(crate) static TOPIC_ALTER: Role = Role {
    path: &["topic", "alter"],
    about: "Change a topic's settings while it is in use; what is not given stays",
    settings: &[
        group::LOG,
        group::ALTER,
        &[&table::TOPIC_NAME, &table::BROKER_ADDR, &table::ANSWER_JSON],
    ],
};

pub(crate) static TOPIC_DELETE: Role = Role {
    path: &["topic", "delete"],
    about: "Delete a topic with all its records and consumer groups",
    settings: &[
        group::LOG,
        &[&table::TOPIC_NAME, &table::BROKER_ADDR, &table::ANSWER_YES, &table::ANSWER_JSON],
    ],
};

pub(crate) static TOPIC_TAIL: Role = Role {
    path: &["topic", "tail"],
    about: "Print a topic's last records, or go on with it as it grows",
    settings: &[
        group::LOG,
        group::FILTER,
        &[
            &table::TOPIC_NAME,
            &table::BROKER_ADDR,
            &table::TAIL_FROM,
            &table::TAIL_FOLLOW,
            &table::PRINT_LIMIT,
            &table::ANSWER_JSON,
        ],
    ],
};

pub(crate) static TOPIC_DLQ: Role = Role {
    path: &["topic", "dlq"],
    about: "Print a topic's dead letters: which records nobody could handle, and why",
    settings: &[
        group::LOG,
        group::FILTER,
        &[
            &table::TOPIC_NAME,
            &table::BROKER_ADDR,
            &table::DLQ_FROM,
            &table::DLQ_RECORDS,
            &table::PRINT_LIMIT,
            &table::ANSWER_JSON,
        ],
    ],
};

pub(crate) static TOPIC_REDRIVE: Role = Role {
    path: &["topic", "redrive"],
    about: "Send a topic's dead letters back to it, each once",
    settings: &[group::LOG, &[&table::TOPIC_NAME, &table::BROKER_ADDR, &table::ANSWER_JSON]],
};

pub(crate) static GROUP_LIST: Role = Role {
    path: &["group", "list"],
    about: "List consumer groups, and how far behind each is",
    settings: &[group::LOG, &[&table::BROKER_ADDR, &table::GROUP_TOPIC, &table::ANSWER_JSON]],
};

pub(crate) static GROUP_DESCRIBE: Role = Role {
    path: &["group", "describe"],
    about: "Show a consumer group in every partition",
    settings: &[
        group::LOG,
        &[&table::GROUP_NAME, &table::BROKER_ADDR, &table::GROUP_TOPIC, &table::ANSWER_JSON],
    ],
};

pub(crate) static GROUP_MOVE: Role = Role {
    path: &["group", "move"],
    about: "Set where a consumer group without members goes on",
    settings: &[
        group::LOG,
        group::CLIENT,
        &[&table::GROUP_NAME, &table::GROUP_TO, &table::GROUP_PARTITION, &table::ANSWER_JSON],
    ],
};

pub(crate) static GROUP_DELETE: Role = Role {
    path: &["group", "delete"],
    about: "Forget a consumer group without members",
    settings: &[
        group::LOG,
        group::CLIENT,
        &[&table::GROUP_NAME, &table::GROUP_PARTITION, &table::ANSWER_YES, &table::ANSWER_JSON],
    ],
};

pub(crate) static LOG_VERIFY: Role = Role {
    path: &["log", "verify"],
    about: "Check the files of a stopped broker; exits 0 if they are whole, 3 if something is damaged",
    settings: &[
        group::LOG,
        &[&table::LOG_PATH, &table::LOG_TOPIC, &table::LOG_PARTITION, &table::ANSWER_JSON],
    ],
};

pub(crate) static LOG_DUMP: Role = Role {
    path: &["log", "dump"],
    about: "Show what is in the files of a stopped broker, block by block",
    settings: &[
        group::LOG,
        &[&table::LOG_PATH, &table::LOG_TOPIC, &table::LOG_PARTITION, &table::ANSWER_JSON],
    ],
};

pub(crate) static BENCH_RUN: Role = Role {
    path: &["bench", "run"],
    about: "Measure, beside what the machine could do at most, and write a report",
    settings: &[
        group::LOG,
        &[
            &table::BENCH_SCENARIOS,
            &table::BENCH_CASE,
            &table::BENCH_EVERY_SIZE,
            &table::BENCH_FOLDER,
            &table::BENCH_ROUNDS,
            &table::BENCH_DURATION,
            &table::BENCH_WARMUP,
            &table::BENCH_PEERS,
            &table::BENCH_ROWS,
        ],
    ],
};

pub(crate) static BENCH_LIST: Role = Role {
    path: &["bench", "list"],
    about: "List what can be measured",
    settings: &[
        group::LOG,
        &[&table::BENCH_SCENARIOS, &table::BENCH_CASES, &table::BENCH_EVERY_SIZE],
    ],
};

pub(crate) static BENCH_SHOW: Role = Role {
    path: &["bench", "show"],
    about: "Show a report again, as Markdown, as a page, or as text",
    settings: &[group::LOG, &[&table::BENCH_REPORT, &table::BENCH_FORMAT, &table::BENCH_INTO]],
};

pub(crate) static BENCH_COMPARE: Role = Role {
    path: &["bench", "compare"],
    about: "Say what changed between two reports beyond noise",
    settings: &[
        group::LOG,
        &[
            &table::BENCH_BEFORE,
            &table::BENCH_AFTER,
            &table::BENCH_ALL,
            &table::BENCH_LEAST_CHANGE,
            &table::BENCH_FAIL,
            &table::ANSWER_JSON,
        ],
    ],
};

pub(crate) static HEALTHCHECK: Role = Role {
    path: &["healthcheck"],
    about: "Exit 0 if http://HOST:PORT/PATH answers 2xx, for container health checks",
    settings: &[&[&table::HEALTHCHECK_URL]],
};

pub(crate) static ROLES: &[&Role] = &[
    &UP,
    &BROKER,
    &PRODUCE_CSV,
    &PRODUCE_GENERATE,
    &CONSUME_CLICKHOUSE,
    &CONSUME_PRINT,
    &QUERY,
    &CLICKHOUSE_SERVE,
    &CLICKHOUSE_INSTALL,
    &TOPIC_LIST,
    &TOPIC_CREATE,
    &TOPIC_DESCRIBE,
    &TOPIC_ALTER,
    &TOPIC_DELETE,
    &TOPIC_TAIL,
    &TOPIC_DLQ,
    &TOPIC_REDRIVE,
    &GROUP_LIST,
    &GROUP_DESCRIBE,
    &GROUP_MOVE,
    &GROUP_DELETE,
    &LOG_VERIFY,
    &LOG_DUMP,
    &BENCH_RUN,
    &BENCH_LIST,
    &BENCH_SHOW,
    &BENCH_COMPARE,
    &HEALTHCHECK,
];

/// What each first word of a two-word command is about.
static FAMILIES: &[(&str, &str)] = &[
    ("produce", "Publish telemetry"),
    ("consume", "Consume a topic"),
    ("clickhouse", "The local ClickHouse"),
    ("topic", "Topics of the broker"),
    ("group", "Consumer groups of the broker"),
    ("log", "Files of a broker that does not run"),
    ("bench", "How fast, how late, and how far from what the machine could do"),
];

/// The whole command line. Without a subcommand it is `up` with its defaults.
pub(crate) fn command() -> Command {
    let mut root = Command::new("lanecast")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Moves GPU telemetry from a fleet into ClickHouse and answers questions about it")
        .after_help("Without a command: `lanecast up`, everything on this machine.");
    for role in ROLES {
        if let [name] = role.path {
            root = root.subcommand(role_command(name, role));
        }
    }
    for (family, about) in FAMILIES {
        let mut command = Command::new(*family)
            .about(*about)
            .subcommand_required(true)
            .arg_required_else_help(true);
        for role in ROLES {
            if let [first, second] = role.path
                && first == family
            {
                command = command.subcommand(role_command(second, role));
            }
        }
        root = root.subcommand(command);
    }
    root
}

fn role_command(name: &'static str, role: &'static Role) -> Command {
    with_settings(Command::new(name).about(role.about), &role.settings())
}

/// Adds the settings' flags, `--config` and `--print-config`.
pub(crate) fn with_settings(mut command: Command, settings: &[&'static Setting]) -> Command {
    for setting in settings {
        command = command.arg(argument(setting));
    }
    command
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .help("Settings file in TOML [env: LANECAST_CONFIG]"),
        )
        .arg(
            Arg::new("print-config")
                .long("print-config")
                .action(ArgAction::SetTrue)
                .help("Print the settings with where each came from, and exit"),
        )
}

fn argument(setting: &'static Setting) -> Arg {
    let mut help = setting.help.to_owned();
    if let Some(default) = setting.default {
        help.push_str(&format!(" [default: {default}]"));
    }
    if !setting.env.is_empty() {
        help.push_str(&format!(" [env: {}]", setting.env.join(", ")));
    }
    let argument = Arg::new(setting.key).help(help);
    match setting.kind {
        Kind::Value => argument.long(setting.flag).value_name(setting.value_name),
        Kind::List => {
            let argument = argument.long(setting.flag).value_name(setting.value_name);
            argument.action(ArgAction::Append)
        }
        Kind::Switch => argument.long(setting.flag).action(ArgAction::SetTrue),
        Kind::Positional => argument.value_name(setting.value_name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn every_setting_belongs_to_a_command() {
        for setting in table::ALL {
            assert!(
                ROLES.iter().any(|role| role.settings().iter().any(|own| own.key == setting.key)),
                "{} is used by no command",
                setting.key
            );
        }
    }
}
