//! `lanecast group list`.

use std::process::ExitCode;

use super::{Totals, groups_of, topics, totals};
use crate::Outcome;
use crate::commands::answer;
use crate::commands::topic::connect_now;
use crate::settings::Settings;

pub(super) async fn run(settings: &Settings) -> Outcome {
    let client = connect_now(settings, "lanecast-group").await?;
    let mut all = Vec::new();
    for topic in topics(&client, settings).await? {
        all.extend(totals(&topic, groups_of(&client, &topic, settings).await?));
    }
    if answer::wants_json(settings)? {
        answer::json(&all.iter().map(Totals::as_json).collect())?;
    } else if all.is_empty() {
        answer::say("no consumer groups; one begins when its first member subscribes\n")?;
    } else {
        answer::say(&Totals::table(&all, true).text(0))?;
    }
    Ok(ExitCode::SUCCESS)
}
