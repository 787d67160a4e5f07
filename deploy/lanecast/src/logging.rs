//! The log of a role: `tracing` events to the standard error.

use tracing_subscriber::EnvFilter;

use crate::settings::{SettingError, Settings, table};

/// Starts the log as `log.level` and `log.format` say.
///
/// # Errors
/// The filter or the format is not one.
pub(crate) fn start(settings: &Settings) -> Result<(), SettingError> {
    let filter = settings.parse_with(&table::LOG_LEVEL, |text| {
        EnvFilter::try_new(text.to_ascii_lowercase()).map_err(|error| error.to_string())
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match settings.required(&table::LOG_FORMAT)? {
        "text" => {
            // Colours only for people.
            use std::io::IsTerminal;
            builder.with_ansi(std::io::stderr().is_terminal()).init();
        }
        "json" => builder.json().init(),
        _ => {
            return Err(settings.refused(&table::LOG_FORMAT, "expected text or json".to_owned()));
        }
    }
    Ok(())
}
