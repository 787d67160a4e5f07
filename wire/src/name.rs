//! Names of topics, groups, members and clients.

use crate::limits::NAME_BYTES_MAX;

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    #[error("a name must not be empty")]
    Empty,
    #[error("a name has {bytes} bytes, the limit is {NAME_BYTES_MAX}")]
    TooLong { bytes: usize },
    #[error("a name has {found:?}; letters, digits, '.', '_' and '-' are allowed")]
    Character { found: char },
    #[error("\".\" and \"..\" are no names")]
    Dots,
}

/// Whether `name` may name a topic, group, member or client: 1 to [`NAME_BYTES_MAX`] bytes of
/// `[A-Za-z0-9._-]`, and neither `.` nor `..`, so that a name is also a safe file name.
///
/// # Errors
/// Says what is wrong with the name.
pub fn check(name: &str) -> Result<(), InvalidName> {
    if name.is_empty() {
        return Err(InvalidName::Empty);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(InvalidName::TooLong { bytes: name.len() });
    }
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if let Some(found) = name.chars().find(|c| !allowed(c)) {
        return Err(InvalidName::Character { found });
    }
    if matches!(name, "." | "..") {
        return Err(InvalidName::Dots);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_file_names() {
        for good in
            ["gpu-telemetry", "gpu-telemetry.dlq", "A_1", "...", &"x".repeat(NAME_BYTES_MAX)]
        {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", "a\0", &"x".repeat(NAME_BYTES_MAX + 1)] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
