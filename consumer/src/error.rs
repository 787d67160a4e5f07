//! What can go wrong, as the application sees it.

use core::net::SocketAddr;
use std::io;

use lanecast_client::{ClientError, SubscribeError};
use lanecast_store::StoreError;

/// The consumer could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("setting {setting}: {reason}")]
    Config { setting: &'static str, reason: String },
    #[error("these leases and chunks cannot be")]
    Group(#[source] ClientError),
    #[error("admin port {addr} cannot be bound; is another consumer running there?")]
    Admin { addr: SocketAddr, source: io::Error },
    #[error("the store is not usable")]
    Store(#[from] StoreError),
    #[error("the broker is not usable")]
    Broker(#[from] ClientError),
}

/// Printing ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum PrintError {
    #[error("the broker is not usable")]
    Broker(#[from] ClientError),
    #[error("the subscription ended")]
    Subscribe(#[from] SubscribeError),
    #[error("the output cannot be written")]
    Output(#[from] io::Error),
}
