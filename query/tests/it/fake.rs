//! A stand-in for a ClickHouse that misbehaves: silent, or gone in the middle of an answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lanecast_store::StoreConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

/// What it does with a request.
#[derive(Clone, Copy)]
pub(crate) enum Manner {
    /// Reads it and says nothing.
    Silent,
    /// Begins to answer and closes.
    BreaksOff,
    /// Answers with this exception of ClickHouse.
    Refuses(&'static str),
}

pub(crate) struct Fake {
    pub addr: SocketAddr,
    open: Arc<AtomicUsize>,
    changed: Arc<Notify>,
}

impl Fake {
    pub(crate) async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (open, changed) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let fake = Self { addr, open: Arc::clone(&open), changed: Arc::clone(&changed) };
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (open, changed) = (Arc::clone(&open), Arc::clone(&changed));
                tokio::spawn(async move {
                    serve(socket, manner, || {
                        open.fetch_add(1, Ordering::SeqCst);
                        changed.notify_waiters();
                    })
                    .await;
                    open.fetch_sub(1, Ordering::SeqCst);
                    changed.notify_waiters();
                });
            }
        });
        fake
    }

    pub(crate) fn store(&self) -> StoreConfig {
        StoreConfig { url: format!("http://{}", self.addr), ..StoreConfig::default() }
    }

    /// Returns when this many requests are being left without an answer.
    pub(crate) async fn until_open(&self, count: usize) {
        self.until(|open| open == count).await;
    }

    /// Returns when so many are, or more.
    pub(crate) async fn until_asked(&self, count: usize) {
        self.until(|open| open >= count).await;
    }

    async fn until(&self, reached: impl Fn(usize) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if reached(self.open.load(Ordering::SeqCst)) {
                return;
            }
            changed.await;
        }
    }
}

async fn serve(mut socket: TcpStream, manner: Manner, began: impl FnOnce()) {
    let mut buffer = [0; 4096];
    let read = socket.read(&mut buffer).await;
    began();
    if !matches!(read, Ok(bytes) if bytes > 0) {
        return;
    }
    let answer = match manner {
        Manner::Silent => {
            // Until the other side closes.
            while matches!(socket.read(&mut buffer).await, Ok(bytes) if bytes > 0) {}
            return;
        }
        Manner::BreaksOff => {
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n".to_owned()
        }
        Manner::Refuses(exception) => format!(
            "HTTP/1.1 500 Internal Server Error\r\ncontent-length: {}\r\n\r\n{exception}",
            exception.len()
        ),
    };
    // The other side may be gone already, which is its right.
    let _ = socket.write_all(answer.as_bytes()).await;
    let _ = socket.shutdown().await;
}

/// A way to a real ClickHouse that can be cut, as if that were restarted.
pub(crate) struct Path {
    pub(crate) addr: SocketAddr,
    state: watch::Sender<State>,
    /// Each connection holds a receiver; when all are gone, so are the connections.
    open: watch::Sender<()>,
}

#[derive(Clone, Copy, PartialEq)]
struct State {
    closed: bool,
    /// How often it was cut: a connection lives as long as this stays.
    cuts: u32,
}

impl Path {
    /// To the server at `url`.
    pub(crate) async fn to(url: &str) -> Self {
        let target = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (state, states) = watch::channel(State { closed: false, cuts: 0 });
        let (open, _) = watch::channel(());
        let opened = open.clone();
        tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let (target, mut states) = (target.clone(), states.clone());
                let open = opened.subscribe();
                let born = *states.borrow();
                if born.closed {
                    continue;
                }
                tokio::spawn(async move {
                    let _open = open;
                    let mut far = TcpStream::connect(target).await.unwrap();
                    tokio::select! {
                        // Either side's end is the end.
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = states.wait_for(|state| state.cuts != born.cuts) => {}
                    }
                });
            }
        });
        Self { addr, state, open }
    }

    /// Closes all connections, and the new ones until [`mend`](Self::mend).
    pub(crate) async fn cut(&self) {
        self.state.send_modify(|state| *state = State { closed: true, cuts: state.cuts + 1 });
        self.open.closed().await;
    }

    pub(crate) fn mend(&self) {
        self.state.send_modify(|state| state.closed = false);
    }
}
