//! Output formats: which can be streamed, and the header that each streamed chunk repeats.
//!
//! libchdb renders every chunk as if it were a whole result. For formats without a frame around the
//! rows the chunks simply follow each other; where each begins with column names, those of all but
//! the first are cut off. Formats with a frame (JSON, Parquet, Pretty…) are rendered whole.

/// What stands before the rows of every chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Header {
    /// Nothing.
    None,
    /// This many lines. Line ends inside a name are escaped in these formats.
    Lines(usize),
    /// This many lines, in which a quoted name may contain line ends.
    QuotedLines(usize),
    /// A column count and this many strings for each column.
    Binary(usize),
}

/// What a format needs when it is streamed.
#[derive(Debug)]
pub(crate) struct ChunkJoiner {
    header: Header,
    first: bool,
}

impl ChunkJoiner {
    /// For the format called `name`, when it can be streamed.
    pub(crate) fn new(name: &str) -> Option<ChunkJoiner> {
        let header = match name.to_ascii_lowercase().as_str() {
            "rowbinary" | "native" | "null" => Header::None,
            "rowbinarywithnames" => Header::Binary(1),
            "rowbinarywithnamesandtypes" => Header::Binary(2),
            "tabseparated" | "tsv" | "tabseparatedraw" | "tsvraw" | "raw" | "csv" => Header::None,
            "jsoneachrow" | "jsonlines" | "ndjson" | "jsonl" => Header::None,
            "jsoncompacteachrow" | "jsonstringseachrow" | "jsoncompactstringseachrow" => {
                Header::None
            }
            "tabseparatedwithnames" | "tsvwithnames" => Header::Lines(1),
            "tabseparatedwithnamesandtypes" | "tsvwithnamesandtypes" => Header::Lines(2),
            "jsoncompacteachrowwithnames" => Header::Lines(1),
            "jsoncompacteachrowwithnamesandtypes" => Header::Lines(2),
            "csvwithnames" => Header::QuotedLines(1),
            "csvwithnamesandtypes" => Header::QuotedLines(2),
            _ => return None,
        };
        Some(ChunkJoiner { header, first: true })
    }

    /// Whether a result without rows is a result without bytes.
    pub(crate) fn empty_is_nothing(&self) -> bool {
        self.header == Header::None
    }

    /// What a result without rows consists of, given what `DESCRIBE` says of its columns in
    /// `RowBinaryWithNames`. `None` for formats whose header is text, and when it cannot be read.
    pub(crate) fn empty_result(&self, described: &[u8]) -> Option<Vec<u8>> {
        let Header::Binary(strings) = self.header else { return None };
        let mut rest = described;
        let fields = varint(&mut rest)?;
        for _ in 0..fields {
            string(&mut rest)?;
        }
        let (mut names, mut types) = (Vec::new(), Vec::new());
        let mut columns = 0;
        while !rest.is_empty() {
            let row: Vec<&[u8]> = (0..fields).map(|_| string(&mut rest)).collect::<Option<_>>()?;
            let [name, kind, ..] = row[..] else { return None };
            put_string(&mut names, name);
            put_string(&mut types, kind);
            columns += 1;
        }
        let mut header = Vec::new();
        put_varint(&mut header, columns);
        header.extend_from_slice(&names);
        if strings > 1 {
            header.extend_from_slice(&types);
        }
        Some(header)
    }

    /// Cuts the header off a chunk that is not the first.
    pub(crate) fn join(&mut self, chunk: Vec<u8>) -> Vec<u8> {
        if std::mem::take(&mut self.first) {
            return chunk;
        }
        let length = match self.header {
            Header::None => 0,
            Header::Lines(lines) => lines_length(&chunk, lines, false),
            Header::QuotedLines(lines) => lines_length(&chunk, lines, true),
            Header::Binary(strings) => binary_length(&chunk, strings).unwrap_or(0),
        };
        if length == 0 {
            return chunk;
        }
        chunk[length..].to_vec()
    }
}

fn lines_length(chunk: &[u8], lines: usize, quotes: bool) -> usize {
    let mut left = lines;
    let mut quoted = false;
    for (at, b) in chunk.iter().enumerate() {
        if *b == b'"' && quotes {
            quoted = !quoted;
        }
        if *b == b'\n' && !quoted {
            left -= 1;
            if left == 0 {
                return at + 1;
            }
        }
    }
    chunk.len()
}

fn binary_length(chunk: &[u8], strings: usize) -> Option<usize> {
    let mut rest = chunk;
    let columns = varint(&mut rest)?;
    for _ in 0..columns.checked_mul(strings)? {
        string(&mut rest)?;
    }
    Some(chunk.len() - rest.len())
}

fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = varint(rest)?;
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(text)
}

fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    put_varint(out, text.len());
    out.extend_from_slice(text);
}

fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0_usize;
    for shift in (0..63).step_by(7) {
        let (b, after) = rest.split_first()?;
        *rest = after;
        value |= usize::from(b & 0x7F) << shift;
        if b & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The media type of a format's text.
pub(crate) fn content_type(format: &str) -> &'static str {
    let format = format.to_ascii_lowercase();
    let lines_of_json = format.contains("eachrow") || format.ends_with("lines");
    match format.as_str() {
        "json" | "jsoncompact" | "jsonstrings" | "jsoncolumns" => "application/json; charset=UTF-8",
        "native" | "parquet" | "arrow" | "orc" => "application/octet-stream",
        _ if format.starts_with("rowbinary") => "application/octet-stream",
        _ if format.starts_with("json") && lines_of_json => "application/x-ndjson; charset=UTF-8",
        _ if format.starts_with("csv") => "text/csv; charset=UTF-8; header=present",
        _ if format.starts_with("tabseparated") || format.starts_with("tsv") => {
            "text/tab-separated-values; charset=UTF-8"
        }
        _ => "text/plain; charset=UTF-8",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(format: &str, chunks: &[&[u8]]) -> Vec<u8> {
        let mut joiner = ChunkJoiner::new(format).unwrap();
        chunks.iter().flat_map(|chunk| joiner.join(chunk.to_vec())).collect()
    }

    #[test]
    fn headers_stay_once() {
        assert_eq!(joined("TSVWithNames", &[b"a\n1\n", b"a\n2\n"]), b"a\n1\n2\n");
        assert_eq!(joined("CSV", &[b"1\n", b"2\n"]), b"1\n2\n");
        assert_eq!(
            joined("CSVWithNamesAndTypes", &[b"\"a\n\"\n\"T\"\n1\n", b"\"a\n\"\n\"T\"\n2\n"]),
            b"\"a\n\"\n\"T\"\n1\n2\n"
        );
        let binary = |row: u8| [&[1, 1, b'a', 5][..], b"UInt8", &[row]].concat();
        let both = joined("RowBinaryWithNamesAndTypes", &[&binary(1), &binary(2)]);
        assert_eq!(both, [&binary(1)[..], &[2]].concat());
    }

    #[test]
    fn formats_with_a_frame_are_not_streamed() {
        for format in ["JSON", "Pretty", "Parquet", "Values", "XML", "ArrowStream"] {
            assert!(ChunkJoiner::new(format).is_none(), "{format}");
        }
    }

    #[test]
    fn empty_results_have_their_header() {
        let long = "n".repeat(200);
        let mut described = Vec::new();
        put_varint(&mut described, 3);
        for text in ["name", "type", "comment", "a", "UInt8", "", &long, "String", "x\ny"] {
            put_string(&mut described, text.as_bytes());
        }
        let mut expected = vec![2, 1, b'a', 200, 1];
        expected.extend_from_slice(long.as_bytes());
        let header = |format| ChunkJoiner::new(format).unwrap().empty_result(&described);
        assert_eq!(header("RowBinaryWithNames").as_deref(), Some(&expected[..]));
        expected.extend_from_slice(b"\x05UInt8\x06String");
        assert_eq!(header("RowBinaryWithNamesAndTypes").as_deref(), Some(&expected[..]));
        assert_eq!(header("CSVWithNames"), None);
        let joiner = ChunkJoiner::new("RowBinaryWithNames").unwrap();
        assert_eq!(joiner.empty_result(&described[..described.len() - 1]), None);
    }

    #[test]
    fn damaged_headers_do_not_panic() {
        assert_eq!(binary_length(&[0xFF; 12], 2), None);
        assert_eq!(binary_length(&[2, 200, 1], 1), None);
        assert_eq!(lines_length(b"no line end", 1, false), 11);
    }
}
