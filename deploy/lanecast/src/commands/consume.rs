//! `lanecast consume clickhouse` and `lanecast consume print`.

use std::process::ExitCode;
use std::time::Duration;

use lanecast_client::GroupOptions;
use lanecast_consumer::{Consumer, ConsumerConfig, PrintConfig, PrintFormat};
use lanecast_store::{Retention, StoreConfig};

use super::{announce, filter, position, query, socket_addr, topic};
use crate::Outcome;
use crate::ready::Ready;
use crate::settings::{SettingError, Settings, table};
use crate::signals::StopSignals;
use crate::units;

/// Moves chunks into ClickHouse until a signal, then finishes what is in flight.
pub(super) async fn clickhouse(settings: &Settings) -> Outcome {
    let mut signals = StopSignals::install()?;
    let config = config(settings)?;
    let consumer = tokio::select! {
        started = Consumer::start(config) => started?,
        _ = signals.next() => return Ok(ExitCode::SUCCESS),
    };
    announce(settings, &Ready::new(None, consumer.admin_addr()))?;
    signals.next().await;
    tracing::info!("draining");
    signals.exit_at_next();
    consumer.drain().await;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

fn config(settings: &Settings) -> Result<ConsumerConfig, SettingError> {
    let defaults = ConsumerConfig::default();
    let lease_seconds: u64 = settings.parse(&table::CONSUME_LEASE)?;
    Ok(ConsumerConfig {
        client: topic::client_config(settings, "lanecast-consumer")?,
        topic: settings.required(&table::TOPIC)?.to_owned(),
        partitions: settings.parse(&table::TOPIC_PARTITIONS)?,
        topic_settings: topic::topic_settings(settings)?,
        group: GroupOptions {
            group: settings.required(&table::CONSUME_GROUP)?.to_owned(),
            chunk_records: settings.parse(&table::CONSUME_LEASE_MAX)?,
            chunk_linger: settings.parse_with(&table::CONSUME_LINGER, units::duration)?,
            lease: Duration::from_secs(lease_seconds),
            ..defaults.group
        },
        store: StoreConfig {
            insert_timeout: settings.parse_with(&table::CONSUME_INSERT_TIMEOUT, units::duration)?,
            ..query::store_config(settings)?
        },
        retention: Retention {
            raw_days: settings.parse(&table::RETENTION_RAW)?,
            rollup_days: settings.parse(&table::RETENTION_ROLLUP)?,
        },
        admin_bind: Some(socket_addr(settings, &table::CONSUME_HOST, &table::CONSUME_ADMIN_PORT)?),
        ..ConsumerConfig::default()
    })
}

/// Prints records until a signal, or as many as asked for.
pub(super) async fn print(settings: &Settings) -> Outcome {
    let mut signals = StopSignals::install()?;
    let unless_zero = |count: u64| (count > 0).then_some(count);
    let from = settings.parse_with(&table::PRINT_FROM, position::from)?;
    let client = topic::connect(settings, "lanecast-print").await?;
    let starts = from.starts(&client, settings.required(&table::TOPIC)?, settings).await?;
    let config = PrintConfig {
        start: starts.start,
        starts: starts.starts,
        filter: filter::of(settings)?,
        format: settings.parse_with(&table::PRINT_FORMAT, |text| match text {
            "text" => Ok(PrintFormat::Lines),
            "ndjson" => Ok(PrintFormat::Ndjson),
            _ => Err("expected text or ndjson".to_owned()),
        })?,
        records_max: unless_zero(settings.parse(&table::PRINT_LIMIT)?),
        ..PrintConfig::new(settings.required(&table::TOPIC)?)
    };
    let stop = async move {
        signals.next().await;
        signals.exit_at_next();
    };
    lanecast_consumer::print(&client, &config, &mut std::io::stdout(), stop).await?;
    Ok(ExitCode::SUCCESS)
}
