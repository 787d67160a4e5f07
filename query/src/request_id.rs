//! Names for requests, in answers and in the log.

use std::sync::atomic::{AtomicU64, Ordering};

use hyper::header::{HeaderMap, HeaderName};

use crate::limits;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A part of this process and a number.
pub(crate) struct RequestIds {
    process: u32,
    next: AtomicU64,
}

impl RequestIds {
    pub(crate) fn new() -> Self {
        use std::hash::{BuildHasher, RandomState};
        let random = RandomState::new().hash_one(std::process::id()).to_le_bytes();
        let [a, b, c, d, ..] = random;
        Self { process: u32::from_le_bytes([a, b, c, d]), next: AtomicU64::new(1) }
    }

    /// The client's own `X-Request-Id` where it is a plain short word, else a new one.
    pub(crate) fn of(&self, headers: &HeaderMap) -> String {
        let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
        let plain = |id: &&str| {
            (1..=limits::REQUEST_ID_BYTES_MAX).contains(&id.len())
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        given.filter(plain).map_or_else(
            || format!("{:08x}-{}", self.process, self.next.fetch_add(1, Ordering::Relaxed)),
            str::to_owned,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn own_request_id_is_kept_only_if_it_is_harmless() {
        let ids = RequestIds::new();
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_str(value).unwrap());
            ids.of(&headers)
        };
        assert_eq!(of("trace-1.a_B"), "trace-1.a_B");
        for odd in ["", "a b", "a\"b", &"x".repeat(limits::REQUEST_ID_BYTES_MAX + 1)] {
            assert_ne!(of(odd), odd);
        }
        assert_ne!(ids.of(&HeaderMap::new()), ids.of(&HeaderMap::new()));
    }
}
