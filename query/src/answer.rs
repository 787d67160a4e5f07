//! An answer before it becomes a response: what to say, and how it may be kept.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};

#[derive(Debug)]
pub(crate) struct Answer {
    pub status: StatusCode,
    pub media_type: &'static str,
    pub body: Bytes,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub freshness: Freshness,
    /// The body is gzip already; a client that does not take it gets it unpacked.
    pub gzipped: bool,
}

/// How a cache may treat an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// It changes with time.
    NeverStored,
    /// About a closed window: it has an `ETag`, by which it is asked for again.
    Revalidated,
    /// Part of the program.
    Asset,
}

impl Answer {
    pub(crate) fn ok(media_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            status: StatusCode::OK,
            media_type,
            body: body.into(),
            headers: Vec::new(),
            freshness: Freshness::NeverStored,
            gzipped: false,
        }
    }

    pub(crate) fn json(value: &impl serde::Serialize) -> Self {
        let body = serde_json::to_vec(value).expect("answers are plain data with text keys");
        Self::ok("application/json", body)
    }

    pub(crate) fn asset(media_type: &'static str, body: &'static [u8], gzipped: bool) -> Self {
        let body = Bytes::from_static(body);
        Self { freshness: Freshness::Asset, gzipped, ..Self::ok(media_type, body) }
    }
}
