//! The entry: where the broker is, and questions about topics.

use std::sync::Arc;

use lanecast_wire::message::{ClientMessage, CreateTopic, DescribeTopic, ListTopics, TopicInfo};
use lanecast_wire::session::{Answer, Backoff};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::config::{ClientConfig, micros};
use crate::connection::Connection;
use crate::error::{ClientError, ConnectionError};

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
        let broker_version = hello.broker_version;
        let idle = Mutex::new(Some(connection));
        Ok(Self { inner: Arc::new(Inner { config, idle, broker_version }) })
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

    /// Makes a topic, or finds it with the same settings.
    ///
    /// # Errors
    /// The name is none, the topic exists with other settings, or the broker cannot be asked.
    pub async fn create_topic(&self, topic: CreateTopic) -> Result<TopicInfo, ClientError> {
        topic.check()?;
        self.one_topic(ClientMessage::CreateTopic(topic)).await
    }

    /// Looks a topic up.
    ///
    /// # Errors
    /// There is none of that name, or the broker cannot be asked.
    pub async fn topic(&self, name: &str) -> Result<TopicInfo, ClientError> {
        let describe = DescribeTopic { name: name.to_owned() };
        describe.check()?;
        self.one_topic(ClientMessage::DescribeTopic(describe)).await
    }

    /// All topics.
    ///
    /// # Errors
    /// The broker cannot be asked.
    pub async fn topics(&self) -> Result<Vec<TopicInfo>, ClientError> {
        self.ask(&ClientMessage::ListTopics(ListTopics {})).await
    }

    async fn one_topic(&self, message: ClientMessage) -> Result<TopicInfo, ClientError> {
        let mut topics = self.ask(&message).await?;
        match topics.pop() {
            Some(topic) if topics.is_empty() => Ok(topic),
            _ => Err(ClientError::Timeout {
                timeout: self.inner.config.request_timeout,
                last: "the broker answered with another number of topics than one".to_owned(),
            }),
        }
    }

    /// Asks until there is an answer. The questions change nothing when they are asked twice.
    async fn ask(&self, message: &ClientMessage) -> Result<Vec<TopicInfo>, ClientError> {
        let config = &self.inner.config;
        let deadline = Instant::now() + config.request_timeout;
        let mut backoff = backoff(config);
        let mut last = "the connection is busy".to_owned();
        let timed_out = |last| ClientError::Timeout { timeout: config.request_timeout, last };
        let Ok(mut idle) = timeout_at(deadline, self.inner.idle.lock()).await else {
            return Err(timed_out(last));
        };
        loop {
            let kept = idle.take();
            let was_kept = kept.is_some();
            let Ok(asked) = timeout_at(deadline, ask_once(config, kept, message)).await else {
                return Err(timed_out(last));
            };
            match asked {
                Ok((connection, Ok(Answer::Topics(topics)))) => {
                    *idle = Some(connection);
                    return Ok(topics);
                }
                Ok((connection, Err(refusal))) => {
                    *idle = Some(connection);
                    if !refusal.code().is_retryable() {
                        return Err(refusal.into());
                    }
                    last = refusal.message;
                }
                Ok((_, Ok(_))) => last = "the broker answered another question".to_owned(),
                Err(error) if error.is_final() => {
                    return Err(ClientError::Connect { addr: config.addr.clone(), last: error });
                }
                // A kept connection may have been closed since; a fresh one is tried at once.
                Err(_) if was_kept => continue,
                Err(error) => last = error.to_string(),
            }
            let wake = Instant::now() + std::time::Duration::from_micros(backoff.next_us());
            if wake >= deadline {
                return Err(timed_out(last));
            }
            sleep_until(wake).await;
        }
    }
}

async fn ask_once(
    config: &ClientConfig,
    kept: Option<Connection<()>>,
    message: &ClientMessage,
) -> Result<(Connection<()>, Result<Answer, lanecast_wire::message::Refusal>), ConnectionError> {
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
