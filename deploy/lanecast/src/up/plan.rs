//! Which roles `up` starts, and with which arguments.

use std::net::SocketAddr;
use std::path::Path;

use super::child::Plan;
use crate::settings::{SettingError, Settings, table};

pub(super) const TOPIC: &str = "gpu-telemetry";
pub(super) const GROUP: &str = "clickhouse";

/// Settings that several roles take as they were given to `up`.
struct Arguments(Vec<String>);

impl Arguments {
    fn new(words: &[&str]) -> Self {
        Self(words.iter().map(|word| (*word).to_owned()).collect())
    }

    fn with(mut self, flag: &str, value: impl ToString) -> Self {
        self.0.push(format!("--{flag}"));
        self.0.push(value.to_string());
        self
    }

    fn with_settings(
        mut self,
        settings: &Settings,
        wanted: &[&'static crate::settings::Setting],
    ) -> Self {
        for setting in wanted {
            if let Some(value) = settings.text(setting) {
                self = self.with(setting.flag, value);
            }
        }
        self
    }

    fn with_switches(
        mut self,
        settings: &Settings,
        wanted: &[&'static crate::settings::Setting],
    ) -> Result<Self, SettingError> {
        for setting in wanted {
            if settings.switch(setting)? {
                self.0.push(format!("--{}", setting.flag));
            }
        }
        Ok(self)
    }

    fn plan(self, name: &'static str, serves: bool) -> Plan {
        Plan { name, arguments: self.0, environment: Vec::new(), serves, ports: Vec::new() }
    }
}

impl Plan {
    fn with_port(
        mut self,
        settings: &Settings,
        flag: &'static str,
        setting: &'static crate::settings::Setting,
    ) -> Self {
        self.ports.push((flag, settings.text(setting).unwrap_or("0").to_owned()));
        self
    }
}

/// The local ClickHouse.
pub(super) fn clickhouse(settings: &Settings, data_dir: &Path) -> Plan {
    Arguments::new(&["clickhouse", "serve"])
        .with("data-dir", data_dir.join("clickhouse").display())
        .with("host", "127.0.0.1")
        .with_settings(settings, &[&table::LOCAL_MEMORY, &table::LOCAL_LIBRARY, &table::LOG_LEVEL])
        .plan("clickhouse", true)
        .with_port(settings, "port", &table::UP_CLICKHOUSE_PORT)
}

pub(super) fn broker(settings: &Settings, data_dir: &Path) -> Plan {
    Arguments::new(&["broker"])
        .with("data-dir", data_dir.join("broker").display())
        .with("host", "127.0.0.1")
        .with_settings(settings, &[&table::BROKER_SHARDS, &table::LOG_LEVEL])
        .plan("broker", true)
        .with_port(settings, "port", &table::UP_BROKER_PORT)
        .with_port(settings, "admin-port", &table::UP_BROKER_ADMIN_PORT)
}

/// How the roles reach the ClickHouse in use.
pub(super) struct ClickHouse {
    pub(super) url: String,
    pub(super) local: bool,
}

impl ClickHouse {
    fn apply(&self, settings: &Settings, arguments: Arguments, plan_name: &'static str) -> Plan {
        let mut arguments = arguments
            .with("clickhouse-url", &self.url)
            .with_settings(settings, &[&table::CLICKHOUSE_DATABASE, &table::LOG_LEVEL]);
        let mut password = String::new();
        if self.local {
            arguments = arguments.with("clickhouse-user", "default");
        } else {
            arguments = arguments.with_settings(settings, &[&table::CLICKHOUSE_USER]);
            password.push_str(settings.text(&table::CLICKHOUSE_PASSWORD).unwrap_or(""));
        }
        let mut plan = arguments.plan(plan_name, true);
        plan.environment.push(("CLICKHOUSE_PASSWORD", password));
        plan
    }
}

/// Days that raw rows are kept: as given; else for ever where the file's own times are stored,
/// because rows older than the retention would vanish as they arrive.
fn retention_days(settings: &Settings) -> &str {
    match settings.text(&table::UP_RETENTION_RAW) {
        Some(days) => days,
        None if settings.text(&table::CSV_TIMESTAMPS) == Some("original") => "0",
        None => "30",
    }
}

fn rollup_days(settings: &Settings) -> &str {
    if settings.is_given(&table::RETENTION_ROLLUP) || retention_days(settings) != "0" {
        settings.text(&table::RETENTION_ROLLUP).unwrap_or("0")
    } else {
        "0"
    }
}

pub(super) fn consumer(settings: &Settings, broker: SocketAddr, clickhouse: &ClickHouse) -> Plan {
    let arguments = Arguments::new(&["consume", "clickhouse"])
        .with("broker", broker)
        .with("topic", TOPIC)
        .with("group", GROUP)
        .with("admin-host", "127.0.0.1")
        .with("retention-days", retention_days(settings))
        .with("rollup-retention-days", rollup_days(settings))
        .with_settings(settings, &[&table::TOPIC_DURABILITY]);
    clickhouse.apply(settings, arguments, "consumer").with_port(
        settings,
        "admin-port",
        &table::UP_CONSUMER_ADMIN_PORT,
    )
}

pub(super) fn query(settings: &Settings, clickhouse: &ClickHouse) -> Plan {
    let arguments = Arguments::new(&["query"]).with("host", "127.0.0.1");
    let mut plan = clickhouse.apply(settings, arguments, "query").with_port(
        settings,
        "port",
        &table::UP_QUERY_PORT,
    );
    let token = settings.text(&table::QUERY_AUTH_TOKEN).unwrap_or("");
    plan.environment.push(("AUTH_TOKEN", token.to_owned()));
    plan
}

/// A source that died may be started again: a fleet goes on being sampled, and a file that is looped
/// is replayed anyway. A file that is read once would be stored twice from its beginning.
pub(super) fn source_may_start_over(settings: &Settings) -> Result<bool, SettingError> {
    Ok(settings.text(&table::UP_CSV).is_none() || settings.switch(&table::CSV_LOOP)?)
}

/// The source: the CSV file that was given, or a generated fleet.
pub(super) fn producer(settings: &Settings, broker: SocketAddr) -> Result<Plan, SettingError> {
    let arguments = match settings.text(&table::UP_CSV) {
        Some(path) => Arguments::new(&["produce", "csv", path])
            .with_settings(settings, &[&table::CSV_TIMESTAMPS, &table::CSV_REJECTS])
            .with_switches(settings, &[&table::CSV_LOOP, &table::CSV_STRICT])?,
        None => Arguments::new(&["produce", "generate"])
            .with_settings(
                settings,
                &[
                    &table::GEN_HOSTS,
                    &table::GEN_GPUS,
                    &table::GEN_MISSING,
                    &table::GEN_METRICS,
                    &table::GEN_SEED,
                    &table::GEN_INTERVAL,
                    &table::GEN_DURATION,
                    &table::GEN_START,
                    &table::GEN_ROWS,
                    &table::CSV_TIMESTAMPS,
                ],
            )
            .with_switches(settings, &[&table::GEN_FLAT_OUT])?,
    };
    let mut plan = arguments
        .with("broker", broker)
        .with("topic", TOPIC)
        .with_settings(settings, &[&table::RATE, &table::TOPIC_DURABILITY, &table::LOG_LEVEL])
        .plan("producer", false);
    plan.arguments.push("--json".to_owned());
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up(arguments: &[&str]) -> Settings {
        let wanted = crate::cli::UP.settings();
        let matches = crate::cli::with_settings(clap::Command::new("up"), &wanted)
            .no_binary_name(true)
            .try_get_matches_from(arguments)
            .unwrap();
        Settings::resolve(&wanted, &matches, &|_| None).unwrap()
    }

    #[test]
    fn a_file_that_is_read_once_is_not_started_over() {
        assert!(!source_may_start_over(&up(&["--csv", "fleet.csv"])).unwrap());
        assert!(source_may_start_over(&up(&["--csv", "fleet.csv", "--loop"])).unwrap());
        assert!(source_may_start_over(&up(&[])).unwrap());
    }

    #[test]
    fn original_times_are_kept_for_ever_unless_told_otherwise() {
        assert_eq!(retention_days(&up(&["--timestamps", "original"])), "0");
        assert_eq!(rollup_days(&up(&["--timestamps", "original"])), "0");
        assert_eq!(retention_days(&up(&[])), "30");
        assert_eq!(rollup_days(&up(&[])), "400");
        let told = up(&["--timestamps", "original", "--retention-days", "7"]);
        assert_eq!((retention_days(&told), rollup_days(&told)), ("7", "400"));
    }
}
