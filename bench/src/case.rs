//! What is measured, and who takes part.

use serde::{Deserialize, Serialize};

use crate::{Error, Sample};

/// One question, the same for every system that is asked: a scenario and its circumstances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// `publish`, `end-to-end`, ...
    pub scenario: String,
    /// Names and values, such as `durability` and `fsync`; with the scenario they name the case.
    pub circumstances: Vec<(String, String)>,
}

impl Case {
    #[must_use]
    pub fn new(scenario: &str, circumstances: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let circumstances = circumstances.iter().map(owned).collect();
        Self { scenario: scenario.to_owned(), circumstances }
    }

    /// `publish: fsync, 64 x 1 KiB, 8 in flight`
    #[must_use]
    pub fn name(&self) -> String {
        let values: Vec<&str> = self.circumstances.iter().map(|(_, value)| &**value).collect();
        let separator = if values.is_empty() { "" } else { ": " };
        format!("{}{separator}{}", self.scenario, values.join(", "))
    }
}

/// What a system is in a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// What the machine gives with nothing in between: everybody is compared with it.
    Ceiling,
    Lanecast,
    Peer,
}

type Run<'a> = Box<dyn FnMut() -> Result<Sample, Error> + 'a>;

/// A system that takes part in a case. Each call of `run` is one run from a fresh start.
pub struct Contender<'a> {
    /// `lanecast`, `relay`, `redis always`, ...
    pub system: String,
    pub role: Role,
    /// What its acknowledgement means, in words for a reader.
    pub acknowledges: String,
    pub run: Run<'a>,
}

impl<'a> Contender<'a> {
    pub fn new(
        system: &str,
        role: Role,
        acknowledges: &str,
        run: impl FnMut() -> Result<Sample, Error> + 'a,
    ) -> Self {
        let (system, acknowledges) = (system.to_owned(), acknowledges.to_owned());
        Self { system, role, acknowledges, run: Box::new(run) }
    }
}
