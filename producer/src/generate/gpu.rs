//! One generated GPU: what a job does to its load, power, clocks, memory and temperature.
//!
//! The figures follow a fleet of 80 GB H100s: 67-81 W and 345 MHz when free, 110-120 W and
//! 1980 MHz when a process merely holds it, 280-690 W at work, 26-80 degrees; used and free memory
//! always add up to the same.

use super::job::{Job, Kind};
use super::random::Random;

pub(crate) const MEMORY_MIB: f64 = 81_007.0;

const IDLE_MEMORY_MIB: f64 = 4.0;
const IDLE_CLOCK_MHZ: f64 = 345.0;
const FULL_CLOCK_MHZ: f64 = 1980.0;
const CLOCK_STEP_MHZ: f64 = 15.0;
const POWER_LIMIT_W: f64 = 700.0;
/// Clocks go down from here on.
const THROTTLE_W: f64 = 655.0;

/// How fast each quantity follows its cause, as time constants in seconds.
const POWER_LAG_S: f64 = 2.0;
const TEMPERATURE_LAG_S: f64 = 25.0;
const MEMORY_LAG_S: f64 = 6.0;

#[derive(Clone, Debug)]
pub(crate) struct Gpu {
    pub(crate) utilization: f64,
    pub(crate) copy: f64,
    pub(crate) temperature_c: f64,
    pub(crate) power_w: f64,
    pub(crate) memory_mib: f64,
    pub(crate) sm_clock_mhz: f64,
    pub(crate) energy_mj: f64,
    pub(crate) intensity: f64,
    /// How this one differs from its kind: leakage, and its place in the air stream.
    leakage_w: f64,
    warmth_c: f64,
    random: Random,
}

impl Gpu {
    pub(crate) fn new(mut random: Random) -> Self {
        let leakage_w = random.between(0.0, 5.0);
        let hot_spot = if random.chance(0.02) { 16.0 } else { 0.0 };
        let warmth_c = 1.5 + 2.8 * random.bell() + hot_spot;
        Gpu {
            utilization: 0.0,
            copy: 0.0,
            temperature_c: 24.0 + 0.052 * 70.0 + warmth_c.max(-1.5),
            power_w: 68.0 + leakage_w,
            memory_mib: IDLE_MEMORY_MIB,
            sm_clock_mhz: IDLE_CLOCK_MHZ,
            energy_mj: random.between(1e9, 9e12).round(),
            intensity: 0.0,
            leakage_w,
            warmth_c: warmth_c.max(-1.5),
            random,
        }
    }

    /// Jumps to where the GPU would be after running `job` for long.
    pub(crate) fn settle(&mut self, job: Option<&Job>, time_ms: u64) {
        self.step(job, time_ms, 1_000_000.0);
    }

    /// Goes on by `seconds`, after which `time_ms` has passed since the fleet began.
    pub(crate) fn step(&mut self, job: Option<&Job>, time_ms: u64, seconds: f64) {
        self.load(job, time_ms);
        let target_w = self.target_power_w(job);
        self.power_w = approach(self.power_w, target_w, seconds, POWER_LAG_S);
        self.power_w += 0.004 * self.power_w * self.random.bell();
        self.power_w = self.power_w.clamp(60.0, POWER_LIMIT_W - 1.0);
        let over_w = self.power_w - THROTTLE_W;
        if over_w > 0.0 {
            self.sm_clock_mhz -= CLOCK_STEP_MHZ * (over_w / 25.0).ceil();
        }
        let target_c = 24.0 + 0.052 * self.power_w + self.warmth_c;
        self.temperature_c = approach(self.temperature_c, target_c, seconds, TEMPERATURE_LAG_S);
        self.energy_mj += self.power_w * seconds.min(3600.0) * 1000.0;
    }

    /// Load, memory and clock that the job asks for.
    fn load(&mut self, job: Option<&Job>, time_ms: u64) {
        let Some(job) = job else {
            (self.utilization, self.copy, self.intensity) = (0.0, 0.0, 0.0);
            self.memory_mib = IDLE_MEMORY_MIB;
            self.sm_clock_mhz = IDLE_CLOCK_MHZ;
            return;
        };
        let load = job.load(time_ms);
        let noise = self.random.bell();
        self.utilization = if load == 0.0 {
            0.0
        } else {
            (job.utilization * load + job.unrest * noise).clamp(0.0, 100.0)
        };
        self.copy = (job.copy * self.utilization / 100.0 * (1.0 + 0.04 * noise)).clamp(0.0, 100.0);
        self.intensity = job.intensity;
        self.sm_clock_mhz = if job.raises_clock() { FULL_CLOCK_MHZ } else { IDLE_CLOCK_MHZ };
        let loaded = job.loaded(time_ms, MEMORY_LAG_S);
        // Each GPU of a job holds about, not exactly, the same.
        let share = 1.0 + 0.004 * (self.warmth_c / 10.0);
        self.memory_mib =
            (IDLE_MEMORY_MIB + job.memory_mib * loaded * share).clamp(0.0, MEMORY_MIB - 3500.0);
    }

    fn target_power_w(&self, job: Option<&Job>) -> f64 {
        let idle_w = 64.0 + self.leakage_w + 0.2 * (self.temperature_c - 10.0).max(0.0);
        match job {
            Some(job) if job.raises_clock() => {
                let work_w = 300.0 * self.intensity + 2.6 * self.copy;
                idle_w + 41.0 + self.utilization / 100.0 * work_w
            }
            Some(Job { kind: Kind::Held | Kind::Training | Kind::Inference, .. }) | None => idle_w,
        }
    }
}

/// First-order lag, solved implicitly: stable for any step, and exact arithmetic everywhere.
fn approach(from: f64, to: f64, seconds: f64, lag_s: f64) -> f64 {
    from + (to - from) * (seconds / (seconds + lag_s))
}
