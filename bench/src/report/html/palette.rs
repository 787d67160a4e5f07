//! One colour per system, the same all over the page.

use crate::Role;
use crate::report::{Report, SystemResult};

/// Classes of the style sheet: `s0` is the ceiling's, `s1` Lanecast's own, then others.
const COLOURS: usize = 9;

pub(super) struct Palette {
    others: Vec<String>,
}

impl Palette {
    pub(super) fn new(report: &Report) -> Self {
        let mut others: Vec<String> = Vec::new();
        for case in &report.cases {
            let is_ours = |system: &&SystemResult| system.role == Role::Lanecast;
            let is_alone = case.systems.iter().filter(is_ours).count() == 1;
            for SystemResult { system, role, .. } in &case.systems {
                let has_its_own = match role {
                    Role::Ceiling => true,
                    Role::Lanecast => is_alone || system == "lanecast",
                    Role::Peer => false,
                };
                if !has_its_own && !others.contains(system) {
                    others.push(system.clone());
                }
            }
        }
        Self { others }
    }

    /// The class of a system.
    pub(super) fn class(&self, system: &str, role: Role) -> String {
        let place = match (role, self.others.iter().position(|other| other == system)) {
            (Role::Ceiling, _) => 0,
            (Role::Lanecast | Role::Peer, Some(place)) => 2 + place % (COLOURS - 2),
            (Role::Lanecast | Role::Peer, None) => 1,
        };
        format!("s{place}")
    }
}

/// What a system is, in a word where it needs one.
pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::Ceiling => "ceiling",
        Role::Lanecast => "",
        Role::Peer => "peer",
    }
}
