//! `lanecast topic`: make topics and look at them.

use std::io::Write;
use std::process::ExitCode;

use lanecast_client::{Client, ClientConfig};
use lanecast_wire::message::{CreateTopic, Durability, TopicInfo, TopicSettings};

use crate::Outcome;
use crate::settings::{SettingError, Settings, table};
use crate::units;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Connects as the settings say.
pub(super) async fn connect(settings: &Settings, name: &str) -> Result<Client, Failure> {
    Ok(Client::connect(client_config(settings, name)?).await?)
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
    let retention = settings.parse_with(&table::TOPIC_RETENTION, units::duration)?;
    Ok(TopicSettings {
        durability,
        retention_bytes: settings.parse_with(&table::TOPIC_RETENTION_BYTES, units::bytes)?,
        retention_ms: u64::try_from(retention.as_millis()).unwrap_or(u64::MAX),
        // The pipeline's records are given up by the consumer's word alone, not because consumers
        // die: what cannot be stored is terminated with its reason.
        max_attempts: 0,
        ..TopicSettings::default()
    })
}

pub(super) async fn list(settings: &Settings) -> Outcome {
    let topics = connect(settings, "lanecast-topic").await?.topics().await?;
    print(settings, &topics)
}

pub(super) async fn describe(settings: &Settings) -> Outcome {
    let name = settings.required(&table::TOPIC_NAME)?;
    let topic = connect(settings, "lanecast-topic").await?.topic(name).await?;
    print(settings, &[topic])
}

pub(super) async fn create(settings: &Settings) -> Outcome {
    let request = CreateTopic {
        name: settings.required(&table::TOPIC_NAME)?.to_owned(),
        partitions: settings.parse(&table::TOPIC_PARTITIONS)?,
        settings: topic_settings(settings)?,
    };
    let topic = connect(settings, "lanecast-topic").await?.create_topic(request).await?;
    writeln!(std::io::stdout().lock(), "{}", line(&topic))?;
    Ok(ExitCode::SUCCESS)
}

fn print(settings: &Settings, topics: &[TopicInfo]) -> Outcome {
    let mut out = std::io::stdout().lock();
    if settings.switch(&table::REPORT_JSON)? {
        let topics: Vec<serde_json::Value> = topics.iter().map(json).collect();
        serde_json::to_writer(&mut out, &topics)?;
        writeln!(out)?;
    } else {
        for topic in topics {
            writeln!(out, "{}", line(topic))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn durability(topic: &TopicInfo) -> &'static str {
    match topic.settings.durability {
        Durability::Fsync => "fsync",
        Durability::Written => "written",
        Durability::Memory => "memory",
    }
}

fn line(topic: &TopicInfo) -> String {
    format!(
        "{}  partitions {}  durability {}  retention {} bytes per partition, {} ms (0: no limit)",
        topic.name,
        topic.partitions,
        durability(topic),
        topic.settings.retention_bytes,
        topic.settings.retention_ms,
    )
}

fn json(topic: &TopicInfo) -> serde_json::Value {
    serde_json::json!({
        "id": topic.topic,
        "name": topic.name,
        "partitions": topic.partitions,
        "durability": durability(topic),
        "retention_bytes": topic.settings.retention_bytes,
        "retention_ms": topic.settings.retention_ms,
    })
}
