//! `lanecast topic delete`.

use std::process::ExitCode;

use super::{connect_now, name};
use crate::commands::answer;
use crate::commands::failure::{About, explain};
use crate::settings::Settings;
use crate::{Outcome, units};

pub(super) async fn run(settings: &Settings) -> Outcome {
    let name = name(settings)?;
    let explained = |error| explain(error, About::Topic(name), settings);
    let client = connect_now(settings, "lanecast-topic").await?;
    // What is asked is what is there: a misspelt name fails before the question.
    let offsets = client.offsets(name).await.map_err(explained)?;
    let records: u64 = offsets.iter().map(|at| at.high_watermark - at.log_start).sum();
    let what = format!(
        "this deletes topic {name} with {} records and its consumer groups for good",
        units::show_count(records)
    );
    answer::confirm(settings, &what, name)?;
    client.delete_topic(name).await.map_err(explained)?;
    if answer::wants_json(settings)? {
        answer::json(&serde_json::json!({ "deleted": name, "records": records }))?;
    } else {
        answer::say(&format!("{name} is deleted\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}
