//! The text of a label set, as exporters and Prometheus write it, and back.
//!
//! Two forms are read: `key="value",key="value"` (quoted; `\\`, `\"` and `\n` are escapes), with or
//! without braces around, and `key=value;key=value` (bare). One text may mix them. Written is only
//! the first, keys sorted by bytes.
//!
//! A few keys repeat columns of a telemetry row ([`repeats_column`]); they are dropped where a row
//! is read, which is most of the bytes of an exporter's CSV file, and put back by [`render`].

use crate::identity::Identity;
use crate::limits;

/// Labels of one row, reused from row to row.
#[derive(Default)]
pub struct LabelSet {
    text: String,
    /// Key and value as ends in `text`: key from the last value's end, value from the key's end.
    ends: Vec<(usize, usize)>,
}

/// Why a text is no label set. `at` is a byte of the text, counted from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelsError {
    #[error("labels have {bytes} bytes, at most {}", limits::LABELS_TEXT_BYTES_MAX)]
    TooLong { bytes: usize },
    #[error("more than {} labels", limits::LABELS_MAX)]
    TooMany,
    #[error("label without '=' at byte {at}")]
    NoEquals { at: usize },
    #[error("label without a key at byte {at}")]
    NoKey { at: usize },
    #[error("quote opened at byte {at} is never closed")]
    OpenQuote { at: usize },
    #[error("expected ',' or ';' at byte {at}")]
    NoSeparator { at: usize },
    #[error("label {key:?} twice")]
    Repeated { key: String },
}

impl LabelSet {
    /// Replaces the set by what `raw` says.
    ///
    /// # Errors
    /// `raw` is no label set or passes a limit; the set is then empty.
    pub fn parse(&mut self, raw: &str) -> Result<(), LabelsError> {
        self.clear();
        let parsed = self.fill(raw);
        if parsed.is_err() {
            self.clear();
        }
        parsed
    }

    /// The labels in the order of the text.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut start = 0;
        self.ends.iter().map(move |(key_end, value_end)| {
            let pair = (&self.text[start..*key_end], &self.text[*key_end..*value_end]);
            start = *value_end;
            pair
        })
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    fn fill(&mut self, raw: &str) -> Result<(), LabelsError> {
        if raw.len() > limits::LABELS_TEXT_BYTES_MAX {
            return Err(LabelsError::TooLong { bytes: raw.len() });
        }
        let trimmed = raw.trim_end();
        let end = trimmed.strip_suffix('}').filter(|_| raw.trim_start().starts_with('{'));
        let raw = end.unwrap_or(trimmed);
        let mut at = raw.len() - raw.trim_start().len();
        if end.is_some() {
            at += 1;
        }
        // A bare value may hold commas where semicolons part the labels.
        let bare_end = if raw.contains(';') { ';' } else { ',' };
        while !raw[at..].trim_start().is_empty() {
            at += raw[at..].len() - raw[at..].trim_start().len();
            at = self.fill_one(raw, at, bare_end)?;
        }
        Ok(())
    }

    /// Reads the label that begins at `at` and the separator after it.
    fn fill_one(&mut self, raw: &str, at: usize, bare_end: char) -> Result<usize, LabelsError> {
        if self.ends.len() >= limits::LABELS_MAX {
            return Err(LabelsError::TooMany);
        }
        let equals = raw[at..].find('=').ok_or(LabelsError::NoEquals { at })?;
        let key = raw[at..at + equals].trim();
        if key.is_empty() {
            return Err(LabelsError::NoKey { at });
        }
        if key.contains([',', ';']) {
            return Err(LabelsError::NoEquals { at });
        }
        if self.iter().any(|(known, _)| known == key) {
            return Err(LabelsError::Repeated { key: key.into() });
        }
        self.text.push_str(key);
        let key_end = self.text.len();
        let value = at + equals + 1;
        let value_end = if raw[value..].starts_with('"') {
            self.fill_quoted(raw, value)?
        } else {
            let length = raw[value..].find(bare_end).unwrap_or(raw.len() - value);
            self.text.push_str(raw[value..value + length].trim());
            value + length
        };
        self.ends.push((key_end, self.text.len()));
        let rest = raw[value_end..].trim_start();
        let separator = raw.len() - rest.len();
        match rest.chars().next() {
            None => Ok(raw.len()),
            Some(',' | ';') => Ok(separator + 1),
            Some(_) => Err(LabelsError::NoSeparator { at: separator }),
        }
    }

    /// Reads the value whose quote opens at `open` and gives where its closing quote ends.
    fn fill_quoted(&mut self, raw: &str, open: usize) -> Result<usize, LabelsError> {
        let mut at = open + 1;
        loop {
            let stop = raw[at..].find(['"', '\\']).ok_or(LabelsError::OpenQuote { at: open })?;
            self.text.push_str(&raw[at..at + stop]);
            at += stop;
            if raw[at..].starts_with('"') {
                return Ok(at + 1);
            }
            let escaped = raw[at + 1..].chars().next();
            match escaped.ok_or(LabelsError::OpenQuote { at: open })? {
                'n' => self.text.push('\n'),
                plain @ ('"' | '\\') => self.text.push(plain),
                // Not an escape that Prometheus knows: it stands for itself.
                other => {
                    self.text.push('\\');
                    self.text.push(other);
                }
            }
            at += 1 + escaped.map_or(0, char::len_utf8);
        }
    }
}

/// Whether a label says again what a column of its row says, so that [`render`] can restore it.
#[must_use]
pub fn repeats_column(key: &str, value: &str, identity: &Identity<'_>, metric: &str) -> bool {
    match key {
        "Hostname" => value == identity.hostname,
        "UUID" => value == identity.uuid,
        "__name__" => value == metric,
        "device" => value == identity.device,
        "gpu" => decimal_is(value, identity.gpu_index),
        "modelName" => value == identity.model,
        _ => false,
    }
}

/// The full label text of a row: its extra labels and those that its columns stand for, sorted by
/// key. Empty when it has no extra labels, which is how a source without label text looks.
#[must_use]
pub fn render(identity: &Identity<'_>, metric: &str) -> String {
    if identity.labels.is_empty() {
        return String::new();
    }
    let gpu = identity.gpu_index.to_string();
    let columns = [
        ("Hostname", identity.hostname),
        ("UUID", identity.uuid),
        ("__name__", metric),
        ("device", identity.device),
        ("gpu", gpu.as_str()),
        ("modelName", identity.model),
    ];
    let kept = columns.iter().filter(|(key, value)| {
        !value.is_empty() && !identity.labels.iter().any(|(extra, _)| is_same_label(extra, key))
    });
    let mut labels: Vec<(&str, &str)> = identity.labels.iter().chain(kept).copied().collect();
    labels.sort_unstable();
    let bytes = labels.iter().map(|(key, value)| key.len() + value.len() + 4).sum();
    let mut text = String::with_capacity(bytes);
    for (key, value) in labels {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(key);
        text.push_str("=\"");
        escape(value, &mut text);
        text.push('"');
    }
    text
}

/// Newer exporters write `hostname` where older ones wrote `Hostname`.
fn is_same_label(extra: &str, column: &str) -> bool {
    extra == column || (extra == "hostname" && column == "Hostname")
}

fn escape(value: &str, text: &mut String) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            plain => text.push(plain),
        }
    }
}

/// Whether `text` is `number` exactly as it would be written: no sign, no leading zero.
fn decimal_is(text: &str, number: u32) -> bool {
    let canonical = text == "0" || !text.starts_with(['0', '+']);
    canonical && text.parse() == Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(raw: &str) -> Result<Vec<(String, String)>, LabelsError> {
        let mut set = LabelSet::default();
        set.parse(raw)?;
        Ok(set.iter().map(|(key, value)| (key.into(), value.into())).collect())
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    #[test]
    fn quoted_bare_and_braced_forms_are_read() {
        for (raw, expected) in [
            ("", &[][..]),
            (" \t", &[]),
            ("{}", &[]),
            (r#"a="1",b="x,y;z""#, &[("a", "1"), ("b", "x,y;z")]),
            (r#"{a="1", b="2"}"#, &[("a", "1"), ("b", "2")]),
            (r#"a="1","#, &[("a", "1")]),
            (r#"a="q\"b\\s\nn\d""#, &[("a", "q\"b\\s\nn\\d")]),
            ("a=1;b=2,3;c=", &[("a", "1"), ("b", "2,3"), ("c", "")]),
            ("a=1,b=2", &[("a", "1"), ("b", "2")]),
            ("a = 1 ; b = é", &[("a", "1"), ("b", "é")]),
            (r#"a="x";b=2"#, &[("a", "x"), ("b", "2")]),
        ] {
            assert_eq!(parsed(raw).unwrap(), pairs(expected), "{raw}");
        }
    }

    #[test]
    fn broken_label_text_is_refused_with_its_place() {
        assert_eq!(parsed("a"), Err(LabelsError::NoEquals { at: 0 }));
        assert_eq!(parsed("a=1,b"), Err(LabelsError::NoEquals { at: 4 }));
        assert_eq!(parsed("a,b=1"), Err(LabelsError::NoEquals { at: 0 }));
        assert_eq!(parsed("=1"), Err(LabelsError::NoKey { at: 0 }));
        assert_eq!(parsed(r#"a="1"#), Err(LabelsError::OpenQuote { at: 2 }));
        assert_eq!(parsed("a=\"1\\"), Err(LabelsError::OpenQuote { at: 2 }));
        assert_eq!(parsed(r#"a="1"b="2""#), Err(LabelsError::NoSeparator { at: 5 }));
        assert_eq!(parsed("a=1;a=2"), Err(LabelsError::Repeated { key: "a".into() }));
        let many: String = (0..=limits::LABELS_MAX).map(|i| format!("k{i}=v;")).collect();
        assert_eq!(parsed(&many), Err(LabelsError::TooMany));
        let bytes = limits::LABELS_TEXT_BYTES_MAX + 1;
        assert_eq!(parsed(&"x".repeat(bytes)), Err(LabelsError::TooLong { bytes }));
    }

    #[test]
    fn rendered_labels_are_sorted_and_escaped_and_absent_without_extras() {
        let labels = [("instance", "h:9400"), ("z", "q\"\\\n")];
        let identity = Identity {
            uuid: "U",
            model: "M",
            hostname: "h",
            gpu_index: 3,
            labels: &labels,
            ..Identity::default()
        };
        let expected = "Hostname=\"h\",UUID=\"U\",__name__=\"m\",gpu=\"3\",instance=\"h:9400\",\
                        modelName=\"M\",z=\"q\\\"\\\\\\n\"";
        assert_eq!(render(&identity, "m"), expected);
        assert_eq!(render(&Identity { labels: &[], ..identity }, "m"), "");
        let newer = [("hostname", "h")];
        assert!(!render(&Identity { labels: &newer, ..identity }, "m").contains("Hostname"));
    }

    #[test]
    fn label_that_differs_from_its_column_is_kept() {
        let identity = Identity { uuid: "U", gpu_index: 7, ..Identity::default() };
        assert!(repeats_column("UUID", "U", &identity, "m"));
        assert!(!repeats_column("UUID", "V", &identity, "m"));
        assert!(repeats_column("gpu", "7", &identity, "m"));
        assert!(!repeats_column("gpu", "07", &identity, "m"));
        assert!(!repeats_column("__name__", "other", &identity, "m"));
        assert!(!repeats_column("instance", "U", &identity, "m"));
    }
}
