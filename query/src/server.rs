//! The listening socket and its connections.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use lanecast_store::read::Reader;
use lanecast_store::{Store, StoreError};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::auth::Auth;
use crate::config::QueryConfig;
use crate::limits;
use crate::service::Service;
use crate::stall::StallGuard;

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {addr}: {source}; choose another port with METRICS_PORT")]
    Bind { addr: SocketAddr, source: io::Error },
    #[error(
        "{addr} can be reached from other machines and there is no AUTH_TOKEN; set one, bind to \
         127.0.0.1, or say --insecure-no-auth"
    )]
    OpenToAll { addr: SocketAddr },
    #[error("a default page size of {rows} rows is not between 1 and {}", limits::PAGE_ROWS_MAX)]
    PageSize { rows: u32 },
    #[error("{setting} must be at least 1")]
    Zero { setting: &'static str },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A running service. Dropped, it stops at once; [`shutdown`](Self::shutdown) lets requests end.
#[derive(Debug)]
pub struct QueryServer {
    addr: SocketAddr,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl QueryServer {
    /// Listens and answers. ClickHouse need not be there yet: until it is, questions are answered
    /// with 503 and `/ready` says so.
    ///
    /// # Errors
    /// A setting is unusable or the address is taken.
    pub async fn start(config: QueryConfig) -> Result<Self, StartError> {
        check(&config)?;
        let store = Store::connect(config.store.clone())?;
        let reader = Reader::new(store, config.query_timeout);
        let listener = TcpListener::bind(config.bind)
            .await
            .map_err(|source| StartError::Bind { addr: config.bind, source })?;
        let addr = listener
            .local_addr()
            .map_err(|source| StartError::Bind { addr: config.bind, source })?;
        let service = Arc::new(Service::new(&config, reader));
        let (stop, stopped) = watch::channel(false);
        let accepting = tokio::spawn(accept(listener, service, config, stopped));
        tracing::info!(%addr, "query service listens");
        Ok(Self { addr, stop, accepting })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops listening, lets the requests in flight end within [`limits::DRAIN_TIMEOUT`], and
    /// closes the rest.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        if let Err(error) = (&mut self.accepting).await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

impl Drop for QueryServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn check(config: &QueryConfig) -> Result<(), StartError> {
    let rows = config.default_page_size;
    if rows == 0 || u64::from(rows) > limits::PAGE_ROWS_MAX {
        return Err(StartError::PageSize { rows });
    }
    for (setting, value) in [
        ("answers_held_bytes_max", config.answers_held_bytes_max),
        ("connections_max", config.connections_max),
        ("queries_in_flight_max", config.queries_in_flight_max),
    ] {
        if value == 0 {
            return Err(StartError::Zero { setting });
        }
    }
    let no_auth = Auth::new(config.auth_token.as_deref()).is_off();
    if no_auth && !config.insecure_no_auth && !config.bind.ip().is_loopback() {
        return Err(StartError::OpenToAll { addr: config.bind });
    }
    Ok(())
}

/// Accepts until told to stop; then waits for the connections.
async fn accept(
    listener: TcpListener,
    service: Arc<Service>,
    config: QueryConfig,
    mut stopped: watch::Receiver<bool>,
) {
    let slots = Arc::new(Semaphore::new(config.connections_max.min(Semaphore::MAX_PERMITS)));
    let mut connections = JoinSet::new();
    loop {
        // Ended connections are reaped as new ones come, so the set stays bounded by the slots.
        while connections.try_join_next().is_some() {}
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot.expect("the semaphore is never closed"), listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            next = next => next,
            () = told(&mut stopped) => break,
        };
        match accepted {
            Ok((socket, peer)) => {
                let service = Arc::clone(&service);
                let stopped = stopped.clone();
                let header_read_timeout = config.header_read_timeout;
                connections.spawn(async move {
                    let _slot = slot;
                    serve(socket, peer, &service, header_read_timeout, stopped).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(limits::ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(limits::DRAIN_TIMEOUT, all).await.is_err() {
        tracing::warn!(left = connections.len(), "connections cut off at shutdown");
    }
    connections.shutdown().await;
}

/// Returns when the service is to stop, which a server that is gone has said too.
async fn told(stopped: &mut watch::Receiver<bool>) {
    drop(stopped.wait_for(|stop| *stop).await);
}

/// Serves one connection to its end. When the client goes, hyper drops the request being answered,
/// and with it the connection to ClickHouse, which then stops working on it.
async fn serve(
    socket: TcpStream,
    peer: SocketAddr,
    service: &Service,
    header_read_timeout: Duration,
    mut stopped: watch::Receiver<bool>,
) {
    let _open = service.metrics.connections.hold();
    service.metrics.connections_total.fetch_add(1, Ordering::Relaxed);
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%peer, %error, "connection went before it was served");
        return;
    }
    let socket = TokioIo::new(StallGuard::new(socket, limits::WRITE_STALL_TIMEOUT));
    let answer = service_fn(|request| async move {
        Ok::<_, std::convert::Infallible>(service.respond(request).await)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_read_timeout)
        .max_buf_size(limits::READ_BUFFER_BYTES)
        .max_headers(limits::HEADERS_MAX)
        .half_close(false)
        .serve_connection(socket, answer);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection ended early");
    }
}
