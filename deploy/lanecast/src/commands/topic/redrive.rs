//! `lanecast topic redrive`.

use std::process::ExitCode;

use lanecast_consumer::{REDRIVE_GROUP, RedriveError, Redriven};
use lanecast_wire::{ErrorCode, dead_letter};
use serde_json::json;

use super::{connect_now, name};
use crate::Outcome;
use crate::commands::answer;
use crate::commands::failure::{About, explain};
use crate::settings::Settings;
use crate::units::show_count;

/// Sends back what was not sent back before. A topic without letters has none to send.
pub(super) async fn run(settings: &Settings) -> Outcome {
    let name = name(settings)?;
    let letters = dead_letter::topic_name(name).unwrap_or_else(|| name.to_owned());
    let client = connect_now(settings, "lanecast-redrive").await?;
    let done = match client.topic(&letters).await {
        Ok(_) => lanecast_consumer::redrive(&client, &letters).await,
        Err(error) if error.code() == Some(ErrorCode::UNKNOWN_TOPIC) && letters != name => {
            client
                .topic(name)
                .await
                .map_err(|error| explain(error, About::Topic(name), settings))?;
            Ok(Redriven::default())
        }
        Err(error) => return Err(explain(error, About::Topic(&letters), settings)),
    };
    let done = done.map_err(|error| hint(error, &letters))?;
    if answer::wants_json(settings)? {
        answer::json(&json!({
            "letters": done.letters,
            "records": done.records,
            "sent_before": done.before,
            "foreign_records": done.foreign,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = match done.letters {
        0 => format!("{letters} has no letters that were not sent back\n"),
        letters => format!(
            "{} records of {} letters are back in their topics\n",
            show_count(done.records),
            show_count(letters)
        ),
    };
    if done.before > 0 {
        text.push_str(&format!("{} of the letters were there already\n", show_count(done.before)));
    }
    if done.foreign > 0 {
        text.push_str(&format!(
            "{} records are no dead letters of the broker and stay where they are\n",
            show_count(done.foreign)
        ));
    }
    answer::say(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// A letter that can never be sent back is passed by hand.
fn hint(error: RedriveError, letters: &str) -> crate::commands::Failure {
    match error {
        RedriveError::Letter { partition, offset, .. } => format!(
            "{error}; to pass it: lanecast group move {REDRIVE_GROUP} --topic {letters} \
             --partition {partition} --to {}",
            offset + 1
        )
        .into(),
        RedriveError::Broker(_) | RedriveError::Subscribe(_) | RedriveError::Busy { .. } => {
            Box::new(error)
        }
    }
}
