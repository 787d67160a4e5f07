//! `lanecast group delete`.

use std::process::ExitCode;

use super::{name, partition};
use crate::Outcome;
use crate::commands::answer;
use crate::commands::failure::{About, explain};
use crate::commands::topic::connect_now;
use crate::settings::{Settings, table};

pub(super) async fn run(settings: &Settings) -> Outcome {
    let group = name(settings)?;
    let topic = settings.required(&table::TOPIC)?;
    let partition = partition(settings)?;
    let explained = |error| explain(error, About::Group { topic, group }, settings);
    let client = connect_now(settings, "lanecast-group").await?;
    client.topic(topic).await.map_err(explained)?;
    let what = format!(
        "this forgets how far consumer group {group} is on topic {topic}, and what it had begun"
    );
    answer::confirm(settings, &what, group)?;
    client.delete_group(topic, partition, group).await.map_err(explained)?;
    if answer::wants_json(settings)? {
        answer::json(&serde_json::json!({ "deleted": group, "topic": topic }))?;
    } else {
        answer::say(&format!("{group} is forgotten on {topic}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}
