//! What can go wrong at the store, sorted by what to do about it.
//!
//! An insert either succeeded, or may be sent again under its token ([`StoreError::Retryable`],
//! [`StoreError::Unreachable`]), or never will succeed ([`StoreError::Permanent`]). A server's
//! exception says which by its code; a code that this build does not know is retryable and says so
//! ([`Cause::Unknown`]), so that a caller can bound how often it tries.

use core::fmt;

use crate::limits;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The server answered, and may answer otherwise later.
    #[error("ClickHouse cannot take it now ({cause}, code {code}): {message}")]
    Retryable { cause: Cause, code: u32, message: String },

    /// The server answered, and will always answer the same.
    #[error("ClickHouse will never take it (code {code}): {message}")]
    Permanent { code: u32, message: String },

    /// No answer: what became of the request is unknown.
    #[error("ClickHouse at {url} is unreachable: {message}")]
    Unreachable { url: String, message: String },

    #[error("{setting} {value:?} cannot be used: {reason}")]
    InvalidConfig { setting: &'static str, value: String, reason: &'static str },

    #[error(
        "migration {version} ({name}) of database {database} is not the one that was applied \
         (sha256 {applied}, this build has {known}); run the build that applied it, or restore \
         the file"
    )]
    ChangedMigration {
        database: String,
        version: u32,
        name: String,
        applied: String,
        known: String,
    },

    #[error(
        "the schema of database {database} is at version {applied}, this build knows only up to \
         {known}; run a newer build"
    )]
    NewerSchema { database: String, applied: u32, known: u32 },

    #[error("migration {version} ({name}) failed: {source}")]
    Migration { version: u32, name: &'static str, source: Box<StoreError> },
}

/// Why a retryable refusal is retryable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Too many parts, queries or bytes at once: send less for a while.
    Overloaded,
    /// A time-out, a network fault inside the cluster, a server that starts or stops.
    Transient,
    /// Credentials or rights that an operator has to put right; the data is not to blame.
    Denied,
    /// Tables or columns are not there, or not what this build made: an empty volume, a database
    /// that was dropped or is being restored. Rarely the data's fault.
    Schema,
    /// A code that this build does not know.
    Unknown,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::Overloaded => "overloaded",
            Cause::Transient => "transient",
            Cause::Denied => "denied",
            Cause::Schema => "not this build's schema",
            Cause::Unknown => "unknown code",
        })
    }
}

impl StoreError {
    /// Sending the same thing again may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            StoreError::Retryable { .. } | StoreError::Unreachable { .. } => true,
            StoreError::Migration { source, .. } => source.is_retryable(),
            StoreError::Permanent { .. }
            | StoreError::InvalidConfig { .. }
            | StoreError::ChangedMigration { .. }
            | StoreError::NewerSchema { .. } => false,
        }
    }

    /// Waiting may be all that it takes: the server is down, starting or busy. Less than
    /// [`Self::is_retryable`]: wrong credentials do not put themselves right.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            StoreError::Retryable { cause: Cause::Overloaded | Cause::Transient, .. }
            | StoreError::Unreachable { .. } => true,
            StoreError::Migration { source, .. } => source.may_pass(),
            StoreError::Retryable {
                cause: Cause::Denied | Cause::Schema | Cause::Unknown, ..
            }
            | StoreError::Permanent { .. }
            | StoreError::InvalidConfig { .. }
            | StoreError::ChangedMigration { .. }
            | StoreError::NewerSchema { .. } => false,
        }
    }

    /// The tables are gone: making them may be all that it takes.
    #[must_use]
    pub fn asks_for_migration(&self) -> bool {
        matches!(self.code(), Some(UNKNOWN_TABLE | UNKNOWN_DATABASE))
    }

    /// The code of ClickHouse's exception, if it answered with one.
    #[must_use]
    pub fn code(&self) -> Option<u32> {
        match self {
            StoreError::Retryable { code, .. } | StoreError::Permanent { code, .. } => Some(*code),
            StoreError::Migration { source, .. } => source.code(),
            StoreError::Unreachable { .. }
            | StoreError::InvalidConfig { .. }
            | StoreError::ChangedMigration { .. }
            | StoreError::NewerSchema { .. } => None,
        }
    }

    /// Sorts an error of the `clickhouse` crate.
    #[must_use]
    pub fn from_client(error: &clickhouse::error::Error, url: &str) -> Self {
        use clickhouse::error::Error;
        // The crate's error is non-exhaustive. All that is left over is either a bug here or data
        // that does not parse, and neither gets better by repeating it; but neither is proof that
        // the data can never be stored, so it counts as an unknown code.
        #[expect(clippy::wildcard_enum_match_arm)]
        match error {
            Error::BadResponse(text) => Self::from_answer(text),
            Error::Network(source) => {
                StoreError::Unreachable { url: origin(url), message: chain(source.as_ref()) }
            }
            Error::TimedOut => {
                StoreError::Unreachable { url: origin(url), message: "no answer in time".into() }
            }
            Error::Unsupported(text) => StoreError::InvalidConfig {
                setting: "url",
                value: origin(url),
                reason: if text.contains("scheme is not http") {
                    "only http:// is supported"
                } else {
                    "unsupported by the ClickHouse client"
                },
            },
            other => StoreError::Retryable {
                cause: Cause::Unknown,
                code: 0,
                message: cut(&chain(other)),
            },
        }
    }

    /// Sorts a server's answer: `Code: 241. DB::Exception: ...`, or a bare HTTP status line.
    #[must_use]
    pub fn from_answer(text: &str) -> Self {
        let message = cut(text);
        match exception_code(text) {
            Some(code) => match verdict(code, text) {
                Some(cause) => StoreError::Retryable { cause, code, message },
                None => StoreError::Permanent { code, message },
            },
            // A proxy's answer, or a status without a body.
            None if http_status(text).is_some_and(|status| status < 500 && status != 429) => {
                StoreError::Retryable { cause: Cause::Unknown, code: 0, message }
            }
            None => StoreError::Retryable { cause: Cause::Transient, code: 0, message },
        }
    }
}

const UNKNOWN_TABLE: u32 = 60;
const UNKNOWN_DATABASE: u32 = 81;

/// `Some` is why it may be repeated, `None` that it never will succeed. The numbers are
/// ClickHouse's, from its `ErrorCodes.cpp`.
fn verdict(code: u32, text: &str) -> Option<Cause> {
    match code {
        // One code for two things: parts that pile up, and one insert over too many partitions.
        252 if text.contains("Too many partitions for single INSERT block") => None,
        // TOO_MANY_PARTS, MEMORY_LIMIT_EXCEEDED, TOO_MANY_SIMULTANEOUS_QUERIES, NOT_ENOUGH_SPACE,
        // QUOTA_EXCEEDED
        252 | 241 | 202 | 243 | 201 => Some(Cause::Overloaded),
        // TIMEOUT_EXCEEDED, SOCKET_TIMEOUT, NETWORK_ERROR, ABORTED, TABLE_IS_READ_ONLY,
        // ALL_CONNECTION_TRIES_FAILED, TOO_FEW_LIVE_REPLICAS, UNKNOWN_STATUS_OF_INSERT,
        // CANNOT_ALLOCATE_MEMORY, QUERY_WAS_CANCELLED, DEADLOCK_AVOIDED, KEEPER_EXCEPTION
        159 | 209 | 210 | 236 | 242 | 279 | 285 | 319 | 173 | 394 | 473 | 999 => {
            Some(Cause::Transient)
        }
        // UNKNOWN_USER, WRONG_PASSWORD, REQUIRED_PASSWORD, ACCESS_DENIED, AUTHENTICATION_FAILED
        192 | 193 | 194 | 497 | 516 => Some(Cause::Denied),
        // NO_SUCH_COLUMN_IN_TABLE, UNKNOWN_IDENTIFIER, UNKNOWN_TYPE, UNKNOWN_TABLE, SYNTAX_ERROR,
        // UNKNOWN_FORMAT, UNKNOWN_DATABASE
        16 | 47 | 50 | UNKNOWN_TABLE | 62 | 73 | UNKNOWN_DATABASE => Some(Cause::Schema),
        // CANNOT_PARSE_TEXT, CANNOT_PARSE_INPUT_ASSERTION_FAILED, CANNOT_READ_ALL_DATA,
        // TYPE_MISMATCH, INCORRECT_DATA, VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
        6 | 27 | 33 | 53 | 117 | 321 => None,
        _ => Some(Cause::Unknown),
    }
}

/// The number in `Code: 241. DB::Exception: ...`.
fn exception_code(text: &str) -> Option<u32> {
    let rest = &text[text.find("Code: ")? + "Code: ".len()..];
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

/// The number in `502 Bad Gateway`.
fn http_status(text: &str) -> Option<u16> {
    text.get(..3)?.parse().ok()
}

/// An error and what caused it, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    cut(&text)
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(limits::ERROR_TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].trim().to_owned()
}

/// A URL without what may be secret in it: everything before an `@`, and the query.
pub(crate) fn origin(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(text: &str) -> Option<Cause> {
        let error = StoreError::from_answer(text);
        if let StoreError::Retryable { cause, .. } = error {
            return Some(cause);
        }
        assert!(matches!(error, StoreError::Permanent { .. }), "{error:?}");
        None
    }

    #[test]
    fn codes_are_sorted_by_what_to_do() {
        for code in [252, 241] {
            let text = format!("Code: {code}. DB::Exception: no. (X)");
            assert_eq!(cause(&text), Some(Cause::Overloaded), "{code}");
        }
        for code in [159, 209, 210] {
            let text = format!("Code: {code}. DB::Exception: no. (X)");
            assert_eq!(cause(&text), Some(Cause::Transient), "{code}");
        }
        for code in [16, 47, 50, 60, 62, 73, 81] {
            let text = format!("Code: {code}. DB::Exception: no. (X)");
            assert_eq!(cause(&text), Some(Cause::Schema), "{code}");
            let error = StoreError::from_answer(&text);
            assert_eq!(error.asks_for_migration(), [60, 81].contains(&code), "{code}");
            assert!(!error.may_pass(), "{code}");
        }
        for code in [6, 27, 33, 53, 117, 321] {
            assert_eq!(cause(&format!("Code: {code}. DB::Exception: no. (X)")), None, "{code}");
        }
        let denied = "Code: 516. DB::Exception: no";
        assert_eq!(cause(denied), Some(Cause::Denied));
        assert!(StoreError::from_answer(denied).is_retryable(), "the data is not to blame");
        assert!(!StoreError::from_answer(denied).may_pass(), "but waiting does not help");
        assert_eq!(cause("Code: 77777. DB::Exception: no"), Some(Cause::Unknown));
        assert_eq!(cause("503 Service Unavailable"), Some(Cause::Transient));
        assert_eq!(cause("404 Not Found"), Some(Cause::Unknown));
        assert_eq!(cause(""), Some(Cause::Transient));
    }

    #[test]
    fn an_insert_over_too_many_partitions_is_not_taken_for_overload() {
        let text = "Code: 252. DB::Exception: Too many partitions for single INSERT block \
                    (more than 100). (TOO_MANY_PARTS)";
        assert_eq!(cause(text), None);
    }

    #[test]
    fn long_answers_are_cut_between_characters() {
        let text = format!("Code: 241. {}", "ä".repeat(4096));
        let StoreError::Retryable { message, .. } = StoreError::from_answer(&text) else {
            panic!("241 is retryable");
        };
        assert!(message.len() <= limits::ERROR_TEXT_BYTES_MAX);
    }

    #[test]
    fn errors_never_show_credentials() {
        assert_eq!(origin("http://user:secret@host:8123/?password=x"), "http://host:8123");
        assert_eq!(origin("http://host:8123"), "http://host:8123");
    }
}
