//! Who may ask: one full user, one readonly user, and the credentials of a request.

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::exception::{Exception, code};

/// Name of the user that may only read.
pub const READONLY_USER: &str = "readonly";
/// Name of the full user, when the configuration names none.
pub const DEFAULT_USER: &str = "default";

/// What a request's user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Full,
    ReadOnly,
}

/// The users of a server.
pub(crate) struct Users {
    full_name: String,
    full: Option<[u8; 32]>,
    readonly: Option<[u8; 32]>,
}

/// What a request says of itself.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
}

impl Users {
    /// Without a `readonly_password` the readonly user has the full user's.
    pub(crate) fn new(
        name: Option<&str>,
        password: Option<&str>,
        readonly_password: Option<&str>,
    ) -> Users {
        let full = password.map(digest);
        Users {
            full_name: name.unwrap_or(DEFAULT_USER).to_owned(),
            full,
            readonly: readonly_password.map(digest).or(full),
        }
    }

    /// The role of these credentials. Passwords are compared as digests, in constant time.
    pub(crate) fn authenticate(&self, credentials: &Credentials) -> Result<Role, Exception> {
        let user = credentials.user.as_deref().filter(|user| !user.is_empty());
        let user = user.unwrap_or(&self.full_name);
        let (known, expected, role) = match user {
            READONLY_USER => (true, &self.readonly, Role::ReadOnly),
            _ => (user == self.full_name, &self.full, Role::Full),
        };
        let given = digest(credentials.password.as_deref().unwrap_or(""));
        let right = expected.as_ref().is_none_or(|expected| bool::from(expected.ct_eq(&given)));
        if known && right {
            return Ok(role);
        }
        Err(Exception::new(
            code::AUTHENTICATION_FAILED,
            "AUTHENTICATION_FAILED",
            format_args!(
                "{user}: Authentication failed: password is incorrect, or there is no user with \
                 such name"
            ),
        ))
    }
}

impl Credentials {
    /// From the headers, else from the URL, in the order in which ClickHouse looks.
    pub(crate) fn read(headers: &HeaderMap, url: Credentials) -> Result<Credentials, Exception> {
        let header =
            |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let named =
            Credentials { user: header("x-clickhouse-user"), password: header("x-clickhouse-key") };
        if named != Credentials::default() {
            return Ok(named);
        }
        let Some(value) = headers.get(AUTHORIZATION) else { return Ok(url) };
        let basic = value.to_str().ok().and_then(|value| {
            let (scheme, encoded) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("basic").then(|| base64_decode(encoded.trim()))?
        });
        let text = basic.and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = text.as_deref().and_then(|text| text.split_once(':'));
        let (user, password) = pair.ok_or_else(|| {
            Exception::new(
                code::AUTHENTICATION_FAILED,
                "AUTHENTICATION_FAILED",
                "Authentication failed: the Authorization header is not a Basic one",
            )
        })?;
        Ok(Credentials { user: Some(user.to_owned()), password: Some(password.to_owned()) })
    }
}

fn digest(password: &str) -> [u8; 32] {
    Sha256::digest(password.as_bytes()).into()
}

/// RFC 4648 base64 with or without padding; `None` for anything else.
fn base64_decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for b in text.trim_end_matches('=').bytes() {
        let value = match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(users: &Users, user: Option<&str>, password: Option<&str>) -> Option<Role> {
        let credentials =
            Credentials { user: user.map(str::to_owned), password: password.map(str::to_owned) };
        users.authenticate(&credentials).ok()
    }

    #[test]
    fn passwords_decide_the_role() {
        let users = Users::new(None, Some("s3"), Some("r"));
        assert_eq!(role(&users, None, Some("s3")), Some(Role::Full));
        assert_eq!(role(&users, Some("default"), Some("s3")), Some(Role::Full));
        assert_eq!(role(&users, Some("readonly"), Some("r")), Some(Role::ReadOnly));
        assert_eq!(role(&users, Some("readonly"), Some("s3")), None);
        assert_eq!(role(&users, None, None), None);
        assert_eq!(role(&users, Some("root"), Some("s3")), None);
        let open = Users::new(None, None, None);
        assert_eq!(role(&open, None, None), Some(Role::Full));
        assert_eq!(role(&open, Some("readonly"), None), Some(Role::ReadOnly));
        assert_eq!(role(&open, Some("root"), None), None);
    }

    #[test]
    fn basic_credentials_are_read() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, "Basic ZGVmYXVsdDpzOjM=".parse().unwrap());
        let read = Credentials::read(&headers, Credentials::default()).ok().unwrap();
        assert_eq!(read.user.as_deref(), Some("default"));
        assert_eq!(read.password.as_deref(), Some("s:3"));
        for bad in ["Bearer x", "Basic", "Basic !!", "Basic YWJj"] {
            headers.insert(AUTHORIZATION, bad.parse().unwrap());
            assert!(Credentials::read(&headers, Credentials::default()).is_err(), "{bad}");
        }
    }
}
