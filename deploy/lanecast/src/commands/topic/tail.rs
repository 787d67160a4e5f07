//! `lanecast topic tail`.

use std::process::ExitCode;

use lanecast_consumer::{PrintConfig, PrintFormat};

use super::{connect_now, name};
use crate::Outcome;
use crate::commands::failure::{About, explain};
use crate::commands::{answer, filter, position};
use crate::settings::{Settings, table};
use crate::signals::StopSignals;

/// Prints what there is, or goes on until a signal.
pub(super) async fn run(settings: &Settings) -> Outcome {
    let name = name(settings)?;
    let from = settings.parse_with(&table::TAIL_FROM, position::from)?;
    let limit: u64 = settings.parse(&table::PRINT_LIMIT)?;
    let mut signals = StopSignals::install()?;
    let client = connect_now(settings, "lanecast-tail").await?;
    let explained = |error| explain(error, About::Topic(name), settings);
    client.topic(name).await.map_err(explained)?;
    let starts = from.starts(&client, name, settings).await?;
    let json = answer::wants_json(settings)?;
    let config = PrintConfig {
        start: starts.start,
        starts: starts.starts,
        format: if json { PrintFormat::Ndjson } else { PrintFormat::Lines },
        filter: filter::of(settings)?,
        records_max: (limit > 0).then_some(limit),
        to_end: !settings.switch(&table::TAIL_FOLLOW)?,
        ..PrintConfig::new(name)
    };
    let stop = async move {
        signals.next().await;
        signals.exit_at_next();
    };
    lanecast_consumer::print(&client, &config, &mut std::io::stdout(), stop).await?;
    Ok(ExitCode::SUCCESS)
}
