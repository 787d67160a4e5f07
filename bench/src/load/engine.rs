//! The loop: due batches out, what has come in, and when each batch was due.

mod ends;
mod tally;

use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

use super::line::Line;
use super::{BatchName, Completion, Fleet, Idle, Load, Plan};
use crate::limits::{
    BATCHES_PER_TURN, BATCHES_REMEMBERED, DRAIN_MAX, RECEIVE_BYTES, SOCKET_EVENTS_MAX,
};
use crate::{Error, Latencies, Sample};
use ends::{Inlet, Outlet};
use tally::{Interval, Tally};

/// Runs `plan` over `fleet`. `cpu` is asked where the counted time begins and ends; the client's own
/// CPU time is added to it.
///
/// # Errors
/// A system refuses, breaks its protocol or closes a connection; or nothing was done at all.
pub fn run(
    plan: &Plan,
    fleet: Fleet,
    cpu: &dyn Fn() -> Vec<(String, Duration)>,
) -> Result<Sample, Error> {
    run_until_drained(plan, fleet, cpu, None, DRAIN_MAX)
}

/// As [`run`], and tells after each interval of the counted time what it has brought.
///
/// # Errors
/// As [`run`].
pub fn run_observed<'a>(
    plan: &'a Plan,
    fleet: Fleet,
    cpu: &dyn Fn() -> Vec<(String, Duration)>,
    pulse: Pulse<'a>,
) -> Result<Sample, Error> {
    run_until_drained(plan, fleet, cpu, Some(pulse), DRAIN_MAX)
}

/// Whom to tell how it goes, and how often.
pub struct Pulse<'a> {
    pub every: Duration,
    /// Gets a sample without CPU times, and says whether to go on.
    pub tell: &'a mut dyn FnMut(Sample) -> ControlFlow<()>,
}

fn run_until_drained<'a>(
    plan: &'a Plan,
    fleet: Fleet,
    cpu: &dyn Fn() -> Vec<(String, Duration)>,
    pulse: Option<Pulse<'a>>,
    drain_at_most: Duration,
) -> Result<Sample, Error> {
    let mut engine = Engine::new(plan, fleet, pulse)?;
    engine.turn_until_over(cpu, drain_at_most)?;
    engine.finish()
}

struct Engine<'a> {
    plan: &'a Plan,
    batch_records: u64,
    batch_bytes: u64,
    outlets: Vec<Outlet>,
    inlets: Vec<Inlet>,
    epoll: OwnedFd,
    start: Instant,
    /// Batches sent in all; an open loop's schedule counts by it.
    sent: u64,
    next_outlet: usize,
    tally: Tally,
    pulse: Option<Pulse<'a>>,
    cpu_before: Vec<(String, Duration)>,
    cpu_after: Vec<(String, Duration)>,
    counted: Duration,
}

impl<'a> Engine<'a> {
    fn new(plan: &'a Plan, fleet: Fleet, pulse: Option<Pulse<'a>>) -> Result<Self, Error> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)
            .map_err(|errno| Error::io("making an epoll set")(errno.into()))?;
        let remembered = match plan.load {
            Load::Closed { in_flight } => in_flight.max(1) as usize,
            Load::Open { .. } => BATCHES_REMEMBERED / fleet.publishers.len().max(1),
        };
        let subscribers = fleet.subscribers.len();
        let mut outlets = Vec::new();
        for (index, (socket, publisher)) in fleet.publishers.into_iter().enumerate() {
            let line = Line::new(socket)?;
            watch(&epoll, &line, index as u64, Watch::New)?;
            let (due_ns, delivered) = (vec![0; remembered], vec![0; subscribers]);
            let (sent, acknowledged) = (0, 0);
            outlets.push(Outlet { line, publisher, due_ns, sent, acknowledged, delivered });
        }
        let mut inlets = Vec::new();
        for (index, (socket, subscriber)) in fleet.subscribers.into_iter().enumerate() {
            let line = Line::new(socket)?;
            watch(&epoll, &line, (outlets.len() + index) as u64, Watch::New)?;
            inlets.push(Inlet { line, subscriber });
        }
        let from_ns = plan.warmup.as_nanos() as u64;
        let to_ns = from_ns + plan.duration.as_nanos() as u64;
        Ok(Engine {
            plan,
            batch_records: fleet.batch_records,
            batch_bytes: fleet.batch_bytes,
            outlets,
            inlets,
            epoll,
            start: Instant::now(),
            sent: 0,
            next_outlet: 0,
            tally: Tally {
                from_ns,
                to_ns,
                done: 0,
                latencies: Latencies::default(),
                interval: pulse.is_some().then(|| Interval { from_ns, ..Interval::default() }),
            },
            pulse,
            cpu_before: Vec::new(),
            cpu_after: Vec::new(),
            counted: Duration::ZERO,
        })
    }

    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn turn_until_over(
        &mut self,
        cpu: &dyn Fn() -> Vec<(String, Duration)>,
        drain_at_most: Duration,
    ) -> Result<(), Error> {
        let mut buffer = vec![0; RECEIVE_BYTES];
        let with_client = || {
            let mut stages = cpu();
            stages.push(("client".to_owned(), crate::cpu::of_this_thread()));
            stages
        };
        self.start = Instant::now();
        let drain_ns = drain_at_most.as_nanos() as u64;
        loop {
            let now_ns = self.now_ns();
            if self.cpu_before.is_empty() && now_ns >= self.tally.from_ns {
                self.cpu_before = with_client();
            }
            self.tell(now_ns);
            self.publish(now_ns);
            if now_ns >= self.tally.to_ns {
                if self.cpu_after.is_empty() {
                    self.cpu_after = with_client();
                    self.counted = Duration::from_nanos(now_ns - self.tally.from_ns);
                }
                if self.is_drained() || now_ns >= self.tally.to_ns + drain_ns {
                    return Ok(());
                }
            }
            self.flush()?;
            self.take(&mut buffer)?;
        }
    }

    /// Tells of an interval that is over.
    fn tell(&mut self, now_ns: u64) {
        let times = self.times();
        let (Some(pulse), Some(interval)) = (&mut self.pulse, &mut self.tally.interval) else {
            return;
        };
        let to_ns = interval.from_ns + pulse.every.as_nanos() as u64;
        if now_ns < to_ns || to_ns > self.tally.to_ns {
            return;
        }
        let over = std::mem::replace(interval, Interval { from_ns: now_ns, ..Interval::default() });
        let batches = over.done / times;
        let told = (pulse.tell)(Sample {
            records: batches * self.batch_records,
            bytes: batches * self.batch_bytes,
            elapsed: Duration::from_nanos(now_ns - over.from_ns),
            latencies: over.latencies,
            cpu: Vec::new(),
        });
        if told.is_break() {
            self.tally.to_ns = now_ns;
        }
    }

    /// How often a batch is done: by every subscriber, or once.
    fn times(&self) -> u64 {
        match self.plan.completion {
            Completion::Acknowledged => 1,
            Completion::Delivered => self.inlets.len().max(1) as u64,
        }
    }

    /// Everything that is due, within each connection's window and turn. What was due before the end is
    /// sent even after it, if it could not be sent in time.
    fn publish(&mut self, now_ns: u64) {
        match self.plan.load {
            Load::Closed { .. } if now_ns >= self.tally.to_ns => {}
            Load::Closed { .. } => {
                for outlet in &mut self.outlets {
                    for _ in 0..BATCHES_PER_TURN {
                        if !outlet.has_room(self.plan.completion) {
                            break;
                        }
                        outlet.publish(now_ns);
                    }
                }
            }
            Load::Open { batches_per_second } => {
                for _ in 0..BATCHES_PER_TURN * self.outlets.len() as u32 {
                    let due_ns = due_ns(self.sent, batches_per_second);
                    if due_ns > now_ns || due_ns >= self.tally.to_ns {
                        return;
                    }
                    let outlet = &mut self.outlets[self.next_outlet];
                    if !outlet.has_room(self.plan.completion) {
                        // Late from here on, and counted as late.
                        return;
                    }
                    outlet.publish(due_ns);
                    self.next_outlet = (self.next_outlet + 1) % self.outlets.len();
                    self.sent += 1;
                }
            }
        }
    }

    fn flush(&mut self) -> Result<(), Error> {
        let outlets = self.outlets.iter_mut().map(|outlet| &mut outlet.line);
        let lines = outlets.chain(self.inlets.iter_mut().map(|inlet| &mut inlet.line));
        for (number, line) in lines.enumerate() {
            if !line.blocked && !line.out.is_empty() {
                line.flush()?;
                if line.blocked {
                    watch(&self.epoll, line, number as u64, Watch::Changed)?;
                }
            }
        }
        Ok(())
    }

    /// Receives from every connection that has something.
    fn take(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        let nothing = epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) };
        let mut events = [nothing; SOCKET_EVENTS_MAX];
        let timeout = self.wait_at_most();
        let ready = match epoll::wait(&self.epoll, &mut events[..], Some(&timeout)) {
            Ok(ready) => ready,
            Err(Errno::INTR) => 0,
            Err(errno) => return Err(Error::io("waiting for sockets")(errno.into())),
        };
        for event in &events[..ready] {
            let (index, flags) = (event.data.u64() as usize, event.flags);
            let count = self.outlets.len();
            let line = match self.outlets.get_mut(index) {
                Some(outlet) => &mut outlet.line,
                None => &mut self.inlets[index - count].line,
            };
            if flags.contains(EventFlags::OUT) {
                line.blocked = false;
                watch(&self.epoll, line, index as u64, Watch::Changed)?;
            }
            let gone = flags.intersects(EventFlags::HUP | EventFlags::ERR);
            if gone || flags.contains(EventFlags::IN) {
                let Some(bytes) = line.receive(buffer)? else { continue };
                if index < count {
                    self.acknowledged(index, &buffer[..bytes])?;
                } else {
                    self.delivered(index - count, &buffer[..bytes])?;
                }
            }
        }
        Ok(())
    }

    fn acknowledged(&mut self, index: usize, bytes: &[u8]) -> Result<(), Error> {
        let outlet = &mut self.outlets[index];
        let batches = u64::from(outlet.publisher.receive(bytes, &mut outlet.line.out)?);
        let now_ns = self.start.elapsed().as_nanos() as u64;
        if self.plan.completion == Completion::Acknowledged {
            for number in outlet.acknowledged..outlet.acknowledged + batches {
                self.tally.latency(outlet.due_of(number), now_ns);
            }
            self.tally.done(now_ns, batches);
        }
        outlet.acknowledged += batches;
        Ok(())
    }

    fn delivered(&mut self, index: usize, bytes: &[u8]) -> Result<(), Error> {
        let Self { plan, outlets, inlets, tally, start, .. } = self;
        let Inlet { line, subscriber } = &mut inlets[index];
        let now_ns = start.elapsed().as_nanos() as u64;
        subscriber.receive(bytes, &mut line.out, &mut |BatchName { publisher, number }| {
            let Some(outlet) = outlets.get_mut(publisher as usize) else { return };
            outlet.delivered[index] += 1;
            if plan.completion == Completion::Delivered {
                tally.latency(outlet.due_of(number), now_ns);
                tally.done(now_ns, 1);
            }
        })
    }

    /// Until the next batch is due, or an answer comes.
    fn wait_at_most(&self) -> Timespec {
        let blocked = |line: &Line| line.blocked || line.out.is_empty();
        let busy = self.plan.idle == Idle::Poll
            || !self.outlets.iter().all(|outlet| blocked(&outlet.line))
            || !self.inlets.iter().all(|inlet| blocked(&inlet.line));
        let wait = match self.plan.load {
            _ if busy => Duration::ZERO,
            // Whatever may be sent was sent: an answer makes room for more.
            Load::Closed { .. } => Duration::from_millis(1),
            Load::Open { batches_per_second } => {
                let due_ns = due_ns(self.sent, batches_per_second);
                Duration::from_nanos(due_ns.saturating_sub(self.now_ns()))
                    .min(Duration::from_millis(1))
            }
        };
        Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) }
    }

    /// Nothing is under way, and nothing that was due waits to be sent.
    fn is_drained(&self) -> bool {
        let all_sent = match self.plan.load {
            Load::Closed { .. } => true,
            Load::Open { batches_per_second } => {
                due_ns(self.sent, batches_per_second) >= self.tally.to_ns
            }
        };
        all_sent
            && self.outlets.iter().all(|outlet| outlet.done(self.plan.completion) == outlet.sent)
    }

    fn finish(mut self) -> Result<Sample, Error> {
        // What never came is as late as the end of the run, at least.
        let now_ns = self.now_ns();
        for outlet in &self.outlets {
            for number in outlet.done(self.plan.completion)..outlet.sent {
                self.tally.latency(outlet.due_of(number), now_ns);
            }
        }
        if let Load::Open { batches_per_second } = self.plan.load {
            // Nor was this even sent.
            let due = (self.sent..).map(|number| due_ns(number, batches_per_second));
            let to_ns = self.tally.to_ns;
            for due_ns in due.take_while(|due_ns| *due_ns < to_ns) {
                self.tally.latency(due_ns, now_ns);
            }
        }
        let batches = self.tally.done / self.times();
        if batches == 0 {
            let detail = "did not finish a single batch in the time that was counted".to_owned();
            return Err(Error::Server { system: "the system".to_owned(), detail });
        }
        let before = self.cpu_before.into_iter().zip(self.cpu_after);
        let cpu = before.map(|((stage, from), (_, to))| (stage, to.saturating_sub(from)));
        Ok(Sample {
            records: batches * self.batch_records,
            bytes: batches * self.batch_bytes,
            elapsed: self.counted,
            latencies: self.tally.latencies,
            cpu: cpu.collect(),
        })
    }
}

/// When an open loop's batch with this number is due, since the start.
fn due_ns(number: u64, batches_per_second: f64) -> u64 {
    (number as f64 * 1e9 / batches_per_second) as u64
}

/// Is the connection watched for room to write?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Watch {
    New,
    Changed,
}

fn watch(epoll: &OwnedFd, line: &Line, number: u64, watch: Watch) -> Result<(), Error> {
    let mut interest = EventFlags::IN;
    interest.set(EventFlags::OUT, line.blocked);
    let data = EventData::new_u64(number);
    match watch {
        Watch::New => epoll::add(epoll, &line.socket, data, interest),
        Watch::Changed => epoll::modify(epoll, &line.socket, data, interest),
    }
    .map_err(|errno| Error::io("watching a socket")(errno.into()))
}

#[cfg(test)]
mod tests;
