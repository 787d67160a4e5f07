//! `lanecast bench show` and `lanecast bench compare`: what was measured, read from its files.

use std::fs;
use std::process::ExitCode;

use lanecast_bench::compare::Comparison;
use lanecast_bench::report::{Report, html, markdown, text};

use super::{Failure, answer};
use crate::Outcome;
use crate::settings::{Setting, Settings, table};

/// Between these lines a file embeds a report.
const BEGIN: &str = "<!-- bench -->";
const END: &str = "<!-- /bench -->";

/// When something is worse: neither a success nor a failure to compare.
const REGRESSED: u8 = 3;

pub(super) fn show(settings: &Settings) -> Outcome {
    let render = settings.parse_with(&table::BENCH_FORMAT, |format| match format {
        "markdown" => Ok(markdown as fn(&Report) -> String),
        "html" => Ok(html as fn(&Report) -> String),
        "text" => Ok(text as fn(&Report) -> String),
        _ => Err("expected markdown, html or text".to_owned()),
    })?;
    let shown = render(&read(settings, &table::BENCH_REPORT)?);
    let Some(path) = settings.text(&table::BENCH_INTO) else {
        answer::say(&shown)?;
        return Ok(ExitCode::SUCCESS);
    };
    let whole = fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))?;
    let whole = embed(&whole, &shown).map_err(|reason| format!("{path}: {reason}"))?;
    fs::write(path, whole).map_err(|error| format!("cannot write {path}: {error}"))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn compare(settings: &Settings) -> Outcome {
    let least_change = settings.parse_with(&table::BENCH_LEAST_CHANGE, percent)?;
    let before = read(settings, &table::BENCH_BEFORE)?;
    let after = read(settings, &table::BENCH_AFTER)?;
    let comparison = Comparison::new(&before, &after, least_change);
    if answer::wants_json(settings)? {
        answer::json(&serde_json::to_value(&comparison)?)?;
    } else {
        answer::say(&comparison.text(settings.switch(&table::BENCH_ALL)?))?;
    }
    if settings.switch(&table::BENCH_FAIL)? && comparison.has_regressed() {
        return Ok(ExitCode::from(REGRESSED));
    }
    Ok(ExitCode::SUCCESS)
}

fn read(settings: &Settings, setting: &'static Setting) -> Result<Report, Failure> {
    let path = settings.text(setting).ok_or_else(|| {
        let name = setting.value_name;
        format!("{name} is missing: the JSON file of a report, as `lanecast bench run` writes it")
    })?;
    let bytes = fs::read(path).map_err(|error| format!("cannot read {path}: {error}"))?;
    Ok(Report::read(&bytes).map_err(|error| format!("cannot use {path}: {error}"))?)
}

/// As a share: 0.05 of `5`.
fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').trim_end().parse::<f64>() {
        Ok(percent) if (0.0..=1000.0).contains(&percent) => Ok(percent / 100.0),
        Ok(_) | Err(_) => Err("expected a percentage from 0 to 1000".to_owned()),
    }
}

/// `whole` with `shown` between its two marks.
fn embed(whole: &str, shown: &str) -> Result<String, String> {
    let missing = |mark: &str| format!("has no line `{mark}`");
    let (head, rest) = whole.split_once(BEGIN).ok_or_else(|| missing(BEGIN))?;
    let (_, tail) = rest.split_once(END).ok_or_else(|| missing(END))?;
    Ok(format!("{head}{BEGIN}\n{}\n{END}{tail}", shown.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_embedded_between_its_marks() {
        let whole = "# Title\n<!-- bench -->\nold\n<!-- /bench -->\nrest\n";
        let once = embed(whole, "new\n").unwrap();
        assert_eq!(once, "# Title\n<!-- bench -->\nnew\n<!-- /bench -->\nrest\n");
        assert_eq!(embed(&once, "new\n").unwrap(), once);
        assert!(embed("nothing", "new").unwrap_err().contains("<!-- bench -->"));
        assert!(embed("<!-- bench -->", "new").unwrap_err().contains("<!-- /bench -->"));
    }

    #[test]
    fn percentages_are_shares() {
        assert_eq!(percent("5"), Ok(0.05));
        assert_eq!(percent("2.5 %"), Ok(0.025));
        assert!(percent("-1").is_err() && percent("NaN").is_err() && percent("").is_err());
    }
}
