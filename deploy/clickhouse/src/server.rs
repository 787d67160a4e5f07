//! The HTTP side: connections, users, the number of queries, the start and the end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request as HttpRequest, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use rand::distr::{Alphanumeric, SampleString};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use crate::ServeError;
use crate::auth::{Credentials, Role, Users};
use crate::engine::Engine;
use crate::exception::{Exception, code};
use crate::hangup::Hangup;
use crate::limits::{
    BODY_BYTES_MAX, BODY_DRAIN_BYTES_MAX, BODY_PIECES_MAX, BODY_STALL_MAX, CONNECTIONS_MAX,
    HEAD_READ_MAX, MEMORY_BYTES, QUERIES_MAX, QUERIES_WAITING_MAX, QUERY_SECONDS_MAX,
    QUERY_WAIT_MAX, SHUTDOWN_WAIT_MAX,
};
use crate::reply::{Answer, Naming, ReplyBody, refuse};
use crate::request::Request;
use crate::run::{BodyReader, Job, Piece, body_broke_off};

/// How to serve.
#[derive(Clone)]
pub struct ServeConfig {
    /// Where to listen; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Where the tables live; made when missing.
    pub data_dir: PathBuf,
    /// libchdb.so, as [`crate::install::ensure`] returns it.
    pub library: PathBuf,
    /// Name of the full user; `default` when `None`.
    pub user: Option<String>,
    /// Password of the full user.
    pub password: Option<String>,
    /// Password of the user `readonly`; the full user's when `None`.
    pub readonly_password: Option<String>,
    /// Allows a bind to an address that others can reach without a password.
    pub allow_open: bool,
    /// Memory of the engine.
    pub memory_bytes_max: u64,
    /// Statements that run at once.
    pub queries_max: usize,
    /// How long a statement waits for one of those places before it is turned away.
    pub query_wait: Duration,
    /// Ceiling of a query's `max_execution_time`.
    pub query_seconds_max: u64,
    /// Body of one request, as sent.
    pub body_bytes_max: u64,
    /// How long a shutdown waits for running statements.
    pub shutdown_wait: Duration,
}

impl ServeConfig {
    /// A server for this machine only, on `bind`, with the defaults of [`crate::limits`].
    pub fn new(bind: SocketAddr, data_dir: PathBuf, library: PathBuf) -> ServeConfig {
        ServeConfig {
            bind,
            data_dir,
            library,
            user: None,
            password: None,
            readonly_password: None,
            allow_open: false,
            memory_bytes_max: MEMORY_BYTES,
            queries_max: QUERIES_MAX,
            query_wait: QUERY_WAIT_MAX,
            query_seconds_max: QUERY_SECONDS_MAX,
            body_bytes_max: BODY_BYTES_MAX,
            shutdown_wait: SHUTDOWN_WAIT_MAX,
        }
    }
}

/// What all connections share.
struct Shared {
    engine: Arc<Engine>,
    users: Users,
    /// One permit for each statement that runs.
    running: Arc<Semaphore>,
    /// One permit for each statement that waits for a place.
    waiting: Semaphore,
    query_wait: Duration,
    query_seconds_max: u64,
    body_bytes_max: u64,
}

/// A running server. Dropping it without [`Server::shutdown`] stops it without waiting.
pub struct Server {
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Opens the engine and listens. Runs on the current tokio runtime.
    pub async fn start(config: ServeConfig) -> Result<Server, ServeError> {
        if !config.bind.ip().is_loopback() && config.password.is_none() && !config.allow_open {
            return Err(ServeError::OpenToOthers { bind: config.bind });
        }
        let bind_failed = |source| ServeError::Bind { bind: config.bind, source };
        let listener = TcpListener::bind(config.bind).await.map_err(bind_failed)?;
        let addr = listener.local_addr().map_err(bind_failed)?;
        let users = Users::new(
            config.user.as_deref(),
            config.password.as_deref(),
            config.readonly_password.as_deref(),
        );
        let (library, data_dir) = (config.library, config.data_dir);
        let memory = config.memory_bytes_max;
        let opening =
            tokio::task::spawn_blocking(move || Engine::open(&library, &data_dir, memory));
        let engine = opening.await.map_err(|_| ServeError::EnginePanicked)??;
        let queries_max = config.queries_max.clamp(1, CONNECTIONS_MAX);
        let shared = Arc::new(Shared {
            engine: Arc::new(engine),
            users,
            running: Arc::new(Semaphore::new(queries_max)),
            waiting: Semaphore::new(QUERIES_WAITING_MAX),
            query_wait: config.query_wait,
            query_seconds_max: config.query_seconds_max.max(1),
            body_bytes_max: config.body_bytes_max,
        });
        let (stop, stopped) = oneshot::channel();
        let accepting =
            tokio::spawn(accept(listener, shared, stopped, queries_max, config.shutdown_wait));
        tracing::info!(%addr, "clickhouse http listening");
        Ok(Server { addr, stop: Some(stop), accepting })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://host:port`, for clients.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Takes no more connections, finishes what runs, and closes the engine.
    pub async fn shutdown(mut self) {
        if let Some(stop) = self.stop.take() {
            // The accepting task ends at a closed channel too.
            let _ = stop.send(());
        }
        if (&mut self.accepting).await.is_err() {
            tracing::warn!("the accepting task panicked");
        }
    }
}

async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    mut stopped: oneshot::Receiver<()>,
    queries_max: usize,
    shutdown_wait: Duration,
) {
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            Some(_ended) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _peer)) => {
                    let connection = connection(stream, Arc::clone(&shared));
                    let watched = graceful.watch(connection);
                    connections.spawn(async move {
                        if let Err(error) = watched.await {
                            tracing::debug!(%error, "connection ended early");
                        }
                    });
                }
                Err(error) => {
                    // Out of file descriptors, most likely: let some close.
                    tracing::warn!(%error, "cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listener);
    let finish = async {
        graceful.shutdown().await;
        while connections.join_next().await.is_some() {}
        // Every thread holds a permit until it is done with the engine.
        let all = u32::try_from(queries_max).expect("clamped to CONNECTIONS_MAX");
        drop(shared.running.acquire_many(all).await);
    };
    if tokio::time::timeout(shutdown_wait, finish).await.is_err() {
        tracing::warn!(seconds = shutdown_wait.as_secs(), "statements still run at the shutdown");
    }
    drop(connections);
    // Closing the engine flushes: not on a thread of the runtime.
    let closing = tokio::task::spawn_blocking(move || drop(shared));
    if closing.await.is_err() {
        tracing::warn!("closing the engine panicked");
    }
}

fn connection(
    stream: TcpStream,
    shared: Arc<Shared>,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = hyper::Error> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, std::convert::Infallible>(shared.answer(request).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_READ_MAX)
        .serve_connection(TokioIo::new(stream), service)
}

impl Shared {
    async fn answer(&self, request: HttpRequest<Incoming>) -> Response<ReplyBody> {
        match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/ping" | "/replicas_status") => return ok(),
            (&Method::GET | &Method::HEAD, "/") if request.uri().query().is_none() => return ok(),
            (&Method::GET | &Method::POST, "/") => {}
            (_, "/") => return plain(StatusCode::METHOD_NOT_ALLOWED, "Use GET or POST.\n"),
            _ => {
                let text = "There is no such path. Try / with a query, or /ping.\n";
                return plain(StatusCode::NOT_FOUND, text);
            }
        }
        let random = |length| Alphanumeric.sample_string(&mut rand::rng(), length).to_lowercase();
        let mut naming = Naming {
            query_id: random(32),
            tag: random(16),
            version: self.engine.version().to_owned(),
        };
        let (parts, body) = request.into_parts();
        let read = Request::read(&parts.method, &parts.uri, &parts.headers);
        let checked = read.and_then(|(request, url)| {
            let credentials = Credentials::read(&parts.headers, url)?;
            Ok((request, self.users.authenticate(&credentials)?))
        });
        let pieces = pump(body, self.body_bytes_max);
        let (request, role) = match checked {
            Ok(checked) => checked,
            Err(exception) => return refuse(naming, &exception),
        };
        // The tag stays the server's own, so that no client can name another's query.
        let tag = naming.query_id.clone();
        if let Some(query_id) = &request.query_id {
            naming.query_id.clone_from(query_id);
        }
        let Some(permit) = self.place().await else {
            return refuse(naming, &too_many());
        };
        self.run(request, role, pieces, naming, tag, permit).await
    }

    /// A place to run in, after waiting for one where that is reasonable.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.running).try_acquire_owned() {
            return Some(permit);
        }
        let _waiting = self.waiting.try_acquire().ok()?;
        let permit = Arc::clone(&self.running).acquire_owned();
        tokio::time::timeout(self.query_wait, permit).await.ok()?.ok()
    }

    async fn run(
        &self,
        request: Request,
        role: Role,
        pieces: mpsc::Receiver<Piece>,
        naming: Naming,
        tag: String,
        permit: OwnedSemaphorePermit,
    ) -> Response<ReplyBody> {
        let done = Arc::new(AtomicBool::new(false));
        let hangup =
            Hangup { engine: Arc::clone(&self.engine), tag: tag.clone(), done: Arc::clone(&done) };
        let job = Job {
            engine: Arc::clone(&self.engine),
            body: BodyReader::new(pieces, request.decompress),
            request,
            role,
            tag,
            query_seconds_max: self.query_seconds_max,
        };
        let (head, answered) = oneshot::channel();
        let answer = Answer::new(naming.clone(), head, Arc::clone(&done));
        let thread = tokio::task::spawn_blocking(move || {
            job.run(answer);
            done.store(true, Ordering::Release);
            drop(permit);
        });
        match answered.await {
            Ok(mut response) => {
                response.body_mut().hangup = Some(hangup);
                response
            }
            Err(_) => {
                let panicked = thread.await.is_err();
                tracing::warn!(panicked, "a query's thread ended without an answer");
                refuse(naming, &Exception::no_result())
            }
        }
    }
}

/// Reads the body beside the query. When the query is done with it the rest is read and dropped, as
/// far as that is reasonable: a client that is still writing would not see the answer.
fn pump(mut body: Incoming, bytes_max: u64) -> mpsc::Receiver<Piece> {
    let (sender, receiver) = mpsc::channel(BODY_PIECES_MAX);
    tokio::spawn(async move {
        let mut bytes = 0_u64;
        let mut drained = 0_u64;
        let last = loop {
            let data: Bytes = match tokio::time::timeout(BODY_STALL_MAX, body.frame()).await {
                Err(_) => {
                    break Piece::Failed(body_broke_off("the client sent nothing for too long"));
                }
                Ok(None) => break Piece::End,
                Ok(Some(Err(error))) => break Piece::Failed(body_broke_off(&error.to_string())),
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_trailers) => continue,
                },
            };
            let length = data.len() as u64;
            bytes += length;
            if bytes > bytes_max && drained == 0 {
                // The query is told once; the receiver may be gone already.
                let _ = sender.send(Piece::Failed(too_large(bytes_max))).await;
                drained += length;
            } else if drained > 0 || sender.send(Piece::Data(data)).await.is_err() {
                drained += length;
            }
            if drained > BODY_DRAIN_BYTES_MAX {
                return;
            }
        };
        // Nobody waits for the end of a body that was refused.
        let _ = sender.send(last).await;
    });
    receiver
}

fn too_many() -> Exception {
    Exception::new(
        code::TOO_MANY_SIMULTANEOUS_QUERIES,
        "TOO_MANY_SIMULTANEOUS_QUERIES",
        "Too many simultaneous queries: try again",
    )
}

fn too_large(bytes_max: u64) -> Exception {
    Exception::new(
        code::QUERY_IS_TOO_LARGE,
        "QUERY_IS_TOO_LARGE",
        format_args!("The request's body is larger than {bytes_max} bytes"),
    )
}

fn ok() -> Response<ReplyBody> {
    plain(StatusCode::OK, "Ok.\n")
}

fn plain(status: StatusCode, text: &'static str) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::whole(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let content_type = hyper::header::HeaderValue::from_static("text/plain; charset=UTF-8");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, content_type);
    response
}
