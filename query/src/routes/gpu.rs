//! `GET /api/v1/gpus/{id}`

use serde::Serialize;

use super::gpus::Listed;
use crate::answer::Answer;
use crate::encode::format::Format;
use crate::encode::time;
use crate::limits;
use crate::problem::Problem;
use crate::service::{Asked, Service};

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    listed: Listed<'a>,
    container: &'a str,
    pod: &'a str,
    namespace: &'a str,
    latest: Vec<Latest>,
}

#[derive(Serialize)]
struct Latest {
    metric_name: String,
    /// `null` where it is not a finite number.
    value: Option<f64>,
    timestamp: String,
}

pub(crate) async fn answer(service: &Service, asked: &Asked<'_>) -> Result<Answer, Problem> {
    Format::choose(None, asked.headers, asked.operation.content.formats())?;
    let id = asked.gpu_id()?;
    let (gpu, latest) = service
        .ask(async {
            let gpu = service.find(&id).await?;
            let latest = service.reader.latest_of(&gpu.gpu_uuid, limits::SERIES_SHOWN_MAX).await?;
            Ok((gpu, latest))
        })
        .await?;
    Ok(Answer::json(&Shown {
        listed: Listed::new(&gpu, asked.now, service.stale_after),
        container: &gpu.container,
        pod: &gpu.pod,
        namespace: &gpu.namespace,
        latest: latest
            .into_iter()
            .map(|row| Latest {
                metric_name: row.metric,
                value: row.value.is_finite().then_some(row.value),
                timestamp: time(row.ts),
            })
            .collect(),
    }))
}
