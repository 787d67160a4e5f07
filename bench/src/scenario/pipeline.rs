//! Rows to where they can be queried: through every role of `lanecast up`, beside ClickHouse that is
//! given the same rows directly, into the same tables and views.
//!
//! Time runs from the start of the source until every row is queryable, and so includes the wait for
//! the last chunk to fill. ClickHouse answers an insert when its rows are queryable and on the disk.

use std::path::Path;
use std::process::{Command, Stdio};

use lanecast_wire::message::Durability;

use super::{Scenario, promise};
use crate::ceiling::{Blocks, CsvLabels, csv, native};
use crate::report::Bound;
use crate::server::{ROWS_BEGIN, Rows, run_once};
use crate::{Bench, Case, Contender, Error, Role, Sample, Settings};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "pipeline",
    about: "generated rows and rows of a CSV file to queryable rows in ClickHouse",
    run,
};

/// Parts of the rows of the settings that the cases take: a CSV file is the slower source.
const GENERATED_PART: u64 = 2;
const CSV_PART: u64 = 5;

/// Rows of a block: of a chunk of a consumer that does not keep up, half of that, and of what many take for
/// large.
const BLOCK_ROWS: [usize; 3] = [800_000, 400_000, 100_000];

/// Connections that serve ClickHouse best on two cores.
const CONNECTIONS: usize = 2;

/// What `lanecast up` makes.
const USUAL: Durability = Durability::Fsync;
const NAME: &str = "lanecast";

const QUERYABLE: &str = "queryable, and flushed by ClickHouse";

fn run(bench: &mut Bench<'_>) -> Result<(), Error> {
    generated(bench)?;
    file(bench)
}

fn generated(bench: &mut Bench<'_>) -> Result<(), Error> {
    let settings = bench.settings.clone();
    let rows = settings.rows / GENERATED_PART;
    let case = Case::new(SCENARIO.name, &[("source", "generated"), ("rows", &rows.to_string())]);
    if !bench.wants(&case) {
        return Ok(());
    }
    // Made for each run: together they would take the memory of what is measured.
    let prebuilt = |block_rows, connections| {
        let blocks = Blocks::generate(rows, block_rows)?;
        let place = Bench::place(&settings)?;
        native(&settings.program, place.path(), &blocks, connections)
    };
    let ceiling = |block_rows, connections| {
        let system = native_name(block_rows, connections);
        Contender::new(&system, Role::Ceiling, QUERYABLE, move || prebuilt(block_rows, connections))
    };
    let mut contenders: Vec<Contender<'_>> =
        BLOCK_ROWS.iter().map(|block_rows| ceiling(*block_rows, CONNECTIONS)).collect();
    contenders.push(ceiling(BLOCK_ROWS[0], 1));
    let bytes = Blocks::generate(rows, BLOCK_ROWS[0])?.bytes();
    contenders.extend(lanecast(&settings, Rows::Generated(rows), bytes));
    let result = bench.compete(case, contenders)?;
    let over = BLOCK_ROWS.map(|block_rows| {
        let system = native_name(block_rows, CONNECTIONS);
        result.ratios(NAME, &system, |round| round.records_per_second)
    });
    for (block_rows, over) in BLOCK_ROWS.iter().zip(over) {
        let what = "generated telemetry to queryable rows, over prebuilt Native blocks";
        bench.goal(&format!("{what} of {block_rows} rows"), Bound::AtLeast(0.7), over);
    }
    Ok(())
}

fn native_name(block_rows: usize, connections: usize) -> String {
    format!("clickhouse native {block_rows} x {connections}")
}

fn file(bench: &mut Bench<'_>) -> Result<(), Error> {
    let settings = bench.settings.clone();
    let rows = settings.rows / CSV_PART;
    let case = Case::new(SCENARIO.name, &[("source", "CSV file"), ("rows", &rows.to_string())]);
    if !bench.wants(&case) {
        return Ok(());
    }
    let place = Bench::place(&settings)?;
    let file = place.path().join("fleet.csv");
    make_file(&settings, &file, rows)?;
    let bytes = std::fs::metadata(&file).map_err(Error::io("looking at the CSV file"))?.len();
    let reads = |system: &str, labels| {
        let (settings, file) = (&settings, &file);
        Contender::new(system, Role::Ceiling, QUERYABLE, move || {
            let place = Bench::place(settings)?;
            csv(&settings.program, place.path(), file, labels)
        })
    };
    let (same, fewer) = ("clickhouse csv", "clickhouse csv without labels");
    let mut contenders = vec![reads(same, CsvLabels::Parsed), reads(fewer, CsvLabels::Dropped)];
    contenders.extend(lanecast(&settings, Rows::Csv(&file), bytes));
    let result = bench.compete(case, contenders)?;
    let over = |system: &str| result.ratios(NAME, system, |round| round.records_per_second);
    let (over_same, over_fewer) = (over(same), over(fewer));
    let what = "CSV file to queryable rows, over ClickHouse reading it itself";
    bench.goal(what, Bound::AtLeast(0.8), over_same);
    bench.goal(&format!("{what}, its labels left out"), Bound::AtLeast(0.8), over_fewer);
    Ok(())
}

/// Over a topic of each durability that is asked for; the usual one is called `lanecast`. `bytes` are those that
/// ClickHouse gets of the same rows.
fn lanecast<'a>(settings: &'a Settings, rows: Rows<'a>, bytes: u64) -> Vec<Contender<'a>> {
    let all = promise::ALL.into_iter();
    let asked = all.filter(|durability| *durability == USUAL || settings.every_size);
    let contender = |durability| {
        let level = promise::name(durability);
        let run = move || -> Result<Sample, Error> {
            let place = Bench::place(settings)?;
            let sample = run_once(&settings.program, place.path(), rows, level)?;
            Ok(Sample { bytes, ..sample })
        };
        let system =
            if durability == USUAL { NAME.to_owned() } else { format!("{NAME}, {level} topic") };
        Contender::new(&system, Role::Lanecast, QUERYABLE, run)
    };
    asked.map(contender).collect()
}

fn make_file(settings: &Settings, file: &Path, rows: u64) -> Result<(), Error> {
    let mut command = Command::new(&settings.program);
    command.args(["produce", "generate", "--flat-out", "--start", ROWS_BEGIN]);
    command.arg("--rows").arg(rows.to_string()).arg("--csv-out").arg(file);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().map_err(Error::io("making a CSV file"))?;
    if status.success() {
        return Ok(());
    }
    let detail = format!("made no {} of {rows} rows: {status}", file.display());
    Err(Error::Server { system: "lanecast produce generate".to_owned(), detail })
}
