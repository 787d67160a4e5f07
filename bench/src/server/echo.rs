//! The bare answerer: one thread that receives, looks at nothing, and answers every so many bytes of a
//! connection with one. No broker that acknowledges batches can be faster on one core. The loop never sleeps.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::bare::{BareServer, Shared, TURNS_PER_CHECK};
use crate::Error;
use crate::limits::{RECEIVE_BYTES, SOCKET_EVENTS_MAX};

pub struct Echo(BareServer);

struct Connection {
    socket: TcpStream,
    /// Received since the last answer.
    partial: usize,
}

impl Echo {
    /// Listens, on `core`, for so many connections, each of which sends batches of `batch_bytes`.
    ///
    /// # Errors
    /// The system has no socket or thread left.
    pub fn start(core: usize, connections: u32, batch_bytes: usize) -> Result<Self, Error> {
        let serve = move |sockets: Vec<TcpStream>, shared: &Shared| {
            let connections = sockets.into_iter().map(|socket| Connection { socket, partial: 0 });
            answer(connections.collect(), batch_bytes, shared)
        };
        BareServer::start("echo", core, connections as usize, serve).map(Self)
    }

    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.0.addr()
    }

    #[must_use]
    pub fn cpu(&self) -> Duration {
        self.0.cpu()
    }
}

fn answer(
    mut connections: Vec<Connection>,
    batch_bytes: usize,
    shared: &Shared,
) -> Result<(), Errno> {
    let epoll: OwnedFd = epoll::create(CreateFlags::CLOEXEC)?;
    for (number, connection) in connections.iter().enumerate() {
        epoll::add(&epoll, &connection.socket, EventData::new_u64(number as u64), EventFlags::IN)?;
    }
    let nothing = epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) };
    let mut events = [nothing; SOCKET_EVENTS_MAX];
    let (mut buffer, at_once) = (vec![0; RECEIVE_BYTES], Timespec { tv_sec: 0, tv_nsec: 0 });
    while !shared.is_stopped() {
        for _ in 0..TURNS_PER_CHECK {
            let ready = epoll::wait(&epoll, &mut events[..], Some(&at_once))?;
            for event in &events[..ready] {
                let connection = &mut connections[event.data.u64() as usize];
                match rustix::net::recv(&connection.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                    // A client that goes ends the run.
                    Ok((_, 0)) => return Ok(()),
                    Ok((_, bytes)) => connection.took(bytes, batch_bytes, &buffer)?,
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    Err(errno) => return Err(errno),
                }
            }
        }
        shared.tell_cpu();
    }
    Ok(())
}

impl Connection {
    /// Answers what is whole; any bytes will do.
    fn took(&mut self, bytes: usize, batch_bytes: usize, any: &[u8]) -> Result<(), Errno> {
        self.partial += bytes;
        let mut batches = self.partial / batch_bytes;
        self.partial %= batch_bytes;
        while batches > 0 {
            let answers = &any[..batches.min(any.len())];
            batches -= rustix::net::send(&self.socket, answers, SendFlags::NOSIGNAL)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::cpu;

    #[test]
    fn each_batch_has_its_answer_on_its_own_connection() {
        let echo = Echo::start(cpu::cores()[0], 2, 100).unwrap();
        let mut clients = [0, 1].map(|_| TcpStream::connect(echo.addr()).unwrap());
        clients[0].write_all(&[1; 250]).unwrap();
        clients[1].write_all(&[1; 100]).unwrap();
        let mut answers = [0; 2];
        clients[0].read_exact(&mut answers).unwrap();
        clients[1].read_exact(&mut answers[..1]).unwrap();
        clients[0].set_nonblocking(true).unwrap();
        assert!(clients[0].read(&mut answers).is_err(), "half a batch has none");
        clients[0].write_all(&[1; 50]).unwrap();
        clients[0].set_nonblocking(false).unwrap();
        clients[0].read_exact(&mut answers[..1]).unwrap();
        clients[0].set_nonblocking(true).unwrap();
        assert!(clients[0].read(&mut answers).is_err(), "and the whole one has one");
    }

    #[test]
    fn it_ends_even_if_nobody_ever_comes() {
        drop(Echo::start(cpu::cores()[0], 3, 1).unwrap());
    }
}
