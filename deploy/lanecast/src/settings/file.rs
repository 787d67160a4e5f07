//! The TOML settings file: `[section] key = value`, checked against the whole table.

use std::collections::BTreeMap;
use std::path::Path;

use super::{SettingError, table};

/// Reads the file into `section.key -> text`. A file may hold the settings of every role, so that
/// one file serves a whole deployment; a key that no role knows is an error.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, String>, SettingError> {
    let failed = |reason: String| SettingError::File { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let document: toml::Table =
        text.parse().map_err(|error: toml::de::Error| failed(error.to_string()))?;
    let mut values = BTreeMap::new();
    for (name, value) in &document {
        match value {
            toml::Value::Table(section) => {
                for (key, value) in section {
                    insert(&mut values, path, format!("{name}.{key}"), value)?;
                }
            }
            toml::Value::String(_)
            | toml::Value::Integer(_)
            | toml::Value::Float(_)
            | toml::Value::Boolean(_)
            | toml::Value::Datetime(_)
            | toml::Value::Array(_) => insert(&mut values, path, name.clone(), value)?,
        }
    }
    Ok(values)
}

fn insert(
    values: &mut BTreeMap<String, String>,
    path: &Path,
    key: String,
    value: &toml::Value,
) -> Result<(), SettingError> {
    if !table::ALL.iter().any(|setting| setting.key == key) {
        return Err(SettingError::UnknownKey { path: path.to_owned(), known: known(&key), key });
    }
    let text = match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => {
            value.to_string()
        }
        toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => {
            return Err(SettingError::File {
                path: path.to_owned(),
                reason: format!("`{key}` must be a string, a number or true/false"),
            });
        }
    };
    values.insert(key, text);
    Ok(())
}

/// The keys of the same section, or the sections when the section itself is unknown.
fn known(key: &str) -> String {
    let section = key.split_once('.').map_or("", |(section, _)| section);
    let prefix = format!("{section}.");
    let mut names: Vec<&str> = table::ALL
        .iter()
        .filter(|setting| setting.key.starts_with(&prefix))
        .map(|setting| setting.key)
        .collect();
    if names.is_empty() {
        names = table::ALL.iter().map(|setting| setting.key).collect();
    }
    names.dedup();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<BTreeMap<String, String>, SettingError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lanecast.toml");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn a_misspelt_key_is_an_error_that_lists_the_known_ones() {
        let error = read_text("[broker]\nprot = 1\n").unwrap_err().to_string();
        assert!(error.contains("`broker.prot`") && error.contains("broker.port"), "{error}");
    }

    #[test]
    fn text_that_is_not_toml_names_the_line() {
        let error = read_text("[broker\n").unwrap_err().to_string();
        assert!(error.contains("line 1"), "{error}");
    }

    #[test]
    fn lists_are_refused() {
        let error = read_text("[broker]\nport = [1]\n").unwrap_err().to_string();
        assert!(error.contains("broker.port"), "{error}");
    }
}
