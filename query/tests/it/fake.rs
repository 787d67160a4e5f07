//! A stand-in for a ClickHouse that misbehaves: silent, or gone in the middle of an answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lanecast_store::StoreConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

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
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.open.load(Ordering::SeqCst) == count {
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
