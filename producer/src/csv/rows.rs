//! Splits bytes into rows and fields, in bounded memory, and gets over broken rows.
//!
//! The `csv` crate reads more than a telemetry file should be allowed to be: it lets one open quote
//! swallow the rest of a file, in unbounded memory, and does not say where a quote went wrong.
//! Here a row lies whole in one buffer of fixed size, so the original bytes of a bad row can be
//! handed on, and after a fault the reader starts over at the next line. For well-formed input the
//! two agree, which a property test checks.
//!
//! Most bytes of an exporter's file are the doubled quotes of its last column, whose text is nearly
//! always one that was seen before. So that column may be taken on trust ([`Rows::trust_last`]): up
//! to the end of the line, if quotes balance. A text that is not known is then verified, and the
//! row split again when the trust was wrong.

use std::io::{self, Read};

use memchr::{memchr, memchr_iter};

use super::split::{Fault, Field, Split, quotes_are_doubled, split, trim_line_end};
use crate::limits;

/// A row's place in the buffer, split.
pub(crate) struct Rows<R> {
    input: R,
    delimiter: u8,
    buffer: Vec<u8>,
    /// Bytes not yet consumed: `buffer[start..end]`.
    start: usize,
    end: usize,
    at_end: bool,
    /// Where the current row begins; it ends at `start`, its line end cut off by `row_end`.
    row_start: usize,
    row_end: usize,
    /// Lines are counted when somebody asks: `buffer[anchor]` stands on line `anchor_line`.
    anchor: usize,
    anchor_line: u64,
    /// The rest of an overlong line is dropped before the next row.
    dropping: bool,
    /// The input fell silent in the midst of a line.
    unfinished: bool,
    fields: Vec<Field>,
    trusted: Option<usize>,
    /// The current row's last field was taken on trust.
    unverified: bool,
    bytes_read: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowStep {
    Row,
    Fault(Fault),
    /// The input is open and has nothing to read now.
    Quiet,
    End,
}

impl<R: Read> Rows<R> {
    pub(crate) fn new(input: R, delimiter: u8) -> Self {
        Rows {
            input,
            delimiter,
            buffer: vec![0; limits::ROW_BYTES_MAX],
            start: 0,
            end: 0,
            at_end: false,
            row_start: 0,
            row_end: 0,
            anchor: 0,
            anchor_line: 1,
            dropping: false,
            unfinished: false,
            fields: Vec::new(),
            trusted: None,
            unverified: false,
            bytes_read: 0,
        }
    }

    /// From now on the last column, `column`, is taken on trust: see [`Rows::verify`].
    pub(crate) fn trust_last(&mut self, column: usize) {
        self.trusted = Some(column);
    }

    /// Goes to the next row that is not blank.
    pub(crate) fn advance(&mut self) -> io::Result<RowStep> {
        self.advance_trusting(self.trusted)
    }

    /// Whether the current row is what it was taken for; if not, it is to be split again.
    pub(crate) fn verify(&mut self) -> bool {
        if !core::mem::take(&mut self.unverified) {
            return true;
        }
        quotes_are_doubled(self.raw_field(self.fields.len() - 1))
    }

    /// Splits the current row without trust.
    pub(crate) fn split_again(&mut self) -> io::Result<RowStep> {
        self.start = self.row_start;
        self.advance_trusting(None)
    }

    fn advance_trusting(&mut self, trusted: Option<usize>) -> io::Result<RowStep> {
        if self.dropping && !self.drop_line()? {
            return Ok(RowStep::Quiet);
        }
        // A row that was not whole is not split again before its line ends.
        if self.unfinished && !self.fill()? {
            return Ok(RowStep::Quiet);
        }
        loop {
            self.row_start = self.start;
            let data = &self.buffer[self.start..self.end];
            match split(data, self.delimiter, self.at_end, trusted, &mut self.fields) {
                Split::Whole { taken: 0, .. } => return Ok(RowStep::End),
                Split::Whole { taken, text, unverified } => {
                    self.row_end = self.start + text;
                    self.start += taken;
                    self.unverified = unverified;
                    if text > 0 {
                        return Ok(RowStep::Row);
                    }
                }
                Split::Fault(fault) => return Ok(self.skip_line(fault)),
                Split::More if data.len() == self.buffer.len() => {
                    return Ok(self.skip_line(Fault::TooLong));
                }
                Split::More => {
                    if !self.fill()? {
                        return Ok(RowStep::Quiet);
                    }
                }
            }
        }
    }

    /// The line, counted from 1, on which the current row begins.
    pub(crate) fn line(&mut self) -> u64 {
        self.count_lines(self.row_start);
        self.anchor_line
    }

    /// The bytes of the current row (of its first line after a fault), without the line end.
    pub(crate) fn raw(&self) -> &[u8] {
        &self.buffer[self.row_start..self.row_end]
    }

    pub(crate) fn field_count(&self) -> usize {
        self.fields.len()
    }

    /// A field without its quotes; quotes within are still doubled.
    pub(crate) fn raw_field(&self, column: usize) -> &[u8] {
        let field = self.fields[column];
        &self.buffer[self.row_start + field.start as usize..self.row_start + field.end as usize]
    }

    /// Whether a field was quoted and holds doubled quotes.
    pub(crate) fn is_doubled(&self, column: usize) -> bool {
        self.fields[column].doubled
    }

    /// A field as it is meant. `scratch` is where doubled quotes are undone.
    pub(crate) fn field<'a>(&'a self, column: usize, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        let raw = self.raw_field(column);
        if !self.fields[column].doubled {
            return raw;
        }
        scratch.clear();
        let mut rest = raw;
        while let Some(quote) = memchr(b'"', rest) {
            scratch.extend_from_slice(&rest[..=quote]);
            rest = rest.get(quote + 2..).unwrap_or(&[]);
        }
        scratch.extend_from_slice(rest);
        scratch
    }

    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Consumes the first line of a broken row, whatever its quotes say.
    fn skip_line(&mut self, fault: Fault) -> RowStep {
        self.fields.clear();
        let data = &self.buffer[self.start..self.end];
        let newline = memchr(b'\n', data);
        let taken = newline.map_or(data.len(), |newline| newline + 1);
        self.row_end = self.start + trim_line_end(&data[..taken]);
        self.start += taken;
        self.dropping = newline.is_none();
        if self.dropping {
            // The row's head is enough to be shown.
            self.row_end = self.row_end.min(self.row_start + SHOWN_BYTES);
        }
        RowStep::Fault(fault)
    }

    /// Drops bytes up to the next line; `false` when there is nothing to read now.
    fn drop_line(&mut self) -> io::Result<bool> {
        loop {
            if let Some(newline) = memchr(b'\n', &self.buffer[self.start..self.end]) {
                self.start += newline + 1;
                break;
            }
            self.start = self.end;
            if self.at_end {
                break;
            }
            if !self.fill()? {
                return Ok(false);
            }
        }
        self.dropping = false;
        Ok(true)
    }

    /// Moves the anchor to `place`, which is not before it.
    fn count_lines(&mut self, place: usize) {
        let lines = memchr_iter(b'\n', &self.buffer[self.anchor..place]).count();
        self.anchor_line += lines as u64;
        self.anchor = place;
    }

    /// Reads on; `false` when there is nothing to read now. A row that is not whole is read on
    /// until a line ends, so that slow input does not split it anew for every byte.
    fn fill(&mut self) -> io::Result<bool> {
        self.count_lines(self.start);
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            self.anchor = 0;
            self.row_start = 0;
        }
        self.unfinished = true;
        while self.end < self.buffer.len() {
            let room = self.buffer.len().min(self.end + READ_BYTES);
            let read = match self.input.read(&mut self.buffer[self.end..room]) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let fresh = self.end..self.end + read;
            self.end += read;
            self.bytes_read += read as u64;
            self.at_end = read == 0;
            if self.at_end || memchr(b'\n', &self.buffer[fresh]).is_some() {
                break;
            }
        }
        self.unfinished = false;
        Ok(true)
    }
}

/// What is read at once: small enough to be split while it is still in the cache.
const READ_BYTES: usize = 256 * 1024;

/// Of a row that is too long, this much is kept to be shown.
const SHOWN_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives at most `step` bytes a read.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(buffer.len()).min(self.0.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    type Found = Vec<Result<Vec<String>, (u64, Fault)>>;

    fn all(data: &[u8], step: usize) -> Found {
        all_of(Rows::new(Slow(data, step), b','))
    }

    fn all_of(mut rows: Rows<Slow<'_>>) -> Found {
        let mut found = Vec::new();
        let mut scratch = Vec::new();
        loop {
            let mut step = rows.advance().unwrap();
            if step == RowStep::Row && !rows.verify() {
                step = rows.split_again().unwrap();
            }
            match step {
                RowStep::Row => found.push(Ok((0..rows.field_count())
                    .map(|i| String::from_utf8_lossy(rows.field(i, &mut scratch)).into_owned())
                    .collect())),
                RowStep::Fault(fault) => found.push(Err((rows.line(), fault))),
                RowStep::Quiet => unreachable!("slow input never blocks"),
                RowStep::End => return found,
            }
        }
    }

    #[test]
    fn fields_are_split_for_any_size_of_reads() {
        let data = b"a,b\r\n\n\"x,\"\"y\"\"\n\",\r\n,\"\"\nlast,\"q\"";
        let expected: Vec<Result<Vec<String>, _>> =
            [["a", "b"], ["x,\"y\"\n", ""], ["", ""], ["last", "q"]]
                .iter()
                .map(|row| Ok(row.iter().map(|field| (*field).to_owned()).collect()))
                .collect();
        for step in 1..=data.len() {
            assert_eq!(all(data, step), expected, "{step} bytes a read");
        }
    }

    #[test]
    fn reader_starts_over_after_a_broken_row() {
        let data = b"1,ok\n2,\"x\"y\n3,\"open\n4,ok\n5,\"last";
        for step in [1, 7, 1000] {
            let found = all(data, step);
            let lines: Vec<_> =
                found.iter().map(|row| row.as_ref().map(|f| f[0].clone())).collect();
            assert_eq!(lines[0], Ok("1".to_owned()));
            assert_eq!(lines[1], Err(&(2, Fault::TextAfterQuote { column: 1 })));
            assert_eq!(lines[2], Err(&(3, Fault::TextAfterQuote { column: 1 })));
            assert_eq!(lines[3], Ok("4".to_owned()));
            assert_eq!(lines[4], Err(&(5, Fault::OpenQuote { column: 1 })));
        }
    }

    #[test]
    fn row_longer_than_the_buffer_is_one_fault_and_the_next_row_is_read() {
        let mut data = b"1,\"".to_vec();
        data.resize(3 * limits::ROW_BYTES_MAX, b'x');
        data.extend_from_slice(b"\n2,ok\n");
        let found = all(&data, 100_000);
        assert_eq!(found[0], Err((1, Fault::TooLong)));
        assert_eq!(found[1], Ok(vec!["2".to_owned(), "ok".to_owned()]));
        assert_eq!(found.len(), 2);
        let commas = vec![b','; limits::COLUMNS_MAX + 1];
        assert_eq!(all(&commas, 100_000), [Err((1, Fault::TooManyColumns))]);
    }

    /// Gives one byte a read, and says that there is none before each.
    struct Hesitant<'a>(&'a [u8], bool);

    impl Read for Hesitant<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Slow(self.0, 1).read(buffer).inspect(|count| self.0 = &self.0[*count..])
        }
    }

    #[test]
    fn silent_input_is_quiet_and_loses_nothing_even_within_an_overlong_row() {
        let mut data = b"1,a\n".to_vec();
        data.resize(data.len() + limits::COLUMNS_MAX, b',');
        data.extend_from_slice(b",,rest\n\"3\",\"b\n\"\r\n4,c");
        let mut rows = Rows::new(Hesitant(&data, false), b',');
        let (mut found, mut quiet) = (Vec::new(), 0);
        loop {
            match rows.advance().unwrap() {
                RowStep::Row => found.push((rows.line(), rows.raw_field(1).to_vec())),
                RowStep::Fault(fault) => {
                    assert_eq!(fault, Fault::TooManyColumns);
                    found.push((rows.line(), b"fault".to_vec()));
                }
                RowStep::Quiet => quiet += 1,
                RowStep::End => break,
            }
        }
        let expected = [(1, &b"a"[..]), (2, b"fault"), (3, b"b\n"), (5, b"c")];
        assert_eq!(found, expected.map(|(line, field)| (line, field.to_vec())));
        assert!(quiet > data.len() - 4, "{quiet}");
    }

    proptest::proptest! {
        #[test]
        fn trust_never_changes_what_is_read(
            column in 0_usize..3,
            size in 1_usize..200,
            pieces in proptest::collection::vec(
                proptest::sample::select(vec![
                    "a", ",", "\"", "\"\"", "\n", "\r\n", "\",\"", "\"\n\"", "x,\"k=\"\"v\"\"\"\n",
                ]),
                0..60,
            ),
        ) {
            let text = pieces.concat();
            let mut trusting = Rows::new(Slow(text.as_bytes(), size), b',');
            trusting.trust_last(column);
            let plain = all(text.as_bytes(), size);
            let trusted = all_of(trusting);
            proptest::prop_assert_eq!(trusted, plain);
        }
    }
}
