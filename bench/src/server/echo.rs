//! The bare answerer: one thread that receives, looks at nothing, and answers every so many bytes of a
//! connection with one. No broker that acknowledges batches can be faster on one core. The loop never sleeps.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::limits::{RECEIVE_BYTES, SOCKET_EVENTS_MAX};
use crate::{Error, cpu};

/// Looks at the sockets between two looks at whether it is over.
const TURNS_PER_CHECK: u32 = 1024;

pub struct Echo {
    addr: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    cpu_ns: AtomicU64,
}

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
        let failed = || Error::io("starting the bare answerer");
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed())?;
        let addr = listener.local_addr().map_err(failed())?;
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("echo".to_owned()).spawn(move || {
            cpu::stay_on(&[core]);
            // What fails here has closed a connection, and shows at the client of it.
            if let Ok(connections) = accept(&listener, connections, &theirs) {
                let _ = answer(connections, batch_bytes, &theirs);
            }
        });
        Ok(Self { addr, shared, thread: Some(thread.map_err(failed())?) })
    }

    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    #[must_use]
    pub fn cpu(&self) -> Duration {
        Duration::from_nanos(self.shared.cpu_ns.load(Ordering::Relaxed))
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // It may still wait for clients that never came.
        let _ = TcpStream::connect(self.addr);
        if let Some(thread) = self.thread.take() {
            // It only panics where there is a bug, which the test shows.
            let _ = thread.join();
        }
    }
}

fn accept(
    listener: &TcpListener,
    connections: u32,
    shared: &Shared,
) -> std::io::Result<Vec<Connection>> {
    let mut accepted = Vec::new();
    for _ in 0..connections {
        let (socket, _) = listener.accept()?;
        if shared.stopped.load(Ordering::Relaxed) {
            break;
        }
        socket.set_nodelay(true)?;
        super::choose_congestion_control(&socket);
        accepted.push(Connection { socket, partial: 0 });
    }
    Ok(accepted)
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
    while !shared.stopped.load(Ordering::Relaxed) {
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
        shared.cpu_ns.store(cpu::of_this_thread().as_nanos() as u64, Ordering::Relaxed);
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
