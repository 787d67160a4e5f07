//! One file per command: settings in, the role's configuration out, run until done or stopped.

mod answer;
mod bench;
mod bench_report;
mod broker;
pub(crate) mod clickhouse;
mod consume;
mod failure;
mod filter;
mod group;
mod healthcheck;
mod log;
mod position;
mod produce;
mod query;
mod topic;

use std::future::Future;
use std::path::PathBuf;

use crate::cli::Role;
use crate::ready::Ready;
use crate::settings::{SettingError, Settings, table};
use crate::{Outcome, logging, up};

/// Why a command failed, in words.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs the command.
pub(crate) fn run(role: &'static Role, settings: &Settings) -> Outcome {
    if role.path != ["healthcheck"] {
        logging::start(settings)?;
    }
    match role.path {
        ["broker"] => broker::run(settings),
        ["produce", "csv"] => on_tokio(produce::csv(settings)),
        ["produce", "generate"] => on_tokio(produce::generate(settings)),
        ["consume", "clickhouse"] => on_tokio(consume::clickhouse(settings)),
        ["consume", "print"] => on_tokio(consume::print(settings)),
        ["query"] => on_tokio(query::run(settings)),
        ["clickhouse", "serve"] => on_tokio(clickhouse::serve(settings)),
        ["clickhouse", "install"] => clickhouse::install(settings),
        ["topic", command] => on_tokio(topic::run(command, settings)),
        ["group", command] => on_tokio(group::run(command, settings)),
        ["log", "verify"] => log::verify(settings),
        ["log", "dump"] => log::dump(settings),
        ["bench", "run"] => bench::run(settings),
        ["bench", "list"] => bench::list(settings),
        ["bench", "show"] => bench_report::show(settings),
        ["bench", "compare"] => bench_report::compare(settings),
        ["healthcheck"] => on_tokio(healthcheck::run(settings)),
        ["up"] => on_tokio(up::run(settings)),
        path => unreachable!("the command tree offers only these, not {path:?}"),
    }
}

fn on_tokio(command: impl Future<Output = Outcome>) -> Outcome {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the tokio runtime: {error}"))?
        .block_on(command)
}

/// Tells whoever waits for it that the role serves.
fn announce(
    settings: &Settings,
    ready: &Ready,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    if let Some(path) = settings.text(&table::READY_FILE) {
        ready.write(&PathBuf::from(path))?;
    }
    Ok(())
}

/// `host` and `port` settings as one address.
fn socket_addr(
    settings: &Settings,
    host: &'static crate::settings::Setting,
    port: &'static crate::settings::Setting,
) -> Result<std::net::SocketAddr, SettingError> {
    let host: std::net::IpAddr = settings.parse(host)?;
    Ok(std::net::SocketAddr::new(host, settings.parse(port)?))
}
