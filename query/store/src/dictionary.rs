//! Strings of one column, each numbered once.

use std::collections::HashMap;

use foldhash::fast::RandomState;

/// The distinct strings of a `LowCardinality(String)` column, in order of first sight.
#[derive(Default)]
pub(crate) struct Dictionary<'v> {
    strings: Vec<&'v str>,
    codes: HashMap<&'v str, u32, RandomState>,
    /// What was asked for last: neighbours mostly share host, model and namespace.
    last: Option<(&'v str, u32)>,
}

impl<'v> Dictionary<'v> {
    /// The code of `string`, which is a new one when it is seen for the first time.
    pub(crate) fn code(&mut self, string: &'v str) -> u32 {
        if let Some((last, code)) = self.last
            && last == string
        {
            return code;
        }
        let code = *self.codes.entry(string).or_insert_with(|| {
            self.strings.push(string);
            (self.strings.len() - 1) as u32
        });
        self.last = Some((string, code));
        code
    }

    pub(crate) fn strings(&self) -> &[&'v str] {
        &self.strings
    }

    /// By code, how many of the strings are smaller, in the order of their bytes.
    pub(crate) fn ranks(&self) -> Vec<u32> {
        let mut codes: Vec<usize> = (0..self.strings.len()).collect();
        codes.sort_unstable_by_key(|&code| self.strings[code]);
        let mut ranks = vec![0; codes.len()];
        for (rank, code) in (0..).zip(codes) {
            ranks[code] = rank;
        }
        ranks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_strings_share_a_code_in_order_of_first_sight() {
        let mut dictionary = Dictionary::default();
        let codes: Vec<_> = ["b", "a", "a", "b", "", "a"].map(|s| dictionary.code(s)).into();
        assert_eq!(codes, [0, 1, 1, 0, 2, 1]);
        assert_eq!(dictionary.strings(), ["b", "a", ""]);
        assert_eq!(dictionary.ranks(), [2, 1, 0]);
    }
}
