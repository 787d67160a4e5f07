//! Settings: flags over environment over TOML file over defaults, all from one table.
//!
//! [`table`] lists every setting once: its TOML key, flag, environment names, default and help.
//! The command line, the file check, `--print-config` and the documentation of defaults are made
//! from that list, so they cannot disagree. [`Settings`] is the outcome: every value as text with
//! where it came from; commands parse what they need and an error names that source.

mod file;
mod print;
pub(crate) mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::ArgMatches;

pub(crate) use print::print_config;
pub(crate) use table::{Kind, Setting};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Flag(&'static str),
    Environment(&'static str),
    File(PathBuf),
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag(flag) => write!(f, "flag --{flag}"),
            Source::Environment(name) => write!(f, "environment {name}"),
            Source::File(path) => write!(f, "file {}", path.display()),
            Source::Default => f.write_str("default"),
        }
    }
}

/// A setting that cannot be used as it stands.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingError {
    #[error("setting {key} = {value:?} (from {from}): {reason}")]
    Value { key: &'static str, value: String, from: Source, reason: String },
    #[error("setting {key} is needed: give --{flag}{environment}, or `{key}` in the file")]
    Missing { key: &'static str, flag: &'static str, environment: String },
    #[error("cannot read the settings file {}: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    #[error("settings file {}: unknown key `{key}`; known there: {known}", path.display())]
    UnknownKey { path: PathBuf, key: String, known: String },
}

/// The settings of one command, resolved.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    values: BTreeMap<&'static str, (&'static Setting, Option<String>, Source)>,
}

impl Settings {
    /// Resolves `wanted` from the flags in `matches`, the environment, and the file that
    /// `--config` or `LANECAST_CONFIG` names.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, or has a key that no command knows.
    pub(crate) fn resolve(
        wanted: &[&'static Setting],
        matches: &ArgMatches,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingError> {
        let path = matches
            .get_one::<String>("config")
            .cloned()
            .or_else(|| environment("LANECAST_CONFIG").filter(|text| !text.is_empty()))
            .map(PathBuf::from);
        let file = match &path {
            Some(path) => file::read(path)?,
            None => BTreeMap::new(),
        };
        let mut values = BTreeMap::new();
        for setting in wanted {
            let (value, source) = match flag_value(setting, matches) {
                Some(value) => (Some(value), Source::Flag(setting.flag)),
                None => match environment_value(setting, environment) {
                    Some((value, name)) => (Some(value), Source::Environment(name)),
                    None => match (file.get(setting.key), &path) {
                        (Some(value), Some(path)) => {
                            (Some(value.clone()), Source::File(path.clone()))
                        }
                        _ => (setting.default.map(str::to_owned), Source::Default),
                    },
                },
            };
            values.insert(setting.key, (*setting, value, source));
        }
        Ok(Self { values })
    }

    /// The value as text; `None` when it has no value at all.
    pub(crate) fn text(&self, setting: &'static Setting) -> Option<&str> {
        self.values.get(setting.key).and_then(|(_, value, _)| value.as_deref())
    }

    /// The value came from the user, not from the table.
    pub(crate) fn is_given(&self, setting: &'static Setting) -> bool {
        self.values.get(setting.key).is_some_and(|(_, _, source)| *source != Source::Default)
    }

    /// The value of a setting that must be there.
    ///
    /// # Errors
    /// Neither given nor with a default.
    pub(crate) fn required(&self, setting: &'static Setting) -> Result<&str, SettingError> {
        self.text(setting).ok_or_else(|| SettingError::Missing {
            key: setting.key,
            flag: setting.flag,
            environment: setting.env.first().map(|name| format!(", {name}")).unwrap_or_default(),
        })
    }

    /// The values of a list, which may be none.
    pub(crate) fn list(&self, setting: &'static Setting) -> impl Iterator<Item = &str> {
        self.text(setting).unwrap_or_default().lines().filter(|value| !value.is_empty())
    }

    /// The value through a parser.
    ///
    /// # Errors
    /// Missing, or refused by the parser; the error names where the value came from.
    pub(crate) fn parse_with<T>(
        &self,
        setting: &'static Setting,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, SettingError> {
        let text = self.required(setting)?;
        parse(text).map_err(|reason| self.refused(setting, reason))
    }

    /// Like [`Self::parse_with`], for a setting that may have no value.
    ///
    /// # Errors
    /// Refused by the parser.
    pub(crate) fn parse_optional<T>(
        &self,
        setting: &'static Setting,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, SettingError> {
        match self.text(setting) {
            None => Ok(None),
            Some(text) => parse(text).map(Some).map_err(|reason| self.refused(setting, reason)),
        }
    }

    /// The value by its type's own parser.
    ///
    /// # Errors
    /// As [`Self::parse_with`].
    pub(crate) fn parse<T: FromStr>(&self, setting: &'static Setting) -> Result<T, SettingError>
    where
        T::Err: fmt::Display,
    {
        self.parse_with(setting, |text| text.parse().map_err(|error: T::Err| error.to_string()))
    }

    /// A switch: on by its flag, or by `true`, `1`, `yes` or `on` elsewhere.
    ///
    /// # Errors
    /// Some other word.
    pub(crate) fn switch(&self, setting: &'static Setting) -> Result<bool, SettingError> {
        match self.text(setting) {
            None => Ok(false),
            Some(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => Ok(true),
                "false" | "0" | "no" | "off" => Ok(false),
                _ => Err(self.refused(setting, "expected true or false".to_owned())),
            },
        }
    }

    /// The error for a value that a command refuses.
    pub(crate) fn refused(&self, setting: &'static Setting, reason: String) -> SettingError {
        let (value, from) = match self.values.get(setting.key) {
            Some((_, value, source)) => (value.clone().unwrap_or_default(), source.clone()),
            None => (String::new(), Source::Default),
        };
        let value = if setting.secret { "***".to_owned() } else { value };
        SettingError::Value { key: setting.key, value, from, reason }
    }

    pub(crate) fn iter(
        &self,
    ) -> impl Iterator<Item = (&'static Setting, Option<&str>, &Source)> + '_ {
        self.values.values().map(|(setting, value, source)| (*setting, value.as_deref(), source))
    }
}

fn flag_value(setting: &'static Setting, matches: &ArgMatches) -> Option<String> {
    match setting.kind {
        Kind::Switch => matches.get_flag(setting.key).then(|| "true".to_owned()),
        Kind::Value | Kind::Positional => matches.get_one::<String>(setting.key).cloned(),
        Kind::List => {
            let values: Vec<&str> =
                matches.get_many::<String>(setting.key)?.map(String::as_str).collect();
            Some(values.join("\n"))
        }
    }
}

/// An empty variable counts as unset: that is what compose files and charts make of a blank.
fn environment_value(
    setting: &'static Setting,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Option<(String, &'static str)> {
    setting
        .env
        .iter()
        .find_map(|name| environment(name).filter(|text| !text.is_empty()).map(|v| (v, *name)))
}

#[cfg(test)]
mod tests {
    use super::table::{BROKER_HOST, BROKER_PORT, CLICKHOUSE_PASSWORD};
    use super::*;

    fn matches(arguments: &[&str], wanted: &[&'static Setting]) -> ArgMatches {
        crate::cli::with_settings(clap::Command::new("test"), wanted)
            .no_binary_name(true)
            .try_get_matches_from(arguments)
            .unwrap()
    }

    const WANTED: &[&Setting] = &[&BROKER_PORT, &BROKER_HOST, &CLICKHOUSE_PASSWORD];

    #[test]
    fn flags_win_over_environment_over_file_over_default() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lanecast.toml");
        std::fs::write(&path, "[broker]\nport = 3\nhost = \"::1\"\n").unwrap();
        let path = path.to_str().unwrap().to_owned();
        let environment = |name: &str| match name {
            "TCP_PORT" => Some("2".to_owned()),
            "LANECAST_CONFIG" => Some(path.clone()),
            _ => None,
        };
        let flagged = matches(&["--port", "1"], WANTED);
        let settings = Settings::resolve(WANTED, &flagged, &environment).unwrap();
        assert_eq!(settings.parse::<u16>(&BROKER_PORT).unwrap(), 1);
        let plain = matches(&[], WANTED);
        let settings = Settings::resolve(WANTED, &plain, &environment).unwrap();
        assert_eq!(settings.parse::<u16>(&BROKER_PORT).unwrap(), 2);
        assert_eq!(settings.text(&BROKER_HOST), Some("::1"));
        let settings = Settings::resolve(WANTED, &plain, &|_| None).unwrap();
        assert_eq!(settings.parse::<u16>(&BROKER_PORT).unwrap(), 9080);
    }

    #[test]
    fn an_error_names_the_source_and_hides_secrets() {
        let plain = matches(&[], WANTED);
        let environment = |name: &str| match name {
            "TCP_PORT" => Some("many".to_owned()),
            "CLICKHOUSE_PASSWORD" => Some("hunter2".to_owned()),
            _ => None,
        };
        let settings = Settings::resolve(WANTED, &plain, &environment).unwrap();
        let error = settings.parse::<u16>(&BROKER_PORT).unwrap_err().to_string();
        assert!(error.contains("environment TCP_PORT") && error.contains("many"), "{error}");
        let error = settings.refused(&CLICKHOUSE_PASSWORD, "too short".into()).to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let plain = matches(&[], WANTED);
        let settings = Settings::resolve(WANTED, &plain, &|_| Some(String::new())).unwrap();
        assert!(!settings.is_given(&BROKER_PORT));
    }
}
