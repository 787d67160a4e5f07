//! The way from a producer to its subscribers: through a fresh broker, or through the bare relay. The
//! load generator is the same on both, on a core of its own where there is one.

use lanecast_wire::message::{Durability, StartPosition, TopicSettings};

use crate::load::{
    self, BarePublisher, BareSubscriber, Batches, Completion, Fleet, Idle, LanecastPublisher,
    LanecastSubscriber, Load, Subscription,
};
use crate::server::{Broker, Relay, dial};
use crate::{Bench, Error, Sample, Settings, cpu};

/// One producer, one partition. A batch is done when each of `subscribers` has it.
#[derive(Clone, Copy)]
pub(super) struct Route<'a> {
    pub(super) settings: &'a Settings,
    pub(super) batches: &'a Batches,
    pub(super) load: Load,
    pub(super) subscribers: usize,
}

impl Route<'_> {
    /// One run of a fresh broker of one shard, which is on the first core.
    pub(super) fn through_broker(
        &self,
        durability: Durability,
        subscription: Subscription,
    ) -> Result<Sample, Error> {
        let place = Bench::place(self.settings)?;
        let broker = Broker::start(&self.settings.program, place.path(), 1)?;
        let retention_bytes = super::RETENTION_BYTES;
        let topic = TopicSettings { durability, retention_bytes, ..TopicSettings::default() };
        let addr = broker.addr();
        let topic = load::create_topic(addr, "bench", 1, topic)?;
        let mut fleet = Fleet::of(self.batches);
        fleet.publishers.push(LanecastPublisher::connect(addr, topic, 0, 0, self.batches)?);
        for _ in 0..self.subscribers {
            let start = StartPosition::Earliest;
            let subscriber = LanecastSubscriber::connect(addr, topic, subscription, start)?;
            fleet.subscribers.push(subscriber);
        }
        let sample = self.run(fleet, &|| broker.stages("broker"))?;
        broker.stop()?;
        Ok(sample)
    }

    /// One run of the relay, on the first core.
    pub(super) fn through_relay(&self) -> Result<Sample, Error> {
        let relay = Relay::start(cpu::cores()[0], self.subscribers)?;
        let mut fleet = Fleet::of(self.batches);
        let publisher = BarePublisher::new(self.batches);
        fleet.publishers.push((dial(relay.addr())?, Box::new(publisher)));
        for _ in 0..self.subscribers {
            let subscriber = BareSubscriber::new(self.batches);
            fleet.subscribers.push((dial(relay.addr())?, Box::new(subscriber)));
        }
        self.run(fleet, &|| vec![("relay".to_owned(), relay.cpu())])
    }

    fn run(
        &self,
        fleet: Fleet,
        cpu: &dyn Fn() -> Vec<(String, std::time::Duration)>,
    ) -> Result<Sample, Error> {
        let plan = super::plan(self.settings, self.load, Completion::Delivered, Idle::Poll);
        super::on_last_core(|| load::run(&plan, fleet, cpu))
    }
}
