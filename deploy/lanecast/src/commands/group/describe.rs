//! `lanecast group describe`.

use std::process::ExitCode;

use super::{groups_of, name, partition_json, partitions_table, topics};
use crate::Outcome;
use crate::commands::answer;
use crate::commands::topic::connect_now;
use crate::settings::{Settings, table};

pub(super) async fn run(settings: &Settings) -> Outcome {
    let name = name(settings)?;
    let client = connect_now(settings, "lanecast-group").await?;
    let mut found = Vec::new();
    for topic in topics(&client, settings).await? {
        let mut groups = groups_of(&client, &topic, settings).await?;
        groups.retain(|one| one.group.name == name);
        if !groups.is_empty() {
            found.push((topic, groups));
        }
    }
    if found.is_empty() {
        let place = settings.text(&table::GROUP_TOPIC);
        let place = place
            .map_or_else(|| "no topic has a".to_owned(), |topic| format!("topic {topic:?} has no"));
        return Err(format!(
            "{place} consumer group {name:?}; `lanecast group list` shows those there are"
        )
        .into());
    }
    if answer::wants_json(settings)? {
        let rows = found
            .iter()
            .flat_map(|(topic, groups)| groups.iter().map(|group| partition_json(topic, group)));
        answer::json(&rows.collect())?;
        return Ok(ExitCode::SUCCESS);
    }
    let pages: Vec<String> = found
        .iter()
        .map(|(topic, groups)| format!("{name} on {topic}\n{}", partitions_table(groups).text(2)))
        .collect();
    answer::say(&pages.join("\n"))?;
    Ok(ExitCode::SUCCESS)
}
