//! `lanecast healthcheck`: for container images that hold no shell and no curl.

use std::net::ToSocketAddrs;
use std::process::ExitCode;

use crate::settings::{Settings, table};
use crate::{Outcome, http};

/// Exits 0 if the address answers 2xx.
pub(super) async fn run(settings: &Settings) -> Outcome {
    let target = settings.required(&table::HEALTHCHECK_URL)?;
    let target = target.strip_prefix("http://").unwrap_or(target);
    let (host, path) = match target.find('/') {
        Some(at) => target.split_at(at),
        None => (target, "/healthz"),
    };
    let addr = host
        .to_socket_addrs()
        .map_err(|error| format!("{host}: {error}; expected HOST:PORT/PATH"))?
        .next()
        .ok_or_else(|| format!("{host} has no address"))?;
    let (status, _) = http::get(addr, path).await?;
    if (200..300).contains(&status) {
        return Ok(ExitCode::SUCCESS);
    }
    Err(format!("http://{addr}{path} answered {status}").into())
}
