//! Splits bytes into rows and fields, in bounded memory, and gets over broken rows.
//!
//! The `csv` crate reads more than a telemetry file should be allowed to be: it lets one open quote
//! swallow the rest of a file, in unbounded memory, and does not say where a quote went wrong.
//! Here a row lies whole in one buffer of fixed size, so the original bytes of a bad row can be
//! handed on, and after a fault the reader starts over at the next line. For well-formed input the
//! two agree, which a property test checks.

use std::io::{self, Read};

use memchr::{memchr, memchr_iter, memchr2};

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
    row_line: u64,
    next_line: u64,
    fields: Vec<Field>,
    bytes_read: u64,
}

/// One field, as places relative to its row's start, without its quotes.
#[derive(Clone, Copy, Debug)]
struct Field {
    start: u32,
    end: u32,
    /// Holds doubled quotes.
    doubled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowStep {
    Row,
    Fault(Fault),
    /// The input is open and has nothing to read now.
    Quiet,
    End,
}

/// What is wrong with a row's form. `column` counts from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    OpenQuote { column: usize },
    TextAfterQuote { column: usize },
    TooLong,
    TooManyColumns,
}

/// How far splitting came.
enum Split {
    /// Bytes of the row with its line end, and without.
    Whole {
        taken: usize,
        text: usize,
    },
    More,
    Fault(Fault),
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
            row_line: 0,
            next_line: 1,
            fields: Vec::new(),
            bytes_read: 0,
        }
    }

    /// Goes to the next row that is not blank.
    pub(crate) fn advance(&mut self) -> io::Result<RowStep> {
        loop {
            self.row_start = self.start;
            self.row_line = self.next_line;
            let data = &self.buffer[self.start..self.end];
            match split(data, self.delimiter, self.at_end, &mut self.fields) {
                Split::Whole { taken: 0, .. } => return Ok(RowStep::End),
                Split::Whole { taken, text } => {
                    self.take(taken, text);
                    if text > 0 {
                        return Ok(RowStep::Row);
                    }
                }
                Split::Fault(fault) => return self.skip_line(fault),
                Split::More if data.len() == self.buffer.len() => {
                    return self.skip_line(Fault::TooLong);
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
    pub(crate) fn line(&self) -> u64 {
        self.row_line
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

    fn take(&mut self, taken: usize, text: usize) {
        let row = &self.buffer[self.start..self.start + taken];
        self.next_line += memchr_iter(b'\n', row).count() as u64;
        self.row_end = self.start + text;
        self.start += taken;
    }

    /// Consumes the first line of a broken row, whatever its quotes say.
    fn skip_line(&mut self, fault: Fault) -> io::Result<RowStep> {
        self.fields.clear();
        let data = &self.buffer[self.start..self.end];
        let (taken, found) = match memchr(b'\n', data) {
            Some(newline) => (newline + 1, true),
            None => (data.len(), self.at_end),
        };
        let text = trim_line_end(&data[..taken]);
        self.take(taken, text);
        if !found {
            self.drop_to_line_end()?;
        }
        Ok(RowStep::Fault(fault))
    }

    /// Drops the rest of a line that is longer than the buffer, all but the row's head, which
    /// stays to be shown.
    fn drop_to_line_end(&mut self) -> io::Result<()> {
        const SHOWN: usize = 1024;
        let shown = self.row_start..self.row_end.min(self.row_start + SHOWN);
        self.row_end = shown.len();
        self.buffer.copy_within(shown, 0);
        self.row_start = 0;
        loop {
            self.start = SHOWN;
            self.end = SHOWN + self.input.read(&mut self.buffer[SHOWN..])?;
            self.bytes_read += (self.end - SHOWN) as u64;
            self.at_end = self.end == SHOWN;
            if let Some(newline) = memchr(b'\n', &self.buffer[SHOWN..self.end]) {
                self.start = SHOWN + newline + 1;
                self.next_line += 1;
                return Ok(());
            }
            if self.at_end {
                return Ok(());
            }
        }
    }

    /// Reads on; `false` when there is nothing to read now. A row that is not whole is read on
    /// until a line ends, so that slow input does not split it anew for every byte.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        self.row_start = 0;
        while self.end < self.buffer.len() {
            let read = match self.input.read(&mut self.buffer[self.end..]) {
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
        Ok(true)
    }
}

/// Splits the first row of `data`. At the end of the input (`at_end`) a row needs no line end.
fn split(data: &[u8], delimiter: u8, at_end: bool, fields: &mut Vec<Field>) -> Split {
    fields.clear();
    let mut at = 0;
    loop {
        if fields.len() >= limits::COLUMNS_MAX {
            return Split::Fault(Fault::TooManyColumns);
        }
        let column = fields.len();
        let quoted = data.get(at) == Some(&b'"');
        let stop = if quoted {
            let Some((end, doubled)) = closing_quote(data, at + 1) else {
                let open = Split::Fault(Fault::OpenQuote { column });
                return if at_end { open } else { Split::More };
            };
            fields.push(Field { start: at as u32 + 1, end: end as u32, doubled });
            end + 1
        } else {
            let stop = memchr2(delimiter, b'\n', &data[at..]).map_or(data.len(), |stop| at + stop);
            fields.push(Field { start: at as u32, end: stop as u32, doubled: false });
            stop
        };
        match data.get(stop) {
            Some(b'\n') => return whole(data, stop + 1, stop, quoted, fields),
            Some(byte) if *byte == delimiter => at = stop + 1,
            Some(b'\r') if data.get(stop + 1) == Some(&b'\n') => {
                return whole(data, stop + 2, stop, quoted, fields);
            }
            Some(b'\r') if stop + 1 == data.len() => {
                let end = whole(data, stop + 1, stop, quoted, fields);
                return if at_end { end } else { Split::More };
            }
            Some(_) => return Split::Fault(Fault::TextAfterQuote { column }),
            None if at_end => return whole(data, stop, stop, quoted, fields),
            None => return Split::More,
        }
    }
}

/// A row that takes `taken` bytes and whose last field stops at `stop`.
fn whole(data: &[u8], taken: usize, stop: usize, quoted: bool, fields: &mut [Field]) -> Split {
    let mut text = stop;
    if !quoted && data[..stop].ends_with(b"\r") {
        text -= 1;
        let last = fields.last_mut().expect("a row has a field");
        last.end = last.end.min(text as u32).max(last.start);
    }
    Split::Whole { taken, text }
}

/// Where the quote that closes a field stands, and whether doubled quotes stand before it.
fn closing_quote(data: &[u8], mut at: usize) -> Option<(usize, bool)> {
    let mut doubled = false;
    loop {
        at += memchr(b'"', data.get(at..)?)?;
        if data.get(at + 1) != Some(&b'"') {
            return Some((at, doubled));
        }
        doubled = true;
        at += 2;
    }
}

fn trim_line_end(line: &[u8]) -> usize {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line).len()
}

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

    fn all(data: &[u8], step: usize) -> Vec<Result<Vec<String>, (u64, Fault)>> {
        let mut rows = Rows::new(Slow(data, step), b',');
        let mut found = Vec::new();
        let mut scratch = Vec::new();
        loop {
            match rows.advance().unwrap() {
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
}
