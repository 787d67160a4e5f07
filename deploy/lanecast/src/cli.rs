//! The command tree, made from the settings table.

use clap::{Arg, ArgAction, Command};

use crate::settings::table::{self, Kind, Setting};

/// One command: its words, and the settings that it takes.
pub(crate) struct Role {
    /// `["produce", "csv"]`
    pub(crate) path: &'static [&'static str],
    pub(crate) about: &'static str,
    pub(crate) settings: &'static [&'static Setting],
}

macro_rules! with_common {
    ($($setting:ident),* $(,)?) => {
        &[&table::LOG_LEVEL, &table::LOG_FORMAT, $(&table::$setting),*]
    };
}

pub(crate) static UP: Role = Role {
    path: &["up"],
    about: "Run everything on this machine: ClickHouse, broker, consumer, query and a source",
    settings: with_common!(
        UP_DATA_DIR,
        UP_CSV,
        UP_ONCE,
        UP_KEEP,
        REPORT_JSON,
        CSV_TIMESTAMPS,
        CSV_LOOP,
        CSV_STRICT,
        CSV_REJECTS,
        RATE,
        GEN_HOSTS,
        GEN_GPUS,
        GEN_SEED,
        GEN_INTERVAL,
        GEN_ROWS,
        GEN_FLAT_OUT,
        UP_RETENTION_RAW,
        RETENTION_ROLLUP,
        BROKER_SHARDS,
        TOPIC_DURABILITY,
        UP_BROKER_PORT,
        UP_BROKER_ADMIN_PORT,
        UP_CONSUMER_ADMIN_PORT,
        UP_QUERY_PORT,
        UP_CLICKHOUSE_PORT,
        UP_CLICKHOUSE_URL,
        CLICKHOUSE_USER,
        CLICKHOUSE_PASSWORD,
        CLICKHOUSE_DATABASE,
        QUERY_AUTH_TOKEN,
        LOCAL_MEMORY,
        LOCAL_LIBRARY,
        READY_FILE,
    ),
};

pub(crate) static BROKER: Role = Role {
    path: &["broker"],
    about: "Run the broker",
    settings: with_common!(
        DATA_DIR,
        BROKER_HOST,
        BROKER_PORT,
        BROKER_ADMIN_PORT,
        BROKER_SHARDS,
        BROKER_MODE,
        BROKER_MAX_CONSUMERS,
        BROKER_CREDIT,
        BROKER_SEGMENT,
        READY_FILE,
    ),
};

pub(crate) static PRODUCE_CSV: Role = Role {
    path: &["produce", "csv"],
    about: "Replay a CSV file of telemetry into the broker",
    settings: with_common!(
        CSV_PATH,
        BROKER_ADDR,
        TOPIC,
        TOPIC_PARTITIONS,
        TOPIC_DURABILITY,
        TOPIC_RETENTION_BYTES,
        TOPIC_RETENTION,
        CSV_LOOP,
        RATE,
        CSV_TIMESTAMPS,
        CSV_SHARD,
        CSV_STRICT,
        CSV_REJECTS,
        LINGER,
        REPORT_JSON,
    ),
};

pub(crate) static PRODUCE_GENERATE: Role = Role {
    path: &["produce", "generate"],
    about: "Play a fleet: publish believable telemetry, or write it as CSV",
    settings: with_common!(
        BROKER_ADDR,
        TOPIC,
        TOPIC_PARTITIONS,
        TOPIC_DURABILITY,
        TOPIC_RETENTION_BYTES,
        TOPIC_RETENTION,
        GEN_HOSTS,
        GEN_GPUS,
        GEN_SEED,
        GEN_INTERVAL,
        GEN_ROWS,
        GEN_FLAT_OUT,
        GEN_MISSING,
        GEN_METRICS,
        GEN_DURATION,
        GEN_START,
        CSV_TIMESTAMPS,
        CSV_SHARD,
        GEN_CSV,
        GEN_CSV_LAYOUT,
        GEN_CSV_SPOIL,
        RATE,
        LINGER,
        REPORT_JSON,
    ),
};

pub(crate) static CONSUME_CLICKHOUSE: Role = Role {
    path: &["consume", "clickhouse"],
    about: "Move telemetry from the broker into ClickHouse, exactly once",
    settings: with_common!(
        BROKER_ADDR,
        TOPIC,
        TOPIC_PARTITIONS,
        TOPIC_DURABILITY,
        TOPIC_RETENTION_BYTES,
        TOPIC_RETENTION,
        CONSUME_GROUP,
        CONSUME_LEASE,
        CONSUME_LEASE_MAX,
        CONSUME_LINGER,
        CONSUME_HOST,
        CONSUME_ADMIN_PORT,
        CLICKHOUSE_URL,
        CLICKHOUSE_USER,
        CLICKHOUSE_PASSWORD,
        CLICKHOUSE_DATABASE,
        RETENTION_RAW,
        RETENTION_ROLLUP,
        READY_FILE,
    ),
};

pub(crate) static CONSUME_PRINT: Role = Role {
    path: &["consume", "print"],
    about: "Print a topic's records as they come",
    settings: with_common!(BROKER_ADDR, TOPIC, PRINT_FORMAT, PRINT_FROM, PRINT_LIMIT),
};

pub(crate) static QUERY: Role = Role {
    path: &["query"],
    about: "Run the REST service",
    settings: with_common!(
        QUERY_HOST,
        QUERY_PORT,
        QUERY_AUTH_TOKEN,
        QUERY_NO_AUTH,
        QUERY_PAGE_SIZE,
        CLICKHOUSE_URL,
        CLICKHOUSE_USER,
        CLICKHOUSE_PASSWORD,
        CLICKHOUSE_DATABASE,
        READY_FILE,
    ),
};

pub(crate) static CLICKHOUSE_SERVE: Role = Role {
    path: &["clickhouse", "serve"],
    about: "Run a local ClickHouse (its HTTP interface over libchdb)",
    settings: with_common!(
        DATA_DIR,
        LOCAL_HOST,
        LOCAL_PORT,
        LOCAL_USER,
        LOCAL_PASSWORD,
        LOCAL_NO_AUTH,
        LOCAL_MEMORY,
        LOCAL_LIBRARY,
        READY_FILE,
    ),
};

pub(crate) static CLICKHOUSE_INSTALL: Role = Role {
    path: &["clickhouse", "install"],
    about: "Fetch the local ClickHouse library into the user's cache",
    settings: with_common!(LOCAL_LIBRARY),
};

pub(crate) static TOPIC_LIST: Role = Role {
    path: &["topic", "list"],
    about: "List the broker's topics",
    settings: with_common!(BROKER_ADDR, REPORT_JSON),
};

pub(crate) static TOPIC_CREATE: Role = Role {
    path: &["topic", "create"],
    about: "Make a topic; with equal settings it may exist already",
    settings: with_common!(
        TOPIC_NAME,
        BROKER_ADDR,
        TOPIC_PARTITIONS,
        TOPIC_DURABILITY,
        TOPIC_RETENTION_BYTES,
        TOPIC_RETENTION,
    ),
};

pub(crate) static TOPIC_DESCRIBE: Role = Role {
    path: &["topic", "describe"],
    about: "Show a topic's partitions and settings",
    settings: with_common!(TOPIC_NAME, BROKER_ADDR, REPORT_JSON),
};

pub(crate) static HEALTHCHECK: Role = Role {
    path: &["healthcheck"],
    about: "Exit 0 if http://HOST:PORT/PATH answers 2xx, for container health checks",
    settings: &[&table::HEALTHCHECK_URL],
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
    &HEALTHCHECK,
];

/// What each first word of a two-word command is about.
static FAMILIES: &[(&str, &str)] = &[
    ("produce", "Publish telemetry"),
    ("consume", "Consume a topic"),
    ("clickhouse", "The local ClickHouse"),
    ("topic", "Topics of the broker"),
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
    with_settings(Command::new(name).about(role.about), role.settings)
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
                ROLES.iter().any(|role| role.settings.iter().any(|own| own.key == setting.key)),
                "{} is used by no command",
                setting.key
            );
        }
    }
}
