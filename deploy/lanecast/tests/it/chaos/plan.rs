//! What a round does, drawn from its seed and from nothing else.

use std::fmt;

/// A shard needs a core.
const SHARDS_MAX: u64 = 2;

/// A process of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Role {
    Broker,
    ClickHouse,
    Consumer(usize),
    Producer(usize),
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::Broker => f.write_str("broker"),
            Role::ClickHouse => f.write_str("clickhouse"),
            Role::Consumer(number) => write!(f, "consumer{number}"),
            Role::Producer(number) => write!(f, "producer{number}"),
        }
    }
}

/// Who speaks with whom, through a proxy of the round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Link {
    /// Producers to broker.
    Produce,
    /// Consumers to broker.
    Consume,
    /// Consumers to ClickHouse.
    Store,
}

/// What a proxy does to the next connection that comes to the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Both sides are closed once that many bytes of a request's body (an INSERT's, or a client's
    /// frames) were passed on.
    CutInBody { bytes: u64, reset: bool },
    /// The writing side to the server is closed in the middle of the body; the answer is passed on.
    HalfClose { bytes: u64 },
    /// Both sides are closed as soon as all of the body was passed on.
    CutAfterBody,
    /// The server's answer is thrown away and both sides are closed.
    LoseAnswer { reset: bool },
    /// Half of the answer is passed on, then both sides are closed.
    HalfAnswer,
    /// The answer is passed on later.
    LateAnswer { ms: u64 },
    /// Nothing is passed on any more, in either direction, and nobody is told, for that long. Then
    /// both sides are reset.
    BlackHole { bytes: u64, ms: u64 },
    /// All connections of the link are reset at once.
    ResetAll,
}

/// One thing that is done to a round, at a time after its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// SIGKILL.
    Kill(Role),
    /// SIGTERM: the process drains and leaves.
    Leave(Role),
    /// Starts the process unless it runs.
    Start(Role),
    /// SIGSTOP and SIGCONT.
    Freeze(Role),
    Thaw(Role),
    /// From the next start on, the broker has that many shards.
    Shards(u16),
    Trouble(Link, Trouble),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) at_ms: u64,
    pub(super) deed: Deed,
    /// Which fault this belongs to, for the summary; only its first step names it.
    pub(super) fault: Option<&'static str>,
}

/// A round: sizes, settings, and what happens when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) rows: u64,
    /// How long the producers take for them if nothing hinders them.
    pub(super) load_ms: u64,
    pub(super) producers: usize,
    pub(super) consumers: usize,
    pub(super) partitions: u32,
    pub(super) shards: u16,
    pub(super) segment_kib: u32,
    pub(super) durability: &'static str,
    pub(super) lease_s: u64,
    pub(super) chunk_records: u32,
    pub(super) chunk_linger_ms: u64,
    pub(super) insert_timeout_s: u64,
    pub(super) batch_records: u32,
    /// Rows that a producer pushes between two looks at what is acknowledged.
    pub(super) block_rows: u64,
    pub(super) gpus: u32,
    pub(super) metrics: u32,
    /// Days that the rows' times spread over: partitions of the raw table, so parts of an INSERT.
    pub(super) days: u32,
    /// One in so many rows is unfit for ClickHouse and has to become a dead letter; 0: none.
    pub(super) unfit: u64,
    /// ClickHouse is killed so long after the consumers' start: while they make the tables, or before,
    /// or just after.
    pub(super) kill_store_at_start_ms: Option<u64>,
    /// ClickHouse is killed once more after everything was acknowledged.
    pub(super) kill_store_at_the_end: bool,
    pub(super) steps: Vec<Step>,
}

impl Plan {
    pub(super) fn draw(seed: u64) -> Self {
        let dice = &mut Dice::new(seed);
        let producers = dice.within(1, 3) as usize;
        let consumers = dice.within(1, 3) as usize;
        let lease_s = dice.within(2, 4);
        let load_ms = dice.within(4_000, 8_000);
        let mut plan = Self {
            seed,
            rows: dice.within(100, 400) * 1_000,
            load_ms,
            producers,
            consumers,
            partitions: dice.within(1, 6) as u32,
            shards: dice.within(1, SHARDS_MAX) as u16,
            segment_kib: dice.of(&[2048, 4096, 16_384]),
            durability: dice.of(&["fsync", "fsync", "written"]),
            lease_s,
            chunk_records: dice.of(&[2_000, 10_000, 20_000, 50_000]),
            chunk_linger_ms: dice.within(150, 900),
            // Above what an insert takes on a busy machine: one that is never answered in time never
            // gets through.
            insert_timeout_s: dice.within(10, 20),
            batch_records: dice.of(&[50, 500, 2_000, 16_000]),
            block_rows: dice.of(&[300, 2_000, 10_000]),
            gpus: dice.of(&[8, 64, 248]),
            metrics: dice.within(1, 12) as u32,
            days: dice.within(1, 3) as u32,
            kill_store_at_start_ms: dice.one_in(3).then(|| dice.within(0, 1_500)),
            kill_store_at_the_end: dice.one_in(2),
            unfit: 0,
            steps: Vec::new(),
        };
        for _ in 0..dice.within(3, 8) {
            plan.fault(dice);
        }
        plan.steps.sort_by_key(|step| step.at_ms);
        // Every second one: more stretches of unfit rows in a chunk than are terminated at a time.
        plan.unfit = dice.of(&[0, 2, 40, 1_000]);
        plan
    }

    pub(super) fn roles(&self) -> Vec<Role> {
        let clients = (0..self.consumers).map(Role::Consumer);
        [Role::Broker, Role::ClickHouse]
            .into_iter()
            .chain(clients)
            .chain((0..self.producers).map(Role::Producer))
            .collect()
    }

    fn add(&mut self, fault: Option<&'static str>, at_ms: u64, deed: Deed) {
        self.steps.push(Step { at_ms, deed, fault });
    }

    fn fault(&mut self, dice: &mut Dice) {
        // The first rows flow before the first fault; the last faults meet the backlog.
        let at_ms = dice.within(300, self.load_ms + 1_000);
        match dice.within(0, 10) {
            0..=3 => self.kills(dice, at_ms),
            4..=5 => self.freeze(dice, at_ms),
            6 => self.change_places(dice, at_ms),
            7 => self.restart(dice, at_ms),
            8..=9 => self.trouble(dice, at_ms),
            _ => {
                for _ in 0..dice.within(2, 5) {
                    let at_ms = at_ms + dice.within(0, 1_500);
                    self.trouble(dice, at_ms);
                }
            }
        }
    }

    /// One process, two of them, or all at once; perhaps again while they recover.
    fn kills(&mut self, dice: &mut Dice, at_ms: u64) {
        let mut victims = self.roles();
        dice.shuffle(&mut victims);
        let name = match dice.within(0, 7) {
            0 => "kill of all at once",
            1..=3 => {
                victims.truncate(2);
                "kill of two at once"
            }
            _ => {
                victims.truncate(1);
                match victims[0] {
                    Role::Broker => "kill of the broker",
                    Role::ClickHouse => "kill of ClickHouse",
                    Role::Consumer(_) => "kill of a consumer",
                    Role::Producer(_) => "kill of a producer",
                }
            }
        };
        let mut fault = Some(name);
        for role in victims {
            // Not to the millisecond: one learns of the other's death, or does not.
            let killed_ms = at_ms + dice.within(0, 40);
            self.add(fault.take(), killed_ms, Deed::Kill(role));
            let mut back_ms = killed_ms + dice.within(0, 1_500);
            if role == Role::Broker && dice.one_in(2) {
                let shards = dice.within(1, SHARDS_MAX) as u16;
                self.add(Some("another shard count"), killed_ms, Deed::Shards(shards));
            }
            if dice.one_in(3) {
                self.add(None, back_ms, Deed::Start(role));
                back_ms += dice.within(5, 600);
                self.add(Some("kill in recovery"), back_ms, Deed::Kill(role));
                back_ms += dice.within(0, 500);
            }
            self.add(None, back_ms, Deed::Start(role));
        }
    }

    /// As an operator does it; the broker may come back with more or fewer shards.
    fn restart(&mut self, dice: &mut Dice, at_ms: u64) {
        let (name, role) = match dice.one_in(2) {
            true => ("restart of the broker", Role::Broker),
            false => ("restart of ClickHouse", Role::ClickHouse),
        };
        self.add(Some(name), at_ms, Deed::Leave(role));
        if role == Role::Broker {
            let shards = dice.within(1, SHARDS_MAX) as u16;
            self.add(Some("another shard count"), at_ms, Deed::Shards(shards));
        }
        self.add(None, at_ms + dice.within(0, 1_500), Deed::Start(role));
    }

    fn freeze(&mut self, dice: &mut Dice, at_ms: u64) {
        let past_lease = self.lease_s * 1_000 + dice.within(200, 2_000);
        let consumer = Role::Consumer(dice.within(0, self.consumers as u64 - 1) as usize);
        let (name, role, ms) = match dice.within(0, 5) {
            0..=2 => ("consumer frozen past its lease", consumer, past_lease),
            3 => ("broker frozen", Role::Broker, dice.within(300, 5_000)),
            4 => ("ClickHouse frozen", Role::ClickHouse, dice.within(300, past_lease)),
            _ => ("consumer frozen for a moment", consumer, dice.within(50, 1_500)),
        };
        self.add(Some(name), at_ms, Deed::Freeze(role));
        self.add(None, at_ms + ms, Deed::Thaw(role));
    }

    /// A consumer leaves, in one way or another, while one that was away comes.
    fn change_places(&mut self, dice: &mut Dice, at_ms: u64) {
        let leaver = Role::Consumer(dice.within(0, self.consumers as u64 - 1) as usize);
        let comes = Role::Consumer(self.consumers);
        let back_ms = at_ms + dice.within(500, 4_000);
        let (name, leaves) = match dice.within(0, 2) {
            0 => ("consumers change places, drained", Deed::Leave(leaver)),
            1 => ("consumers change places, killed", Deed::Kill(leaver)),
            _ => ("consumers change places, frozen", Deed::Freeze(leaver)),
        };
        self.add(Some(name), at_ms, leaves);
        self.add(None, at_ms + dice.within(0, 100), Deed::Start(comes));
        if let Deed::Freeze(_) = leaves {
            self.add(None, back_ms, Deed::Thaw(leaver));
        }
        self.add(None, back_ms, Deed::Start(leaver));
        self.add(None, back_ms + dice.within(0, 100), Deed::Leave(comes));
    }

    fn trouble(&mut self, dice: &mut Dice, at_ms: u64) {
        let link = dice.of(&[Link::Store, Link::Store, Link::Consume, Link::Produce]);
        let bytes = dice.within(0, 2) * dice.within(1, 100_000) + dice.within(1, 500);
        let reset = dice.one_in(2);
        let trouble = match dice.within(0, 9) {
            0..=1 => Trouble::CutInBody { bytes, reset },
            2 => Trouble::HalfClose { bytes },
            3 => Trouble::CutAfterBody,
            4..=5 => Trouble::LoseAnswer { reset },
            6 => Trouble::HalfAnswer,
            7 => {
                Trouble::LateAnswer { ms: dice.within(500, self.insert_timeout_s * 1_000 + 1_500) }
            }
            8 => Trouble::BlackHole { bytes, ms: dice.within(1_000, 20_000) },
            _ => Trouble::ResetAll,
        };
        let name = match (link, trouble) {
            (Link::Store, Trouble::CutInBody { .. }) => "INSERT cut in its body",
            (Link::Store, Trouble::HalfClose { .. }) => "INSERT half-closed in its body",
            (Link::Store, Trouble::CutAfterBody) => "INSERT cut before its answer",
            (Link::Store, Trouble::LoseAnswer { .. }) => "INSERT's answer lost",
            (Link::Store, Trouble::HalfAnswer) => "half an answer to an INSERT",
            (Link::Store, Trouble::LateAnswer { .. }) => "late answer to an INSERT",
            (Link::Store, Trouble::BlackHole { .. }) => "black hole in an INSERT",
            (Link::Store, Trouble::ResetAll) => "ClickHouse connections reset",
            (Link::Consume, Trouble::LoseAnswer { .. }) => "consumer's answers lost",
            (Link::Consume, Trouble::BlackHole { .. }) => "consumer in a black hole",
            (Link::Consume, _) => "consumer's connection cut",
            (Link::Produce, Trouble::LoseAnswer { .. }) => "producer's answers lost",
            (Link::Produce, Trouble::BlackHole { .. }) => "producer in a black hole",
            (Link::Produce, _) => "producer's connection cut",
        };
        self.add(Some(name), at_ms, Deed::Trouble(link, trouble));
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6} ms  ", self.at_ms)?;
        match self.deed {
            Deed::Kill(role) => write!(f, "kill {role}"),
            Deed::Leave(role) => write!(f, "stop {role}"),
            Deed::Start(role) => write!(f, "start {role}"),
            Deed::Freeze(role) => write!(f, "freeze {role}"),
            Deed::Thaw(role) => write!(f, "thaw {role}"),
            Deed::Shards(shards) => write!(f, "broker gets {shards} shards"),
            Deed::Trouble(link, trouble) => write!(f, "{link:?}: {trouble:?}"),
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        let mut dice = Self(seed);
        dice.roll();
        dice
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Both ends included.
    fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.roll() % (high - low + 1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.roll().is_multiple_of(n)
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.within(0, choices.len() as u64 - 1) as usize]
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.within(0, last as u64) as usize);
        }
    }
}

#[test]
fn a_seed_draws_the_same_plan_again_and_another_seed_another() {
    assert_eq!(Plan::draw(7), Plan::draw(7));
    assert_ne!(Plan::draw(7).steps, Plan::draw(8).steps);
}

#[test]
fn whatever_a_plan_stops_it_starts_again() {
    for seed in 0..1_000 {
        let plan = Plan::draw(seed);
        for role in plan.roles() {
            let last = plan.steps.iter().rposition(|step| {
                matches!(step.deed, Deed::Kill(of) | Deed::Leave(of) | Deed::Freeze(of) if of == role)
            });
            let Some(last) = last else { continue };
            let back = plan.steps[last..]
                .iter()
                .any(|step| matches!(step.deed, Deed::Start(of) | Deed::Thaw(of) if of == role));
            assert!(back, "seed {seed}: {role} stays away: {:?}", plan.steps);
        }
    }
}
