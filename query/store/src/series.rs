//! The series of a block, each translated once however many batches it is in.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use lanecast_telemetry::Identity;

use crate::dictionary::Dictionary;
use crate::native::put_string;

/// Strings of an identity, in the order of [`strings`].
pub(crate) const STRINGS: usize = 7;

fn strings<'v>(identity: &Identity<'v>) -> [&'v str; STRINGS] {
    [
        identity.uuid,
        identity.device,
        identity.model,
        identity.hostname,
        identity.container,
        identity.pod,
        identity.namespace,
    ]
}

/// Identities by number, and what stands for each of them in the columns.
#[derive(Default)]
pub(crate) struct SeriesTable<'v> {
    identities: Vec<Identity<'v>>,
    /// The series that was seen last of each uuid: mostly the next batch has the same.
    newest: HashMap<&'v str, u32, RandomState>,
    dictionaries: [Dictionary<'v>; STRINGS],
    /// By string and series.
    codes: [Vec<u32>; STRINGS],
    label_keys: Dictionary<'v>,
    /// By series.
    labels: Vec<SeriesLabels>,
}

/// The extra labels of one series: dictionary codes of the keys, and the values as encoded.
#[derive(Default)]
pub(crate) struct SeriesLabels {
    pub(crate) keys: Vec<u32>,
    pub(crate) values: Vec<u8>,
}

impl<'v> SeriesTable<'v> {
    /// The number of an identity, which is added when its uuid was somebody else last.
    pub(crate) fn series(&mut self, identity: Identity<'v>) -> u32 {
        if let Some(&known) = self.newest.get(identity.uuid)
            && self.identities[known as usize] == identity
        {
            return known;
        }
        let series = self.identities.len() as u32;
        for (column, string) in strings(&identity).into_iter().enumerate() {
            self.codes[column].push(self.dictionaries[column].code(string));
        }
        let mut labels = SeriesLabels::default();
        for (key, value) in identity.labels {
            labels.keys.push(self.label_keys.code(key));
            put_string(&mut labels.values, value);
        }
        self.labels.push(labels);
        self.newest.insert(identity.uuid, series);
        self.identities.push(identity);
        series
    }

    pub(crate) fn len(&self) -> u32 {
        self.identities.len() as u32
    }

    pub(crate) fn dictionary(&self, string: usize) -> &Dictionary<'v> {
        &self.dictionaries[string]
    }

    pub(crate) fn code(&self, string: usize, series: u32) -> u32 {
        self.codes[string][series as usize]
    }

    pub(crate) fn gpu_index(&self, series: u32) -> u32 {
        self.identities[series as usize].gpu_index
    }

    pub(crate) fn label_keys(&self) -> &Dictionary<'v> {
        &self.label_keys
    }

    pub(crate) fn labels(&self, series: u32) -> &SeriesLabels {
        &self.labels[series as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_translated_once_and_a_changed_one_anew() {
        let mut table = SeriesTable::default();
        let first = Identity { uuid: "a", pod: "x", ..Identity::default() };
        let moved = Identity { pod: "y", ..first };
        let other = Identity { uuid: "b", ..first };
        let numbers = [first, other, first, moved, moved, other].map(|one| table.series(one));
        assert_eq!(numbers, [0, 1, 0, 2, 2, 1]);
        let pods = [0, 1, 2].map(|series| table.code(5, series));
        assert_eq!((pods, table.dictionary(5).strings()), ([0, 0, 1], &["x", "y"][..]));
        assert_eq!(table.dictionary(0).strings(), ["a", "b"]);
    }
}
