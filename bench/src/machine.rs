//! What the figures were measured on.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A machine, as far as it decides what comes out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    /// That this process may use.
    pub cores: usize,
    pub memory_bytes: u64,
    pub kernel: String,
    /// Of the folder that data went to.
    pub file_system: String,
    /// `net.ipv4.tcp_congestion_control`: what systems use that do not choose, which are all peers.
    pub congestion_control: String,
    /// What Lanecast, the relay and all clients choose for loopback; empty in older reports.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub congestion_control_chosen: String,
    /// Processes that waited for a core in the last minute, when the run began.
    pub load: String,
}

impl Machine {
    /// This one, with data in `folder`.
    #[must_use]
    pub fn here(folder: &Path) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpu_info = read("/proc/cpuinfo");
        let model =
            cpu_info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let memory = read("/proc/meminfo");
        let kib = memory
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next());
        Self {
            cpu: model.map_or("unknown", |(_, name)| name.trim()).to_owned(),
            cores: crate::cpu::cores().len(),
            memory_bytes: kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            file_system: file_system(folder, &read("/proc/self/mounts")),
            congestion_control: read("/proc/sys/net/ipv4/tcp_congestion_control").trim().to_owned(),
            congestion_control_chosen: crate::server::chosen_congestion_control(),
            load: read("/proc/loadavg").split_whitespace().next().unwrap_or("unknown").to_owned(),
        }
    }
}

impl Machine {
    /// Who uses which: `cubic`, or `cubic (Lanecast, relay, clients), bbr (peers)`.
    #[must_use]
    pub fn congestion_controls(&self) -> String {
        let (chosen, default) = (&self.congestion_control_chosen, &self.congestion_control);
        match self.is_one_congestion_control() {
            true => default.clone(),
            false => format!("{chosen} (Lanecast, relay, clients), {default} (peers)"),
        }
    }

    fn is_one_congestion_control(&self) -> bool {
        let chosen = &self.congestion_control_chosen;
        chosen.is_empty() || *chosen == self.congestion_control
    }

    /// That peers are at a disadvantage, or at an advantage, and what to do.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let (chosen, default) = (&self.congestion_control_chosen, &self.congestion_control);
        let pacing = if default == "bbr" { ", which paces even loopback," } else { "" };
        (!self.is_one_congestion_control()).then(|| {
            format!(
                "peers send with {default}{pacing} and all others with {chosen}, so that they do not compare: \
                 set net.ipv4.tcp_congestion_control={chosen} for the run (bench/README.md says how)"
            )
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cores, kernel, file_system, load, .. } = self;
        let congestion_control = self.congestion_controls();
        let memory = self.memory_bytes >> 30;
        write!(
            out,
            "{cores} cores ({cpu}), {memory} GiB, {file_system}, Linux {kernel}, tcp {congestion_control}, \
             load {load} at the start"
        )
    }
}

/// The type of the mount with the longest name that `folder` is under.
fn file_system(folder: &Path, mounts: &str) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let of = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (at, kind) = (words.next()?.to_owned(), words.next()?.to_owned());
        folder.starts_with(&at).then_some((at.len(), kind))
    };
    let found = mounts.lines().filter_map(of).max();
    found.map_or_else(|| "unknown file system".to_owned(), |(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_with_another_congestion_control_are_warned_about() {
        let machine = |chosen: &str, default: &str| Machine {
            congestion_control: default.to_owned(),
            congestion_control_chosen: chosen.to_owned(),
            ..Machine::default()
        };
        for same in [machine("cubic", "cubic"), machine("", "bbr")] {
            assert_eq!(same.warning(), None, "{same:?}");
            assert_eq!(same.congestion_controls(), same.congestion_control);
        }
        let warning = machine("cubic", "bbr").warning().unwrap();
        assert!(warning.contains("peers send with bbr, which paces"), "{warning}");
        assert!(warning.contains("tcp_congestion_control=cubic"), "{warning}");
        let shown = machine("cubic", "bbr").to_string();
        assert!(shown.contains("tcp cubic (Lanecast, relay, clients), bbr (peers)"), "{shown}");
        let here = Machine::here(Path::new("."));
        assert!(["cubic", "reno"].contains(&&*here.congestion_control_chosen), "{here:?}");
    }

    #[test]
    fn the_innermost_mount_names_the_file_system() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /no/such tmpfs rw 0 0\n/dev/b /no xfs rw 0 0\n";
        assert_eq!(file_system(Path::new("/no/such/folder"), mounts), "tmpfs");
        assert_eq!(file_system(Path::new("/no/thing"), mounts), "xfs");
        assert_eq!(file_system(Path::new("/elsewhere"), mounts), "ext4");
        assert!(Machine::here(Path::new(".")).cores > 0);
    }
}
