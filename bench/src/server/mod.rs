//! The systems that are measured, each started fresh in a folder of its own and stopped afterwards.

mod bare;
mod child;
pub mod clickhouse;
mod echo;
mod lanecast;
mod pipeline;
mod relay;
mod stats;

pub use child::Child;
pub use clickhouse::ClickHouse;
pub use echo::Echo;
pub use lanecast::Broker;
pub use pipeline::{Pipeline, ROWS_BEGIN, ROWS_BEGIN_MS, Rows, run_once};
pub use relay::Relay;
pub use stats::Stats;

use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;

use crate::Error;
use crate::limits::ANSWER_MAX;

/// Connects, without Nagle's delay and with the one congestion control that every connection of a run
/// has: a kernel's default may be one that paces loopback (BBR does).
///
/// # Errors
/// Nobody listens there, or the kernel refuses.
pub fn dial(addr: SocketAddr) -> Result<TcpStream, Error> {
    let failed = || Error::io(format!("connecting to {addr}"));
    let socket = TcpStream::connect_timeout(&addr, ANSWER_MAX).map_err(failed())?;
    socket.set_nodelay(true).map_err(failed())?;
    choose_congestion_control(&socket);
    Ok(socket)
}

/// Cubic, or reno where a kernel lacks it. The systems' own ends are set by
/// `net.ipv4.tcp_congestion_control`, which the report names: the same for all but Lanecast and the
/// relay, which choose for loopback as this does.
pub(crate) fn choose_congestion_control(socket: impl AsFd) {
    let cubic = rustix::net::sockopt::set_tcp_congestion(&socket, "cubic");
    if cubic.is_err() {
        // Reno is always there; if even that fails, what is measured is slower and still true.
        let _ = rustix::net::sockopt::set_tcp_congestion(socket, "reno");
    }
}

/// What [`choose_congestion_control`] gets on this machine.
pub(crate) fn chosen_congestion_control() -> String {
    let chosen = || -> std::io::Result<String> {
        let socket = std::net::TcpListener::bind("127.0.0.1:0")?;
        choose_congestion_control(&socket);
        Ok(rustix::net::sockopt::tcp_congestion(&socket)?)
    };
    // Only a machine without sockets has none, and that measures nothing.
    chosen().unwrap_or_default()
}
