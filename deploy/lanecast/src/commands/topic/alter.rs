//! `lanecast topic alter`.

use std::process::ExitCode;

use lanecast_client::AlterTopic;

use super::{as_json, connect_now, millis, name, on_full, settings_text};
use crate::commands::answer;
use crate::commands::failure::{About, explain};
use crate::settings::{Settings, table};
use crate::{Outcome, units};

pub(super) async fn run(settings: &Settings) -> Outcome {
    let name = name(settings)?;
    let number = |text: &str| text.parse().map_err(|_| "expected a whole number".to_owned());
    let alter = AlterTopic {
        name: name.to_owned(),
        retention_bytes: settings.parse_optional(&table::ALTER_RETENTION_BYTES, units::bytes)?,
        retention_ms: settings.parse_optional(&table::ALTER_RETENTION, millis)?,
        record_ttl_ms: settings.parse_optional(&table::ALTER_TTL, millis)?,
        max_attempts: settings.parse_optional(&table::ALTER_MAX_ATTEMPTS, number)?,
        on_full: settings.parse_optional(&table::ALTER_ON_FULL, on_full)?,
        retention_breaks_leases: settings.parse_optional(&table::ALTER_BREAKS_LEASES, |text| {
            match text {
                "true" | "yes" => Ok(true),
                "false" | "no" => Ok(false),
                _ => Err("expected true or false".to_owned()),
            }
        })?,
    };
    if alter == (AlterTopic { name: name.to_owned(), ..AlterTopic::default() }) {
        let hint = "nothing to change: give one of --retention, --retention-bytes, --record-ttl, \
                    --max-attempts, --on-full and --retention-breaks-leases";
        return Err(hint.into());
    }
    let client = connect_now(settings, "lanecast-topic").await?;
    let altered = client.alter_topic(alter).await;
    let topic = altered.map_err(|error| explain(error, About::Topic(name), settings))?;
    if answer::wants_json(settings)? {
        answer::json(&as_json(&topic))?;
    } else {
        answer::say(&format!("{} from now on\n{}", topic.name, settings_text(&topic)))?;
    }
    Ok(ExitCode::SUCCESS)
}
