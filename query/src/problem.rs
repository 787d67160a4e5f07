//! Errors as clients see them: `application/problem+json` of RFC 9457.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{ALLOW, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Serialize;

use crate::answer::{Answer, Freshness};
use crate::limits;
use crate::params::{ParameterError, Rejection};

pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

/// What went wrong, in the kinds that a client may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    InvalidParameter,
    UnknownParameter,
    BadRequest,
    Unauthorized,
    NotFound,
    UnknownGpu,
    MethodNotAllowed,
    NotAcceptable,
    RequestTimeout,
    BodyTooLarge,
    UriTooLong,
    HeadersTooLarge,
    Internal,
    Overloaded,
    StoreUnavailable,
}

impl Kind {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::InvalidParameter | Self::UnknownParameter | Self::BadRequest => {
                StatusCode::BAD_REQUEST
            }
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::NotFound | Self::UnknownGpu => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Overloaded | Self::StoreUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::InvalidParameter => "A parameter has a value that it cannot have",
            Self::UnknownParameter => "A parameter is not known",
            Self::BadRequest => "The request cannot be read",
            Self::Unauthorized => "A valid bearer token is needed",
            Self::NotFound => "There is nothing at this path",
            Self::UnknownGpu => "No GPU has this id",
            Self::MethodNotAllowed => "This path does not take this method",
            Self::NotAcceptable => "None of the formats asked for is available",
            Self::RequestTimeout => "The request did not arrive in time",
            Self::BodyTooLarge => "The body of the request is too large",
            Self::UriTooLong => "The path and query are too long",
            Self::HeadersTooLarge => "The headers are too large",
            Self::Internal => "The service failed to answer",
            Self::Overloaded => "Too many requests are being answered",
            Self::StoreUnavailable => "ClickHouse does not answer",
        }
    }

    /// The `type` member: a name that does not change.
    pub(crate) fn uri(self) -> &'static str {
        match self {
            Self::InvalidParameter => "urn:lanecast:problem:invalid-parameter",
            Self::UnknownParameter => "urn:lanecast:problem:unknown-parameter",
            Self::BadRequest => "urn:lanecast:problem:bad-request",
            Self::Unauthorized => "urn:lanecast:problem:unauthorized",
            Self::NotFound => "urn:lanecast:problem:not-found",
            Self::UnknownGpu => "urn:lanecast:problem:unknown-gpu",
            Self::MethodNotAllowed => "urn:lanecast:problem:method-not-allowed",
            Self::NotAcceptable => "urn:lanecast:problem:not-acceptable",
            Self::RequestTimeout => "urn:lanecast:problem:request-timeout",
            Self::BodyTooLarge => "urn:lanecast:problem:body-too-large",
            Self::UriTooLong => "urn:lanecast:problem:uri-too-long",
            Self::HeadersTooLarge => "urn:lanecast:problem:headers-too-large",
            Self::Internal => "urn:lanecast:problem:internal",
            Self::Overloaded => "urn:lanecast:problem:overloaded",
            Self::StoreUnavailable => "urn:lanecast:problem:store-unavailable",
        }
    }

    fn headers(self) -> Vec<(HeaderName, HeaderValue)> {
        match self {
            Self::Unauthorized => {
                vec![(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"lanecast\""))]
            }
            Self::MethodNotAllowed => vec![(ALLOW, HeaderValue::from_static(METHODS))],
            Self::Overloaded | Self::StoreUnavailable => {
                vec![(RETRY_AFTER, HeaderValue::from(limits::RETRY_AFTER_SECONDS))]
            }
            Self::InvalidParameter
            | Self::UnknownParameter
            | Self::BadRequest
            | Self::NotFound
            | Self::UnknownGpu
            | Self::NotAcceptable
            | Self::RequestTimeout
            | Self::BodyTooLarge
            | Self::UriTooLong
            | Self::HeadersTooLarge
            | Self::Internal => Vec::new(),
        }
    }
}

/// Every path takes these and no others.
pub(crate) const METHODS: &str = "GET, HEAD, OPTIONS";

/// One error on its way to the client.
#[derive(Debug)]
pub(crate) struct Problem {
    pub kind: Kind,
    pub detail: String,
    pub errors: Vec<ParameterError>,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    instance: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [ParameterError],
    request_id: &'a str,
}

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), errors: Vec::new() }
    }

    /// The answer to a request for `instance` (its path).
    pub(crate) fn answer(&self, instance: &str, request_id: &str) -> Answer {
        let document = Document {
            r#type: self.kind.uri(),
            title: self.kind.title(),
            status: self.kind.status().as_u16(),
            detail: &self.detail,
            instance,
            errors: &self.errors,
            request_id,
        };
        let body = serde_json::to_vec(&document).expect("strings and numbers serialize");
        Answer {
            status: self.kind.status(),
            media_type: MEDIA_TYPE,
            body: Bytes::from(body),
            headers: self.kind.headers(),
            freshness: Freshness::NeverStored,
            gzipped: false,
        }
    }
}

impl From<ParameterError> for Problem {
    fn from(error: ParameterError) -> Self {
        Rejection { errors: vec![error], unknown: false }.into()
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let Rejection { errors, unknown } = rejection;
        let kind = if unknown { Kind::UnknownParameter } else { Kind::InvalidParameter };
        let parts: Vec<_> =
            errors.iter().map(|error| format!("{}: {}", error.param, error.reason)).collect();
        Self { kind, detail: parts.join("; "), errors }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const ALL: [Kind; 15] = [
        Kind::InvalidParameter,
        Kind::UnknownParameter,
        Kind::BadRequest,
        Kind::Unauthorized,
        Kind::NotFound,
        Kind::UnknownGpu,
        Kind::MethodNotAllowed,
        Kind::NotAcceptable,
        Kind::RequestTimeout,
        Kind::BodyTooLarge,
        Kind::UriTooLong,
        Kind::HeadersTooLarge,
        Kind::Internal,
        Kind::Overloaded,
        Kind::StoreUnavailable,
    ];

    #[test]
    fn kinds_have_names_of_their_own() {
        let names: BTreeSet<_> = ALL.iter().map(|kind| kind.uri()).collect();
        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn document_has_the_members_of_rfc_9457() {
        let problem = Problem::from(ParameterError::new("limit", "must be less"));
        let answer = problem.answer("/api/v1/gpus", "r1");
        assert_eq!(answer.status, 400);
        let document: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(document["type"], "urn:lanecast:problem:invalid-parameter");
        assert_eq!(document["status"], 400);
        assert_eq!(document["instance"], "/api/v1/gpus");
        assert_eq!(document["errors"][0]["param"], "limit");
        assert_eq!(document["request_id"], "r1");
    }
}
