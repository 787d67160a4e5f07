//! A page of samples in columns: ClickHouse's Native format, as [`crate::native`] draws it.
//!
//! A string stands once in the dictionary of its column, where it is checked once; a row is then an
//! index into each column. Nothing of the answer is trusted: every length is held against the bytes
//! that are there before anything is made of it, every code against its dictionary.

use super::SampleRow;
use crate::limits;
use crate::native::{put_column_start, put_varint};

/// What the columns of a page are, in the order in which the statement names them; the last only
/// where the statement counts.
const COLUMNS: [(&str, &str); 15] = [
    ("ts", TIME),
    ("source_ts", TIME),
    ("metric", STRING),
    ("value", "Float64"),
    ("gpu_uuid", STRING),
    ("gpu_index", "UInt32"),
    ("device", STRING),
    ("model", STRING),
    ("hostname", STRING),
    ("container", STRING),
    ("pod", STRING),
    ("namespace", STRING),
    ("topic_partition", "UInt32"),
    ("topic_offset", "UInt64"),
    (TOTAL, "UInt64"),
];
/// How many samples there are beside the page.
pub(super) const TOTAL: &str = "total";
const TIME: &str = "DateTime64(3, 'UTC')";
const STRING: &str = "LowCardinality(String)";

/// The columns of a sample, as a statement lists them; not [`TOTAL`].
pub(super) fn list() -> String {
    let names: Vec<_> = COLUMNS[..COLUMNS.len() - 1].iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

/// Flags of a dictionary: its keys stand in another block, or right here; and the width of its codes.
const KEYS_ELSEWHERE: u64 = 1 << 8;
const KEYS_HERE: u64 = 1 << 9;
const CODE_WIDTH: u64 = 0xff;
const DICTIONARY_VERSION: u64 = 1;

/// An answer that is not what the statement asks for, or not whole.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the answer is not a page of samples: {0}")]
pub(super) struct Malformed(&'static str);

/// Some rows of a page.
#[derive(Debug)]
pub(super) struct Block<'a> {
    rows: usize,
    ts: &'a [[u8; 8]],
    source_ts: &'a [[u8; 8]],
    metric: Strings<'a>,
    value: &'a [[u8; 8]],
    gpu_uuid: Strings<'a>,
    gpu_index: &'a [[u8; 4]],
    device: Strings<'a>,
    model: Strings<'a>,
    hostname: Strings<'a>,
    container: Strings<'a>,
    pod: Strings<'a>,
    namespace: Strings<'a>,
    topic_partition: &'a [[u8; 4]],
    topic_offset: &'a [[u8; 8]],
    /// None unless the statement counts.
    total: &'a [[u8; 8]],
}

/// A column of strings. Every code has an entry in the dictionary.
#[derive(Debug)]
struct Strings<'a> {
    dictionary: Vec<&'a str>,
    codes: Codes<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Codes<'a> {
    One(&'a [u8]),
    Two(&'a [[u8; 2]]),
    Four(&'a [[u8; 4]]),
}

impl<'a> Block<'a> {
    /// Takes the next block from the front of an answer; `None` at its end.
    pub(super) fn take(answer: &mut &'a [u8]) -> Result<Option<Self>, Malformed> {
        if answer.is_empty() {
            return Ok(None);
        }
        let mut input = Input { rest: answer, columns: COLUMNS.iter() };
        let columns = input.length()?;
        let rows = input.length()?;
        let counts = match columns {
            columns if columns == COLUMNS.len() => true,
            columns if columns == COLUMNS.len() - 1 => false,
            _ => return Err(Malformed("it has more columns, or fewer")),
        };
        let block = Self {
            rows,
            ts: input.numbers(rows)?,
            source_ts: input.numbers(rows)?,
            metric: input.strings(rows)?,
            value: input.numbers(rows)?,
            gpu_uuid: input.strings(rows)?,
            gpu_index: input.numbers(rows)?,
            device: input.strings(rows)?,
            model: input.strings(rows)?,
            hostname: input.strings(rows)?,
            container: input.strings(rows)?,
            pod: input.strings(rows)?,
            namespace: input.strings(rows)?,
            topic_partition: input.numbers(rows)?,
            topic_offset: input.numbers(rows)?,
            total: if counts { input.numbers(rows)? } else { &[] },
        };
        *answer = input.rest;
        Ok(Some(block))
    }

    /// How many samples there are beside the page, if the statement counts them.
    pub(super) fn total(&self) -> Option<u64> {
        self.total.first().map(|total| u64::from_le_bytes(*total))
    }

    fn strings(&self) -> [&Strings<'a>; 8] {
        let Self { metric, gpu_uuid, device, model, hostname, container, pod, namespace, .. } =
            self;
        [metric, gpu_uuid, device, model, hostname, container, pod, namespace]
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = SampleRow<'a>> + '_ {
        (0..self.rows).map(|row| SampleRow {
            ts: i64::from_le_bytes(self.ts[row]),
            source_ts: i64::from_le_bytes(self.source_ts[row]),
            metric: self.metric.at(row),
            value: f64::from_le_bytes(self.value[row]),
            gpu_uuid: self.gpu_uuid.at(row),
            gpu_index: u32::from_le_bytes(self.gpu_index[row]),
            device: self.device.at(row),
            model: self.model.at(row),
            hostname: self.hostname.at(row),
            container: self.container.at(row),
            pod: self.pod.at(row),
            namespace: self.namespace.at(row),
            topic_partition: u32::from_le_bytes(self.topic_partition[row]),
            topic_offset: u64::from_le_bytes(self.topic_offset[row]),
            labels: Vec::new(),
        })
    }
}

impl<'a> Strings<'a> {
    fn at(&self, row: usize) -> &'a str {
        self.dictionary[self.codes.at(row)]
    }
}

impl Codes<'_> {
    fn at(self, row: usize) -> usize {
        match self {
            Self::One(codes) => usize::from(codes[row]),
            Self::Two(codes) => usize::from(u16::from_le_bytes(codes[row])),
            Self::Four(codes) => u32::from_le_bytes(codes[row]) as usize,
        }
    }
}

/// Reads any bytes as an answer, to its end: the target of fuzzing and of the property tests. `None`:
/// it is refused. An odd first byte says that what follows is the contents of columns, each behind its
/// length in one byte: their names and types are put in, which nobody would guess.
///
/// # Panics
/// Never, unless a check above is missing.
#[must_use]
pub fn exercise(data: &[u8]) -> Option<usize> {
    let (first, rest) = data.split_first()?;
    let answer = if first % 2 == 0 { rest.to_vec() } else { with_names(rest) };
    let (mut rest, mut rows) = (&*answer, 0);
    while let Some(block) = Block::take(&mut rest).ok()? {
        let dictionaries = block.strings().map(|strings| strings.dictionary.capacity());
        let bytes = dictionaries.iter().sum::<usize>() * size_of::<&str>();
        assert!(bytes <= limits::PAGE_DICTIONARIES_PART_MAX * answer.len(), "{bytes} bytes");
        for row in block.rows() {
            assert!(row.metric.len() + row.gpu_uuid.len() + row.labels.len() <= answer.len());
            rows += 1;
        }
        assert!(block.total().is_none() || block.rows > 0);
    }
    Some(rows)
}

fn with_names(mut contents: &[u8]) -> Vec<u8> {
    let mut take = || {
        let (&length, rest) = contents.split_first().unwrap_or((&0, &[]));
        let (content, rest) = rest.split_at(usize::from(length).min(rest.len()));
        contents = rest;
        content
    };
    let mut answer = Vec::new();
    let head = take();
    let columns = COLUMNS.len() - head.first().map_or(0, |counts| usize::from(counts % 2));
    put_varint(&mut answer, columns as u64);
    put_varint(&mut answer, head.get(1).map_or(0, |rows| u64::from(*rows)));
    for (name, kind) in &COLUMNS[..columns] {
        put_column_start(&mut answer, name, kind);
        answer.extend_from_slice(take());
    }
    answer
}

/// What is left of an answer, and the columns that have to be there.
struct Input<'a> {
    rest: &'a [u8],
    columns: core::slice::Iter<'static, (&'static str, &'static str)>,
}

impl<'a> Input<'a> {
    fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(Malformed("it breaks off"))?;
        self.rest = rest;
        Ok(bytes)
    }

    fn values<const WIDTH: usize>(&mut self, count: usize) -> Result<&'a [[u8; WIDTH]], Malformed> {
        let length = count.checked_mul(WIDTH).ok_or(Malformed("it breaks off"))?;
        Ok(self.bytes(length)?.as_chunks().0)
    }

    fn word(&mut self) -> Result<u64, Malformed> {
        self.values::<8>(1).map(|word| u64::from_le_bytes(word[0]))
    }

    /// A number of seven bits a byte, lowest first.
    fn length(&mut self) -> Result<usize, Malformed> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.bytes(1)?[0];
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed("a length is too large"))
    }

    fn string(&mut self) -> Result<&'a str, Malformed> {
        let length = self.length()?;
        let bytes = self.bytes(length)?;
        core::str::from_utf8(bytes).map_err(|_| Malformed("a string is not UTF-8"))
    }

    /// The name and type of the next column.
    fn column(&mut self) -> Result<(), Malformed> {
        let found = (self.string()?, self.string()?);
        match self.columns.next() {
            Some(wanted) if *wanted == found => Ok(()),
            Some(_) | None => Err(Malformed("a column has another name or type")),
        }
    }

    fn numbers<const WIDTH: usize>(&mut self, rows: usize) -> Result<&'a [[u8; WIDTH]], Malformed> {
        self.column()?;
        self.values(rows)
    }

    fn strings(&mut self, rows: usize) -> Result<Strings<'a>, Malformed> {
        self.column()?;
        if rows == 0 {
            return Ok(Strings { dictionary: Vec::new(), codes: Codes::One(&[]) });
        }
        let (version, flags) = (self.word()?, self.word()?);
        if version != DICTIONARY_VERSION || flags & KEYS_HERE == 0 || flags & KEYS_ELSEWHERE != 0 {
            return Err(Malformed("a dictionary is of a kind that is not known"));
        }
        let keys = self.word()?;
        // A key has a byte at least, its length.
        let keys = usize::try_from(keys).ok().filter(|&keys| keys <= self.rest.len());
        let keys = keys.ok_or(Malformed("it breaks off"))?;
        if keys > rows.saturating_add(limits::PAGE_KEYS_SPARE_MAX) {
            return Err(Malformed("a dictionary has more strings than there are rows"));
        }
        let mut dictionary = Vec::with_capacity(keys);
        for _ in 0..keys {
            dictionary.push(self.string()?);
        }
        if self.word()? != rows as u64 {
            return Err(Malformed("a column has more values than there are rows, or fewer"));
        }
        let codes = match flags & CODE_WIDTH {
            0 => Codes::One(self.bytes(rows)?),
            1 => Codes::Two(self.values(rows)?),
            2 => Codes::Four(self.values(rows)?),
            _ => return Err(Malformed("a dictionary is of a kind that is not known")),
        };
        if (0..rows).any(|row| codes.at(row) >= dictionary.len()) {
            return Err(Malformed("a code is not in its dictionary"));
        }
        Ok(Strings { dictionary, codes })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::dictionary::Dictionary;
    use crate::native::{put_dictionary, put_dictionary_version, put_runs, put_string};

    /// A block of so many rows: strings repeat after `distinct` of them.
    fn block(rows: usize, distinct: usize, counts: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let columns = &COLUMNS[..COLUMNS.len() - usize::from(!counts)];
        put_varint(&mut out, columns.len() as u64);
        put_varint(&mut out, rows as u64);
        let texts: Vec<_> = (0..distinct).map(|n| format!("text {n}")).collect();
        for (name, kind) in columns {
            put_column_start(&mut out, name, kind);
            match *kind {
                STRING if rows > 0 => {
                    let mut dictionary = Dictionary::default();
                    let codes: Vec<_> =
                        (0..rows).map(|row| dictionary.code(&texts[row % distinct])).collect();
                    put_dictionary_version(&mut out);
                    let width = put_dictionary(&mut out, &dictionary, rows);
                    width.put_runs(&mut out, codes.into_iter().map(|code| (code, 1)));
                }
                STRING => {}
                "UInt32" => {
                    put_runs(&mut out, (0..rows).map(|row| ((row as u32).to_le_bytes(), 1)));
                }
                "Float64" => {
                    put_runs(&mut out, (0..rows).map(|row| ((row as f64).to_le_bytes(), 1)));
                }
                _ => put_runs(&mut out, (0..rows).map(|row| ((row as u64).to_le_bytes(), 1))),
            }
        }
        out
    }

    #[test]
    fn rows_are_put_together_from_columns_of_any_width() {
        for (rows, distinct) in [(1, 1), (5, 2), (700, 300), (70_000, 66_000)] {
            let mut answer = block(rows, distinct, true);
            answer.extend(block(2, 1, true));
            let mut rest = &*answer;
            let first = Block::take(&mut rest).unwrap().unwrap();
            assert_eq!((first.rows().count(), first.total()), (rows, Some(0)));
            for (number, row) in first.rows().enumerate() {
                let text = format!("text {}", number % distinct);
                assert_eq!((row.metric, row.namespace), (&*text, &*text));
                assert_eq!((row.ts, row.topic_offset), (number as i64, number as u64));
                assert_eq!((row.value, row.gpu_index), (number as f64, number as u32));
            }
            assert_eq!(Block::take(&mut rest).unwrap().unwrap().rows().count(), 2);
            assert!(Block::take(&mut rest).unwrap().is_none());
        }
    }

    #[test]
    fn without_a_count_or_a_row_there_is_no_total() {
        for (rows, counts) in [(3, false), (0, false), (0, true)] {
            let answer = block(rows, 1, counts);
            let block = Block::take(&mut &*answer).unwrap().unwrap();
            assert_eq!((block.rows().count(), block.total()), (rows, None));
        }
    }

    #[test]
    fn an_answer_that_breaks_off_is_refused_wherever_it_does() {
        let answer = block(3, 2, true);
        for end in 1..answer.len() {
            assert!(Block::take(&mut &answer[..end]).is_err(), "{end} bytes");
        }
    }

    #[test]
    fn a_changed_byte_is_refused_or_read_and_never_more() {
        let answer = block(3, 2, true);
        for at in 0..answer.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = answer.clone();
                changed[at] = value;
                if let Ok(Some(block)) = Block::take(&mut &*changed) {
                    assert!(block.rows().all(|row| row.metric.len() < answer.len()));
                }
            }
        }
    }

    #[test]
    fn codes_beyond_their_dictionary_are_refused() {
        let mut answer = block(1, 1, false);
        // The last column of strings is followed by numbers of which the sizes are known.
        let tail = "topic_partition".len() + "UInt32".len() + "topic_offset".len() + "UInt64".len();
        let code = answer.len() - (tail + 4) - (4 + 8) - 1;
        answer[code] = 1;
        let refused = Block::take(&mut &*answer).unwrap_err();
        assert_eq!(refused, Malformed("a code is not in its dictionary"));
    }

    #[test]
    fn a_dictionary_of_more_strings_than_rows_is_refused() {
        let mut answer = vec![14, 1];
        for (name, kind) in &COLUMNS[..2] {
            put_column_start(&mut answer, name, kind);
            answer.extend([0; 8]);
        }
        put_column_start(&mut answer, COLUMNS[2].0, COLUMNS[2].1);
        put_dictionary_version(&mut answer);
        answer.extend(0x600_u64.to_le_bytes());
        answer.extend(4_u64.to_le_bytes());
        (0..4).for_each(|_| put_string(&mut answer, "x"));
        let refused = Block::take(&mut &*answer).unwrap_err();
        assert_eq!(refused, Malformed("a dictionary has more strings than there are rows"));
    }

    #[test]
    fn more_rows_than_any_memory_has_are_refused() {
        for rows in [1 << 29, 1 << 60, 1 << 61, (1 << 61) + 1, u64::MAX >> 1] {
            let mut answer = vec![14];
            put_varint(&mut answer, rows);
            put_column_start(&mut answer, COLUMNS[0].0, COLUMNS[0].1);
            answer.extend([0; 64]);
            assert_eq!(Block::take(&mut &*answer).unwrap_err(), Malformed("it breaks off"));
        }
    }

    #[test]
    fn contents_with_their_names_put_in_are_read() {
        let dictionary = [&1_u64.to_le_bytes()[..], &0x600_u64.to_le_bytes(), &1_u64.to_le_bytes()];
        let strings = [&dictionary.concat()[..], b"\x01s", &1_u64.to_le_bytes(), &[0]].concat();
        let mut data = vec![1, 2, 0, 1];
        for (_, kind) in &COLUMNS {
            let content = match *kind {
                STRING => strings.clone(),
                "UInt32" => vec![7; 4],
                _ => vec![7; 8],
            };
            data.push(content.len() as u8);
            data.extend(content);
        }
        assert_eq!(exercise(&data), Some(1));
        assert_eq!(exercise(&data[..data.len() - 1]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_read(data in vec(any::<u8>(), 0..2_000)) {
            let _outcome_either_way_is_fine = exercise(&data);
        }

        #[test]
        fn a_changed_answer_is_refused_or_read(
            (rows, distinct, counts) in (0..40_usize, 1..20_usize, any::<bool>()),
            changes in vec((any::<Index>(), any::<u8>()), 0..6),
            moved in proptest::option::of((any::<Index>(), any::<Index>(), 0..64_usize)),
            cut in proptest::option::of(any::<Index>()),
        ) {
            let mut data = vec![0];
            data.extend(block(rows, distinct, counts));
            for (at, value) in changes {
                let at = at.index(data.len());
                data[at] = if at == 0 { 0 } else { value };
            }
            if let Some((from, to, length)) = moved {
                let from = from.index(data.len());
                let piece = data[from..data.len().min(from + length)].to_vec();
                let to = 1 + to.index(data.len() - 1);
                data.splice(to..to, piece);
            }
            data.truncate(cut.map_or(data.len(), |end| end.index(data.len())));
            let _outcome_either_way_is_fine = exercise(&data);
        }
    }
}
