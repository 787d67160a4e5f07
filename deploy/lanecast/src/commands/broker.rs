//! `lanecast broker`.

use std::convert::Infallible;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use lanecast_broker::{Broker, BrokerConfig};
use lanecast_core::group::limits::CHUNKS_OUT_PER_GROUP_MAX;
use lanecast_wire::limits::CREDIT_BYTES_MAX;
use lanecast_wire::message::DeliveryMode;

use super::{announce, socket_addr};
use crate::ready::Ready;
use crate::settings::{SettingError, Settings, table};
use crate::signals::StopSignals;
use crate::{Outcome, units};

/// How often it is looked whether every log has been read again.
const READY_POLL: Duration = Duration::from_millis(10);

/// Runs until a signal, then drains.
///
/// The shards have threads of their own. tokio serves the signals alone, on this one.
pub(super) fn run(settings: &Settings) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = StopSignals::install()?;
        let broker = Broker::start(config(settings)?)?;
        tokio::select! {
            ended = serve(settings, &broker) => match ended? {},
            _ = signals.next() => {}
        }
        signals.exit_at_next();
        broker.drain();
        tokio::task::spawn_blocking(move || broker.join()).await??;
        Ok(ExitCode::SUCCESS)
    })
}

/// Says that the broker is ready once it is; then there is nothing to do but wait for a signal.
async fn serve(
    settings: &Settings,
    broker: &Broker,
) -> Result<Infallible, Box<dyn std::error::Error + Send + Sync>> {
    while !broker.is_ready() {
        tokio::time::sleep(READY_POLL).await;
    }
    announce(settings, &Ready::new(Some(broker.addr()), Some(broker.admin_addr())))?;
    Ok(std::future::pending().await)
}

fn config(settings: &Settings) -> Result<BrokerConfig, SettingError> {
    let data_dir = settings
        .text(&table::DATA_DIR)
        .map_or_else(|| PathBuf::from("lanecast-data"), PathBuf::from);
    let defaults = BrokerConfig::new(data_dir);
    Ok(BrokerConfig {
        bind: socket_addr(settings, &table::BROKER_HOST, &table::BROKER_PORT)?,
        admin_bind: socket_addr(settings, &table::BROKER_HOST, &table::BROKER_ADMIN_PORT)?,
        shards: NonZeroU16::new(settings.parse(&table::BROKER_SHARDS)?).map(NonZeroU16::get),
        memory_bytes: settings.parse_with(&table::BROKER_MEMORY, units::bytes)?,
        max_consumers: settings.parse(&table::BROKER_MAX_CONSUMERS)?,
        group_chunks_out: settings.parse_with(&table::BROKER_GROUP_CHUNKS, |text| {
            let chunks = text.parse().map_err(|_| "expected a number".to_owned())?;
            if (1..=CHUNKS_OUT_PER_GROUP_MAX).contains(&chunks) {
                Ok(chunks)
            } else {
                Err(format!("must be between 1 and {CHUNKS_OUT_PER_GROUP_MAX}"))
            }
        })?,
        client_bytes_per_second: settings.parse_with(&table::BROKER_CLIENT_BYTES, units::bytes)?,
        client_records_per_second: settings.parse(&table::BROKER_CLIENT_RECORDS)?,
        default_mode: settings.parse_with(&table::BROKER_MODE, |text| match text {
            "broadcast" => Ok(DeliveryMode::Broadcast),
            "queue" => Ok(DeliveryMode::Queue),
            _ => Err("expected broadcast or queue".to_owned()),
        })?,
        default_credit_bytes: settings.parse_with(&table::BROKER_CREDIT, |text| {
            let bytes = units::credit(text)?;
            u32::try_from(bytes)
                .ok()
                .filter(|bytes| (1..=CREDIT_BYTES_MAX).contains(bytes))
                .ok_or_else(|| format!("must be between 1 byte and {CREDIT_BYTES_MAX} bytes"))
        })?,
        segment_bytes: settings.parse_with(&table::BROKER_SEGMENT, units::bytes)?,
        ..defaults
    })
}
