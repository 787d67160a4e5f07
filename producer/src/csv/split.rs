//! Splits the first row of some bytes into fields.

use memchr::{memchr, memchr_iter, memchr2};

use crate::limits;

/// What is wrong with a row's form. `column` counts from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    OpenQuote { column: usize },
    TextAfterQuote { column: usize },
    TooLong,
    TooManyColumns,
}

/// How far splitting came.
pub(super) enum Split {
    /// Bytes of the row with its line end, and without; whether its last field was trusted.
    Whole {
        taken: usize,
        text: usize,
        unverified: bool,
    },
    More,
    Fault(Fault),
}

/// One field, as places relative to its row's start, without its quotes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) start: u32,
    pub(super) end: u32,
    /// Holds doubled quotes.
    pub(super) doubled: bool,
}

/// Splits the first row of `data`. At the end of the input (`at_end`) a row needs no line end.
pub(super) fn split(
    data: &[u8],
    delimiter: u8,
    at_end: bool,
    trusted: Option<usize>,
    fields: &mut Vec<Field>,
) -> Split {
    fields.clear();
    let mut at = 0;
    loop {
        if fields.len() >= limits::COLUMNS_MAX {
            return Split::Fault(Fault::TooManyColumns);
        }
        let column = fields.len();
        let quoted = data.get(at) == Some(&b'"');
        if quoted
            && trusted == Some(column)
            && let Some(whole) = trust(data, at, fields)
        {
            return whole;
        }
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
    Split::Whole { taken, text, unverified: false }
}

/// Takes the text between the quote at `open` and one at the end of the line for the last field, if
/// the quotes between are even in number.
fn trust(data: &[u8], open: usize, fields: &mut Vec<Field>) -> Option<Split> {
    let newline = open + memchr(b'\n', &data[open..])?;
    let text = open + trim_line_end(&data[open..newline]);
    let within = data.get(open + 1..text.checked_sub(1)?)?;
    if data[text - 1] != b'"' {
        return None;
    }
    let quotes = memchr_iter(b'"', within).count();
    if !quotes.is_multiple_of(2) {
        return None;
    }
    let doubled = quotes > 0;
    fields.push(Field { start: open as u32 + 1, end: text as u32 - 1, doubled });
    Some(Split::Whole { taken: newline + 1, text, unverified: doubled })
}

pub(super) fn quotes_are_doubled(mut text: &[u8]) -> bool {
    while let Some(quote) = memchr(b'"', text) {
        if text.get(quote + 1) != Some(&b'"') {
            return false;
        }
        text = &text[quote + 2..];
    }
    true
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

pub(super) fn trim_line_end(line: &[u8]) -> usize {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line).len()
}
