//! From an answer to a response: content coding, validators, headers.

use bytes::Bytes;
use crc_fast::CrcAlgorithm;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};

use crate::answer::{Answer, Freshness};
use crate::encode::coding::{Coding, gunzip};
use crate::limits;

/// Content coding, validators and the headers that all responses have.
pub(crate) async fn finish(answer: Answer, asked: &HeaderMap) -> Response<Bytes> {
    let Answer { mut status, media_type, mut body, headers: more, freshness, gzipped } = answer;
    let coding = if gzipped {
        Coding::of_gzipped(asked)
    } else if body.len() >= limits::COMPRESS_BYTES_MIN {
        Coding::of_body(asked)
    } else {
        Coding::Identity
    };
    let mut headers = HeaderMap::with_capacity(12);
    if freshness == Freshness::Revalidated {
        // Answers are told apart from their own later versions, which nobody forges.
        let checksum = crc_fast::checksum(CrcAlgorithm::Crc64Nvme, &body);
        let tag = format!("\"{checksum:016x}{:x}{}\"", body.len(), coding.tag());
        if matches_tag(asked, &tag) {
            status = StatusCode::NOT_MODIFIED;
            body = Bytes::new();
        }
        headers.insert(header::ETAG, HeaderValue::from_str(&tag).expect("a tag is hex"));
    }
    if !body.is_empty() {
        body = match (gzipped, coding) {
            (true, Coding::Gzip) => body,
            (true, Coding::Identity | Coding::Zstd) => coding.pack(gunzip(&body)).await,
            (false, coding) => coding.pack(body).await,
        };
        headers.extend(coding.header().map(|name| (header::CONTENT_ENCODING, name)));
    }
    if status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    }
    headers
        .insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding, Authorization"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let cache = match freshness {
        Freshness::NeverStored => "no-store",
        Freshness::Revalidated => "private, no-cache",
        Freshness::Asset => "public, max-age=3600",
    };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.extend(more.into_iter().map(|(name, value)| (Some(name), value)));
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Does `If-None-Match` name this tag? Weakly compared, as RFC 9110, 13.1.2 wants it.
fn matches_tag(headers: &HeaderMap, tag: &str) -> bool {
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|named| named == "*" || named.strip_prefix("W/").unwrap_or(named) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_compared_weakly_and_in_lists() {
        let matches = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static(value));
            matches_tag(&headers, "\"ab\"")
        };
        assert!(matches("\"ab\""));
        assert!(matches("\"x\", W/\"ab\""));
        assert!(matches("*"));
        assert!(!matches("\"abc\""));
        assert!(!matches_tag(&HeaderMap::new(), "\"ab\""));
    }
}
