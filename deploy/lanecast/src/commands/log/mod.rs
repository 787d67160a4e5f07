//! `lanecast log`: what is in the files of a broker that does not run.
//!
//! Reads with the code that recovers logs, and changes nothing.

mod dump;
mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use lanecast_broker::offline::{self, Held, LogFiles};
use lanecast_core::inspect::{self, Found, Item};
use lanecast_core::{LogId, Place, RecoveryReport};
use lanecast_wire::PartitionId;

pub(super) use self::dump::dump;
pub(super) use self::verify::verify;
use crate::settings::{Settings, table};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The logs that a command is about, and the names of their topics.
struct Logs {
    _held: Held,
    path: PathBuf,
    logs: Vec<LogFiles>,
    topics: Topics,
}

/// What the catalog has of topics, by number.
#[derive(Debug, Default)]
struct Topics {
    /// Of deleted ones, too.
    names: BTreeMap<u32, String>,
    alive: BTreeSet<u32>,
    /// The highest number that is known to have been given out.
    last: u32,
}

impl Topics {
    fn read(&mut self, item: Item) {
        match item {
            Item::Topic(topic) => {
                self.last = self.last.max(topic.topic);
                self.alive.insert(topic.topic);
                self.names.insert(topic.topic, topic.name);
            }
            Item::DeletedTopic { topic, .. } => {
                self.last = self.last.max(topic);
                self.alive.remove(&topic);
            }
            Item::Batch { .. }
            | Item::Group { .. }
            | Item::Producer { .. }
            | Item::Unreadable { .. } => {}
        }
    }

    /// Has it been deleted?
    fn is_gone(&self, topic: u32) -> bool {
        topic <= self.last && !self.alive.contains(&topic)
    }
}

impl Logs {
    fn open(settings: &Settings) -> Result<Self, Failure> {
        let path = PathBuf::from(settings.required(&table::LOG_PATH)?);
        let held = offline::hold(&path)?;
        let mut logs = offline::find_logs(&path)?;
        let topics = topics(&path);
        // A topic that was deleted leaves its witnesses for last.
        logs.retain(|files| {
            let gone = partition(files.log).is_some_and(|one| topics.is_gone(one.topic.0));
            files.is_there() || !gone
        });
        if let Some(wanted) = settings.text(&table::LOG_TOPIC) {
            let is_wanted = |topic: u32| {
                topics.names.get(&topic).is_some_and(|name| name == wanted)
                    || wanted.parse().is_ok_and(|number: u32| number == topic)
            };
            logs.retain(|files| partition(files.log).is_some_and(|one| is_wanted(one.topic.0)));
        }
        if settings.text(&table::LOG_PARTITION).is_some() {
            let wanted: u32 = settings.parse(&table::LOG_PARTITION)?;
            logs.retain(|files| partition(files.log).is_some_and(|one| one.index == wanted));
        }
        if logs.is_empty() {
            return Err("no log of that topic and partition is there".into());
        }
        Ok(Self { _held: held, path, logs, topics })
    }

    /// The log in words, such as `telemetry/3 groups`.
    fn title(&self, log: LogId) -> String {
        let part = match log {
            LogId::Catalog => return "catalog".to_owned(),
            LogId::Data(_) => "data",
            LogId::Groups(_) => "groups",
        };
        let Some(PartitionId { topic, index }) = partition(log) else { return part.to_owned() };
        match self.topics.names.get(&topic.0) {
            Some(name) => format!("{name}/{index} {part}"),
            None => format!("topic {topic}/{index} {part}", topic = topic.0),
        }
    }

    /// A file's path, below what was asked for where it is there.
    fn shown(&self, path: &Path) -> String {
        let root = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        let below = path.strip_prefix(&root).ok().filter(|below| !below.as_os_str().is_empty());
        below.unwrap_or(path).display().to_string()
    }

    fn file(&self, files: &LogFiles, place: Place) -> String {
        self.shown(&files.path_of(place.segment))
    }
}

fn partition(log: LogId) -> Option<PartitionId> {
    match log {
        LogId::Catalog => None,
        LogId::Data(partition) | LogId::Groups(partition) => Some(partition),
    }
}

fn walk(files: &LogFiles, found: impl FnMut(Found)) -> Result<RecoveryReport, Failure> {
    let read = |place, bytes| files.read(place, bytes);
    let walked = inspect::inspect(files.log, files.segments.clone(), files.witness, read, found);
    walked.map_err(|error| error.to_string().into())
}

/// The topics in the catalog of the directory that `path` is or lies in; as many
/// as can be read.
fn topics(path: &Path) -> Topics {
    let mut topics = Topics::default();
    let Ok(path) = path.canonicalize() else { return topics };
    let catalog = path.ancestors().map(|folder| folder.join("catalog")).find(|path| path.is_dir());
    let catalog = catalog.and_then(|catalog| offline::find_logs(&catalog).ok());
    for files in catalog.unwrap_or_default() {
        // What cannot be read is told where the catalog itself is looked at.
        let _report = walk(&files, |found| {
            if let Found::Block(block) = found {
                block.items(files.log).into_iter().for_each(|item| topics.read(item));
            }
        });
    }
    topics
}
