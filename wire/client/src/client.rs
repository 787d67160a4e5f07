//! The entry: where the broker is. What it can be asked is in [`crate::admin`].

use std::sync::Arc;

use lanecast_wire::message::{ClientMessage, Refusal};
use lanecast_wire::session::{Answer, Backoff};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::config::{ClientConfig, micros};
use crate::connection::Connection;
use crate::error::{ClientError, ConnectionError};
use crate::stats::{ClientStats, Registry};

/// A broker to talk to. Cheap to clone; clones share one connection for questions about topics.
///
/// Producers and subscribers that are opened from it have connections of their own, so bulk never
/// stands before a question, and nothing runs in the background on behalf of the client itself.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    config: ClientConfig,
    /// Taken out while a question is under way: if that is cancelled, the connection goes with it.
    idle: Mutex<Option<Connection<()>>>,
    broker_version: String,
    shards: u32,
    registry: Arc<Registry>,
}

impl Client {
    /// Connects, trying again for `connect_patience`.
    ///
    /// # Errors
    /// A setting is out of range, or no broker answered in time.
    pub async fn connect(config: ClientConfig) -> Result<Self, ClientError> {
        config.check()?;
        let give_up = Instant::now() + config.connect_patience;
        let mut backoff = backoff(&config);
        let (connection, hello) = loop {
            let last = match Connection::open(&config).await {
                Ok(opened) => break opened,
                Err(error) => error,
            };
            let wait = std::time::Duration::from_micros(backoff.next_us());
            if last.is_final() || Instant::now() + wait >= give_up {
                return Err(ClientError::Connect { addr: config.addr, last });
            }
            tracing::debug!(addr = config.addr, error = %last, "no broker yet");
            sleep(wait).await;
        };
        let (broker_version, shards) = (hello.broker_version, hello.shards);
        let idle = Mutex::new(Some(connection));
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                idle,
                broker_version,
                shards,
                registry: Arc::default(),
            }),
        })
    }

    #[must_use]
    pub fn config(&self) -> &ClientConfig {
        &self.inner.config
    }

    /// What the broker called itself when the client connected.
    #[must_use]
    pub fn broker_version(&self) -> &str {
        &self.inner.broker_version
    }

    /// Cores of the broker, when the client connected.
    pub(crate) fn shards(&self) -> u32 {
        self.inner.shards
    }

    /// What everything that was opened from this client has done so far.
    #[must_use]
    pub fn stats(&self) -> ClientStats {
        self.inner.registry.stats()
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.inner.registry
    }

    /// Asks until there is an answer, or the broker refuses for good.
    pub(crate) async fn ask(&self, message: &ClientMessage) -> Result<Asked, ClientError> {
        let timeout = self.inner.config.request_timeout;
        let deadline = Instant::now() + timeout;
        let mut last = "the connection is busy".to_owned();
        let Ok(mut idle) = timeout_at(deadline, self.inner.idle.lock()).await else {
            return Err(ClientError::Timeout { timeout, last });
        };
        let config = &self.inner.config;
        let mut backoff = backoff(config);
        let mut repeated = false;
        let timed_out = |last| ClientError::Timeout { timeout: config.request_timeout, last };
        loop {
            let kept = idle.take();
            let was_kept = kept.is_some();
            let Ok(asked) = timeout_at(deadline, ask_once(config, kept, message)).await else {
                return Err(timed_out(last));
            };
            match asked {
                Ok((connection, Ok(answer))) => {
                    *idle = Some(connection);
                    return Ok(Asked { answer: Ok(answer), repeated });
                }
                Ok((connection, Err(refusal))) => {
                    *idle = Some(connection);
                    if !refusal.code().is_retryable() {
                        return Ok(Asked { answer: Err(refusal), repeated });
                    }
                    last = refusal.message;
                }
                Err(error) if error.is_final() => {
                    return Err(ClientError::Connect { addr: config.addr.clone(), last: error });
                }
                // A kept connection may have been closed since; a fresh one is tried at once.
                Err(_) if was_kept => {
                    repeated = true;
                    continue;
                }
                Err(error) => {
                    repeated = true;
                    last = error.to_string();
                }
            }
            let wake = Instant::now() + std::time::Duration::from_micros(backoff.next_us());
            if wake >= deadline {
                return Err(timed_out(last));
            }
            sleep_until(wake).await;
        }
    }
}

/// What a question got.
pub(crate) struct Asked {
    pub(crate) answer: Result<Answer, Refusal>,
    /// It was asked before, and the answer got lost: it may have had its effect then.
    pub(crate) repeated: bool,
}

async fn ask_once(
    config: &ClientConfig,
    kept: Option<Connection<()>>,
    message: &ClientMessage,
) -> Result<(Connection<()>, Result<Answer, Refusal>), ConnectionError> {
    let mut connection = match kept {
        Some(mut connection) => {
            connection.excuse_silence(Instant::now());
            connection
        }
        None => Connection::open(config).await?.0,
    };
    let answer = connection.ask(message).await?;
    Ok((connection, answer))
}

pub(crate) fn backoff(config: &ClientConfig) -> Backoff {
    let first = micros(config.reconnect_first).max(1);
    Backoff::new(first, micros(config.reconnect_longest).max(first), rand::random())
}
