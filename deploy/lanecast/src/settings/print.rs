//! `--print-config`: the resolved settings as a TOML file that says where each value came from.

use std::io::Write;

use super::Settings;

/// Writes the settings as TOML; its values can be used as a settings file as they are. Secrets are
/// shown as set or not, never by value.
pub(crate) fn print_config(settings: &Settings, out: &mut dyn Write) -> std::io::Result<()> {
    let mut rows: Vec<_> = settings.iter().collect();
    // Keys without a section must come first in TOML.
    rows.sort_by_key(|(setting, _, _)| (setting.key.contains('.'), setting.key));
    let mut section = "";
    for (setting, value, source) in rows {
        let (this_section, key) = setting.key.split_once('.').unwrap_or(("", setting.key));
        if this_section != section {
            section = this_section;
            writeln!(out, "\n[{section}]")?;
        }
        match value {
            None => writeln!(out, "# {key} is not set")?,
            Some(_) if setting.secret => writeln!(out, "# {key} is set, from {source}")?,
            Some(value) => {
                writeln!(out, "{key} = {}  # {source}", toml::Value::String(value.to_owned()))?;
            }
        }
    }
    Ok(())
}
