//! `lanecast topic dlq`.

use std::process::ExitCode;

use lanecast_consumer::{PrintConfig, PrintFormat};
use lanecast_wire::{ErrorCode, dead_letter};

use super::{connect_now, name};
use crate::Outcome;
use crate::commands::failure::{About, explain};
use crate::commands::{answer, filter, position};
use crate::settings::{Settings, table};
use crate::signals::StopSignals;

/// Prints the letters that there are. A topic without any has no dead-letter topic yet.
pub(super) async fn run(settings: &Settings) -> Outcome {
    let name = name(settings)?;
    let letters = dead_letter::topic_name(name).unwrap_or_else(|| name.to_owned());
    let from = settings.parse_with(&table::DLQ_FROM, position::from)?;
    let limit: u64 = settings.parse(&table::PRINT_LIMIT)?;
    let json = answer::wants_json(settings)?;
    let mut signals = StopSignals::install()?;
    let client = connect_now(settings, "lanecast-dlq").await?;
    match client.topic(&letters).await {
        Ok(_) => {}
        Err(error) if error.code() == Some(ErrorCode::UNKNOWN_TOPIC) && letters != name => {
            client
                .topic(name)
                .await
                .map_err(|error| explain(error, About::Topic(name), settings))?;
            if !json {
                answer::say(&format!("{name} has no dead letters\n"))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return Err(explain(error, About::Topic(&letters), settings)),
    }
    let starts = from.starts(&client, &letters, settings).await?;
    let config = PrintConfig {
        start: starts.start,
        starts: starts.starts,
        format: if json { PrintFormat::Ndjson } else { PrintFormat::Lines },
        filter: filter::of(settings)?,
        records_max: (limit > 0).then_some(limit),
        to_end: true,
        dead_records: settings.switch(&table::DLQ_RECORDS)?,
        ..PrintConfig::new(letters.as_str())
    };
    let stop = async move {
        signals.next().await;
        signals.exit_at_next();
    };
    let printed = lanecast_consumer::print(&client, &config, &mut std::io::stdout(), stop).await?;
    if printed == 0 && !json {
        answer::say(&format!("{letters} has none of those\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}
