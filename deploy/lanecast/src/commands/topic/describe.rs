//! `lanecast topic describe`.

use std::process::ExitCode;

use lanecast_client::{PartitionOffsets, TopicInfo};
use serde_json::{Value, json};

use super::{as_json, connect_now, name, settings_text};
use crate::commands::answer::{self, Side, Table};
use crate::commands::failure::{About, explain};
use crate::commands::group::{Totals, totals};
use crate::settings::{Settings, table};
use crate::{Outcome, http, units};

/// The broker's ports where nobody chose others.
const BROKER_PORT: &str = ":9080";
const ADMIN_PORT: u16 = 9081;

pub(super) async fn run(settings: &Settings) -> Outcome {
    let name = name(settings)?;
    let explained = |error| explain(error, About::Topic(name), settings);
    let client = connect_now(settings, "lanecast-topic").await?;
    let topic = client.topic(name).await.map_err(explained)?;
    let admin = Admin::ask(settings, name).await?;
    // The admin port knows about an offline partition what no subscription can tell.
    let offsets = match client.offsets(name).await {
        Ok(offsets) => offsets,
        Err(error) => admin.offsets().ok_or_else(|| explained(error))?,
    };
    let groups = totals(name, client.groups(name, None).await.map_err(explained)?);
    if answer::wants_json(settings)? {
        answer::json(&page_json(&topic, &offsets, &admin, &groups))?;
    } else {
        answer::say(&page(&topic, &offsets, &admin, &groups))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn page(
    topic: &TopicInfo,
    offsets: &[PartitionOffsets],
    admin: &Admin,
    groups: &[Totals],
) -> String {
    let mut page = format!("{} (number {})\n{}\n", topic.name, topic.topic, settings_text(topic));
    let mut partitions = Table::new(&[
        ("PARTITION", Side::Right),
        ("OLDEST", Side::Right),
        ("NEXT", Side::Right),
        ("RECORDS", Side::Right),
        ("SIZE", Side::Right),
        ("SEGMENTS", Side::Right),
        ("SHARD", Side::Right),
        ("STATE", Side::Left),
    ]);
    for at in offsets {
        let number = |key| admin.of(at.partition, key).and_then(Value::as_u64);
        let shown = |value: Option<String>| value.unwrap_or_else(|| "?".to_owned());
        let state = admin.of(at.partition, "state").and_then(Value::as_str);
        partitions.row(vec![
            at.partition.to_string(),
            units::show_count(at.log_start),
            units::show_count(at.high_watermark),
            units::show_count(at.high_watermark - at.log_start),
            shown(number("log_bytes").map(units::show_bytes)),
            shown(number("segments").map(units::show_count)),
            shown(number("shard").map(|shard| shard.to_string())),
            shown(state.map(|state| state_text(state, admin.of(at.partition, "detail")))),
        ]);
    }
    page.push_str(&partitions.text(2));
    if let Some(hint) = admin.hint() {
        page.push_str(&format!("  {hint}\n"));
    }
    if groups.is_empty() {
        page.push_str("\n  no consumer groups\n");
        return page;
    }
    page.push('\n');
    page.push_str(&Totals::table(groups, false).text(2));
    page
}

/// A partition that is not online says why.
fn state_text(state: &str, detail: Option<&Value>) -> String {
    match detail.and_then(Value::as_str) {
        Some(detail) if state != "online" && !detail.is_empty() => format!("{state}: {detail}"),
        Some(_) | None => state.to_owned(),
    }
}

fn page_json(
    topic: &TopicInfo,
    offsets: &[PartitionOffsets],
    admin: &Admin,
    groups: &[Totals],
) -> Value {
    let row = |at: &PartitionOffsets| {
        let mut row = json!({
            "partition": at.partition,
            "log_start": at.log_start,
            "high_watermark": at.high_watermark,
            "records": at.high_watermark - at.log_start,
        });
        for key in ["log_bytes", "segments", "shard", "state", "detail"] {
            if let Some(value) = admin.of(at.partition, key) {
                row[key] = value.clone();
            }
        }
        row
    };
    let mut page = as_json(topic);
    page["logs"] = offsets.iter().map(row).collect();
    page["groups"] = groups.iter().map(Totals::as_json).collect();
    page
}

/// What the broker's admin port says of the topic.
enum Admin {
    Answered(Value),
    /// Nobody has said where it is.
    Unknown,
    Failed(String),
}

impl Admin {
    /// An address that the user gave has to answer; one that is only usual need not.
    async fn ask(settings: &Settings, topic: &str) -> Result<Self, super::Failure> {
        let broker = settings.required(&table::BROKER_ADDR)?;
        let given = settings.text(&table::BROKER_ADMIN_ADDR);
        let usual = broker.split(',').next().and_then(|addr| addr.strip_suffix(BROKER_PORT));
        let addr = match (given, usual) {
            (Some(given), _) => given.to_owned(),
            (None, Some(host)) => format!("{host}:{ADMIN_PORT}"),
            (None, None) => return Ok(Admin::Unknown),
        };
        let stats = match tokio::net::lookup_host(&addr).await.map(|mut found| found.next()) {
            Ok(Some(found)) => http::get_json::<Value>(found, &format!("/stats/{topic}")).await,
            Ok(None) => Err(format!("{addr}: no address")),
            Err(error) => Err(format!("{addr}: {error}")),
        };
        match stats {
            Ok(stats) => Ok(Admin::Answered(stats)),
            Err(reason) if given.is_some() => Err(settings
                .refused(&table::BROKER_ADMIN_ADDR, format!("no statistics there: {reason}"))
                .into()),
            Err(reason) => Ok(Admin::Failed(reason)),
        }
    }

    fn partitions(&self) -> &[Value] {
        match self {
            Admin::Answered(stats) => stats["partitions"].as_array().map_or(&[], Vec::as_slice),
            Admin::Unknown | Admin::Failed(_) => &[],
        }
    }

    fn of(&self, partition: u32, key: &str) -> Option<&Value> {
        let row = self.partitions().iter().find(|row| row["index"] == partition)?;
        row.get(key)
    }

    fn offsets(&self) -> Option<Vec<PartitionOffsets>> {
        let row = |row: &Value| {
            let number = |key: &str| row.get(key).and_then(Value::as_u64);
            let partition = u32::try_from(number("index")?).ok()?;
            let (log_start, high_watermark) = (number("log_start")?, number("high_watermark")?);
            Some(PartitionOffsets { partition, log_start, high_watermark })
        };
        let offsets: Option<Vec<_>> = self.partitions().iter().map(row).collect();
        offsets.filter(|offsets| !offsets.is_empty())
    }

    /// Why there are question marks.
    fn hint(&self) -> Option<String> {
        match self {
            Admin::Answered(_) => None,
            Admin::Unknown => Some("?: give the broker's admin port by --admin HOST:PORT".into()),
            Admin::Failed(reason) => Some(format!(
                "?: no admin port where it mostly is ({reason}); give --admin HOST:PORT"
            )),
        }
    }
}
