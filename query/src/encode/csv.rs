//! Rows as CSV (RFC 4180): CRLF line ends, quotes where they are needed.

use lanecast_store::read::SampleRow;

use super::column::{Cell, Column};
use super::number::{write_number, write_record, write_whole};
use super::write_time;

/// Appends the line of column names.
pub(crate) fn write_header(out: &mut Vec<u8>, columns: &[Column]) {
    for (index, column) in columns.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(column.name().as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends one row.
pub(crate) fn write_row(out: &mut Vec<u8>, columns: &[Column], row: &SampleRow<'_>) {
    for (index, column) in columns.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        match column.cell(row) {
            Cell::Time(ms) => write_time(out, ms),
            Cell::Text(text) => write_text(out, text),
            Cell::Owned(text) => write_text(out, &text),
            Cell::Record(partition, offset) => write_record(out, partition, offset),
            // An empty field where there is no finite number.
            Cell::Number(value) => {
                write_number(out, value);
            }
            Cell::Whole(value) => write_whole(out, value.into()),
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a field of text.
pub(crate) fn write_text(out: &mut Vec<u8>, text: &str) {
    if !text.bytes().any(|byte| matches!(byte, b',' | b'"' | b'\r' | b'\n')) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    out.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fields_that_need_quotes_have_them() {
        let mut out = Vec::new();
        for text in ["plain", "a,b", "say \"hi\"", "two\nlines", ""] {
            write_text(&mut out, text);
            out.push(b'|');
        }
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "plain|\"a,b\"|\"say \"\"hi\"\"\"|\"two\nlines\"||");
    }

    #[test]
    fn header_names_the_columns() {
        let mut out = Vec::new();
        write_header(&mut out, &[Column::Timestamp, Column::Value]);
        assert_eq!(out, b"timestamp,value\r\n");
    }
}
