//! `GET /api/v1/gpus`

use lanecast_store::read::{Gpu, GpuFilter, GpuPage};
use serde::Serialize;

use crate::answer::Answer;
use crate::encode::format::Format;
use crate::encode::time;
use crate::params::cursor::{CursorError, Position};
use crate::params::paging::Paging;
use crate::params::time::Nanoseconds;
use crate::params::window::Window;
use crate::params::{ParameterError, table};
use crate::problem::Problem;
use crate::service::{Asked, Service};

#[derive(Serialize)]
struct List<'a> {
    total: u64,
    page: u32,
    limit: u32,
    items: Vec<&'a str>,
    gpus: Vec<Entry<'a>>,
    next_cursor: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Entry<'a> {
    Full(Listed<'a>),
    Reference { id: &'a str },
}

/// A GPU as lists show it.
#[derive(Serialize)]
pub(crate) struct Listed<'a> {
    id: &'a str,
    hostname: &'a str,
    gpu_index: u32,
    device: &'a str,
    model_name: &'a str,
    first_seen: String,
    last_seen: String,
    stale: bool,
}

impl<'a> Listed<'a> {
    pub(crate) fn new(gpu: &'a Gpu, now: Nanoseconds, stale_after: std::time::Duration) -> Self {
        let age_ns = now.0 - Nanoseconds::from_ms(gpu.last_seen).0;
        Self {
            id: &gpu.gpu_uuid,
            hostname: &gpu.hostname,
            gpu_index: gpu.gpu_index,
            device: &gpu.device,
            model_name: &gpu.model,
            first_seen: time(gpu.first_seen),
            last_seen: time(gpu.last_seen),
            stale: age_ns > i128::try_from(stale_after.as_nanos()).unwrap_or(i128::MAX),
        }
    }
}

pub(crate) async fn answer(service: &Service, asked: &Asked<'_>) -> Result<Answer, Problem> {
    let arguments = &asked.arguments;
    Format::choose(None, asked.headers, asked.operation.content.formats())?;
    let sorted = |parameter| {
        let mut values = arguments.texts(parameter);
        values.sort_unstable();
        values
    };
    let lists = [
        sorted(&table::HOST),
        sorted(&table::MODEL),
        sorted(&table::NAMESPACE),
        sorted(&table::POD),
    ];
    let mut question = vec!["gpus", arguments.written(&table::ACTIVE_SINCE)];
    for (name, values) in ["host", "model", "namespace", "pod"].iter().zip(&lists) {
        question.push(name);
        question.extend(values);
    }
    let limit = asked.operation.page_rows.number(service.default_page_size);
    let paging = Paging::read(arguments, limit, &question)?;

    // As the first page resolved it, or `active_since=-5m` would move under a walk.
    let since_ms = paging.after.as_ref().map_or_else(
        || arguments.time(&table::ACTIVE_SINCE).map(|time| time.at(asked.now).ceil_ms()),
        |cursor| cursor.window.start_ms,
    );
    let after = match paging.after.as_ref().map(|cursor| &cursor.position) {
        None => None,
        Some(Position::Gpu { uuid }) => Some(uuid.clone()),
        Some(Position::Sample { .. }) => {
            let reason = CursorError::OtherQuestion.to_string();
            return Err(ParameterError::new("cursor", reason).into());
        }
    };
    let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
    let [hostnames, models, namespaces, pods] = lists.each_ref().map(|values| owned(values));
    let filter = GpuFilter { hostnames, models, namespaces, pods, active_since_ms: since_ms };
    let page = GpuPage {
        direction: paging.sort.into(),
        after,
        // One more than is shown says whether there is a next page.
        limit: paging.limit + 1,
        offset: paging.offset(),
    };
    let (mut rows, total) = service
        .ask(async {
            let rows = service.reader.gpus(&filter, &page).await?;
            // A first page that is not full has shown all there is.
            let all_shown = rows.len() <= paging.limit as usize && paging.is_first();
            let total = match all_shown {
                true => rows.len() as u64,
                false => service.reader.gpu_count(&filter).await?,
            };
            Ok((rows, total))
        })
        .await?;
    let more = rows.len() > paging.limit as usize;
    rows.truncate(paging.limit as usize);
    let window = Window { start_ms: since_ms, end_ms: None };
    let next = rows
        .last()
        .filter(|_| more)
        .map(|last| paging.next(window, Position::Gpu { uuid: last.gpu_uuid.clone() }).encode());
    let only_ids = arguments.choice(&table::FIELDS) == Some("ids");
    let full = |gpu| Entry::Full(Listed::new(gpu, asked.now, service.stale_after));
    let mut answer = Answer::json(&List {
        total,
        page: paging.page,
        limit: paging.limit,
        items: rows.iter().map(|gpu| gpu.gpu_uuid.as_str()).collect(),
        gpus: if only_ids {
            rows.iter().map(|gpu| Entry::Reference { id: &gpu.gpu_uuid }).collect()
        } else {
            rows.iter().map(full).collect()
        },
        next_cursor: next.clone(),
    });
    answer.headers.extend(next.map(|cursor| asked.next_link(&cursor)));
    Ok(answer)
}
