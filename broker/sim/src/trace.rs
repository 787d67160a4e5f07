//! What happened, as one number, and in words for who replays a seed.

use std::fmt::Debug;

/// Environment variable that makes a run tell everything that happens.
pub(crate) const TRACE: &str = "LANECAST_SIM_TRACE";

#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    verbose: bool,
}

impl Trace {
    pub(crate) fn new(seed: u64) -> Self {
        Self { hash: seed, verbose: std::env::var_os(TRACE).is_some() }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    fn mix(&mut self, value: u64) {
        let mixed = (self.hash ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.hash = mixed ^ (mixed >> 29);
    }

    pub(crate) fn task(&mut self, at_us: u64, task: &impl Debug) {
        self.mix(at_us);
        self.note(|| format!("{at_us:>10} {task:?}"));
    }

    pub(crate) fn action(&mut self, shard: usize, action: &impl Debug) {
        self.mix(shard as u64);
        self.note(|| {
            let mut text = format!("           shard {shard}: {action:?}");
            if text.len() > 400 {
                let mut end = 400;
                while !text.is_char_boundary(end) {
                    end -= 1;
                }
                text.truncate(end);
                text.push_str(" ...");
            }
            text
        });
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.mix(bytes.len() as u64);
        for eight in bytes.chunks_exact(8) {
            self.mix(u64::from_le_bytes(eight.try_into().expect("eight bytes")));
        }
    }

    pub(crate) fn note(&self, text: impl FnOnce() -> String) {
        if self.verbose {
            eprintln!("{}", text());
        }
    }
}
