//! One colour per system, the same all over the page.

use super::Report;
use crate::Role;

/// Classes of the style sheet: `s0` is the ceiling's, `s1` Lanecast's own, then others.
const COLOURS: usize = 9;

pub(super) struct Palette {
    others: Vec<String>,
}

impl Palette {
    pub(super) fn new(report: &Report) -> Self {
        let mut others: Vec<String> = Vec::new();
        for system in report.cases.iter().flat_map(|case| &case.systems) {
            let has_its_own = system.role == Role::Ceiling || system.system == "lanecast";
            if !has_its_own && !others.contains(&system.system) {
                others.push(system.system.clone());
            }
        }
        Self { others }
    }

    /// The class of a system.
    pub(super) fn class(&self, system: &str, role: Role) -> String {
        let place = match (role, system) {
            (Role::Ceiling, _) => 0,
            (Role::Lanecast | Role::Peer, "lanecast") => 1,
            (Role::Lanecast | Role::Peer, _) => {
                let place = self.others.iter().position(|other| other == system);
                2 + place.unwrap_or(0) % (COLOURS - 2)
            }
        };
        format!("s{place}")
    }
}

/// What a system is, in a word.
pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::Ceiling => "ceiling",
        Role::Lanecast => "Lanecast",
        Role::Peer => "peer",
    }
}
