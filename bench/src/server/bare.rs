//! What the bare ceilings are made of: a thread with a core of its own that accepts connections, and then
//! never sleeps.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::io::Errno;

use crate::{Error, cpu};

/// Looks at the sockets between two looks at whether it is over.
pub(super) const TURNS_PER_CHECK: u32 = 1024;

pub(super) struct BareServer {
    addr: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
pub(super) struct Shared {
    stopped: AtomicBool,
    cpu_ns: AtomicU64,
}

impl Shared {
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Tells what the calling thread has used so far.
    pub(super) fn tell_cpu(&self) {
        self.cpu_ns.store(cpu::of_this_thread().as_nanos() as u64, Ordering::Relaxed);
    }
}

impl BareServer {
    /// Listens, on `core`, for so many connections, and serves them in the order in which they came.
    ///
    /// # Errors
    /// The system has no socket or thread left.
    pub(super) fn start(
        name: &'static str,
        core: usize,
        connections: usize,
        serve: impl FnOnce(Vec<TcpStream>, &Shared) -> Result<(), Errno> + Send + 'static,
    ) -> Result<Self, Error> {
        let failed = || Error::io(format!("starting the bare {name}"));
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed())?;
        let addr = listener.local_addr().map_err(failed())?;
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            cpu::stay_on(&[core]);
            // What fails here has closed a connection, and shows at the client of it.
            if let Ok(connections) = accept(&listener, connections, &theirs)
                && !theirs.is_stopped()
            {
                let _ = serve(connections, &theirs);
            }
        });
        Ok(Self { addr, shared, thread: Some(thread.map_err(failed())?) })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.shared.cpu_ns.load(Ordering::Relaxed))
    }
}

impl Drop for BareServer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // It may still wait for clients that never came.
        let _ = TcpStream::connect(self.addr);
        if let Some(thread) = self.thread.take() {
            // It only panics where there is a bug, which the tests show.
            let _ = thread.join();
        }
    }
}

fn accept(
    listener: &TcpListener,
    connections: usize,
    shared: &Shared,
) -> std::io::Result<Vec<TcpStream>> {
    let mut accepted = Vec::with_capacity(connections);
    while accepted.len() < connections && !shared.is_stopped() {
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        super::choose_congestion_control(&socket);
        accepted.push(socket);
    }
    Ok(accepted)
}
