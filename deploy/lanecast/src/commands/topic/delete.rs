//! `lanecast topic delete`.

use std::process::ExitCode;
use std::time::Duration;

use lanecast_client::Client;
use tokio::time::timeout;

use super::{connect_now, name};
use crate::commands::answer;
use crate::commands::failure::{About, explain};
use crate::settings::Settings;
use crate::{Outcome, units};

/// A broker that can count does so at once.
const COUNT_PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn run(settings: &Settings) -> Outcome {
    let name = name(settings)?;
    let explained = |error| explain(error, About::Topic(name), settings);
    let client = connect_now(settings, "lanecast-topic").await?;
    // What is asked is what is there: a misspelt name fails before the question.
    client.topic(name).await.map_err(explained)?;
    let records = records(&client, name).await;
    let shown = records.map_or_else(|| "an unknown number of".to_owned(), units::show_count);
    let what =
        format!("this deletes topic {name} with {shown} records and its consumer groups for good");
    answer::confirm(settings, &what, name)?;
    client.delete_topic(name).await.map_err(explained)?;
    if answer::wants_json(settings)? {
        answer::json(&serde_json::json!({ "deleted": name, "records": records }))?;
    } else {
        answer::say(&format!("{name} is deleted\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Counting takes a consumer's place and every partition's log. A topic may be deleted just because
/// its disk is gone, so the question does without the number where there is none.
async fn records(client: &Client, topic: &str) -> Option<u64> {
    let counted = timeout(COUNT_PATIENCE, client.offsets(topic)).await;
    match counted {
        Ok(Ok(offsets)) => Some(offsets.iter().map(|at| at.high_watermark - at.log_start).sum()),
        Ok(Err(error)) => {
            tracing::debug!(topic, %error, "records cannot be counted");
            None
        }
        Err(_) => None,
    }
}
