//! `lanecast topic create`.

use std::process::ExitCode;

use lanecast_client::{CreateTopic, TopicSettings};

use super::{as_json, connect_now, millis, name, on_full, settings_text, topic_settings};
use crate::Outcome;
use crate::commands::answer;
use crate::commands::failure::{About, explain};
use crate::settings::{Settings, table};

pub(super) async fn run(settings: &Settings) -> Outcome {
    let name = name(settings)?;
    let create = CreateTopic {
        name: name.to_owned(),
        partitions: settings.parse(&table::TOPIC_PARTITIONS)?,
        settings: TopicSettings {
            record_ttl_ms: settings.parse_with(&table::TOPIC_TTL, millis)?,
            max_attempts: settings.parse(&table::TOPIC_MAX_ATTEMPTS)?,
            on_full: settings.parse_with(&table::TOPIC_ON_FULL, on_full)?,
            retention_breaks_leases: settings.switch(&table::TOPIC_BREAKS_LEASES)?,
            ..topic_settings(settings)?
        },
    };
    let client = connect_now(settings, "lanecast-topic").await?;
    let made = client.create_topic(create).await;
    let topic = made.map_err(|error| explain(error, About::Topic(name), settings))?;
    if answer::wants_json(settings)? {
        answer::json(&as_json(&topic))?;
    } else {
        answer::say(&format!("{} is there\n{}", topic.name, settings_text(&topic)))?;
    }
    Ok(ExitCode::SUCCESS)
}
