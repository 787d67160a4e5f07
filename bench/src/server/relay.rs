//! The bare relay: one thread that receives and sends, and looks at nothing. No broker between a
//! producer and its subscribers can be faster on one core.
//!
//! The first connection is the producer's, the others are subscribers'. Whatever comes from the producer
//! is sent to each subscriber at once, while it is in the cache. The loop never sleeps.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::limits::RECEIVE_BYTES;
use crate::{Error, cpu};

/// Looks at the sockets between two looks at whether it is over.
const TURNS_PER_CHECK: u32 = 1024;

pub struct Relay {
    addr: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    cpu_ns: AtomicU64,
}

impl Relay {
    /// Listens, on `core`, for one producer and then `subscribers` subscribers.
    ///
    /// # Errors
    /// The system has no socket or thread left.
    pub fn start(core: usize, subscribers: usize) -> Result<Self, Error> {
        let failed = || Error::io("starting the relay");
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed())?;
        let addr = listener.local_addr().map_err(failed())?;
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("relay".to_owned()).spawn(move || {
            cpu::stay_on(&[core]);
            let relayed = accept(&listener, subscribers)
                .and_then(|(producer, subscribers)| relay(&producer, &subscribers, &theirs));
            // A client that goes ends the run, and is no failure.
            if theirs.stopped.load(Ordering::Relaxed) { Ok(()) } else { relayed }
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

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // It may still wait for clients that never came.
        let _ = TcpStream::connect(self.addr);
        if let Some(thread) = self.thread.take() {
            // Its error, if any, has shown at the clients.
            let _ = thread.join();
        }
    }
}

fn accept(
    listener: &TcpListener,
    subscribers: usize,
) -> Result<(TcpStream, Vec<TcpStream>), Error> {
    let one = || -> Result<TcpStream, Error> {
        let (socket, _) = listener.accept().map_err(Error::io("accepting at the relay"))?;
        socket.set_nodelay(true).map_err(Error::io("setting up the relay's socket"))?;
        super::choose_congestion_control(&socket);
        Ok(socket)
    };
    let producer = one()?;
    let subscribers = std::iter::repeat_with(one).take(subscribers).collect::<Result<_, _>>()?;
    Ok((producer, subscribers))
}

fn relay(producer: &TcpStream, subscribers: &[TcpStream], shared: &Shared) -> Result<(), Error> {
    let mut buffer = vec![0; RECEIVE_BYTES];
    loop {
        for _ in 0..TURNS_PER_CHECK {
            match rustix::net::recv(producer, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Ok(()),
                Ok((_, bytes)) => {
                    for subscriber in subscribers {
                        send_all(subscriber, &buffer[..bytes], shared)?;
                    }
                }
                Err(Errno::AGAIN | Errno::INTR) => std::hint::spin_loop(),
                Err(errno) => return Err(Error::io("receiving at the relay")(errno.into())),
            }
        }
        shared.cpu_ns.store(cpu::of_this_thread().as_nanos() as u64, Ordering::Relaxed);
        if shared.stopped.load(Ordering::Relaxed) {
            return Ok(());
        }
    }
}

fn send_all(socket: &TcpStream, mut bytes: &[u8], shared: &Shared) -> Result<(), Error> {
    while !bytes.is_empty() {
        match rustix::net::send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::AGAIN) if shared.stopped.load(Ordering::Relaxed) => return Ok(()),
            Err(Errno::AGAIN | Errno::INTR) => std::hint::spin_loop(),
            Err(errno) => return Err(Error::io("sending at the relay")(errno.into())),
        }
    }
    Ok(())
}
