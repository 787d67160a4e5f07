//! One colour per system, the same all over the page.

use crate::Role;
use crate::report::{Report, SystemResult};

/// Classes of the style sheet: `s0` is the ceiling's, `s1` Lanecast's own, then others.
const COLOURS: usize = 9;

pub(super) struct Palette {
    /// Names, or families where no case has two of one.
    others: Vec<String>,
}

impl Palette {
    pub(super) fn new(report: &Report) -> Self {
        let mut others: Vec<String> = Vec::new();
        for case in &report.cases {
            let is_ours = |system: &&SystemResult| system.role == Role::Lanecast;
            let is_alone = case.systems.iter().filter(is_ours).count() == 1;
            for SystemResult { system, role, .. } in &case.systems {
                let same = |other: &&SystemResult| family(&other.system) == family(system);
                let name = match role {
                    Role::Ceiling => continue,
                    Role::Lanecast if is_alone || system == "lanecast" => continue,
                    Role::Peer if case.systems.iter().filter(same).count() == 1 => family(system),
                    Role::Lanecast | Role::Peer => system,
                };
                if !others.iter().any(|other| other == name) {
                    others.push(name.to_owned());
                }
            }
        }
        Self { others }
    }

    /// The class of a system.
    pub(super) fn class(&self, system: &str, role: Role) -> String {
        let place = |name: &str| self.others.iter().position(|other| other == name);
        let own = match role {
            Role::Ceiling => return "s0".to_owned(),
            Role::Lanecast => place(system),
            Role::Peer => place(system).or_else(|| place(family(system))),
        };
        format!("s{}", own.map_or(1, |place| 2 + place % (COLOURS - 2)))
    }
}

/// `redis` of `redis always`: the same program, set up in another way.
fn family(system: &str) -> &str {
    system.split(' ').next().unwrap_or(system)
}

/// What a system is, in a word where it needs one.
pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::Ceiling => "ceiling",
        Role::Lanecast => "",
        Role::Peer => "peer",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Case;
    use crate::report::CaseResult;
    use crate::report::tests::{report, result};

    #[test]
    fn a_program_keeps_its_colour_and_neighbours_have_different_ones() {
        let case = |systems: &[(&str, Role)]| CaseResult {
            case: Case::new("publish", &[]),
            systems: systems.iter().map(|(name, role)| result(name, *role, &[1.0])).collect(),
        };
        let (ours, peer) = (Role::Lanecast, Role::Peer);
        let palette = Palette::new(&report(vec![
            case(&[
                ("disk", Role::Ceiling),
                ("lanecast", ours),
                ("redis always", peer),
                ("nats a", peer),
            ]),
            case(&[("lanecast", ours), ("lanecast, 2 shards", ours), ("redis everysec", peer)]),
            case(&[("queue", ours), ("nats b", peer), ("nats c", peer)]),
        ]));
        assert_eq!(palette.class("disk", Role::Ceiling), "s0");
        assert_eq!(palette.class("lanecast", ours), "s1");
        assert_eq!(palette.class("queue", ours), "s1");
        assert_eq!(palette.class("redis always", peer), palette.class("redis everysec", peer));
        assert_ne!(palette.class("nats b", peer), palette.class("nats c", peer));
        assert_ne!(palette.class("lanecast", ours), palette.class("lanecast, 2 shards", ours));
        assert_ne!(palette.class("redis always", peer), palette.class("nats a", peer));
    }
}
