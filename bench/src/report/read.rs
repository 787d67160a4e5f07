//! Reads a report back from its file.

use serde_json::Value;

use super::{FORMAT, Report};
use crate::limits::REPORT_BYTES_MAX;

/// Why a file is no report that this program can read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("it has {bytes} bytes, and reports have at most {REPORT_BYTES_MAX}")]
    TooLarge { bytes: usize },
    #[error("it is not JSON ({0}); `lanecast bench run` writes reports, as DATE-TIME.json")]
    NotJson(serde_json::Error),
    #[error("it is JSON, but no report of `lanecast bench run`: it has no number `format`")]
    NotAReport,
    #[error(
        "it has format {found}, and this program reads {FORMAT}: use the lanecast that wrote it, or a newer one"
    )]
    Format { found: u64 },
    #[error("it says that it is a report of format {FORMAT}, but {0}")]
    Damaged(serde_json::Error),
}

impl Report {
    /// The report in these bytes.
    ///
    /// # Errors
    /// They are no report, or one of another format. The error does not name the file.
    pub fn read(bytes: &[u8]) -> Result<Self, ReadError> {
        if bytes.len() > REPORT_BYTES_MAX {
            return Err(ReadError::TooLarge { bytes: bytes.len() });
        }
        let file: Value = serde_json::from_slice(bytes).map_err(ReadError::NotJson)?;
        match file.get("format").and_then(Value::as_u64) {
            None => Err(ReadError::NotAReport),
            Some(found) if found != u64::from(FORMAT) => Err(ReadError::Format { found }),
            Some(_) => serde_json::from_slice(bytes).map_err(ReadError::Damaged),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Role;
    use crate::report::Bound;

    /// As the first program wrote it; it never changes.
    const FORMAT_1: &[u8] = include_bytes!("testdata/format-1.json");

    #[test]
    fn a_report_of_format_1_still_reads() {
        let report = Report::read(FORMAT_1).unwrap();
        assert_eq!((report.format, &*report.version), (1, "0.1.0"));
        assert_eq!(report.run, None);
        assert_eq!(report.machine.cores, 2);
        let case = &report.cases[0];
        assert_eq!(case.case.name(), "publish: fsync, 512 x 1 KiB, 16 in flight");
        let roles: Vec<Role> = case.systems.iter().map(|system| system.role).collect();
        assert_eq!(roles, [Role::Ceiling, Role::Lanecast, Role::Peer]);
        let lanecast = &case.systems[1];
        assert_eq!(lanecast.rounds[1].p99_ns, 9_240_575);
        assert_eq!(lanecast.rounds[0].cpu_ns_per_record["broker"], 212.5);
        assert_eq!(lanecast.curve[1], (50.0, 5_451_775));
        assert_eq!(case.systems[2].failure.as_deref(), Some("redis-server is not installed"));
        assert_eq!(report.goals[0].bound, Bound::AtLeast(0.85));
        assert_eq!(report.goals[1].bound, Bound::AtMost(2.0));
        assert_eq!(report.goals[1].values, [1.5, 1.75]);
    }

    #[test]
    fn what_is_written_reads_again() {
        let report = Report::read(FORMAT_1).unwrap();
        let written = serde_json::to_vec(&report).unwrap();
        assert_eq!(Report::read(&written).unwrap(), report);
    }

    #[test]
    fn what_is_no_report_says_so() {
        let refused = |bytes: &[u8]| Report::read(bytes).unwrap_err().to_string();
        assert!(refused(b"").contains("not JSON"));
        assert!(refused(b"# a table\n").contains("not JSON"));
        assert!(refused(&FORMAT_1[..FORMAT_1.len() / 2]).contains("not JSON"));
        assert!(refused(b"[1, 2]").contains("no report"));
        assert!(refused(b"{\"rows\": 5}").contains("no report"));
        assert!(refused(b"{\"format\": \"one\"}").contains("no report"));
        let newer = refused(b"{\"format\": 7, \"cases\": 1}");
        assert!(newer.contains("format 7") && newer.contains("newer"), "{newer}");
        let damaged = refused(b"{\"format\": 1, \"version\": \"1\"}");
        assert!(damaged.contains("missing field"), "{damaged}");
        let large = vec![b' '; REPORT_BYTES_MAX + 1];
        assert!(refused(&large).contains("at most"));
    }
}
