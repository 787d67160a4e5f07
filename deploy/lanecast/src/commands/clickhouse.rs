//! `lanecast clickhouse serve` and `lanecast clickhouse install`.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use lanecast_clickhouse::install::{self, InstallConfig, Progress};
use lanecast_clickhouse::{ServeConfig, Server};

use super::{announce, socket_addr};
use crate::ready::Ready;
use crate::settings::{Settings, table};
use crate::signals::StopSignals;
use crate::{Outcome, units};

const MIB: u64 = 1024 * 1024;

/// Where the library is, or shall be put.
pub(crate) fn install_config(settings: &Settings) -> InstallConfig {
    let defaults = InstallConfig::default();
    let library = settings.text(&table::LOCAL_LIBRARY).map(PathBuf::from).or(defaults.library);
    InstallConfig { library, ..defaults }
}

/// What is going on, in a line.
pub(crate) fn progress_text(progress: Progress) -> String {
    match progress {
        Progress::Waiting => {
            "waiting for another process to fetch the ClickHouse library".to_owned()
        }
        Progress::Downloading { bytes, total: Some(total) } => {
            format!("fetching the ClickHouse library: {} of {} MiB", bytes / MIB, total / MIB)
        }
        Progress::Downloading { bytes, total: None } => {
            format!("fetching the ClickHouse library: {} MiB", bytes / MIB)
        }
        Progress::Unpacking { bytes, total } => {
            format!("unpacking the ClickHouse library: {} of {} MiB", bytes / MIB, total / MIB)
        }
        Progress::Verifying { bytes, total } => {
            format!("checking the ClickHouse library: {} of {} MiB", bytes / MIB, total / MIB)
        }
    }
}

/// Fetches the library, with progress on a terminal.
pub(super) fn install(settings: &Settings) -> Outcome {
    let terminal = std::io::stderr().is_terminal();
    let path = install::ensure(&install_config(settings), &mut |progress| {
        if terminal {
            // A closed standard error is no reason to stop.
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K{}", progress_text(progress));
        }
    })?;
    if terminal {
        writeln!(std::io::stderr().lock(), "\r\x1b[K")?;
    }
    writeln!(std::io::stdout().lock(), "{}", path.display())?;
    Ok(ExitCode::SUCCESS)
}

/// Serves until a signal, then finishes the statements that run.
pub(super) async fn serve(settings: &Settings) -> Outcome {
    let mut signals = StopSignals::install()?;
    let config = install_config(settings);
    let library =
        tokio::task::spawn_blocking(move || install::ensure(&config, &mut |_| ())).await??;
    let data_dir = PathBuf::from(settings.text(&table::DATA_DIR).unwrap_or("clickhouse-data"));
    let bind = socket_addr(settings, &table::LOCAL_HOST, &table::LOCAL_PORT)?;
    let server = Server::start(ServeConfig {
        user: settings.text(&table::LOCAL_USER).map(str::to_owned),
        password: settings.text(&table::LOCAL_PASSWORD).map(str::to_owned),
        allow_open: settings.switch(&table::LOCAL_NO_AUTH)?,
        memory_bytes_max: settings.parse_with(&table::LOCAL_MEMORY, units::bytes)?,
        ..ServeConfig::new(bind, data_dir, library)
    })
    .await?;
    announce(settings, &Ready::new(Some(server.addr()), None))?;
    signals.next().await;
    signals.exit_at_next();
    server.shutdown().await;
    Ok(ExitCode::SUCCESS)
}
