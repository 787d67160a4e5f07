//! From the text of a request to typed values.
//!
//! Everything here is pure. A [`Parameter`] is declared once, in [`table`], and that declaration
//! drives the parser, the list of known parameters in an error, and the OpenAPI document.

pub(crate) mod cursor;
pub(crate) mod gpu_id;
pub(crate) mod paging;
pub(crate) mod step;
pub(crate) mod table;
pub(crate) mod time;
pub(crate) mod window;

use percent_encoding::percent_decode;

use crate::limits;
use time::TimeExpression;

/// One parameter that an operation takes.
#[derive(Debug)]
pub(crate) struct Parameter {
    pub name: &'static str,
    pub place: Place,
    pub kind: Kind,
    /// May it be given several times?
    pub repeat: bool,
    pub about: &'static str,
    pub example: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Path,
    Query,
}

/// What values a parameter takes.
#[derive(Debug)]
pub(crate) enum Kind {
    Whole {
        min: u64,
        max: u64,
    },
    Text {
        chars_max: u64,
    },
    Choice {
        of: &'static [&'static str],
    },
    Time,
    Span,
    /// The name of a format. Whether it is available is for content negotiation to say (406).
    Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Ascending,
    Descending,
}

impl Sort {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ascending => "asc",
            Self::Descending => "desc",
        }
    }
}

/// What is wrong with which parameter.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct ParameterError {
    pub param: String,
    pub reason: String,
}

impl ParameterError {
    pub(crate) fn new(param: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { param: param.into(), reason: reason.into() }
    }
}

/// Why a query is not one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub errors: Vec<ParameterError>,
    /// Was a parameter not known at all?
    pub unknown: bool,
}

/// The arguments of one request, each checked against its declaration.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    values: Vec<(&'static str, Value)>,
}

#[derive(Debug)]
enum Value {
    Whole(u64),
    Text(String),
    Choice(&'static str),
    Time(TimeExpression, String),
    Span(i128, String),
}

impl Arguments {
    /// Parses the query part of a URI. All that is wrong is reported at once.
    pub(crate) fn parse(
        query: Option<&str>,
        known: &[&'static Parameter],
    ) -> Result<Self, Rejection> {
        let mut arguments = Self::default();
        let mut rejection = Rejection { errors: Vec::new(), unknown: false };
        let pairs = query.unwrap_or("").split('&').filter(|pair| !pair.is_empty());
        for (count, pair) in pairs.enumerate() {
            if count == limits::QUERY_PAIRS_MAX {
                let reason = format!("more than {} pairs", limits::QUERY_PAIRS_MAX);
                rejection.errors.push(ParameterError::new("", reason));
                break;
            }
            if let Err((error, unknown)) = arguments.take(pair, known) {
                rejection.unknown |= unknown;
                rejection.errors.push(error);
            }
        }
        if rejection.errors.is_empty() { Ok(arguments) } else { Err(rejection) }
    }

    fn take(
        &mut self,
        pair: &str,
        known: &[&'static Parameter],
    ) -> Result<(), (ParameterError, bool)> {
        let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
        let wrong = |reason: String| (ParameterError::new(shown(name), reason), false);
        let name_text = decode(name).map_err(|reason| wrong(reason.to_owned()))?;
        let in_query = known.iter().filter(|parameter| parameter.place == Place::Query);
        let Some(parameter) = in_query.clone().find(|parameter| parameter.name == name_text) else {
            let names: Vec<_> = in_query.map(|parameter| parameter.name).collect();
            let reason = match names.as_slice() {
                [] => "unknown; no parameters are taken here".to_owned(),
                [..] => format!("unknown; known are {}", names.join(", ")),
            };
            return Err((ParameterError::new(shown(&name_text), reason), true));
        };
        let given = self.values.iter().filter(|(name, _)| *name == parameter.name).count();
        if given > 0 && !parameter.repeat {
            return Err(wrong("given more than once".to_owned()));
        }
        if given >= limits::REPEATS_MAX {
            return Err(wrong(format!("given more than {} times", limits::REPEATS_MAX)));
        }
        let text = decode(text).map_err(|reason| wrong(reason.to_owned()))?;
        let value = parameter.kind.parse(text).map_err(wrong)?;
        self.values.push((parameter.name, value));
        Ok(())
    }

    fn all<'a>(&'a self, parameter: &Parameter) -> impl Iterator<Item = &'a Value> {
        let wanted = parameter.name;
        self.values.iter().filter(move |(name, _)| *name == wanted).map(|(_, value)| value)
    }

    pub(crate) fn whole(&self, parameter: &Parameter) -> Option<u64> {
        self.all(parameter).next().map(|value| {
            let Value::Whole(number) = value else { wrong_kind(parameter, value) };
            *number
        })
    }

    pub(crate) fn texts<'a>(&'a self, parameter: &'static Parameter) -> Vec<&'a str> {
        self.all(parameter)
            .map(|value| {
                let Value::Text(text) = value else { wrong_kind(parameter, value) };
                text.as_str()
            })
            .collect()
    }

    pub(crate) fn text<'a>(&'a self, parameter: &'static Parameter) -> Option<&'a str> {
        self.texts(parameter).first().copied()
    }

    pub(crate) fn choice(&self, parameter: &Parameter) -> Option<&'static str> {
        self.all(parameter).next().map(|value| {
            let Value::Choice(choice) = value else { wrong_kind(parameter, value) };
            *choice
        })
    }

    pub(crate) fn time(&self, parameter: &Parameter) -> Option<TimeExpression> {
        self.all(parameter).next().map(|value| {
            let Value::Time(time, _) = value else { wrong_kind(parameter, value) };
            *time
        })
    }

    /// Nanoseconds.
    pub(crate) fn span(&self, parameter: &Parameter) -> Option<i128> {
        self.all(parameter).next().map(|value| {
            let Value::Span(span, _) = value else { wrong_kind(parameter, value) };
            *span
        })
    }

    /// A time or duration as it was written, for the fingerprint of a question; empty if absent.
    pub(crate) fn written<'a>(&'a self, parameter: &Parameter) -> &'a str {
        self.all(parameter).next().map_or("", |value| {
            let (Value::Time(_, text) | Value::Span(_, text)) = value else {
                wrong_kind(parameter, value)
            };
            text
        })
    }
}

/// An accessor was called for a parameter of another kind: a bug, which the first request shows.
fn wrong_kind(parameter: &Parameter, value: &Value) -> ! {
    panic!("parameter {} is declared {:?} and holds {value:?}", parameter.name, parameter.kind)
}

impl Kind {
    fn parse(&self, text: String) -> Result<Value, String> {
        match self {
            Self::Whole { min, max } => {
                let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                let number = digits.then(|| text.parse().ok()).flatten();
                number
                    .filter(|number| (*min..=*max).contains(number))
                    .map(Value::Whole)
                    .ok_or_else(|| format!("must be a whole number from {min} to {max}"))
            }
            Self::Text { chars_max } => match text.chars().count() as u64 {
                0 => Err("is empty".to_owned()),
                chars if chars > *chars_max => {
                    Err(format!("is longer than {chars_max} characters"))
                }
                _ => Ok(Value::Text(text)),
            },
            Self::Format => Ok(Value::Text(text)),
            Self::Choice { of } => of
                .iter()
                .find(|choice| **choice == text)
                .map(|choice| Value::Choice(choice))
                .ok_or_else(|| format!("must be one of {}", of.join(", "))),
            Self::Time => TimeExpression::parse(&text)
                .map(|time| Value::Time(time, text))
                .map_err(|error| error.to_string()),
            Self::Span => time::parse_span(&text)
                .map(|span| Value::Span(span, text))
                .map_err(|error| error.to_string()),
        }
    }
}

/// Percent-decodes one part of a query, `+` being a space.
fn decode(text: &str) -> Result<String, &'static str> {
    let spaced: Vec<u8> = text.bytes().map(|byte| if byte == b'+' { b' ' } else { byte }).collect();
    percent_decode(&spaced)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| "is not UTF-8 after percent-decoding")
}

/// A name as an error repeats it: not at any length.
fn shown(name: &str) -> String {
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KNOWN: [&Parameter; 5] =
        [&table::LIMIT, &table::METRIC, &table::START_TIME, &table::WINDOW, &table::COUNT];

    fn errors(query: &str) -> Vec<(String, String)> {
        let rejection = Arguments::parse(Some(query), &KNOWN).unwrap_err();
        rejection.errors.into_iter().map(|error| (error.param, error.reason)).collect()
    }

    #[test]
    fn arguments_are_decoded_and_typed() {
        let query =
            "limit=7&metric=a%20b&metric=c+d&start_time=2025-07-18T22:42:34+02:00&&count=none";
        let arguments = Arguments::parse(Some(query), &KNOWN).unwrap();
        assert_eq!(arguments.whole(&table::LIMIT), Some(7));
        assert_eq!(arguments.texts(&table::METRIC), ["a b", "c d"]);
        assert_eq!(arguments.choice(&table::COUNT), Some("none"));
        assert!(arguments.time(&table::START_TIME).is_some());
        assert_eq!(arguments.span(&table::WINDOW), None);
        assert!(Arguments::parse(None, &KNOWN).unwrap().values.is_empty());
    }

    #[test]
    fn all_errors_are_reported_at_once() {
        let params: Vec<_> =
            errors("limit=0&count=some&start_time=x").into_iter().map(|(param, _)| param).collect();
        assert_eq!(params, ["limit", "count", "start_time"]);
    }

    #[test]
    fn unknown_parameter_is_answered_with_the_known_ones() {
        let rejection = Arguments::parse(Some("limits=1"), &KNOWN).unwrap_err();
        assert!(rejection.unknown);
        let reason = &rejection.errors[0].reason;
        assert_eq!(reason, "unknown; known are limit, metric, start_time, window, count");
    }

    #[test]
    fn repeating_is_for_repeatable_parameters_and_bounded() {
        assert_eq!(errors("limit=1&limit=2")[0].0, "limit");
        let many = vec!["metric=m"; limits::REPEATS_MAX + 1].join("&");
        assert_eq!(errors(&many).len(), 1);
        let pairs = vec!["metric=m"; limits::QUERY_PAIRS_MAX + 1].join("&");
        assert!(errors(&pairs).len() <= limits::QUERY_PAIRS_MAX + 1);
    }

    #[test]
    fn values_out_of_their_kind_are_refused() {
        for query in [
            "limit=",
            "limit=-1",
            "limit=+1",
            "limit=1.0",
            "limit=10001",
            "limit=99999999999999999999",
            "metric=",
            "metric=%ff",
            "window=5",
            "count=None",
            "limit",
        ] {
            assert_eq!(errors(query).len(), 1, "{query}");
        }
    }

    proptest! {
        #[test]
        fn any_query_is_arguments_or_errors(query in "\\PC{0,200}") {
            let _ = Arguments::parse(Some(&query), &KNOWN);
        }
    }
}
