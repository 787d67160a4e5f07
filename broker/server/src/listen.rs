//! Listening sockets: one per executor, all on one port (SO_REUSEPORT), so that the kernel spreads
//! connections over the cores.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::StartError;
use crate::limits::LISTEN_BACKLOG;

/// Binds `count` sockets to one address. With port 0 the first one picks, the others join.
pub(crate) fn bind_all(addr: SocketAddr, count: usize) -> Result<Vec<TcpListener>, StartError> {
    let failed = |source| StartError::Listen { what: "clients", addr, source };
    let mut actual = addr;
    if addr.port() != 0 {
        // SO_REUSEPORT would quietly share the port with another broker of this user: first see
        // that nobody listens there.
        drop(bind(addr, false).map_err(failed)?);
    }
    let mut listeners = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = bind(actual, true).map_err(failed)?;
        if actual.port() == 0 {
            let local = socket.local_addr().map_err(failed)?;
            actual = local.as_socket().expect("an IP socket has an IP address");
        }
        listeners.push(socket);
    }
    // Listening starts once all are bound: no connection comes in before there is anyone to
    // accept it, whichever socket the kernel picks.
    listeners
        .into_iter()
        .map(|socket| {
            socket.listen(LISTEN_BACKLOG)?;
            Ok(socket.into())
        })
        .collect::<io::Result<Vec<TcpListener>>>()
        .map_err(failed)
}

fn bind(addr: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if reuse_port {
        rustix::net::sockopt::set_socket_reuseport(&socket, true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    if !reuse_port {
        // A bound socket conflicts with a listening one only once it listens itself.
        socket.listen(1)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_share_the_port_that_the_first_one_picked() {
        let listeners = bind_all(SocketAddr::from(([127, 0, 0, 1], 0)), 3).unwrap();
        let addr = listeners[0].local_addr().unwrap();
        assert_ne!(addr.port(), 0);
        assert!(listeners.iter().all(|listener| listener.local_addr().unwrap() == addr));
    }

    #[test]
    fn a_port_that_is_taken_is_refused_and_not_shared() {
        let first = bind_all(SocketAddr::from(([127, 0, 0, 1], 0)), 2).unwrap();
        let addr = first[0].local_addr().unwrap();
        let error = bind_all(addr, 2).unwrap_err();
        assert!(error.to_string().contains(&addr.to_string()), "{error}");
    }
}
