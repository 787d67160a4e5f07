//! A plain HTTP client, and the service's own document to hold its answers against.

use std::net::SocketAddr;
use std::sync::OnceLock;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// One answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Asserts the status, showing the answer if it is another.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// The parameters that a problem names.
    pub(crate) fn wrong_params(&self) -> Vec<String> {
        let errors = self.json()["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| error["param"].as_str().unwrap().to_owned()).collect()
    }
}

/// One request on a connection of its own.
pub(crate) async fn send(
    addr: SocketAddr,
    method: Method,
    target: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Reply {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let driving = tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(target).header("host", "test");
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        request = request.header(name, HeaderValue::from_str(value).unwrap());
    }
    let request = request.body(Full::new(body)).unwrap();
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    driving.abort();
    Reply { status: parts.status.as_u16(), headers: parts.headers, body }
}

/// GET with headers; the answer fits the document.
pub(crate) async fn get_with(addr: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Reply {
    let reply = send(addr, Method::GET, target, headers, Bytes::new()).await;
    check_documented(target, &reply);
    reply
}

pub(crate) async fn get(addr: SocketAddr, target: &str) -> Reply {
    get_with(addr, target, &[]).await
}

/// The document, as a service serves it; the same for all of the default configuration.
static DOCUMENT: OnceLock<Value> = OnceLock::new();

pub(crate) async fn load_document(addr: SocketAddr) {
    if DOCUMENT.get().is_none() {
        let reply = send(addr, Method::GET, "/openapi.json", &[], Bytes::new()).await.expect(200);
        let _ = DOCUMENT.set(reply.json());
    }
}

/// Holds an answer against the document: the status is declared for the path, and the body has
/// the declared media type and shape.
#[track_caller]
fn check_documented(target: &str, reply: &Reply) {
    let document = DOCUMENT.get().expect("a world loads the document first");
    let path = target.split('?').next().unwrap();
    let Some(template) = template(path) else { return };
    let response = &document["paths"][template]["get"]["responses"][reply.status.to_string()];
    assert!(response.is_object(), "{template} does not declare {}", reply.status);
    let Some(content) = response["content"].as_object() else {
        assert!(reply.body.is_empty(), "{template} {} has a body", reply.status);
        return;
    };
    let media_type = reply.header("content-type").unwrap().split(';').next().unwrap();
    let declared = content
        .get(media_type)
        .unwrap_or_else(|| panic!("{template} {} does not declare {media_type}", reply.status));
    if declared["schema"]["$ref"].is_string() && reply.header("content-encoding").is_none() {
        let mut schema = declared["schema"].clone();
        schema["components"] = document["components"].clone();
        let validator =
            jsonschema::draft202012::options().should_validate_formats(true).build(&schema);
        let answer = reply.json();
        let validator = validator.unwrap();
        let errors: Vec<_> = validator.iter_errors(&answer).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{target}: {errors:?}\n{answer}");
    }
}

fn template(path: &str) -> Option<&'static str> {
    match path.strip_prefix("/api/v1/gpus") {
        Some("") => Some("/api/v1/gpus"),
        Some(rest) if rest.ends_with("/telemetry") => Some("/api/v1/gpus/{id}/telemetry"),
        Some(rest) if rest.ends_with("/series") => Some("/api/v1/gpus/{id}/series"),
        Some(_) => Some("/api/v1/gpus/{id}"),
        None => ["/healthz", "/livez", "/ready", "/readyz", "/metrics"]
            .into_iter()
            .find(|probe| *probe == path),
    }
}

/// The members of an array of objects.
pub(crate) fn column(items: &Value, name: &str) -> Vec<Value> {
    items.as_array().unwrap().iter().map(|item| item[name].clone()).collect()
}
