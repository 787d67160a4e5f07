//! The admin port: probes, statistics and metrics over HTTP, on a thread of its own.
//!
//! | path | answer |
//! |---|---|
//! | `/healthz` `/livez` `/health` | 200 while every executor turns, else 503 |
//! | `/ready` `/readyz` | 200 while every partition is online and no drain has begun, else 503 |
//! | `/stats` `/stats/{topic}` | everything, or one topic, as JSON |
//! | `/metrics` | the same for Prometheus |
//! | `/metrics/buffer` | `{"buffer_utilization": x}`, between 0 and 1 |
//!
//! A partition that a disk error has taken offline makes the broker not ready: the answer names topic,
//! partition and what happened. It stays alive: a restart would meet the same disk, and the
//! partition comes back by itself.
//!
//! A request that wants numbers asks the shards for snapshots (`snapshot.rs`); probes only read
//! atomics, unless a partition is offline.
//!
//! Connections are bounded. A peer that does not send its header is dropped, and so is one that stays
//! for long, whether or not it reads its answers. When there are too many, the oldest goes, so that
//! probes are answered whoever holds the others.

mod metrics;
mod readiness;
mod stats;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use lanecast_core::{Budget, BudgetUse};
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use crate::StartError;
use crate::limits::{
    ADMIN_CONNECTIONS_MAX, ADMIN_HEADER_BYTES_MAX, ADMIN_HEADER_TIMEOUT, ADMIN_SHARE, ADMIN_TIME,
    ADMIN_TIME_MAX, HEARTBEAT_DEAD, HEARTBEAT_STALE,
};
use crate::pulse::{Clock, Lifecycle};
use crate::snapshot::{Snapshot, Snapshots};

/// The listening socket, before there is anything to say.
pub(crate) struct AdminListener {
    listener: TcpListener,
    addr: SocketAddr,
}

/// The running thread.
#[derive(Debug)]
pub(crate) struct Admin {
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Admin {
    pub(crate) fn bind(addr: SocketAddr) -> Result<AdminListener, StartError> {
        let failed = |source| StartError::Listen { what: "the admin port", addr, source };
        let listener = TcpListener::bind(addr).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        Ok(AdminListener { listener, addr })
    }

    /// Ends the thread; requests in progress are cut off.
    pub(crate) fn stop(self) {
        // A thread that has ended already hears nothing, which is as well.
        let _heard = self.stop.send(());
        let _ended = self.thread.join();
    }
}

impl AdminListener {
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn serve(self, view: AdminView, snapshots: Snapshots) -> io::Result<Admin> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let state = Arc::new(State { view, snapshots: Mutex::new(snapshots) });
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            runtime.block_on(async move {
                tokio::select! {
                    result = accept(self.listener, state) => {
                        if let Err(error) = result {
                            warn!(%error, "admin port ended");
                        }
                    }
                    _ = stopped => {}
                }
            });
        };
        let thread = thread::Builder::new().name("lanecast-admin".to_owned()).spawn(run)?;
        Ok(Admin { stop, thread })
    }
}

/// What can be seen of a broker without asking a shard.
#[derive(Clone, Debug)]
pub(crate) struct AdminView {
    pub(crate) clock: Clock,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) budget: Arc<Budget>,
}

struct State {
    view: AdminView,
    snapshots: Mutex<Snapshots>,
}

async fn accept(listener: TcpListener, state: Arc<State>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut open: VecDeque<(Instant, AbortHandle)> = VecDeque::new();
    loop {
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                debug!(%error, "admin connection not accepted");
                tokio::time::sleep(crate::limits::ACCEPT_PAUSE).await;
                continue;
            }
        };
        open.retain(|(_, task)| !task.is_finished());
        if open.len() >= ADMIN_CONNECTIONS_MAX
            && let Some((since, oldest)) = open.pop_front()
        {
            tokio::time::sleep_until(since + ADMIN_SHARE).await;
            if !oldest.is_finished() {
                debug!("admin connection ended for others");
                oldest.abort();
            }
        }
        let task = tokio::spawn(converse(socket, Arc::clone(&state)));
        open.push_back((Instant::now(), task.abort_handle()));
    }
}

/// Answers the requests of one connection, for a while.
async fn converse(socket: TcpStream, state: Arc<State>) {
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(answer(&state, &request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ADMIN_HEADER_TIMEOUT)
        .max_buf_size(ADMIN_HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(socket), service);
    let mut connection = pin!(connection);
    let begun = Instant::now();
    let mut served = timeout_at(begun + ADMIN_TIME, connection.as_mut()).await;
    if served.is_err() {
        // What it is being told, it may hear to its end.
        connection.as_mut().graceful_shutdown();
        served = timeout_at(begun + ADMIN_TIME_MAX, connection).await;
    }
    match served {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "admin connection ended"),
        Err(_) => debug!("admin connection ended, it did not read its answers"),
    }
}

type Answer = Response<Full<Bytes>>;

async fn answer(state: &State, request: &Request<Incoming>) -> Answer {
    let path = request.uri().path();
    let known = matches!(
        path,
        "/healthz"
            | "/livez"
            | "/health"
            | "/ready"
            | "/readyz"
            | "/stats"
            | "/metrics"
            | "/metrics/buffer"
    ) || path.strip_prefix("/stats/").is_some_and(|topic| !topic.is_empty());
    if !known {
        return problem(StatusCode::NOT_FOUND, "there is nothing at this path");
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut answer = problem(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    match path {
        "/healthz" | "/livez" | "/health" => probe(state.not_alive()),
        "/ready" | "/readyz" => readiness(state).await,
        "/metrics" => {
            let text = metrics::render(&state.overview(), &state.snapshots().await);
            respond(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
        }
        "/metrics/buffer" => json(StatusCode::OK, &Buffer::of(&state.view.budget)),
        "/stats" => {
            json(StatusCode::OK, &stats::Stats::of(&state.overview(), &state.snapshots().await))
        }
        topic_path => {
            let topic = decode(topic_path.strip_prefix("/stats/").unwrap_or(topic_path));
            match stats::TopicStats::find(&topic, &state.snapshots().await) {
                Some(found) => json(StatusCode::OK, &found),
                None => problem(StatusCode::NOT_FOUND, "there is no topic of this name"),
            }
        }
    }
}

/// What is known without asking a shard.
pub(crate) struct Overview {
    pub(crate) uptime_seconds: f64,
    pub(crate) ready: bool,
    pub(crate) draining: bool,
    /// Seconds since each executor last turned.
    pub(crate) silence_seconds: Vec<f64>,
    pub(crate) memory: BudgetUse,
}

impl State {
    fn overview(&self) -> Overview {
        let view = &self.view;
        let now_us = view.clock.mono_us();
        let silence = view.lifecycle.posts().iter().map(|post| post.silence(now_us).as_secs_f64());
        Overview {
            uptime_seconds: view.clock.uptime().as_secs_f64(),
            ready: self.not_ready().is_none(),
            draining: view.lifecycle.is_draining(),
            silence_seconds: silence.collect(),
            memory: view.budget.in_use(),
        }
    }

    async fn snapshots(&self) -> Vec<Snapshot> {
        let mut snapshots = self.snapshots.lock().await;
        snapshots.collect().await;
        snapshots.last().cloned().collect()
    }

    fn not_alive(&self) -> Option<String> {
        self.silent(HEARTBEAT_DEAD)
    }

    fn not_ready(&self) -> Option<String> {
        self.not_started().or_else(|| self.offline())
    }

    fn offline(&self) -> Option<String> {
        let offline: u32 = self.view.lifecycle.posts().iter().map(|post| post.offline()).sum();
        (offline > 0).then(|| match offline {
            1 => "a partition is offline".to_owned(),
            some => format!("{some} partitions are offline"),
        })
    }

    fn not_started(&self) -> Option<String> {
        if self.view.lifecycle.is_draining() {
            return Some("the broker drains".to_owned());
        }
        let recovering = self.view.lifecycle.posts().iter().position(|post| !post.is_ready());
        if let Some(shard) = recovering {
            return Some(format!("shard {shard} recovers its partitions"));
        }
        self.silent(HEARTBEAT_STALE)
    }

    fn silent(&self, limit: std::time::Duration) -> Option<String> {
        let now_us = self.view.clock.mono_us();
        let silent =
            self.view.lifecycle.posts().iter().position(|post| post.silence(now_us) > limit)?;
        Some(format!("shard {silent} has given no sign of life for {limit:?}"))
    }
}

#[derive(Serialize)]
struct Status {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

fn probe(fault: Option<String>) -> Answer {
    match fault {
        None => json(StatusCode::OK, &Status { status: "ok", reason: None }),
        fault => {
            json(StatusCode::SERVICE_UNAVAILABLE, &Status { status: "unavailable", reason: fault })
        }
    }
}

/// Not ready for its partitions' sake: then it says which they are, and why.
async fn readiness(state: &State) -> Answer {
    let not_started = state.not_started();
    if not_started.is_some() || state.offline().is_none() {
        return probe(not_started);
    }
    let snapshots = state.snapshots().await;
    // They may have recovered while the shards were asked.
    let Some(reason) = state.offline() else { return probe(None) };
    json(StatusCode::SERVICE_UNAVAILABLE, &readiness::NotReady::of(&reason, &snapshots))
}

#[derive(Serialize)]
struct Buffer {
    buffer_utilization: f64,
}

impl Buffer {
    /// What is on its way in, to the disk or out, of the memory there is for it.
    fn of(budget: &Budget) -> Self {
        let (used, shares) = (budget.in_use(), budget.shares());
        let used = used.received + used.undurable + used.outbound;
        let whole = shares.received + shares.undurable + shares.outbound;
        Buffer { buffer_utilization: (used as f64 / whole as f64).min(1.0) }
    }
}

#[derive(Serialize)]
struct Problem {
    error: &'static str,
}

fn problem(status: StatusCode, error: &'static str) -> Answer {
    json(status, &Problem { error })
}

fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(body).expect("strings and numbers always serialise");
    respond(status, "application/json", body)
}

fn respond(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// Percent-decoding of one path segment; what is not a valid escape stays as it is.
fn decode(segment: &str) -> String {
    let bytes = segment.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = segment.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_segments_decode_and_bad_escapes_stay() {
        assert_eq!(decode("gpu-telemetry.dlq"), "gpu-telemetry.dlq");
        assert_eq!(decode("a%20b%2Fc"), "a b/c");
        assert_eq!(decode("100%"), "100%");
        assert_eq!(decode("%zz%4"), "%zz%4");
        assert_eq!(decode("ä%c3%a4"), "ää");
    }
}
