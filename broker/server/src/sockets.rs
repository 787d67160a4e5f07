//! The sockets of one executor, behind one epoll set.
//!
//! A turn asks the set, without waiting, which sockets are ready, reads each of those once into the
//! executor's one hot buffer, and hands the bytes to the shard while they are in the cache. Connections
//! that send large frames are read into buffers of their own, which the shard may keep. The set
//! is level-triggered: what a turn leaves unread shows up again in the next. When there is nothing
//! to do, the executor waits for the set itself to become readable (`readiness.rs`).

mod slots;

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Instant;

use bytes::Bytes;
use lanecast_core::{ConnectionId, Event, Offence};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketFlags};
use socket2::{SockRef, TcpKeepalive};
use tracing::{debug, warn};

use self::slots::Slots;
use crate::complaints::Complaints;
use crate::connection::{Connection, Phase, Written};
use crate::limits::{
    ACCEPT_PAUSE, ACCEPTS_PER_TURN, CLOSE_FLUSH_MAX, CLOSE_LINGER_MAX, CONNECTIONS_MAX,
    KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_RETRIES, LISTEN_BACKLOG, PATIENT_BYTES_MAX,
    PATIENT_MAX, RECEIVE_BUFFER_BYTES, RECEIVE_BYTES_PER_TURN, SOCKET_EVENTS_PER_TURN,
    UNACKNOWLEDGED_MAX,
};

/// What the listener is called in the epoll set; no connection ever gets this number.
const LISTENER: u64 = u64::MAX;

pub(crate) struct Sockets {
    epoll: OwnedFd,
    listener: Option<TcpListener>,
    /// Accepting is off until then: the process had run out of descriptors.
    accept_paused_until: Option<Instant>,
    slots: Slots,
    /// Connections with something to write.
    to_write: VecDeque<ConnectionId>,
    /// Connections whose answers wait for more of them.
    patient: Vec<Patient>,
    /// Looks at the set so far, and what the last one brought.
    polls: u64,
    polled_bytes: usize,
    /// Connections that the core has closed, in the order of their deadlines.
    closing: VecDeque<(Instant, ConnectionId)>,
    events: Vec<epoll::Event>,
    buffer: Box<[u8]>,
    outbound_bytes: u64,
    complaints: Complaints,
    pub(crate) counters: SocketCounters,
}

/// Since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SocketCounters {
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
}

/// Answers that wait for more, since that time and that look at the sockets.
#[derive(Clone, Copy)]
struct Patient {
    connection: ConnectionId,
    since: Instant,
    poll: u64,
}

impl Sockets {
    pub(crate) fn new(listener: TcpListener) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        let nothing = epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) };
        Ok(Sockets {
            epoll,
            listener: Some(listener),
            accept_paused_until: None,
            slots: Slots::default(),
            to_write: VecDeque::new(),
            patient: Vec::new(),
            polls: 0,
            polled_bytes: 0,
            closing: VecDeque::new(),
            events: vec![nothing; SOCKET_EVENTS_PER_TURN],
            buffer: vec![0; RECEIVE_BUFFER_BYTES].into_boxed_slice(),
            outbound_bytes: 0,
            complaints: Complaints::new(Instant::now()),
            counters: SocketCounters::default(),
        })
    }

    /// Readable when a socket is ready.
    pub(crate) fn epoll(&self) -> &OwnedFd {
        &self.epoll
    }

    /// Takes what ready sockets have, within this turn's share. True if there was anything.
    pub(crate) fn poll(&mut self, mut take: impl FnMut(Event<'_>)) -> bool {
        let mut events = std::mem::take(&mut self.events);
        let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
        let ready = match epoll::wait(&self.epoll, &mut events[..], Some(&no_wait)) {
            Ok(ready) => ready,
            Err(Errno::INTR) => 0,
            Err(errno) => panic!("epoll_wait on an epoll descriptor of our own: {errno}"),
        };
        self.polls += 1;
        let mut received = 0;
        for event in &events[..ready] {
            let (data, flags) = (event.data.u64(), event.flags);
            if data == LISTENER {
                self.accept(&mut take);
            } else if received < RECEIVE_BYTES_PER_TURN {
                received += self.serve(ConnectionId(data), flags, &mut take);
            }
        }
        self.events = events;
        self.polled_bytes = received;
        ready > 0
    }

    /// One connection's readiness. Returns the bytes received.
    fn serve(
        &mut self,
        id: ConnectionId,
        flags: EventFlags,
        take: &mut impl FnMut(Event<'_>),
    ) -> usize {
        let Some(connection) = self.slots.get_mut(id) else { return 0 };
        if flags.contains(EventFlags::OUT) {
            connection.unblock();
            self.line_up(id);
        }
        let gone = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        if !gone && !flags.contains(EventFlags::IN) {
            return 0;
        }
        let Some(connection) = self.slots.get_mut(id) else { return 0 };
        match connection.phase {
            Phase::Open if connection.reading => {}
            // The core reads nothing from it now; but a connection that is gone is gone.
            Phase::Open | Phase::Flushing(_) => {
                if gone {
                    self.remove(id, take);
                }
                return 0;
            }
            Phase::Lingering(_) => {}
        }
        let begun = connection.begun.take();
        let gathers = begun.is_some();
        let mut own = begun.unwrap_or_else(|| Vec::with_capacity(connection.expected));
        let passes = own.len() == own.capacity();
        let received = if passes {
            rustix::net::recv(&connection.socket, &mut self.buffer[..], RecvFlags::DONTWAIT)
        } else {
            let room = spare_capacity(&mut own);
            rustix::net::recv(&connection.socket, room, RecvFlags::DONTWAIT)
        };
        match received {
            Ok((_, 0)) => {
                self.remove(id, take);
                0
            }
            Ok((_, bytes)) => {
                if connection.phase == Phase::Open {
                    connection.heard_in = self.polls;
                    self.counters.received_bytes += bytes as u64;
                    take(match passes {
                        true => Event::Received { connection: id, bytes: &self.buffer[..bytes] },
                        false => Event::Filled { connection: id, buffer: own },
                    });
                }
                bytes
            }
            Err(Errno::AGAIN | Errno::INTR) => {
                connection.begun = gathers.then_some(own);
                0
            }
            Err(_) => {
                self.remove(id, take);
                0
            }
        }
    }

    fn accept(&mut self, take: &mut impl FnMut(Event<'_>)) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = &self.listener else { return };
            match rustix::net::accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(socket) => self.admit(TcpStream::from(socket), take),
                Err(Errno::AGAIN) => return,
                // The peer gave up while it waited, or the network did: the next one may be fine.
                Err(Errno::CONNABORTED | Errno::INTR | Errno::PROTO | Errno::NETDOWN) => {}
                Err(errno) => {
                    warn!(%errno, "cannot accept connections for a moment");
                    self.pause_accepting();
                    return;
                }
            }
        }
    }

    fn admit(&mut self, socket: TcpStream, take: &mut impl FnMut(Event<'_>)) {
        if self.is_full() {
            return;
        }
        let peer = match prepare(&socket) {
            Ok(peer) => peer,
            Err(error) => {
                debug!(%error, "connection gone before it was prepared");
                return;
            }
        };
        if let Some(id) = self.seat(Connection::new(socket, peer)) {
            self.counters.accepted += 1;
            take(Event::Connected { connection: id });
        }
    }

    /// Gives a connection a number, and watches it.
    fn seat(&mut self, connection: Connection) -> Option<ConnectionId> {
        let (interest, id) = (connection.interest, self.slots.put(connection));
        let socket = &self.slots.get_mut(id)?.socket;
        if let Err(errno) = epoll::add(&self.epoll, socket, EventData::new_u64(id.0), interest) {
            warn!(%errno, "cannot watch a new connection");
            self.slots.take(id);
            return None;
        }
        Some(id)
    }

    /// Lets a connection go to another executor. `None`: it is closing, or gone.
    pub(crate) fn release(&mut self, id: ConnectionId) -> Option<Connection> {
        let is_open = |connection: &mut Connection| connection.phase == Phase::Open;
        if !self.slots.get_mut(id).is_some_and(is_open) {
            return None;
        }
        let mut connection = self.vacate(id)?;
        debug_assert!(connection.begun.is_none(), "nothing was received behind the request");
        epoll::delete(&self.epoll, &connection.socket)
            .expect("a connection is in the set as long as it is open");
        connection.travel();
        Some(connection)
    }

    /// Takes in a connection that another executor has let go. `None`: there is no room for it.
    pub(crate) fn adopt(&mut self, connection: Connection) -> Option<(ConnectionId, u64)> {
        if self.is_full() {
            return None;
        }
        let outbound_bytes = connection.outbound_bytes();
        let id = self.seat(connection)?;
        self.outbound_bytes += outbound_bytes;
        if outbound_bytes > 0 {
            self.line_up(id);
        }
        Some((id, outbound_bytes))
    }

    /// Are there as many connections as there may be? Then one more is refused, and counted.
    fn is_full(&mut self) -> bool {
        let is_full = self.slots.open() >= CONNECTIONS_MAX;
        if is_full {
            self.counters.refused += 1;
            if self.counters.refused.is_power_of_two() {
                warn!(refused = self.counters.refused, "connection limit reached");
            }
        }
        is_full
    }

    fn pause_accepting(&mut self) {
        self.accept_paused_until = Some(Instant::now() + ACCEPT_PAUSE);
        self.watch_listener(EventFlags::empty());
    }

    fn watch_listener(&self, interest: EventFlags) {
        if let Some(listener) = &self.listener {
            epoll::modify(&self.epoll, listener, EventData::new_u64(LISTENER), interest)
                .expect("the listener is in the set as long as it is open");
        }
    }

    /// Accepts who has connected already, and nobody more: the kernel refuses them.
    pub(crate) fn stop_accepting(&mut self, mut take: impl FnMut(Event<'_>)) {
        // Whoever waits in the kernel's queue would be reset.
        for _ in 0..(LISTEN_BACKLOG as usize / ACCEPTS_PER_TURN) {
            let before = self.counters.accepted;
            self.accept(&mut take);
            if self.counters.accepted == before {
                break;
            }
        }
        if let Some(listener) = self.listener.take() {
            // Closing it would do as well, were the descriptor not shared with anybody.
            let removed = epoll::delete(&self.epoll, &listener);
            debug_assert!(removed.is_ok(), "the listener was in the set");
        }
    }

    /// Appends to a connection's outgoing bytes; they leave with the next [`Sockets::flush`], or with
    /// a later one if they are patient.
    pub(crate) fn send(&mut self, id: ConnectionId, buffers: Vec<Bytes>, patient: bool) {
        let Some(connection) = self.slots.get_mut(id) else { return };
        if connection.phase != Phase::Open {
            return;
        }
        let before = connection.outbound_bytes();
        let fits = connection.push(buffers);
        self.outbound_bytes += connection.outbound_bytes() - before;
        if !fits {
            warn!(connection = id.0, "cut off: its outgoing bytes passed the limit");
            self.cut_off(id);
            return;
        }
        if patient && (connection.in_line || connection.is_patient) {
            return;
        }
        // They are to be answers to what has come just now: others have waited already.
        if patient && connection.heard_in == self.polls && connection.tries_patience() {
            connection.is_patient = true;
            let (since, poll) = (Instant::now(), self.polls);
            self.patient.push(Patient { connection: id, since, poll });
        } else {
            self.line_up(id);
        }
    }

    pub(crate) fn set_reading(&mut self, id: ConnectionId, on: bool) {
        if let Some(connection) = self.slots.get_mut(id) {
            connection.reading = on;
            watch(&self.epoll, id, connection);
        }
    }

    pub(crate) fn expect(&mut self, id: ConnectionId, bytes: usize) {
        if let Some(connection) = self.slots.get_mut(id) {
            connection.expected = bytes;
        }
    }

    /// The next bytes of this connection go behind what is in `begun`.
    pub(crate) fn gather(&mut self, id: ConnectionId, begun: Vec<u8>) {
        debug_assert!(begun.len() < begun.capacity(), "there is room to receive into");
        if let Some(connection) = self.slots.get_mut(id)
            && connection.phase == Phase::Open
        {
            connection.begun = Some(begun);
        }
    }

    /// Closes once what was queued before is written.
    pub(crate) fn close(&mut self, id: ConnectionId) {
        let Some(connection) = self.slots.get_mut(id) else { return };
        if connection.phase == Phase::Open {
            let deadline = Instant::now() + CLOSE_FLUSH_MAX;
            connection.phase = Phase::Flushing(deadline);
            connection.begun = None;
            self.closing.push_back((deadline, id));
            watch(&self.epoll, id, connection);
            self.line_up(id);
        }
    }

    /// Ends a connection that the core lets go for cause, with what was queued before or without.
    pub(crate) fn expel(&mut self, id: ConnectionId, offence: Offence, client: &str, detail: &str) {
        let Some(connection) = self.slots.get_mut(id) else { return };
        let peer = connection.peer.to_string();
        self.complaints.complain(Instant::now(), &peer, client, offence, detail);
        if offence.is_cut_off() {
            self.cut_off(id);
        } else {
            self.close(id);
        }
    }

    /// Ends a connection at once; what was queued is dropped.
    fn cut_off(&mut self, id: ConnectionId) {
        let Some(connection) = self.slots.get_mut(id) else { return };
        self.outbound_bytes -= connection.drop_outbound();
        let at_once = Instant::now();
        connection.phase = Phase::Flushing(at_once);
        connection.begun = None;
        self.closing.push_back((at_once, id));
    }

    /// Closes every connection as [`Sockets::close`] does.
    pub(crate) fn close_all(&mut self) {
        for id in self.slots.ids() {
            self.close(id);
        }
    }

    /// Answers that have waited for long enough, or that other things go out with.
    fn end_patience(&mut self, now: Instant) {
        let is_quiet = self.polled_bytes <= PATIENT_BYTES_MAX;
        let mut patient = std::mem::take(&mut self.patient);
        patient.retain(|it| {
            let Some(connection) = self.slots.get_mut(it.connection) else {
                return false;
            };
            let is_young = now.saturating_duration_since(it.since) < PATIENT_MAX;
            connection.is_patient = is_quiet && is_young && !connection.in_line;
            if connection.is_patient {
                return true;
            }
            connection.has_waited(connection.heard_in > it.poll);
            if !connection.in_line {
                connection.in_line = true;
                self.to_write.push_back(it.connection);
            }
            false
        });
        self.patient = patient;
    }

    /// Are there answers that wait for more? They are to be written soon.
    pub(crate) fn is_patient(&self) -> bool {
        !self.patient.is_empty()
    }

    /// Writes to every connection that has something to write and a socket that takes it.
    pub(crate) fn flush(&mut self, now: Instant, mut take: impl FnMut(Event<'_>)) {
        if !self.patient.is_empty() {
            self.end_patience(now);
        }
        for _ in 0..self.to_write.len() {
            let Some(id) = self.to_write.pop_front() else { return };
            let Some(connection) = self.slots.get_mut(id) else { continue };
            connection.in_line = false;
            let (bytes, written) = connection.write();
            let phase = connection.phase;
            watch(&self.epoll, id, connection);
            if bytes > 0 {
                self.outbound_bytes -= bytes;
                self.counters.sent_bytes += bytes;
                if phase == Phase::Open {
                    take(Event::Sent { connection: id, bytes });
                }
            }
            match written {
                Written::All => match phase {
                    Phase::Open | Phase::Lingering(_) => {}
                    Phase::Flushing(_) => self.linger(id, &mut take),
                },
                Written::Blocked => {}
                Written::More => self.line_up(id),
                Written::Failed => self.remove(id, &mut take),
            }
        }
    }

    /// All is written: says so to the peer, and to the core that the connection is over.
    fn linger(&mut self, id: ConnectionId, take: &mut impl FnMut(Event<'_>)) {
        let Some(connection) = self.slots.get_mut(id) else { return };
        if rustix::net::shutdown(&connection.socket, rustix::net::Shutdown::Write).is_err() {
            self.remove(id, take);
            return;
        }
        let deadline = Instant::now() + CLOSE_LINGER_MAX;
        connection.phase = Phase::Lingering(deadline);
        watch(&self.epoll, id, connection);
        // Deadlines may now stand out of order by a few seconds; the sweep looks at each.
        self.closing.push_back((deadline, id));
        take(Event::Disconnected { connection: id });
    }

    /// Does what has become due by itself. Cheap when nothing is closing.
    pub(crate) fn sweep(&mut self, now: Instant, mut take: impl FnMut(Event<'_>)) {
        if self.accept_paused_until.is_some_and(|until| until <= now) {
            self.accept_paused_until = None;
            self.watch_listener(EventFlags::IN);
        }
        for _ in 0..self.closing.len() {
            let Some((deadline, id)) = self.closing.pop_front() else { break };
            let Some(connection) = self.slots.get_mut(id) else { continue };
            match connection.phase {
                // An older entry of a connection that has come further since.
                Phase::Lingering(until) | Phase::Flushing(until) if until != deadline => {}
                Phase::Lingering(_) | Phase::Flushing(_) if deadline <= now => {
                    self.remove(id, &mut take);
                }
                Phase::Lingering(_) | Phase::Flushing(_) => self.closing.push_back((deadline, id)),
                Phase::Open => {}
            }
        }
    }

    /// When [`Sockets::sweep`] may have something to do.
    pub(crate) fn sweep_at(&self) -> Option<Instant> {
        let closing = self.closing.iter().map(|(deadline, _)| *deadline).min();
        closing.into_iter().chain(self.accept_paused_until).min()
    }

    /// The connection is gone. The core hears of it, unless it was told when lingering began.
    fn remove(&mut self, id: ConnectionId, take: &mut impl FnMut(Event<'_>)) {
        let Some(connection) = self.vacate(id) else { return };
        match connection.phase {
            Phase::Open | Phase::Flushing(_) => take(Event::Disconnected { connection: id }),
            Phase::Lingering(_) => {}
        }
    }

    fn vacate(&mut self, id: ConnectionId) -> Option<Connection> {
        let connection = self.slots.take(id)?;
        self.outbound_bytes -= connection.outbound_bytes();
        Some(connection)
    }

    /// Can [`Sockets::flush`] do something now?
    pub(crate) fn has_to_write(&self) -> bool {
        !self.to_write.is_empty()
    }

    /// Bytes that the core sent and no socket has taken yet.
    pub(crate) fn outbound_bytes(&self) -> u64 {
        self.outbound_bytes
    }

    pub(crate) fn open(&self) -> usize {
        self.slots.open()
    }

    fn line_up(&mut self, id: ConnectionId) {
        let Some(connection) = self.slots.get_mut(id) else { return };
        if !connection.in_line {
            connection.in_line = true;
            self.to_write.push_back(id);
        }
    }
}

/// Tells epoll what it does not know yet.
fn watch(epoll: &OwnedFd, id: ConnectionId, connection: &mut Connection) {
    let wanted = connection.wanted();
    if wanted != connection.interest {
        connection.interest = wanted;
        epoll::modify(epoll, &connection.socket, EventData::new_u64(id.0), wanted)
            .expect("a connection is in the set as long as it is open");
    }
}

/// No delay; peers that are gone without a word are noticed; and for peers on this machine a congestion control that does not pace, since pacing
/// (bbr) holds loopback to a sixth of its speed.
fn prepare(socket: &TcpStream) -> io::Result<SocketAddr> {
    socket.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    SockRef::from(socket).set_tcp_keepalive(&keepalive)?;
    let timeout_ms = UNACKNOWLEDGED_MAX.as_millis() as u32;
    rustix::net::sockopt::set_tcp_user_timeout(socket, timeout_ms)?;
    let peer = socket.peer_addr()?;
    if peer.ip().to_canonical().is_loopback() {
        let cubic = rustix::net::sockopt::set_tcp_congestion(socket, "cubic");
        // Cubic may be missing from a kernel; reno never is. If even that fails, it is just slow.
        if cubic.is_err() && rustix::net::sockopt::set_tcp_congestion(socket, "reno").is_err() {
            debug!("cannot choose the congestion control of a loopback connection");
        }
    }
    Ok(peer)
}

#[cfg(test)]
mod tests;
