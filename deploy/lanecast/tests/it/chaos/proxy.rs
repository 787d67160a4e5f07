//! A TCP proxy between two roles, which breaks connections where it is told to.
//!
//! It knows just enough of HTTP to tell an INSERT's body and its answer; on the broker's links every
//! byte of the client counts as body and every byte of the broker as answer. Trouble waits until
//! a connection comes to the place it is meant for, and happens to that connection once.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::plan::Trouble;

const BUFFER_BYTES: usize = 64 * 1024;
/// The last chunk of a body in HTTP's chunked coding.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What is between the client and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    Frames,
}

/// A listening proxy. Connections made while there is no server are closed at once.
pub(crate) struct Proxy {
    pub(crate) addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: tokio::task::JoinHandle<()>,
}

struct Shared {
    protocol: Protocol,
    server: Mutex<Option<SocketAddr>>,
    orders: Mutex<VecDeque<(&'static str, Trouble)>>,
    happened: Mutex<BTreeMap<&'static str, u64>>,
    /// Connections that see it change reset themselves.
    resets: watch::Sender<u64>,
}

impl Proxy {
    pub(crate) fn start(runtime: &tokio::runtime::Handle, protocol: Protocol) -> Self {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            protocol,
            server: Mutex::new(None),
            orders: Mutex::default(),
            happened: Mutex::default(),
            resets: watch::Sender::new(0),
        });
        let accepting = runtime.spawn(accept(listener, Arc::clone(&shared)));
        Self { addr, shared, accepting }
    }

    /// Where new connections go.
    pub(crate) fn set_server(&self, server: Option<SocketAddr>) {
        *self.shared.server.lock().unwrap() = server;
    }

    pub(crate) fn order(&self, name: &'static str, trouble: Trouble) {
        if trouble == Trouble::ResetAll {
            self.shared.happens(name);
            self.shared.resets.send_modify(|resets| *resets += 1);
        } else {
            self.shared.orders.lock().unwrap().push_back((name, trouble));
        }
    }

    /// Nothing more goes wrong. What hangs in a black hole is reset.
    pub(crate) fn calm(&self) {
        self.shared.orders.lock().unwrap().clear();
        self.shared.resets.send_modify(|resets| *resets += 1);
    }

    /// Trouble that came to happen, by name.
    pub(crate) fn happened(&self) -> BTreeMap<&'static str, u64> {
        self.shared.happened.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.shared.resets.send_modify(|resets| *resets += 1);
    }
}

impl Shared {
    fn happens(&self, name: &'static str) {
        *self.happened.lock().unwrap().entry(name).or_default() += 1;
    }

    /// Takes the oldest order that `wanted` is the place for.
    fn take(&self, wanted: impl Fn(Trouble) -> bool) -> Option<Trouble> {
        let mut orders = self.orders.lock().unwrap();
        let place = orders.iter().position(|(_, trouble)| wanted(*trouble))?;
        let (name, trouble) = orders.remove(place)?;
        drop(orders);
        self.happens(name);
        Some(trouble)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        let server = *shared.server.lock().unwrap();
        tokio::spawn(async move {
            let Some(server) = server else { return };
            let Ok(server) = TcpStream::connect(server).await else { return };
            let resets = shared.resets.subscribe();
            let link = Link { shared, client, server, request: Request::default(), held: None };
            link.run(resets).await;
        });
    }
}

/// How a connection ends.
enum End {
    /// Both sides have said all they had to say, or one of them is gone.
    Closed,
    Reset,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        End::Closed
    }
}

/// One connection through the proxy.
struct Link {
    shared: Arc<Shared>,
    client: TcpStream,
    server: TcpStream,
    request: Request,
    /// Trouble whose place is a number of bytes further on.
    held: Option<Trouble>,
}

/// How far the present request is.
#[derive(Default)]
struct Request {
    insert: bool,
    body_bytes: u64,
    body_ended: bool,
}

impl Link {
    async fn run(mut self, mut resets: watch::Receiver<u64>) {
        self.client.set_nodelay(true).unwrap();
        self.server.set_nodelay(true).unwrap();
        let end = tokio::select! {
            end = self.pass_on() => end,
            _ = resets.changed() => End::Reset,
        };
        if let End::Reset = end {
            // Fails when the connection is gone already.
            let _ = self.client.set_zero_linger();
            let _ = self.server.set_zero_linger();
        }
    }

    async fn pass_on(&mut self) -> End {
        let (mut up, mut down) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
        let (mut client_open, mut server_open) = (true, true);
        while client_open || server_open {
            let passed = tokio::select! {
                read = self.client.read(&mut up), if client_open => match read {
                    Ok(0) => {
                        client_open = false;
                        self.server.shutdown().await.map_err(End::from)
                    }
                    Ok(bytes) => self.upwards(&up[..bytes], &mut client_open).await,
                    Err(_) => Err(End::Reset),
                },
                read = self.server.read(&mut down), if server_open => match read {
                    // Half-open connections are no service of the roles: the client hears of it.
                    Ok(0) => {
                        server_open = false;
                        Err(End::Closed)
                    }
                    Ok(bytes) => self.downwards(&down[..bytes]).await,
                    Err(_) => Err(End::Reset),
                },
            };
            if let Err(end) = passed {
                return end;
            }
        }
        End::Closed
    }

    /// Bytes of the client.
    async fn upwards(&mut self, data: &[u8], client_open: &mut bool) -> Result<(), End> {
        self.look(data);
        if !self.request.insert {
            self.server.write_all(data).await?;
            return Ok(());
        }
        if self.held.is_none() {
            self.held = self.shared.take(|trouble| match trouble {
                Trouble::CutInBody { .. } | Trouble::HalfClose { .. } => true,
                Trouble::BlackHole { .. } | Trouble::CutAfterBody => true,
                Trouble::LoseAnswer { .. } | Trouble::HalfAnswer => false,
                Trouble::LateAnswer { .. } | Trouble::ResetAll => false,
            });
        }
        let passed = self.request.body_bytes;
        self.request.body_bytes += data.len() as u64;
        let frames = self.shared.protocol == Protocol::Frames;
        // A body that is shorter is cut before its last byte.
        let cut_at = |bytes: u64| -> Option<usize> {
            let within = bytes.saturating_sub(passed).min(data.len() as u64) as usize;
            match within < data.len() {
                true => Some(within),
                false => (self.request.body_ended && !frames).then(|| data.len() - 1),
            }
        };
        match self.held {
            Some(Trouble::CutInBody { bytes, reset }) => {
                if let Some(at) = cut_at(bytes) {
                    self.server.write_all(&data[..at]).await?;
                    return Err(if reset { End::Reset } else { End::Closed });
                }
            }
            Some(Trouble::HalfClose { bytes }) => {
                if let Some(at) = cut_at(bytes) {
                    self.held = None;
                    self.server.write_all(&data[..at]).await?;
                    self.server.shutdown().await?;
                    *client_open = false;
                    return Ok(());
                }
            }
            Some(Trouble::BlackHole { bytes, ms }) => {
                if let Some(at) = cut_at(bytes) {
                    self.server.write_all(&data[..at]).await?;
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    return Err(End::Reset);
                }
            }
            Some(Trouble::CutAfterBody) if self.request.body_ended || frames => {
                self.server.write_all(data).await?;
                return Err(End::Closed);
            }
            Some(_) | None => {}
        }
        self.server.write_all(data).await?;
        Ok(())
    }

    /// Bytes of the server.
    async fn downwards(&mut self, data: &[u8]) -> Result<(), End> {
        let insert = std::mem::take(&mut self.request.insert) || self.frames();
        let trouble = insert.then(|| {
            self.shared.take(|trouble| match trouble {
                Trouble::LoseAnswer { .. } | Trouble::HalfAnswer => true,
                Trouble::LateAnswer { .. } => true,
                Trouble::CutInBody { .. } | Trouble::HalfClose { .. } => false,
                Trouble::BlackHole { .. } | Trouble::CutAfterBody => false,
                Trouble::ResetAll => false,
            })
        });
        match trouble.flatten() {
            Some(Trouble::LoseAnswer { reset }) => {
                return Err(if reset { End::Reset } else { End::Closed });
            }
            Some(Trouble::HalfAnswer) => {
                self.client.write_all(&data[..data.len() / 2]).await?;
                return Err(End::Closed);
            }
            Some(Trouble::LateAnswer { ms }) => {
                // Nothing else goes over this connection meanwhile: it is as if it were stuck.
                let stuck = tokio::time::sleep(Duration::from_millis(ms));
                let mut gone = [0];
                tokio::select! {
                    () = stuck => {}
                    _ = self.client.peek(&mut gone), if !self.frames() => return Err(End::Closed),
                }
            }
            Some(_) | None => {}
        }
        self.client.write_all(data).await?;
        Ok(())
    }

    fn frames(&self) -> bool {
        self.shared.protocol == Protocol::Frames
    }

    /// Sees where in a request the client is.
    fn look(&mut self, data: &[u8]) {
        match self.shared.protocol {
            Protocol::Frames => self.request.insert = true,
            Protocol::Http => {
                let head = data.split(|byte| *byte == b'\r').next().unwrap_or(data);
                if head.starts_with(b"POST /") {
                    let insert = contains(head, b"query=INSERT");
                    self.request = Request { insert, ..Request::default() };
                    self.held = None;
                }
                self.request.body_ended |= data.ends_with(LAST_CHUNK);
            }
        }
    }
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}
