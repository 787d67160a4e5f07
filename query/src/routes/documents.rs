//! The OpenAPI document, Swagger UI and the landing page.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderValue, LOCATION};

use crate::answer::Answer;
use crate::openapi;

/// What is made once, at the start.
pub(crate) struct Documents {
    json: Bytes,
    yaml: Bytes,
}

impl Documents {
    pub(crate) fn new(default_page_size: u32) -> Self {
        let document = openapi::document(default_page_size);
        let json = serde_json::to_vec_pretty(&document).expect("a JSON value serializes");
        Self { json: Bytes::from(json), yaml: Bytes::from(openapi::yaml(&document)) }
    }

    pub(crate) fn openapi_json(&self) -> Answer {
        Answer::ok("application/json", self.json.clone())
    }

    pub(crate) fn openapi_yaml(&self) -> Answer {
        Answer::ok("application/yaml", self.yaml.clone())
    }
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Pages load nothing from elsewhere and run no script but their own. Swagger UI sets styles of
/// elements and shows icons from `data:`.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'",
);

fn page(html: &'static str) -> Answer {
    let mut answer = Answer::asset(HTML, html.as_bytes(), false);
    answer.headers.push((CONTENT_SECURITY_POLICY, POLICY));
    answer
}

pub(crate) fn landing() -> Answer {
    page(include_str!("landing.html"))
}

pub(crate) fn swagger_page() -> Answer {
    page(include_str!("swagger.html"))
}

/// Relative links on the page need the slash at the end of its path.
pub(crate) fn swagger_redirect() -> Answer {
    let mut answer = Answer::ok("text/plain; charset=utf-8", "see /swagger/\n");
    answer.status = StatusCode::PERMANENT_REDIRECT;
    answer.headers.push((LOCATION, HeaderValue::from_static("/swagger/")));
    answer
}

pub(crate) fn swagger_start() -> Answer {
    Answer::asset(SCRIPT, include_bytes!("swagger.js"), false)
}

pub(crate) fn swagger_script() -> Answer {
    let bytes = include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui-bundle.js.gz"));
    Answer::asset(SCRIPT, bytes, true)
}

pub(crate) fn swagger_style() -> Answer {
    let bytes = include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui.css.gz"));
    Answer::asset("text/css; charset=utf-8", bytes, true)
}

pub(crate) fn swagger_icon() -> Answer {
    let bytes = include_bytes!(concat!(env!("OUT_DIR"), "/favicon-32x32.png"));
    Answer::asset("image/png", bytes, false)
}
