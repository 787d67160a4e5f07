//! Contenders that take the same load: Lanecast, and its peers.
//!
//! The load generator is one thread that sleeps when it has nothing to do, on the last core; servers
//! may use every core, as they were made to. Brokers of one shard stay on the first.

use std::path::Path;

use lanecast_wire::message::{Durability, StartPosition, TopicSettings};

use super::promise;
use crate::load::{
    self, Batches, Completion, Fleet, Idle, LanecastPublisher, LanecastSubscriber, Load,
    Subscription,
};
use crate::peer::iggy::{self, Asked, Iggy};
use crate::peer::nats::{self, Nats};
use crate::peer::rabbitmq::{self, RabbitMq};
use crate::peer::redis::{self, Redis};
use crate::peer::{Payload, Peer, Safety};
use crate::server::Broker;
use crate::{Bench, Contender, Error, Role, Sample, Settings};

/// Shards that Lanecast is measured with where producers are many: the broker on a core of its own, and on
/// all of this class of machine, which it then shares with the load generator.
pub(super) const SHARDS: [usize; 2] = [1, 2];

/// A load that every system can take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// That publish. One more reads everything, if batches are done when they are delivered.
    pub(super) connections: u32,
    /// Of a batch.
    pub(super) records: u32,
    pub(super) record_bytes: usize,
    pub(super) load: Load,
    pub(super) completion: Completion,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'a> {
    pub(super) settings: &'a Settings,
    pub(super) shape: Shape,
}

/// A topic has a partition per shard; producers are spread over them.
pub(super) fn lanecast(ask: Ask<'_>, durability: Durability, shards: usize) -> Contender<'_> {
    let name = match shards {
        1 => "lanecast".to_owned(),
        more => format!("lanecast, {more} shards"),
    };
    Contender::new(&name, Role::Lanecast, promise::meaning(durability), move || {
        let Ask { settings, shape } = ask;
        let batches = Batches::generic(shape.records, shape.record_bytes)?;
        let place = Bench::place(settings)?;
        let broker = Broker::start(&settings.program, place.path(), shards)?;
        let addr = broker.addr();
        let retention_bytes = super::RETENTION_BYTES;
        let topic = TopicSettings { durability, retention_bytes, ..TopicSettings::default() };
        let partitions = u32::try_from(shards).expect("shards are few");
        let topic = load::create_topic(addr, "bench", partitions, topic)?;
        let mut fleet = Fleet::of(&batches);
        for number in 0..shape.connections {
            let partition = number % partitions;
            let producer = u64::from(number);
            let connected = LanecastPublisher::connect(addr, topic, partition, producer, &batches)?;
            fleet.publishers.push(connected);
        }
        if shape.completion == Completion::Delivered {
            let (all, start) = (Subscription::Broadcast, StartPosition::Earliest);
            fleet.subscribers.push(LanecastSubscriber::connect(addr, topic, all, start)?);
        }
        let sample = ask.run(fleet, &|| broker.stages("server"))?;
        broker.stop()?;
        Ok(sample)
    })
}

pub(super) fn redis(ask: Ask<'_>, durability: Durability) -> Contender<'_> {
    let safety = safety(durability);
    let name = match safety {
        Safety::Memory => "redis",
        Safety::File => "redis everysec",
        Safety::Fsync => "redis always",
    };
    Contender::new(name, Role::Peer, redis::meaning(safety), move || {
        ask.peer(|programs, folder| Ok(Box::new(Redis::start(programs, folder, safety)?)))
    })
}

pub(super) fn nats(ask: Ask<'_>, durability: Durability) -> Contender<'_> {
    let safety = safety(durability);
    let name = match safety {
        Safety::Memory => "nats memory",
        Safety::File => "nats file",
        Safety::Fsync => "nats sync always",
    };
    Contender::new(name, Role::Peer, nats::meaning(safety), move || {
        ask.peer(|programs, folder| Ok(Box::new(Nats::start(programs, folder, safety)?)))
    })
}

/// `None` where records have to be flushed, which streams never are.
pub(super) fn rabbitmq(ask: Ask<'_>, durability: Durability) -> Option<Contender<'_>> {
    let meaning = rabbitmq::meaning(safety(durability))?;
    Some(Contender::new("rabbitmq streams", Role::Peer, meaning, move || {
        ask.peer(|programs, folder| Ok(Box::new(RabbitMq::start(programs, folder)?)))
    }))
}

/// Loaded by its own tool.
pub(super) fn iggy(ask: Ask<'_>, durability: Durability) -> Contender<'_> {
    let safety = safety(durability);
    Contender::new("iggy", Role::Peer, iggy::meaning(safety), move || {
        let Ask { settings, shape } = ask;
        let place = Bench::place(settings)?;
        let iggy = Iggy::start(settings.peers.as_deref(), place.path(), safety)?;
        let asked = Asked {
            producers: shape.connections,
            records: shape.records,
            record_bytes: Payload::new(shape.record_bytes)?.bytes().len(),
            consume: shape.completion == Completion::Delivered,
            warmup: settings.warmup,
            duration: settings.duration,
        };
        iggy.measure(asked)
    })
}

impl Ask<'_> {
    /// One run of a peer, from a fresh start.
    fn peer(
        self,
        start: impl FnOnce(Option<&Path>, &Path) -> Result<Box<dyn Peer>, Error>,
    ) -> Result<Sample, Error> {
        let Self { settings, shape } = self;
        let payload = Payload::new(shape.record_bytes)?;
        let place = Bench::place(settings)?;
        let peer = start(settings.peers.as_deref(), place.path())?;
        // A batch counts for what it has at Lanecast, so that bytes compare as records do.
        let mut fleet = Fleet::of(&Batches::generic(shape.records, shape.record_bytes)?);
        for number in 0..shape.connections {
            fleet.publishers.push(peer.publisher(number, shape.records, &payload)?);
        }
        if shape.completion == Completion::Delivered {
            fleet.subscribers.push(peer.subscriber()?);
        }
        let sample = self.run(fleet, &|| peer.stages())?;
        peer.stop()?;
        Ok(sample)
    }

    fn run(
        self,
        fleet: Fleet,
        cpu: &dyn Fn() -> Vec<(String, std::time::Duration)>,
    ) -> Result<Sample, Error> {
        let Shape { load, completion, .. } = self.shape;
        let plan = super::plan(self.settings, load, completion, Idle::Sleep);
        super::on_last_core(|| load::run(&plan, fleet, cpu))
    }
}

/// What a peer has that comes nearest to a promise of Lanecast.
fn safety(durability: Durability) -> Safety {
    match durability {
        Durability::Memory => Safety::Memory,
        Durability::Written => Safety::File,
        Durability::Fsync => Safety::Fsync,
    }
}
