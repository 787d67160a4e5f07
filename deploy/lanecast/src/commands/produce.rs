//! `lanecast produce csv` and `lanecast produce generate`.

use std::future::Future;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use lanecast_client::ProducerConfig;
use lanecast_producer::csv::{CsvConfig, CsvSource, Input};
use lanecast_producer::generate::{GenerateConfig, GenerateSource};
use lanecast_producer::{
    CsvFile, CsvFileConfig, CsvLayout, NewTopic, PublishConfig, Report, ShardOf, Sink, Source,
    Timestamps, TopicConfig, TopicSink, publish,
};

use super::topic;
use crate::Outcome;
use crate::settings::{SettingError, Settings, table};
use crate::signals::StopSignals;
use crate::units;
use crate::up::usage;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Replays a file.
pub(super) async fn csv(settings: &Settings) -> Outcome {
    let path = settings.required(&table::CSV_PATH)?;
    let input = if path == "-" { Input::Stdin } else { Input::File(PathBuf::from(path)) };
    let mut source = CsvSource::open(CsvConfig {
        timestamps: timestamps(settings)?,
        repeat: settings.switch(&table::CSV_LOOP)?,
        strict: settings.switch(&table::CSV_STRICT)?,
        rejects: settings.text(&table::CSV_REJECTS).map(PathBuf::from),
        shard: settings.parse::<ShardOf>(&table::CSV_SHARD)?,
        ..CsvConfig::new(input)
    })?;
    to_broker(settings, &mut source).await
}

/// Plays a fleet, into the broker or into a file.
pub(super) async fn generate(settings: &Settings) -> Outcome {
    let file = settings.text(&table::GEN_CSV);
    let mut config = generate_config(settings)?;
    config.real_time &= file.is_none();
    let Some(file) = file else {
        return to_broker(settings, &mut GenerateSource::new(config)?).await;
    };
    if config.rows.is_none() && config.duration_ms.is_none() {
        return Err("a file needs an end: give --rows or --duration".into());
    }
    let mut source = GenerateSource::new(config)?;
    let file = CsvFileConfig {
        path: PathBuf::from(file),
        layout: settings.parse_with(&table::GEN_CSV_LAYOUT, |text| match text {
            "long" => Ok(CsvLayout::Long),
            "wide" => Ok(CsvLayout::Wide),
            _ => Err("expected long or wide".to_owned()),
        })?,
        spoil_every: settings.parse_optional(&table::GEN_CSV_SPOIL, whole_number)?,
    };
    let mut sink = CsvFile::create(&file, source.metric_names())?;
    run(settings, &mut source, &mut sink).await
}

fn generate_config(settings: &Settings) -> Result<GenerateConfig, SettingError> {
    let duration_ms = |setting| -> Result<u64, SettingError> {
        let duration = settings.parse_with(setting, units::duration)?;
        Ok(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    };
    let unless_zero = |number: u64| (number > 0).then_some(number);
    Ok(GenerateConfig {
        seed: settings.parse(&table::GEN_SEED)?,
        hosts: settings.parse(&table::GEN_HOSTS)?,
        gpus_per_host: settings.parse(&table::GEN_GPUS)?,
        missing_gpus: settings.parse(&table::GEN_MISSING)?,
        metrics: settings.parse(&table::GEN_METRICS)?,
        interval_ms: duration_ms(&table::GEN_INTERVAL)?,
        rows: unless_zero(settings.parse(&table::GEN_ROWS)?),
        duration_ms: unless_zero(duration_ms(&table::GEN_DURATION)?),
        start_ms: settings.parse_optional(&table::GEN_START, |text| {
            let time: jiff::Timestamp =
                text.parse().map_err(|error: jiff::Error| error.to_string())?;
            Ok(time.as_millisecond())
        })?,
        timestamps: timestamps(settings)?,
        real_time: !settings.switch(&table::GEN_FLAT_OUT)?,
        shard: settings.parse::<ShardOf>(&table::CSV_SHARD)?,
    })
}

fn timestamps(settings: &Settings) -> Result<Timestamps, SettingError> {
    settings.parse_with(&table::CSV_TIMESTAMPS, |text| match text {
        "now" => Ok(Timestamps::Now),
        "original" => Ok(Timestamps::Original),
        "shift" => Ok(Timestamps::Shift),
        _ => Err("expected now, original or shift".to_owned()),
    })
}

fn whole_number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "expected a whole number".to_owned())
}

async fn to_broker<S: Source>(settings: &Settings, source: &mut S) -> Outcome {
    let linger = settings.parse_with(&table::LINGER, units::duration)?;
    let mut sink = TopicSink::open(TopicConfig {
        client: topic::client_config(settings, "lanecast-producer")?,
        topic: settings.required(&table::TOPIC)?.to_owned(),
        create: Some(NewTopic {
            partitions: settings.parse(&table::TOPIC_PARTITIONS)?,
            settings: topic::topic_settings(settings)?,
        }),
        producer: ProducerConfig { linger, ..ProducerConfig::default() },
    })
    .await?;
    run(settings, source, &mut sink).await
}

/// Publishes until the source ends or a signal comes, and tells what was done.
async fn run<S: Source, K: Sink>(settings: &Settings, source: &mut S, sink: &mut K) -> Outcome
where
    K::Error: Send + Sync,
{
    let config = PublishConfig {
        rate: settings
            .parse_with(&table::RATE, |text| {
                text.parse::<f64>().map_err(|_| "expected a number of rows per second".to_owned())
            })
            .map(|rate| (rate != 0.0).then_some(rate))?,
        ..PublishConfig::default()
    };
    let report = publish(source, sink, &config, stopped()?, |_| ()).await?;
    tell(settings, &report)?;
    let Some(complaint) = report.complaint() else {
        return Ok(ExitCode::SUCCESS);
    };
    writeln!(std::io::stderr().lock(), "{complaint}")?;
    Ok(ExitCode::FAILURE)
}

/// Completes at the first signal; from then on the next one ends the process.
fn stopped() -> Result<impl Future<Output = ()>, std::io::Error> {
    let mut signals = StopSignals::install()?;
    Ok(async move {
        signals.next().await;
        signals.exit_at_next();
    })
}

fn tell(settings: &Settings, report: &Report) -> Result<(), Failure> {
    if settings.switch(&table::REPORT_JSON)? {
        let mut json = serde_json::to_value(report)?;
        json["usage"] = serde_json::to_value(usage::read("producer", std::process::id()))?;
        writeln!(std::io::stdout().lock(), "{json}")?;
        return Ok(());
    }
    let rejected: Vec<String> =
        report.rejected.iter().map(|(reason, rows)| format!("{reason} {rows}")).collect();
    writeln!(
        std::io::stderr().lock(),
        "{} rows read, {} rejected{}, {} blank, {} acknowledged, {} dropped in {:.2} s ({:.0} rows/s)",
        report.rows_read,
        report.rows_rejected,
        if rejected.is_empty() { String::new() } else { format!(" ({})", rejected.join(", ")) },
        report.dropped_blank,
        report.rows_acknowledged,
        report.rows_dropped,
        report.seconds,
        report.rows_per_s,
    )?;
    Ok(())
}
