//! `lanecast group move`.

use std::process::ExitCode;

use super::{name, partition, partition_json, partitions_table};
use crate::Outcome;
use crate::commands::failure::{About, explain};
use crate::commands::topic::{connect_now, required};
use crate::commands::{answer, position};
use crate::settings::{Settings, table};

pub(super) async fn run(settings: &Settings) -> Outcome {
    let group = name(settings)?;
    let topic = settings.required(&table::TOPIC)?;
    let hint = "where to? give --to earliest, latest, an offset, a time, or an age such as 15m";
    required(settings, &table::GROUP_TO, hint)?;
    let to = settings.parse_with(&table::GROUP_TO, position::start)?;
    let partition = partition(settings)?;
    let client = connect_now(settings, "lanecast-group").await?;
    let moved = client.move_group(topic, partition, group, to).await;
    let moved = moved.map_err(|error| explain(error, About::Group { topic, group }, settings))?;
    if answer::wants_json(settings)? {
        answer::json(&moved.iter().map(|one| partition_json(topic, one)).collect())?;
    } else {
        let table = partitions_table(&moved).text(2);
        answer::say(&format!("{group} on {topic} goes on from here\n{table}"))?;
    }
    Ok(ExitCode::SUCCESS)
}
