//! What an operator may set.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use lanecast_store::StoreConfig;

use crate::limits;

/// Settings of a [`QueryServer`](crate::QueryServer).
#[derive(Clone)]
pub struct QueryConfig {
    /// Port 0 takes any free port; [`QueryServer::addr`](crate::QueryServer::addr) says which.
    pub bind: SocketAddr,
    pub store: StoreConfig,
    /// The bearer token that questions need; `None` or empty for none.
    pub auth_token: Option<String>,
    /// Bind to more than loopback although there is no token.
    pub insecure_no_auth: bool,
    /// Rows in a page of telemetry unless `limit` says otherwise.
    pub default_page_size: u32,
    pub connections_max: usize,
    /// Requests that may be asking ClickHouse at once; the next ones wait a little, then 503.
    pub queries_in_flight_max: usize,
    pub query_turn_timeout: Duration,
    /// Time for ClickHouse to answer one request, all its statements together.
    pub query_timeout: Duration,
    /// Bytes of all answers made and not yet taken; above it, large ones are refused with 503.
    pub answers_held_bytes_max: usize,
    /// Time for a client to send a request's head, and to be idle between two.
    pub header_read_timeout: Duration,
    /// Age of the newest sample beyond which a GPU is called stale.
    pub stale_after: Duration,
    /// A window that ended longer ago than this is closed, and its answers have an `ETag`.
    pub ingest_slack: Duration,
}

impl Default for QueryConfig {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            store: StoreConfig::default(),
            auth_token: None,
            insecure_no_auth: false,
            default_page_size: limits::PAGE_ROWS_DEFAULT,
            connections_max: limits::CONNECTIONS_MAX,
            queries_in_flight_max: limits::QUERIES_IN_FLIGHT_MAX,
            query_turn_timeout: limits::QUERY_TURN_TIMEOUT,
            query_timeout: limits::QUERY_TIMEOUT,
            answers_held_bytes_max: limits::ANSWERS_HELD_BYTES_MAX,
            header_read_timeout: limits::HEADER_READ_TIMEOUT,
            stale_after: limits::STALE_AFTER,
            ingest_slack: limits::INGEST_SLACK,
        }
    }
}

impl fmt::Debug for QueryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryConfig")
            .field("bind", &self.bind)
            .field("store", &self.store)
            .field("auth", &self.auth_token.as_ref().is_some_and(|token| !token.is_empty()))
            .field("insecure_no_auth", &self.insecure_no_auth)
            .field("default_page_size", &self.default_page_size)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_print_without_the_token() {
        let config = QueryConfig { auth_token: Some("hidden".into()), ..QueryConfig::default() };
        assert!(!format!("{config:?}").contains("hidden"));
    }
}
