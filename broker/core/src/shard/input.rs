//! What a connection has received, and how it is told to receive more.
//!
//! Small frames pass through the shell's hot buffer, and what is kept of them is copied. A connection
//! that sends large ones has its bytes received into buffers that they may stay in, and as many at
//! a time as end where a frame ends: one that is cut has to be gathered first, which copies it. A frame
//! that is larger than that is gathered where it is received: the memory of what has come of it is lent to
//! the shell, which receives the rest into it.

use bytes::{Buf, Bytes, BytesMut};
use lanecast_wire::session::{BrokerSession, Request};
use lanecast_wire::{CorrelationId, ErrorCode, PartitionId, ProtocolError};

use super::Shard;
use super::migration::Departure;
use super::requests::{Answer, refusal};
use crate::limits::{ANSWERS_PILED_MAX, ANSWERS_UNCOUNTED_MAX, FILLED_PART_MIN};
use crate::partition::Batch;
use crate::{Action, ConnectionId, RequestId, ShardConfig};

/// What came of received bytes.
pub(super) enum Taken {
    All,
    /// They break the protocol.
    Broken(ProtocolError),
    /// The connection leaves for another shard, with those behind its request.
    Leaving(Departure),
}

/// Received bytes.
enum Input<'a> {
    Passing(&'a [u8]),
    Filled(Vec<u8>),
    /// By another shard, which left them to this one.
    Brought(&'a Bytes),
}

impl Shard {
    pub(super) fn received(&mut self, id: ConnectionId, bytes: &[u8]) {
        self.take(id, Input::Passing(bytes));
    }

    pub(super) fn filled(&mut self, id: ConnectionId, buffer: Vec<u8>) {
        self.take(id, Input::Filled(buffer));
    }

    pub(super) fn brought(&mut self, id: ConnectionId, bytes: &Bytes) {
        self.take(id, Input::Brought(bytes));
    }

    fn take(&mut self, id: ConnectionId, input: Input<'_>) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.closing {
            return;
        }
        // Small requests with a large answer, from a peer that does not read them: less is let pile
        // up while all peers together hold much.
        let pile_max =
            if self.config.budget.is_pressed() { ANSWERS_UNCOUNTED_MAX } else { ANSWERS_PILED_MAX };
        let room = pile_max.checked_sub(connection.outbound());
        // The session is out of its place while requests borrow from it.
        let mut session = std::mem::take(&mut connection.session);
        let frames = session.frames();
        let taken = match input {
            Input::Passing(bytes) => self.take_passing(id, &mut session, bytes, None, room),
            Input::Brought(bytes) => self.take_passing(id, &mut session, bytes, Some(bytes), room),
            Input::Filled(buffer) => self.take_filled(id, &mut session, buffer, room),
        };
        let expected = expected_bytes(&session, &self.config);
        let begun = self.lend(&mut session);
        if let Some(connection) = self.connections.get_mut(&id) {
            let any_whole = session.frames() != frames;
            connection.came_at_once(session.frames() - frames);
            connection.session = session;
            if connection.expected != expected {
                connection.expected = expected;
                self.out.actions.push_back(Action::Expect { connection: id, bytes: expected });
            }
            if let Some(begun) = begun {
                self.out.actions.push_back(Action::Gather { connection: id, begun });
            }
            self.unsent.insert(id);
            let (broken, departure) = match taken {
                Taken::All => (None, None),
                Taken::Broken(error) => (Some(error), None),
                Taken::Leaving(departure) => (None, Some(departure)),
            };
            self.heard(id, any_whole, broken);
            self.charge(id);
            if let Some(departure) = departure {
                self.depart(id, departure);
            }
        }
    }

    /// `owner`: what the bytes are a part of, if they may be kept without copying them.
    fn take_passing(
        &mut self,
        id: ConnectionId,
        session: &mut BrokerSession,
        mut bytes: &[u8],
        owner: Option<&Bytes>,
        room: Option<u64>,
    ) -> Taken {
        let received = bytes.as_ptr_range();
        let adopted_bytes_min = self.config.adopted_bytes_min;
        loop {
            let request = match session.next(&mut bytes) {
                Ok(Some(request)) => request,
                Ok(None) => return Taken::All,
                // It has put its refusal into the output and closed the session.
                Err(error) => return Taken::Broken(error),
            };
            let answer = if let Request::Produce { correlation, partition, batch } = request
                && batch.len() >= adopted_bytes_min
                && !received.contains(&batch.as_ptr())
            {
                let request = RequestId { connection: id, correlation };
                let bytes = batch.len();
                let batch = Batch::Staying(session.take_gathered(bytes));
                self.route_batch(request, partition, batch)
            } else {
                self.request(id, request)
            };
            if let Some((correlation, partition)) = tell(session, answer, room) {
                // However often it moves on, it is kept and counted once.
                let unread = owner.map_or_else(|| self.keep(bytes), |owner| owner.slice_ref(bytes));
                return Taken::Leaving(Departure { correlation, partition, unread });
            }
        }
    }

    /// Keeps received bytes that are not taken in now.
    fn keep(&self, bytes: &[u8]) -> Bytes {
        self.config.budget.received.hold(Bytes::copy_from_slice(bytes))
    }

    /// Memory of a large frame, for the shell to receive the rest of it into.
    fn lend(&self, session: &mut BrokerSession) -> Option<Vec<u8>> {
        // What a peer announces is not worth memory. What it has done before is, unless that is scarce.
        let scarce = self.config.budget.is_received_pressed();
        let known_bytes = if scarce { 0 } else { session.frame_bytes() };
        session.lend(self.config.expected_bytes_max + 1, known_bytes)
    }

    /// Batches stay in the buffer if little else is in it: one that is kept keeps all of it.
    fn take_filled(
        &mut self,
        id: ConnectionId,
        session: &mut BrokerSession,
        buffer: Vec<u8>,
        room: Option<u64>,
    ) -> Taken {
        if session.has_lent() {
            let behind = session.take_back(buffer);
            return self.take_passing(id, session, &behind, None, room);
        }
        let gathered = session.gather_in(buffer, self.config.expected_bytes_max + 1);
        let Err(mut buffer) = gathered else { return Taken::All };
        let is_full = buffer.len() >= buffer.capacity() / FILLED_PART_MIN;
        if !is_full || !session.repeats_in(&buffer) {
            return self.take_passing(id, session, &buffer, None, room);
        }
        // What was not filled would stay, too, and nobody counts it.
        buffer.shrink_to_fit();
        let mut buffer = BytesMut::from(Bytes::from(buffer));
        loop {
            let mut rest = &buffer[..];
            let request = match session.next(&mut rest) {
                Ok(Some(request)) => request,
                Ok(None) => return Taken::All,
                Err(error) => return Taken::Broken(error),
            };
            let end = buffer.len() - rest.len();
            let answer = if let Request::Produce { correlation, partition, batch } = request
                && buffer.as_ptr_range().contains(&batch.as_ptr())
            {
                let start = end - batch.len();
                let batch = buffer.split_to(end).split_off(start);
                let request = RequestId { connection: id, correlation };
                self.route_batch(request, partition, Batch::Staying(batch))
            } else {
                let answer = self.request(id, request);
                buffer.advance(end);
                answer
            };
            if let Some((correlation, partition)) = tell(session, answer, room) {
                let unread = self.keep(&buffer);
                return Taken::Leaving(Departure { correlation, partition, unread });
            }
        }
    }
}

/// Tells a session what came of its request. Up to `room` bytes of answers may pile up, if there is any.
/// Gives the partition that the connection leaves for, if it does.
fn tell(
    session: &mut BrokerSession,
    answer: Answer,
    room: Option<u64>,
) -> Option<(CorrelationId, PartitionId)> {
    match answer {
        Answer::Migrate(correlation, partition) => return Some((correlation, partition)),
        Answer::Later => {}
        Answer::Welcome(correlation, greeting) => session.welcome(correlation, &greeting),
        Answer::Topics(correlation, _)
            if room.is_none_or(|room| session.output_bytes() as u64 > room) =>
        {
            session.refuse(correlation, refusal(ErrorCode::OVERLOADED));
        }
        Answer::Topics(correlation, topics) => session.topics(correlation, topics),
        Answer::Done(correlation) => session.done(correlation),
        Answer::Refuse(correlation, refusal) => session.refuse(correlation, refusal),
        Answer::RefuseProduce(correlation, refusal) => {
            session.produce_refused(correlation, refusal);
        }
    }
    None
}

/// What to receive at once: the rest of the frame that has begun, and whole ones like the last. Of frames
/// that are larger than what is received at once, one. 0: they are too small for that to be worth anything, or
/// there is little memory for them.
fn expected_bytes(session: &BrokerSession, config: &ShardConfig) -> usize {
    let (frame, at_most) = (session.frame_bytes(), config.expected_bytes_max);
    if frame > at_most {
        return if config.budget.is_received_pressed() { 0 } else { frame };
    }
    let missing = session.missing_bytes().unwrap_or(0);
    if frame < config.large_frame_bytes || frame + missing > at_most {
        return 0;
    }
    missing + (at_most - missing) / frame * frame
}
