//! A ClickHouse exception: its code, its text, and the HTTP status that a server answers with.

use hyper::StatusCode;

/// Codes of ClickHouse's `ErrorCodes.cpp` that this server raises itself.
pub(crate) mod code {
    pub(crate) const CANNOT_READ_ALL_DATA: i32 = 33;
    pub(crate) const BAD_ARGUMENTS: i32 = 36;
    pub(crate) const CHECKSUM_DOESNT_MATCH: i32 = 40;
    pub(crate) const NOT_IMPLEMENTED: i32 = 48;
    pub(crate) const SYNTAX_ERROR: i32 = 62;
    pub(crate) const TOO_LARGE_SIZE_COMPRESSED: i32 = 131;
    pub(crate) const TOO_MANY_SIMULTANEOUS_QUERIES: i32 = 202;
    pub(crate) const QUERY_IS_TOO_LARGE: i32 = 223;
    pub(crate) const NETWORK_ERROR: i32 = 210;
    pub(crate) const CANNOT_DECOMPRESS: i32 = 271;
    pub(crate) const FUNCTION_NOT_ALLOWED: i32 = 446;
    pub(crate) const ACCESS_DENIED: i32 = 497;
    pub(crate) const AUTHENTICATION_FAILED: i32 = 516;
    pub(crate) const UNKNOWN_EXCEPTION: i32 = 1002;
}

/// An error as ClickHouse tells it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Exception {
    pub(crate) code: i32,
    /// The whole text, beginning with `Code: N. DB::Exception: `, on one line or several.
    message: String,
}

impl Exception {
    /// One that this server raises. `name` is ClickHouse's name of the code.
    pub(crate) fn new(code: i32, name: &str, text: impl std::fmt::Display) -> Exception {
        Exception { code, message: format!("Code: {code}. DB::Exception: {text}. ({name})") }
    }

    /// The engine gave neither a result nor a reason.
    pub(crate) fn no_result() -> Exception {
        Exception::new(code::UNKNOWN_EXCEPTION, "UNKNOWN_EXCEPTION", "libchdb returned no result")
    }

    /// Reads what the engine reports; text without a code becomes code 1002.
    pub(crate) fn parse(message: &str) -> Exception {
        let message = message.trim();
        let start = message.find("Code: ").unwrap_or(0);
        let mut text = &message[start..];
        // What one layer of the engine caught from another begins twice.
        while let Some((_, inner)) = text.split_once("DB::Exception: ")
            && inner.starts_with("Code: ")
        {
            text = inner;
        }
        let digits: String = text
            .strip_prefix("Code: ")
            .unwrap_or("")
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        match digits.parse() {
            Ok(code) if text.contains("DB::") => Exception { code, message: text.to_owned() },
            Ok(code) => Exception {
                code,
                message: format!(
                    "Code: {code}. DB::Exception: {}",
                    text["Code: ".len() + digits.len()..].trim_start_matches(['.', ':', ' '])
                ),
            },
            Err(_) => {
                let code = code::UNKNOWN_EXCEPTION;
                Exception { code, message: format!("Code: {code}. DB::Exception: {message}") }
            }
        }
    }

    /// The text, ending as a ClickHouse server's does: clients look for this.
    pub(crate) fn text(&self, version: &str) -> String {
        match self.message.ends_with("))") && self.message.contains("(version ") {
            true => self.message.clone(),
            false => format!("{} (version {version} (libchdb))", self.message),
        }
    }

    /// The status of ClickHouse's `exceptionCodeToHTTPStatus.cpp`; overload is told apart, so that
    /// clients back off.
    pub(crate) fn status(&self) -> StatusCode {
        match self.code {
            6 | 25 | 26 | 27 | 33 | 36 | 38 | 40 | 41 | 44 | 53 | 62 | 69 | 72 | 117 | 131
            | 167 | 168 | 271 | 306 | 427 | 441 | 675 | 676 => StatusCode::BAD_REQUEST,
            46 | 47 | 50 | 56 | 60 | 63 | 73 | 78 | 81 | 115 | 139 => StatusCode::NOT_FOUND,
            194 => StatusCode::UNAUTHORIZED,
            164 | 192 | 193 | 446 | 497 | 516 => StatusCode::FORBIDDEN,
            223 => StatusCode::PAYLOAD_TOO_LARGE,
            48 => StatusCode::NOT_IMPLEMENTED,
            159 => StatusCode::REQUEST_TIMEOUT,
            202 | 209 | 439 => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_out_of_whatever_the_engine_says() {
        for (message, code, begins) in [
            ("Code: 60. DB::Exception: No t. (UNKNOWN_TABLE)", 60, "Code: 60. DB::Exception: No t"),
            ("Code: 210. DB::NetException: x", 210, "Code: 210. DB::NetException: x"),
            ("Code: 1. DB::Exception: Code: 1. DB::Exception: y", 1, "Code: 1. DB::Exception: y"),
            ("Code: 36, e.displayText() = z", 36, "Code: 36. DB::Exception: , e.display"),
            ("std::bad_alloc", 1002, "Code: 1002. DB::Exception: std::bad_alloc"),
            ("Code: x", 1002, "Code: 1002. DB::Exception: Code: x"),
            ("", 1002, "Code: 1002. DB::Exception: "),
        ] {
            let exception = Exception::parse(message);
            assert_eq!(exception.code, code, "{message}");
            assert!(exception.to_string().starts_with(begins), "{exception}");
        }
    }

    #[test]
    fn statuses_tell_who_is_to_blame() {
        for (code, status) in [(62, 400), (60, 404), (516, 403), (202, 503), (241, 500), (48, 501)]
        {
            assert_eq!(Exception::new(code, "X", "x").status().as_u16(), status);
        }
    }
}
