//! `/healthz /livez /ready /readyz /metrics`

use std::time::Instant;

use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::answer::Answer;
use crate::limits;
use crate::problem::{Kind, Problem};
use crate::service::Service;

/// The last readiness answer, so that many probes are one question.
#[derive(Default)]
pub(crate) struct Readiness {
    last: Mutex<Option<(Instant, Result<(), &'static str>)>>,
}

pub(crate) fn alive() -> Answer {
    Answer::json(&json!({"status": "ok"}))
}

/// Ready is: ClickHouse answers, and has the tables that questions read.
pub(crate) async fn ready(service: &Service) -> Result<Answer, Problem> {
    let mut last = service.readiness.last.lock().await;
    let verdict = match *last {
        Some((at, verdict)) if at.elapsed() < limits::READY_FRESH => verdict,
        Some(_) | None => {
            let verdict = ask(service).await;
            // Said once each time it changes, not at every probe.
            if last.is_none_or(|(_, before)| before != verdict) {
                match verdict {
                    Ok(()) => tracing::info!("ready"),
                    Err(reason) => tracing::warn!(reason, "not ready"),
                }
            }
            *last = Some((Instant::now(), verdict));
            verdict
        }
    };
    drop(last);
    match verdict {
        Ok(()) => Ok(Answer::json(&json!({"status": "ready"}))),
        Err(detail) => Err(Problem::new(Kind::StoreUnavailable, detail)),
    }
}

async fn ask(service: &Service) -> Result<(), &'static str> {
    match timeout(limits::READY_TIMEOUT, service.reader.schema_is_ready()).await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err("ClickHouse answers, but its schema is not there yet"),
        Ok(Err(error)) => {
            tracing::debug!(%error, "readiness question failed");
            Err("ClickHouse does not answer questions")
        }
        Err(_) => Err("ClickHouse does not answer in time"),
    }
}

pub(crate) fn metrics(service: &Service) -> Answer {
    let text = service.metrics.render(service.queries_in_flight(), service.answers_held_bytes());
    Answer::ok("text/plain; version=0.0.4; charset=utf-8", text)
}
