//! `lanecast topic list`.

use std::process::ExitCode;

use super::{as_json, connect_now, durability_name, on_full_name, retention_text, unless_zero};
use crate::commands::answer::{self, Side, Table};
use crate::commands::failure::{About, explain};
use crate::settings::Settings;
use crate::{Outcome, units};

pub(super) async fn run(settings: &Settings) -> Outcome {
    let client = connect_now(settings, "lanecast-topic").await?;
    let mut topics =
        client.topics().await.map_err(|error| explain(error, About::Broker, settings))?;
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    if answer::wants_json(settings)? {
        answer::json(&topics.iter().map(as_json).collect())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&[
        ("TOPIC", Side::Left),
        ("PARTITIONS", Side::Right),
        ("DURABILITY", Side::Left),
        ("KEPT", Side::Left),
        ("TTL", Side::Left),
        ("ATTEMPTS", Side::Right),
        ("WHEN FULL", Side::Left),
    ]);
    for topic in &topics {
        let own = &topic.settings;
        table.row(vec![
            topic.name.clone(),
            topic.partitions.to_string(),
            durability_name(own.durability).to_owned(),
            retention_text(own),
            unless_zero(own.record_ttl_ms, units::show_millis),
            unless_zero(u64::from(own.max_attempts), |attempts| attempts.to_string()),
            on_full_name(own.on_full).to_owned(),
        ]);
    }
    if table.is_empty() {
        answer::say("no topics yet; `lanecast topic create NAME` makes one\n")?;
    } else {
        answer::say(&table.text(0))?;
    }
    Ok(ExitCode::SUCCESS)
}
