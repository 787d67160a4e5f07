//! One round: the roles up, the plan's steps at their times, calm, and the verdict.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde_json::Value;

use super::ledger::{self, Work};
use super::letters::{self, Letters};
use super::plan::{Deed, Link, Plan, Role, Step};
use super::proxy::{Protocol, Proxy};
use super::service::{Ready, Service};
use super::verdict::{self, Life, Verdict};
use crate::support;

const TOPIC: &str = "gpu-telemetry";
const GROUP: &str = "clickhouse";

/// A round in which nothing at all moves for this long, although nothing is wrong any more, hangs.
const STUCK: Duration = Duration::from_secs(90);

/// Processes that may end by themselves before a round is given up.
const ENDS_MAX: usize = 10;

/// What came of a round.
pub(super) struct Outcome {
    pub(super) plan: Plan,
    pub(super) verdict: Verdict,
    pub(super) faults: BTreeMap<&'static str, u64>,
    pub(super) seconds: f64,
    /// Of these, from the end of the faults until all was consumed.
    pub(super) drain_seconds: f64,
    pub(super) folder: PathBuf,
    /// What was done when, for the account of a failure.
    pub(super) diary: String,
}

/// Runs a round in a folder of its own.
pub(super) fn run(plan: Plan, folder: &Path, runtime: &tokio::runtime::Handle) -> Outcome {
    let began = Instant::now();
    let mut round = Round::new(plan, folder, runtime);
    let verdict = match round.play() {
        Ok(verdict) => verdict,
        Err(failure) => Verdict { wrong: vec![failure], ..Verdict::default() },
    };
    let mut faults = std::mem::take(&mut round.faults);
    for proxy in [&round.produce, &round.consume, &round.store] {
        for (name, count) in proxy.happened() {
            *faults.entry(name).or_default() += count;
        }
    }
    let mut outcome = Outcome {
        verdict,
        faults,
        seconds: began.elapsed().as_secs_f64(),
        drain_seconds: round.drain.as_secs_f64(),
        folder: folder.to_owned(),
        diary: std::mem::take(&mut round.diary),
        plan: round.plan.clone(),
    };
    outcome.verdict.wrong.append(&mut round.wrong);
    outcome
}

struct Round<'r> {
    plan: Plan,
    runtime: &'r tokio::runtime::Handle,
    folder: &'r Path,
    services: BTreeMap<Role, Service>,
    produce: Proxy,
    consume: Proxy,
    store: Proxy,
    shards: u16,
    base_ms: i64,
    /// Names of all lives of all producers, with the rows that each was to push.
    lives: Vec<(Role, String, u64)>,
    /// Roles that start once their former process is gone.
    waiting: BTreeSet<Role>,
    faults: BTreeMap<&'static str, u64>,
    began: Instant,
    drain: Duration,
    diary: String,
    wrong: Vec<String>,
}

impl<'r> Round<'r> {
    fn new(plan: Plan, folder: &'r Path, runtime: &'r tokio::runtime::Handle) -> Self {
        // One more consumer may come for a while.
        let spare = Role::Consumer(plan.consumers);
        let roles = plan.roles().into_iter().chain([spare]);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Self {
            services: roles.map(|role| (role, Service::new(role, folder))).collect(),
            produce: Proxy::start(runtime, Protocol::Frames),
            consume: Proxy::start(runtime, Protocol::Frames),
            store: Proxy::start(runtime, Protocol::Http),
            shards: plan.shards,
            // Behind now by more than the rows of a producer, which are a millisecond apart.
            base_ms: now.as_millis() as i64 - 1_000_000,
            lives: Vec::new(),
            waiting: BTreeSet::new(),
            faults: BTreeMap::new(),
            began: Instant::now(),
            drain: Duration::ZERO,
            diary: String::new(),
            wrong: Vec::new(),
            plan,
            runtime,
            folder,
        }
    }

    fn play(&mut self) -> Result<Verdict, String> {
        self.start(Role::ClickHouse);
        self.start(Role::Broker);
        self.wait_until("ClickHouse and broker serve", |round| {
            round.ready(Role::ClickHouse).is_some() && round.ready(Role::Broker).is_some()
        })?;
        self.make_topic();
        for role in self.plan.roles() {
            self.start(role);
        }
        if let Some(ms) = self.plan.kill_store_at_start_ms {
            let due = Instant::now() + Duration::from_millis(ms);
            self.wait_until("it is time for the first kill", |_| due <= Instant::now())?;
            self.service(Role::ClickHouse).kill();
            *self.faults.entry("kill of ClickHouse in a migration").or_default() += 1;
            self.start(Role::ClickHouse);
        }
        self.wait_until("the consumers have subscribed", |round| {
            (0..round.plan.consumers).all(|number| round.ready(Role::Consumer(number)).is_some())
        })?;
        self.began = Instant::now();
        self.note("all are up");
        let mut steps: VecDeque<Step> = self.plan.steps.clone().into();
        while let Some(step) = steps.pop_front() {
            let due = self.began + Duration::from_millis(step.at_ms);
            while Instant::now() < due {
                self.look();
                support::pause();
            }
            self.perform(step);
        }
        self.calm();
        let calm = Instant::now();
        self.wait_until("everything is acknowledged and consumed", Self::is_drained)?;
        self.drain = calm.elapsed();
        self.note("drained");
        let logged = self.high_watermarks().ok_or("the broker's statistics cannot be read")?;
        for number in 0..=self.plan.consumers {
            self.service(Role::Consumer(number)).leave();
        }
        self.wait_until("the consumers have left", |round| {
            round.services.values().all(|service| !service.is_leaving())
        })?;
        let letters = self.letters()?;
        if self.plan.kill_store_at_the_end {
            self.service(Role::ClickHouse).kill();
            self.start(Role::ClickHouse);
        }
        self.wait_until("ClickHouse serves", |round| round.ready(Role::ClickHouse).is_some())?;
        let clickhouse = self.ready(Role::ClickHouse).and_then(|ready| ready.addr);
        let clickhouse = clickhouse.ok_or("ClickHouse says no address")?;
        let lives = self.lives();
        let verdict = verdict::verdict(clickhouse, &lives, self.plan.unfit, &logged, &letters);
        self.note("judged");
        for role in [Role::Broker, Role::ClickHouse] {
            self.service(role).leave();
        }
        self.wait_until("broker and ClickHouse have left", |round| {
            round.services.values().all(|service| !service.is_leaving())
        })?;
        Ok(verdict)
    }

    fn perform(&mut self, step: Step) {
        let done = match step.deed {
            Deed::Kill(role) => self.service(role).kill(),
            Deed::Leave(role) => self.service(role).leave(),
            Deed::Start(role) => {
                self.start(role);
                true
            }
            Deed::Freeze(role) => self.service(role).signal(Signal::STOP),
            Deed::Thaw(role) => {
                self.service(role).thaw();
                true
            }
            Deed::Shards(shards) => std::mem::replace(&mut self.shards, shards) != shards,
            Deed::Trouble(link, trouble) => {
                let name = step.fault.unwrap_or("trouble");
                let proxy = match link {
                    Link::Produce => &self.produce,
                    Link::Consume => &self.consume,
                    Link::Store => &self.store,
                };
                proxy.order(name, trouble);
                // The proxy counts it when it happens.
                false
            }
        };
        if done && let Some(fault) = step.fault {
            *self.faults.entry(fault).or_default() += 1;
        }
        self.note(&step.to_string());
        self.look();
    }

    /// No fault goes on, and everybody is up.
    fn calm(&mut self) {
        self.note("calm");
        for proxy in [&self.produce, &self.consume, &self.store] {
            proxy.calm();
        }
        for service in self.services.values() {
            service.thaw();
        }
        for role in self.plan.roles() {
            self.start(role);
        }
    }

    fn service(&mut self, role: Role) -> &mut Service {
        self.services.get_mut(&role).unwrap()
    }

    /// Where a role serves. The proxies follow it.
    fn ready(&mut self, role: Role) -> Option<Ready> {
        self.service(role).ready()
    }

    /// Starts a role unless it runs, or has nothing left to do. A server whose former process is
    /// still leaving starts once that is gone, as both need the same directory.
    fn start(&mut self, role: Role) {
        if self.service(role).is_up() {
            return;
        }
        let serves = matches!(role, Role::Broker | Role::ClickHouse);
        if serves && self.service(role).is_leaving() {
            self.waiting.insert(role);
            return;
        }
        let command = match role {
            Role::Broker => self.broker(),
            Role::ClickHouse => {
                lanecast(&["clickhouse", "serve", "--port", "0"], &[("data-dir", &self.data(role))])
            }
            Role::Consumer(_) => self.consumer(),
            Role::Producer(number) => match self.producer(number) {
                Some(command) => command,
                None => return,
            },
        };
        self.service(role).start(command);
    }

    fn data(&self, role: Role) -> String {
        self.folder.join(format!("{role}-data")).to_str().unwrap().to_owned()
    }

    fn broker(&self) -> Command {
        lanecast(
            &["broker", "--port", "0", "--admin-port", "0"],
            &[
                ("data-dir", &self.data(Role::Broker)),
                ("shards", &self.shards),
                ("segment-size", &format!("{}KiB", self.plan.segment_kib)),
            ],
        )
    }

    fn consumer(&self) -> Command {
        let Plan { lease_s, chunk_records, chunk_linger_ms, insert_timeout_s, .. } = &self.plan;
        lanecast(
            &["consume", "clickhouse", "--admin-port", "0"],
            &[
                ("broker", &self.consume.addr),
                ("topic", &TOPIC),
                ("group", &GROUP),
                ("clickhouse-url", &format!("http://{}", self.store.addr)),
                ("lease-seconds", lease_s),
                ("lease-max", chunk_records),
                ("linger", &format!("{chunk_linger_ms}ms")),
                ("insert-timeout", &format!("{insert_timeout_s}s")),
            ],
        )
    }

    /// The next life of a producer, with the rows that its former ones have no answer for.
    fn producer(&mut self, number: usize) -> Option<Command> {
        let role = Role::Producer(number);
        let rows = self.plan.rows / self.plan.producers as u64;
        let left = rows - self.acknowledged(role);
        if left == 0 {
            return None;
        }
        let name = format!("p{number}-{}", self.service(role).lives() + 1);
        let work = Work {
            broker: self.produce.addr.to_string(),
            topic: TOPIC.into(),
            ledger: self.ledger(&name).to_str().unwrap().to_owned(),
            rows: left,
            rows_per_s: rows * 1_000 / self.plan.load_ms,
            block_rows: self.plan.block_rows,
            batch_records: self.plan.batch_records,
            gpus: self.plan.gpus,
            metrics: self.plan.metrics,
            days: self.plan.days,
            unfit: self.plan.unfit,
            base_ms: self.base_ms,
            name: name.clone(),
        };
        self.lives.push((role, name, left));
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([ledger::ENTRY, "--exact", "--ignored", "--nocapture"]);
        command.env(ledger::WORK, serde_json::to_string(&work).unwrap());
        Some(command)
    }

    fn ledger(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.acknowledged"))
    }

    fn acknowledged(&self, role: Role) -> u64 {
        let lives = self.lives.iter().filter(|(of, _, _)| *of == role);
        lives.map(|(_, name, _)| ledger::acknowledged(&self.ledger(name))).sum()
    }

    fn lives(&self) -> Vec<Life> {
        let life = |(_, name, rows): &(Role, String, u64)| Life {
            name: name.clone(),
            acknowledged: ledger::acknowledged(&self.ledger(name)),
            rows: *rows,
        };
        self.lives.iter().map(life).collect()
    }

    fn make_topic(&self) {
        let mut command = lanecast(
            &["topic", "create", TOPIC],
            &[
                ("broker", &self.produce.addr),
                ("partitions", &self.plan.partitions),
                ("durability", &self.plan.durability),
                // As the roles make it. A kill is nobody's fault, least of all the records'.
                ("max-attempts", &0),
            ],
        );
        let made = command.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    /// Sees who has ended and who serves where.
    fn look(&mut self) {
        let mut ended = Vec::new();
        for service in self.services.values_mut() {
            let finishes = matches!(service.role, Role::Producer(_));
            ended.append(&mut service.look(finishes));
        }
        for ended in ended {
            self.wrong.push(format!(
                "{} ended ({}): {}",
                ended.role,
                ended.status,
                ended.log.display()
            ));
            self.start(ended.role);
        }
        for role in std::mem::take(&mut self.waiting) {
            self.start(role);
        }
        let broker = self.ready(Role::Broker).and_then(|ready| ready.addr);
        let clickhouse = self.ready(Role::ClickHouse).and_then(|ready| ready.addr);
        self.produce.set_server(broker);
        self.consume.set_server(broker);
        self.store.set_server(clickhouse);
    }

    fn wait_until(
        &mut self,
        what: &str,
        mut holds: impl FnMut(&mut Self) -> bool,
    ) -> Result<(), String> {
        let (mut moved, mut since) = (None, Instant::now());
        loop {
            self.look();
            if self.wrong.len() > ENDS_MAX {
                return Err(format!("processes end by themselves, waiting until {what}"));
            }
            if holds(self) {
                return Ok(());
            }
            let now = self.progress();
            if moved.as_ref() != Some(&now) {
                (moved, since) = (Some(now), Instant::now());
            }
            if since.elapsed() > STUCK {
                let moved = moved.unwrap_or_default();
                return Err(format!("stuck, waiting until {what}; {moved}"));
            }
            support::pause();
        }
    }

    /// Changes as long as anything goes on.
    fn progress(&mut self) -> String {
        let producers: Vec<u64> = (0..self.plan.producers)
            .map(|number| self.acknowledged(Role::Producer(number)))
            .collect();
        format!("acknowledged to producers {producers:?}, groups {:?}", self.groups())
    }

    fn stats(&mut self) -> Option<Value> {
        let admin = self.ready(Role::Broker)?.admin_addr?;
        support::try_get_json(admin, "/stats")
    }

    fn high_watermarks(&mut self) -> Option<BTreeMap<u64, u64>> {
        let groups = self.groups()?;
        Some(groups.into_iter().map(|(partition, (upto, _))| (partition, upto)).collect())
    }

    /// High watermark and acknowledged offset of the group, by partition.
    fn groups(&mut self) -> Option<BTreeMap<u64, (u64, u64)>> {
        let stats = self.stats()?;
        let topic = stats["topics"].as_array()?.iter().find(|topic| topic["name"] == TOPIC)?;
        let mut partitions = BTreeMap::new();
        for partition in topic["partitions"].as_array()? {
            let group = partition["groups"].as_array()?.iter().find(|group| group["name"] == GROUP);
            let acked = group.and_then(|group| group["acked_upto"].as_u64()).unwrap_or(0);
            let upto = partition["high_watermark"].as_u64()?;
            partitions.insert(partition["index"].as_u64()?, (upto, acked));
        }
        (partitions.len() == self.plan.partitions as usize).then_some(partitions)
    }

    fn is_drained(&mut self) -> bool {
        let produced = (0..self.plan.producers).all(|number| {
            let role = Role::Producer(number);
            let up = self.service(role).is_up();
            if !up {
                // It was killed between its last acknowledgement and the line in its ledger.
                self.start(role);
            }
            !up && !self.service(role).is_up()
        });
        produced
            && self
                .groups()
                .is_some_and(|groups| groups.values().all(|(upto, acked)| upto == acked))
    }

    fn letters(&mut self) -> Result<Letters, String> {
        self.wait_until("the broker serves", |round| round.ready(Role::Broker).is_some())?;
        let broker = self.ready(Role::Broker).and_then(|ready| ready.addr);
        let broker = broker.ok_or("the broker says no address")?;
        self.runtime.block_on(letters::read(broker, TOPIC, GROUP))
    }

    fn note(&mut self, what: &str) {
        let at = self.began.elapsed().as_millis();
        writeln!(self.diary, "{at:>7} ms  {what}").unwrap();
    }
}

/// `lanecast` with flags.
fn lanecast(words: &[&str], flags: &[(&str, &dyn std::fmt::Display)]) -> Command {
    let program = std::env::var_os(super::PROGRAM).unwrap_or_else(|| support::LANECAST.into());
    let mut command = support::clean_command_of(Path::new(&program), words);
    for (flag, value) in flags {
        command.arg(format!("--{flag}")).arg(value.to_string());
    }
    command.env("LOG_LEVEL", "info");
    command
}
