//! `lanecast query`.

use std::process::ExitCode;

use lanecast_query::{QueryConfig, QueryServer};
use lanecast_store::StoreConfig;

use super::{announce, socket_addr};
use crate::Outcome;
use crate::ready::Ready;
use crate::settings::{SettingError, Settings, table};
use crate::signals::StopSignals;

/// Serves until a signal, then finishes the requests in flight.
pub(super) async fn run(settings: &Settings) -> Outcome {
    let mut signals = StopSignals::install()?;
    let server = QueryServer::start(QueryConfig {
        bind: socket_addr(settings, &table::QUERY_HOST, &table::QUERY_PORT)?,
        store: store_config(settings)?,
        auth_token: settings.text(&table::QUERY_AUTH_TOKEN).map(str::to_owned),
        insecure_no_auth: settings.switch(&table::QUERY_NO_AUTH)?,
        default_page_size: settings.parse(&table::QUERY_PAGE_SIZE)?,
        ..QueryConfig::default()
    })
    .await?;
    announce(settings, &Ready::new(Some(server.addr()), None))?;
    signals.next().await;
    signals.exit_at_next();
    server.shutdown().await;
    Ok(ExitCode::SUCCESS)
}

/// Which ClickHouse, as whom.
pub(super) fn store_config(settings: &Settings) -> Result<StoreConfig, SettingError> {
    Ok(StoreConfig {
        url: settings.required(&table::CLICKHOUSE_URL)?.to_owned(),
        user: settings.required(&table::CLICKHOUSE_USER)?.to_owned(),
        password: settings.text(&table::CLICKHOUSE_PASSWORD).unwrap_or_default().to_owned(),
        database: settings.required(&table::CLICKHOUSE_DATABASE)?.to_owned(),
        ..StoreConfig::default()
    })
}
