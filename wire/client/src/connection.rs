//! One socket and its session.

use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::Bytes;
use lanecast_wire::PartitionId;
use lanecast_wire::limits::PROTOCOL_MIGRATES;
use lanecast_wire::message::{
    ClientMessage, DescribeTopic, HelloReply, Migrate, Refusal, TopicInfo,
};
use lanecast_wire::session::{Answer, ClientSession, Event};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::ClientConfig;
use crate::dial::{dial, resolve};
use crate::error::ConnectionError;
use crate::limits::{IO_CALLS_PER_TURN_MAX, WRITE_SLICES_MAX};

/// An open connection to a broker. Whoever holds it drives it by [`Connection::turn`].
pub(crate) struct Connection<T> {
    stream: TcpStream,
    pub(crate) session: ClientSession<T>,
    keep_alive: Duration,
    dead_after: Duration,
    received_at: Instant,
    pinged: bool,
    goodbye: Option<String>,
    /// The broker has several cores, and knows how to bring a connection from one to another.
    migrates: bool,
}

impl<T> Connection<T> {
    /// Connects to the first address that answers the hello.
    pub(crate) async fn open(config: &ClientConfig) -> Result<(Self, HelloReply), ConnectionError> {
        let mut last = None;
        for address in resolve(&config.addr).await? {
            let attempt = async {
                let stream = dial(address).await?;
                Self::greet(stream, config).await
            };
            match timeout(config.connect_timeout, attempt).await {
                Ok(Ok(opened)) => return Ok(opened),
                Ok(Err(error)) => last = Some(error),
                Err(_) => {
                    let reason = format!("no answer within {:?}", config.connect_timeout);
                    let address = address.to_string();
                    last = Some(ConnectionError::Unreachable { address, reason });
                }
            }
        }
        Err(last.expect("resolving gives one address at least"))
    }

    async fn greet(
        stream: TcpStream,
        config: &ClientConfig,
    ) -> Result<(Self, HelloReply), ConnectionError> {
        let mut connection = Self {
            stream,
            session: ClientSession::new(&config.client),
            keep_alive: config.keep_alive,
            dead_after: config.dead_after,
            received_at: Instant::now(),
            pinged: false,
            goodbye: None,
            migrates: false,
        };
        loop {
            match connection.next_event()? {
                Some(Event::Opened(reply)) => {
                    connection.migrates = reply.shards > 1 && reply.protocol >= PROTOCOL_MIGRATES;
                    return Ok((connection, reply));
                }
                Some(_) | None => connection.turn(true).await?,
            }
        }
    }

    /// The session's next event; a refusal of the connection is an error.
    pub(crate) fn next_event(&mut self) -> Result<Option<Event<T>>, ConnectionError> {
        match self.session.next_event()? {
            Some(Event::Refused(refusal)) => Err(refusal.into()),
            Some(Event::Goodbye { reason }) => {
                tracing::debug!(reason, "the broker says goodbye");
                self.goodbye = Some(reason.clone());
                Ok(Some(Event::Goodbye { reason }))
            }
            event => Ok(event),
        }
    }

    /// Waits until the socket can be read (if `read`) or written (if there is something to write),
    /// and does that. Loses nothing when it is cancelled.
    pub(crate) async fn turn(&mut self, read: bool) -> Result<(), ConnectionError> {
        let write = !self.session.output().is_empty();
        let interest = match (read, write) {
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (true, false) => Interest::READABLE,
            (false, true) => Interest::WRITABLE,
            (false, false) => return std::future::pending().await,
        };
        let ready = self.stream.ready(interest).await?;
        if ready.is_writable() && write {
            self.write()?;
        }
        if ready.is_readable() && read {
            self.read()?;
        }
        Ok(())
    }

    /// When [`Self::keep_alive`] wants to be called.
    pub(crate) fn deadline(&self) -> Instant {
        self.received_at + if self.pinged { self.dead_after } else { self.keep_alive }
    }

    /// Pings a silent broker, and gives up a dead one. Not to be called while nothing is read.
    pub(crate) fn keep_alive(&mut self, now: Instant) -> Result<(), ConnectionError> {
        let silent = now.saturating_duration_since(self.received_at);
        if silent >= self.dead_after {
            return Err(ConnectionError::Dead { silent });
        }
        if silent >= self.keep_alive && !self.pinged {
            self.pinged = true;
            self.session.ping();
        }
        Ok(())
    }

    /// Reading goes on after a pause that was ours: the silence before it says nothing.
    pub(crate) fn excuse_silence(&mut self, now: Instant) {
        self.received_at = now;
        self.pinged = false;
    }

    /// Why the broker will close, once it has said so.
    pub(crate) fn goodbye(&self) -> Option<ConnectionError> {
        let reason = self.goodbye.clone()?;
        Some(ConnectionError::Goodbye { reason })
    }

    fn read(&mut self) -> Result<(), ConnectionError> {
        match self.stream.try_read_buf(self.session.receive_buffer()) {
            Ok(0) => Err(self.goodbye().unwrap_or(ConnectionError::Closed)),
            Ok(_) => {
                self.received_at = Instant::now();
                self.pinged = false;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn write(&mut self) -> Result<(), ConnectionError> {
        for _ in 0..IO_CALLS_PER_TURN_MAX {
            if self.session.output().is_empty() {
                break;
            }
            let mut slices = [IoSlice::new(&[]); WRITE_SLICES_MAX];
            let used = self.session.output().slices(&mut slices);
            match self.stream.try_write_vectored(&slices[..used]) {
                Ok(written) => self.session.output().advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl<T: Default> Connection<T> {
    /// Asks one question and waits for its answer, on a connection that has no others in flight.
    pub(crate) async fn ask(
        &mut self,
        message: &ClientMessage,
    ) -> Result<Result<Answer, Refusal>, ConnectionError> {
        if self.session.request(message, T::default()).is_err() {
            return Err(self.goodbye().unwrap_or(ConnectionError::Closed));
        }
        self.answer().await
    }

    /// Appends one batch and waits for the answer, on a connection that has nothing in flight.
    pub(crate) async fn produce(
        &mut self,
        partition: PartitionId,
        batch: Bytes,
    ) -> Result<Result<Answer, Refusal>, ConnectionError> {
        if self.session.produce(partition, batch, T::default()).is_err() {
            return Err(self.goodbye().unwrap_or(ConnectionError::Closed));
        }
        self.answer().await
    }

    async fn answer(&mut self) -> Result<Result<Answer, Refusal>, ConnectionError> {
        loop {
            let alive_until = self.deadline();
            match self.next_event()? {
                Some(Event::Answered { answer, .. }) => return Ok(answer),
                Some(_) => {}
                None => match timeout_at(alive_until, self.turn(true)).await {
                    Ok(turned) => turned?,
                    Err(_) => self.keep_alive(Instant::now())?,
                },
            }
        }
    }

    /// Connects, and looks the topic up.
    pub(crate) async fn open_for(
        config: &ClientConfig,
        topic: &str,
    ) -> Result<(Self, TopicInfo), ConnectionError> {
        let (mut connection, _) = Self::open(config).await?;
        let describe = ClientMessage::DescribeTopic(DescribeTopic { name: topic.to_owned() });
        match connection.ask(&describe).await? {
            Ok(Answer::Topics(mut topics)) if topics.len() == 1 => {
                Ok((connection, topics.remove(0)))
            }
            Ok(_) => Err(content("one topic was asked for")),
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Connects for a topic that was looked up before: it must be the same one still. Served by the core
    /// that has the partition `near`, if one is named and it is possible.
    pub(crate) async fn open_topic(
        config: &ClientConfig,
        topic: &TopicInfo,
        near: Option<u32>,
    ) -> Result<Self, ConnectionError> {
        let (mut connection, found) = Self::open_for(config, &topic.name).await?;
        if found.topic != topic.topic || found.partitions != topic.partitions {
            return Err(ConnectionError::TopicReplaced { topic: topic.name.clone() });
        }
        if let Some(partition) = near {
            connection.migrate(topic.topic, partition).await?;
        }
        Ok(connection)
    }

    async fn migrate(&mut self, topic: u32, partition: u32) -> Result<(), ConnectionError> {
        if self.migrates
            && let Err(refusal) =
                self.ask(&ClientMessage::Migrate(Migrate { topic, partition })).await?
        {
            // All goes well from another core, just slower.
            tracing::debug!(topic, partition, code = %refusal.code(), "stays on its core");
        }
        Ok(())
    }
}

pub(crate) fn content(what: &'static str) -> ConnectionError {
    let kind = lanecast_wire::frame::FrameKind::Topics;
    ConnectionError::Protocol(lanecast_wire::ProtocolError::Content { kind, what })
}
