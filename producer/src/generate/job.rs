//! What runs on generated GPUs, and which of them it runs on.
//!
//! Jobs of 1 to 32 GPUs come and go so that about three GPUs of five are taken, the share of a
//! real fleet; some jobs only hold their GPUs. All GPUs of a job move together.

use core::cmp::Reverse;
use std::collections::BinaryHeap;

use super::random::Random;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Training,
    Inference,
    /// A process that holds memory and computes nothing.
    Held,
}

#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) kind: Kind,
    pub(crate) utilization: f64,
    pub(crate) copy: f64,
    pub(crate) memory_mib: f64,
    pub(crate) intensity: f64,
    /// Standard deviation of the load, in points of utilization.
    pub(crate) unrest: f64,
    starts_ms: u64,
    ends_ms: u64,
    /// Between checkpoints of a training, or of the swing of an inference load.
    period_ms: u64,
    pause_ms: u64,
    gpus: Vec<u32>,
}

impl Job {
    fn new(random: &mut Random, kind: Kind, starts_ms: u64) -> Self {
        let (utilization, copy, memory_mib, intensity, unrest) = match kind {
            Kind::Training if random.chance(0.78) => {
                let copy = random.between(22.0, 80.0);
                (random.between(96.0, 100.0), copy, memory(random), random.between(0.85, 1.05), 0.8)
            }
            // Waits for its data.
            Kind::Training => {
                let copy = random.between(10.0, 45.0);
                (random.between(55.0, 92.0), copy, memory(random), random.between(0.8, 1.0), 4.0)
            }
            Kind::Inference => {
                let copy = random.between(5.0, 40.0);
                (random.between(50.0, 95.0), copy, memory(random), random.between(0.6, 0.9), 6.0)
            }
            // Some leave a bare context behind, others a loaded model.
            Kind::Held if random.chance(0.45) => (0.0, 0.0, 3.0, 0.0, 0.0),
            Kind::Held => (0.0, 0.0, memory(random), 0.0, 0.0),
        };
        let duration_ms = 300_000.0 * f64::from(1 << random.below(7)) * (1.0 + random.unit());
        Job {
            kind,
            utilization,
            copy,
            memory_mib,
            intensity,
            unrest,
            starts_ms,
            ends_ms: starts_ms + duration_ms as u64,
            period_ms: 240_000 + u64::from(random.below(900_000)),
            pause_ms: 5_000 + u64::from(random.below(15_000)),
            gpus: Vec::new(),
        }
    }

    /// Share of its full load that the job puts on its GPUs.
    pub(crate) fn load(&self, time_ms: u64) -> f64 {
        let age_ms = time_ms.saturating_sub(self.starts_ms);
        let place_ms = age_ms % self.period_ms;
        match self.kind {
            Kind::Held => 0.0,
            // Loads its data first; later stops to write checkpoints.
            Kind::Training if age_ms < self.pause_ms => 0.0,
            Kind::Training if age_ms >= self.period_ms && place_ms < self.pause_ms => 0.12,
            Kind::Training => 1.0,
            // Requests swell and ebb.
            Kind::Inference => {
                let swing = place_ms as f64 / self.period_ms as f64;
                0.25 + 0.75 * (1.0 - (2.0 * swing - 1.0).abs())
            }
        }
    }

    /// Share of its memory that the job has filled.
    pub(crate) fn loaded(&self, time_ms: u64, lag_s: f64) -> f64 {
        let age_s = time_ms.saturating_sub(self.starts_ms) as f64 / 1000.0 + 1.0;
        if age_s > 20.0 * lag_s { 1.0 } else { age_s / (age_s + lag_s) }
    }

    /// A bare context lets the clock fall; anything more keeps it up.
    pub(crate) fn raises_clock(&self) -> bool {
        self.memory_mib > 100.0
    }
}

/// Up to what the card holds; the framework's usual leftover is not used.
fn memory(random: &mut Random) -> f64 {
    if random.chance(0.1) {
        return random.between(700.0, 20_000.0);
    }
    random.between(24_000.0, 77_000.0)
}

/// Who holds which GPU.
pub(crate) struct Schedule {
    random: Random,
    /// First GPU of each host, and the end of the last.
    host_starts: Vec<u32>,
    free_on_host: Vec<u32>,
    host_of: Vec<u32>,
    /// Job of each GPU.
    holder: Vec<Option<u32>>,
    jobs: Vec<Job>,
    vacant: Vec<u32>,
    endings: BinaryHeap<Reverse<(u64, u32)>>,
    /// GPUs that jobs hold, by kind in the order of [`Kind`].
    held: [u32; 3],
}

/// Jobs that run when a fleet is first looked at have run for this long.
pub(crate) const SETTLED_MS: u64 = 3_600_000;

/// Of the GPUs that jobs hold: at least these shares are merely held, or serve inference.
const HELD_SHARE: f64 = 0.2;
const INFERENCE_SHARE: f64 = 0.1;

/// Share of GPUs that are wanted, and how far that swings over a quarter of a day.
const DEMAND: f64 = 0.63;
const DEMAND_SWING: f64 = 0.05;
const DEMAND_PERIOD_MS: u64 = 6 * 3_600_000;

impl Schedule {
    /// A fleet that has been running for long.
    pub(crate) fn new(random: Random, host_starts: Vec<u32>) -> Self {
        let gpus = *host_starts.last().expect("the end is always there");
        let hosts = host_starts.len() - 1;
        let mut host_of = Vec::with_capacity(gpus as usize);
        for host in 0..hosts {
            host_of.resize(host_starts[host + 1] as usize, host as u32);
        }
        let free_on_host = host_starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mut schedule = Schedule {
            random,
            host_starts,
            free_on_host,
            host_of,
            holder: vec![None; gpus as usize],
            jobs: Vec::new(),
            vacant: Vec::new(),
            endings: BinaryHeap::new(),
            held: [0; 3],
        };
        schedule.fill(0, 32 + 64 * hosts, true);
        schedule
    }

    pub(crate) fn job_of(&self, gpu: usize) -> Option<&Job> {
        self.holder[gpu].map(|job| &self.jobs[job as usize])
    }

    /// Ends and starts what is due.
    pub(crate) fn advance(&mut self, time_ms: u64) {
        while let Some(Reverse((ends_ms, job))) = self.endings.peek().copied()
            && ends_ms <= time_ms
        {
            self.endings.pop();
            self.end(job);
        }
        self.fill(time_ms, 64 + self.free_on_host.len() / 16, false);
    }

    fn end(&mut self, job: u32) {
        let Job { kind, gpus, .. } = &mut self.jobs[job as usize];
        for gpu in core::mem::take(gpus) {
            self.holder[gpu as usize] = None;
            self.free_on_host[self.host_of[gpu as usize] as usize] += 1;
            self.held[*kind as usize] -= 1;
        }
        self.vacant.push(job);
    }

    /// Starts jobs until demand is met, in a bounded number of tries. Jobs of a fleet that has been
    /// `running` are somewhere in their midst.
    fn fill(&mut self, time_ms: u64, tries: usize, running: bool) {
        let swing = (time_ms % DEMAND_PERIOD_MS) as f64 / DEMAND_PERIOD_MS as f64;
        let swing = 1.0 - 4.0 * (swing - 0.5).abs();
        let wanted = (DEMAND + DEMAND_SWING * swing) * self.holder.len() as f64;
        for _ in 0..tries {
            if f64::from(self.held.iter().sum::<u32>()) + 0.5 >= wanted {
                return;
            }
            self.start(time_ms, running);
        }
    }

    fn start(&mut self, time_ms: u64, running: bool) {
        let (kind, hosts, gpus) = self.pick_shape();
        let first = self.random.below(self.free_on_host.len() as u32) as usize;
        let Some(range) = self.room(first, hosts, gpus) else { return };
        let mut job = Job::new(&mut self.random, kind, time_ms);
        if running {
            let length = (job.ends_ms - job.starts_ms) as f64;
            job.ends_ms = SETTLED_MS + (length * self.random.unit()) as u64;
        }
        let ends_ms = job.ends_ms;
        let id = self.vacant.pop().unwrap_or(self.jobs.len() as u32);
        for host in range {
            let all = self.host_starts[host]..self.host_starts[host + 1];
            let free = all.filter(|gpu| self.holder[*gpu as usize].is_none());
            let taken: Vec<u32> = free.take(gpus as usize).collect();
            self.free_on_host[host] -= taken.len() as u32;
            self.held[kind as usize] += taken.len() as u32;
            taken.iter().for_each(|gpu| self.holder[*gpu as usize] = Some(id));
            job.gpus.extend(taken);
        }
        match self.jobs.get_mut(id as usize) {
            Some(vacant) => *vacant = job,
            None => self.jobs.push(job),
        }
        self.endings.push(Reverse((ends_ms, id)));
    }

    /// Kind, hosts, and GPUs on each.
    fn pick_shape(&mut self) -> (Kind, usize, u32) {
        let small = 1 + self.random.below(2);
        let total: u32 = self.held.iter().sum();
        for (kind, share) in [(Kind::Held, HELD_SHARE), (Kind::Inference, INFERENCE_SHARE)] {
            if f64::from(self.held[kind as usize]) < share * f64::from(total) {
                return (kind, 1, small);
            }
        }
        let (hosts, gpus) = match self.random.below(100) {
            0..25 => (1, 1),
            25..45 => (1, 2),
            45..65 => (1, 4),
            65..90 => (1, 8),
            90..97 => (2, 8),
            _ => (4, 8),
        };
        (Kind::Training, hosts, gpus)
    }

    /// Neighbouring hosts from `first` on with `gpus` free each. On smaller hosts, all of a host
    /// is as good as eight.
    fn room(&self, first: usize, hosts: usize, gpus: u32) -> Option<core::ops::Range<usize>> {
        let range = first..first + hosts;
        let fits = range.end <= self.free_on_host.len()
            && range.clone().all(|host| {
                let size = self.host_starts[host + 1] - self.host_starts[host];
                let free = self.free_on_host[host];
                free > 0 && free >= gpus.min(size)
            });
        fits.then_some(range)
    }
}
