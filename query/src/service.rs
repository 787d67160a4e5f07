//! From one request to one response.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode, Uri};
use lanecast_store::read::Reader;
use lanecast_store::{Cause, StoreError};
use tokio::time::timeout;
use tracing::Instrument;

use crate::admission::{Admission, Turn};
use crate::answer::Answer;
use crate::auth::Auth;
use crate::config::QueryConfig;
use crate::held::HeldAnswers;
use crate::limits;
use crate::metrics::Metrics;
use crate::params::Arguments;
use crate::params::time::Nanoseconds;
use crate::problem::{self, Kind, Problem};
use crate::request_id::{REQUEST_ID, RequestIds};
use crate::response::finish;
use crate::router::{Match, Operation, Route, route};
use crate::routes;

/// What all requests share.
pub(crate) struct Service {
    pub reader: Reader,
    pub metrics: Metrics,
    pub documents: routes::documents::Documents,
    pub readiness: routes::probes::Readiness,
    pub default_page_size: u32,
    pub stale_after: Duration,
    pub ingest_slack: Duration,
    auth: Auth,
    admission: Admission,
    held: HeldAnswers,
    query_timeout: Duration,
    request_ids: RequestIds,
}

/// A request whose operation and arguments are known.
pub(crate) struct Asked<'a> {
    pub operation: &'static Operation,
    /// Still percent-encoded.
    pub id: Option<&'a str>,
    pub arguments: Arguments,
    pub headers: &'a HeaderMap,
    pub uri: &'a Uri,
    /// When the request was read; all relative times of it count from here.
    pub now: Nanoseconds,
}

/// Why a question to the store has no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    Store(StoreError),
    Problem(Problem),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl Service {
    pub(crate) fn new(config: &QueryConfig, reader: Reader) -> Self {
        Self {
            reader,
            metrics: Metrics::default(),
            documents: routes::documents::Documents::new(config.default_page_size),
            readiness: routes::probes::Readiness::default(),
            default_page_size: config.default_page_size,
            stale_after: config.stale_after,
            ingest_slack: config.ingest_slack,
            auth: Auth::new(config.auth_token.as_deref()),
            admission: Admission::new(
                config.queries_in_flight_max,
                limits::QUERIES_WAITING_MAX,
                config.query_turn_timeout,
            ),
            held: HeldAnswers::new(config.answers_held_bytes_max),
            query_timeout: config.query_timeout,
            request_ids: RequestIds::new(),
        }
    }

    /// Answers one request, whatever it is.
    pub(crate) async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let started = Instant::now();
        let _in_flight = self.metrics.requests_in_flight.hold();
        let (parts, body) = request.into_parts();
        let request_id = self.request_ids.of(&parts.headers);
        let path = parts.uri.path();
        let matched = route(&parts.method, path);
        let name = match &matched {
            Match::Operation { operation, .. } | Match::MethodNotAllowed(operation) => {
                operation.path
            }
            Match::Options => "options",
            Match::NotFound => "other",
        };
        let answered = match check_head(&parts.uri, &parts.headers) {
            Err(problem) => Err(problem),
            Ok(()) => match drain(body).await {
                Err(problem) => Err(problem),
                Ok(()) => {
                    // Whatever is logged on the way has the id that the client is told.
                    let span = tracing::warn_span!("request", id = request_id, path);
                    self.answer(matched, &parts.uri, &parts.headers).instrument(span).await
                }
            },
        };
        let closing = answered.as_ref().err().is_some_and(|problem| {
            matches!(problem.kind, Kind::BodyTooLarge | Kind::RequestTimeout)
        });
        let answer = answered.unwrap_or_else(|problem| problem.answer(path, &request_id));
        let mut response = match self.hold(finish(answer, &parts.headers).await) {
            Ok(response) => response,
            Err(problem) => finish(problem.answer(path, &request_id), &parts.headers).await,
        };
        let headers = response.headers_mut();
        headers.insert(
            REQUEST_ID,
            HeaderValue::from_str(&request_id).expect("request ids are visible ASCII"),
        );
        if closing {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let status = response.status().as_u16();
        let took = started.elapsed();
        self.metrics.answered(name, status, took);
        tracing::debug!(
            method = %parts.method,
            path,
            status,
            bytes = response.body().len(),
            took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            request_id,
            "answered"
        );
        response.map(Full::new)
    }

    async fn answer(
        &self,
        matched: Match<'_>,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Answer, Problem> {
        let (operation, id) = match matched {
            Match::Operation { operation, id } => (operation, id),
            Match::Options => return Ok(options()),
            Match::MethodNotAllowed(_) => {
                let detail = format!("allowed are {}", problem::METHODS);
                return Err(Problem::new(Kind::MethodNotAllowed, detail));
            }
            Match::NotFound => {
                let detail = "see /openapi.json or /swagger/ for what there is";
                return Err(Problem::new(Kind::NotFound, detail));
            }
        };
        let arguments = if operation.guarded {
            self.auth.check(headers)?;
            Arguments::parse(uri.query(), operation.parameters)?
        } else {
            // Probes and pages take anything, such as what a browser or a balancer adds.
            Arguments::default()
        };
        let asked = Asked { operation, id, arguments, headers, uri, now: now() };
        match operation.route {
            Route::Gpus => routes::gpus::answer(self, &asked).await,
            Route::Gpu => routes::gpu::answer(self, &asked).await,
            Route::Telemetry => routes::telemetry::answer(self, &asked).await,
            Route::Series => routes::series::answer(self, &asked).await,
            Route::Alive => Ok(routes::probes::alive()),
            Route::Ready => routes::probes::ready(self).await,
            Route::Metrics => Ok(routes::probes::metrics(self)),
            Route::OpenapiJson => Ok(self.documents.openapi_json()),
            Route::OpenapiYaml => Ok(self.documents.openapi_yaml()),
            Route::Landing => Ok(routes::documents::landing()),
            Route::SwaggerRedirect => Ok(routes::documents::swagger_redirect()),
            Route::SwaggerPage => Ok(routes::documents::swagger_page()),
            Route::SwaggerStart => Ok(routes::documents::swagger_start()),
            Route::SwaggerScript => Ok(routes::documents::swagger_script()),
            Route::SwaggerStyle => Ok(routes::documents::swagger_style()),
            Route::SwaggerIcon => Ok(routes::documents::swagger_icon()),
        }
    }

    /// Lets a question be asked of the store when it is its turn, and within the time for it.
    pub(crate) async fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Problem> {
        let turn = self.admission.turn().await.inspect_err(|_| {
            self.metrics.turns_refused.fetch_add(1, Ordering::Relaxed);
        })?;
        let answered = timeout(self.query_timeout, question).await;
        drop(turn);
        match answered {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Failure::Problem(problem))) => Err(problem),
            Ok(Err(Failure::Store(error))) => Err(self.store_problem(&error)),
            Err(_) => {
                self.metrics.store_error("timeout");
                tracing::warn!(seconds = self.query_timeout.as_secs_f64(), "clickhouse timed out");
                Err(too_slow(self.query_timeout))
            }
        }
    }

    /// A turn for a second question at the same time, within [`ask`](Self::ask); `None` while others
    /// need them all.
    pub(crate) fn turn_beside(&self) -> Option<Turn<'_>> {
        self.admission.turn_beside()
    }

    /// What a client is told of an error of the store. Its text, which may hold addresses and
    /// statements, goes to the log only.
    pub(crate) fn store_problem(&self, error: &StoreError) -> Problem {
        // ClickHouse's codes: TIMEOUT_EXCEEDED, UNKNOWN_TABLE, UNKNOWN_DATABASE.
        let (kind, problem) = match (error, error.code()) {
            (StoreError::Unreachable { .. }, _) => {
                let detail = "it cannot be reached, or went away during the answer";
                ("unreachable", Problem::new(Kind::StoreUnavailable, detail))
            }
            (_, Some(159)) => ("timeout", too_slow(self.query_timeout)),
            (_, Some(60 | 81)) => {
                let detail = "its schema is not there yet";
                ("schema", Problem::new(Kind::StoreUnavailable, detail))
            }
            (
                StoreError::Retryable {
                    cause: Cause::Overloaded | Cause::Transient | Cause::Denied | Cause::Unknown,
                    ..
                },
                _,
            ) => {
                let detail = "it cannot answer at the moment";
                ("refused", Problem::new(Kind::StoreUnavailable, detail))
            }
            (
                StoreError::Permanent { .. }
                | StoreError::Retryable { cause: Cause::Schema, .. }
                | StoreError::InvalidConfig { .. }
                | StoreError::ChangedMigration { .. }
                | StoreError::NewerSchema { .. }
                | StoreError::Migration { .. },
                _,
            ) => {
                let detail = "the log of the service says why, under the request's id";
                ("permanent", Problem::new(Kind::Internal, detail))
            }
        };
        self.metrics.store_error(kind);
        tracing::warn!(%error, kind, "clickhouse did not answer a question");
        problem
    }

    /// Counts the body of a response until its client has read it.
    fn hold(&self, response: Response<Bytes>) -> Result<Response<Bytes>, Problem> {
        let (parts, body) = response.into_parts();
        Ok(Response::from_parts(parts, self.held.count(body)?))
    }

    pub(crate) fn answers_held_bytes(&self) -> usize {
        self.held.bytes()
    }

    pub(crate) fn queries_in_flight(&self) -> usize {
        self.admission.in_flight()
    }
}

fn too_slow(limit: Duration) -> Problem {
    let detail = format!(
        "it took longer than {} s; ask for a shorter window or fewer rows",
        limit.as_secs_f64()
    );
    Problem::new(Kind::StoreUnavailable, detail)
}

fn check_head(uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let uri_bytes = uri.path_and_query().map_or(0, |path| path.as_str().len());
    if uri_bytes > limits::URI_BYTES_MAX {
        let detail = format!("{uri_bytes} bytes; {} are taken", limits::URI_BYTES_MAX);
        return Err(Problem::new(Kind::UriTooLong, detail));
    }
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes > limits::HEADER_BYTES_MAX {
        let detail = format!("{bytes} bytes; {} are taken", limits::HEADER_BYTES_MAX);
        return Err(Problem::new(Kind::HeadersTooLarge, detail));
    }
    Ok(())
}

/// Reads and forgets a body, which no operation takes, so that the connection can go on.
async fn drain(body: Incoming) -> Result<(), Problem> {
    if body.is_end_stream() {
        return Ok(());
    }
    let too_large = || {
        let detail = format!("no path takes a body of over {} bytes", limits::BODY_BYTES_MAX);
        Problem::new(Kind::BodyTooLarge, detail)
    };
    if body.size_hint().lower() > limits::BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let read = Limited::new(body, limits::BODY_BYTES_MAX).collect();
    match timeout(limits::BODY_READ_TIMEOUT, read).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Problem::new(Kind::BadRequest, "the body broke off")),
        Err(_) => Err(Problem::new(Kind::RequestTimeout, "the body did not arrive in time")),
    }
}

fn options() -> Answer {
    Answer {
        status: StatusCode::NO_CONTENT,
        headers: vec![(header::ALLOW, HeaderValue::from_static(problem::METHODS))],
        ..Answer::ok("text/plain", Bytes::new())
    }
}

fn now() -> Nanoseconds {
    let since =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("the clock is after 1970");
    Nanoseconds(i128::try_from(since.as_nanos()).expect("the clock is before the year 10^21"))
}
