//! Which format an answer has.

use hyper::header::{ACCEPT, HeaderMap};

use crate::problem::{Kind, Problem};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Ndjson,
    Csv,
    Arrow,
}

/// What a list of samples may be answered in, the first being the default.
pub(crate) const SAMPLE_FORMATS: &[Format] =
    &[Format::Json, Format::Ndjson, Format::Csv, Format::Arrow];
/// What series are answered in.
pub(crate) const SERIES_FORMATS: &[Format] = &[Format::Json, Format::Ndjson, Format::Csv];
/// What everything else is answered in.
pub(crate) const JSON_ONLY: &[Format] = &[Format::Json];

impl Format {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Arrow => "arrow",
        }
    }

    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }

    /// The media type without parameters, as `Accept` names it.
    pub(crate) fn essence(self) -> &'static str {
        match self {
            Self::Json | Self::Ndjson | Self::Arrow => self.media_type(),
            Self::Csv => "text/csv",
        }
    }

    /// The format asked for by `format=`, else the one of `available` that `Accept` likes best,
    /// the first of equals.
    ///
    /// # Errors
    /// It is not available; the detail lists what is.
    pub(crate) fn choose(
        named: Option<&str>,
        headers: &HeaderMap,
        available: &[Self],
    ) -> Result<Self, Problem> {
        if let Some(name) = named {
            return available
                .iter()
                .copied()
                .find(|format| format.name() == name)
                .ok_or_else(|| unavailable(available));
        }
        let accept: Vec<&str> =
            headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
        if accept.is_empty() {
            return Ok(available[0]);
        }
        let mut best: Option<(f32, Self)> = None;
        for format in available.iter().copied() {
            let weight = weight(&accept, format.essence());
            if weight > 0.0 && best.is_none_or(|(found, _)| weight > found) {
                best = Some((weight, format));
            }
        }
        best.map(|(_, format)| format).ok_or_else(|| unavailable(available))
    }
}

fn unavailable(available: &[Format]) -> Problem {
    let list: Vec<_> = available
        .iter()
        .map(|format| format!("{} ({})", format.name(), format.essence()))
        .collect();
    Problem::new(Kind::NotAcceptable, format!("available are {}", list.join(", ")))
}

/// The weight that the most specific matching range gives a media type (RFC 9110, 12.5.1).
fn weight(accept: &[&str], essence: &str) -> f32 {
    let mut found = (0, 0.0);
    for range in accept.iter().flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or("").to_ascii_lowercase();
        let kind = essence.split('/').next().unwrap_or("");
        let precision = if name == essence {
            3
        } else if name.strip_suffix("/*") == Some(kind) {
            2
        } else if name == "*/*" {
            1
        } else {
            continue;
        };
        if precision > found.0 {
            found = (precision, quality(parts));
        }
    }
    found.1
}

/// The `q` among the parameters of a range: 1 if absent, 0 if it cannot be read.
pub(crate) fn quality<'a>(mut parameters: impl Iterator<Item = &'a str>) -> f32 {
    parameters
        .find_map(|parameter| parameter.strip_prefix(['q', 'Q'])?.strip_prefix('='))
        .map_or(1.0, |q| q.parse().ok().filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn chosen(accept: &'static str) -> Option<Format> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        Format::choose(None, &headers, SAMPLE_FORMATS).ok()
    }

    #[test]
    fn accept_chooses_by_weight_and_precision() {
        assert_eq!(chosen("*/*"), Some(Format::Json));
        assert_eq!(chosen("text/html,application/xhtml+xml,*/*;q=0.8"), Some(Format::Json));
        assert_eq!(chosen("text/csv"), Some(Format::Csv));
        assert_eq!(chosen("text/*, application/json;q=0.5"), Some(Format::Csv));
        assert_eq!(chosen("application/x-ndjson, application/json;q=0.9"), Some(Format::Ndjson));
        assert_eq!(chosen("application/json;q=0, */*"), Some(Format::Ndjson));
        assert_eq!(chosen("APPLICATION/JSON"), Some(Format::Json));
        assert_eq!(chosen("application/vnd.apache.arrow.stream"), Some(Format::Arrow));
        assert_eq!(chosen("application/*"), Some(Format::Json));
        assert_eq!(chosen("application/vnd.apache.parquet"), None);
        assert_eq!(chosen("text/csv;q=nonsense"), None);
    }

    #[test]
    fn format_parameter_goes_first_and_refusal_lists_what_there_is() {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let choose = |name| Format::choose(Some(name), &headers, SAMPLE_FORMATS);
        assert_eq!(choose("csv").unwrap(), Format::Csv);
        assert_eq!(choose("arrow").unwrap(), Format::Arrow);
        let problem = choose("parquet").unwrap_err();
        assert_eq!(problem.kind, Kind::NotAcceptable);
        for format in SAMPLE_FORMATS {
            assert!(problem.detail.contains(format.name()), "{}", problem.detail);
        }
    }
}
