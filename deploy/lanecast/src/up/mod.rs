//! `lanecast up`: the whole pipeline on this machine.
//!
//! ```text
//!  lock data dir ─▶ fetch library ─▶ clickhouse ─▶ broker ─▶ consumer ─▶ query ─▶ source
//!                                                                                   │
//!      stop: query ◀─ … in this order: source, (lag 0), consumer, query, broker, clickhouse
//! ```
//!
//! Every role is a child process with its own log. A service that dies is started again, since
//! nothing acknowledged depends on its memory; one that keeps dying ends `up` with the end of its
//! log. Stopping goes along the message path, so that whatever the source was told is stored.

pub(crate) mod child;
mod data_dir;
mod limits;
mod plan;
mod screen;
mod stats;
mod summary;
pub(crate) mod usage;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Instant;

use tokio::io::AsyncReadExt;

use crate::Outcome;
use crate::commands::clickhouse;
use crate::ready::Ready;
use crate::settings::{Settings, table};
use crate::signals::StopSignals;
use child::{Death, Plan, Role};
use data_dir::DataDir;
use plan::ClickHouse;
use screen::Screen;
use stats::{ConsumerStats, Position};
use summary::{Moment, ProducerReport, Summary};

/// Runs until the source is at its end (`--once`), or until a signal.
pub(crate) async fn run(settings: &Settings) -> Outcome {
    let once = settings.switch(&table::UP_ONCE)?;
    let keep = settings.switch(&table::UP_KEEP)?;
    if let Some(path) = settings.text(&table::UP_CSV) {
        // Before anything is started for it.
        std::fs::File::open(path).map_err(|error| format!("cannot open {path}: {error}"))?;
    }
    let mut signals = StopSignals::install()?;
    let data_dir = DataDir::open(settings.text(&table::UP_DATA_DIR))?;
    let mut up = Up {
        settings,
        data_dir,
        screen: Screen::new(),
        services: Vec::new(),
        producer: None,
        restarts: 0,
        dead_letters_seen: 0,
        dead_letters_before: 0,
    };
    let finished = tokio::select! {
        finished = up.work(once) => finished,
        _ = signals.next() => Ok(None),
    };
    let mut code = ExitCode::SUCCESS;
    if let Ok(Some(summary)) = &finished {
        code = up.tell(summary)?;
        if keep {
            up.announce_ready()?;
            tokio::select! {
                failed = up.watch() => failed?,
                _ = signals.next() => {}
            }
        }
    }
    if once && matches!(finished, Ok(None)) {
        up.screen.say("lanecast: stopped by a signal before the source was at its end: no summary");
        code = ExitCode::FAILURE;
    }
    signals.exit_at_next();
    let stopped = up.stop().await;
    up.screen.show("");
    finished?;
    stopped?;
    up.screen.say("stopped with nothing acknowledged left behind");
    Ok(code)
}

/// One run of `up`.
struct Up<'a> {
    settings: &'a Settings,
    data_dir: DataDir,
    screen: Screen,
    /// In the order of their start.
    services: Vec<Service>,
    producer: Option<Role>,
    restarts: u32,
    /// Dead letters that the running consumer has told of, and those of consumers before it.
    dead_letters_seen: u64,
    dead_letters_before: u64,
}

/// A role that serves, and where.
struct Service {
    role: Role,
    ready: Ready,
}

/// The figures of one moment.
struct Look {
    position: Position,
    /// When the position was that.
    taken: Instant,
    consumer: ConsumerStats,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Up<'_> {
    /// Starts everything, then runs to the end of the source (`Some`), or for ever.
    async fn work(&mut self, once: bool) -> Result<Option<Summary>, Failure> {
        self.start_services().await?;
        let before = if once { Some(self.moment().await?) } else { None };
        let began = Instant::now();
        let broker = self.addr("broker")?;
        self.producer =
            Some(Role::start(plan::producer(self.settings, broker)?, &self.data_dir.path)?);
        let Some(before) = before else {
            self.announce_ready()?;
            self.watch().await?;
            return Ok(None);
        };
        let report = self.source_report().await?;
        let after = self.moment().await?;
        Ok(Some(Summary::new(&report, &before, &after, began.elapsed().as_secs_f64())))
    }

    /// The statistics once everything acknowledged is stored.
    async fn moment(&mut self) -> Result<Moment, Failure> {
        let Look { position, consumer, .. } = self.drained().await?;
        let dead_letters = self.dead_letters_before + consumer.dead_lettered;
        Ok(Moment { position, dead_letters, latency: consumer.e2e_ms, usages: self.usages() })
    }

    async fn start_services(&mut self) -> Result<(), Failure> {
        let server = match self.settings.text(&table::UP_CLICKHOUSE_URL) {
            Some(url) => ClickHouse { url: url.to_owned(), local: false },
            None => {
                self.fetch_library().await?;
                let plan = plan::clickhouse(self.settings, &self.data_dir.path);
                let addr = self.start(plan).await?;
                ClickHouse { url: format!("http://{addr}"), local: true }
            }
        };
        let broker = self.start(plan::broker(self.settings, &self.data_dir.path)).await?;
        self.start(plan::consumer(self.settings, broker, &server)).await?;
        let query = self.start(plan::query(self.settings, &server)).await?;
        let broker_admin = self.admin_addr("broker")?;
        let consumer_admin = self.admin_addr("consumer")?;
        self.screen.say(&format!(
            "lanecast is up, data in {}\n  \
             REST        http://{query}/api/v1/gpus\n  \
             API docs    http://{query}/swagger/\n  \
             ClickHouse  {}\n  \
             broker      {broker}, http://{broker_admin}/stats\n  \
             consumer    http://{consumer_admin}/stats",
            self.data_dir.path.display(),
            server.url,
        ));
        Ok(())
    }

    async fn fetch_library(&mut self) -> Result<(), Failure> {
        let config = clickhouse::install_config(self.settings);
        let (sender, mut progress) = tokio::sync::watch::channel(String::new());
        let install = tokio::task::spawn_blocking(move || {
            lanecast_clickhouse::install::ensure(&config, &mut |progress| {
                // Nobody listens only when `up` is being stopped.
                let _ = sender.send(clickhouse::progress_text(progress));
            })
        });
        while progress.changed().await.is_ok() {
            let text = progress.borrow_and_update().clone();
            self.screen.show(&text);
        }
        install.await??;
        Ok(())
    }

    /// Starts a service and waits until it serves.
    async fn start(&mut self, plan: Plan) -> Result<SocketAddr, Failure> {
        self.screen.show(&format!("starting {} ...", plan.name));
        let mut role = Role::start(plan, &self.data_dir.path)?;
        let ready = role.ready().await?;
        role.plan.keep_ports(&ready);
        let addr = ready.addr.or(ready.admin_addr);
        self.services.push(Service { role, ready });
        addr.ok_or_else(|| "a service reported no address".into())
    }

    fn service(&self, name: &str) -> Result<&Service, Failure> {
        let found = self.services.iter().find(|service| service.role.plan.name == name);
        found.ok_or_else(|| format!("{name} is not running").into())
    }

    fn addr(&self, name: &str) -> Result<SocketAddr, Failure> {
        self.service(name)?.ready.addr.ok_or_else(|| format!("{name} has no address").into())
    }

    fn admin_addr(&self, name: &str) -> Result<SocketAddr, Failure> {
        self.service(name)?.ready.admin_addr.ok_or_else(|| format!("{name} has no port").into())
    }

    fn announce_ready(&self) -> Result<(), Failure> {
        if let Some(path) = self.settings.text(&table::READY_FILE) {
            let addr = self.addr("query")?;
            let admin = self.admin_addr("broker")?;
            Ready::new(Some(addr), Some(admin)).write(path.as_ref())?;
        }
        Ok(())
    }

    /// Shows the status and keeps the roles running, until one cannot be kept.
    async fn watch(&mut self) -> Result<(), Failure> {
        let mut ticks = tokio::time::interval(limits::STATUS_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            self.revive().await?;
            self.look_after_source().await?;
            match self.look().await {
                Ok(look) => self.screen.status(look.position, &look.consumer),
                Err(reason) => self.screen.show(&format!("  waiting: {reason}")),
            }
        }
    }

    /// A source that has come to its end is fine; one that died is started again.
    async fn look_after_source(&mut self) -> Result<(), Failure> {
        let Some(producer) = &mut self.producer else { return Ok(()) };
        let Some(status) = producer.process.try_wait()? else { return Ok(()) };
        let role = self.producer.take().expect("matched above");
        if status.success() {
            self.screen.say("the source is at its end; the services stay up");
            return Ok(());
        }
        if !plan::source_may_start_over(self.settings)? {
            self.screen.say(&format!(
                "{}it is not started again, since it would replay the file from its beginning; \
                 the services stay up",
                role.died(Ok(status))
            ));
            return Ok(());
        }
        self.allow_restart(role.started, role.died(Ok(status)))?;
        self.producer = Some(Role::start(role.plan, &self.data_dir.path)?);
        Ok(())
    }

    /// Starts services again that have died, on the same ports.
    async fn revive(&mut self) -> Result<(), Failure> {
        for at in 0..self.services.len() {
            let role = &mut self.services[at].role;
            let Some(status) = role.process.try_wait()? else { continue };
            let (plan, started, death) = (role.plan.clone(), role.started, role.died(Ok(status)));
            self.allow_restart(started, death)?;
            if plan.name == "consumer" {
                self.dead_letters_before += std::mem::take(&mut self.dead_letters_seen);
            }
            let mut role = Role::start(plan, &self.data_dir.path)?;
            let ready = role.ready().await?;
            self.services[at] = Service { role, ready };
        }
        Ok(())
    }

    /// Counts the restart and says so; an error when there have been too many.
    fn allow_restart(&mut self, started: Instant, death: Death) -> Result<(), Failure> {
        if started.elapsed() > limits::RESTART_FORGIVEN {
            self.restarts = 0;
        }
        self.restarts += 1;
        if self.restarts > limits::RESTARTS_MAX {
            return Err(format!("{} restarts did not help: {death}", limits::RESTARTS_MAX).into());
        }
        let Death { name, how, log, .. } = &death;
        self.screen.say(&format!("{name} ended ({how}) and is started again; {}", log.display()));
        Ok(())
    }

    /// Waits for the end of the source and reads its report.
    async fn source_report(&mut self) -> Result<ProducerReport, Failure> {
        let mut ticks = tokio::time::interval(limits::STATUS_INTERVAL);
        loop {
            let producer = self.producer.as_mut().ok_or("the source is not running")?;
            tokio::select! {
                status = producer.ended() => {
                    let status = status?;
                    let mut text = String::new();
                    if let Some(mut output) = producer.take_output() {
                        output.read_to_string(&mut text).await?;
                    }
                    let role = self.producer.take().expect("borrowed above");
                    if !status.success() {
                        return Err(role.died(Ok(status)).into());
                    }
                    let line = text.lines().last().unwrap_or_default();
                    return serde_json::from_str(line)
                        .map_err(|error| format!("the source's report: {error}: {line}").into());
                }
                _ = ticks.tick() => {
                    self.revive().await?;
                    if let Ok(look) = self.look().await {
                        self.screen.status(look.position, &look.consumer);
                    }
                }
            }
        }
    }

    /// Waits until the consumer group has acknowledged the topic to its end, as it is now.
    async fn drained(&mut self) -> Result<Look, Failure> {
        let asked = Instant::now();
        let mut moved = asked;
        let mut last = Position::default();
        loop {
            self.revive().await?;
            let reason = match self.look().await {
                Ok(look) => {
                    // Figures from before the question know nothing of the last rows.
                    if look.position.lag() == 0 && look.taken >= asked {
                        return Ok(look);
                    }
                    if look.position != last {
                        (last, moved) = (look.position, Instant::now());
                        self.screen.status(look.position, &look.consumer);
                    }
                    format!("{} rows wait to be stored", look.position.lag())
                }
                Err(reason) => reason,
            };
            if moved.elapsed() > limits::DRAIN_STALL_MAX {
                let log = &self.service("consumer")?.role.log;
                return Err(format!(
                    "nothing has moved for {:?}: {reason}; see {}",
                    limits::DRAIN_STALL_MAX,
                    log.display()
                )
                .into());
            }
            tokio::time::sleep(limits::DRAIN_POLL).await;
        }
    }

    async fn look(&mut self) -> Result<Look, String> {
        let broker = self.admin_addr("broker").map_err(|error| error.to_string())?;
        let consumer = self.admin_addr("consumer").map_err(|error| error.to_string())?;
        let (position, taken) = stats::position(broker, plan::TOPIC, plan::GROUP).await?;
        let consumer = stats::consumer(consumer).await?;
        self.dead_letters_seen = consumer.dead_lettered;
        Ok(Look { position, taken, consumer })
    }

    fn usages(&self) -> Vec<usage::Usage> {
        let roles = self.services.iter().map(|service| &service.role);
        roles.filter_map(|role| usage::read(role.plan.name, role.pid()?)).collect()
    }

    /// Prints the summary; the exit code says whether every row is queryable.
    fn tell(&mut self, summary: &Summary) -> Outcome {
        self.screen.say(&summary.text());
        if self.settings.switch(&table::REPORT_JSON)? {
            summary.write_json(&mut std::io::stdout().lock())?;
        }
        match summary.complaint() {
            None => Ok(ExitCode::SUCCESS),
            Some(complaint) => {
                self.screen.say(&format!("lanecast: {complaint}"));
                Ok(ExitCode::FAILURE)
            }
        }
    }

    /// Stops along the message path. Every role is stopped, also when an earlier one fails.
    async fn stop(&mut self) -> Result<(), Failure> {
        let mut failures: Vec<String> = Vec::new();
        self.screen.show("stopping: the source ...");
        if let Some(producer) = &mut self.producer
            && let Err(failure) = producer.stop().await
        {
            failures.push(failure);
        }
        if self.service("consumer").is_ok() {
            self.screen.show("stopping: storing what is acknowledged ...");
            if let Err(failure) = self.drained().await {
                failures.push(failure.to_string());
            }
        }
        for name in ["consumer", "query", "broker", "clickhouse"] {
            let found = self.services.iter_mut().find(|service| service.role.plan.name == name);
            if let Some(service) = found {
                self.screen.show(&format!("stopping: {name} ..."));
                if let Err(failure) = service.role.stop().await {
                    failures.push(failure);
                }
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
    }
}
