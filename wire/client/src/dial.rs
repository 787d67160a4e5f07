//! From an address to a TCP connection.

use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream, lookup_host};

use crate::error::ConnectionError;
use crate::limits::ADDRESSES_MAX;

/// Everything that the comma-separated `addr` may mean, in order.
pub(crate) async fn resolve(addr: &str) -> Result<Vec<SocketAddr>, ConnectionError> {
    let mut found = Vec::new();
    let mut last = None;
    for address in addr.split(',').map(str::trim).filter(|address| !address.is_empty()) {
        match lookup_host(address).await {
            Ok(addresses) => found.extend(addresses),
            Err(error) => {
                let (address, reason) = (address.to_owned(), error.to_string());
                last = Some(ConnectionError::Resolve { address, reason });
            }
        }
    }
    found.truncate(ADDRESSES_MAX);
    match last {
        Some(error) if found.is_empty() => Err(error),
        None if found.is_empty() => Err(ConnectionError::Resolve {
            address: addr.to_owned(),
            reason: "host:port expected".to_owned(),
        }),
        _ => Ok(found),
    }
}

/// Connects to one address.
pub(crate) async fn dial(address: SocketAddr) -> Result<TcpStream, ConnectionError> {
    let unreachable = |error: std::io::Error| ConnectionError::Unreachable {
        address: address.to_string(),
        reason: error.to_string(),
    };
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(unreachable)?;
    socket.set_nodelay(true).map_err(unreachable)?;
    if address.ip().is_loopback() {
        pace_for_loopback(&socket);
    }
    socket.connect(address).await.map_err(unreachable)
}

/// Where the system's default is BBR, it paces loopback to a sixth of what it can do.
fn pace_for_loopback(socket: &TcpSocket) {
    let socket = SockRef::from(socket);
    let set = [b"cubic".as_slice(), b"reno"]
        .iter()
        .any(|algorithm| socket.set_tcp_congestion(algorithm).is_ok());
    if !set {
        tracing::debug!("the system offers neither cubic nor reno; loopback may be slow");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn several_addresses_are_kept_in_order_and_bad_ones_left_out() {
        let found = resolve("127.0.0.1:1, nonsense ,127.0.0.1:2").await.unwrap();
        let expected: Vec<SocketAddr> =
            vec!["127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()];
        assert_eq!(found, expected);
        assert!(matches!(resolve("nonsense").await, Err(ConnectionError::Resolve { .. })));
        assert!(matches!(resolve(" , ").await, Err(ConnectionError::Resolve { .. })));
    }
}
