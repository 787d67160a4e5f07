//! An HTTP server in front of ClickHouse, or in place of it, that fails as a test says.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What happens to one insert. Everything that is no insert is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Passed on; without a ClickHouse behind, answered with success.
    Pass,
    /// Answered with this exception; ClickHouse does not see it.
    Exception(u32),
    /// Passed on, and the connection ends instead of the answer.
    PassAndHangUp,
    /// The connection ends; ClickHouse does not see it.
    HangUp,
    /// Kept without an answer.
    Hold,
}

/// An insert as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Insert {
    pub(crate) token: String,
    pub(crate) query: String,
    pub(crate) body: Bytes,
}

pub(crate) struct Gateway {
    url: String,
    shared: Arc<Shared>,
}

struct Shared {
    /// `host:port` of the ClickHouse behind.
    behind: Option<String>,
    steps: Mutex<VecDeque<Step>>,
    /// The insert with this token gets this exception, always.
    refused: Mutex<Option<(String, u32)>>,
    inserts: watch::Sender<Vec<Insert>>,
}

impl Gateway {
    /// Takes the steps one by one, one for each insert, and passes everything after the last.
    pub(crate) async fn start(behind: Option<&str>, steps: &[Step]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            behind: behind.map(|url| url.trim_start_matches("http://").to_owned()),
            steps: Mutex::new(steps.iter().copied().collect()),
            refused: Mutex::default(),
            inserts: watch::Sender::default(),
        });
        tokio::spawn(serve(listener, Arc::clone(&shared)));
        Self { url, shared }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn refuse(&self, token: &str, code: u32) {
        *self.shared.refused.lock().unwrap() = Some((token.to_owned(), code));
    }

    pub(crate) fn inserts(&self) -> Vec<Insert> {
        self.shared.inserts.borrow().clone()
    }

    /// Completes when this many inserts came in.
    pub(crate) async fn saw_inserts(&self, count: usize) {
        let mut inserts = self.shared.inserts.subscribe();
        inserts.wait_for(|inserts| inserts.len() >= count).await.unwrap();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, Arc::clone(&shared)));
            // An error is a step that hung up.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Full<Bytes>>, io::Error> {
    let (mut parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let parameter = |name: &str| {
        let query = parts.uri.query().unwrap_or_default();
        let pair = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
        pair.unwrap_or_default().replace("%2F", "/").replace('+', " ")
    };
    let token = parameter("insert_deduplication_token");
    let mut step = Step::Pass;
    if !token.is_empty() {
        step = shared.steps.lock().unwrap().pop_front().unwrap_or(Step::Pass);
        let query = parts.uri.query().unwrap_or_default().to_owned();
        if let Some((refused, code)) = &*shared.refused.lock().unwrap()
            && *refused == token
        {
            step = Step::Exception(*code);
        }
        let insert = Insert { token, query, body: body.clone() };
        shared.inserts.send_modify(|inserts| inserts.push(insert));
    }
    match step {
        Step::Exception(code) => return Ok(exception(code)),
        Step::HangUp => return Err(io::Error::other("hung up")),
        Step::Hold => core::future::pending::<()>().await,
        Step::Pass | Step::PassAndHangUp => {}
    }
    let response = match &shared.behind {
        None => Response::new(Full::default()),
        Some(authority) => {
            let path = parts.uri.path_and_query().unwrap().as_str();
            parts.uri = format!("http://{authority}{path}").parse::<Uri>().unwrap();
            parts.headers.remove("transfer-encoding");
            let client = Client::builder(TokioExecutor::new()).build_http();
            let request = Request::from_parts(parts, Full::new(body));
            let (parts, body) = client.request(request).await.unwrap().into_parts();
            Response::from_parts(parts, Full::new(body.collect().await.unwrap().to_bytes()))
        }
    };
    if step == Step::PassAndHangUp {
        return Err(io::Error::other("hung up"));
    }
    Ok(response)
}

fn exception(code: u32) -> Response<Full<Bytes>> {
    let text = format!("Code: {code}. DB::Exception: as the test says. (NAME)\n");
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response.headers_mut().insert("X-ClickHouse-Exception-Code", code.into());
    response
}
