//! The admin port: is it alive, is it ready, what has it done.
//!
//! | path | answer |
//! |---|---|
//! | `/healthz`, `/livez` | 200 while the process serves |
//! | `/ready`, `/readyz` | 200 when chunks flow into the store, else 503 and why not |
//! | `/health` | both in one JSON object, always 200 |
//! | `/stats` | every counter, as JSON |
//! | `/metrics` | the same for Prometheus |

use core::convert::Infallible;
use core::net::SocketAddr;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::stats::Stats;
use crate::{limits, metrics};

/// A bound port that serves until its `stop` becomes true.
pub(crate) struct Admin {
    listener: TcpListener,
    addr: SocketAddr,
}

impl Admin {
    pub(crate) async fn bind(addr: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        Ok(Self { listener, addr })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until told to stop; requests under way are cut off then, as no answer here matters
    /// longer than the process does.
    pub(crate) async fn serve(self, stats: Arc<Stats>, mut stop: watch::Receiver<bool>) {
        let mut connections = tokio::task::JoinSet::new();
        let slots = Arc::new(Semaphore::new(limits::ADMIN_CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                Some(_) = connections.join_next() => continue,
                accepted = accept(&self.listener, &slots) => accepted,
            };
            let (stream, slot) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "admin port cannot accept a connection");
                    // Mostly out of file descriptors; the wait keeps it from spinning.
                    tokio::time::sleep(limits::BACKOFF_FIRST).await;
                    continue;
                }
            };
            let stats = Arc::clone(&stats);
            connections.spawn(async move {
                let service = service_fn(move |request| {
                    let response = answer(&request, &stats);
                    async move { Ok::<_, Infallible>(response) }
                });
                let served = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(limits::ADMIN_HEADER_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                if let Err(error) = served {
                    tracing::debug!(%error, "admin connection failed");
                }
                drop(slot);
            });
        }
    }
}

type Slot = tokio::sync::OwnedSemaphorePermit;

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(tokio::net::TcpStream, Slot)> {
    let slot = Arc::clone(slots).acquire_owned().await;
    let slot = slot.expect("the semaphore is never closed");
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, slot))
}

fn answer(request: &Request<Incoming>, stats: &Stats) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/healthz" | "/livez" => text(StatusCode::OK, "ok\n"),
        "/ready" | "/readyz" => match stats.not_ready_because() {
            None => text(StatusCode::OK, "ready\n"),
            Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{reason}\n")),
        },
        "/health" => {
            let reason = stats.not_ready_because();
            json(&serde_json::json!({
                "status": if reason.is_none() { "ok" } else { "degraded" },
                "ready": reason.is_none(),
                "reason": reason,
                "version": env!("CARGO_PKG_VERSION"),
            }))
        }
        "/stats" => json(&stats.snapshot()),
        "/metrics" => {
            respond(StatusCode::OK, metrics::CONTENT_TYPE, metrics::render(&stats.snapshot()))
        }
        _ => text(StatusCode::NOT_FOUND, "try /healthz /readyz /health /stats /metrics\n"),
    }
}

fn json(value: &impl serde::Serialize) -> Response<Full<Bytes>> {
    let body =
        serde_json::to_string(value).expect("statistics have string keys and finite numbers");
    respond(StatusCode::OK, "application/json", body + "\n")
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", body.to_owned())
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
