//! `lanecast topic`: make topics, look at them, change and delete them.

mod alter;
mod create;
mod delete;
mod describe;
mod dlq;
mod list;
mod redrive;
mod tail;

use std::time::Duration;

use lanecast_client::{Client, ClientConfig, Durability, OnFull, TopicInfo, TopicSettings};
use serde_json::{Value, json};

use super::Failure;
use super::failure::{About, explain};
use crate::Outcome;
use crate::settings::{Setting, SettingError, Settings, table};
use crate::units;

/// How long a command for people waits for a broker that is not there.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) async fn run(command: &str, settings: &Settings) -> Outcome {
    match command {
        "list" => list::run(settings).await,
        "create" => create::run(settings).await,
        "describe" => describe::run(settings).await,
        "alter" => alter::run(settings).await,
        "delete" => delete::run(settings).await,
        "tail" => tail::run(settings).await,
        "dlq" => dlq::run(settings).await,
        "redrive" => redrive::run(settings).await,
        other => unreachable!("the command tree offers only these, not topic {other}"),
    }
}

/// Connects as the settings say, for a service that may start before its broker.
pub(super) async fn connect(settings: &Settings, name: &str) -> Result<Client, Failure> {
    Ok(Client::connect(client_config(settings, name)?).await?)
}

/// Connects for a command whose user waits.
pub(super) async fn connect_now(settings: &Settings, name: &str) -> Result<Client, Failure> {
    let config = ClientConfig {
        connect_patience: PATIENCE,
        connect_timeout: PATIENCE,
        ..client_config(settings, name)?
    };
    Client::connect(config).await.map_err(|error| explain(error, About::Broker, settings))
}

/// Where the broker is.
pub(super) fn client_config(settings: &Settings, name: &str) -> Result<ClientConfig, SettingError> {
    Ok(ClientConfig::new(settings.required(&table::BROKER_ADDR)?, name))
}

/// The settings of a topic to be made.
pub(super) fn topic_settings(settings: &Settings) -> Result<TopicSettings, SettingError> {
    let durability = settings.parse_with(&table::TOPIC_DURABILITY, |text| match text {
        "fsync" => Ok(Durability::Fsync),
        "written" => Ok(Durability::Written),
        "memory" => Ok(Durability::Memory),
        _ => Err("expected fsync, written or memory".to_owned()),
    })?;
    Ok(TopicSettings {
        durability,
        retention_bytes: settings.parse_with(&table::TOPIC_RETENTION_BYTES, units::bytes)?,
        retention_ms: settings.parse_with(&table::TOPIC_RETENTION, millis)?,
        // The pipeline's records are given up by the consumer's word alone, not because consumers
        // die: what cannot be stored is terminated with its reason.
        max_attempts: 0,
        ..TopicSettings::default()
    })
}

/// A time in milliseconds.
fn millis(text: &str) -> Result<u64, String> {
    Ok(u64::try_from(units::duration(text)?.as_millis()).unwrap_or(u64::MAX))
}

fn on_full(text: &str) -> Result<OnFull, String> {
    match text {
        "block" => Ok(OnFull::Block),
        "drop_new" => Ok(OnFull::DropNew),
        "drop_old" => Ok(OnFull::DropOld),
        _ => Err("expected block, drop_new or drop_old".to_owned()),
    }
}

fn name(settings: &Settings) -> Result<&str, Failure> {
    required(
        settings,
        &table::TOPIC_NAME,
        "which topic? `lanecast topic list` shows those there are",
    )
}

/// A positional argument.
pub(super) fn required<'s>(
    settings: &'s Settings,
    setting: &'static Setting,
    hint: &str,
) -> Result<&'s str, Failure> {
    settings.text(setting).ok_or_else(|| hint.into())
}

fn durability_name(durability: Durability) -> &'static str {
    match durability {
        Durability::Fsync => "fsync",
        Durability::Written => "written",
        Durability::Memory => "memory",
    }
}

fn on_full_name(on_full: OnFull) -> &'static str {
    match on_full {
        OnFull::Block => "block",
        OnFull::DropNew => "drop_new",
        OnFull::DropOld => "drop_old",
    }
}

/// What is kept, and for how long.
fn retention_text(settings: &TopicSettings) -> String {
    match (settings.retention_bytes, settings.retention_ms) {
        (0, 0) => "everything".to_owned(),
        (bytes, 0) => units::show_bytes(bytes),
        (0, ms) => units::show_millis(ms),
        (bytes, ms) => format!("{}, {}", units::show_bytes(bytes), units::show_millis(ms)),
    }
}

/// 0 means that there is no such limit.
fn unless_zero(value: u64, show: impl FnOnce(u64) -> String) -> String {
    if value == 0 { "none".to_owned() } else { show(value) }
}

/// A topic and its settings.
fn as_json(topic: &TopicInfo) -> Value {
    let settings = &topic.settings;
    json!({
        "id": topic.topic,
        "name": topic.name,
        "partitions": topic.partitions,
        "durability": durability_name(settings.durability),
        "retention_bytes": settings.retention_bytes,
        "retention_ms": settings.retention_ms,
        "record_ttl_ms": settings.record_ttl_ms,
        "max_attempts": settings.max_attempts,
        "on_full": on_full_name(settings.on_full),
        "retention_breaks_leases": settings.retention_breaks_leases,
    })
}

/// A topic's settings, one a line.
fn settings_text(topic: &TopicInfo) -> String {
    let settings = &topic.settings;
    let durability = match settings.durability {
        Durability::Fsync => "what is acknowledged survives power loss",
        Durability::Written => "what is acknowledged survives a crash of the broker",
        Durability::Memory => "nothing survives the broker's end",
    };
    let full = match settings.on_full {
        OnFull::Block => "producers wait while a partition has no room",
        OnFull::DropNew => "new batches are dropped while a partition has no room",
        OnFull::DropOld => "the oldest segments go when a partition has no room",
    };
    let attempts = match settings.max_attempts {
        0 => "no limit".to_owned(),
        attempts => match lanecast_wire::dead_letter::topic_name(&topic.name) {
            Some(letters) => format!("{attempts}, then to {letters}"),
            None => attempts.to_string(),
        },
    };
    let leases = if settings.retention_breaks_leases { "goes" } else { "stays" };
    let lines = [
        ("partitions", topic.partitions.to_string()),
        ("durability", format!("{}: {durability}", durability_name(settings.durability))),
        ("kept", format!("{} per partition", retention_text(settings))),
        ("", format!("what a group holds on lease {leases} when its time is over")),
        ("time to live", unless_zero(settings.record_ttl_ms, units::show_millis)),
        ("attempts", attempts),
        ("when full", format!("{}: {full}", on_full_name(settings.on_full))),
    ];
    lines.iter().map(|(what, text)| format!("  {what:<13} {text}\n")).collect()
}
