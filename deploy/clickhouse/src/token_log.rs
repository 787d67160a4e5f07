//! Takes back insert tokens whose rows never came to be.
//!
//! A plain MergeTree table remembers the tokens of its inserts in a log, and writes a token there
//! *before* it moves the insert's part into place. An engine that is killed between the two
//! remembers a token without rows: a retry, which is what an insert without an answer gets, is taken
//! for a duplicate and dropped, and its rows are missing for good, from the table or from a view's
//! target. Replicated tables commit both at once; nothing does so for plain ones. As this server
//! runs its engine on a directory that it has to itself, it can look before it opens it: a token
//! whose part lies nowhere, not even in a merged one, is dropped from the log. (So are tokens of parts
//! that the TTL has taken since, which nobody asks for again.)
//!
//! ```text
//! <engine>/store/<abc>/<uuid>/deduplication_logs/deduplication_log_<n>.txt
//!     1 \t all_7_7_0 \t <token>      this part was inserted under this token
//!     2 \t all_7_7_0 \t <token>      and is forgotten
//! <engine>/store/<abc>/<uuid>/all_1_9_2       holds the rows of parts 1 to 9
//! ```

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

const ADDED: &str = "1";
const DROPPED: &str = "2";
const LOGS_FOLDER: &str = "deduplication_logs";

/// Goes through all tables of a closed engine; returns how many tokens were taken back.
///
/// # Errors
/// A directory or log cannot be read, or not be written.
pub(crate) fn repair(engine: &Path) -> io::Result<usize> {
    let mut taken_back = 0;
    for group in folders(&engine.join("store"))? {
        for table in folders(&group)? {
            taken_back += repair_table(&table)?;
        }
    }
    Ok(taken_back)
}

fn repair_table(table: &Path) -> io::Result<usize> {
    let logs = logs(&table.join(LOGS_FOLDER))?;
    let Some(newest) = logs.last() else { return Ok(0) };
    let mut parts: HashMap<String, Vec<Part>> = HashMap::new();
    for folder in folders(table)? {
        let name = folder.file_name().and_then(|name| name.to_str());
        if let Some(part) = name.and_then(Part::parse) {
            parts.entry(part.partition.clone()).or_default().push(part);
        }
    }
    let mut orphans = String::new();
    let mut count = 0;
    for (token, name) in live_tokens(&logs)? {
        let Some(inserted) = Part::parse(&name) else { continue };
        let there = parts
            .get(&inserted.partition)
            .is_some_and(|parts| parts.iter().any(|part| part.covers(&inserted)));
        if !there {
            orphans.push_str(&format!("{DROPPED}\t{name}\t{token}\n"));
            count += 1;
        }
    }
    if count > 0 {
        let mut log = OpenOptions::new().append(true).open(newest)?;
        log.write_all(orphans.as_bytes())?;
        log.sync_data()?;
        tracing::warn!(table = %table.display(), tokens = count, "insert tokens without rows dropped");
    }
    Ok(count)
}

/// Tokens that the table goes by, each with the name of its part.
fn live_tokens(logs: &[PathBuf]) -> io::Result<HashMap<String, String>> {
    let mut live = HashMap::new();
    for log in logs {
        for line in BufReader::new(File::open(log)?).lines() {
            let line = line?;
            // The last line of a killed engine may be cut short; the engine reads it as it likes.
            let mut fields = line.splitn(3, '\t');
            match (fields.next(), fields.next(), fields.next()) {
                (Some(ADDED), Some(part), Some(token)) => {
                    live.insert(token.to_owned(), part.to_owned());
                }
                (Some(DROPPED), Some(_), Some(token)) => {
                    live.remove(token);
                }
                _ => {}
            }
        }
    }
    Ok(live)
}

/// The logs of a table, oldest first; none if it keeps no tokens.
fn logs(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let number = |path: &Path| -> Option<u64> {
        let name = path.file_name()?.to_str()?;
        name.strip_prefix("deduplication_log_")?.strip_suffix(".txt")?.parse().ok()
    };
    let mut logs: Vec<(u64, PathBuf)> = entries(folder)?
        .into_iter()
        .filter_map(|path| number(&path).map(|number| (number, path)))
        .collect();
    logs.sort();
    Ok(logs.into_iter().map(|(_, path)| path).collect())
}

/// A part's name: `<partition>_<first block>_<last block>_<level>`, and a mutation's number perhaps.
#[derive(Debug, PartialEq, Eq)]
struct Part {
    partition: String,
    first: u64,
    last: u64,
}

impl Part {
    fn parse(name: &str) -> Option<Part> {
        let fields: Vec<&str> = name.split('_').collect();
        let (&[partition, first, last, level] | &[partition, first, last, level, _]) = &fields[..]
        else {
            return None;
        };
        level.parse::<u32>().ok()?;
        let partition = partition.to_owned();
        Some(Part { partition, first: first.parse().ok()?, last: last.parse().ok()? })
    }

    fn covers(&self, other: &Part) -> bool {
        self.partition == other.partition && self.first <= other.first && other.last <= self.last
    }
}

/// The folders in a folder, which need not exist.
fn folders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(entries(folder)?.into_iter().filter(|path| path.is_dir()).collect())
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| entry.map(|entry| entry.path())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table's folder with these parts and this log.
    fn table(engine: &Path, parts: &[&str], log: &str) -> PathBuf {
        let table = engine.join("store/abc/abcdef");
        fs::create_dir_all(table.join(LOGS_FOLDER)).unwrap();
        for part in parts {
            fs::create_dir_all(table.join(part)).unwrap();
        }
        let path = table.join(LOGS_FOLDER).join("deduplication_log_1.txt");
        fs::write(&path, log).unwrap();
        path
    }

    #[test]
    fn a_token_without_a_part_is_dropped_once() {
        let engine = tempfile::tempdir().unwrap();
        let parts = ["20261121_1_1_0", "20261121_3_3_1", "tmp_insert_20261121_2_2_0", "detached"];
        let known = "1\t20261121_1_1_0\ta\n1\t20261121_2_2_0\tb\n1\t20261121_3_3_1\tc\n";
        let log = table(engine.path(), &parts, known);
        assert_eq!(repair(engine.path()).unwrap(), 1);
        let repaired = format!("{known}2\t20261121_2_2_0\tb\n");
        assert_eq!(fs::read_to_string(&log).unwrap(), repaired);
        assert_eq!(repair(engine.path()).unwrap(), 0);
        assert_eq!(fs::read_to_string(&log).unwrap(), repaired);
    }

    #[test]
    fn a_part_that_was_merged_or_mutated_keeps_its_token() {
        let engine = tempfile::tempdir().unwrap();
        table(
            engine.path(),
            &["all_1_9_2", "all_10_10_0_14"],
            "1\tall_1_1_0\ta\n1\tall_9_9_0\tb\n1\tall_10_10_0\tc\n",
        );
        assert_eq!(repair(engine.path()).unwrap(), 0);
    }

    #[test]
    fn other_partitions_do_not_vouch_for_a_part() {
        let engine = tempfile::tempdir().unwrap();
        table(engine.path(), &["20261121_1_9_2"], "1\t20261122_5_5_0\ta\n");
        assert_eq!(repair(engine.path()).unwrap(), 1);
    }

    #[test]
    fn a_token_that_was_given_again_goes_by_its_last_part() {
        let engine = tempfile::tempdir().unwrap();
        let log =
            "1\tall_1_1_0\ta\n2\tall_1_1_0\ta\n1\tall_2_2_0\ta\n1\tall_3_3_0\tb\n2\tall_3_3_0\tb\n";
        table(engine.path(), &["all_2_2_0"], log);
        assert_eq!(repair(engine.path()).unwrap(), 0);
    }

    #[test]
    fn what_is_no_log_line_is_left_alone() {
        let engine = tempfile::tempdir().unwrap();
        table(engine.path(), &[], "1\tall_1_1\n\n9\tx\ty\n1\tnonsense\ttoken\n1\tall_1");
        assert_eq!(repair(engine.path()).unwrap(), 0);
        assert_eq!(repair(&engine.path().join("nowhere")).unwrap(), 0);
    }
}
